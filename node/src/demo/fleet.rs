//! The demo's nodes: real processes with directories of their own, one that founds a cluster and
//! others that join it. Each can be killed and started again with the same command line. Dropping
//! them ends them all.

use crate::demo::ask::{self, Asker};
use crate::demo::ports::FreePorts;
use crate::demo::{DemoError, service};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take until it is ready.
const READY: Duration = Duration::from_secs(20);
/// How long all of them may take to end when they are asked to.
const STOP: Duration = Duration::from_secs(5);
/// What a user's shell may hold; the demo's nodes are nobody else's.
const VARIABLES: [&str; 7] = [
    "HALE_DATA_DIR",
    "HALE_CONFIG",
    "HALE_ADDR",
    "HALE_TOKEN",
    "HALE_HOST",
    "HALE_LOG",
    "HALE_JOIN_TOKEN",
];

/// One node.
pub(super) struct Member {
    pub(super) host: String,
    pub(super) data_dir: PathBuf,
    pub(super) asker: Asker,
    config: PathBuf,
    log: PathBuf,
    /// What follows the program's name, at its first start and at every later one.
    args: Vec<String>,
    join_token: Option<String>,
    process: Option<Child>,
}

/// All of them; the first founds.
pub(super) struct Fleet {
    program: PathBuf,
    ports: Vec<Ports>,
    pub(super) members: Vec<Member>,
}

/// Where a node listens: for people, and for other nodes.
struct Ports {
    http: SocketAddr,
    peers: SocketAddr,
}

fn io(what: &str) -> impl Fn(std::io::Error) -> DemoError + '_ {
    move |source| DemoError::Io {
        what: what.to_owned(),
        source,
    }
}

