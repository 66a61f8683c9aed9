//! A cluster in memory: twenty nodes on a network that delays and loses packets, from one seed.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use hale_membership::{
    Contact, Effect, Event, MAX_PACKET_BYTES, Member, Membership, Profile, Settings, State, Tip,
    Tuning,
};
use hale_model::{Digest, HostName, Keypair, NodeId};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

const NODES: usize = 20;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn key(n: usize) -> Keypair {
    Keypair::from_seed(&[n as u8 + 1; 32])
}

fn contact(n: usize) -> Contact {
    Contact {
        node: key(n).node_id(),
        addr: format!("10.0.0.{n}:7701").parse().unwrap(),
    }
}

fn profile(n: usize) -> Profile {
    Profile {
        host: HostName::new(format!("host-{n}")).unwrap(),
        zone: format!("zone-{}", n % 3),
        version: "1.0.0".into(),
        http: Some(format!("10.0.0.{n}:7700")),
        tags: [("service".to_owned(), "postgresql".to_owned())].into(),
        chain: None,
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Packet {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
    },
    Everything {
        to: usize,
        bytes: Vec<u8>,
    },
}

/// The network, its time and its nodes.
struct World {
    now: Duration,
    nodes: Vec<Option<Membership>>,
    started: Vec<Duration>,
    flying: BinaryHeap<Reverse<(Duration, u64, What)>>,
    sent: u64,
    /// What the clock of nodes that start says at the beginning, in milliseconds since the epoch.
    clock_ms: u64,
    random: u64,
    loss_percent: u64,
    /// Pairs of nodes that can't talk.
    cut: BTreeSet<(usize, usize)>,
    downs: Vec<(Duration, usize, NodeId)>,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64, loss_percent: u64) -> Self {
        Self {
            now: Duration::ZERO,
            nodes: vec![],
            started: vec![],
            flying: BinaryHeap::new(),
            sent: 0,
            clock_ms: 1_780_000_000_000,
            random: seed | 1,
            loss_percent,
            cut: BTreeSet::new(),
            downs: vec![],
            log: vec![],
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn membership(&mut self, n: usize) -> Membership {
        let roster: BTreeSet<_> = (0..NODES).map(|n| key(n).node_id()).collect();
        let settings = Settings {
            key: key(n),
            addr: contact(n).addr,
            started_ms: self.clock_ms + self.now.as_millis() as u64,
            seed: self.random(u64::MAX),
            admit: Arc::new(move |node| roster.contains(node)),
            tuning: Tuning::default(),
        };
        Membership::new(settings, &profile(n)).unwrap()
    }

    fn start(&mut self, n: usize, seeds: &[usize]) {
        let membership = self.membership(n);
        if self.nodes.len() == n {
            self.nodes.push(None);
            self.started.push(self.now);
        }
        self.nodes[n] = Some(membership);
        self.started[n] = self.now;
        let seeds = seeds.iter().map(|s| contact(*s)).collect();
        self.give(n, Event::Join(seeds));
    }

    fn kill(&mut self, n: usize) {
        self.nodes[n] = None;
    }

    fn give(&mut self, n: usize, event: Event) {
        let local = self.now - self.started[n];
        let Some(node) = &mut self.nodes[n] else {
            return;
        };
        for effect in node.on(local, event) {
            self.perform(n, effect);
        }
    }

    fn index(node: NodeId) -> usize {
        (0..NODES).find(|n| key(*n).node_id() == node).unwrap()
    }

    fn perform(&mut self, n: usize, effect: Effect) {
        self.log.push(format!("{:?} {n} {effect:?}", self.now));
        let delay = ms(1 + self.random(20));
        match effect {
            Effect::Send { to, bytes } => {
                assert!(bytes.len() <= MAX_PACKET_BYTES);
                let (to, lost) = (Self::index(to.node), self.random(100) < self.loss_percent);
                if !lost && !self.cut.contains(&(n, to)) {
                    self.fly(delay, What::Packet { from: n, to, bytes });
                }
            }
            Effect::Exchange { with } => {
                let with = Self::index(with.node);
                if let (Some(a), Some(b)) = (&self.nodes[n], &self.nodes[with])
                    && !self.cut.contains(&(n, with))
                {
                    let (a, b) = (a.everything().unwrap(), b.everything().unwrap());
                    self.fly(delay, What::Everything { to: with, bytes: a });
                    self.fly(delay, What::Everything { to: n, bytes: b });
                }
            }
            Effect::Down(c) => self.downs.push((self.now, n, c.node)),
            Effect::Up(_) | Effect::Rejoined { .. } => {}
        }
    }

    fn fly(&mut self, delay: Duration, what: What) {
        self.sent += 1;
        self.flying
            .push(Reverse((self.now + delay, self.sent, what)));
    }

    /// Steps from one thing that happens to the next, for so long or until it is so.
    fn run(&mut self, so_long: Duration, until: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + so_long;
        while self.now < end {
            if until(self) {
                return true;
            }
            let timers = self
                .nodes
                .iter()
                .zip(&self.started)
                .filter_map(|(n, s)| Some(n.as_ref()?.next_deadline()? + *s));
            let packet = self.flying.peek().map(|Reverse((at, _, _))| *at);
            let Some(next) = timers.chain(packet).min() else {
                break;
            };
            self.now = self.now.max(next.min(end));
            while self
                .flying
                .peek()
                .is_some_and(|Reverse((at, _, _))| *at <= self.now)
            {
                match self.flying.pop().unwrap().0.2 {
                    What::Packet { from, to, bytes } => {
                        self.give(
                            to,
                            Event::Packet {
                                from: key(from).node_id(),
                                bytes,
                            },
                        );
                    }
                    What::Everything { to, bytes } => self.give(to, Event::Everything(bytes)),
                }
            }
            for n in 0..self.nodes.len() {
                self.give(n, Event::Tick);
            }
        }
        until(self)
    }

    fn view(&self, n: usize) -> Vec<Member> {
        self.nodes[n]
            .as_ref()
            .map(Membership::members)
            .unwrap_or_default()
    }

    fn alive(&self, n: usize) -> usize {
        self.view(n)
            .iter()
            .filter(|m| m.state != State::Down)
            .count()
    }

    fn all_see(&self, alive: usize) -> bool {
        (0..self.nodes.len())
            .filter(|n| self.nodes[*n].is_some())
            .all(|n| self.alive(n) == alive)
    }

    fn profiles(&self, n: usize) -> usize {
        self.view(n).iter().filter(|m| m.profile.is_some()).count()
    }
}

/// All nodes started one after the other through the first.
fn formed(seed: u64, loss_percent: u64) -> World {
    let mut w = World::new(seed, loss_percent);
    for n in 0..NODES {
        w.start(n, &[0]);
        w.run(ms(20), |_| false);
    }
    assert!(w.run(ms(30_000), |w| w.all_see(NODES)), "not formed");
    w
}

#[test]
fn twenty_nodes_find_each_other_through_one_seed() {
    let mut w = formed(1, 0);
    assert!(w.now < ms(5_000), "it took {:?}", w.now);
    let know = |w: &World| (0..NODES).all(|n| w.profiles(n) == NODES);
    assert!(w.run(ms(60_000), know), "profiles are not known everywhere");
    let seen = w
        .view(7)
        .into_iter()
        .find(|m| m.contact == contact(3))
        .unwrap();
    assert_eq!(seen.profile, Some(profile(3)));
}

#[test]
fn a_death_is_known_everywhere_within_ten_seconds() {
    let mut w = formed(2, 0);
    w.run(ms(5_000), |_| false);
    let died = w.now;
    w.kill(11);
    assert!(
        w.run(ms(30_000), |w| w.all_see(NODES - 1)),
        "it was not noticed"
    );
    assert!(w.now - died < ms(10_000), "it took {:?}", w.now - died);
    assert!(w.downs.iter().all(|(_, _, node)| *node == contact(11).node));
}

#[test]
fn nobody_is_taken_for_dead_while_one_packet_in_twenty_is_lost() {
    for seed in 3..5 {
        let mut w = formed(seed, 5);
        w.run(ms(120_000), |_| false);
        assert_eq!(w.downs, [], "seed {seed}");
        assert!(w.all_see(NODES));
    }
}

#[test]
fn a_node_that_was_restarted_is_alive_again_at_once() {
    let mut w = formed(6, 0);
    w.kill(4);
    assert!(w.run(ms(20_000), |w| w.all_see(NODES - 1)));
    w.start(4, &[9, 0]);
    // An epidemic may miss one: that one hears of it by a probe, or an exchange.
    let nearly_all = |w: &World| (0..NODES).filter(|n| w.alive(*n) == NODES).count() >= NODES - 1;
    assert!(w.run(ms(3_000), nearly_all), "nobody hears of it");
    assert!(w.run(ms(20_000), |w| w.all_see(NODES)));
}

#[test]
fn a_node_whose_clock_was_put_back_is_alive_again_for_all() {
    let mut w = formed(14, 2);
    w.kill(4);
    w.run(ms(1_000), |_| false);
    w.clock_ms -= 30 * 24 * 3_600_000;
    w.start(4, &[9, 0]);
    let back = w.now;
    w.run(ms(8_000), |_| false);
    let lives = |w: &World, n| {
        let view = w.view(n);
        let seen = view.iter().find(|m| m.contact == contact(4)).unwrap();
        seen.state == State::Alive
    };
    let all = |w: &World| (0..NODES).all(|n| lives(w, n)) && w.all_see(NODES);
    assert!(w.run(ms(20_000), all), "it is not alive for all");
    assert!(w.now - back < ms(20_000), "it took {:?}", w.now - back);
    assert_eq!(w.view(0).len(), NODES);
}

#[test]
fn seeds_are_asked_until_one_answers() {
    let mut w = World::new(7, 0);
    for n in 0..3 {
        w.start(n, &[]);
    }
    for n in 0..3 {
        w.kill(n);
    }
    w.start(3, &[0, 1]);
    w.run(ms(20_000), |_| false);
    assert_eq!(w.alive(3), 1);
    w.start(1, &[]);
    assert!(w.run(ms(20_000), |w| w.alive(3) == 2 && w.alive(1) == 2));
}

#[test]
fn two_halves_find_each_other_again() {
    let mut w = formed(8, 0);
    let half = NODES / 2;
    w.cut = (0..NODES)
        .flat_map(|a| (0..NODES).map(move |b| (a, b)))
        .filter(|(a, b)| (*a < half) != (*b < half))
        .collect();
    assert!(
        w.run(ms(60_000), |w| w.all_see(half)),
        "the halves do not notice"
    );
    w.cut.clear();
    assert!(
        w.run(ms(180_000), |w| w.all_see(NODES)),
        "the halves stay apart"
    );
}

#[test]
fn who_leaves_is_down_everywhere_soon() {
    let mut w = formed(9, 0);
    w.give(5, Event::Leave);
    w.run(ms(200), |_| false);
    w.kill(5);
    let left = w.now;
    assert!(w.run(ms(20_000), |w| w.all_see(NODES - 1)));
    assert!(w.now - left < ms(3_000), "it took {:?}", w.now - left);
}

#[test]
fn a_changed_profile_is_heard_everywhere_and_not_told_all_the_time() {
    let mut w = formed(10, 0);
    w.run(ms(10_000), |_| false);
    for size in 1..=500 {
        let chain = Some(Tip {
            size,
            hash: Digest::of(&size.to_be_bytes()),
        });
        w.give(
            2,
            Event::Profile(Profile {
                chain,
                ..profile(2)
            }),
        );
        w.run(ms(10), |_| false);
    }
    let heard = |w: &World| {
        (0..NODES).all(|n| {
            let seen = w
                .view(n)
                .into_iter()
                .find(|m| m.contact == contact(2))
                .unwrap();
            seen.profile
                .and_then(|p| p.chain)
                .is_some_and(|t| t.size == 500)
        })
    };
    assert!(w.run(ms(60_000), heard));
}

#[test]
fn one_seed_gives_one_history() {
    let history = |seed| {
        let mut w = formed(seed, 5);
        w.kill(3);
        w.run(ms(20_000), |_| false);
        w.log
    };
    assert_eq!(history(11), history(11));
    assert_ne!(history(11), history(12));
}

#[test]
fn a_liar_is_not_believed() {
    let mut w = formed(12, 0);
    let stolen = w.nodes[1].as_mut().unwrap().everything().unwrap();
    // A packet that says to be from another than its connection's owner.
    let packet = loop {
        w.run(ms(50), |_| false);
        if let Some(Reverse((_, _, What::Packet { from: 1, to, bytes }))) = w
            .flying
            .iter()
            .find(|f| matches!(f.0.2, What::Packet { from: 1, .. }))
        {
            break (*to, bytes.clone());
        }
    };
    let before = w.nodes[packet.0].as_ref().unwrap().counts().refused_packets;
    w.give(
        packet.0,
        Event::Packet {
            from: key(2).node_id(),
            bytes: packet.1,
        },
    );
    assert_eq!(
        w.nodes[packet.0].as_ref().unwrap().counts().refused_packets,
        before + 1
    );
    // Garbage, and an exchange cut short.
    w.give(
        0,
        Event::Packet {
            from: key(2).node_id(),
            bytes: vec![7; 300],
        },
    );
    w.give(
        0,
        Event::Packet {
            from: key(2).node_id(),
            bytes: vec![0; 5_000],
        },
    );
    w.give(0, Event::Everything(stolen[..stolen.len() / 2].to_vec()));
    assert!(w.nodes[0].as_ref().unwrap().counts().refused_packets >= 3);
    assert!(w.all_see(NODES));
}

#[test]
fn a_node_off_the_roster_is_down_whatever_it_says() {
    let mut w = formed(13, 0);
    w.give(0, Event::Evict(key(6).node_id()));
    let seen = w
        .view(0)
        .into_iter()
        .find(|m| m.contact == contact(6))
        .unwrap();
    assert_eq!((seen.state, seen.profile), (State::Down, None));
}

/// What a member tells in an exchange that takes all others for down.
fn slander(world: &World, of: &[usize], told: usize) -> Vec<u8> {
    let settings = Settings {
        key: key(4),
        addr: contact(4).addr,
        started_ms: world.clock_ms,
        seed: 7,
        admit: Arc::new(|_| true),
        tuning: Tuning::default(),
    };
    let mut liar = Membership::new(settings, &profile(4)).unwrap();
    let known = world.nodes[told].as_ref().unwrap().everything().unwrap();
    liar.on(ms(1), Event::Everything(known));
    for n in of {
        liar.on(ms(1), Event::Evict(key(*n).node_id()));
    }
    liar.everything().unwrap()
}

#[test]
fn members_that_are_slandered_again_and_again_are_soon_alive_for_all_again() {
    for seed in 1..20 {
        let mut world = World::new(seed, 2);
        for n in 0..4 {
            world.start(n, &[0]);
        }
        // The liar says what it says and answers nobody.
        world.nodes.push(None);
        world.started.push(Duration::ZERO);
        let all_alive = |w: &World| {
            let alive = |n: &Membership| {
                let members = n.members();
                let lives = |n: usize| {
                    let found = members.iter().find(|m| m.contact == contact(n));
                    found.is_some_and(|m| m.state == State::Alive)
                };
                (0..4).all(lives)
            };
            w.nodes.iter().flatten().all(alive)
        };
        assert!(
            world.run(ms(20_000), all_alive),
            "seed {seed}: they never met"
        );
        for round in 0..25usize {
            // One, or each in turn, is told that all others are down, at times that fall anywhere.
            let told = if seed % 2 == 0 { 1 } else { round % 4 };
            let others: Vec<usize> = (0..4).filter(|n| *n != told).collect();
            let bytes = slander(&world, &others, told);
            world.give(told, Event::Everything(bytes));
            let pause = ms(world.random(400));
            world.run(pause, |_| false);
        }
        assert!(
            world.run(ms(8_000), all_alive),
            "seed {seed}: they are not all alive again"
        );
    }
}
