//! The Raft log on disk, as openraft wants it: entries, the vote, how far was committed.

use super::legacy;
use super::syncs::Syncs;
use super::wal::{OpenError, Wal};
use super::words::{WalId, WalVote};
use super::{StoreError, fatal, locked};
use crate::types::{LogEntry, LogId, StorageError, Types, Vote};
use hale_model::wire;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{EntryPayload, ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader};
use std::fmt::Debug;
use std::fs;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// The most bytes one replication request takes from the log; a frame holds 16 MiB.
const MAX_READ_BYTES: usize = 6 << 20;

/// How soon it is written down how far was committed.
const NOTED_WITHIN: Duration = Duration::from_millis(50);

/// How long the log's disk takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncTimes {
    /// How often the log was synced since the node started.
    pub count: u64,
    /// The sum over all, in microseconds.
    pub total_us: u64,
    /// The median, in microseconds.
    pub p50_us: u64,
    /// The 99th percentile, in microseconds.
    pub p99_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// How far a log goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ends {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    /// How far was committed, as far as was noted.
    pub(crate) committed: Option<LogId>,
    pub(crate) last: Option<LogId>,
}

/// The Raft log. Cloning shares it.
#[derive(Clone)]
pub(crate) struct LogStore {
    path: PathBuf,
    /// Empty once closed.
    wal: Arc<Mutex<Option<Arc<Wal>>>>,
    syncs: Syncs,
    notes_soon: Arc<AtomicBool>,
    /// This node's number in the group.
    me: u64,
}

impl LogStore {
    /// Opens the log in `path`, or makes an empty one. An entry that a crash cut short was never
    /// acknowledged and is dropped; any other damage is an error. `me` is whose log it is.
    pub(crate) fn open(path: &Path, me: u64) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(StoreError::io(path))?;
        legacy::move_over(path)?;
        let wal = Arc::new(Wal::open(path).map_err(|e| open_error(path, e))?);
        Ok(Self {
            path: path.to_owned(),
            wal: Arc::new(Mutex::new(Some(wal))),
            syncs: Syncs::default(),
            notes_soon: Arc::default(),
            me,
        })
    }

    /// Lets go of the files, whoever else still holds a clone.
    pub(crate) fn close(&self) {
        if let Some(wal) = locked(&self.wal).take() {
            wal.close();
        }
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        self.wal().ok()?.last().map(LogId::from)
    }

    pub(crate) fn has_vote(&self) -> bool {
        self.wal().is_ok_and(|wal| wal.vote().is_some())
    }

    pub(crate) fn sync_times(&self) -> SyncTimes {
        let Ok(wal) = self.wal() else {
            return SyncTimes::default();
        };
        let times = wal.times();
        let mut newest: Vec<u64> = times.newest.into();
        newest.sort_unstable();
        let percentile = |p: usize| {
            let at = (newest.len() * p).div_ceil(100).saturating_sub(1);
            newest.get(at).copied().unwrap_or(0)
        };
        SyncTimes {
            count: times.count,
            total_us: times.total_us,
            p50_us: percentile(50),
            p99_us: percentile(99),
            max_us: times.max_us,
            written_bytes: times.written_bytes,
        }
    }

    /// What the disk still owes.
    pub(crate) fn syncs(&self) -> &Syncs {
        &self.syncs
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.wal().map_or(0, |wal| wal.bytes())
    }

    fn wal(&self) -> io::Result<Arc<Wal>> {
        let closed = || io::Error::other(format!("the log in {} is closed", self.path.display()));
        locked(&self.wal).clone().ok_or_else(closed)
    }

    /// Writes and waits for the disk.
    async fn durably(&self, f: impl FnOnce(&Wal) -> io::Result<()>) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        {
            let wal = self.wal()?;
            f(&wal)?;
            wal.sync(Some(Box::new(move |result| drop(done.send(result)))))?;
        }
        wait.await
            .map_err(|_| io::Error::other("the log's writer stopped"))?
    }

    /// What was noted and waits to be written goes with the next entry, or alone if none comes.
    fn note_soon(&self) {
        if self.notes_soon.swap(true, Ordering::Relaxed) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(NOTED_WITHIN).await;
            this.notes_soon.store(false, Ordering::Relaxed);
            // A log that is closed by now has written it.
            if let Ok(wal) = this.wal() {
                let _ = wal.sync(None);
            }
        });
    }

    /// What the log of a stopped node says of itself.
    pub(crate) fn ends(&self) -> io::Result<Ends> {
        let wal = self.wal()?;
        Ok(Ends {
            vote: wal.vote().map(Vote::from),
            purged: wal.purged().map(LogId::from),
            committed: wal.committed().map(LogId::from),
            last: wal.last().map(LogId::from),
        })
    }

    /// Entries of a stopped node's log from an index on: some, as many as one read takes, or none.
    pub(crate) fn stretch(&self, from: u64) -> io::Result<Vec<LogEntry>> {
        self.read(from, u64::MAX, MAX_READ_BYTES)
    }

    /// Gives a stopped node's log a vote, and puts an entry at its end. The vote is on the disk
    /// first: no log ends in a term that its node has not voted in. Where the log ends elsewhere,
    /// what is before the entry is taken for purged. The caller's thread waits for the disk.
    pub(crate) fn continue_with(&self, vote: Vote, entry: &LogEntry) -> io::Result<()> {
        let wal = self.wal()?;
        wal.save_vote(WalVote::from(vote))?;
        wal.sync_and_wait()?;
        let (id, payload) = encode(entry)?;
        let before = id.index.saturating_sub(1);
        if wal.last().map(|last| last.index) != Some(before) {
            wal.purge(WalId {
                index: before,
                ..id
            })?;
        }
        wal.append(vec![(id, payload)])?;
        wal.sync_and_wait()
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        let found = self.wal()?.read(from, to, max_bytes)?;
        let entries = found.into_iter().map(|(id, payload)| {
            let payload: EntryPayload<Types> = wire::decode(&payload)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            Ok(LogEntry {
                log_id: id.into(),
                payload,
            })
        });
        entries.collect()
    }
}

