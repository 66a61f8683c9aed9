//! A cluster of real `hale` processes, on loopback or each in a network namespace of its own.

use super::chain::Chain;
use super::member::{Member, Start};
use super::network::Network;
use super::playbook::{Playbook, check, command};
use super::scene::library_names;
use super::scratch::Scratch;
use super::wait::{wait_for, wait_until};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// How long a group may take until all its seats are given, or all of it is as it should be again.
pub const SETTLED: Duration = Duration::from_secs(60);
/// How long a step of the playbook `hold_…` goes on, in tenths of a second.
const HOLD_TICKS: u32 = 20;

/// The nodes. They end, by their pids, when this is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// The nodes; the first one makes the cluster.
    pub members: Vec<Member>,
    /// The directory of it all.
    pub scratch: Scratch,
    /// What joins the hosts, where each has a namespace of its own.
    pub network: Option<Network>,
    sections: String,
    join: Option<String>,
}

impl Fleet {
    /// One that is not made yet: its first node is not started.
    pub fn new(network: Option<Network>) -> Self {
        let scratch = Scratch::new();
        let sections = sections(&scratch);
        let mut this = Self {
            members: vec![],
            scratch,
            network,
            sections,
            join: None,
        };
        this.add(Start::Node);
        this
    }

    /// A cluster of so many on loopback, all seats given.
    ///
    /// # Panics
    /// If it does not come about.
    #[track_caller]
    pub fn of(count: usize) -> Self {
        Self::grown(None, count)
    }

    /// A cluster of so many in namespaces of their own, all seats given.
    #[track_caller]
    pub fn within(network: Network, count: usize) -> Self {
        Self::grown(Some(network), count)
    }

    #[track_caller]
    fn grown(network: Option<Network>, count: usize) -> Self {
        let mut this = Self::new(network);
        this.found();
        this.grow(count - 1);
        this.settle();
        this
    }

    /// One more node, not started, with what all of them watch and know.
    pub fn add(&mut self, start: Start) -> usize {
        let n = self.members.len();
        let host = format!("host-{}", n + 1);
        let member = Member::new(self.scratch.dir(), &host, start, &self.sections);
        self.members.push(match &self.network {
            None => member,
            Some(network) => member.within(network.namespace(n), network.addr(n)),
        });
        n
    }

    /// Makes the cluster, starts its first node, and makes a token for all others.
    #[track_caller]
    pub fn found(&mut self) {
        self.members[0].init().succeeded();
        self.members[0].run();
        self.join = Some(self.token(500));
    }

    /// A new token.
    #[track_caller]
    pub fn token(&self, uses: u64) -> String {
        let asked = json!({ "uses": uses, "by": "a tester" });
        let made = self.members[0].post("/v1/tokens", &asked);
        made["token"].as_str().unwrap().to_owned()
    }

    /// The command line by which another host joins through the first.
    pub fn joining(&self) -> Start {
        Start::Join(vec![self.members[0].seed()], self.join.clone())
    }

