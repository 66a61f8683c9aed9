//! Live questions from one node to another: what does that host measure now, what runs there. A
//! question is bytes, its answer is bytes, and both ride a call between actors over the QUIC
//! connections that the nodes have anyway. Sessions are opened when a question needs one and end
//! when none was asked for a while. Conveniences only: what must not get lost, or must not be
//! done twice, does not go this way. The only crate that names ractor_cluster.
//!
//! Who a peer is, the transport has proven; what a peer claims inside a session is held against
//! that, frame by frame, before the actors see it (`gate.rs`).

mod ask;
mod config;
mod desk;
mod error;
mod events;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gate;
mod gateway;
mod halves;
mod listener;
mod proto;
mod sessions;

pub use config::{Counts, Limits};
pub use desk::{Answerer, Question};
pub use error::GatewayError;
pub use gateway::{FRAME_KIND, Gateway};
