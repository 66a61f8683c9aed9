//! The segment file that is written now, and how files come to be whole or not at all.

use super::format::{FILE_HEADER, FileHeader};
use crate::error::AuditError;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

pub(super) const SUFFIX: &str = "seg";

/// The file that is written now.
pub(super) struct Active {
    pub(super) file: Arc<File>,
    pub(super) path: Arc<Path>,
    pub(super) first: u64,
    /// Where the next batch goes.
    pub(super) end: u64,
    /// Up to where the file has blocks.
    allocated: u64,
    /// Up to where it is on the platter.
    pub(super) synced: u64,
}

/// What a file is made longer with before it is written to.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl Active {
    pub(super) fn create(dir: &Path, header: FileHeader) -> Result<Self, AuditError> {
        let path = dir.join(format!("{:020}.{SUFFIX}", header.first));
        write_whole(dir, &path, &header.to_bytes())?;
        Self::open(&path, header.first, FILE_HEADER as u64)
    }

    /// Goes on writing a file after `end`, all of which is on the platter.
    pub(super) fn open(path: &Path, first: u64, end: u64) -> Result<Self, AuditError> {
        let io = || AuditError::io("opening", path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(io())?;
        let allocated = file.metadata().map_err(io())?.len();
        Ok(Self {
            file: Arc::new(file),
            path: path.into(),
            first,
            end,
            allocated,
            synced: end,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8], ahead: u64) -> std::io::Result<()> {
        let end = self.end + bytes.len() as u64;
        if end > self.allocated && ahead > 0 {
            while self.allocated < end + ahead {
                let some = (end + ahead - self.allocated).min(ZEROS.len() as u64);
                match self
                    .file
                    .write_all_at(&ZEROS[..some as usize], self.allocated)
                {
                    Ok(()) => self.allocated += some,
                    // There may still be room for the batch itself.
                    Err(_) => {
                        self.forget_tail()?;
                        break;
                    }
                }
            }
        }
        self.file.write_all_at(bytes, self.end)?;
        self.allocated = self.allocated.max(end);
        self.end = end;
        Ok(())
    }

    pub(super) fn forget_tail(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.end)?;
        self.allocated = self.end;
        Ok(())
    }

    pub(super) fn seal(&self, footer: &[u8]) -> std::io::Result<()> {
        // The entries first: a footer must not vouch for what a crash may still take.
        self.file.sync_data()?;
        self.file.write_all_at(footer, self.end)?;
        self.file.set_len(self.end + footer.len() as u64)?;
        self.file.sync_all()
    }
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), AuditError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(AuditError::io("syncing", dir))
}

/// Writes a file so that it is there whole or not at all.
pub(super) fn write_whole(dir: &Path, path: &Path, bytes: &[u8]) -> Result<(), AuditError> {
    let part = path.with_extension("part");
    let write = || {
        let file = File::create(&part)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(AuditError::io("writing", path))?;
    sync_dir(dir)
}
