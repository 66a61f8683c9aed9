//! The Raft log on disk, and the one home of raft-log: entries, the vote, how far was committed.

mod words;

use self::words::{WalId, WalVote, Words};
use super::syncs::{InFlight, Syncs};
use super::{StoreError, fatal, locked, write_by};
use crate::types::{LogEntry, LogId, StorageError, Types, Vote};
use hale_model::wire;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{EntryPayload, ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader};
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::{Callback, RaftLog};
use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;

/// A chunk of the log is one file; those that hold only purged entries are deleted.
const CHUNK_BYTES: usize = 16 << 20;
const CHUNK_RECORDS: usize = 64 << 10;
/// Entries of closed chunks that stay in memory for followers that lag a little.
const CACHE_BYTES: usize = 8 << 20;
/// The most bytes one replication request takes from the log; a frame holds 16 MiB.
const MAX_READ_BYTES: usize = 6 << 20;

/// How soon it is written down how far was committed.
const NOTED_WITHIN: Duration = Duration::from_millis(50);

/// Who waits for the disk.
enum Flushed {
    /// Raft itself, unless it was told to go on.
    Raft(Option<LogFlushed<Types>>, InFlight),
    Caller(oneshot::Sender<io::Result<()>>),
    Thread(mpsc::Sender<io::Result<()>>),
}

impl Callback for Flushed {
    fn send(self, result: io::Result<()>) {
        match self {
            Self::Raft(callback, in_flight) => {
                in_flight.done(&result);
                if let Some(callback) = callback {
                    callback.log_io_completed(result);
                }
            }
            Self::Caller(sender) => drop(sender.send(result)),
            Self::Thread(sender) => drop(sender.send(result)),
        }
    }
}

impl raft_log::Types for Words {
    type LogId = WalId;
    type LogPayload = Vec<u8>;
    type Vote = WalVote;
    type Callback = Flushed;
    type UserData = Vec<u8>;

    fn log_index(id: &WalId) -> u64 {
        id.index
    }

    fn payload_size(payload: &Vec<u8>) -> u64 {
        payload.len() as u64
    }
}

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
    wal: Arc<Mutex<Option<RaftLog<Words>>>>,
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
        write_tail_again(path).map_err(StoreError::io(path))?;
        let mut config = raft_log::Config::new(path.display());
        config.wal.chunk_max_size = Some(CHUNK_BYTES);
        config.wal.chunk_max_records = Some(CHUNK_RECORDS);
        config.wal.read_buffer_size = Some(1 << 20);
        // The proposer packs what waits; waiting again here would only add latency.
        config.wal.flush_batch_wait = Some(Duration::ZERO);
        config.log_cache_capacity = Some(CACHE_BYTES);
        let wal = RaftLog::open(Arc::new(config)).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => StoreError::InUse {
                path: path.to_owned(),
            },
            io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull => StoreError::io(path)(e),
            _ => StoreError::damaged(path, e),
        })?;
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
        // What can't be written any more was a hint.
        let _ = self.with(|wal| wal.flush(false, None));
        let wal = locked(&self.wal).take();
        drop(wal);
    }

    pub(crate) fn last(&self) -> Option<LogId> {
        let last = |wal: &mut RaftLog<Words>| Ok(wal.log_state().last().copied());
        self.with(last).ok().flatten().map(LogId::from)
    }

    pub(crate) fn has_vote(&self) -> bool {
        self.with(|wal| Ok(wal.log_state().vote().is_some()))
            .unwrap_or(false)
    }

    pub(crate) fn sync_times(&self) -> SyncTimes {
        let stat = |wal: &mut RaftLog<Words>| Ok(wal.stat().flush_metrics);
        let Ok(m) = self.with(stat) else {
            return SyncTimes::default();
        };
        SyncTimes {
            count: m.sync_batch_count,
            total_us: m.sync_us,
            p50_us: m.sync_percentiles.p50_us,
            p99_us: m.sync_percentiles.p99_us,
            max_us: m.sync_max_us,
            written_bytes: m.write_bytes,
        }
    }

    /// What the disk still owes.
    pub(crate) fn syncs(&self) -> &Syncs {
        &self.syncs
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.with(|wal| Ok(wal.on_disk_size())).unwrap_or(0)
    }

    fn with<T>(&self, f: impl FnOnce(&mut RaftLog<Words>) -> io::Result<T>) -> io::Result<T> {
        match locked(&self.wal).as_mut() {
            Some(wal) => f(wal),
            None => Err(io::Error::other(format!(
                "the log in {} is closed",
                self.path.display()
            ))),
        }
    }

    /// Writes and waits for the disk.
    async fn durably(
        &self,
        f: impl FnOnce(&mut RaftLog<Words>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.with(|wal| {
            f(wal)?;
            wal.flush(true, Some(Flushed::Caller(done)))
        })?;
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
            let _ = this.with(|wal| wal.flush(false, None));
        });
    }

    /// As [`LogStore::durably`], for a node that is stopped: its one thread waits.
    fn at_rest(&self, f: impl FnOnce(&mut RaftLog<Words>) -> io::Result<()>) -> io::Result<()> {
        let (done, wait) = mpsc::channel();
        self.with(|wal| {
            f(wal)?;
            wal.flush(true, Some(Flushed::Thread(done)))
        })?;
        wait.recv()
            .map_err(|_| io::Error::other("the log's writer stopped"))?
    }

    /// What the log of a stopped node says of itself.
    pub(crate) fn ends(&self) -> io::Result<Ends> {
        self.with(|wal| {
            let state = wal.log_state();
            Ok(Ends {
                vote: state.vote().copied().map(Vote::from),
                purged: state.purged().copied().map(LogId::from),
                committed: state.committed().copied().map(LogId::from),
                last: state.last().copied().map(LogId::from),
            })
        })
    }

    /// Entries of a stopped node's log from an index on: some, as many as one read takes, or none.
    pub(crate) fn stretch(&self, from: u64) -> io::Result<Vec<LogEntry>> {
        self.read(from, u64::MAX, MAX_READ_BYTES)
    }

    /// Gives a stopped node's log a vote, and puts an entry at its end. The vote is on the disk
    /// first: no log ends in a term that its node has not voted in. Where the log ends elsewhere,
    /// what is before the entry is taken for purged.
    pub(crate) fn continue_with(&self, vote: Vote, entry: &LogEntry) -> io::Result<()> {
        let vote = WalVote::from(vote);
        self.at_rest(|wal| wal.save_vote(vote).map(drop))?;
        let (id, payload) = encode(entry)?;
        self.at_rest(|wal| {
            let before = id.index.saturating_sub(1);
            if wal.log_state().last().map(|last| last.index) != Some(before) {
                wal.purge(WalId {
                    index: before,
                    ..id
                })?;
            }
            wal.append([(id, payload)]).map(drop)
        })
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        self.with(|wal| {
            let (mut entries, mut bytes) = (vec![], 0);
            for record in wal.read(from, to) {
                let (id, payload) = record?;
                bytes += payload.len();
                if bytes > max_bytes && !entries.is_empty() {
                    break;
                }
                let payload: EntryPayload<Types> = wire::decode(&payload)
                    .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
                entries.push(LogEntry {
                    log_id: id.into(),
                    payload,
                });
            }
            Ok(entries)
        })
    }
}

