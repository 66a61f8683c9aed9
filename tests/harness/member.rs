//! One node of a cluster: a `hale` process with a host name, ports and a data directory of its own,
//! on loopback or in a network namespace.

use super::chain::Chain;
use super::http::Client;
use super::process::{Ended, Guarded, run};
use super::program::hale_command;
use super::scratch::free_port;
use serde_json::Value;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a node of a cluster may take until it is ready, on a busy machine.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(15);

/// How the process is started.
#[derive(Debug, Clone)]
pub enum Start {
    /// `hale node`.
    Node,
    /// `hale join` with these seeds and, if given, this token.
    Join(Vec<String>, Option<String>),
}

/// A node of a cluster.
#[derive(Debug)]
pub struct Member {
    /// Its host's name.
    pub host: String,
    /// How it is started next.
    pub start: Start,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// Where it listens for the others.
    pub udp: SocketAddr,
    /// Further variables of its environment.
    pub env: Vec<(String, String)>,
    /// Its configuration after `[node]` and `[cluster]`.
    pub sections: String,
    /// Where it keeps its state.
    pub data: PathBuf,
    /// How long it tries to reach a seed.
    pub join_timeout: &'static str,
    dir: PathBuf,
    namespace: Option<String>,
    process: Option<Guarded>,
}

impl Member {
    /// A node that is not started, on loopback.
    pub fn new(dir: &Path, host: &str, start: Start, sections: &str) -> Self {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        Self {
            host: host.to_owned(),
            start,
            http: SocketAddr::new(loopback, free_port()),
            udp: SocketAddr::new(loopback, free_port()),
            env: vec![],
            sections: sections.to_owned(),
            data: dir.join(format!("{host}-data")),
            join_timeout: "20s",
            dir: dir.to_owned(),
            namespace: None,
            process: None,
        }
    }

    /// The same in a network namespace, under that namespace's address.
    pub fn within(mut self, namespace: String, ip: IpAddr) -> Self {
        self.namespace = Some(namespace);
        self.http.set_ip(ip);
        self.udp.set_ip(ip);
        self
    }

    /// Takes other ports, from the next start on.
    pub fn move_ports(&mut self) {
        self.http.set_port(free_port());
        self.udp.set_port(free_port());
    }

    /// As others name it as a seed.
    pub fn seed(&self) -> String {
        self.udp.to_string()
    }

    fn write_config(&self) -> PathBuf {
        let path = self.dir.join(format!("{}.toml", self.host));
        let Self {
            host,
            http,
            udp,
            sections,
            data,
            join_timeout,
            ..
        } = self;
        let quiet = ["system.*", "process.*"]
            .map(|s| format!("[[baseline.overrides]]\nseries = {s:?}\nignore = true\n"))
            .concat();
        let text = format!(
            "[node]\nhost = {host:?}\nenvironment = \"test\"\ndata_dir = {data:?}\n\
             listen = \"{http}\"\n\n[cluster]\nbind = \"{udp}\"\njoin_timeout = \"{join_timeout}\"\n\n\
             {sections}\n{quiet}",
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// `hale` with arguments and this node's configuration, where the node runs.
    fn command(&self, args: &[&str]) -> Command {
        let hale = hale_command(args);
        let mut command = match &self.namespace {
            None => hale,
            Some(namespace) => {
                let mut command = Command::new("ip");
                command
                    .args(["netns", "exec", namespace])
                    .arg(hale.get_program());
                command.args(hale.get_args());
                for (name, value) in hale.get_envs() {
                    match value {
                        Some(value) => command.env(name, value),
                        None => command.env_remove(name),
                    };
                }
                command
            }
        };
        command.envs(self.env.iter().map(|(n, v)| (n, v)));
        command
    }

    /// `hale init`, to its end.
    #[track_caller]
    pub fn init(&self) -> Ended {
        let mut command = self.command(&["init", "--config"]);
        run(command.arg(self.write_config()), Duration::from_secs(30))
    }

    fn started(&self) -> Command {
        let config = self.write_config();
        let mut args = vec![];
        match &self.start {
            Start::Node => args.push("node"),
            Start::Join(seeds, token) => {
                args.push("join");
                args.extend(seeds.iter().map(String::as_str));
                if let Some(token) = token {
                    args.extend(["--token", token]);
                }
            }
        }
        let mut command = self.command(&args);
        command.arg("--config").arg(config);
        command
    }

    /// Starts it, and does not wait until it is ready.
    ///
    /// # Panics
    /// If it runs already.
    #[track_caller]
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.host);
        let mut command = self.started();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(Guarded::spawn(&mut command));
    }