    /// Lets so many more in, all at once.
    #[track_caller]
    pub fn grow(&mut self, by: usize) {
        let new: Vec<usize> = (0..by).map(|_| self.add(self.joining())).collect();
        for n in &new {
            self.members[*n].spawn();
        }
        for n in new {
            self.members[n].ready();
        }
    }

    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.is_started())
    }

    /// Which node has a host's name.
    pub fn index_of(&self, host: &str) -> usize {
        self.members.iter().position(|m| m.host == host).unwrap()
    }

    /// The nodes that vote, and those that stand by, as the one that is asked knows it.
    pub fn seats(&self, asked: &Member) -> Option<(Vec<String>, Vec<String>)> {
        let view = asked.ask("/v1/voters")?;
        let of = |wanted: &[&str]| {
            let all = view["voters"].as_array().unwrap().iter();
            let seated = all.filter(|v| wanted.contains(&v["seat"].as_str().unwrap_or_default()));
            let mut hosts: Vec<String> = seated
                .map(|v| v["host"].as_str().unwrap_or("?").to_owned())
                .collect();
            hosts.sort();
            hosts
        };
        Some((of(&["leader", "voter"]), of(&["learner"])))
    }

    /// Waits until every node that runs follows the same leader, as many vote as should, and
    /// everybody takes everybody for alive.
    #[track_caller]
    pub fn settle(&self) {
        let count = self.running().count();
        let (voters, learners) = match count {
            0..=2 => (1, count - 1),
            3..=4 => (3, count - 3),
            _ => (5, (count - 5).min(2)),
        };
        let mut seen = String::new();
        wait_until(&format!("{count} nodes have their seats"), SETTLED, || {
            let leader = self.leader_known();
            let seats = leader.and_then(|l| self.seats(&self.members[l]));
            seen = format!("{leader:?} {seats:?}");
            let filled = seats.is_some_and(|(v, l)| v.len() == voters && l.len() == learners);
            filled && self.running().all(|m| self.sees(m, count))
        });
    }

    fn sees(&self, member: &Member, count: usize) -> bool {
        let Some(view) = member.ask("/v1/members?consistency=stale") else {
            return false;
        };
        let all = view["members"].as_array().unwrap();
        let alive = all.iter().filter(|m| m["state"] == "alive").count();
        alive == count
    }

    /// The node that leads, if all that run name the same.
    pub fn leader_known(&self) -> Option<usize> {
        let mut known = None;
        for member in self.running() {
            let view = member.ask("/v1/leader")?;
            let host = view["host"].as_str()?.to_owned();
            match &known {
                None => known = Some(host),
                Some(other) if *other == host => {}
                Some(_) => return None,
            }
        }
        let leader = self.index_of(&known?);
        self.members[leader].is_started().then_some(leader)
    }

    /// Waits until all that run name the same leader.
    #[track_caller]
    pub fn leader(&self) -> usize {
        wait_for("one leader is known to all", SETTLED, || {
            self.leader_known()
        })
    }

    /// A node that runs and does not lead.
    #[track_caller]
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        let other = |n: &usize| *n != leader && self.members[*n].is_started();
        (0..self.members.len()).find(other).unwrap()
    }

    /// Waits until the chains of these nodes are equal, and returns one.
    ///
    /// # Panics
    /// If they never are, or differ where both have an entry.
    #[track_caller]
    pub fn equal_chains(&self, of: &[usize]) -> Chain {
        wait_for("the chains are equal", SETTLED, || {
            let chains: Vec<Chain> = of.iter().map(|n| self.members[*n].chain()).collect();
            for (chain, n) in chains.iter().zip(of) {
                let (one, other) = (&chains[0].entries, &chain.entries);
                let shared = one.len().min(other.len());
                for at in 0..shared {
                    assert_eq!(
                        one[at], other[at],
                        "entry {at} of {} and {}",
                        self.members[of[0]].host, self.members[*n].host
                    );
                }
            }
            let all = chains
                .iter()
                .all(|c| c.entries.len() == chains[0].entries.len());
            all.then(|| chains[0].clone())
        })
    }

    /// The chains of all that run and hold one.
    #[track_caller]
    pub fn one_chain(&self) -> Chain {
        let all: Vec<usize> = (0..self.members.len()).collect();
        let running: Vec<usize> = all
            .into_iter()
            .filter(|n| self.members[*n].is_started())
            .collect();
        self.equal_chains(&running)
    }

    /// Has a node run the playbook `hold_NAME`, which takes a cluster-wide lease and ticks under it
    /// for two seconds. The execution, if the node began it.
    pub fn hold(&self, node: usize, name: &str) -> Option<String> {
        let path = format!("/v1/playbooks/hold_{name}/run");
        let run = self.members[node].tell(&path, &json!({ "service": name, "by": "a tester" }))?;
        Some(run["execution"].as_str()?.to_owned())
    }

    /// What was done under the lease of `hold_NAME`: by whom, and when, in nanoseconds.
    pub fn ticks(&self, name: &str) -> Vec<(String, u128)> {
        let lines = self.scratch.lines(&format!("ticks-{name}"));
        let parsed = lines.iter().filter_map(|l| {
            let (who, at) = l.split_once(' ')?;
            Some((who.to_owned(), at.parse().ok()?))
        });
        parsed.collect()
    }

    /// Checks that what was done under the lease of `hold_NAME` was done by one after the other.
    ///
    /// # Panics
    /// If two were at it at a time.
    #[track_caller]
    pub fn assert_held_by_one(&self, name: &str) {
        let mut spans: Vec<(String, u128, u128)> = vec![];
        for (who, at) in self.ticks(name) {
            match spans.iter_mut().find(|(w, ..)| *w == who) {
                Some((_, _, last)) => *last = (*last).max(at),
                None => spans.push((who, at, at)),
            }
        }
        spans.sort_by_key(|(_, first, _)| *first);
        for pair in spans.windows(2) {
            assert!(
                pair[0].2 < pair[1].1,
                "two held {name} at a time: {:?} and {:?}",
                pair[0],
                pair[1]
            );
        }
    }

    /// The live lease on `custom:NAME`, as a node knows it.
    pub fn lease(&self, node: usize, name: &str) -> Option<Value> {
        let view = self.members[node].ask("/v1/leases?consistency=stale")?;
        let scope = format!("custom:{name}");
        let mut leases = view["leases"].as_array()?.iter();
        let found = leases.find(|l| l["scope"] == scope.as_str() && l["live"] == true);
        found.cloned()
    }

    /// Waits until nobody holds anything and every grant is closed.
    #[track_caller]
    pub fn rest(&self) {
        wait_until("every lease is closed", SETTLED, || {
            let view = self.running().find_map(|m| m.ask("/v1/leases"));
            view.is_some_and(|v| v["leases"] == json!([]) && v["waiting"] == json!([]))
        });
    }
}

/// What every node of a test watches and knows: nothing of the machine, and the playbooks `hold_a`
/// to `hold_d`.
fn sections(scratch: &Scratch) -> String {
    std::fs::create_dir_all(scratch.path("playbooks")).unwrap();
    for name in ["a", "b", "c", "d"] {
        let ticks = scratch.text_path(&format!("ticks-{name}"));
        // Each run names itself by its process, so that two runs are told apart.
        let script = scratch.script(
            &format!("hold-{name}"),
            &format!(
                "i=0\nwhile [ $i -lt {HOLD_TICKS} ]; do echo \"$$ $(date +%s%N)\" >> '{ticks}'; \
                 i=$((i+1)); sleep 0.1; done"
            ),
        );
        Playbook::of(&format!("hold_{name}"), name)
            .scope(&format!("custom:{name}"))
            .step(command("tick", &[&script]))
            .verify(check("held", "true"))
            .write(scratch);
    }
    let (directory, disabled) = (scratch.path("playbooks"), library_names());
    let mut out = String::new();
    writeln!(
        out,
        "[telemetry]\ninterval = \"2s\"\n\n[executor]\nlease_ttl = \"3s\"\n\n\
         [playbooks]\ndirectory = {directory:?}\ndisabled = {disabled:?}"
    )
    .ok();
    out
}
