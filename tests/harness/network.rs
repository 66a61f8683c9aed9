//! Network namespaces, one a host, joined by a bridge in a namespace of its own: packets between
//! two hosts can be dropped in one direction or both, while the test reaches every host.

use super::process::run;
use super::wait::skipped;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long one command of `ip` or `nft` may take on a busy machine.
const BOUND: Duration = Duration::from_secs(20);
/// The last part of the test's own address.
const OURS: u8 = 254;

/// The hosts' network. It is taken down when dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    prefix: [u8; 3],
    hosts: usize,
    cuts: Mutex<BTreeSet<(usize, usize)>>,
}

impl Network {
    /// Joins `hosts` namespaces, or says that `test` is skipped where that can't be done.
    ///
    /// # Panics
    /// If it can be done and fails.
    pub fn of(test: &str, hosts: usize) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skipped(test, "network namespaces need root");
            return None;
        }
        for program in ["ip", "nft"] {
            let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
                .map(|d| Path::new(d).join(program))
                .iter()
                .any(|p| p.exists());
            if !found {
                skipped(
                    test,
                    &format!("`{program}` is not installed (iproute2, nftables)"),
                );
                return None;
            }
        }
        sweep();
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let (pid, n) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let probe = format!("haleprobe{pid}");
        if !succeeds("ip", &["netns", "add", &probe]) {
            skipped(test, "this machine gives no network namespaces");
            return None;
        }
        ip(&["netns", "del", &probe]);
        let this = Self {
            name: format!("hale{pid}x{n}"),
            // Benchmarking addresses (RFC 2544): nobody's own.
            prefix: [
                198,
                18 + (pid / 250 % 2) as u8,
                ((pid % 250) as usize + n) as u8,
            ],
            hosts,
            cuts: Mutex::default(),
        };
        this.build();
        Some(this)
    }

    fn build(&self) {
        let switch = self.switch();
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        for host in 0..self.hosts {
            let (ns, port) = (self.namespace(host), port(host));
            ip(&["netns", "add", &ns]);
            let ends = [
                "link", "add", &port, "netns", &switch, "type", "veth", "peer", "name", "eth0",
            ];
            ip(&[&ends[..], &["netns", &ns]].concat());
            ip(&["-n", &ns, "link", "set", "lo", "up"]);
            let addr = format!("{}/24", self.addr(host));
            ip(&["-n", &ns, "addr", "add", &addr, "dev", "eth0"]);
            ip(&["-n", &ns, "link", "set", "eth0", "up"]);
            self.plug(&port);
        }
        let ours = self.outside();
        ip(&[
            "link", "add", &ours, "type", "veth", "peer", "name", "out", "netns", &switch,
        ]);
        let [a, b, c] = self.prefix;
        let addr = format!("{}/24", Ipv4Addr::new(a, b, c, OURS));
        ip(&["addr", "add", &addr, "dev", &ours]);
        ip(&["link", "set", &ours, "up"]);
        self.plug("out");
    }

    fn plug(&self, port: &str) {
        let switch = self.switch();
        ip(&["-n", &switch, "link", "set", port, "master", "br0"]);
        ip(&["-n", &switch, "link", "set", port, "up"]);
    }

    fn switch(&self) -> String {
        format!("{}sw", self.name)
    }

    fn outside(&self) -> String {
        // An interface's name has at most 15 characters.
        format!("{}o", self.name)
    }

    /// The namespace of a host.
    pub fn namespace(&self, host: usize) -> String {
        format!("{}h{host}", self.name)
    }

    /// The address of a host.
    pub fn addr(&self, host: usize) -> IpAddr {
        let [a, b, c] = self.prefix;
        IpAddr::V4(Ipv4Addr::new(a, b, c, host as u8 + 1))
    }

    /// From now on nothing gets from one host to another.
    pub fn cut(&self, from: usize, to: usize) {
        self.cuts.lock().unwrap().insert((from, to));
        self.apply();
    }

    /// From now on nothing gets from one side to the other, nor back.
    pub fn part(&self, one: &[usize], other: &[usize]) {
        {
            let mut cuts = self.cuts.lock().unwrap();
            for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                cuts.extend([(a, b), (b, a)]);
            }
        }
        self.apply();
    }

    /// Everything gets through again.
    pub fn heal(&self) {
        self.cuts.lock().unwrap().clear();
        self.apply();
    }

    fn apply(&self) {
        let mut rules =
            String::from("table bridge cuts {}\ndelete table bridge cuts\ntable bridge cuts {\n");
        rules.push_str("chain between {\ntype filter hook forward priority 0; policy accept;\n");
        for (from, to) in self.cuts.lock().unwrap().iter() {
            let (from, to) = (port(*from), port(*to));
            rules.push_str(&format!("iifname \"{from}\" oifname \"{to}\" drop\n"));
        }
        rules.push_str("}\n}\n");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules");
        std::fs::write(&file, rules).unwrap();
        let file = file.to_string_lossy();
        ip(&["netns", "exec", &self.switch(), "nft", "-f", &file]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let mut spaces: Vec<String> = (0..self.hosts).map(|h| self.namespace(h)).collect();
        spaces.push(self.switch());
        succeeds("ip", &["link", "del", &self.outside()]);
        for space in spaces {
            succeeds("ip", &["netns", "del", &space]);
        }
    }
}

fn port(host: usize) -> String {
    format!("p{host}")
}

/// Takes down what a test left that was killed.
fn sweep() {
    for entry in std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let digits: Option<&str> = name
            .strip_prefix("hale")
            .and_then(|n| n.split_once('x'))
            .map(|(pid, _)| pid);
        let pid: Option<u32> = digits.and_then(|d| d.parse().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            succeeds("ip", &["netns", "del", &name]);
        }
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    run(Command::new("ip").args(args), BOUND).succeeded();
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}
