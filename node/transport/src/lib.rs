//! How nodes reach each other: one UDP port, QUIC with TLS 1.3, identities pinned to Ed25519 keys.
//!
//! An [`Endpoint`] dials and accepts; what arrives comes out of [`Arrivals`]. A [`Stream`] carries
//! frames ([`hale_model::wire`]), a datagram one small message. Lanes keep apart what must not
//! delay each other: each has connections of its own. Who may talk to us is asked of a roster at
//! every handshake; nothing is trusted because of a date or an issuer. The only crate that names
//! quinn.

mod config;
mod counters;
mod endpoint;
mod error;
mod halves;
mod identity;
mod link;
mod pool;
mod reset;
mod room;
mod stream;
mod windows;

pub use config::{Config, Lane, Limits, MAX_DATAGRAM_BYTES, Peer, Trust};
pub use counters::Counts;
pub use endpoint::{Arrivals, Datagram, Endpoint};
pub use error::TransportError;
pub use halves::{ReadHalf, WriteHalf};
pub use link::Link;
pub use stream::{Frame, Stream};
