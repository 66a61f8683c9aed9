//! What can go wrong between two nodes.

use crate::config::{Lane, MAX_DATAGRAM_BYTES};
use hale_model::wire::WireError;
use std::net::SocketAddr;
use std::time::Duration;

/// What can go wrong between two nodes.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address can't be listened on.
    #[error("UDP {addr} can't be listened on; is another node running here? (`ss -lunp`)")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The node's key does not make a certificate.
    #[error("the node's key does not make a certificate: {0}")]
    Identity(String),
    /// No connection came about.
    #[error("{lane} connection to {addr}: {why}")]
    Unreachable {
        /// For what.
        lane: Lane,
        /// Where.
        addr: SocketAddr,
        /// Why.
        why: String,
    },
    /// A dial failed not long ago.
    #[error("{addr} was not reached a moment ago; it is tried again in {left:?}")]
    Pausing {
        /// Where.
        addr: SocketAddr,
        /// How long the pause still lasts.
        left: Duration,
    },
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Lost(String),
    /// What came is not a frame that may come.
    #[error("a frame was refused")]
    Frame(#[from] WireError),
    /// The peer ended the stream without the frame that was waited for.
    #[error("the peer gave no answer")]
    NoAnswer,
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// A datagram over the limit.
    #[error("a datagram of {0} bytes is over the limit of {MAX_DATAGRAM_BYTES}")]
    DatagramTooLarge(usize),
}
