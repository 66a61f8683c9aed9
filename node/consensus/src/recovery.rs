//! A ledger that goes on from one node's copy: what a stopped node's own files say of a group that
//! lost its quorum, the rewriting of that group to this node alone, and a new node made of a
//! backup. All of it is done on files that no node has open; the next start of the node applies
//! what its log holds and tells the chain.
//!
//! Nothing is taken away. The log gets one more entry, a membership of this node alone, in a term
//! so much higher that nobody takes an old leader's word for a newer one. So all that the log holds
//! becomes final, also what was not known to be committed: it may have been acknowledged.

mod files;
mod survey;

pub use survey::{Place, Survey, survey};

use crate::ConsensusError;
use crate::chain_store::ChainStore;
use crate::mirror::Copy;
use crate::shell::Shell;
use crate::store::{self, StoreError, log::LogStore, machine, write_file};
use crate::types::{LogEntry, LogId, Peer, Vote};
use hale_audit::recovery::{Cause, Recovery};
use hale_model::ledger::{Answer, Command, Refusal};
use hale_model::{Digest, HostName, Keypair, NodeId, Timestamp};
use openraft::{CommittedLeaderId, EntryPayload, Membership as Seats};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use survey::Opened;

/// By so much the term rises: more elections than any cluster holds.
pub(crate) const LEAP: u64 = 1 << 20;
/// The file that is kept until the chain tells of the recovery.
const MARKER: &str = "recovered.json";

/// Whether a recovery lies between two terms: no two elections are so far apart.
pub(crate) const fn is_between(older: u64, newer: u64) -> bool {
    newer.saturating_sub(older) >= LEAP / 2
}

/// Why a ledger can't be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no log.
    #[error(
        "{0} holds no ledger of its own: this node is outside the Raft group and only follows it; \
         type `hale recover` on a node that held a seat (`hale voters` named them), or `hale \
         restore` with a backup"
    )]
    Outside(PathBuf),
    /// Its log is old.
    #[error(
        "by its own log this node is not of the group any more, others went on without it; type \
         `hale recover` on one of them: {0}"
    )]
    Unseated(String),
    /// It was taken off the roster.
    #[error("this node was removed from the cluster; it can't go on for it")]
    Removed,
    /// Nobody else has a vote.
    #[error(
        "this node is the group's only voter: nothing is lost; `hale node` runs it, and the seat \
         planner gives seats to others"
    )]
    Alone,
    /// The directory is somebody's.
    #[error("{0} holds a ledger already; restore into an empty directory")]
    Occupied(PathBuf),
    /// The state can't be gone on from.
    #[error("the backup's state can't be gone on from by this node")]
    Refused(#[source] Refusal),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// What the chain will tell.
    pub told: Recovery,
    /// The entry that makes this node the only voter.
    pub at: Place,
}

/// What is kept until the chain tells.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    told: Recovery,
    at: Place,
}

/// Rewrites the group of a stopped node to that node alone. Its next start elects it.
///
/// # Errors
/// If the files are in use, damaged, or not those of a node of a larger group. Nothing has changed
/// then, unless the disk failed: it may be done again.
pub fn recover(
    dir: &Path,
    key: &Keypair,
    cluster: u64,
    chain: &dyn ChainStore,
    at: Timestamp,
) -> Result<Recovered, RecoveryError> {
    let opened = Opened::open(dir, key.node_id(), cluster, chain)?;
    let done = go_on(dir, key, cluster, &opened, at);
    opened.close();
    done
}

fn go_on(
    dir: &Path,
    key: &Keypair,
    cluster: u64,
    opened: &Opened,
    at: Timestamp,
) -> Result<Recovered, RecoveryError> {
    let survey = &opened.survey;
    if survey.voters.len() == 1 {
        return Err(RecoveryError::Alone);
    }
    let me = key.node_id();
    let host = survey.roster.iter().find(|(node, _)| *node == me);
    let (_, host) = host.ok_or(RecoveryError::Removed)?;
    let others = survey.voters.iter().chain(&survey.learners);
    let addr = others
        .clone()
        .find(|p| p.node == me)
        .map(|p| p.addr.clone());
    let told = Recovery {
        node: me,
        host: host.clone(),
        cluster: format!("{cluster:016x}"),
        cause: Cause::QuorumLost,
        lost: others.map(|p| p.node).filter(|n| *n != me).collect(),
        term: survey.last.term,
        index: survey.last.index,
        unconfirmed: survey.unconfirmed,
        backup: None,
        at,
    };
    let peer = Peer {
        node: me,
        addr: addr.unwrap_or_default(),
    };
    let place = Place {
        term: survey.highest_term.saturating_add(LEAP),
        index: survey.last.index.saturating_add(1),
    };
    make_alone(dir, &opened.log, &peer, place, &told)?;
    Ok(Recovered { told, at: place })
}

