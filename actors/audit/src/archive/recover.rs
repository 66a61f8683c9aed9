//! Reads a segment file from its beginning and tells a torn tail from damage.

use super::format::{self, BATCH_MAGIC, FILE_HEADER, FileHeader, Footer, ReadBatch};
use crate::error::AuditError;
use hale_model::Digest;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What the batches of a file hold.
pub(super) struct Scan {
    pub(super) offsets: Vec<u32>,
    pub(super) leaves: Vec<Digest>,
    /// The last entry's hash, or the one before the file's first.
    pub(super) tip: Digest,
    /// Where the last whole batch ends.
    pub(super) end: u64,
    /// How many bytes after it are neither a batch nor room for one.
    pub(super) torn: u64,
}

/// Reads all batches. What follows the last whole one was cut short by a crash, unless a later
/// batch knew it to be on the platter: then it is damage.
pub(super) fn scan(path: &Path, file: &[u8], header: FileHeader) -> Result<Scan, AuditError> {
    let mut found = Scan {
        offsets: vec![],
        leaves: vec![],
        tip: header.previous,
        end: FILE_HEADER as u64,
        torn: 0,
    };
    // What follows is room that was made before it was needed: as long as all the rest, maybe.
    let used = file.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    loop {
        let at = found.end as usize;
        if at >= used {
            return Ok(found);
        }
        match format::read_batch(file, at) {
            Ok(batch) => take(path, header, &mut found, batch)?,
            Err(what) if was_on_the_platter(file, at) => {
                return Err(AuditError::damaged(path, at as u64, what));
            }
            Err(_) => {
                found.torn = (used - at) as u64;
                return Ok(found);
            }
        }
    }
}

fn take(path: &Path, header: FileHeader, found: &mut Scan, b: ReadBatch) -> Result<(), AuditError> {
    if b.first != header.first + found.offsets.len() as u64 {
        return Err(AuditError::damaged(
            path,
            found.end,
            "a batch is out of its place",
        ));
    }
    for framed in b.entries {
        let index = header.first + found.offsets.len() as u64;
        if framed.entry.index != index || framed.entry.previous != found.tip {
            let what = format!("entry {index} does not follow the one before it");
            return Err(AuditError::damaged(path, framed.offset, what));
        }
        found.offsets.push(framed.offset as u32);
        found.leaves.push(framed.leaf);
        found.tip = framed.hash;
    }
    found.end = b.end;
    Ok(())
}

/// Whether a whole batch after `at` says that the file was synced beyond `at` before.
fn was_on_the_platter(file: &[u8], at: usize) -> bool {
    (at + 1..file.len().saturating_sub(BATCH_MAGIC.len()))
        .filter(|p| file[*p..].starts_with(&BATCH_MAGIC))
        .filter_map(|p| format::read_batch(file, p).ok())
        .any(|later| later.synced > at as u64)
}

/// The footer of a sealed file and where it begins; `None` if the file is not sealed.
pub(super) fn footer(path: &Path, file: &File) -> Result<Option<(Footer, u64)>, AuditError> {
    let io = || AuditError::io("reading", path);
    let size = file.metadata().map_err(io())?.len();
    let Some(trailer_at) = size.checked_sub(Footer::TRAILER as u64) else {
        return Ok(None);
    };
    let mut trailer = [0; Footer::TRAILER];
    file.read_exact_at(&mut trailer, trailer_at).map_err(io())?;
    let Some(start) = Footer::len_from(&trailer).and_then(|len| size.checked_sub(len)) else {
        return Ok(None);
    };
    let mut bytes = vec![0; (size - start) as usize];
    file.read_exact_at(&mut bytes, start).map_err(io())?;
    Ok(Footer::read(&bytes).map(|f| (f, start)))
}
