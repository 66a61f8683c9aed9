//! What openraft is told of Hale: what a log entry carries, what applying it answers, who a node is.

use crate::ledger::may_forward;
use hale_model::NodeId;
use hale_model::ledger::{Answer, Command, Refusal};
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

impl Pack {
    /// What a node may have another write for it, and the places of what it may not.
    pub(crate) fn sorted(self, from: &NodeId) -> (Self, Vec<usize>) {
        let (mut allowed, mut refused) = (vec![], vec![]);
        for (place, command) in self.0.into_iter().enumerate() {
            if may_forward(from, &command) {
                allowed.push(command);
            } else {
                refused.push(place);
            }
        }
        (Self(allowed), refused)
    }

    /// The answers to all commands, where those at these places were refused.
    pub(crate) fn joined(answers: Vec<Answer>, refused: &[usize]) -> Vec<Answer> {
        let mut joined = answers;
        for place in refused {
            let why = "only another node may say this: its signer, or the leader".into();
            let place = (*place).min(joined.len());
            joined.insert(place, Answer::Refused(Refusal::BadEntry(why)));
        }
        joined
    }
}

/// Who is in the Raft group, as one of its nodes sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Raft's term.
    pub term: u64,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// Who votes.
    pub voters: Vec<Peer>,
    /// Who stands by.
    pub learners: Vec<Peer>,
}

impl Group {
    /// Voters and learners.
    pub fn members(&self) -> impl Iterator<Item = &Peer> {
        self.voters.iter().chain(&self.learners)
    }

    /// The leader with its address.
    pub fn leading(&self) -> Option<&Peer> {
        let leader = self.leader?;
        self.members().find(|p| p.node == leader)
    }

    /// Whether a node votes.
    pub fn votes(&self, node: &NodeId) -> bool {
        self.voters.iter().any(|p| p.node == *node)
    }
}

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
