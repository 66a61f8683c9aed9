//! Processes that end with their value, and programs that are run to their end within a bound.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A child process that is killed, by its pid, when this is dropped.
#[derive(Debug)]
pub struct Guarded(Child);

impl Guarded {
    /// Starts it.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        match command.stdin(Stdio::null()).spawn() {
            Ok(child) => Self(child),
            Err(e) => panic!("{:?} can't be started: {e}", command.get_program()),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        // It may have ended by itself.
        rustix::process::kill_process(pid, signal).ok();
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }

    /// Asks it to end and waits. `None` if it did not within the bound; then it was killed.
    pub fn stop(&mut self, bound: Duration) -> Option<ExitStatus> {
        self.end(rustix::process::Signal::TERM, bound)
    }

    fn end(&mut self, signal: rustix::process::Signal, bound: Duration) -> Option<ExitStatus> {
        self.signal(signal);
        let began = Instant::now();
        while began.elapsed() < bound {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        self.kill();
        None
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Ended {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(e) => panic!("this is no JSON: {e}\n{self}"),
        }
    }

    /// Itself, if it ended with 0.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.success(), "it should have ended with 0\n{self}");
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
            took,
        } = self;
        write!(
            f,
            "exit code {code:?} after {took:?}\nstdout: {stdout}\nstderr: {stderr}"
        )
    }
}

/// Runs a program to its end.
///
/// # Panics
/// If it can't be started or does not end within `bound`.
#[track_caller]
pub fn run(command: &mut Command, bound: Duration) -> Ended {
    let began = Instant::now();
    let mut child = Guarded::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let (out, err) = (
        child.0.stdout.take().unwrap(),
        child.0.stderr.take().unwrap(),
    );
    let read = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = vec![];
            from.read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let (out, err) = (read(Box::new(out)), read(Box::new(err)));
    let status = loop {
        if let Some(status) = child.ended() {
            break status;
        }
        if began.elapsed() > bound {
            // It may have started others: first it is asked to clean up.
            child.end(rustix::process::Signal::INT, Duration::from_secs(10));
            let (out, err) = (out.join().unwrap(), err.join().unwrap());
            panic!("{command:?} did not end within {bound:?}\nstdout: {out}\nstderr: {err}");
        }
        std::thread::park_timeout(Duration::from_millis(5));
    };
    Ended {
        code: status.code(),
        stdout: out.join().unwrap(),
        stderr: err.join().unwrap(),
        took: began.elapsed(),
    }
}
