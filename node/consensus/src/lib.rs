//! The cluster's ledger: who may act, what happened, who belongs. openraft replicates it, with one
//! voter or with five; this crate is the log, the state machine, the network and the clockwork
//! around it, behind one facade: [`Consensus`].
//!
//! A command goes [`Consensus::propose`] → `proposer` (packs what waits) → openraft → `store::log`
//! (on the disk of a quorum) → `store::machine` → [`ledger::Ledger::apply`] → the chain. Nothing is
//! acknowledged before the log's disk has it.

pub mod campaign;
pub mod chain_store;
mod clock;
mod config;
mod elections;
pub mod expiry;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod handover;
mod hearsay;
mod keeper;
pub mod ledger;
mod metrics;
mod mirror;
mod network;
mod proposer;
mod recent;
pub mod recovery;
mod removals;
mod seating;
pub mod seats;
mod segments;
mod serve;
mod shell;
mod standing;
mod store;
mod telling;
mod types;
mod voices;

pub use chain_store::ChainStore;
pub use config::{Config, Timeouts};
pub use handover::HandoverError;
pub use ledger::{Ledger, News, StateError, Tip, may_forward};
pub use metrics::Metrics;
pub use mirror::Copy;
pub use network::{Alive, Lane, MAX_FRAME_BYTES, NoPeers, PeerTransport, REQUEST, TransportError};
pub use segments::SegmentChain;
pub use store::StoreError;
pub use store::log::SyncTimes;
pub use types::{Group, Peer};

use crate::mirror::Mirror;
use crate::network::{Acks, Asker, Reply, Request};
use crate::shell::Shell;
use hale_audit::enrolment::Enrolment;
use hale_model::NodeId;
use hale_model::chain::Entry;
use hale_model::ledger::{Answer, Command, LedgerError, Refusal};
use openraft::error::{CheckIsLeaderError, InitializeError, RaftError};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How many threads the port and the group want: two, or one where the machine has but two
/// processors. A write's way is short steps one after the other; where a second thread has no
/// processor of its own, it costs each of them a wake-up and helps none.
#[must_use]
pub fn threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).clamp(1, 2)
}

