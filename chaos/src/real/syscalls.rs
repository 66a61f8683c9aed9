//! System calls of a running host that fail or take long, by `strace`.

use super::tool::found;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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
pub(super) struct Injected {
    strace: Child,
    of: i32,
}

/// So long strace may take to let go of a process.
const LET_GO: Duration = Duration::from_secs(2);

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
        let strace = child.map_err(|e| format!("strace: {e}"))?;
        Ok(Self { strace, of: pid })
    }
}

impl Drop for Injected {
    #[allow(
        clippy::disallowed_methods,
        reason = "it is short, and the clients have a worker of their own"
    )]
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        // Asked to end it lets go of each thread; where it does not get to that, the kernel does once
        // it is gone.
        let _ = kill_process(Pid::from_child(&self.strace), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < LET_GO && matches!(self.strace.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.strace.kill();
        let _ = self.strace.wait();
        // A thread that strace had stopped goes on.
        if let Some(pid) = Pid::from_raw(self.of) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}