fn addresses(ports: &mut FreePorts, count: usize) -> Result<Vec<Ports>, DemoError> {
    let mut at = || {
        let port = ports.take().map_err(io("find free ports"))?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    (0..count)
        .map(|_| {
            Ok(Ports {
                http: at()?,
                peers: at()?,
            })
        })
        .collect()
}

impl Member {
    fn command(&self, program: &Path, args: &[String]) -> Result<Command, DemoError> {
        let mut options = std::fs::File::options();
        let log = options.create(true).append(true).open(&self.log);
        let log = log.map_err(io("write a node's log"))?;
        let mut command = Command::new(program);
        for name in VARIABLES {
            command.env_remove(name);
        }
        if let Some(token) = &self.join_token {
            command.env("HALE_JOIN_TOKEN", token);
        }
        command
            .args(args)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(command)
    }

    /// Waits until it answers.
    async fn ready(&mut self) -> Result<(), DemoError> {
        let began = Instant::now();
        while began.elapsed() < READY {
            if self.asker.is_ready().await {
                return self.read_token();
            }
            if let Some(Ok(Some(status))) = self.process.as_mut().map(Child::try_wait) {
                let text = format!("{} ended with {status}", self.host);
                return Err(DemoError::Failed(text));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let text = format!("{} was not ready in {} s", self.host, READY.as_secs());
        Err(DemoError::Failed(text))
    }

    fn read_token(&mut self) -> Result<(), DemoError> {
        let path = self.data_dir.join("api.json");
        let text = std::fs::read_to_string(&path).map_err(io("read the node's token"))?;
        let known: Value = serde_json::from_str(&text)
            .map_err(|e| DemoError::Failed(format!("{} is not JSON: {e}", path.display())))?;
        self.asker.know(known["token"].as_str().unwrap_or_default());
        Ok(())
    }

    /// Ends it as a power cut does.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }

    /// What it holds of the machine's memory, in bytes.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        let pid = self.process.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// How far its own copy of the chain goes: the number of entries, and the last one's hash.
    pub(super) async fn tip(&self) -> Result<(u64, String), DemoError> {
        let status = self.asker.get("/v1/status?consistency=stale").await?;
        let ledger = &status["ledger"];
        let tip = ledger["tip"].as_str().unwrap_or_default().to_owned();
        Ok((ledger["entries"].as_u64().unwrap_or_default(), tip))
    }

    /// The end of its log.
    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(8)..].join("\n    ");
        format!("the end of {}'s log:\n    {end}", self.host)
    }
}

impl Fleet {
    /// Hosts for so many nodes in a directory; none is started yet.
    pub(super) fn plan(dir: &Path, count: usize, free: &mut FreePorts) -> Result<Self, DemoError> {
        let http = ask::client()?;
        let ports = addresses(free, count)?;
        let mut members = Vec::new();
        for (number, at) in (1..).zip(&ports) {
            let host = match count {
                1 => "demo-host".to_owned(),
                _ => format!("demo-{number}"),
            };
            members.push(Member {
                data_dir: dir.join(&host),
                config: dir.join(format!("{host}.toml")),
                log: dir.join(format!("{host}.log")),
                args: vec!["node".into()],
                asker: Asker::new(http.clone(), at.http),
                join_token: None,
                process: None,
                host,
            });
        }
        Ok(Self {
            program: std::env::current_exe().map_err(io("find this program"))?,
            ports,
            members,
        })
    }

    /// What every node of the demo is told, and what only the one with the services is.
    pub(super) fn configure(&self, services_on: usize, services: &str) -> Result<(), DemoError> {
        for (number, (member, at)) in self.members.iter().zip(&self.ports).enumerate() {
            let (interval, own) = match number == services_on {
                true => ("250ms", services),
                false => ("1s", ""),
            };
            let cluster = match self.members.len() {
                1 => String::new(),
                _ => format!("[cluster]\nbind = \"{}\"\n", at.peers),
            };
            let text = format!(
                r#"[node]
host = "{host}"
environment = "demo"
data_dir = {data:?}
listen = "{listen}"

{cluster}
[telemetry]
interval = "{interval}"

# The demo heals its own faults; the machine it runs on is watched and left alone.
[[baseline.overrides]]
series = "system.*"
ignore = true

[[baseline.overrides]]
series = "process.*"
ignore = true

[decision]
learn_first = "5s"

{own}"#,
                host = member.host,
                data = member.data_dir.to_string_lossy(),
                listen = at.http,
            );
            service::write(&member.config, &text)?;
        }
        Ok(())
    }

    /// Founds a cluster of the first node, or runs the only one.
    pub(super) async fn found(&mut self) -> Result<(), DemoError> {
        if self.members.len() > 1 {
            let init = ["init".to_owned()];
            let mut command: tokio::process::Command =
                self.members[0].command(&self.program, &init)?.into();
            let founded = command.kill_on_drop(true).status().await;
            let founded = founded.map_err(io("found a cluster"))?;
            if !founded.success() {
                let text = format!("`hale init` ended with {founded}");
                return Err(DemoError::Failed(text));
            }
        }
        self.start(0)?;
        self.members[0].ready().await
    }

    /// The line with which another host joins, the token left out.
    pub(super) fn join_line(&self) -> String {
        format!("hale join {} --token …", self.ports[0].peers)
    }

    /// The others join, all at once.
    pub(super) async fn join(&mut self) -> Result<(), DemoError> {
        let wanted = json!({
            "ttl_seconds": 300,
            "uses": self.members.len() - 1,
            "by": "hale demo",
        });
        let made = self.members[0].asker.post("/v1/tokens", &wanted).await?;
        let seed = self.ports[0].peers.to_string();
        for number in 1..self.members.len() {
            let member = &mut self.members[number];
            member.args = vec!["join".into(), seed.clone()];
            // Others on this machine can see an argument, and can't see a variable.
            member.join_token = made["token"].as_str().map(str::to_owned);
            self.start(number)?;
        }
        for member in &mut self.members[1..] {
            member.ready().await?;
        }
        Ok(())
    }

    /// Starts a node, with the command line that it always has.
    fn start(&mut self, number: usize) -> Result<(), DemoError> {
        let member = &mut self.members[number];
        let mut command = member.command(&self.program, &member.args)?;
        member.process = Some(command.spawn().map_err(io("start a node"))?);
        Ok(())
    }

    /// Ends a node as a power cut does.
    pub(super) fn kill(&mut self, number: usize) {
        self.members[number].kill();
    }

    /// Starts a node that was killed, and waits until it answers.
    pub(super) async fn start_again(&mut self, number: usize) -> Result<(), DemoError> {
        self.start(number)?;
        self.members[number].ready().await
    }

    /// All hosts but one.
    pub(super) fn hosts_but(&self, number: usize) -> Vec<&str> {
        let others = self
            .members
            .iter()
            .enumerate()
            .filter(|(n, _)| *n != number);
        others.map(|(_, m)| m.host.as_str()).collect()
    }

    /// Which of them a host is.
    pub(super) fn number_of(&self, host: &str) -> Option<usize> {
        self.members.iter().position(|m| m.host == host)
    }

    /// How this program is called by whoever copies a line.
    pub(super) fn called(&self) -> String {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let first = std::env::split_paths(&path).map(|d| d.join("hale"));
        let first = first.into_iter().find(|p| p.is_file());
        match first.and_then(|p| p.canonicalize().ok()) {
            Some(found) if found == self.program => "hale".into(),
            _ => self.program.display().to_string(),
        }
    }

    /// The ends of all nodes' logs.
    pub(super) fn logs(&self) -> String {
        let ends: Vec<String> = self.members.iter().map(Member::log_end).collect();
        ends.join("\n  ")
    }

    /// Ends them all.
    pub(super) fn stop(&mut self) {
        let mut running: Vec<Child> = self
            .members
            .iter_mut()
            .filter_map(|m| m.process.take())
            .collect();
        for node in &running {
            let pid = rustix::process::Pid::from_child(node);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        // They close their stores; a node that hangs is not waited for.
        let began = Instant::now();
        while began.elapsed() < STOP {
            running.retain_mut(|node| matches!(node.try_wait(), Ok(None)));
            if running.is_empty() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        for node in &mut running {
            node.kill().ok();
            node.wait().ok();
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop();
    }
}
