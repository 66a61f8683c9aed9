//! Who is alive, as gossip sees it: a hint, never the law.
//!
//! [`Membership`] is a value: packets, timers and questions go in with the time, effects come out.
//! It drives foca's SWIM (Das, Gupta, Motivala 2002, with suspicion) and adds what SWIM leaves
//! open: profiles that ride the gossip, an exchange of everything known at joining and now and
//! then, and a roster that decides who may be spoken of. Where a node is and which of its lives it
//! lives is signed by that node, and so never believed of another. It does no I/O and reads no clock.

mod codec;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod identity;
pub mod join;
mod membership;
mod profile;
mod rng;
mod timers;
mod tuning;

pub use identity::{Contact, latest_life};
pub use membership::{
    Admit, Counts, Effect, Event, MAX_PACKET_BYTES, Member, Membership, Settings, State,
};
pub use profile::{MAX_PROFILE_BYTES, Profile, Tip};
pub use tuning::Tuning;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// A profile is too large to ride a packet.
    #[error(
        "the node's profile takes {bytes} bytes, {MAX_PROFILE_BYTES} are allowed: use fewer or shorter tags"
    )]
    ProfileTooLarge {
        /// How many it takes.
        bytes: usize,
    },
    /// A value can't be encoded, or bytes are not what they should be.
    #[error("the bytes of a gossip exchange are not understood")]
    Wire(#[from] hale_model::wire::WireError),
}
