//! The system's own programs that faults are made with.

use std::path::Path;
use std::process::{Command, Stdio};

/// Whether a program is installed, also where only root looks.
pub(super) fn found(program: &str) -> bool {
    let dirs = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    dirs.iter().any(|d| Path::new(d).join(program).exists())
}

/// Runs one to its end, or says what it said.
pub(super) fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    match command.args(args).stdin(Stdio::null()).output() {
        Ok(o) if o.status.success() => Ok(()),
        Ok(o) => {
            let said = String::from_utf8_lossy(&o.stderr).trim().to_owned();
            Err(format!("{program}: {said}"))
        }
        Err(e) => Err(format!("{program}: {e}")),
    }
}
