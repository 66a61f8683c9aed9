//! The hosts: a `hale` process each, with a directory, an address and a configuration of its own.

use super::network::Network;
use super::{Plan, RealError};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a host may take until it is ready.
const READY: Duration = Duration::from_secs(90);
/// How long it may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(20);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// The names of the leases that are contended for.
pub(super) const LEASES: [&str; 3] = ["a", "b", "c"];

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    udp: SocketAddr,
    data: PathBuf,
    config: PathBuf,
    log: PathBuf,
    namespace: Option<String>,
    hale: PathBuf,
    /// How it joins: the others' addresses and a token. The first one founds.
    join: Option<(Vec<String>, String)>,
    child: Option<Child>,
    is_stopped: bool,
}

/// All of them, and what joins them.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) all: Vec<Host>,
    pub(super) network: Option<Network>,
    /// Why there are no namespaces, if there are none.
    pub(super) loopback: Option<String>,
    pub(super) dir: PathBuf,
    http: reqwest::Client,
}

/// Asks one host over HTTP.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    addr: SocketAddr,
    data: PathBuf,
}

impl Client {
    pub(super) async fn get(&self, path: &str) -> Option<Value> {
        self.send(reqwest::Method::GET, path, None).await
    }

    /// What it answers, if it agrees.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Option<Value> {
        self.send(reqwest::Method::POST, path, Some(body)).await
    }

    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<Value> {
        let token = fs::read_to_string(self.data.join("api.token")).ok()?;
        let url = format!("http://{}{path}", self.addr);
        let mut ask = self.http.request(method, url).bearer_auth(token.trim());
        if let Some(body) = body {
            ask = ask.json(body);
        }
        let answer = ask.timeout(PATIENCE).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        let bytes = answer.bytes().await.ok()?;
        Some(serde_json::from_slice(&bytes).unwrap_or_default())
    }
}

impl Hosts {
    /// Makes the hosts and a cluster of them.
    pub(super) async fn make(plan: &Plan, tell: &mut impl FnMut(&str)) -> Result<Self, RealError> {
        let dir = plan.dir.clone();
        // It is removed in the end, so nobody else's files may be in it.
        if std::fs::read_dir(&dir).is_ok_and(|mut files| files.next().is_some()) {
            let why = format!("{} is not empty: name another directory", dir.display());
            return Err(RealError::NotReady(why));
        }
        let made = fs::create_dir_all(dir.join("playbooks"));
        made.map_err(RealError::io(format!("{} can't be made", dir.display())))?;
        let (network, loopback) = match plan.loopback {
            true => (None, Some("as asked".to_owned())),
            false => match Network::make(plan.hosts) {
                Ok(network) => (Some(network), None),
                Err(why) => (None, Some(why)),
            },
        };
        if let Some(why) = &loopback {
            tell(&format!("hosts on loopback, not in namespaces: {why}"));
        }
        write_playbooks(&dir)?;
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.map_err(|e| RealError::NotReady(format!("no HTTP client: {e}")))?;
        let mut this = Self {
            all: vec![],
            network,
            loopback,
            http,
            dir,
        };
        for n in 0..plan.hosts {
            let host = this.host(n, &plan.hale)?;
            this.all.push(host);
        }
        let first = &mut this.all[0];
        let mut init = first.hale(&["init"]);
        let status = init.stdout(Stdio::null()).status();
        let status = status.map_err(RealError::io("`hale init` can't be run"))?;
        if !status.success() {
            let why = format!("`hale init` ended with {status}");
            return Err(RealError::NotReady(why));
        }
        first.start()?;
        this.ready(0).await?;
        let asked = json!({ "uses": 500, "by": "hale-chaos" });
        let made = this.client(0).post("/v1/tokens", &asked).await;
        let token = made.and_then(|m| Some(m["token"].as_str()?.to_owned()));
        let no_token = || RealError::NotReady("the first host made no token".into());
        let token = token.ok_or_else(no_token)?;
        let seeds: Vec<String> = this.all.iter().map(|h| h.udp.to_string()).collect();
        for (n, host) in this.all.iter_mut().enumerate().skip(1) {
            let mut others = seeds.clone();
            others.remove(n);
            host.join = Some((others, token.clone()));
            host.start()?;
        }
        this.all_up().await?;
        tell(&format!(
            "{} hosts run in {}",
            plan.hosts,
            this.dir.display()
        ));
        Ok(this)
    }

