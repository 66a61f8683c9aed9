//! Reading the log anew.

use super::frame;
use super::index::Index;
use super::writer::{self, begin_segment, path};
use super::{Next, Shared, State, Times};
use crate::store::write_by;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};

/// Why a log can't be opened.
#[derive(Debug)]
pub(in crate::store) enum OpenError {
    /// Another process has it.
    InUse,
    Io(io::Error),
    /// What is there was changed after it was written.
    Damaged(PathBuf, String),
}

impl From<io::Error> for OpenError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// The segments in a directory, by number.
fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = vec![];
    for file in fs::read_dir(dir)? {
        let name = file?.file_name();
        let number = name.to_str().and_then(|n| n.strip_suffix(".wal"));
        let number = number.filter(|n| n.len() == 20 && n.bytes().all(|b| b.is_ascii_digit()));
        found.extend(number.and_then(|n| n.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether the directory has the first segment there ever was.
pub(in crate::store) fn has_first(dir: &Path) -> bool {
    path(dir, 1).exists()
}

/// Puts the segments of a log that nobody has open in place of those of another, the first last.
///
/// # Errors
/// If a file can't be moved.
pub(in crate::store) fn replace(log: &Path, other: &Path) -> io::Result<()> {
    writer::delete(other, &mut segments(other)?)?;
    for segment in segments(log)?.into_iter().rev() {
        fs::rename(path(log, segment), path(other, segment))?;
        File::open(other)?.sync_all()?;
    }
    Ok(())
}

pub(super) fn open(dir: &Path) -> Result<(Shared, File), OpenError> {
    let lock = File::create(dir.join("LOCK"))?;
    lock.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => OpenError::InUse,
        TryLockError::Error(e) => OpenError::Io(e),
    })?;
    let (index, last, number) = read(dir)?;
    let mut state = State {
        index,
        next: Next {
            segment: 0,
            at: 0,
            number,
            bytes: vec![0; frame::FRAME_HEAD_BYTES],
            idle: 0,
            waiting: vec![],
            is_wanted: false,
        },
        times: Times::default(),
        is_closing: false,
        failed: None,
        reading: None,
    };
    let gone = state.index.said.purged.map(|p| p.index);
    let gone = gone.map(|upto| state.index.take_purged(upto, last));
    begin_segment(&mut state, last + 1);
    writer::delete(dir, &mut gone.unwrap_or_default())?;
    let shared = Shared {
        dir: dir.to_owned(),
        state: Mutex::new(state),
        work: Condvar::new(),
    };
    Ok((shared, lock))
}

/// What the segments say, the number of the last one, and that of the frame to come.
fn read(dir: &Path) -> Result<(Index, u64, u64), OpenError> {
    let mut index = Index::default();
    let numbers = segments(dir)?;
    let (mut before, mut next) = (None, None);
    for segment in &numbers {
        let path = path(dir, *segment);
        let damaged = |what: String| OpenError::Damaged(path.clone(), what);
        if before.is_some_and(|before| before + 1 != *segment) {
            return Err(damaged("the segment before it is missing".to_owned()));
        }
        before = Some(*segment);
        let bytes = fs::read(&path)?;
        let scan = frame::scan(&bytes, *segment, next).map_err(damaged)?;
        let is_last = Some(segment) == numbers.last();
        if !is_last && (!scan.ends_clean || scan.frames.is_empty()) {
            let what = format!("the bytes at {} are not what was written", scan.end);
            return Err(damaged(what));
        }
        for body in &scan.frames {
            let records = frame::records(&bytes[body.clone()]).map_err(damaged)?;
            for (record, at) in records {
                let at = (body.start + at) as u64;
                index.replay(&record, *segment, at).map_err(damaged)?;
            }
        }
        next = match scan.first {
            Some(first) => Some(first + scan.frames.len() as u64),
            None => next,
        };
        if !scan.ends_clean {
            let (path, at) = (path.display(), scan.end);
            tracing::warn!(%path, at, "what a crash cut short is dropped from the Raft log's end");
        }
        if is_last {
            settle(dir, &path, &bytes[..scan.end], scan.frames.is_empty())?;
        }
        if !scan.frames.is_empty() {
            index.close(*segment, scan.end as u64);
        }
    }
    if let Some(last) = numbers.last() {
        let whole = index.is_whole();
        whole.map_err(|what| OpenError::Damaged(path(dir, *last), what))?;
    }
    // A segment that a crash made void is gone, and its number free.
    let last = index.newest_closed().unwrap_or(0);
    Ok((index, last, next.unwrap_or(1)))
}

/// After a sync that failed, the kernel may show bytes that are not on the disk and never write
/// them (the page is marked clean). So what a new start is about to trust, of the newest segment,
/// is written to a new file and synced; what a crash cut short is left out.
fn settle(dir: &Path, path: &Path, bytes: &[u8], is_void: bool) -> io::Result<()> {
    if is_void {
        fs::remove_file(path)?;
    } else {
        write_by(&dir.with_extension("new"), path, bytes)?;
    }
    File::open(dir)?.sync_all()
}
