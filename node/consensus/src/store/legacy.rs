//! The log as earlier versions kept it, with raft-log, of which this is the one home: read once and
//! written anew.

use super::wal::{self, Wal};
use super::words::{WalId, WalVote};
use super::{StoreError, log::open_error};
use raft_log::codeq::{Decode, Encode};
use raft_log::{Callback, RaftLog};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many bytes of entries are moved at once.
const MOVED_BYTES: usize = 4 << 20;

/// raft-log's words for log ids, votes and payloads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Words;

/// Nobody waits: the log is only read.
struct Nobody;

impl Callback for Nobody {
    fn send(self, _: io::Result<()>) {}
}

impl raft_log::Types for Words {
    type LogId = WalId;
    type LogPayload = Vec<u8>;
    type Vote = WalVote;
    type Callback = Nobody;
    type UserData = Vec<u8>;

    fn log_index(id: &WalId) -> u64 {
        id.index
    }

    fn payload_size(payload: &Vec<u8>) -> u64 {
        payload.len() as u64
    }
}

impl Encode for WalId {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        Ok(self.term.encode(&mut w)? + self.node.encode(&mut w)? + self.index.encode(&mut w)?)
    }
}

impl Decode for WalId {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        Ok(Self {
            term: u64::decode(&mut r)?,
            node: u64::decode(&mut r)?,
            index: u64::decode(&mut r)?,
        })
    }
}

impl Encode for WalVote {
    fn encode<W: Write>(&self, mut w: W) -> io::Result<usize> {
        let n = self.term.encode(&mut w)? + self.node.encode(&mut w)?;
        Ok(n + u8::from(self.committed).encode(&mut w)?)
    }
}

impl Decode for WalVote {
    fn decode<R: Read>(mut r: R) -> io::Result<Self> {
        Ok(Self {
            term: u64::decode(&mut r)?,
            node: u64::decode(&mut r)?,
            committed: u8::decode(&mut r)? != 0,
        })
    }
}

/// The files of a log of that kind.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    for file in fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name();
        let is_one = |name: &str| name.starts_with("r-") && name.ends_with(".wal");
        if name.to_str().is_some_and(is_one) {
            found.push(file.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a log of that kind anew, if there is one in the directory. A crash on the way leaves the
/// old one, or both, of which the new one is whole.
pub(super) fn move_over(dir: &Path) -> Result<(), StoreError> {
    let old = files(dir).map_err(StoreError::io(dir))?;
    if old.is_empty() {
        return Ok(());
    }
    let moved = || -> io::Result<()> {
        for file in &old {
            fs::remove_file(file)?;
        }
        File::open(dir)?.sync_all()
    };
    // The first segment is put in place last.
    if !wal::has_first(dir) {
        let new = dir.with_extension("moving");
        let fresh = || match fs::remove_dir_all(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => fs::create_dir_all(&new),
        };
        fresh().map_err(StoreError::io(&new))?;
        copy(dir, &new)?;
        let placed = wal::replace(&new, dir).and_then(|()| fs::remove_dir_all(&new));
        placed.map_err(StoreError::io(dir))?;
    }
    moved().map_err(StoreError::io(dir))?;
    tracing::info!(path = %dir.display(), "the Raft log was written anew in this version's format");
    Ok(())
}

fn copy(dir: &Path, new: &Path) -> Result<(), StoreError> {
    let mut config = raft_log::Config::new(dir.display());
    config.wal.read_buffer_size = Some(1 << 20);
    let old = RaftLog::<Words>::open(Arc::new(config)).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => StoreError::InUse {
            path: dir.to_owned(),
        },
        io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull => StoreError::io(dir)(e),
        _ => StoreError::damaged(dir, e),
    })?;
    let wal = Wal::open(new).map_err(|e| open_error(new, e))?;
    let moved = || -> io::Result<()> {
        let state = old.log_state();
        if let Some(purged) = state.purged() {
            wal.purge(*purged)?;
        }
        let (mut some, mut bytes) = (vec![], 0);
        for entry in old.read(0, u64::MAX) {
            let entry = entry?;
            bytes += entry.1.len();
            some.push(entry);
            if bytes > MOVED_BYTES {
                wal.append(std::mem::take(&mut some))?;
                wal.sync_and_wait()?;
                bytes = 0;
            }
        }
        wal.append(some)?;
        if let Some(committed) = state.committed() {
            wal.commit(*committed)?;
        }
        if let Some(vote) = state.vote() {
            wal.save_vote(*vote)?;
        }
        wal.sync_and_wait()
    };
    moved().map_err(|e| match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::PermissionDenied => StoreError::io(new)(e),
        _ => StoreError::damaged(dir, e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_log::api::raft_log_writer::RaftLogWriter;

    fn id(index: u64) -> WalId {
        WalId {
            term: 2,
            node: 5,
            index,
        }
    }

    /// A log as an earlier version left it: entries 4 to 29 after what was purged.
    fn earlier(dir: &Path) {
        let mut config = raft_log::Config::new(dir.display());
        config.wal.chunk_max_records = Some(8);
        let mut log = RaftLog::<Words>::open(Arc::new(config)).unwrap();
        log.save_vote(WalVote {
            term: 2,
            node: 5,
            committed: true,
        })
        .unwrap();
        log.append((0..30).map(|n| (id(n), vec![n as u8; 700_000])))
            .unwrap();
        log.commit(id(20)).unwrap();
        log.purge(id(3)).unwrap();
        log.flush(true, None).unwrap();
    }

    fn is_moved(dir: &Path) {
        assert!(files(dir).unwrap().is_empty());
        let wal = Wal::open(dir).unwrap();
        assert_eq!(wal.vote().map(|v| (v.term, v.committed)), Some((2, true)));
        assert_eq!((wal.purged(), wal.committed()), (Some(id(3)), Some(id(20))));
        let entries = wal.read(0, u64::MAX, usize::MAX).unwrap();
        assert_eq!(entries.len(), 26);
        for ((found, payload), n) in entries.iter().zip(4..) {
            assert_eq!((found, &**payload), (&id(n), &vec![n as u8; 700_000]));
        }
    }

    #[test]
    fn an_earlier_versions_log_is_moved_also_if_that_was_cut_short() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("log");
        fs::create_dir(&dir).unwrap();
        earlier(&dir);
        let old = files(&dir).unwrap();
        let old: Vec<_> = old.iter().map(|f| (f, fs::read(f).unwrap())).collect();
        move_over(&dir).unwrap();
        move_over(&dir).unwrap();
        is_moved(&dir);
        // The old files were not deleted yet.
        for (file, bytes) in &old {
            fs::write(file, bytes).unwrap();
        }
        move_over(&dir).unwrap();
        is_moved(&dir);
        // Not all of the new ones were in place.
        fs::remove_file(dir.join(format!("{:020}.wal", 1))).unwrap();
        for (file, bytes) in &old {
            fs::write(file, bytes).unwrap();
        }
        fs::create_dir(dir.with_extension("moving")).unwrap();
        move_over(&dir).unwrap();
        is_moved(&dir);
        assert!(!dir.with_extension("moving").exists());
    }
}