/// After a sync that failed, the kernel may show bytes that are not on the disk and never write
/// them (the page is marked clean). So what a new start is about to trust, the newest two files, is
/// written to new files and synced.
fn write_tail_again(dir: &Path) -> io::Result<()> {
    let files: io::Result<Vec<_>> = fs::read_dir(dir)?.map(|f| f.map(|f| f.path())).collect();
    let mut files = files?;
    files.retain(|f| f.extension().is_some_and(|e| e == "wal"));
    files.sort();
    for file in files.iter().rev().take(2) {
        // Beside the directory: raft-log warns of every file in it that is not its own.
        write_by(&dir.with_extension("new"), file, &fs::read(file)?)?;
    }
    File::open(dir)?.sync_all()
}

fn encode(entry: &LogEntry) -> io::Result<(WalId, Vec<u8>)> {
    let payload =
        wire::encode(&entry.payload).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    Ok((entry.log_id.into(), payload))
}

/// Drops the entries from `index` on. raft-log wants to be told the entry that stays last; where
/// none stays, that is what was purged.
fn truncate(wal: &mut RaftLog<Words>, index: u64) -> io::Result<()> {
    let keeps_some = wal.read(0, index).next().is_some();
    let purged = wal.log_state().purged().map_or(0, |p| p.index + 1);
    wal.truncate(if keeps_some { index } else { purged })
        .map(drop)
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
        self.with(|wal| {
            let state = wal.log_state();
            Ok(LogState {
                last_purged_log_id: state.purged().copied().map(LogId::from),
                last_log_id: state.last().copied().map(LogId::from),
            })
        })
        .map_err(read_error)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = WalVote::from(*vote);
        let saved = self.durably(|wal| wal.save_vote(vote).map(drop)).await;
        saved.map_err(|e| fatal(ErrorSubject::Vote, ErrorVerb::Write, e))
    }

    /// openraft reads it when it starts, and leads on at once where it says that this node was
    /// elected. But what a leader replicated may be gone from its own disk after a crash, and
    /// another entry must not take its place in the same term: it has to be elected again.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote = self.with(|wal| Ok(wal.log_state().vote().copied()));
        let vote = vote.map_err(|e| fatal(ErrorSubject::Vote, ErrorVerb::Read, e))?;
        Ok(vote.map(|mut vote| {
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
        self.with(|wal| {
            let state = wal.log_state();
            if Some(&id) > state.last() || Some(&id) <= state.committed() {
                return Ok(());
            }
            wal.commit(id).map(drop)
        })
        .map_err(write_error)?;
        self.note_soon();
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let committed = self.with(|wal| Ok(wal.log_state().committed().copied()));
        committed.map(|c| c.map(LogId::from)).map_err(read_error)
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
        self.with(|wal| {
            // Whoever leads this term makes the entry now: its own disk may work while the
            // others' do. Any other answers its leader with this.
            let leads = |vote: &WalVote| {
                let last = records.last().map(|(id, _)| id.term);
                vote.committed && vote.node == self.me && Some(vote.term) == last
            };
            let leads = wal.log_state().vote().is_some_and(leads);
            // What was purged is applied and in a snapshot: there is nothing to write again.
            let purged = wal.log_state().purged().map(|p| p.index);
            records.retain(|(id, _)| Some(id.index) > purged);
            // What begins before the log's end replaces the end (Raft §5.3).
            if let Some((first, _)) = records.first()
                && wal
                    .log_state()
                    .last()
                    .is_some_and(|last| first.index <= last.index)
            {
                truncate(wal, first.index)?;
            }
            wal.append(records)?;
            if leads {
                wal.flush(true, Some(Flushed::Raft(None, in_flight)))?;
                callback.log_io_completed(Ok(()));
                return Ok(());
            }
            wal.flush(true, Some(Flushed::Raft(Some(callback), in_flight)))
        })
        .map_err(write_error)
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.durably(|wal| truncate(wal, log_id.index))
            .await
            .map_err(write_error)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.durably(|wal| wal.purge(log_id.into()).map(drop))
            .await
            .map_err(write_error)
    }
}
