//! The log's words for log ids and votes, as they stand on the disk.

use crate::types::{LogId, Vote};
use openraft::CommittedLeaderId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WalId {
    pub(super) term: u64,
    pub(super) node: u64,
    pub(super) index: u64,
}

impl From<LogId> for WalId {
    fn from(id: LogId) -> Self {
        Self {
            term: id.leader_id.term,
            node: id.leader_id.node_id,
            index: id.index,
        }
    }
}

impl From<WalId> for LogId {
    fn from(id: WalId) -> Self {
        Self::new(CommittedLeaderId::new(id.term, id.node), id.index)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) struct WalVote {
    pub(super) term: u64,
    pub(super) node: u64,
    pub(super) committed: bool,
}

impl From<Vote> for WalVote {
    fn from(v: Vote) -> Self {
        Self {
            term: v.leader_id.term,
            node: v.leader_id.node_id,
            committed: v.committed,
        }
    }
}

impl From<WalVote> for Vote {
    fn from(v: WalVote) -> Self {
        let mut vote = Self::new(v.term, v.node);
        vote.committed = v.committed;
        vote
    }
}
