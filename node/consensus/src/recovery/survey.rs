//! What a stopped node's own files say: of the group, of how far it came, of what was not known to
//! be committed.

use super::RecoveryError;
use crate::chain_store::ChainStore;
use crate::ledger::{Ledger, Tip};
use crate::mirror::Copy;
use crate::store::log::{Ends, LogStore};
use crate::store::state::{Progress, StateStore};
use crate::store::{self, StoreError, machine};
use crate::types::{LogEntry, LogId, Membership, Peer};
use hale_model::chain::Entry;
use hale_model::{HostName, NodeId};
use openraft::{EntryPayload, StoredMembership};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

/// Where a log entry stands. Of two logs the one that ends at the higher place is further (Raft
/// §5.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The term of the leader that wrote it.
    pub term: u64,
    /// Its number.
    pub index: u64,
}

impl From<LogId> for Place {
    fn from(id: LogId) -> Self {
        Self {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {}, index {}", self.term, self.index)
    }
}

/// What a stopped node's own files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Whose files they are.
    pub node: NodeId,
    /// Who votes, by this node's log.
    pub voters: Vec<Peer>,
    /// Who stands by, by this node's log.
    pub learners: Vec<Peer>,
    /// Who is on the roster once the whole log is applied.
    pub roster: Vec<(NodeId, HostName)>,
    /// The log's end: what survivors are compared by.
    pub last: Place,
    /// How far the stored state was applied.
    pub applied: Option<Place>,
    /// The last log index of which this node knew that it was committed.
    pub committed: u64,
    /// Log entries after that one. Each may have been acknowledged, or not.
    pub unconfirmed: u64,
    /// The highest term that this node voted or heard in.
    pub highest_term: u64,
    /// The chain as it is on the disk.
    pub chain: Tip,
    /// The chain once the whole log is applied.
    pub leads_to: Tip,
}

/// Looks at a stopped node's files. Nothing of what they say is changed; what a crash tore off the
/// log's or the chain's end is cleared away, as at a start.
///
/// # Errors
/// If they are in use or damaged, or the node is not of the group.
pub fn survey(
    dir: &Path,
    node: NodeId,
    cluster: u64,
    chain: &dyn ChainStore,
) -> Result<Survey, RecoveryError> {
    let opened = Opened::open(dir, node, cluster, chain)?;
    opened.close();
    Ok(opened.survey)
}

/// The files of a stopped node, open.
pub(super) struct Opened {
    pub(super) survey: Survey,
    pub(super) log: LogStore,
    _lock: File,
}

impl Opened {
    pub(super) fn open(
        dir: &Path,
        node: NodeId,
        cluster: u64,
        chain: &dyn ChainStore,
    ) -> Result<Self, RecoveryError> {
        let outside = || RecoveryError::Outside(dir.to_owned());
        // What is not there is not made.
        if !dir.join("FORMAT").exists() || !dir.join("log").exists() {
            return Err(outside());
        }
        let lock = store::claim(dir, node, cluster)?;
        let (state, progress, ledger) = StateStore::open(&dir.join("state"))?;
        drop(state);
        let log = LogStore::open(&dir.join("log"), node.raft_id())?;
        let looked = look(dir, node, &log, progress, ledger, chain);
        match looked {
            Ok(survey) => Ok(Self {
                survey,
                log,
                _lock: lock,
            }),
            Err(e) => {
                log.close();
                Err(e)
            }
        }
    }

    pub(super) fn close(&self) {
        self.log.close();
    }
}

