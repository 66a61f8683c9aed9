//! A write-ahead log for Raft: entries by index, a vote, how far was committed and purged.
//!
//! It is a row of segment files (`frame` has their bytes). A segment's room is taken from the file
//! system when it is made, so that a sync has data to write and no new length of a file: where
//! that takes a commit of the file system's journal, it is most of a small write's time. What is
//! written while the disk works goes together with one sync, as one frame (`writer`). All that a
//! reader needs to find an entry is in memory, and the newest entries themselves; a segment that
//! holds nothing but what was purged is deleted.

mod frame;
mod index;
mod open;
#[cfg(test)]
mod tests;
mod writer;

use self::frame::Record;
use self::index::Index;
use super::locked;
use super::words::{WalId, WalVote};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;

pub(super) use self::open::{OpenError, has_first, replace};

/// Room for this many bytes is taken at once; a frame may go beyond.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Of so many syncs the times are kept, for the percentiles.
const TIMES_KEPT: usize = 1024;

/// Who is told when the disk has what was written, or that it failed.
pub(super) type Callback = Box<dyn FnOnce(io::Result<()>) + Send>;

/// How long the disk took, so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) total_us: u64,
    pub(super) max_us: u64,
    pub(super) written_bytes: u64,
    /// The newest, in microseconds.
    pub(super) newest: VecDeque<u64>,
}

/// What the log's users and its writer share.
struct Shared {
    dir: PathBuf,
    state: Mutex<State>,
    /// The writer has something to do.
    work: Condvar,
}

struct State {
    index: Index,
    /// The frame that is written next.
    next: Next,
    times: Times,
    /// The log is let go of.
    is_closing: bool,
    /// Once a write or a sync failed nobody knows what is on the disk.
    failed: Option<(io::ErrorKind, String)>,
    /// The segment that was read last.
    reading: Option<(u64, File)>,
}

struct Next {
    segment: u64,
    /// Where in the segment the frame will begin.
    at: u64,
    number: u64,
    /// Room for the frame's head, then the body.
    bytes: Vec<u8>,
    /// How long that is if nothing was said yet.
    idle: usize,
    waiting: Vec<Callback>,
    /// Somebody wants it on the disk.
    is_wanted: bool,
}

impl Next {
    fn says_something(&self) -> bool {
        self.bytes.len() > self.idle
    }

    /// Puts a record into it, and says where in the segment the record ends.
    fn put(&mut self, record: &Record<'_>) -> u64 {
        frame::put(&mut self.bytes, record);
        self.at + self.bytes.len() as u64
    }
}

fn failure(failed: &(io::ErrorKind, String)) -> io::Error {
    io::Error::new(failed.0, failed.1.clone())
}

/// The log. Dropping it closes it.
pub(super) struct Wal {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held as long as the log is in use.
    lock: Mutex<Option<File>>,
}

