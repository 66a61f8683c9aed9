//! What all parts of a running node share, and how Raft is started, watched, and started again
//! after its disk failed.

use crate::chain_store::ChainStore;
use crate::ledger::Ledger;
use crate::mirror::Mirror;
use crate::network::{Asker, Lines};
use crate::proposer::Queue;
use crate::removals::UnderWay;
use crate::serve::Inbound;
use crate::standing::Standing;
use crate::store::log::LogStore;
use crate::store::machine::{LiveLedger, Machine, Teller};
use crate::store::{StoreError, blocking, claim, locked};
use crate::telling::Turns;
use crate::types::{Peer, Raft, RaftMetrics};
use crate::{Config, ConsensusError};
use hale_model::Timestamp;
use hale_model::ledger::LedgerError;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How often a node whose disk failed tries again.
const RETRY: Duration = Duration::from_secs(1);
/// How soon it is noticed that Raft ended.
const FAILURE_LOOK: Duration = Duration::from_millis(100);
/// How long the log's end may take to be applied after a restart.
const CATCH_UP: Duration = Duration::from_secs(60);
/// What happened and was not heard yet; who falls further behind is told so.
const NEWS: usize = 4096;
/// How long a measurement of the free space holds.
const SPACE_HOLDS: Duration = Duration::from_millis(500);

/// A Raft node and its stores.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) machine: Machine,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) packs: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) restarts: AtomicU64,
    /// What peers said and may not.
    pub(crate) refused: AtomicU64,
}

pub(crate) struct Shell {
    pub(crate) config: Config,
    pub(crate) me: Peer,
    pub(crate) chain: Arc<dyn ChainStore>,
    pub(crate) asker: Asker,
    /// What this node's own log leads to.
    pub(crate) ledger: LiveLedger,
    /// What others told, while this node is not of the group.
    pub(crate) mirror: Mirror,
    pub(crate) teller: Arc<Teller>,
    pub(crate) queue: Queue,
    pub(crate) removals: UnderWay,
    pub(crate) inbound: Inbound,
    pub(crate) turns: Turns,
    pub(crate) counters: Counters,
    pub(crate) standing: Standing,
    running: watch::Sender<Option<Running>>,
    trouble: Mutex<String>,
    /// The directory is this node's for as long as this is held.
    lock: Mutex<Option<File>>,
    space: Mutex<Option<(Instant, u64)>>,
    stopping: AtomicBool,
}