fn look(
    dir: &Path,
    node: NodeId,
    log: &LogStore,
    progress: Progress,
    ledger: Ledger,
    chain: &dyn ChainStore,
) -> Result<Survey, RecoveryError> {
    let path = dir.join("log");
    let unreadable = |e: io::Error| StoreError::damaged(&path, e);
    let ends = log.ends().map_err(unreadable)?;
    let Some(last) = ends.last.max(progress.last) else {
        return Err(RecoveryError::Outside(dir.to_owned()));
    };
    if ends.last < progress.last {
        let what = "it ends before what the state beside it was applied up to";
        return Err(StoreError::damaged(&path, what).into());
    }
    machine::fits(dir, &ledger, chain)?;
    let applied = progress.last;
    let mut replay = Replay {
        membership: progress.membership,
        ledger,
        chain,
        on_chain: 0,
    };
    let mut next = applied.map_or(0, |id| id.index + 1);
    loop {
        let entries = log.stretch(next).map_err(unreadable)?;
        let Some(end) = entries.last() else { break };
        next = end.log_id.index + 1;
        for entry in entries {
            replay.take(entry).map_err(unreadable)?;
        }
    }
    let seen = chain.len();
    if seen > replay.ledger.tip().entries {
        let what = format!(
            "the chain has {seen} entries, the log leads to {}",
            replay.ledger.tip().entries
        );
        return Err(StoreError::ChainMismatch { path, what }.into());
    }
    let group = replay.membership.membership();
    let copy = Copy::read(dir)?;
    let peers = |voting: bool| {
        let is_voter = |id: &u64| group.voter_ids().any(|v| v == *id);
        let of = group.nodes().filter(move |(id, _)| is_voter(id) == voting);
        of.map(|(_, peer)| peer.clone()).collect::<Vec<_>>()
    };
    if group.get_node(&node.raft_id()).is_none() {
        return Err(match group.voter_ids().next() {
            None => RecoveryError::Outside(dir.to_owned()),
            Some(_) => RecoveryError::Unseated(names(&peers(true))),
        });
    }
    if let Some(copy) = copy.as_ref().filter(|c| c.applied > last.index) {
        return Err(RecoveryError::Unseated(names(&copy.group.voters)));
    }
    let known = [
        applied.map_or(0, |id| id.index),
        ends.committed.map_or(0, |id| id.index),
        replay.on_chain,
    ];
    let committed = known.into_iter().max().unwrap_or(0);
    Ok(Survey {
        node,
        voters: peers(true),
        learners: peers(false),
        roster: roster(&replay.ledger),
        last: last.into(),
        applied: applied.map(Place::from),
        committed,
        unconfirmed: last.index.saturating_sub(committed),
        highest_term: highest(&ends, last, copy.as_ref()),
        chain: Tip {
            entries: seen,
            hash: chain.tip(),
        },
        leads_to: replay.ledger.tip(),
    })
}

fn roster(ledger: &Ledger) -> Vec<(NodeId, HostName)> {
    ledger.roster().map(|(n, h)| (*n, h.clone())).collect()
}

fn names(peers: &[Peer]) -> String {
    let names: Vec<_> = peers
        .iter()
        .map(|p| format!("{} at {}", p.node.short(), p.addr))
        .collect();
    names.join(", ")
}

fn highest(ends: &Ends, last: LogId, copy: Option<&Copy>) -> u64 {
    let voted = ends.vote.map_or(0, |v| v.leader_id.term);
    let told = copy.map_or(0, |c| c.group.term);
    voted.max(told).max(last.leader_id.term)
}

/// The log's end, applied to a state that nobody keeps.
struct Replay<'a> {
    membership: Membership,
    ledger: Ledger,
    chain: &'a dyn ChainStore,
    /// The last log index whose entries are on the chain: only what is committed gets there.
    on_chain: u64,
}

impl Replay<'_> {
    fn take(&mut self, entry: LogEntry) -> io::Result<()> {
        let index = entry.log_id.index;
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(m) => {
                self.membership = StoredMembership::new(Some(entry.log_id), m);
            }
            EntryPayload::Normal(pack) => {
                for command in pack.0 {
                    machine::known(&command)?;
                    let applied = self.ledger.apply(index, command);
                    for entry in &applied.entries {
                        if self.is_there(entry)? {
                            self.on_chain = index;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn is_there(&self, entry: &Entry) -> io::Result<bool> {
        let found = self.chain.read(entry.index..entry.index + 1)?;
        match found.first() {
            None => Ok(false),
            Some(there) if there == entry => Ok(true),
            Some(_) => Err(io::Error::other(format!(
                "the chain's entry {} is not the one the log leads to",
                entry.index
            ))),
        }
    }
}