impl Wal {
    /// Opens the log in a directory that exists, or makes an empty one.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenError> {
        let (shared, lock) = open::open(dir)?;
        let shared = Arc::new(shared);
        let writer = writer::start(shared.clone()).map_err(OpenError::Io)?;
        Ok(Self {
            shared,
            writer: Mutex::new(Some(writer)),
            lock: Mutex::new(Some(lock)),
        })
    }

    fn change<T>(&self, f: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = locked(&self.shared.state);
        match &state.failed {
            Some(failed) => Err(failure(failed)),
            None if state.is_closing => Err(io::Error::other("the log is closed")),
            None => f(&mut state),
        }
    }

    pub(super) fn vote(&self) -> Option<WalVote> {
        locked(&self.shared.state).index.said.vote
    }

    pub(super) fn committed(&self) -> Option<WalId> {
        locked(&self.shared.state).index.said.committed
    }

    pub(super) fn purged(&self) -> Option<WalId> {
        locked(&self.shared.state).index.said.purged
    }

    /// The newest entry, or what was purged if there is none.
    pub(super) fn last(&self) -> Option<WalId> {
        locked(&self.shared.state).index.last()
    }

    pub(super) fn times(&self) -> Times {
        locked(&self.shared.state).times.clone()
    }

    /// What the segments take, without what is reserved ahead.
    pub(super) fn bytes(&self) -> u64 {
        let state = locked(&self.shared.state);
        state.index.closed_bytes() + state.next.at
    }

    /// Adds entries to the end; each follows the one before.
    ///
    /// # Errors
    /// If one does not follow, or the disk failed before.
    pub(super) fn append(&self, entries: Vec<(WalId, Vec<u8>)>) -> io::Result<()> {
        self.change(|state| {
            for (id, payload) in entries {
                state.index.follows(&id).map_err(io::Error::other)?;
                let record = Record::Entry(id, &payload);
                let ends = state.next.put(&record);
                let at = ends - payload.len() as u64;
                state.index.push(id, state.next.segment, at, payload);
            }
            Ok(())
        })
    }

    /// Drops the entries from an index on.
    pub(super) fn truncate(&self, index: u64) -> io::Result<()> {
        self.change(|state| {
            if state.index.truncate(index) {
                state.next.put(&Record::Truncated(index));
            }
            Ok(())
        })
    }

    /// Drops the entries up to one, which may lie beyond the last.
    pub(super) fn purge(&self, upto: WalId) -> io::Result<()> {
        self.change(|state| {
            if state.index.purge(upto) {
                state.next.put(&Record::Purged(upto));
            }
            Ok(())
        })
    }

    pub(super) fn save_vote(&self, vote: WalVote) -> io::Result<()> {
        self.change(|state| {
            state.index.said.vote = Some(vote);
            state.next.put(&Record::Vote(vote));
            Ok(())
        })
    }

    pub(super) fn commit(&self, id: WalId) -> io::Result<()> {
        self.change(|state| {
            state.index.said.committed = Some(id);
            state.next.put(&Record::Committed(id));
            Ok(())
        })
    }

    /// Has all of it written and synced; who waits is told.
    ///
    /// # Errors
    /// If the disk failed before; who waits is not told then.
    pub(super) fn sync(&self, waits: Option<Callback>) -> io::Result<()> {
        self.change(|state| {
            state.next.waiting.extend(waits);
            state.next.is_wanted = true;
            Ok(())
        })?;
        self.shared.work.notify_one();
        Ok(())
    }

    /// As [`Wal::sync`], and this thread waits.
    ///
    /// # Errors
    /// If the disk failed, now or before.
    pub(super) fn sync_and_wait(&self) -> io::Result<()> {
        let (done, wait) = mpsc::channel();
        self.sync(Some(Box::new(move |result| drop(done.send(result)))))?;
        let stopped = |_| io::Error::other("the log's writer stopped");
        wait.recv().map_err(stopped)?
    }

    /// Entries with an index from one up to another, exclusive: at least the first, and as many
    /// more as make so many bytes.
    ///
    /// # Errors
    /// If a file can't be read, or holds something else than what was written.
    pub(super) fn read(
        &self,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> io::Result<Vec<(WalId, Arc<Vec<u8>>)>> {
        let mut state = locked(&self.shared.state);
        let State { index, reading, .. } = &mut *state;
        let (mut found, mut bytes) = (vec![], 0);
        for slot in index.slots(from, to) {
            bytes += slot.len as usize;
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            let payload = match &slot.payload {
                Some(payload) => payload.clone(),
                None => Arc::new(writer::payload(&self.shared.dir, reading, slot)?),
            };
            found.push((slot.id, payload));
        }
        Ok(found)
    }
}

impl Wal {
    /// Writes what waits and lets go of the files. Nothing can be written afterwards.
    pub(super) fn close(&self) {
        locked(&self.shared.state).is_closing = true;
        self.shared.work.notify_one();
        if let Some(writer) = locked(&self.writer).take() {
            // What it could not write it has told who waits.
            let _ = writer.join();
        }
        drop(locked(&self.lock).take());
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.close();
    }
}