    fn host(&self, n: usize, hale: &Path) -> Result<Host, RealError> {
        let name = format!("host-{}", n + 1);
        let ip = match &self.network {
            Some(network) => network.addr(n),
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let port = match &self.network {
            Some(_) => 7946,
            None => free_port().map_err(RealError::io("no port is free"))?,
        };
        let host = Host {
            addr: SocketAddr::new(ip, port),
            udp: SocketAddr::new(ip, port),
            data: self.dir.join(format!("{name}-data")),
            config: self.dir.join(format!("{name}.toml")),
            log: self.dir.join(format!("{name}.log")),
            namespace: self.network.as_ref().map(|w| w.namespace(n)),
            hale: hale.to_owned(),
            join: None,
            child: None,
            is_stopped: false,
            name,
        };
        let written = fs::write(&host.config, host.configuration(&self.dir));
        written.map_err(RealError::io(format!(
            "{} can't be written",
            host.config.display()
        )))?;
        Ok(host)
    }

    pub(super) fn client(&self, host: usize) -> Client {
        Client {
            http: self.http.clone(),
            addr: self.all[host].addr,
            data: self.all[host].data.clone(),
        }
    }

    /// Who leads, as most of those that can be asked say.
    pub(super) async fn leader(&self) -> Option<usize> {
        let mut said = vec![0; self.all.len()];
        for host in 0..self.all.len() {
            if self.all[host].child.is_none() {
                continue;
            }
            let view = self.client(host).get("/v1/leader").await;
            let name = view.and_then(|v| Some(v["host"].as_str()?.to_owned()));
            if let Some(n) = self.all.iter().position(|h| Some(&h.name) == name.as_ref()) {
                said[n] += 1;
            }
        }
        let (leader, votes) = said.iter().enumerate().max_by_key(|(_, v)| **v)?;
        (*votes > 0).then_some(leader)
    }

    /// A host that holds a lease.
    pub(super) async fn holder(&self) -> Option<usize> {
        for host in 0..self.all.len() {
            let client = self.client(host);
            let leases = client.get("/v1/leases?consistency=stale").await;
            let members = client.get("/v1/members?consistency=stale").await;
            let (Some(leases), Some(members)) = (leases, members) else {
                continue;
            };
            let holder = leases["leases"].get(0)?.get("holder")?.as_str()?.to_owned();
            let mut members = members["members"].as_array()?.iter();
            let name = members.find(|m| m["node"] == holder.as_str())?["host"].as_str()?;
            return self.all.iter().position(|h| h.name == name);
        }
        None
    }

    pub(super) fn kill(&mut self, host: Option<usize>) {
        if let Some(host) = host {
            self.all[host].kill();
        }
    }

    pub(super) fn stop(&mut self, host: Option<usize>) {
        if let Some(host) = host {
            self.all[host].signal(rustix::process::Signal::STOP);
            self.all[host].is_stopped = true;
        }
    }

    /// Asks a host to end, starts it again and waits until it is ready.
    pub(super) async fn restart(&mut self, host: usize) {
        self.all[host].signal(rustix::process::Signal::TERM);
        let began = Instant::now();
        while self.all[host].is_running() && began.elapsed() < STOP {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.all[host].kill();
        // Who does not come up is found when all have to.
        if self.all[host].start().is_ok() {
            let _ = self.ready(host).await;
        }
    }

    /// Starts who does not run and waits until all are ready.
    pub(super) async fn all_up(&mut self) -> Result<(), RealError> {
        for host in 0..self.all.len() {
            self.all[host].start()?;
        }
        for host in 0..self.all.len() {
            self.ready(host).await?;
        }
        Ok(())
    }

    async fn ready(&self, host: usize) -> Result<(), RealError> {
        let (began, at) = (Instant::now(), &self.all[host]);
        let url = format!("http://{}/readyz", at.addr);
        loop {
            let asked = self.http.get(&url).timeout(PATIENCE).send().await;
            if asked.is_ok_and(|a| a.status().is_success()) {
                return Ok(());
            }
            if began.elapsed() > READY {
                let (name, log) = (&at.name, at.log.display());
                let why = format!("{name} was not ready within {READY:?}; its log is {log}");
                return Err(RealError::NotReady(why));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends all, and removes what they left if nothing is to be looked at.
    pub(super) fn take_down(mut self, remove: bool) {
        for host in &mut self.all {
            host.go_on();
            host.kill();
        }
        if remove {
            // What can't be removed is only in the way.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    /// What a lease's holders did, line by line: by whom, and when in nanoseconds.
    pub(super) fn ticks(&self, lease: &str) -> Vec<(String, u128)> {
        let text = fs::read_to_string(self.dir.join(format!("ticks-{lease}")));
        let text = text.unwrap_or_default();
        let parsed = text.lines().filter_map(|l| {
            let (who, at) = l.split_once(' ')?;
            Some((who.to_owned(), at.parse().ok()?))
        });
        parsed.collect()
    }
}

impl Host {
    fn configuration(&self, dir: &Path) -> String {
        let Self {
            name,
            addr,
            udp,
            data,
            ..
        } = self;
        let directory = dir.join("playbooks");
        let library = hale_playbooks::load_all(hale_playbooks::library()).unwrap_or_default();
        let disabled: Vec<String> = library.iter().map(|p| p.name.to_string()).collect();
        // Only what is provoked shall happen: the machine is not watched.
        let quiet = ["system.*", "process.*"]
            .map(|s| format!("[[baseline.overrides]]\nseries = {s:?}\nignore = true\n"))
            .concat();
        format!(
            "[node]\nhost = {name:?}\nenvironment = \"chaos\"\ndata_dir = {data:?}\n\
             listen = \"{addr}\"\n\n[cluster]\nbind = \"{udp}\"\njoin_timeout = \"60s\"\n\n\
             [telemetry]\ninterval = \"2s\"\n\n[executor]\nlease_ttl = \"3s\"\n\n\
             [playbooks]\ndirectory = {directory:?}\ndisabled = {disabled:?}\n\n{quiet}"
        )
    }

    fn hale(&self, args: &[&str]) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(&self.hale),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(&self.hale);
                command
            }
        };
        // Nothing of the caller's own settings.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HALE_") {
                command.env_remove(name);
            }
        }
        command.args(args).arg("--config").arg(&self.config);
        command.stdin(Stdio::null());
        command
    }

    /// Starts it, if it does not run.
    pub(super) fn start(&mut self) -> Result<(), RealError> {
        if self.is_running() {
            return Ok(());
        }
        let mut args = vec!["node"];
        if let Some((seeds, token)) = &self.join {
            args = vec!["join"];
            args.extend(seeds.iter().map(String::as_str));
            args.extend(["--token", token]);
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (one, two) = log.map_err(RealError::io("the log can't be written"))?;
        let spawned = self.hale(&args).stdout(one).stderr(two).spawn();
        let what = format!("{} can't be run", self.hale.display());
        self.child = Some(spawned.map_err(RealError::io(what))?);
        Ok(())
    }

    fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(child) = &self.child {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), signal);
        }
    }

