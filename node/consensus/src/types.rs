//! What openraft is told of Hale: what a log entry carries, what applying it answers, who a node is.

use hale_model::NodeId;
use hale_model::ledger::{Answer, Command};
use serde::{Deserialize, Serialize};
use std::io::Cursor;

openraft::declare_raft_types!(
    /// Hale's types for openraft.
    pub(crate) Types:
        D = Pack,
        R = Vec<Answer>,
        NodeId = u64,
        Node = Peer,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type LogEntry = openraft::Entry<Types>;
pub(crate) type Membership = openraft::StoredMembership<u64, Peer>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, Peer>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type RaftMetrics = openraft::RaftMetrics<u64, Peer>;

/// The commands that share one log entry, and so one wait for the disk: the group commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pack(pub(crate) Vec<Command>);

/// A node of the Raft group. Its number there is [`NodeId::raft_id`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its key.
    pub node: NodeId,
    /// Where its UDP port was last seen, `host:port`; a hint.
    pub addr: String,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            node: NodeId::from_bytes([0; 32]),
            addr: String::new(),
        }
    }
}
