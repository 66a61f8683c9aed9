//! Finds out what is on disk: which segments, whether they go on from each other, and what a crash
//! left at the end.

use super::active::{Active, SUFFIX, sync_dir};
use super::format::{FILE_HEADER, FileHeader};
use super::recover;
use super::segments::{Options, Sealed, TornTail, View, Writer};
use crate::error::AuditError;
use crate::merkle::Frontier;
use hale_model::Digest;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(super) fn lock(dir: &Path) -> Result<File, AuditError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(AuditError::io("opening", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AuditError::InUse(dir.to_owned())),
        Err(TryLockError::Error(e)) => Err(AuditError::io("locking", &path)(e)),
    }
}

/// Segment files by the number of their first entry.
pub(super) fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, AuditError> {
    let mut found = vec![];
    for item in fs::read_dir(dir).map_err(AuditError::io("listing", dir))? {
        let path = item.map_err(AuditError::io("listing", dir))?.path();
        let stem = path
            .file_stem()
            .and_then(|s| s.to_str())
            .and_then(|s| s.parse().ok());
        match (path.extension().and_then(|e| e.to_str()), stem) {
            (Some(SUFFIX), Some(first)) => found.push((first, path)),
            // What a crash left half-written.
            (Some("part"), _) => {
                fs::remove_file(&path).map_err(AuditError::io("removing", &path))?
            }
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

pub(super) fn load(
    dir: &Path,
    options: Options,
) -> Result<(View, Writer, Option<TornTail>), AuditError> {
    let mut files = list(dir)?;
    drop_unborn(dir, &mut files)?;
    let (mut writer, mut torn) = (Writer::default(), None);
    let mut view = View {
        sealed: vec![],
        active: None,
        offsets: vec![],
        frontier: Frontier::default(),
        tip: Digest::ZERO,
    };
    let last = files.len().saturating_sub(1);
    for (i, (first, path)) in files.iter().enumerate() {
        let file = File::open(path).map_err(AuditError::io("opening", path))?;
        let mut head = [0; FILE_HEADER];
        file.read_exact_at(&mut head, 0)
            .map_err(AuditError::io("reading", path))?;
        let header = FileHeader::read(&head).ok_or_else(|| {
            AuditError::damaged(path, 0, "its header does not match its checksum")
        })?;
        let expected = FileHeader {
            first: view.frontier.size(),
            previous: view.tip,
        };
        if header != expected || *first != header.first {
            let what = format!(
                "it does not go on where entry {} should come",
                expected.first
            );
            return Err(AuditError::damaged(path, 0, what));
        }
        if let Some((footer, at)) = recover::footer(path, &file)? {
            if footer.first != *first {
                return Err(AuditError::damaged(
                    path,
                    at,
                    "its footer is another file's",
                ));
            }
            view.tip = footer.tip;
            let end = footer.frontier.size();
            view.frontier = footer.frontier;
            view.sealed.push(Sealed {
                path: path.as_path().into(),
                first: *first,
                end,
            });
        } else if i == last {
            torn = load_active(path, header, &mut view, &mut writer)?;
        } else {
            let size = file
                .metadata()
                .map_err(AuditError::io("reading", path))?
                .len();
            return Err(AuditError::damaged(
                path,
                size,
                "its footer is gone or damaged",
            ));
        }
    }
    check_sealed(&view, options.check_bytes)?;
    let mark = fs::read_to_string(dir.join("published")).unwrap_or_default();
    writer.published = mark.trim().parse().unwrap_or(0);
    Ok((view, writer, torn))
}

/// A last file shorter than its header holds nothing.
fn drop_unborn(dir: &Path, files: &mut Vec<(u64, PathBuf)>) -> Result<(), AuditError> {
    let Some((_, path)) = files.last() else {
        return Ok(());
    };
    let size = fs::metadata(path)
        .map_err(AuditError::io("reading", path))?
        .len();
    if size < FILE_HEADER as u64 {
        fs::remove_file(path).map_err(AuditError::io("removing", path))?;
        sync_dir(dir)?;
        files.pop();
    }
    Ok(())
}

fn load_active(
    path: &Path,
    header: FileHeader,
    view: &mut View,
    writer: &mut Writer,
) -> Result<Option<TornTail>, AuditError> {
    let bytes = fs::read(path).map_err(AuditError::io("reading", path))?;
    let scan = recover::scan(path, &bytes, header)?;
    scan.leaves.iter().for_each(|l| view.frontier.push(*l));
    view.tip = scan.tip;
    view.offsets = scan.offsets;
    let mut active = Active::open(path, header.first, scan.end)?;
    let torn = (scan.torn > 0).then(|| TornTail {
        path: path.to_owned(),
        offset: scan.end,
        bytes: scan.torn,
        kept: path.with_extension(format!("torn-at-{}", scan.end)),
    });
    let settle = |active: &mut Active| {
        if let Some(torn) = &torn {
            let from = torn.offset as usize;
            let tail = bytes.get(from..from + torn.bytes as usize);
            let mut copy = File::create(&torn.kept)?;
            copy.write_all(tail.unwrap_or_default())?;
            copy.sync_all()?;
            active.forget_tail()?;
        }
        // A crash may have left whole batches that were never synced; they are from here on.
        active.file.sync_all()
    };
    settle(&mut active).map_err(AuditError::io("syncing", path))?;
    view.active = Some((active.file.clone(), active.path.clone(), active.first));
    writer.active = Some(active);
    Ok(torn)
}

/// Reads sealed segments whole, newest first, as many as go into `budget` bytes.
fn check_sealed(view: &View, mut budget: u64) -> Result<(), AuditError> {
    for sealed in view.sealed.iter().rev() {
        let size = fs::metadata(&sealed.path)
            .map_err(AuditError::io("reading", &sealed.path))?
            .len();
        let Some(left) = budget.checked_sub(size) else {
            return Ok(());
        };
        budget = left;
        check_segment(&sealed.path)?;
    }
    Ok(())
}

/// Reads a sealed segment file whole and holds it against its footer.
///
/// # Errors
/// If it is not sealed or damaged.
pub fn check_segment(path: &Path) -> Result<(), AuditError> {
    let file = File::open(path).map_err(AuditError::io("opening", path))?;
    let bytes = fs::read(path).map_err(AuditError::io("reading", path))?;
    let header = FileHeader::read(&bytes)
        .ok_or_else(|| AuditError::damaged(path, 0, "its header does not match its checksum"))?;
    let (footer, end) = recover::footer(path, &file)?.ok_or_else(|| {
        AuditError::damaged(path, bytes.len() as u64, "its footer is gone or damaged")
    })?;
    let scan = recover::scan(path, &bytes[..end as usize], header)?;
    if scan.end != end || scan.torn > 0 {
        return Err(AuditError::damaged(
            path,
            scan.end,
            "a batch does not match its checksum",
        ));
    }
    if scan.tip != footer.tip || scan.offsets != footer.offsets || header.first != footer.first {
        return Err(AuditError::damaged(
            path,
            end,
            "its footer does not fit its entries",
        ));
    }
    Ok(())
}
