//! The state machine as openraft drives it: commands to the ledger, entries to the chain, changes
//! to the state's store at checkpoints.

use super::log::LogStore;
use super::snapshot::SnapshotFile;
use super::state::{Progress, StateStore};
use super::{StoreError, blocking, fatal, locked};
use crate::chain_store::ChainStore;
use crate::ledger::{Ledger, News, RULES, StateError};
use crate::network::Followed;
use crate::recent::RecentPacks;
use crate::types::{LogEntry, LogId, Membership, SnapshotMeta, StorageError, Types};
use hale_model::chain::Entry;
use hale_model::ledger::{Answer, Command, Signed};
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, StoredMembership,
};
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{broadcast, watch};

/// After so many applied log entries the state is stored: so many are re-applied after a crash.
const CHECKPOINT_EVERY: usize = 1024;
/// The signatures of so many log entries are verified together.
const VERIFIED_AHEAD: usize = 8;

/// So many commands are applied in less time than it takes to let another thread do it.
const FEW_COMMANDS: usize = 32;

/// The ledger as all of the node reads it. Cloning shares it.
#[derive(Clone)]
pub(crate) struct LiveLedger {
    ledger: Arc<RwLock<Ledger>>,
    /// Up to which log index it was applied, for whoever waits for more.
    applied: Arc<watch::Sender<u64>>,
}

