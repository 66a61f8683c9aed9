//! A host's wall clock that can be set while it runs, by `libfaketime`; its monotonic clock is the
//! machine's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The wall clock of one host.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// One that tells the machine's time, if the library is here.
    pub(super) fn make(file: PathBuf) -> Option<Self> {
        let multiarch = fs::read_dir("/usr/lib").ok()?.flatten();
        let library = multiarch
            .map(|d| d.path().join("faketime/libfaketimeMT.so.1"))
            .find(|p| p.is_file())?;
        let this = Self { library, file };
        this.set(0).ok()?;
        Some(this)
    }

    /// By how many seconds it is wrong from now on, or within a second.
    pub(super) fn set(&self, seconds: i64) -> Result<(), String> {
        // Never half a file: the host reads it at any time.
        let new = self.file.with_extension("new");
        let written = fs::write(&new, format!("{seconds:+}\n"));
        let placed = written.and_then(|()| fs::rename(&new, &self.file));
        placed.map_err(|e| format!("{}: {e}", self.file.display()))
    }

    /// Has a host that is about to start look at it.
    pub(super) fn give(&self, command: &mut Command) {
        let env = |command: &mut Command, name: &str, value: &Path| {
            command.env(name, value);
        };
        env(command, "LD_PRELOAD", &self.library);
        env(command, "FAKETIME_TIMESTAMP_FILE", &self.file);
        env(command, "FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1"));
        // How long it goes without reading the file, in seconds.
        env(command, "FAKETIME_CACHE_DURATION", Path::new("1"));
    }
}
