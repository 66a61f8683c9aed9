//! The chain in segment files: appended, synced, sealed at a size, read by entry number.
//!
//! What [`Segments::sync`] returned for is on the platter. What a crash leaves is a prefix of
//! what was appended, with all that was synced. A write or sync that fails stops the archive
//! until it is opened anew: after a failed fsync nobody knows what is on the platter.

use super::active::{Active, sync_dir, write_whole};
use super::directory::Directory;
use super::format::{self, FileHeader, Footer};
use super::open::{load, lock};
use super::read::{Entries, Source};
use crate::error::AuditError;
use crate::merkle::Frontier;
use hale_model::Digest;
use hale_model::chain::{ChainError, Entry, HEADER_BYTES};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The most bytes of entries in one batch: what is read back at once.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// Sizes.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A segment of this many bytes is sealed; at most 1 GiB.
    pub segment_bytes: u64,
    /// How many bytes are zeroed ahead of the writer, so that a sync writes data alone.
    pub preallocate_bytes: u64,
    /// Sealed segments are read and checked whole on opening, newest first, up to so many bytes;
    /// the rest is checked when it is read.
    pub check_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            preallocate_bytes: 1 << 20,
            check_bytes: 64 << 20,
        }
    }
}

/// What a crash left after the last whole batch; it was cut off on opening. A copy is kept: should
/// it not have been a crash but damage, it is what an examiner needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// In which file.
    pub path: PathBuf,
    /// Where.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The file that they are kept in.
    pub kept: PathBuf,
}

/// The chain on disk. One caller writes, any number may read.
pub struct Segments {
    dir: PathBuf,
    options: Options,
    writer: Mutex<Writer>,
    view: RwLock<View>,
    torn: Option<TornTail>,
    /// Held as long as this value lives.
    _lock: File,
}

#[derive(Default)]
pub(super) struct Writer {
    pub(super) active: Option<Active>,
    /// Entries before this one may be in a segment archive.
    pub(super) published: u64,
    pub(super) failed: bool,
}

/// What readers see.
pub(super) struct View {
    pub(super) sealed: Vec<Sealed>,
    pub(super) active: Option<(Arc<File>, Arc<Path>, u64)>,
    /// The active file's index.
    pub(super) offsets: Vec<u32>,
    pub(super) frontier: Frontier,
    pub(super) tip: Digest,
}

#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) path: Arc<Path>,
    pub(super) first: u64,
    pub(super) end: u64,
}

impl Segments {
    /// Opens the chain in `dir`, or founds it. A tail that a crash tore is cut off.
    ///
    /// # Errors
    /// If the directory can't be used or is in use, or if what was synced is damaged.
    pub fn open(dir: &Path, options: Options) -> Result<Self, AuditError> {
        fs::create_dir_all(dir).map_err(AuditError::io("creating", dir))?;
        let lock = lock(dir)?;
        let (view, writer, torn) = load(dir, options)?;
        Ok(Self {
            dir: dir.to_owned(),
            options,
            writer: Mutex::new(writer),
            view: RwLock::new(view),
            torn,
            _lock: lock,
        })
    }

    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.view().frontier.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last entry's hash; [`Digest::ZERO`] if there is none.
    pub fn tip(&self) -> Digest {
        self.view().tip
    }

    /// The root of the Merkle tree over all entries.
    pub fn root(&self) -> Digest {
        self.view().frontier.root()
    }

    /// The tree and the last entry's hash, of one moment: what a checkpoint signs.
    pub fn state(&self) -> (Frontier, Digest) {
        let view = self.view();
        (view.frontier.clone(), view.tip)
    }

