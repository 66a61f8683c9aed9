//! A segment archive in a directory: another disk, a mounted share. Files are written once,
//! whole, and never again.

use super::active::sync_dir;
use super::open::check_segment;
use crate::error::AuditError;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Sealed segments in a directory.
#[derive(Debug, Clone)]
pub struct Directory(PathBuf);

impl Directory {
    /// Opens or creates it.
    ///
    /// # Errors
    /// If it can't be created.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        fs::create_dir_all(path).map_err(AuditError::io("creating", path))?;
        Ok(Self(path.to_owned()))
    }

    /// Copies a sealed segment there, read-only, and checks it first; true if it was not there
    /// yet.
    ///
    /// # Errors
    /// If the segment is damaged, the copy fails, or a file of that name with other bytes is
    /// there.
    pub fn put(&self, segment: &Path) -> Result<bool, AuditError> {
        let name = segment.file_name().unwrap_or_default();
        let target = self.0.join(name);
        if target.exists() {
            let same = same_bytes(segment, &target).map_err(AuditError::io("reading", &target))?;
            return if same {
                Ok(false)
            } else {
                Err(AuditError::Conflict(target))
            };
        }
        check_segment(segment)?;
        let part = target.with_extension("part");
        let copy = || {
            // What an interrupted copy left.
            let _ = fs::remove_file(&part);
            fs::copy(segment, &part)?;
            let file = File::open(&part)?;
            let mut permissions = file.metadata()?.permissions();
            permissions.set_readonly(true);
            file.set_permissions(permissions)?;
            file.sync_all()?;
            fs::rename(&part, &target)
        };
        copy().map_err(AuditError::io("copying to", &target))?;
        sync_dir(&self.0)?;
        Ok(true)
    }
}

fn same_bytes(a: &Path, b: &Path) -> io::Result<bool> {
    Ok(fs::metadata(a)?.len() == fs::metadata(b)?.len() && fs::read(a)? == fs::read(b)?)
}
