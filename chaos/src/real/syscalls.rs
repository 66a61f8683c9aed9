//! System calls of a running host that fail or take long, by `strace`.

use super::tool::found;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What is done to every sync.
#[derive(Debug, Clone, Copy)]
pub(super) enum Syncs {
    /// It takes so much longer.
    Late(Duration),
    /// It fails with EIO, and nothing is synced.
    Fail,
}

/// Holds until it is dropped.
#[derive(Debug)]
pub(super) struct Injected(Child);

impl Injected {
    /// Takes hold of a process; or why that can't be done.
    pub(super) fn into(pid: i32, what: Syncs) -> Result<Self, String> {
        if !found("strace") {
            return Err("`strace` is not installed (Debian: strace)".into());
        }
        let how = match what {
            Syncs::Late(by) => format!("delay_enter={}", by.as_micros()),
            Syncs::Fail => "error=EIO".into(),
        };
        let calls = "fsync,fdatasync,sync_file_range,syncfs,msync";
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-p", &pid.to_string(), "-o", "/dev/null"]);
        strace.args(["-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:{how}")]);
        strace.stdin(Stdio::null()).stdout(Stdio::null());
        let child = strace.stderr(Stdio::null()).spawn();
        child.map(Self).map_err(|e| format!("strace: {e}"))
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        // Asked to end it lets go of the process; killed it might leave it stopped.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}
