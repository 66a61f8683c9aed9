//! A cluster of real nodes on loopback, and what has to hold of it while it is attacked: nobody down,
//! nobody much slower, nobody's memory growing.

use hale_model::{HostName, NodeId};
use hale_tests::{Chain, Client, Guarded, Scratch, free_port, hale_command, run, wait_until};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const READY: Duration = Duration::from_secs(60);
/// How much a node's memory may grow by one attack.
const MAX_GROWTH: u64 = 64 << 20;
/// A write while the cluster is attacked takes at most so many times what it took before, and this
/// much more.
const SLOWER: u32 = 5;
const MUCH_SLOWER: Duration = Duration::from_millis(200);
/// A machine that is busy with other tests misses heartbeats now and then; a term that is taken over
/// is far beyond this.
const MAX_ELECTIONS: u64 = 20;

/// One host's node.
pub(crate) struct Host {
    pub(crate) name: String,
    data: PathBuf,
    pub(crate) http: SocketAddr,
    pub(crate) udp: SocketAddr,
    process: Guarded,
}

impl Host {
    pub(crate) fn client(&self) -> Client {
        let text = std::fs::read_to_string(self.data.join("api.json")).unwrap_or_default();
        let known: Value = serde_json::from_str(&text).unwrap_or_default();
        let token = known["token"].as_str().map(str::to_owned);
        Client {
            addr: self.http,
            token,
        }
    }

    /// The sum of all of a metric's points whose line begins so.
    pub(crate) fn metric(&self, prefix: &str) -> u64 {
        let text = self.client().try_get("/metrics").text();
        let of = text.lines().filter(|l| l.starts_with(prefix));
        of.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    fn resident(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.pid());
        let status = std::fs::read_to_string(status).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmRSS:"));
        let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or(0) << 10
    }
}

/// The cluster. Its processes end with it.
pub(crate) struct Fleet {
    scratch: Scratch,
    pub(crate) hosts: Vec<Host>,
    /// What a write takes while nobody attacks.
    quiet: Duration,
}

fn free_udp() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

impl Fleet {
    /// One node, without any token.
    pub(crate) fn of_one() -> Self {
        let mut this = Self {
            scratch: Scratch::new(),
            hosts: vec![],
            quiet: Duration::ZERO,
        };
        let (data, udp) = (this.scratch.path("host-0"), free_udp());
        let mut init = hale_command(&["init", "--host", "host-0", "--data-dir"]);
        init.arg(&data).arg("--bind").arg(udp.to_string());
        run(&mut init, READY).succeeded();
        this.start("host-0", udp, &["node"]);
        this.quiet = this.median(12);
        this
    }

    /// Three nodes that all vote.
    pub(crate) fn of_three() -> Self {
        let mut this = Self::of_one();
        let (seed, token) = (this.hosts[0].udp.to_string(), this.token());
        for n in 1..3 {
            let (name, udp) = (format!("host-{n}"), free_udp());
            this.start(&name, udp, &["join", &seed, "--token", &token]);
        }
        wait_until("all three vote and see one another", READY, || {
            this.hosts.iter().all(|h| {
                h.metric("hale_raft_voters") == 3 && h.metric("hale_members{state=\"alive\"}") >= 3
            })
        });
        this.quiet = this.median(24);
        // For comparison.
        this.withstands("nothing", &[], || {
            std::thread::park_timeout(Duration::from_secs(3))
        });
        this
    }

    fn start(&mut self, name: &str, udp: SocketAddr, args: &[&str]) {
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let data = self.scratch.path(name);
        let quiet = ["system.*", "process.*"]
            .map(|s| format!("[[baseline.overrides]]\nseries = {s:?}\nignore = true\n"))
            .concat();
        let config = self.scratch.write(&format!("{name}.toml"), quiet);
        let log = std::fs::File::create(self.scratch.path(&format!("{name}.log"))).unwrap();
        let mut command = hale_command(args);
        command
            .args(["--interval", "1s", "--host", name, "--config"])
            .arg(config)
            .arg("--data-dir")
            .arg(&data)
            .args(["--bind", &udp.to_string(), "--listen", &http.to_string()])
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let host = Host {
            name: name.to_owned(),
            data,
            http,
            udp,
            process: Guarded::spawn(&mut command),
        };
        let client = host.client();
        self.hosts.push(host);
        wait_until(&format!("{name} is ready"), READY, || {
            let ready = client.send("GET", "/readyz", &[], b"");
            ready.is_ok_and(|a| a.status == 200)
        });
    }

    /// The text of a token that lets many in.
    pub(crate) fn token(&self) -> String {
        let ask = json!({ "uses": 100, "by": "a tester" });
        let made = self.hosts[0].client().post("/v1/tokens", &ask);
        made["token"].as_str().unwrap().to_owned()
    }

    /// The cluster's number.
    pub(crate) fn number(&self) -> u64 {
        let text = std::fs::read_to_string(self.hosts[0].data.join("cluster.id")).unwrap();
        u64::from_str_radix(text.trim(), 16).unwrap()
    }