/// Why the ledger can't be started or founded.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// What is on disk can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no threads.
    #[error("the ledger's threads can't be started")]
    Runtime(#[source] std::io::Error),
    /// Raft does not start.
    #[error("the ledger can't start: {0}")]
    Raft(String),
    /// It was founded before.
    #[error("this node belongs to a cluster already; `hale status` shows it")]
    Founded,
    /// There is no cluster yet.
    #[error("this node belongs to no cluster yet; found one with `hale init`")]
    NotFounded,
    /// It was recovered, and nobody can be told.
    #[error("this node's ledger was recovered, and the entry that tells so can't be written: {0}")]
    Recovery(String),
    /// The founding entry was refused.
    #[error("the founding entry was refused")]
    Refused(#[source] Refusal),
    /// The founding entry could not be written.
    #[error("the founding entry could not be written")]
    Ledger(#[source] LedgerError),
}

/// A node's part in the cluster's ledger. It runs on threads of its own, or on those of the port
/// that it speaks through ([`Config::threads`]), so that a busy node still answers heartbeats.
/// Dropping it without [`Consensus::stop`] is what a crash is: nothing acknowledged is lost.
pub struct Consensus {
    shell: Arc<Shell>,
    threads: Handle,
    /// They end with it.
    tasks: JoinSet<()>,
    /// The threads, if they are its own.
    own: Option<Runtime>,
}

impl Consensus {
    /// Opens what is in the directory, or makes an empty node of it, and takes part. A group of one
    /// is ready when this returns; any other finds its leader by itself.
    ///
    /// # Errors
    /// If the directory is another's, in use, damaged, or does not fit the chain.
    pub async fn start(
        config: Config,
        chain: Arc<dyn ChainStore>,
        transport: Arc<dyn PeerTransport>,
    ) -> Result<Self, ConsensusError> {
        let (threads, own) = match &config.threads {
            Some(threads) => (threads.clone(), None),
            None => {
                let own = Builder::new_multi_thread()
                    .worker_threads(threads())
                    .thread_name("hale-raft")
                    .enable_all()
                    .build()
                    .map_err(ConsensusError::Runtime)?;
                (own.handle().clone(), Some(own))
            }
        };
        let (queue, waiting) = proposer::Queue::new();
        let asker = Asker {
            cluster: config.cluster,
            transport,
            acks: Acks::default(),
        };
        let mirror = Mirror::open(&config.dir)?;
        let shell = Arc::new(Shell::new(config, chain, asker, queue, mirror));
        let heard = shell.teller.subscribe_own();
        let mut this = Self {
            shell: Arc::clone(&shell),
            threads,
            tasks: JoinSet::new(),
            own,
        };
        let opened = this.on_threads(async move {
            let running = shell.open().await?;
            shell.set_running(running);
            let mut tasks = JoinSet::new();
            tasks.spawn(proposer::run(Arc::clone(&shell), waiting));
            tasks.spawn(keeper::run(Arc::clone(&shell), heard));
            tasks.spawn(mirror::run(Arc::clone(&shell)));
            tasks.spawn(elections::run(Arc::clone(&shell)));
            // Nobody is seated beside this node before the chain tells who may not be.
            if let Err(e) = recovery::tell(&shell).await {
                shell.stop().await;
                return Err(e);
            }
            tasks.spawn(seating::run(Arc::clone(&shell)));
            tasks.spawn(handover::watch_the_disk(Arc::clone(&shell)));
            tasks.spawn(shell.supervise());
            Ok::<_, ConsensusError>(tasks)
        });
        this.tasks = opened
            .await
            .unwrap_or_else(|| Err(ConsensusError::Raft("its threads stopped".into())))?;
        Ok(this)
    }

    /// Founds a cluster of this one node, and puts it on the roster.
    ///
    /// # Errors
    /// If it belongs to one already, or the entry can't be written.
    pub async fn found(&self) -> Result<(), ConsensusError> {
        let running = self.shell.running().map_err(ConsensusError::Ledger)?;
        let me = self.shell.me.clone();
        let founding = running
            .raft
            .initialize(BTreeMap::from([(me.node.raft_id(), me)]))
            .await;
        match founding {
            Ok(()) => {}
            // A founding that was cut short is finished.
            Err(RaftError::APIError(InitializeError::NotAllowed(_)))
                if !self.shell.is_founded() => {}
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                return Err(ConsensusError::Founded);
            }
            Err(e) => return Err(ConsensusError::Raft(e.to_string())),
        }
        match self.propose(self.enrolment()).await {
            Ok(Answer::Refused(refusal)) => Err(ConsensusError::Refused(refusal)),
            Ok(_) => Ok(()),
            Err(e) => Err(ConsensusError::Ledger(e)),
        }
    }

    fn enrolment(&self) -> Command {
        let Config {
            key, host, cluster, ..
        } = &self.shell.config;
        let entry = Enrolment {
            cluster: Some(format!("{cluster:016x}")),
            at: Some(shell::wall_clock()),
            ..Enrolment::of(key.node_id(), host)
        };
        Command::Enrol {
            node: key.node_id(),
            host: host.clone(),
            entry: entry.sign(key),
        }
    }

    /// Whether this node belongs to a cluster.
    pub fn is_founded(&self) -> bool {
        self.shell.is_founded()
    }

    /// Has a command applied, through whoever leads. It may be asked again after an error: the
    /// ledger recognises a repetition.
    ///
    /// # Errors
    /// If there is no leader in time, too much waits, or the disk does not take it. A refusal is
    /// an answer.
    pub async fn propose(&self, command: Command) -> Result<Answer, LedgerError> {
        if ledger::rules_for(&command) > self.read_stale(ledger::Ledger::rules) {
            return Ok(Answer::Refused(ledger::too_early()));
        }
        self.shell
            .queue
            .propose(command, self.shell.config.timeouts.write)
            .await
    }

    /// Reads the ledger as of now: all that was acknowledged before this call is seen.
    ///
    /// # Errors
    /// If no leader confirms in time.
    pub async fn read<T>(&self, view: impl FnOnce(&Ledger) -> T) -> Result<T, LedgerError> {
        let shell = &self.shell;
        let confirmed = timeout(shell.config.timeouts.write, self.confirm()).await;
        confirmed.map_err(|_| shell.no_leader())??;
        Ok(view(&shell.view()))
    }

    /// Reads what this node applied so far, which may be old on a node that lost its leader.
    pub fn read_stale<T>(&self, view: impl FnOnce(&Ledger) -> T) -> T {
        view(&self.shell.view())
    }

    /// How old what [`Consensus::read_stale`] shows may be: the time since a quorum confirmed this
    /// node as the leader, since a leader was last heard, or since a node of the group last told.
    /// Nothing if no leader was heard since the start.
    pub fn age(&self) -> Option<Duration> {
        self.shell.age()
    }

    /// Who is in the Raft group, as far as this node knows.
    pub fn group(&self) -> Group {
        self.shell.group()
    }

    /// Whether this node is of the Raft group: it holds the log and the chain.
    pub fn is_seated(&self) -> bool {
        self.shell.is_seated()
    }

    /// What a new member is given: the ledger as of now, confirmed by the group.
    ///
    /// # Errors
    /// If no leader confirms in time, or the state is too large.
    pub async fn copy(&self) -> Result<Copy, LedgerError> {
        self.read(|_| ()).await?;
        self.shell
            .copy()
            .map_err(|e| LedgerError::Storage(e.to_string()))
    }

    /// What changes from now on. Who falls 4,096 changes behind is told how many it missed; after
    /// the ledger had to start again, changes since its last checkpoint may be told twice.
    pub fn subscribe(&self) -> broadcast::Receiver<News> {
        self.shell.teller.subscribe()
    }

    /// Entries of the chain by number, as many of the range as there are.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn entries(&self, range: Range<u64>) -> std::io::Result<Vec<Entry>> {
        self.shell.chain.read(range)
    }

    /// Entries of the chain by number, from a node of the group: for one that holds no chain.
    ///
    /// # Errors
    /// If none of them answers, or the range is not there.
    pub async fn fetch_entries(&self, range: Range<u64>) -> Result<Vec<Entry>, LedgerError> {
        self.shell.fetch_entries(range).await
    }

    /// Answers a frame from a peer that the transport has authenticated as `from`.
    pub async fn serve(&self, from: NodeId, frame: &[u8]) -> Vec<u8> {
        self.shell.serve(from, frame).await
    }

    /// How it is doing.
    pub fn metrics(&self) -> Metrics {
        metrics::of(&self.shell)
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.shell.me.node
    }

    /// Adds a node outside the vote, and waits until it caught up. The seats are planned elsewhere.
    ///
    /// # Errors
    /// If this node does not lead, or the change is refused.
    pub async fn add_learner(&self, peer: Peer) -> Result<(), ConsensusError> {
        let running = self.shell.running().map_err(ConsensusError::Ledger)?;
        let added = running
            .raft
            .add_learner(peer.node.raft_id(), peer, true)
            .await;
        added
            .map(drop)
            .map_err(|e| ConsensusError::Raft(e.to_string()))
    }

    /// Makes exactly these nodes the voters; each must be a learner or voter already.
    ///
    /// # Errors
    /// If this node does not lead, or the change is refused.
    pub async fn set_voters(&self, voters: &[NodeId]) -> Result<(), ConsensusError> {
        let running = self.shell.running().map_err(ConsensusError::Ledger)?;
        let ids: std::collections::BTreeSet<_> = voters.iter().map(NodeId::raft_id).collect();
        let changed = running.raft.change_membership(ids, false).await;
        changed
            .map(drop)
            .map_err(|e| ConsensusError::Raft(e.to_string()))
    }

    /// Hands the lead over: to this voter, or to the one that is best caught up. Writes wait for
    /// about the time of an election.
    ///
    /// # Errors
    /// If this node does not lead, or nobody can take over; it leads on then.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, HandoverError> {
        let shell = Arc::clone(&self.shell);
        let handed = self.on_threads(async move { handover::transfer(&shell, to).await });
        handed.await.unwrap_or(Err(HandoverError::NotLeading))
    }

    /// From now on this node does not stand for election: it is about to leave.
    pub fn stand_down(&self) {
        self.shell.standing.unable.store(true, Ordering::Relaxed);
    }

    /// It does not leave after all.
    pub fn stand_again(&self) {
        self.shell.standing.unable.store(false, Ordering::Relaxed);
    }

    /// Stops, with everything stored.
    pub async fn stop(mut self) {
        let shell = Arc::clone(&self.shell);
        self.on_threads(async move { shell.stop().await }).await;
        self.tasks.abort_all();
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }

    /// Waits until a read index is confirmed and applied here.
    async fn confirm(&self) -> Result<(), LedgerError> {
        let shell = &self.shell;
        loop {
            match shell.running() {
                Ok(running) => match running.raft.ensure_linearizable().await {
                    Ok(_) => return Ok(()),
                    Err(RaftError::Fatal(e)) => return Err(shell.fatal(&e)),
                    Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_))) => {
                        if let Some(index) = self.ask_read_index().await {
                            return shell.reached(index).await;
                        }
                    }
                    Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {}
                },
                Err(e) => match self.ask_read_index().await {
                    Some(index) => return shell.reached(index).await,
                    None if shell.is_stopping() => return Err(e),
                    None => {}
                },
            }
            let pause = shell.config.timeouts.heartbeat / 4;
            tokio::time::sleep(pause + pause.mul_f64(clock::jitter())).await;
        }
    }

    async fn ask_read_index(&self) -> Option<u64> {
        let shell = &self.shell;
        let leader = shell.leader().filter(|l| l.node != shell.me.node)?;
        let patience = shell.config.timeouts.forward;
        let asked = shell
            .asker
            .ask(&leader, Lane::Urgent, &Request::ReadIndex, patience);
        let answer = tokio::select! {
            answer = asked => answer,
            () = shell.leader_is_not(&leader.node) => return None,
        };
        match answer {
            Ok(Reply::ReadIndex(index)) => Some(index.unwrap_or(0)),
            _ => None,
        }
    }

    /// Runs something on Raft's own threads and waits for it; nothing if it could not end.
    async fn on_threads<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.threads.spawn(work).await.ok()
    }
}

impl Drop for Consensus {
    fn drop(&mut self) {
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }
}