impl Shell {
    pub(crate) fn new(
        config: Config,
        chain: Arc<dyn ChainStore>,
        asker: Asker,
        queue: Queue,
        mirror: Mirror,
    ) -> Self {
        let me = Peer {
            node: config.key.node_id(),
            addr: config.addr.clone(),
        };
        Self {
            config,
            me,
            chain,
            asker,
            ledger: LiveLedger::default(),
            mirror,
            teller: Arc::new(Teller::new(NEWS)),
            standing: Standing::default(),
            queue,
            removals: UnderWay::default(),
            inbound: Inbound::default(),
            turns: Turns::default(),
            counters: Counters::default(),
            running: watch::Sender::new(None),
            trouble: Mutex::default(),
            lock: Mutex::default(),
            space: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// The Raft node, or why there is none.
    pub(crate) fn running(&self) -> Result<Running, LedgerError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(LedgerError::Stopping);
        }
        match self.running.borrow().clone() {
            Some(running) => Ok(running),
            None => Err(LedgerError::Storage(locked(&self.trouble).clone())),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The ledger as this node knows it best: by its own log, or as it was told.
    pub(crate) fn view(&self) -> RwLockReadGuard<'_, Ledger> {
        if self.mirror.ledger.applied() > self.ledger.applied() {
            self.mirror.ledger.read()
        } else {
            self.ledger.read()
        }
    }

    /// The log index that [`Shell::view`] shows.
    pub(crate) fn applied(&self) -> u64 {
        self.mirror.ledger.applied().max(self.ledger.applied())
    }

    /// Whether this node belongs to a cluster.
    pub(crate) fn is_founded(&self) -> bool {
        self.view().roster().next().is_some()
    }

    pub(crate) fn watch_running(&self) -> watch::Receiver<Option<Running>> {
        self.running.subscribe()
    }

    /// Whether the disk has the room that is kept free for the log. A write that would fill the
    /// disk is refused before Raft sees it, so that there is nothing to recover from.
    pub(crate) fn has_room(&self) -> Result<(), LedgerError> {
        let reserve = self.config.reserve_bytes;
        let mut space = locked(&self.space);
        let free = match *space {
            Some((at, free)) if at.elapsed() < SPACE_HOLDS => free,
            _ => {
                let free = free_bytes(&self.config.dir).unwrap_or(u64::MAX);
                *space = Some((Instant::now(), free));
                free
            }
        };
        if free >= reserve {
            return Ok(());
        }
        let dir = self.config.dir.display();
        Err(LedgerError::Storage(format!(
            "the disk of {dir} has {free} bytes left and {reserve} are kept free; make room, the \
             node goes on by itself"
        )))
    }

    /// Opens the stores and starts Raft on them.
    pub(crate) async fn open(&self) -> Result<Running, ConsensusError> {
        let dir = &self.config.dir;
        let held = locked(&self.lock).is_some();
        if !held {
            let lock = claim(dir, self.me.node, self.config.cluster)?;
            *locked(&self.lock) = Some(lock);
        }
        let log = blocking(|| LogStore::open(&dir.join("log"), self.me.node.raft_id()))?;
        let opened = self.open_with(&log).await;
        if opened.is_err() {
            blocking(|| log.close());
        }
        opened
    }

    async fn open_with(&self, log: &LogStore) -> Result<Running, ConsensusError> {
        let (ledger, chain) = (self.ledger.clone(), Arc::clone(&self.chain));
        let teller = Arc::clone(&self.teller);
        let machine = blocking(|| Machine::open(&self.config.dir, ledger, chain, teller))?;
        let ready = async {
            machine.fits_log(log)?;
            let ends_at = log.last().map(|id| id.index);
            let config = Arc::new(self.config.raft()?);
            let raft = Raft::new(
                self.me.node.raft_id(),
                config,
                Lines::new(self.asker.clone(), log.syncs().clone()),
                log.clone(),
                machine.clone(),
            )
            .await
            .map_err(|e| ConsensusError::Raft(e.to_string()))?;
            let running = Running {
                raft,
                log: log.clone(),
                machine: machine.clone(),
            };
            let caught_up = self.catch_up(&running, ends_at).await;
            if caught_up.is_err() {
                let _ = running.raft.shutdown().await;
            }
            caught_up.map(|()| running)
        };
        let ready = ready.await;
        if ready.is_err() {
            let _ = blocking(|| machine.close());
        }
        ready
    }

    /// A group of one knows that all of its log is committed: it is applied before anyone is
    /// served, and must lead to the very chain that is there.
    async fn catch_up(
        &self,
        running: &Running,
        ends_at: Option<u64>,
    ) -> Result<(), ConsensusError> {
        let me = self.me.node.raft_id();
        let alone = running.raft.with_raft_state(move |state| {
            let group = state.membership_state.effective();
            group.voter_ids().eq([me])
        });
        let alone = alone
            .await
            .map_err(|e| ConsensusError::Raft(e.to_string()))?;
        let mut metrics = running.raft.metrics();
        if !alone {
            return Ok(());
        }
        // A candidate of its own is elected at once; nobody else could be.
        if running.raft.metrics().borrow().current_leader.is_none() {
            let elected = running.raft.trigger().elect().await;
            elected.map_err(|e| ConsensusError::Raft(e.to_string()))?;
        }
        let applied = async {
            loop {
                let m: RaftMetrics = metrics.borrow_and_update().clone();
                if let Err(e) = m.running_state {
                    return Err(ConsensusError::Raft(e.to_string()));
                }
                if m.last_applied.map(|id| id.index) >= ends_at && m.current_leader.is_some() {
                    return Ok(());
                }
                if metrics.changed().await.is_err() {
                    return Err(ConsensusError::Raft("it stopped while it started".into()));
                }
            }
        };
        timeout(CATCH_UP, applied).await.map_err(|_| {
            ConsensusError::Raft(format!("the log was not applied within {CATCH_UP:?}"))
        })??;
        Ok(running.machine.chain_is_whole()?)
    }

    pub(crate) fn set_running(&self, running: Running) {
        self.running.send_replace(Some(running));
    }

    async fn close(&self, running: &Running) {
        let _ = running.raft.shutdown().await;
        // A disk that hangs must not keep the port's thread.
        if let Err(error) = blocking(|| running.machine.close()) {
            tracing::warn!(%error, "the applied state could not be stored; the log makes it anew");
        }
        blocking(|| running.log.close());
    }

    pub(crate) async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.mirror.save(true);
        let running = self.running.send_replace(None);
        if let Some(running) = running {
            self.close(&running).await;
        }
        *locked(&self.lock) = None;
    }

    /// Waits for Raft to fail, and starts it again until the disk takes it.
    pub(crate) async fn supervise(self: Arc<Self>) {
        loop {
            let Some(running) = self.running.borrow().clone() else {
                return;
            };
            let Some(why) = failure(&running).await else {
                return;
            };
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            tracing::error!(why, "the ledger stopped: its disk failed; trying again");
            *locked(&self.trouble) = why;
            self.running.send_replace(None);
            self.close(&running).await;
            drop(running);
            if !self.reopen().await {
                return;
            }
        }
    }

    async fn reopen(&self) -> bool {
        loop {
            tokio::time::sleep(RETRY).await;
            if self.stopping.load(Ordering::Relaxed) {
                return false;
            }
            if self.has_room().is_err() {
                continue;
            }
            match self.open().await {
                Ok(running) => {
                    tracing::info!("the ledger's disk takes writes again");
                    self.counters.restarts.fetch_add(1, Ordering::Relaxed);
                    self.set_running(running);
                    return true;
                }
                Err(error) => {
                    tracing::error!(%error, "the ledger can't start yet");
                    *locked(&self.trouble) = error.to_string();
                }
            }
        }
    }
}

/// Why Raft ended; nothing if it was told to.
async fn failure(running: &Running) -> Option<String> {
    let mut metrics = running.raft.metrics();
    loop {
        let state = metrics.borrow_and_update().running_state.clone();
        match state {
            Err(openraft::error::Fatal::Stopped) => return None,
            Err(e) => return Some(e.to_string()),
            Ok(()) => {}
        }
        // Raft tells of every entry: to be asked now and then is enough.
        let told = async {
            tokio::time::sleep(FAILURE_LOOK).await;
            metrics.changed().await
        };
        tokio::select! {
            changed = told => if changed.is_err() {
                return None;
            },
            // Raft may have nothing to write, and so not know yet.
            why = running.log.syncs().failed() => return Some(why),
        }
    }
}

fn free_bytes(dir: &Path) -> Result<u64, StoreError> {
    let found = rustix::fs::statvfs(dir).map_err(|e| StoreError::io(dir)(e.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// For what is shown to people; it decides nothing.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(since.as_millis() as i64)
}
