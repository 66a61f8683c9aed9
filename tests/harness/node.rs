//! A real node: a `hale node` process with a configuration and a data directory of its own.

use super::chain::Chain;
use super::events::Events;
use super::http::Client;
use super::process::{Ended, Guarded, run};
use super::program::hale_command;
use super::scratch::{Scratch, free_port};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How long a node may take until it is ready, on a busy machine.
const READY: Duration = Duration::from_secs(20);
/// How long a node may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(10);

/// A node that can be started, stopped, killed and started again on the same data.
#[derive(Debug)]
pub struct Node {
    name: String,
    dir: PathBuf,
    addr: SocketAddr,
    settings: String,
    sections: String,
    process: Option<Guarded>,
}

impl Node {
    /// A node that is not started yet. `sections` is the configuration after `[node]`.
    pub fn new(scratch: &Scratch, sections: &str) -> Self {
        Self::named(scratch, "node", sections)
    }

    /// The same under a name, for tests with several.
    pub fn named(scratch: &Scratch, name: &str, sections: &str) -> Self {
        Self {
            name: name.to_owned(),
            dir: scratch.dir().to_owned(),
            addr: SocketAddr::from(([127, 0, 0, 1], free_port())),
            settings: String::new(),
            sections: sections.to_owned(),
            process: None,
        }
    }

    /// Further lines for the section `[node]`: `tags = { … }`.
    pub fn with(mut self, settings: &str) -> Self {
        self.settings = settings.to_owned();
        self
    }

    /// Replaces the configuration after `[node]`; it holds from the next start on.
    pub fn reconfigure(&mut self, sections: &str) {
        sections.clone_into(&mut self.sections);
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// If it ends, or is not ready in time; its log is told.
    #[track_caller]
    pub fn start(mut self) -> Self {
        self.start_again();
        self
    }

    /// Starts it on the data that it has.
    ///
    /// # Panics
    /// If it runs already, ends, or is not ready in time.
    #[track_caller]
    pub fn start_again(&mut self) {
        if let Err(ended) = self.try_start() {
            panic!("the node did not start: {ended}");
        }
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Errors
    /// If it refuses to start: how it ended, and what it said.
    ///
    /// # Panics
    /// If it runs already, or neither ends nor is ready in time.
    #[track_caller]
    pub fn try_start(&mut self) -> Result<(), Ended> {
        assert!(self.process.is_none(), "it runs already");
        let config = self.write_config();
        let said_before = self.log().len();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = hale_command(&["node", "--config"]);
        command
            .arg(&config)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut process = Guarded::spawn(&mut command);
        let (began, client) = (
            Instant::now(),
            Client {
                addr: self.addr,
                token: None,
            },
        );
        while !client
            .send("GET", "/readyz", &[], b"")
            .is_ok_and(|a| a.status == 200)
        {
            if let Some(status) = process.ended() {
                let stderr = self.log().get(said_before..).unwrap_or_default().to_owned();
                let (stdout, took) = (String::new(), began.elapsed());
                return Err(Ended {
                    code: status.code(),
                    stdout,
                    stderr,
                    took,
                });
            }
            if began.elapsed() > READY {
                let last = client.send("GET", "/readyz", &[], b"").map(|a| a.text());
                panic!(
                    "the node was not ready in {READY:?}: {last:?}\n{}",
                    self.log_end()
                );
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Starts it where it should refuse to.
    ///
    /// # Panics
    /// If it starts.
    #[track_caller]
    pub fn refuses_to_start(&mut self) -> Ended {
        match self.try_start() {
            Err(ended) => ended,
            Ok(()) => panic!("it started\n{}", self.log_end()),
        }
    }

    fn write_config(&self) -> PathBuf {
        let path = self.dir.join(format!("{}.toml", self.name));
        let Self {
            settings,
            sections,
            addr,
            ..
        } = self;
        let data = self.data_dir();
        // What the machine that runs the tests does besides is no trouble of theirs.
        let quiet = ["system.*", "process.*"]
            .map(|s| format!("[[baseline.overrides]]\nseries = {s:?}\nignore = true\n"))
            .concat();
        let text = format!(
            "[node]\nhost = \"test-host\"\nenvironment = \"test\"\ndata_dir = {data:?}\n\
             listen = \"{addr}\"\n{settings}\n{sections}\n{quiet}",
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// Where it keeps its state.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join(format!("{}-data", self.name))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().pid()
    }

    /// Whether its process still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|p| p.ended().is_none())
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill9(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Asks it to end. `None` if it did not in time.
    ///
    /// # Panics
    /// If it does not run.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.process.take().unwrap().stop(STOP)
    }

    /// A client with the node's token.
    ///
    /// # Panics
    /// If the node wrote none.
    pub fn client(&self) -> Client {
        Client {
            addr: self.addr,
            token: Some(self.token()),
        }
    }

    /// The token that the node wrote for its operators.
    ///
    /// # Panics
    /// If there is none.
    pub fn token(&self) -> String {
        let path = self.data_dir().join("api.json");
        let known = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let known: Value = serde_json::from_str(&known).unwrap();
        known["token"]
            .as_str()
            .expect("api.json holds a token")
            .to_owned()
    }

    /// Asks, and expects 200 with JSON.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.client().get(path)
    }

    /// Sends JSON, and expects success.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.client().post(path, body)
    }

    /// Follows what happens.
    pub fn events(&self) -> Events {
        Events::follow(&self.client())
    }

    /// The chain as it is now.
    #[track_caller]
    pub fn chain(&self) -> Chain {
        Chain::read(&self.client())
    }

    /// Starts a playbook by hand; if it has to be approved, approves it. Returns the run's answer.
    #[track_caller]
    pub fn run_playbook(&self, playbook: &str, service: &str) -> Value {
        let body = json!({ "service": service, "by": "a tester" });
        let run = self.post(&format!("/v1/playbooks/{playbook}/run"), &body);
        if let Some(approval) = run["approval"].as_str() {
            let answer = json!({ "by": "a tester" });
            self.post(&format!("/v1/approvals/{approval}/approve"), &answer);
        }
        run
    }

    /// Runs a command of the CLI against this node.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Ended {
        let mut command = hale_command(args);
        command.arg("--data-dir").arg(self.data_dir());
        run(&mut command, Duration::from_secs(30))
    }

    /// Where its log is.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map_or_else(
            |_| String::new(),
            |b| String::from_utf8_lossy(&b).into_owned(),
        )
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Where its configuration is.
    pub fn config_path(&self) -> PathBuf {
        Path::new(&self.dir).join(format!("{}.toml", self.name))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut err = std::io::stderr();
            let _ = std::io::Write::write_fmt(
                &mut err,
                format_args!("the end of the log of {}:\n{}\n", self.name, self.log_end()),
            );
        }
    }
}
