//! Gossip in memory: the product's own membership machines on a network that delays and loses
//! packets, in virtual time, from one seed. Exchanges go over streams and do not get lost.

mod queue;

use crate::rng::Rng;
use hale_membership::{
    Contact, Effect, Event, Member, Membership, MembershipError, Profile, Settings, State, Tuning,
};
use hale_model::{HostName, Keypair, NodeId};
use queue::{Queue, What};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The least and the most that a packet takes, in milliseconds: a few milliseconds of way, and jitter.
const DELAY_MS: (u64, u64) = (1, 21);
/// Formed clusters have been up for at most so long: periodic work of the nodes does not fall
/// together.
const AGE_MS: u64 = 30_000;
/// How often it is looked whether something is so.
const LOOK: Duration = Duration::from_millis(10);

/// What a node was told by its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// In virtual time.
    pub at: Duration,
    /// Which node.
    pub by: usize,
    /// Of which.
    pub of: usize,
    /// Alive, or down.
    pub up: bool,
}

/// What was sent since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Datagrams, those that got lost too.
    pub packets: u64,
    /// Their bytes, without the headers of QUIC, UDP and IP.
    pub bytes: u64,
    /// Exchanges of everything known; each goes both ways.
    pub exchanges: u64,
}

/// The nodes, their network and its time.
pub struct Cluster {
    now: Duration,
    nodes: Vec<Option<Membership>>,
    /// When each node was started.
    started: Vec<Duration>,
    /// When each is to be woken.
    wakes: Vec<Option<Duration>>,
    contacts: Vec<Contact>,
    keys: Vec<Keypair>,
    places: BTreeMap<NodeId, usize>,
    roster: Arc<BTreeSet<NodeId>>,
    queue: Queue,
    rng: Rng,
    /// What the clock of nodes that start said at the beginning, in milliseconds since the epoch.
    pub clock_ms: u64,
    /// So many packets of a hundred get lost.
    pub loss_percent: u64,
    /// Pairs of nodes, sender first, between which nothing gets through.
    pub cut: BTreeSet<(usize, usize)>,
    /// What the machines told of who is up and down.
    pub heard: Vec<Heard>,
    traffic: Traffic,
    trace: u64,
}

/// What the node of this number says of itself.
fn profile_of(n: usize) -> Option<Profile> {
    Some(Profile {
        host: HostName::new(format!("host-{n}")).ok()?,
        zone: format!("zone-{}", n % 3),
        version: "1.0.0".into(),
        http: Some(format!("10.0.0.{n}:7700")),
        tags: [("service".to_owned(), "postgresql".to_owned())].into(),
        chain: None,
    })
}

