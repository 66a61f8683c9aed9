//! A small disk for one data directory, that a test fills and empties.

use super::process::run;
use super::wait::skipped;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A tmpfs that is mounted for as long as this lives.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of so many MiB, or says that `test` is skipped where that can't be done.
    ///
    /// # Panics
    /// If the directory can't be made.
    pub fn small(test: &str, at: &Path, mib: u64) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped(test, "mounting a small disk needs root");
            return None;
        }
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "hale-test"])
            .arg(at);
        if !mount.status().is_ok_and(|s| s.success()) {
            skipped(test, "this machine mounts no tmpfs");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Fills it until so many MiB are left.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn fill(&self, left_mib: u64) {
        let found = rustix::fs::statvfs(&self.0).unwrap();
        let free = found.f_bavail * found.f_frsize;
        let size = free.saturating_sub(left_mib << 20);
        let block = vec![0; 1 << 20];
        let mut file = std::fs::File::create(self.ballast()).unwrap();
        for _ in 0..size >> 20 {
            std::io::Write::write_all(&mut file, &block).unwrap();
        }
    }

    /// Takes away what filled it.
    ///
    /// # Panics
    /// If it is not there.
    pub fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a node may have files open still.
        let mut umount = Command::new("umount");
        umount.arg("-l").arg(&self.0);
        if !std::thread::panicking() {
            run(&mut umount, Duration::from_secs(10));
        } else {
            umount.status().ok();
        }
    }
}
