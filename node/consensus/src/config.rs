//! What a node's consensus needs to know.

use crate::ConsensusError;
use crate::seats::Policy;
use hale_model::{HostName, Keypair};
use openraft::SnapshotPolicy;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Between two heartbeats of a leader; also what a replication request may take.
    pub heartbeat: Duration,
    /// How long an answer to a vote is waited for.
    pub election_min: Duration,
    /// For so long after a leader was heard nobody votes for another: the leader's lease.
    pub election_max: Duration,
    /// A voter whose leader's lease ran out asks for votes after a random part of this.
    pub spread: Duration,
    /// A write or a linearizable read waits so long for a leader.
    pub write: Duration,
    /// One attempt to forward a write to the leader.
    pub forward: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            heartbeat: ms(100),
            election_min: ms(250),
            election_max: ms(400),
            spread: ms(150),
            write: ms(5_000),
            forward: ms(2_000),
        }
    }
}

/// What a node's consensus needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the log, the state and the snapshot are kept. The chain is kept by its own store.
    pub dir: PathBuf,
    /// Who this node is.
    pub key: Keypair,
    /// Which cluster it belongs to; frames of others are refused.
    pub cluster: u64,
    /// On which host it runs.
    pub host: HostName,
    /// Where peers find it, `host:port`.
    pub addr: String,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Below so many free bytes on the disk nothing is written any more.
    pub reserve_bytes: u64,
    /// A snapshot is taken every so many log entries; the log before it is then purged.
    pub snapshot_every: u64,
    /// The host's failure domain.
    pub zone: String,
    /// How the group's seats are given.
    pub seats: Policy,
    /// On whose threads it runs: those of the port, so that no message has to change threads, and
    /// nothing but the two runs there. None: on two of its own.
    pub threads: Option<Handle>,
}

impl Config {
    /// With the usual limits: 32 MiB kept free, a snapshot every 5,000 entries.
    pub fn new(dir: PathBuf, key: Keypair, cluster: u64, host: HostName) -> Self {
        Self {
            dir,
            key,
            cluster,
            host,
            addr: String::new(),
            timeouts: Timeouts::default(),
            reserve_bytes: 32 << 20,
            snapshot_every: 5_000,
            zone: String::new(),
            seats: Policy::default(),
            threads: None,
        }
    }

    pub(crate) fn raft(&self) -> Result<openraft::Config, ConsensusError> {
        let ms = |d: Duration| d.as_millis() as u64;
        let t = &self.timeouts;
        let config = openraft::Config {
            cluster_name: format!("{:016x}", self.cluster),
            heartbeat_interval: ms(t.heartbeat),
            election_timeout_min: ms(t.election_min),
            election_timeout_max: ms(t.election_max),
            // Who stands and when is decided by `campaign`, which asks before it disturbs.
            enable_elect: false,
            install_snapshot_timeout: 10_000,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.snapshot_every / 5,
            replication_lag_threshold: self.snapshot_every.saturating_mul(2),
            snapshot_max_chunk_size: 1 << 20,
            ..openraft::Config::default()
        };
        config
            .validate()
            .map_err(|e| ConsensusError::Raft(e.to_string()))
    }
}
