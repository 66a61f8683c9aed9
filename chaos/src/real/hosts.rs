//! All hosts, and the cluster that they make.

use super::host::Host;
use super::network::Network;
use super::{Plan, RealError, disk, playbooks};
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a host may take until it is ready.
const READY: Duration = Duration::from_secs(90);
/// How long it may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(20);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a host may take to say who leads.
const AT_ONCE: Duration = Duration::from_secs(2);
/// The names of the leases that are contended for.
pub(super) const LEASES: [&str; 3] = ["a", "b", "c"];

/// All of them, and what joins them.
#[derive(Debug)]
pub(super) struct Hosts {
    pub(super) all: Vec<Host>,
    pub(super) network: Option<Network>,
    /// Why there are no namespaces, if there are none.
    pub(super) loopback: Option<String>,
    pub(super) dir: PathBuf,
    /// Dropped after the hosts and their disks.
    shared: Option<disk::Shared>,
    http: reqwest::Client,
    token: String,
    /// What a host should have managed and did not: what the report says did not hold.
    pub(super) failed: Vec<String>,
    /// The host that lost everything and was not replaced, if there is one.
    pub(super) lost: Option<usize>,
    /// What the hosts do not run yet and shall, if they began with something older.
    pub(super) newer: Option<PathBuf>,
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

    pub(super) async fn delete(&self, path: &str, body: &Value) -> Option<Value> {
        self.send(reqwest::Method::DELETE, path, Some(body)).await
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
        disk::sweep();
        let made = fs::create_dir_all(dir.join("playbooks"));
        made.map_err(RealError::io(format!("{} can't be made", dir.display())))?;
        let shared = disk::Shared::make(&dir);
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
        playbooks::write(&dir)?;
        let http = reqwest::Client::builder().no_proxy().build();
        let http = http.map_err(|e| RealError::NotReady(format!("no HTTP client: {e}")))?;
        let mut this = Self {
            all: vec![],
            network,
            loopback,
            http,
            dir,
            shared,
            token: String::new(),
            failed: vec![],
            lost: None,
            newer: plan.from.as_ref().map(|_| plan.hale.clone()),
        };
        for n in 0..plan.hosts {
            let hale = plan.from.as_ref().unwrap_or(&plan.hale);
            let host = this.host(n, hale)?;
            this.all.push(host);
        }
        if let Some(Err(why)) = this.all.first().map(|h| h.disk.as_ref()) {
            tell(&format!("hosts without disks of their own: {why}"));
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
        this.token = token.ok_or_else(no_token)?;
        for n in 1..plan.hosts {
            this.let_join(n)?;
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
        let addr = SocketAddr::new(ip, port);
        let namespace = self.network.as_ref().map(|w| w.namespace(n));
        Host::make(&self.dir, name, addr, namespace, hale)
    }

    /// Starts a host that knows the others and has a token.
    fn let_join(&mut self, host: usize) -> Result<(), RealError> {
        let others = self.all.iter().enumerate().filter(|(n, _)| *n != host);
        let others = others.map(|(_, h)| h.addr.to_string()).collect();
        let at = &mut self.all[host];
        at.join = Some((others, self.token.clone()));
        at.start()
    }

    pub(super) fn client(&self, host: usize) -> Client {
        Client {
            http: self.http.clone(),
            addr: self.all[host].addr,
            data: self.all[host].data(),
        }
    }

    /// Who leads, as most of those that answer at once say.
    pub(super) async fn leader(&mut self) -> Option<usize> {
        let running = (0..self.all.len()).filter(|n| self.all[*n].is_running());
        let running: Vec<usize> = running.collect();
        let asks = running.into_iter().map(|n| {
            let client = self.client(n);
            tokio::spawn(async move {
                let view = client.get("/v1/leader");
                let view = tokio::time::timeout(AT_ONCE, view).await.ok()??;
                Some(view["host"].as_str()?.to_owned())
            })
        });
        let mut said = vec![0; self.all.len()];
        for asked in asks.collect::<Vec<_>>() {
            let name = asked.await.ok().flatten();
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

    pub(super) fn kill(&mut self, host: usize) {
        self.all[host].kill();
    }

    /// Asks a host to end, starts it again and waits until it is ready.
    pub(super) async fn restart(&mut self, host: usize) {
        self.all[host].signal(rustix::process::Signal::TERM);
        let began = Instant::now();
        while self.all[host].is_running() && began.elapsed() < STOP {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.all[host].kill();
        let started = self.all[host].start();
        let ready = match started {
            Ok(()) => self.ready(host).await,
            Err(e) => Err(e),
        };
        self.failed
            .extend(ready.err().map(|e| format!("after a restart: {e}")));
    }

    /// Has the cluster forget a dead host, and lets a new one with its name join.
    pub(super) async fn replace(&mut self, host: usize) -> Result<(), RealError> {
        let (began, name) = (Instant::now(), self.all[host].name.clone());
        let asked = json!({ "by": "hale-chaos" });
        let mut other = host;
        loop {
            other = (other + 1) % self.all.len();
            if other == host {
                tokio::time::sleep(Duration::from_millis(300)).await;
            } else if let Some(node) = self.node(other, &name).await {
                let path = format!("/v1/members/{node}/remove");
                if self.client(other).post(&path, &asked).await.is_some() {
                    break;
                }
            }
            if began.elapsed() > READY {
                let why = format!("nobody could remove {name} within {READY:?}");
                return Err(RealError::NotReady(why));
            }
        }
        self.let_join(host)?;
        self.ready(host).await
    }

    /// The id of a member with this name, as a host knows it.
    async fn node(&self, of: usize, name: &str) -> Option<String> {
        let members = self.client(of).get("/v1/members?consistency=stale").await?;
        let mut members = members["members"].as_array()?.iter();
        let member = members.find(|m| m["host"] == name && m["removed"] != true)?;
        Some(member["node"].as_str()?.to_owned())
    }

    /// Starts who does not run and waits until all are ready.
    pub(super) async fn all_up(&mut self) -> Result<(), RealError> {
        for host in 0..self.all.len() {
            self.all[host].start()?;
        }
        for host in 0..self.all.len() {
            match self.ready(host).await {
                Ok(()) if self.lost == Some(host) => self.lost = None,
                // That it was not replaced is told already.
                Err(_) if self.lost == Some(host) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Whether it does its work now.
    pub(super) async fn is_ready(&self, host: usize) -> bool {
        let url = format!("http://{}/readyz", self.all[host].addr);
        let asked = self.http.get(&url).timeout(PATIENCE).send().await;
        asked.is_ok_and(|a| a.status().is_success())
    }

    async fn ready(&self, host: usize) -> Result<(), RealError> {
        let (began, at) = (Instant::now(), &self.all[host]);
        loop {
            if self.is_ready(host).await {
                return Ok(());
            }
            if began.elapsed() > READY {
                let (name, log) = (&at.name, at.log().display().to_string());
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
        self.all.clear();
        self.shared = None;
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