    /// Runs it where it should end by itself, and tells how it did.
    ///
    /// # Panics
    /// If it goes on.
    #[track_caller]
    pub fn refuses(&self) -> Ended {
        run(&mut self.started(), READY)
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// If it ends, or is not ready in time; its log is told.
    #[track_caller]
    pub fn ready(&mut self) {
        let (began, client) = (Instant::now(), self.open_client());
        let mut last = String::new();
        loop {
            if let Ok(answer) = client.send("GET", "/readyz", &[], b"") {
                if answer.status == 200 {
                    return;
                }
                last = answer.text();
            }
            let (host, log) = (&self.host, self.log_end());
            if let Some(status) = self.process.as_mut().unwrap().ended() {
                panic!("{host} ended with {status} before it was ready\n{log}");
            }
            assert!(
                began.elapsed() < READY,
                "{host} was not ready in {READY:?}: {last}\n{log}"
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn run(&mut self) {
        self.spawn();
        self.ready();
    }

    /// Whether it was started and not stopped since.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill9(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Asks it to end.
    ///
    /// # Panics
    /// If it does not run, or does not end in time, or not with 0.
    #[track_caller]
    pub fn stop(&mut self) {
        let status = self.process.take().unwrap().stop(STOP);
        assert!(
            status.is_some_and(|s| s.success()),
            "{} ended with {status:?}\n{}",
            self.host,
            self.log_end()
        );
    }

    /// Waits until it ends by itself, and returns its exit code.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn ends(&mut self, bound: Duration) -> Option<i32> {
        let mut process = self.process.take().unwrap();
        let what = format!("{} ends by itself", self.host);
        super::wait::wait_for(&what, bound, || process.ended()).code()
    }

    /// Stops it from running, as a machine that hangs.
    pub fn freeze(&self) {
        let process = self.process.as_ref().unwrap();
        process.signal(rustix::process::Signal::STOP);
    }

    /// Lets it run on.
    pub fn resume(&self) {
        let process = self.process.as_ref().unwrap();
        process.signal(rustix::process::Signal::CONT);
    }

    /// A client without a token.
    pub fn open_client(&self) -> Client {
        Client {
            addr: self.http,
            token: None,
        }
    }

    /// A client with the node's token.
    pub fn client(&self) -> Client {
        let token = fs::read_to_string(self.data.join("api.token"));
        Client {
            addr: self.http,
            token: token.ok().map(|t| t.trim().to_owned()),
        }
    }

    /// Asks, and expects 200 with JSON.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.client().get(path)
    }

    /// Asks, and gives what it says if that is 200.
    pub fn ask(&self, path: &str) -> Option<Value> {
        let answer = self.client().send("GET", path, &[], b"").ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Sends JSON; whether and how the node agrees.
    pub fn tell(&self, path: &str, body: &Value) -> Option<Value> {
        let json = [("content-type", "application/json")];
        let body = body.to_string();
        let answer = self
            .client()
            .send("POST", path, &json, body.as_bytes())
            .ok()?;
        (200..300)
            .contains(&answer.status)
            .then(|| serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// Sends JSON, and expects success.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.client().post(path, body)
    }

    /// The chain as this node holds it, without asking the others whether there is more.
    #[track_caller]
    pub fn chain(&self) -> Chain {
        Chain::known(&self.client())
    }

    /// Runs a command of the CLI against this node, from where it runs.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Ended {
        let mut command = self.command(args);
        command.arg("--data-dir").arg(&self.data);
        run(&mut command, Duration::from_secs(40))
    }

    /// Where its log is.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.host))
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if std::thread::panicking() && self.log_path().exists() {
            let (mut err, log) = (std::io::stderr(), self.log_end());
            let text = format_args!("the end of the log of {}:\n{log}\n", self.host).to_string();
            let _ = std::io::Write::write_all(&mut err, text.as_bytes());
        }
    }
}
