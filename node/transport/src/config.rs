//! What an endpoint is given, and its bounds.

use hale_model::{Keypair, NodeId, wire};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The largest datagram, its first byte included. Right after a handshake QUIC carries 1,162
/// bytes in one packet; what is larger would have to wait for the path's MTU to be found.
pub const MAX_DATAGRAM_BYTES: usize = 1150;

/// What a connection is for. Each lane has connections of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Gossip, heartbeats, votes, requests: all that is small and must not wait.
    Main,
    /// Snapshots and stretches of the chain: all that is large and can wait.
    Bulk,
    /// Strangers that hold a token. Nothing they say is believed before they have proven it.
    Join,
}

impl Lane {
    pub(crate) const ALL: [Self; 3] = [Self::Main, Self::Bulk, Self::Join];

    /// The protocol's name in the handshake (RFC 7301). It names the cluster, so that nodes of
    /// two clusters do not even finish a handshake; only who joins can't know its name yet.
    pub(crate) fn alpn(self, cluster: u64) -> Vec<u8> {
        match self {
            Self::Main => format!("hale/1 {cluster:016x}"),
            Self::Bulk => format!("hale-bulk/1 {cluster:016x}"),
            Self::Join => "hale-join/1".to_owned(),
        }
        .into_bytes()
    }

    pub(crate) fn of_alpn(alpn: &[u8], cluster: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.alpn(cluster) == alpn)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main => "main",
            Self::Bulk => "bulk",
            Self::Join => "join",
        })
    }
}

/// A node and where it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Who.
    pub node: NodeId,
    /// Where.
    pub addr: SocketAddr,
}

/// Who may talk to us. Asked at every handshake, so it answers at once.
#[derive(Clone)]
pub struct Trust {
    /// Whether a key is on the roster.
    pub roster: Arc<dyn Fn(&NodeId) -> bool + Send + Sync>,
    /// Whether strangers may come in by [`Lane::Join`]: while a token is valid.
    pub joins: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections open at a time; the least recently used one makes room.
    pub connections: usize,
    /// Connections of one peer on one lane; its own least recently used one makes room. More than
    /// one: both ends may dial at once, and one that was restarted leaves its old one behind.
    pub of_one_peer: usize,
    /// Connections of strangers; one of theirs makes room.
    pub of_strangers: usize,
    /// Handshakes that others began, going on at a time; one address has half of them at most.
    pub handshakes: usize,
    /// Streams that a peer may have open on one connection.
    pub streams: u32,
    /// Streams and datagrams that wait to be taken.
    pub waiting: usize,
    /// The largest frame's payload, in bytes.
    pub frame_bytes: usize,
    /// The largest that a stranger may send, in bytes.
    pub stranger_frame_bytes: usize,
    /// A connection on which nothing moves for this long is closed.
    pub idle: Duration,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// The first pause after a dial that failed; each is twice the one before, with jitter.
    pub first_pause: Duration,
    /// The longest.
    pub longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            of_one_peer: 3,
            of_strangers: 32,
            handshakes: 64,
            streams: 128,
            waiting: 1024,
            frame_bytes: wire::MAX_VALUE_BYTES,
            stranger_frame_bytes: 64 << 10,
            idle: Duration::from_secs(20),
            handshake: Duration::from_secs(3),
            first_pause: Duration::from_millis(25),
            longest_pause: Duration::from_secs(1),
        }
    }
}

/// What an endpoint is given.
#[derive(Clone)]
pub struct Config {
    /// The node's key: its identity.
    pub key: Keypair,
    /// The cluster's number: the first eight bytes of the hash of its founding.
    pub cluster: u64,
    /// Where to listen; port 0 takes any.
    pub bind: SocketAddr,
    /// Who may talk to us.
    pub trust: Trust,
    /// Bounds.
    pub limits: Limits,
}