    /// The nodes in the order of the hosts.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        let members = self.hosts[0].client().get("/v1/members");
        let members = members["members"].as_array().unwrap().clone();
        let node_of = |h: &Host| {
            let own = members.iter().find(|m| m["host"] == h.name.as_str());
            serde_json::from_value(own.unwrap()["node"].clone()).unwrap()
        };
        self.hosts.iter().map(node_of).collect()
    }

    pub(crate) fn term(&self) -> u64 {
        let voters = self.hosts[0].client().get("/v1/voters");
        voters["term"].as_u64().unwrap()
    }

    /// All that is on the chain.
    pub(crate) fn chain(&self) -> Vec<Value> {
        Chain::read(&self.hosts[0].client()).entries
    }

    /// One write through a host's API: the freeze is set or lifted.
    fn write(&self, n: usize) -> Duration {
        let client = self.hosts[n % self.hosts.len()].client();
        let began = Instant::now();
        let body = json!({ "by": "a tester", "reason": format!("write {n}") }).to_string();
        let json = [("content-type", "application/json")];
        let (method, body) = match n.is_multiple_of(2) {
            true => ("POST", body),
            false => ("DELETE", json!({ "by": "a tester" }).to_string()),
        };
        let answer = client.send(method, "/v1/freeze", &json, body.as_bytes());
        let answer = answer.unwrap_or_else(|e| panic!("{}: {e}", client.addr));
        assert_eq!(answer.status, 200, "{}", answer.text());
        began.elapsed()
    }

    fn median(&self, of: usize) -> Duration {
        median((0..of).map(|n| self.write(n)).collect())
    }

    /// The sum of a metric over all hosts.
    pub(crate) fn counted(&self, prefix: &str) -> u64 {
        self.hosts.iter().map(|h| h.metric(prefix)).sum()
    }

    /// Attacks, and checks what has to hold. Each of the counters rises at least by what stands
    /// beside it.
    #[track_caller]
    pub(crate) fn withstands(
        &mut self,
        what: &str,
        counters: &[(&str, u64)],
        attack: impl FnOnce() + Send,
    ) {
        let (before, term) = (self.counts(counters), self.term());
        let memory: Vec<u64> = self.hosts.iter().map(Host::resident).collect();
        let (done, mut took) = (AtomicBool::new(false), vec![]);
        let began = Instant::now();
        let mut peak = memory.clone();
        std::thread::scope(|scope| {
            let attacking = scope.spawn(|| {
                attack();
                done.store(true, Ordering::Relaxed);
            });
            while !(attacking.is_finished() && took.len() >= 12) {
                took.push(self.write(took.len()));
                for (peak, host) in peak.iter_mut().zip(&self.hosts) {
                    *peak = (*peak).max(host.resident());
                }
            }
        });
        let lasted = began.elapsed();
        assert!(done.into_inner(), "{what}: the attack itself failed");
        let slowest = took.iter().max().copied().unwrap_or_default();
        let during = median(took);
        wait_until(
            &format!("{what} is counted: {counters:?}"),
            READY / 4,
            || {
                let now = self.counts(counters);
                let least = counters.iter().map(|(_, least)| least);
                now.iter()
                    .zip(&before)
                    .zip(least)
                    .all(|((n, b), l)| *n >= *b + *l)
            },
        );
        let counted: Vec<u64> = self
            .counts(counters)
            .iter()
            .zip(&before)
            .map(|(n, b)| n - b)
            .collect();
        let grown = peak
            .iter()
            .zip(&memory)
            .map(|(p, m)| p.saturating_sub(*m))
            .max();
        let grown = grown.unwrap_or(0);
        let quiet = self.quiet;
        let line = format!(
            "{what} | {lasted:.1?} | +{} terms | a write {quiet:.1?} → {during:.1?}, at most {slowest:.1?} | {} MiB | {counters:?} +{counted:?}",
            self.term() - term,
            grown >> 20,
        );
        // Past the capture of a passing test's output.
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
        assert!(
            during < quiet * SLOWER + MUCH_SLOWER,
            "{what}: a write took {during:?} instead of {quiet:?}"
        );
        assert!(
            grown < MAX_GROWTH,
            "{what}: a node grew by {} MiB",
            grown >> 20
        );
        let elections = self.term() - term;
        assert!(elections < MAX_ELECTIONS, "{what}: {elections} terms began");
        self.assert_well(what);
    }

    fn counts(&self, counters: &[(&str, u64)]) -> Vec<u64> {
        counters
            .iter()
            .map(|(name, _)| self.counted(name))
            .collect()
    }

    /// All processes run, and all members take all for alive.
    #[track_caller]
    pub(crate) fn assert_well(&mut self, what: &str) {
        for host in &mut self.hosts {
            let ended = host.process.ended();
            assert!(ended.is_none(), "{what}: {} ended: {ended:?}", host.name);
            let log = std::fs::read_to_string(self.scratch.path(&format!("{}.log", host.name)));
            let panicked = log.unwrap_or_default().contains("panicked");
            assert!(!panicked, "{what}: {} panicked", host.name);
        }
        let names: Vec<String> = self.hosts.iter().map(|h| h.name.clone()).collect();
        wait_until(&format!("after {what} all are alive"), READY / 4, || {
            self.hosts.iter().all(|h| {
                let members = h.client().get("/v1/members");
                let all = members["members"].as_array().cloned().unwrap_or_default();
                let own = all
                    .iter()
                    .filter(|m| names.iter().any(|n| m["host"] == n.as_str()));
                own.filter(|m| m["state"] == "alive").count() == names.len()
            })
        });
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for host in &self.hosts {
            let log = std::fs::read_to_string(self.scratch.path(&format!("{}.log", host.name)));
            let log = log.unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(15)..].join("\n");
            let _ = writeln!(
                std::io::stderr(),
                "the end of the log of {}:\n{end}",
                host.name
            );
        }
    }
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// A host's name.
pub(crate) fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}