    pub(super) fn go_on(&mut self) {
        if std::mem::take(&mut self.is_stopped) {
            self.signal(rustix::process::Signal::CONT);
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.is_stopped = false;
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One playbook for each lease: under it, a line is written ten times a second for two seconds.
fn write_playbooks(dir: &Path) -> Result<(), RealError> {
    for name in LEASES {
        let ticks = dir.join(format!("ticks-{name}"));
        let ticks = ticks.display();
        // Each run names itself by its process, so that two runs are told apart.
        let script = format!(
            "#!/bin/sh\nstarted=$(cut -d' ' -f22 /proc/$$/stat)\ni=0\nwhile [ $i -lt 20 ]; do\n  \
             echo \"$$-$started $(date +%s%N)\" >> '{ticks}'\n  i=$((i+1))\n  sleep 0.1\ndone\n"
        );
        let program = dir.join(format!("hold-{name}"));
        let made = fs::write(&program, script)
            .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)));
        made.map_err(RealError::io(format!(
            "{} can't be written",
            program.display()
        )))?;
        let program = program.display().to_string();
        let yaml = format!(
            "metadata:\n  name: hold_{name}\n  version: \"1.0.0\"\n  description: >-\n    \
             {name} health check down: the health check of {name} fails, {name} answers 503 and \
             serves nobody. Holds the lease {name} for two seconds.\n  \
             idempotent: true\n  services: [{name}]\n  signature:\n    \
             series: [{{metric: health.up, direction: below}}]\n  scope: custom:{name}\n  \
             max_duration: 60s\nsteps:\n  - name: tick\n    type: command\n    \
             argv: [{program:?}]\n    timeout: 10s\nverification:\n  \
             - name: held\n    type: condition\n    condition: \"true\"\n\
             no_rollback_reason: it only writes into a scratch directory\n"
        );
        let path = dir.join("playbooks").join(format!("hold_{name}.yaml"));
        fs::write(&path, yaml).map_err(RealError::io(format!(
            "{} can't be written",
            path.display()
        )))?;
    }
    Ok(())
}

/// A port that is free on loopback for TCP and UDP, below those that the system gives to clients:
/// it stays free while a host is down.
fn free_port() -> std::io::Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 14_000 + (std::process::id() % 150) as u16 * 100;
    for _ in 0..400 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 400;
        let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if is_free {
            return Ok(port);
        }
    }
    Err(std::io::ErrorKind::AddrInUse.into())
}
