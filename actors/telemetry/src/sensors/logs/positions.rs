//! Up to where each file's lines were handed on, kept over restarts in a small JSON file.

use super::find::FileId;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The most bytes such a file may have; one position takes some 200.
const MAX_FILE_BYTES: u64 = 8 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Positions {
    /// The configured patterns, to know a new file of an old pattern from an old file of a new one.
    patterns: Vec<String>,
    files: Vec<Position>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) path: String,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Where the last whole line ended.
    pub(super) offset: u64,
    /// The file's first bytes, to know it from another that got its inode.
    pub(super) head: Vec<u8>,
}

impl Position {
    pub(super) fn id(&self) -> FileId {
        FileId {
            device: self.device,
            inode: self.inode,
        }
    }
}

impl Positions {
    pub(super) fn new(patterns: Vec<String>, files: Vec<Position>) -> Self {
        Self { patterns, files }
    }

    /// What was kept. A file that is missing or spoilt is as good as none: the node begins at
    /// the end of each log, and says so.
    pub(super) fn load(path: &Path) -> Self {
        let too_large = std::fs::metadata(path).is_ok_and(|m| m.len() > MAX_FILE_BYTES);
        let text = match std::fs::read(path) {
            Ok(text) if !too_large => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Self::default(),
            _ => {
                tracing::warn!(file = %path.display(), "the log positions can't be read; each log is followed from its end");
                return Self::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|e| {
            tracing::warn!(file = %path.display(), error = %e, "the log positions are spoilt; each log is followed from its end");
            Self::default()
        })
    }

    /// Replaces the file at once, so that a crash leaves the old one or the new one.
    pub(super) fn save(&self, path: &Path) -> Result<(), Error> {
        let write = || {
            let text = serde_json::to_vec(self).map_err(std::io::Error::other)?;
            let next = path.with_extension("next");
            std::fs::write(&next, text)?;
            std::fs::rename(&next, path)
        };
        write().map_err(|source| Error::Positions {
            path: path.to_owned(),
            source,
        })
    }

    pub(super) fn knows(&self, pattern: &str) -> bool {
        self.patterns.iter().any(|p| p == pattern)
    }

    pub(super) fn of(&self, id: FileId) -> Option<&Position> {
        self.files.iter().find(|p| p.id() == id)
    }

    pub(super) fn of_path(&self, path: &str) -> Option<&Position> {
        self.files.iter().find(|p| p.path == path)
    }
}
