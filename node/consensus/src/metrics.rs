//! How the ledger is doing, for `/metrics` and `hale status`.

use crate::shell::Shell;
use crate::store::locked;
use crate::store::log::SyncTimes;
use crate::types::Peer;
use hale_model::NodeId;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How the ledger is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Raft's term.
    pub term: u64,
    /// Who leads; nobody if no leader was heard of for a while.
    pub leader: Option<Peer>,
    /// Whether this node leads, and a quorum follows.
    pub leads: bool,
    /// The nodes that vote.
    pub voters: Vec<Peer>,
    /// The nodes that follow without a vote.
    pub learners: Vec<Peer>,
    /// Whether this node is of the group.
    pub is_seated: bool,
    /// On the leader: up to which log index each node has the log.
    pub matched: BTreeMap<NodeId, u64>,
    /// For how long each node this one replicated to has not acknowledged anything.
    pub silent: BTreeMap<NodeId, Duration>,
    /// What the planner of seats would do next, on the leader.
    pub plan: Option<String>,
    /// The last log entry written here.
    pub last_log: u64,
    /// The last log entry applied here; all up to it is committed.
    pub applied: u64,
    /// The last log entry in the newest snapshot.
    pub snapshot: u64,
    /// The last log entry that was purged.
    pub purged: u64,
    /// Entries of the chain.
    pub entries: u64,
    /// Grants not closed yet.
    pub open_grants: u64,
    /// Commands that wait to be written.
    pub waiting: u64,
    /// Commands this node wrote since it started.
    pub commands: u64,
    /// Log entries they were packed into.
    pub packs: u64,
    /// How often Raft was started again after the disk failed.
    pub restarts: u64,
    /// What peers said and may not: in another's name, or what only the leader says.
    pub refused: u64,
    /// How long the log's disk takes.
    pub log_syncs: SyncTimes,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Bytes of the applied state on disk.
    pub state_bytes: u64,
    /// Why the ledger does not run, if it does not.
    pub trouble: Option<String>,
}

pub(crate) fn of(shell: &Shell) -> Metrics {
    let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
    let mut out = Metrics {
        waiting: shell.queue.len() as u64,
        commands: count(&shell.counters.commands),
        packs: count(&shell.counters.packs),
        restarts: count(&shell.counters.restarts),
        refused: count(&shell.counters.refused),
        plan: locked(&shell.standing.plan).clone(),
        ..Metrics::default()
    };
    {
        let ledger = shell.view();
        out.entries = ledger.tip().entries;
        out.open_grants = ledger.leases().count() as u64;
    }
    let group = shell.group();
    out.term = group.term;
    // After a start, or without a quorum, Raft still names the last leader that it knew of.
    let led = shell.is_led();
    out.leader = group.leading().filter(|_| led).cloned();
    out.leads = led && shell.leads();
    (out.voters, out.learners) = (group.voters, group.learners);
    out.is_seated = shell.is_seated();
    out.applied = shell.applied();
    let running = match shell.running() {
        Ok(running) => running,
        Err(e) => {
            out.trouble = Some(e.to_string());
            return out;
        }
    };
    out.log_syncs = running.log.sync_times();
    out.log_bytes = running.log.disk_bytes();
    out.state_bytes = running.machine.disk_bytes();
    let metrics = running.raft.metrics();
    let m = metrics.borrow();
    out.last_log = m.last_log_index.unwrap_or(0);
    out.snapshot = m.snapshot.map_or(0, |id| id.index);
    out.purged = m.purged.map_or(0, |id| id.index);
    if let Some(replication) = &m.replication {
        for (id, matched) in replication {
            let node = m
                .membership_config
                .membership()
                .get_node(id)
                .map(|p| p.node);
            let index = matched.map_or(0, |id| id.index);
            out.matched.extend(node.map(|n| (n, index)));
        }
    }
    drop(m);
    let acks = locked(&shell.asker.acks);
    out.silent = acks.iter().map(|(n, at)| (*n, at.elapsed())).collect();
    out
}