pub(super) fn open_error(path: &Path, error: OpenError) -> StoreError {
    match error {
        OpenError::InUse => StoreError::InUse {
            path: path.to_owned(),
        },
        OpenError::Io(e) => StoreError::io(path)(e),
        OpenError::Damaged(file, what) => StoreError::damaged(&file, what),
    }
}

fn encode(entry: &LogEntry) -> io::Result<(WalId, Vec<u8>)> {
    let payload =
        wire::encode(&entry.payload).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    Ok((entry.log_id.into(), payload))
}

fn write_error(e: io::Error) -> StorageError {
    fatal(ErrorSubject::Logs, ErrorVerb::Write, e)
}

fn read_error(e: io::Error) -> StorageError {
    fatal(ErrorSubject::Logs, ErrorVerb::Read, e)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(n) => n.saturating_add(1),
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to.max(from), usize::MAX)
            .map_err(read_error)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<LogEntry>, StorageError> {
        self.read(start, end.max(start), MAX_READ_BYTES)
            .map_err(read_error)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let wal = self.wal().map_err(read_error)?;
        Ok(LogState {
            last_purged_log_id: wal.purged().map(LogId::from),
            last_log_id: wal.last().map(LogId::from),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = WalVote::from(*vote);
        let saved = self.durably(|wal| wal.save_vote(vote)).await;
        saved.map_err(|e| fatal(ErrorSubject::Vote, ErrorVerb::Write, e))
    }

    /// openraft reads it when it starts, and leads on at once where it says that this node was
    /// elected. But what a leader replicated may be gone from its own disk after a crash, and
    /// another entry must not take its place in the same term: it has to be elected again.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let wal = self.wal();
        let wal = wal.map_err(|e| fatal(ErrorSubject::Vote, ErrorVerb::Read, e))?;
        Ok(wal.vote().map(|mut vote| {
            vote.committed &= vote.node != self.me;
            Vote::from(vote)
        }))
    }

    /// How far was committed is a hint for the next start, so nobody waits for it. What the log
    /// does not hold (a snapshot was installed) or held before is left out. It is applied next:
    /// not before the disk has it.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(id) = committed.map(WalId::from) else {
            return Ok(());
        };
        self.syncs.reached(id.index).await.map_err(write_error)?;
        let wal = self.wal().map_err(write_error)?;
        if Some(id) > wal.last() || Some(id) <= wal.committed() {
            return Ok(());
        }
        wal.commit(id).map_err(write_error)?;
        self.note_soon();
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let wal = self.wal().map_err(read_error)?;
        Ok(wal.committed().map(LogId::from))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records: io::Result<Vec<_>> = entries.into_iter().map(|e| encode(&e)).collect();
        let mut records = records.map_err(write_error)?;
        let first = records.first().map_or(u64::MAX, |(id, _)| id.index);
        let last = records.last().map(|(id, _)| id.index);
        let in_flight = self.syncs.begin(first, last);
        let wal = self.wal().map_err(write_error)?;
        // Whoever leads this term makes the entry now: its own disk may work while the others' do.
        // Any other answers its leader with this.
        let term = records.last().map(|(id, _)| id.term);
        let leads =
            |vote: WalVote| vote.committed && vote.node == self.me && Some(vote.term) == term;
        let leads = wal.vote().is_some_and(leads);
        // What was purged is applied and in a snapshot: there is nothing to write again.
        let purged = wal.purged().map(|p| p.index);
        records.retain(|(id, _)| Some(id.index) > purged);
        let written = || -> io::Result<()> {
            // What begins before the log's end replaces the end (Raft §5.3).
            if let Some((first, _)) = records.first()
                && wal.last().is_some_and(|last| first.index <= last.index)
            {
                wal.truncate(first.index)?;
            }
            wal.append(records)
        };
        written().map_err(write_error)?;
        let (told, at_once) = if leads {
            (None, Some(callback))
        } else {
            (Some(callback), None)
        };
        wal.sync(Some(Box::new(move |result| {
            in_flight.done(&result);
            if let Some(told) = told {
                told.log_io_completed(result);
            }
        })))
        .map_err(write_error)?;
        if let Some(callback) = at_once {
            callback.log_io_completed(Ok(()));
        }
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.durably(|wal| wal.truncate(log_id.index))
            .await
            .map_err(write_error)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.durably(|wal| wal.purge(log_id.into()))
            .await
            .map_err(write_error)
    }
}
