//! The one who writes, and waits for the disk: a thread of the log's own.

use super::index::Slot;
use super::{Callback, Next, Shared, State, TIMES_KEPT, frame};
use crate::store::locked;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// A buffer larger than this is not kept.
const MOST_SPARE_BYTES: usize = 1 << 20;

pub(super) fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:020}.wal"))
}

/// The frame that is next, taken to be written.
struct Job {
    segment: u64,
    at: u64,
    /// Where in the segment it ends.
    end: u64,
    bytes: Vec<u8>,
    waiting: Vec<Callback>,
    /// What is purged once it is on the disk.
    purged: Option<u64>,
}

/// The segment that is written to.
struct Current {
    number: u64,
    file: File,
    end: u64,
}

pub(super) fn start(shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("hale-log".to_owned())
        .spawn(move || run(&shared))
}

fn run(shared: &Shared) {
    let mut current: Option<Current> = None;
    let mut spare = vec![];
    // Segments to delete, oldest first: none before an older one, or the row would have a gap.
    let mut gone = vec![];
    while let Some(job) = next(shared, std::mem::take(&mut spare)) {
        let began = Instant::now();
        let result = write(&shared.dir, &mut current, &job);
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        {
            let mut state = locked(&shared.state);
            match &result {
                Ok(()) if job.bytes.is_empty() => {}
                Ok(()) => {
                    let times = &mut state.times;
                    times.count += 1;
                    times.total_us += took;
                    times.max_us = times.max_us.max(took);
                    times.written_bytes += job.bytes.len() as u64;
                    times.newest.push_back(took);
                    if times.newest.len() > TIMES_KEPT {
                        times.newest.pop_front();
                    }
                    state.index.shrink((job.segment, job.end));
                    if let Some(purged) = job.purged {
                        gone.extend(state.index.take_purged(purged, job.segment));
                    }
                }
                Err(e) => state.failed = Some((e.kind(), e.to_string())),
            }
        }
        for waits in job.waiting {
            waits(match &result {
                Ok(()) => Ok(()),
                Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
            });
        }
        if result.is_err() {
            return give_up(shared);
        }
        if let Err(e) = delete(&shared.dir, &mut gone) {
            // They are in nobody's way, and go with the next, or when the log is opened next.
            tracing::warn!(error = %e, "purged segments of the Raft log can't be deleted");
        }
        if job.bytes.capacity() <= MOST_SPARE_BYTES {
            spare = job.bytes;
        }
    }
    if let Some(current) = current {
        // What is reserved and unused is zeros, which the next start reads over.
        let _ = current
            .file
            .set_len(current.end)
            .and_then(|()| current.file.sync_all());
    }
}

/// Waits for something to write, and takes it. `None` when the log was let go of.
fn next(shared: &Shared, mut spare: Vec<u8>) -> Option<Job> {
    let mut state = locked(&shared.state);
    while !state.next.is_wanted {
        if state.is_closing {
            if !state.next.says_something() {
                return None;
            }
            break;
        }
        state = shared
            .work
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
    }
    spare.clear();
    Some(take(&mut state, spare))
}

fn take(state: &mut State, mut spare: Vec<u8>) -> Job {
    let purged = state.index.said.purged.map(|p| p.index);
    let Next {
        segment,
        at,
        number,
        ..
    } = state.next;
    state.next.is_wanted = false;
    let waiting = std::mem::take(&mut state.next.waiting);
    let mut bytes = vec![];
    if state.next.says_something() {
        spare.resize(frame::FRAME_HEAD_BYTES, 0);
        bytes = std::mem::replace(&mut state.next.bytes, spare);
        frame::seal(segment, number, &mut bytes);
        state.next.idle = frame::FRAME_HEAD_BYTES;
        state.next.number += 1;
        state.next.at = at + bytes.len() as u64;
        if state.next.at >= super::SEGMENT_BYTES {
            state.index.close(segment, state.next.at);
            begin_segment(state, segment + 1);
        }
    }
    Job {
        segment,
        at,
        end: at + bytes.len() as u64,
        bytes,
        waiting,
        purged,
    }
}

/// What is written next begins a segment; the first it says is what the earlier ones said.
pub(super) fn begin_segment(state: &mut State, segment: u64) {
    state.next.segment = segment;
    state.next.at = frame::HEADER_BYTES as u64;
    let said = state.index.said;
    state.next.put(&frame::Record::State(said));
    state.next.idle = state.next.bytes.len();
}

fn write(dir: &Path, current: &mut Option<Current>, job: &Job) -> io::Result<()> {
    if job.bytes.is_empty() {
        // All that was said is on the disk: nobody is told of a frame before it is.
        return Ok(());
    }
    match current {
        Some(current) if current.number == job.segment => {
            current.file.write_all_at(&job.bytes, job.at)?;
            current.file.sync_data()?;
            current.end = job.end;
        }
        _ => *current = Some(create(dir, job)?),
    }
    Ok(())
}

/// Makes a segment with its first frame.
fn create(dir: &Path, job: &Job) -> io::Result<Current> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path(dir, job.segment))?;
    let room = super::SEGMENT_BYTES.max(job.end);
    match fallocate(&file, FallocateFlags::empty(), 0, room) {
        Ok(()) => {}
        // Without the room it works too, only slower; whether there is any, the write will tell.
        Err(e) => tracing::debug!(error = %e, "no room is reserved for the Raft log"),
    }
    file.write_all_at(&frame::header(job.segment), 0)?;
    file.write_all_at(&job.bytes, job.at)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(Current {
        number: job.segment,
        file,
        end: job.end,
    })
}

/// The disk failed: whoever asks from now on is told so.
fn give_up(shared: &Shared) {
    let mut state = locked(&shared.state);
    let waiting = std::mem::take(&mut state.next.waiting);
    let failed = state.failed.clone();
    drop(state);
    for waits in waiting {
        let failed = failed.as_ref().map(super::failure);
        waits(failed.map_or(Ok(()), Err));
    }
}

/// Deletes segments, oldest first; what is left of them could not be deleted.
pub(super) fn delete(dir: &Path, segments: &mut Vec<u64>) -> io::Result<()> {
    if segments.is_empty() {
        return Ok(());
    }
    while let Some(oldest) = segments.first() {
        fs::remove_file(path(dir, *oldest))?;
        segments.remove(0);
    }
    File::open(dir)?.sync_all()
}

/// Reads an entry's payload from its segment; the file that was read last stays open.
pub(super) fn payload(
    dir: &Path,
    reading: &mut Option<(u64, File)>,
    slot: &Slot,
) -> io::Result<Vec<u8>> {
    let file = match reading {
        Some((segment, file)) if *segment == slot.segment => file,
        _ => {
            let file = File::open(path(dir, slot.segment))?;
            &mut reading.insert((slot.segment, file)).1
        }
    };
    // The checksum stands before it.
    let mut bytes = vec![0; slot.len as usize + 4];
    file.read_exact_at(&mut bytes, slot.at - 4)?;
    if !frame::payload_is_whole(&bytes) {
        let why = format!(
            "entry {} in {} is not what was written",
            slot.id.index,
            path(dir, slot.segment).display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(bytes.split_off(4))
}