    /// What was cut off on opening, if anything: bytes that nobody was told are safe.
    pub fn torn(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// The entries of a range, as many of it as there are.
    pub fn read(&self, range: Range<u64>) -> Entries {
        let view = self.view();
        let end = range.end.min(view.frontier.size());
        let range = range.start.min(end)..end;
        let mut sources: VecDeque<_> = view
            .sealed
            .iter()
            .filter(|s| s.end > range.start && s.first < range.end)
            .map(|s| (s.first, Source::Sealed(s.path.clone())))
            .collect();
        if let Some((file, path, first)) = &view.active
            && range.end > *first
        {
            // Only the part of the index that is asked for.
            let from = range.start.saturating_sub(*first);
            let offsets = view.offsets[from as usize..(range.end - first) as usize].to_vec();
            let (file, path) = (file.clone(), path.clone());
            sources.push_back((
                first + from,
                Source::Active {
                    file,
                    path,
                    offsets,
                },
            ));
        }
        Entries::new(sources, range)
    }

    /// Puts entries at the end. They are safe once [`Segments::sync`] has returned.
    ///
    /// # Errors
    /// If they do not follow the last entry, or can't be written. Of entries over 8 MiB in all a
    /// first part may then be there; [`Segments::len`] says so.
    pub fn append(&self, entries: &[Entry]) -> Result<(), AuditError> {
        let mut writer = self.writer();
        self.check_can_write(&writer)?;
        self.check_follows(entries)?;
        let mut rest = entries;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch_len(rest));
            self.append_batch(&mut writer, now)?;
            rest = later;
        }
        Ok(())
    }

    /// Returns when all that was appended is on the platter.
    ///
    /// # Errors
    /// If the disk does not take it; nothing more is taken then.
    pub fn sync(&self) -> Result<(), AuditError> {
        let mut writer = self.writer();
        self.check_can_write(&writer)?;
        let Some(active) = &mut writer.active else {
            return Ok(());
        };
        if active.synced < active.end {
            if let Err(e) = active.file.sync_data() {
                let error = AuditError::io("syncing", &active.path)(e);
                writer.failed = true;
                return Err(error);
            }
            active.synced = active.end;
        }
        Ok(())
    }

    /// Forgets all entries from number `len` on, for good.
    ///
    /// # Errors
    /// If there are not that many, some of the rest are published, or the disk fails.
    pub fn truncate_to(&self, len: u64) -> Result<(), AuditError> {
        let mut writer = self.writer();
        self.check_can_write(&writer)?;
        let have = self.len();
        if len > have {
            return Err(AuditError::TooShort { asked: len, have });
        }
        if len < writer.published {
            return Err(AuditError::Published {
                asked: len,
                published: writer.published,
            });
        }
        // Until it is loaded anew, nothing in memory can be trusted.
        writer.failed = true;
        self.cut(len)?;
        let (view, fresh, _) = load(&self.dir, self.options)?;
        *self.view_mut() = view;
        *writer = fresh;
        Ok(())
    }

    /// Copies all sealed segments to a segment archive, and gives the number of entries that are
    /// there. Copying again what is there changes nothing.
    ///
    /// # Errors
    /// If a copy fails, or another file of that name is there.
    pub fn publish(&self, to: &Directory) -> Result<u64, AuditError> {
        let sealed = self.view().sealed.clone();
        for segment in &sealed {
            // First the mark, then the copy: what may be published is never cut.
            let mut writer = self.writer();
            if writer.published < segment.end {
                let mark = self.dir.join("published");
                write_whole(&self.dir, &mark, format!("{}\n", segment.end).as_bytes())?;
                writer.published = segment.end;
            }
            drop(writer);
            to.put(&segment.path)?;
        }
        Ok(sealed.last().map_or(0, |s| s.end))
    }

    /// Seals the segment that is written now, whatever its size: before a backup.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn seal(&self) -> Result<(), AuditError> {
        let mut writer = self.writer();
        self.check_can_write(&writer)?;
        if self.view().offsets.is_empty() {
            Ok(())
        } else {
            self.seal_active(&mut writer)
        }
    }

    fn check_can_write(&self, writer: &Writer) -> Result<(), AuditError> {
        if writer.failed {
            Err(AuditError::Failed(self.dir.clone()))
        } else {
            Ok(())
        }
    }

    fn check_follows(&self, entries: &[Entry]) -> Result<(), AuditError> {
        let (mut index, mut tip) = (self.len(), self.tip());
        for entry in entries {
            if entry.index != index {
                let wrong = ChainError::Index {
                    expected: index,
                    found: entry.index,
                };
                return Err(AuditError::DoesNotFollow(wrong));
            }
            if entry.previous != tip {
                let found = entry.previous;
                return Err(AuditError::DoesNotFollow(ChainError::Broken {
                    index,
                    expected: tip,
                    found,
                }));
            }
            (index, tip) = (index + 1, entry.hash());
        }
        Ok(())
    }

    fn append_batch(&self, writer: &mut Writer, entries: &[Entry]) -> Result<(), AuditError> {
        if writer
            .active
            .as_ref()
            .is_some_and(|a| a.end >= self.options.segment_bytes)
        {
            self.seal_active(writer)?;
        }
        if writer.active.is_none() {
            let header = FileHeader {
                first: self.len(),
                previous: self.tip(),
            };
            let active = Active::create(&self.dir, header)?;
            self.view_mut().active = Some((active.file.clone(), active.path.clone(), active.first));
            writer.active = Some(active);
        }
        let Some(active) = &mut writer.active else {
            return Ok(());
        };
        let batch = format::batch(entries, active.end, active.synced);
        if let Err(source) = active.write(&batch.bytes, self.options.preallocate_bytes) {
            // What was written in part is cut off again; a full disk is no damage.
            let error = AuditError::io("writing to", &active.path)(source);
            writer.failed = active.forget_tail().is_err();
            return Err(error);
        }
        let mut view = self.view_mut();
        view.offsets.extend(batch.offsets);
        batch.leaves.into_iter().for_each(|l| view.frontier.push(l));
        view.tip = batch.tip;
        Ok(())
    }

    fn seal_active(&self, writer: &mut Writer) -> Result<(), AuditError> {
        let Some(active) = writer.active.take() else {
            return Ok(());
        };
        let mut view = self.view_mut();
        let footer = Footer {
            first: active.first,
            tip: view.tip,
            frontier: view.frontier.clone(),
            offsets: view.offsets.clone(),
        };
        if let Err(source) = active.seal(&footer.to_bytes()) {
            writer.failed = true;
            return Err(AuditError::io("sealing", &active.path)(source));
        }
        let end = active.first + footer.offsets.len() as u64;
        view.sealed.push(Sealed {
            path: active.path.clone(),
            first: active.first,
            end,
        });
        view.active = None;
        view.offsets.clear();
        Ok(())
    }

    /// Removes whole files from the newest on, so that a crash between leaves a prefix, then
    /// writes anew the one that is cut.
    fn cut(&self, len: u64) -> Result<(), AuditError> {
        let view = self.view();
        let mut files = view.sealed.clone();
        if let Some((_, path, first)) = &view.active {
            files.push(Sealed {
                path: path.clone(),
                first: *first,
                end: view.frontier.size(),
            });
        }
        drop(view);
        for file in files
            .into_iter()
            .rev()
            .take_while(|f| f.end > len || f.first >= len)
        {
            if file.first >= len {
                fs::remove_file(&file.path).map_err(AuditError::io("removing", &file.path))?;
                sync_dir(&self.dir)?;
                continue;
            }
            let kept: Vec<_> = self.read(file.first..len).collect::<Result<_, _>>()?;
            let previous = kept.first().map_or(Digest::ZERO, |e| e.previous);
            let mut bytes = FileHeader {
                first: file.first,
                previous,
            }
            .to_bytes();
            let mut rest = &kept[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(batch_len(rest));
                let at = bytes.len() as u64;
                bytes.extend(format::batch(now, at, at).bytes);
                rest = later;
            }
            write_whole(&self.dir, &file.path, &bytes)?;
        }
        Ok(())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of the entries go into one batch: at least one.
fn batch_len(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |e: &&Entry| {
        bytes += HEADER_BYTES + e.body.len();
        bytes <= MAX_BATCH_BYTES
    };
    entries.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
#[path = "segments_tests.rs"]
mod tests;