impl Cluster {
    /// So many nodes on the roster, none of them started.
    pub fn new(size: usize, seed: u64, loss_percent: u64) -> Self {
        let key = |n: usize| {
            let mut seed = [1; 32];
            seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
            Keypair::from_seed(&seed)
        };
        let keys: Vec<_> = (0..size).map(key).collect();
        let contact = |(n, key): (usize, &Keypair)| Contact {
            node: key.node_id(),
            addr: SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + n as u32), 7701)),
        };
        let contacts: Vec<_> = keys.iter().enumerate().map(contact).collect();
        let nodes = contacts.iter().map(|c| c.node);
        Self {
            now: Duration::ZERO,
            nodes: (0..size).map(|_| None).collect(),
            started: vec![Duration::ZERO; size],
            wakes: vec![None; size],
            places: nodes
                .clone()
                .enumerate()
                .map(|(n, node)| (node, n))
                .collect(),
            roster: Arc::new(nodes.collect()),
            contacts,
            keys,
            queue: Queue::default(),
            rng: Rng::new(seed),
            clock_ms: 1_780_000_000_000,
            loss_percent,
            cut: BTreeSet::new(),
            heard: vec![],
            traffic: Traffic::default(),
            trace: 0,
        }
    }

    /// A cluster whose first `alive` nodes know each other already and have been up for a while.
    ///
    /// # Errors
    /// If a node can't be made.
    pub fn formed(size: usize, alive: usize, seed: u64) -> Result<Self, MembershipError> {
        let mut cluster = Self::new(size, seed, 0);
        cluster.now = Duration::from_millis(AGE_MS);
        let mut nodes = vec![];
        for n in 0..alive.min(size) {
            cluster.started[n] = Duration::from_millis(cluster.rng.within(0, AGE_MS));
            nodes.push(cluster.make(n)?);
        }
        Membership::acquaint(&mut nodes);
        for (n, node) in nodes.into_iter().enumerate() {
            cluster.nodes[n] = Some(node);
            let wake = cluster.now + Duration::from_millis(cluster.rng.within(0, 1_000));
            cluster.wake(n, wake);
        }
        Ok(cluster)
    }

    /// The key of a node.
    pub fn key(&self, n: usize) -> &Keypair {
        &self.keys[n]
    }

    /// Who and where a node is.
    pub fn contact(&self, n: usize) -> Contact {
        self.contacts[n]
    }

    /// What a node says of itself.
    pub fn profile(n: usize) -> Option<Profile> {
        profile_of(n)
    }

    /// Virtual time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What was sent.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// A number that two runs share only if all that was sent in them was alike.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// A number below `n`, from the seed.
    pub fn random(&mut self, n: u64) -> u64 {
        self.rng.within(0, n)
    }

    /// The machine of a node that runs.
    pub fn node(&self, n: usize) -> Option<&Membership> {
        self.nodes.get(n)?.as_ref()
    }

    /// The numbers of the nodes that run.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(|(_, node)| node.is_some()).map(|(n, _)| n)
    }

    fn make(&mut self, n: usize) -> Result<Membership, MembershipError> {
        let roster = Arc::clone(&self.roster);
        let settings = Settings {
            key: self.keys[n].clone(),
            addr: self.contacts[n].addr,
            started_ms: self.clock_ms + self.started[n].as_millis() as u64,
            seed: self.rng.bits(),
            admit: Arc::new(move |node| roster.contains(node)),
            tuning: Tuning::default(),
        };
        let profile = profile_of(n).ok_or(MembershipError::ProfileTooLarge { bytes: 0 })?;
        Membership::new(settings, &profile)
    }

    /// Starts a node, which joins through the seeds.
    ///
    /// # Errors
    /// If it can't be made.
    pub fn start(&mut self, n: usize, seeds: &[usize]) -> Result<(), MembershipError> {
        self.started[n] = self.now;
        self.nodes[n] = Some(self.make(n)?);
        let seeds = seeds.iter().map(|s| self.contacts[*s]).collect();
        self.give(n, Event::Join(seeds));
        Ok(())
    }

    /// A node is gone from one moment to the next.
    pub fn kill(&mut self, n: usize) {
        self.nodes[n] = None;
    }

    /// Gives a node an event.
    pub fn give(&mut self, n: usize, event: Event) {
        let local = self.now.saturating_sub(self.started[n]);
        let Some(node) = &mut self.nodes[n] else {
            return;
        };
        let effects = node.on(local, event);
        let next = node.next_deadline().map(|at| at + self.started[n]);
        for effect in effects {
            self.perform(n, effect);
        }
        if let Some(next) = next {
            self.wake(n, next);
        }
    }

    /// A node is woken then, if it is not sooner.
    fn wake(&mut self, n: usize, at: Duration) {
        let at = at.max(self.now);
        if self.wakes[n].is_none_or(|sooner| at < sooner) {
            self.wakes[n] = Some(at);
            self.queue.push(at, What::Wake(n));
        }
    }

    fn place(&self, contact: Contact) -> Option<usize> {
        self.places.get(&contact.node).copied()
    }

    fn hear(&mut self, by: usize, of: Contact, up: bool) {
        if let Some(of) = self.place(of) {
            let at = self.now;
            self.heard.push(Heard { at, by, of, up });
        }
    }

    fn perform(&mut self, n: usize, effect: Effect) {
        let delay = Duration::from_millis(self.rng.within(DELAY_MS.0, DELAY_MS.1));
        match effect {
            Effect::Send { to, bytes } => {
                self.traffic.packets += 1;
                self.traffic.bytes += bytes.len() as u64;
                let is_lost = self.rng.within(0, 100) < self.loss_percent;
                let Some(to) = self.place(to) else { return };
                self.note([self.now.as_nanos() as u64, n as u64, to as u64]);
                self.note([bytes.len() as u64, u64::from(is_lost), 0]);
                if !is_lost && !self.cut.contains(&(n, to)) {
                    let from = n;
                    self.queue
                        .push(self.now + delay, What::Packet { from, to, bytes });
                }
            }
            Effect::Exchange { with } => {
                let Some(with) = self.place(with) else { return };
                let of = |n: usize| self.nodes[n].as_ref().and_then(|n| n.everything().ok());
                let (Some(mine), Some(theirs)) = (of(n), of(with)) else {
                    return;
                };
                if self.cut.contains(&(n, with)) || self.cut.contains(&(with, n)) {
                    return;
                }
                self.traffic.exchanges += 1;
                for (to, bytes) in [(with, mine), (n, theirs)] {
                    self.queue
                        .push(self.now + delay, What::Everything { to, bytes });
                }
            }
            Effect::Up(contact) => self.hear(n, contact, true),
            Effect::Down(contact) => self.hear(n, contact, false),
            Effect::Rejoined { .. } => {}
        }
    }

    /// FNV-1a over words (Fowler, Noll, Vo).
    fn note(&mut self, words: [u64; 3]) {
        for word in words {
            self.trace = (self.trace ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Lives on for so long.
    pub fn run(&mut self, so_long: Duration) {
        self.run_until(so_long, |_| false);
    }

    /// Lives on for so long or until it is so; whether it is.
    pub fn run_until(&mut self, so_long: Duration, until: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + so_long;
        let mut looked = None;
        loop {
            // Not at each of what may be thousands of things that happen in one moment.
            if looked.is_none_or(|before| self.now >= before + LOOK) {
                looked = Some(self.now);
                if until(self) {
                    return true;
                }
            }
            let Some((at, what)) = self.queue.pop_until(end) else {
                self.now = end;
                return until(self);
            };
            self.now = at;
            match what {
                What::Packet { from, to, bytes } => {
                    let from = self.contacts[from].node;
                    self.give(to, Event::Packet { from, bytes });
                }
                What::Everything { to, bytes } => self.give(to, Event::Everything(bytes)),
                What::Wake(n) if self.wakes[n] == Some(at) => {
                    self.wakes[n] = None;
                    self.give(n, Event::Tick);
                }
                What::Wake(_) => {}
            }
        }
    }

    /// A packet of this node's that is on its way, and to whom.
    pub fn packet_from(&self, n: usize) -> Option<(usize, Vec<u8>)> {
        self.queue.iter().find_map(|what| match what {
            What::Packet { from, to, bytes } if *from == n => Some((*to, bytes.clone())),
            _ => None,
        })
    }

    /// How a node sees the others, and itself.
    pub fn view(&self, n: usize) -> Vec<Member> {
        self.node(n).map(Membership::members).unwrap_or_default()
    }

    /// How many a node takes for alive.
    pub fn alive(&self, n: usize) -> usize {
        let view = self.view(n);
        view.iter().filter(|m| m.state != State::Down).count()
    }

    /// Whether every node that runs takes so many for alive.
    pub fn all_see(&self, alive: usize) -> bool {
        self.running().all(|n| self.alive(n) == alive)
    }
}
