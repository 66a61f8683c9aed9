//! How the ledger is doing, for `/metrics` and `hale status`.

use crate::network;
use crate::shell::Shell;
use crate::store::log::SyncTimes;
use crate::types::Peer;
use std::sync::atomic::Ordering;

/// How the ledger is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Raft's term.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<Peer>,
    /// Whether this node leads.
    pub leads: bool,
    /// The nodes that vote.
    pub voters: Vec<Peer>,
    /// The nodes that follow without a vote.
    pub learners: Vec<Peer>,
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
        ..Metrics::default()
    };
    {
        let ledger = shell.ledger.read();
        out.entries = ledger.tip().entries;
        out.open_grants = ledger.leases().count() as u64;
    }
    let running = match shell.running() {
        Ok(running) => running,
        Err(e) => {
            out.trouble = Some(e.to_string());
            return out;
        }
    };
    out.leader = network::leader(&running.raft);
    out.leads = out.leader.as_ref().is_some_and(|l| l.node == shell.me.node);
    out.log_syncs = running.log.sync_times();
    out.log_bytes = running.log.disk_bytes();
    out.state_bytes = running.machine.disk_bytes();
    let metrics = running.raft.metrics();
    let m = metrics.borrow();
    let group = m.membership_config.membership();
    let voters: Vec<u64> = group.voter_ids().collect();
    for (id, peer) in group.nodes() {
        let seat = if voters.contains(id) {
            &mut out.voters
        } else {
            &mut out.learners
        };
        seat.push(peer.clone());
    }
    out.term = m.current_term;
    out.last_log = m.last_log_index.unwrap_or(0);
    out.applied = m.last_applied.map_or(0, |id| id.index);
    out.snapshot = m.snapshot.map_or(0, |id| id.index);
    out.purged = m.purged.map_or(0, |id| id.index);
    out
}