impl Default for LiveLedger {
    fn default() -> Self {
        Self {
            ledger: Arc::default(),
            applied: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl LiveLedger {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Ledger> {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Ledger> {
        self.ledger.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log index it was applied up to.
    pub(crate) fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    pub(crate) fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.send_replace(index);
    }
}

/// Tells whoever listens what changed. What was told up to a log index is not told again: not by
/// a log that is applied anew after a crash, nor by another way the same news come.
pub(crate) struct Teller {
    news: broadcast::Sender<News>,
    told: Mutex<u64>,
    /// All that this node's own log leads to, told before or not: a leader's clock hangs on it.
    own: broadcast::Sender<News>,
}

impl Teller {
    /// One that keeps so many news for listeners who are slow.
    pub(crate) fn new(kept: usize) -> Self {
        Self {
            news: broadcast::Sender::new(kept),
            told: Mutex::new(0),
            own: broadcast::Sender::new(kept),
        }
    }

    /// What this node's own log led to.
    fn applied(&self, index: u64, news: Vec<News>) {
        for one in &news {
            let _ = self.own.send(one.clone());
        }
        self.tell(index, news);
    }

    pub(crate) fn subscribe_own(&self) -> broadcast::Receiver<News> {
        self.own.subscribe()
    }

    /// What changed with one log index.
    pub(crate) fn tell(&self, index: u64, news: Vec<News>) {
        let mut told = locked(&self.told);
        if index <= *told {
            return;
        }
        *told = index;
        for one in news {
            // Nobody listening is no error.
            let _ = self.news.send(one);
        }
    }

    /// All is another state now, which may be of a lower log index: its changes are told from here.
    pub(crate) fn replaced(&self, index: u64) {
        *locked(&self.told) = index;
        let _ = self.news.send(News::Replaced);
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }
}

/// The state machine. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Machine {
    dir: PathBuf,
    ledger: LiveLedger,
    chain: Arc<dyn ChainStore>,
    teller: Arc<Teller>,
    snapshot: SnapshotFile,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// Empty once closed, or once what is in memory must not be stored.
    state: Option<StateStore>,
    progress: Progress,
    since_checkpoint: usize,
    recent: RecentPacks,
}

impl Machine {
    /// Opens the state in `dir`; `ledger` then shows it, and must fit the chain.
    pub(crate) fn open(
        dir: &Path,
        ledger: LiveLedger,
        chain: Arc<dyn ChainStore>,
        teller: Arc<Teller>,
    ) -> Result<Self, StoreError> {
        let (state, progress, stored) = StateStore::open(&dir.join("state"))?;
        let snapshot = SnapshotFile::new(dir.join("snapshot"));
        snapshot.read()?;
        let unusable = |e: io::Error| StoreError::Chain { source: e };
        chain.reopen().map_err(unusable)?;
        fits(dir, &stored, chain.as_ref())?;
        *ledger.write() = stored;
        let applied = progress.last.map_or(0, |id| id.index);
        ledger.set_applied(applied);
        let inner = Inner {
            state: Some(state),
            progress,
            since_checkpoint: 0,
            recent: RecentPacks::after(applied),
        };
        let inner = Arc::new(Mutex::new(inner));
        Ok(Self {
            dir: dir.to_owned(),
            ledger,
            chain,
            teller,
            snapshot,
            inner,
        })
    }

    /// Stores what was applied and lets go of the files, whoever else still holds a clone.
    pub(crate) fn close(&self) -> io::Result<()> {
        let mut inner = locked(&self.inner);
        let stored = match inner.since_checkpoint {
            0 => Ok(()),
            _ => self.checkpoint(&mut inner),
        };
        inner.state = None;
        stored
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        locked(&self.inner)
            .state
            .as_ref()
            .map_or(0, StateStore::disk_bytes)
    }

    /// Whether the chain ends where the ledger says. Once all of the log is applied it must: only
    /// what was committed reaches the chain, so entries beyond mean that the log lost some.
    pub(crate) fn chain_is_whole(&self) -> Result<(), StoreError> {
        let tip = self.ledger.read().tip();
        if self.chain.len() == tip.entries && self.chain.tip() == tip.hash {
            return Ok(());
        }
        let (there, known) = (self.chain.len(), tip.entries);
        let what = format!("the chain has {there} entries, the log leads to {known}");
        Err(StoreError::ChainMismatch {
            path: self.dir.join("log"),
            what,
        })
    }

    /// Whether the log is the one the state came from. A log that lost its vote could vote twice; a
    /// group of one has nobody to get a lost end from.
    pub(crate) fn fits_log(&self, log: &LogStore) -> Result<(), StoreError> {
        let progress = locked(&self.inner).progress.clone();
        let Some(applied) = progress.last else {
            return Ok(());
        };
        let path = self.dir.join("log");
        if !log.has_vote() {
            return Err(StoreError::damaged(
                &path,
                "it holds no vote, the state beside it does",
            ));
        }
        let alone = progress.membership.membership().voter_ids().count() <= 1;
        let last = log.last();
        if alone && last < Some(applied) {
            let last = last.map_or_else(|| "nothing".into(), |id| id.to_string());
            let what =
                format!("it ends at {last}, the state beside it was applied up to {applied}");
            return Err(StoreError::damaged(&path, what));
        }
        Ok(())
    }

    /// Puts a stretch of the chain that a peer sent at the end, if it is what follows there.
    pub(crate) fn fill_chain(&self, entries: &[Entry]) -> io::Result<()> {
        let _alone = locked(&self.inner);
        let (mut number, mut hash) = (self.chain.len(), self.chain.tip());
        for entry in entries {
            entry.follows(number, hash).map_err(io::Error::other)?;
            (number, hash) = (number + 1, entry.hash());
        }
        self.chain.append(entries)
    }

    /// The chain first, then the state: the state on disk is never ahead of the chain.
    fn checkpoint(&self, inner: &mut Inner) -> io::Result<()> {
        let Some(state) = &inner.state else {
            return Err(io::Error::other("the ledger's state is closed"));
        };
        self.chain.sync()?;
        let changes = self.ledger.write().take_touched()?;
        if let Err(e) = state.write(changes, &inner.progress) {
            // What changed is not known any more: the log makes it anew.
            inner.state = None;
            return Err(e);
        }
        inner.since_checkpoint = 0;
        Ok(())
    }

    fn apply_all(
        &self,
        entries: Vec<LogEntry>,
        inner: &mut Inner,
    ) -> Result<Vec<Vec<Answer>>, Box<StorageError>> {
        let mut answers = vec![];
        let mut rest = entries;
        while !rest.is_empty() {
            let some: Vec<_> = rest.drain(..rest.len().min(VERIFIED_AHEAD)).collect();
            let commands = some.iter().flat_map(commands_of);
            Signed::verify_together(commands.filter_map(Command::entry));
            for entry in some {
                let id = entry.log_id;
                let answer = self.apply_one(entry, inner).map_err(|e| {
                    // The ledger in memory is ahead of the chain now: it must not be stored.
                    inner.state = None;
                    Box::new(fatal(ErrorSubject::Apply(id), ErrorVerb::Write, e))
                });
                answers.push(answer?);
            }
        }
        if inner.since_checkpoint >= CHECKPOINT_EVERY {
            let stored = self.checkpoint(inner);
            stored.map_err(|e| Box::new(write_error(e)))?;
        }
        Ok(answers)
    }

    fn apply_one(&self, entry: LogEntry, inner: &mut Inner) -> io::Result<Vec<Answer>> {
        let index = entry.log_id.index;
        let (mut answers, mut entries, mut news) = (vec![], vec![], vec![]);
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(m) => {
                inner.progress.membership = StoredMembership::new(Some(entry.log_id), m);
            }
            EntryPayload::Normal(pack) => {
                inner.recent.push(index, &pack);
                for command in pack.0 {
                    known(&command)?;
                    let mut applied = self.ledger.write().apply(index, command);
                    answers.push(applied.answer);
                    entries.append(&mut applied.entries);
                    news.append(&mut applied.news);
                }
            }
        }
        self.to_chain(&entries)?;
        inner.progress.last = Some(entry.log_id);
        inner.since_checkpoint += 1;
        inner.recent.reached(index);
        self.ledger.set_applied(index);
        self.teller.applied(index, news);
        Ok(answers)
    }

    /// Puts entries on the chain. After a crash some are there already, and must be the same.
    fn to_chain(&self, entries: &[Entry]) -> io::Result<()> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let there = self.chain.len().saturating_sub(first.index);
        let known = (there.min(entries.len() as u64)) as usize;
        let (again, new) = entries.split_at(known);
        if let (Some(from), Some(to)) = (again.first(), again.last())
            && self.chain.read(from.index..to.index + 1)? != again
        {
            let (from, to) = (from.index, to.index);
            return Err(io::Error::other(format!(
                "the chain's entries {from} to {to} are not those the log leads to"
            )));
        }
        if new.is_empty() {
            Ok(())
        } else {
            self.chain.append(new)
        }
    }

    fn install(&self, meta: &SnapshotMeta, bytes: &[u8]) -> io::Result<()> {
        let mut ledger = Ledger::decode(bytes)?;
        let tip = ledger.tip();
        if self.chain.len() < tip.entries {
            let (there, wanted) = (self.chain.len(), tip.entries);
            return Err(io::Error::other(format!(
                "the chain has {there} of the {wanted} entries that the snapshot stands on"
            )));
        }
        fits(&self.dir, &ledger, self.chain.as_ref()).map_err(io::Error::other)?;
        self.chain.sync()?;
        let mut inner = locked(&self.inner);
        let progress = Progress {
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        let Some(state) = &inner.state else {
            return Err(io::Error::other("the ledger's state is closed"));
        };
        state.replace(ledger.take_all()?, &progress)?;
        let applied = progress.last.map_or(0, |id| id.index);
        inner.progress = progress;
        inner.since_checkpoint = 0;
        inner.recent = RecentPacks::after(applied);
        *self.ledger.write() = ledger;
        self.ledger.set_applied(applied);
        self.teller.applied(applied, vec![News::Replaced]);
        self.snapshot.write(meta, bytes)
    }

    /// The state with the log index it is of.
    pub(crate) fn state_now(&self) -> Result<(u64, Vec<u8>), StateError> {
        let inner = locked(&self.inner);
        let applied = inner.progress.last.map_or(0, |id| id.index);
        Ok((applied, self.ledger.read().encode()?))
    }

    /// What was applied after a log index, for a node outside the group: the packs since, or the
    /// whole state where they are not kept any more.
    pub(crate) fn since(&self, after: u64) -> io::Result<Followed> {
        let inner = locked(&self.inner);
        let applied = inner.progress.last.map_or(0, |id| id.index);
        let mut out = Followed {
            applied,
            ..Followed::default()
        };
        match inner.recent.since(after) {
            Some((packs, up_to)) => (out.packs, out.applied) = (packs, up_to),
            None => out.state = Some(self.ledger.read().encode()?),
        }
        Ok(out)
    }
}

/// Whether the chain holds what the ledger's state stands on.
pub(crate) fn fits(dir: &Path, ledger: &Ledger, chain: &dyn ChainStore) -> Result<(), StoreError> {
    let tip = ledger.tip();
    let mismatch = |what| StoreError::ChainMismatch {
        path: dir.join("state"),
        what,
    };
    if chain.len() < tip.entries {
        let (there, known) = (chain.len(), tip.entries);
        return Err(mismatch(format!(
            "the chain has {there} entries, the ledger knows {known}"
        )));
    }
    let Some(last) = tip.entries.checked_sub(1) else {
        return Ok(());
    };
    let found = chain
        .read(last..tip.entries)
        .map_err(|e| mismatch(e.to_string()))?;
    match found.first() {
        Some(entry) if entry.hash() == tip.hash => Ok(()),
        _ => Err(mismatch(format!(
            "entry {last} of the chain is not the one the ledger knows"
        ))),
    }
}

/// Whether this binary can go on after the command. It must not apply by the rules it knows what
/// others apply by newer ones.
pub(crate) fn known(command: &Command) -> Result<(), StateError> {
    match command {
        Command::Rules { version } if *version > RULES => Err(StateError::Rules(*version)),
        _ => Ok(()),
    }
}

fn commands_of(entry: &LogEntry) -> &[Command] {
    match &entry.payload {
        EntryPayload::Normal(pack) => &pack.0,
        EntryPayload::Blank | EntryPayload::Membership(_) => &[],
    }
}

fn write_error(e: io::Error) -> StorageError {
    fatal(ErrorSubject::StateMachine, ErrorVerb::Write, e)
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        let inner = locked(&self.inner);
        Ok((inner.progress.last, inner.progress.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Answer>>, StorageError>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        let commands: usize = entries.iter().map(|e| commands_of(e).len()).sum();
        let mut inner = locked(&self.inner);
        let stores = inner.since_checkpoint + entries.len() >= CHECKPOINT_EVERY;
        if stores || commands > FEW_COMMANDS {
            return blocking(|| self.apply_all(entries, &mut inner)).map_err(|e| *e);
        }
        self.apply_all(entries, &mut inner).map_err(|e| *e)
    }

    /// The snapshot is of this moment. The state is stored first: once the snapshot is there, the
    /// log up to it may be purged.
    async fn get_snapshot_builder(&mut self) -> Builder {
        let mut inner = locked(&self.inner);
        let state = blocking(|| {
            self.checkpoint(&mut inner)
                .and_then(|()| self.ledger.read().encode().map_err(io::Error::from))
        });
        let meta = SnapshotMeta {
            last_log_id: inner.progress.last,
            last_membership: inner.progress.membership.clone(),
            snapshot_id: inner
                .progress
                .last
                .map_or_else(|| "empty".into(), |l| l.to_string()),
        };
        Builder {
            meta,
            state,
            file: self.snapshot.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let installed = blocking(|| self.install(meta, snapshot.get_ref()));
        installed.map_err(|e| {
            fatal(
                ErrorSubject::Snapshot(Some(meta.signature())),
                ErrorVerb::Write,
                e,
            )
        })
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let found = self.snapshot.read().map_err(|e| {
            fatal(
                ErrorSubject::Snapshot(None),
                ErrorVerb::Read,
                io::Error::other(e),
            )
        })?;
        let snapshot = |(meta, state)| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(state)),
        };
        Ok(found.map(snapshot))
    }
}

/// Writes the snapshot of one moment, beside the state machine's work.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    state: io::Result<Vec<u8>>,
    file: SnapshotFile,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let failed = |e| {
            let subject = ErrorSubject::Snapshot(Some(self.meta.signature()));
            fatal(subject, ErrorVerb::Write, e)
        };
        let taken = std::mem::replace(&mut self.state, Ok(vec![]));
        let state = taken.map_err(failed)?;
        blocking(|| self.file.write(&self.meta, &state)).map_err(failed)?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: Box::new(Cursor::new(state)),
        })
    }
}
