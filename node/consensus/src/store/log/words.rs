//! The log's words for log ids and votes, as they stand on the disk.

use crate::types::{LogId, Vote};
use openraft::CommittedLeaderId;
use raft_log::codeq::{Decode, Encode};
use std::io::{self, Read, Write};

/// The log's own words for log ids, votes and payloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words;

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

impl Encode for WalId {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        Ok(self.term.encode(&mut w)? + self.node.encode(&mut w)? + self.index.encode(&mut w)?)
    }
}

impl Decode for WalId {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        Ok(Self {
            term: u64::decode(&mut r)?,
            node: u64::decode(&mut r)?,
            index: u64::decode(&mut r)?,
        })
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

impl Encode for WalVote {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        let n = self.term.encode(&mut w)? + self.node.encode(&mut w)?;
        Ok(n + u8::from(self.committed).encode(&mut w)?)
    }
}

impl Decode for WalVote {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        Ok(Self {
            term: u64::decode(&mut r)?,
            node: u64::decode(&mut r)?,
            committed: u8::decode(&mut r)? != 0,
        })
    }
}
