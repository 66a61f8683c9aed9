//! A cap on what a host may use: a control group (version 1) of its own while the fault lasts.

use std::fs;
use std::path::PathBuf;

/// Where version 1's controllers are.
const ROOT: &str = "/sys/fs/cgroup";

/// A control group that a process is in until this is dropped.
#[derive(Debug)]
pub(super) struct Cap {
    dir: PathBuf,
    controller: &'static str,
    pid: i32,
}

impl Cap {
    /// So many thousandths of a core; or why that can't be done.
    pub(super) fn cpu(pid: i32, thousandths: u64) -> Result<Self, String> {
        // Of a period of 100 ms, in microseconds.
        Self::set(pid, "cpu", "cpu.cfs_quota_us", thousandths * 100)
    }

    /// So many bytes of memory on top of what it has.
    pub(super) fn memory(pid: i32, bytes: u64) -> Result<Self, String> {
        Self::set(pid, "memory", "memory.limit_in_bytes", bytes)
    }

    fn set(pid: i32, controller: &'static str, file: &str, value: u64) -> Result<Self, String> {
        let this = Self::make(pid, controller)?;
        this.write(file, value)?;
        this.enter()?;
        Ok(this)
    }

    fn make(pid: i32, controller: &'static str) -> Result<Self, String> {
        let name = format!("hale-chaos-{}-{pid}", std::process::id());
        let dir = PathBuf::from(ROOT).join(controller).join(name);
        let made = fs::create_dir(&dir);
        made.map_err(|e| format!("no control group {}: {e}", dir.display()))?;
        Ok(Self {
            dir,
            controller,
            pid,
        })
    }

    fn write(&self, file: &str, value: u64) -> Result<(), String> {
        let path = self.dir.join(file);
        fs::write(&path, value.to_string()).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn enter(&self) -> Result<(), String> {
        self.write("cgroup.procs", self.pid.unsigned_abs().into())
    }
}

impl Drop for Cap {
    fn drop(&mut self) {
        // Its children came in with it. Who has ended need not be moved.
        let inside = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        let root = PathBuf::from(ROOT).join(self.controller);
        for pid in inside.lines() {
            let _ = fs::write(root.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.dir);
    }
}