/// The marker first: what it tells of counts only once the log holds it.
fn make_alone(
    dir: &Path,
    log: &LogStore,
    me: &Peer,
    at: Place,
    told: &Recovery,
) -> Result<(), StoreError> {
    let path = dir.join(MARKER);
    let told = told.clone();
    let marker = serde_json::to_vec_pretty(&Marker { told, at });
    let marker = marker.map_err(|e| StoreError::damaged(&path, e))?;
    write_file(&path, &marker).map_err(StoreError::io(&path))?;
    let raft = me.node.raft_id();
    let entry = LogEntry {
        log_id: log_id(at, raft),
        payload: EntryPayload::Membership(seats_of(me)),
    };
    // Not yet elected: at its start the node stands for election, and nobody else can.
    let vote = Vote::new(at.term, raft);
    log.continue_with(vote, &entry)
        .map_err(StoreError::io(&dir.join("log")))
}

fn log_id(at: Place, raft: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(at.term, raft), at.index)
}

fn seats_of(me: &Peer) -> Seats<u64, Peer> {
    let raft = me.node.raft_id();
    let nodes = BTreeMap::from([(raft, me.clone())]);
    Seats::new(vec![BTreeSet::from([raft])], nodes)
}

/// What a node is made of that goes on from a backup.
#[derive(Debug)]
pub struct Restoring<'a> {
    /// Where its ledger will be; nothing is there yet.
    pub dir: &'a Path,
    /// Its key: a new one, or that of a node of the roster.
    pub key: &'a Keypair,
    /// Its host.
    pub host: HostName,
    /// Where others will reach it, `host:port`.
    pub addr: String,
    /// The cluster, as before.
    pub cluster: u64,
    /// The ledger's state.
    pub copy: &'a Copy,
    /// The backup's digest.
    pub backup: Digest,
    /// When.
    pub at: Timestamp,
}

/// Makes a node of a backup, whose chain is in place already: a group of its own, with all of the
/// state. With a new key it takes the place of the whole roster; with the key of a member it takes
/// that of the group, and those outside may follow it again. They do so by themselves if they know
/// that member as one of the group; else they join anew, since a member that lies could say the same.
///
/// # Errors
/// If there is a ledger already, the state does not fit the chain, or the disk does not take it.
pub fn restore(
    restoring: Restoring<'_>,
    chain: &dyn ChainStore,
) -> Result<Recovered, RecoveryError> {
    let Restoring { dir, key, copy, .. } = restoring;
    let me = key.node_id();
    if dir.join("FORMAT").exists() || dir.join("log").exists() {
        return Err(RecoveryError::Occupied(dir.to_owned()));
    }
    let _lock = store::claim(dir, me, restoring.cluster)?;
    let damaged = |e| StoreError::damaged(dir, e);
    let ledger = copy.ledger().map_err(damaged)?;
    machine::fits(dir, &ledger, chain)?;
    let group = copy.group.members().map(|p| p.node);
    let lost: BTreeSet<NodeId> = match ledger.is_enrolled(&me) {
        true => group.filter(|n| *n != me).collect(),
        false => ledger.roster().map(|(n, _)| *n).collect(),
    };
    // Fences are log indices, and only rise: also above what was granted after the backup.
    let place = Place {
        term: copy.group.term.saturating_add(LEAP),
        index: copy.applied.saturating_add(LEAP),
    };
    let told = Recovery {
        node: me,
        host: restoring.host.clone(),
        cluster: format!("{:016x}", restoring.cluster),
        cause: Cause::Restored,
        lost,
        term: copy.group.term,
        index: copy.applied,
        unconfirmed: 0,
        backup: Some(restoring.backup),
        at: restoring.at,
    };
    let ledger = ledger.restored(me, restoring.host);
    let peer = Peer {
        node: me,
        addr: restoring.addr,
    };
    let before = log_id(place, me.raft_id());
    files::write_state(dir, ledger.map_err(RecoveryError::Refused)?, before, &peer)?;
    let at = Place {
        index: place.index.saturating_add(1),
        ..place
    };
    let log = LogStore::open(&dir.join("log"), me.raft_id())?;
    let made = make_alone(dir, &log, &peer, at, &told);
    log.close();
    made?;
    Ok(Recovered { told, at })
}

/// Has the chain tell of a recovery that this node's log goes on from, where it does not yet.
pub(crate) async fn tell(shell: &Shell) -> Result<(), ConsensusError> {
    let dir = &shell.config.dir;
    let Some(marker) = files::marker(dir)? else {
        return Ok(());
    };
    let unable = |e: &dyn std::fmt::Display| ConsensusError::Recovery(e.to_string());
    let running = shell.running().map_err(|e| unable(&e))?;
    if !files::holds(&running.log, marker.at).map_err(|e| unable(&e))? {
        tracing::warn!("a recovery was begun here and not done; `hale recover` does it");
        return Ok(files::forget(dir)?);
    }
    let told = marker.told;
    let entry = told.sign(&shell.config.key);
    let command = Command::Recovered {
        by: told.node,
        lost: told.lost.into_iter().collect(),
        entry,
    };
    let asked = shell.queue.propose(command, shell.config.timeouts.write);
    match asked.await {
        Ok(Answer::Refused(refusal)) => return Err(unable(&refusal)),
        Ok(_) => tracing::warn!(cause = ?told.cause, "the ledger goes on from this node's copy"),
        Err(e) => return Err(unable(&e)),
    }
    Ok(files::forget(dir)?)
}
