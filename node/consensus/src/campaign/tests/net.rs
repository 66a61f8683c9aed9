//! Campaigns that talk over a network in virtual time.

use super::{group, ms, node};
use crate::campaign::{Campaign, Effect, Event, Settings, SplitMix};
use std::collections::BTreeMap;

const HEARTBEAT: u64 = 60;

#[derive(Debug, Clone)]
enum Message {
    Heartbeat { term: u64 },
    Ask { round: u64 },
    Answer { round: u64, granted: bool },
}

/// Nodes on a network that delays, loses and cuts, in steps of a millisecond. Elections are decided
/// at once, as openraft's followers would.
pub(super) struct Net {
    settings: Settings,
    pub(super) now: u64,
    pub(super) nodes: Vec<Campaign>,
    pub(super) up: Vec<bool>,
    pub(super) cut: Vec<bool>,
    pub(super) leads_since: Vec<Option<u64>>,
    pub(super) terms: Vec<u64>,
    /// Since when each heard a leader without a gap, and when last.
    hears: Vec<(u64, u64)>,
    asked_at: Vec<u64>,
    queue: BTreeMap<(u64, u64), (usize, usize, Message)>,
    pub(super) sent: u64,
    loss_permille: u64,
    rng: SplitMix,
    /// When, who.
    pub(super) elections: Vec<(u64, usize)>,
}

impl Net {
    pub(super) fn new(n: usize, seed: u64, loss_permille: u64) -> Self {
        let settings = Settings::default();
        let make = |i: usize| {
            let mut c = Campaign::new(settings, seed.wrapping_mul(31) + i as u64);
            c.on(ms(0), group(n, i));
            c
        };
        Self {
            settings,
            now: 0,
            nodes: (0..n).map(make).collect(),
            up: vec![true; n],
            cut: vec![false; n],
            leads_since: vec![None; n],
            terms: vec![0; n],
            hears: vec![(0, 0); n],
            asked_at: vec![0; n],
            queue: BTreeMap::new(),
            sent: 0,
            loss_permille,
            rng: SplitMix(seed),
            elections: vec![],
        }
    }

    pub(super) fn led(n: usize, seed: u64, loss_permille: u64) -> Self {
        let mut net = Self::new(n, seed, loss_permille);
        net.lead(0);
        net
    }

    fn lead(&mut self, i: usize) {
        self.terms[i] += 1;
        self.leads_since[i] = Some(self.now);
        self.on(i, Event::Leading);
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let leading = |i: &usize| self.up[*i] && self.leads_since[*i].is_some();
        (0..self.nodes.len())
            .filter(leading)
            .max_by_key(|i| self.terms[*i])
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let lost = self.rng.next() % 1000 < self.loss_permille;
        let at = self.now + 1 + self.rng.next() % 5;
        if !lost && !self.cut[from] && !self.cut[to] {
            self.sent += 1;
            self.queue.insert((at, self.sent), (from, to, message));
        }
    }

    fn send_all(&mut self, from: usize, message: &Message) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            self.send(from, to, message.clone());
        }
    }

    fn on(&mut self, i: usize, event: Event) {
        for effect in self.nodes[i].on(ms(self.now), event) {
            match effect {
                Effect::AskPreVotes { round, of } => {
                    assert_eq!(of.len(), self.nodes.len() - 1);
                    self.asked_at[i] = self.now;
                    self.send_all(i, &Message::Ask { round });
                }
                Effect::Elect => self.elect(i),
            }
        }
    }

    fn elect(&mut self, i: usize) {
        let n = self.nodes.len();
        let hearing = (0..n).filter(|y| self.hears_since(*y, self.asked_at[i]));
        assert!(hearing.count() <= n / 2, "a majority hears the leader");
        self.elections.push((self.now, i));
        self.terms[i] += 1;
        let reaches = |y: &usize| self.up[*y] && !self.cut[*y] && !self.cut[i];
        let asked: Vec<_> = (0..n).filter(|y| *y != i && reaches(y)).collect();
        let mut votes = 1;
        for y in asked {
            if self.terms[y] < self.terms[i] && self.nodes[y].would_grant(ms(self.now)) {
                self.terms[y] = self.terms[i];
                votes += 1;
            }
        }
        if votes > n / 2 {
            self.leads_since[i] = Some(self.now);
            self.on(i, Event::Leading);
            let term = self.terms[i];
            self.send_all(i, &Message::Heartbeat { term });
        } else {
            self.on(i, Event::Lost);
        }
    }

    fn hears_since(&self, y: usize, since: u64) -> bool {
        let leads = self.leads_since[y].is_some_and(|at| at <= since);
        let (from, last) = self.hears[y];
        let hears = from <= since && ms(self.now - last) <= self.settings.lease;
        self.up[y] && (leads || hears)
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        match message {
            Message::Heartbeat { term } if term >= self.terms[to] => {
                self.terms[to] = term;
                let (since, last) = self.hears[to];
                let gap = ms(self.now - last) > self.settings.lease;
                self.hears[to] = (if gap { self.now } else { since }, self.now);
                if self.leads_since[to].take().is_some() {
                    self.on(to, Event::Following);
                }
                self.on(to, Event::HeardLeader);
            }
            Message::Heartbeat { .. } => {}
            Message::Ask { round } => {
                let granted = self.nodes[to].would_grant(ms(self.now));
                self.send(to, from, Message::Answer { round, granted });
            }
            Message::Answer { round, granted } => {
                let from = node(from);
                self.on(
                    to,
                    Event::PreVoted {
                        round,
                        from,
                        granted,
                    },
                );
            }
        }
    }

    pub(super) fn run(&mut self, until: u64) {
        while self.now < until {
            self.now += 1;
            while let Some(((at, _), _)) = self.queue.first_key_value()
                && *at <= self.now
                && let Some((_, (from, to, message))) = self.queue.pop_first()
            {
                if self.up[to] {
                    self.deliver(from, to, message);
                }
            }
            for i in (0..self.nodes.len())
                .filter(|i| self.up[*i])
                .collect::<Vec<_>>()
            {
                if self.nodes[i]
                    .next_due()
                    .is_some_and(|due| due <= ms(self.now))
                {
                    self.on(i, Event::Tick);
                }
                let since = self.leads_since[i].filter(|_| self.up[i]);
                if since.is_some_and(|since| (self.now - since).is_multiple_of(HEARTBEAT)) {
                    let term = self.terms[i];
                    self.send_all(i, &Message::Heartbeat { term });
                }
            }
        }
    }
}
