//! Network namespaces, one a host, joined by a bridge in a namespace of its own, in which `nft`
//! drops what should not get from one port to another.

use super::line::{Line, Quality};
use super::tool::{found, run};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};

/// The last part of this program's own address.
const OURS: u8 = 254;

/// The hosts' network. It is taken down when dropped.
#[derive(Debug)]
pub(super) struct Network {
    name: String,
    prefix: [u8; 3],
    hosts: usize,
    /// The host behind a bad line, and the line.
    bad: Option<(usize, Line)>,
}

impl Network {
    /// Joins so many namespaces; or why that can't be done here.
    pub(super) fn make(hosts: usize) -> Result<Self, String> {
        for program in ["ip", "nft"] {
            if !found(program) {
                return Err(format!(
                    "`{program}` is not installed (Debian: iproute2, nftables)"
                ));
            }
        }
        sweep();
        let pid = std::process::id();
        let this = Self {
            name: format!("chaos{pid}"),
            // Benchmarking addresses (RFC 2544): nobody's own.
            prefix: [198, 18 + (pid / 250 % 2) as u8, (pid % 250) as u8],
            hosts,
            bad: None,
        };
        this.build().map_err(|why| {
            format!("no network namespaces could be made (root is needed): {why}")
        })?;
        Ok(this)
    }

    fn build(&self) -> Result<(), String> {
        let switch = self.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "br0", "up"])?;
        for host in 0..self.hosts {
            let (ns, port) = (self.namespace(host), port(host));
            ip(&["netns", "add", &ns])?;
            ip(&[
                "link", "add", &port, "netns", &switch, "type", "veth", "peer", "name", "eth0",
                "netns", &ns,
            ])?;
            ip(&["-n", &ns, "link", "set", "lo", "up"])?;
            let addr = format!("{}/24", self.addr(host));
            ip(&["-n", &ns, "addr", "add", &addr, "dev", "eth0"])?;
            ip(&["-n", &ns, "link", "set", "eth0", "up"])?;
            self.plug(&port)?;
        }
        let ours = self.outside();
        ip(&[
            "link", "add", &ours, "type", "veth", "peer", "name", "out", "netns", &switch,
        ])?;
        let [a, b, c] = self.prefix;
        let addr = format!("{}/24", Ipv4Addr::new(a, b, c, OURS));
        ip(&["addr", "add", &addr, "dev", &ours])?;
        ip(&["link", "set", &ours, "up"])?;
        self.plug("out")
    }

    fn plug(&self, port: &str) -> Result<(), String> {
        let switch = self.switch();
        ip(&["-n", &switch, "link", "set", port, "master", "br0"])?;
        ip(&["-n", &switch, "link", "set", port, "up"])
    }

    fn switch(&self) -> String {
        format!("{}sw", self.name)
    }

    fn outside(&self) -> String {
        // An interface's name has at most 15 characters.
        format!("c{}o", std::process::id())
    }

    /// The namespace of a host.
    pub(super) fn namespace(&self, host: usize) -> String {
        format!("{}h{host}", self.name)
    }

    /// The address of a host.
    pub(super) fn addr(&self, host: usize) -> IpAddr {
        let [a, b, c] = self.prefix;
        IpAddr::V4(Ipv4Addr::new(a, b, c, host as u8 + 1))
    }

    /// From now on nothing gets from these hosts to the others, nor back if `both_ways`.
    pub(super) fn part(&mut self, inside: &[usize], all: usize, both_ways: bool) {
        let outside = (0..all).filter(|h| !inside.contains(h));
        let mut rules = String::new();
        for (a, b) in outside.flat_map(|b| inside.iter().map(move |a| (*a, b))) {
            rules += &drop_rule(a, b);
            if both_ways {
                rules += &drop_rule(b, a);
            }
        }
        self.apply(&rules);
    }

    /// From now on what a host sends and receives goes over a bad line.
    pub(super) fn degrade(&mut self, host: usize, quality: Quality) -> Result<(), String> {
        let (switch, pid) = (self.switch(), std::process::id());
        let (near, far) = (format!("c{pid}n"), format!("c{pid}f"));
        let line = Line::lay([&near, &far], &switch, quality)?;
        self.bad = Some((host, line));
        let link = |args: &[&str]| ip(&[&["-n", &switch, "link"], args].concat());
        link(&["add", "br1", "type", "bridge"])?;
        link(&["set", "br1", "up"])?;
        for (port, bridge) in [(&*near, "br1"), (&*far, "br0"), (&*port(host), "br1")] {
            link(&["set", port, "master", bridge])?;
            link(&["set", port, "up"])?;
        }
        Ok(())
    }

    /// Everything gets through again.
    pub(super) fn heal(&mut self) {
        self.apply("");
        if let Some((host, line)) = self.bad.take() {
            // Whatever was not done needs not be undone.
            let _ = self.plug(&port(host));
            let _ = ip(&["-n", &self.switch(), "link", "del", "br1"]);
            drop(line);
        }
    }

    fn apply(&self, rules: &str) {
        let table = format!(
            "table bridge cuts {{}}\ndelete table bridge cuts\ntable bridge cuts {{\n\
             chain between {{\ntype filter hook forward priority 0; policy accept;\n{rules}}}\n}}\n"
        );
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.switch(), "nft", "-f", "-"]);
        let child = nft
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(mut child) = child {
            if let Some(mut stdin) = child.stdin.take() {
                let _ = std::io::Write::write_all(&mut stdin, table.as_bytes());
            }
            let _ = child.wait();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What is not there need not be taken down.
        let _ = ip(&["link", "del", &self.outside()]);
        for host in 0..self.hosts {
            let _ = ip(&["netns", "del", &self.namespace(host)]);
        }
        let _ = ip(&["netns", "del", &self.switch()]);
    }
}

/// Takes down what was left by a process that was killed.
fn sweep() {
    let left = std::fs::read_dir("/run/netns").into_iter().flatten();
    for entry in left.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix("chaos") else {
            continue;
        };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if !digits.is_empty() && !Path::new("/proc").join(&digits).exists() {
            // Who can't take it down can't make another either, and hears of that.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn port(host: usize) -> String {
    format!("p{host}")
}

fn drop_rule(from: usize, to: usize) -> String {
    let (from, to) = (port(from), port(to));
    format!("iifname \"{from}\" oifname \"{to}\" drop\n")
}

fn ip(args: &[&str]) -> Result<(), String> {
    run("ip", args)
}
