//! The world: its nodes, what each sees of the others, and its time.

use super::Scenario;
use super::event::{Happened, What};
use super::group::Raft;
use super::joining::{Invitation, Joining};
use crate::rng::Rng;
use hale_consensus::Ledger;
use hale_consensus::seats::Policy;
use hale_model::{HostName, Keypair, NodeId};
use std::time::Duration;

/// One step, in milliseconds: how often a leader looks at the seats.
pub(super) const STEP_MS: u64 = 500;
/// After the faults, all has this long to come to rest.
const QUIET_MS: u64 = 400_000;
/// The most nodes that ever come.
const MOST_NODES: u64 = 12;

/// A node.
pub(super) struct Node {
    pub(super) key: Keypair,
    pub(super) id: NodeId,
    pub(super) host: HostName,
    pub(super) zone: usize,
    /// When it comes for the first time.
    pub(super) comes_ms: u64,
    /// How its clock is off, in milliseconds.
    pub(super) skew_ms: i64,
    pub(super) invitation: Invitation,
    pub(super) joining: Joining,
    /// It is on the roster; it has a copy of the ledger.
    pub(super) is_member: bool,
    pub(super) is_up: bool,
    /// It runs and nobody reaches it until then.
    pub(super) cut_until_ms: u64,
    /// Its log does not catch up until then.
    pub(super) lags_until_ms: u64,
    /// Its disk has no room until then.
    pub(super) unfit_until_ms: u64,
    /// Gossip has it wrong until then: it is taken for dead.
    pub(super) slandered_until_ms: u64,
    /// From when gossip sees it alive.
    pub(super) seen_from_ms: Option<u64>,
    /// Until when gossip sees it alive, if it is gone.
    pub(super) seen_until_ms: u64,
    /// Whether the oracle was told that it is there.
    is_told_up: bool,
}

/// The world.
pub struct World {
    pub(super) now_ms: u64,
    pub(super) rng: Rng,
    pub(super) nodes: Vec<Node>,
    pub(super) ledger: Ledger,
    pub(super) index: u64,
    pub(super) raft: Raft,
    pub(super) policy: Policy,
    log: Vec<Happened>,
}

impl World {
    /// Lives through the seed's world and tells what happened.
    pub fn run(seed: u64, scenario: &Scenario) -> Vec<Happened> {
        let mut world = Self::new(seed, scenario);
        let faults = world.plan_faults(scenario);
        world.found();
        let end = scenario.duration_ms + QUIET_MS;
        let mut is_quiet = false;
        while world.now_ms < end {
            world.now_ms += STEP_MS;
            if !is_quiet && world.now_ms > scenario.duration_ms {
                is_quiet = true;
                world.come_to_rest();
                world.tell(What::Quiet);
            }
            let now_ms = world.now_ms;
            for fault in faults.iter().filter(|f| f.at_ms == now_ms) {
                world.break_something(fault.kind);
            }
            world.step_nodes();
            world.step_joins();
            world.step_raft();
        }
        world.tell(What::Over);
        world.log
    }

    fn new(seed: u64, scenario: &Scenario) -> Self {
        let mut rng = Rng::new(seed);
        let policy = Policy {
            max_voters: if rng.chance(700) { 5 } else { 3 },
            ..Policy::default()
        };
        let zones = rng.within(1, 5);
        let count = rng.within(3, MOST_NODES + 1);
        let mut nodes = vec![];
        for n in 0..count {
            let mut bytes = [5; 32];
            bytes[0] = n as u8;
            let key = Keypair::from_seed(&bytes);
            let Ok(host) = HostName::new(format!("host-{n}")) else {
                continue;
            };
            // Most come early; some while the others are in trouble.
            let latest = if rng.chance(600) {
                30_000
            } else {
                scenario.duration_ms
            };
            nodes.push(Node {
                id: key.node_id(),
                key,
                host,
                zone: rng.within(0, zones) as usize,
                comes_ms: if n == 0 {
                    0
                } else {
                    STEP_MS * rng.within(1, latest / STEP_MS)
                },
                skew_ms: if n > 0 && rng.chance(60) { 90_000 } else { 0 },
                invitation: Invitation::draw(n, &mut rng),
                joining: Joining::default(),
                is_member: false,
                is_up: false,
                cut_until_ms: 0,
                lags_until_ms: 0,
                unfit_until_ms: 0,
                slandered_until_ms: 0,
                seen_from_ms: None,
                seen_until_ms: 0,
                is_told_up: false,
            });
        }
        Self {
            now_ms: 0,
            rng,
            nodes,
            ledger: Ledger::default(),
            index: 0,
            raft: Raft::default(),
            policy,
            log: vec![],
        }
    }

    pub(super) fn tell(&mut self, what: What) {
        let at_ms = self.now_ms;
        self.log.push(Happened { at_ms, what });
    }

    pub(super) fn place(&self, id: &NodeId) -> Option<usize> {
        self.nodes.iter().position(|n| n.id == *id)
    }

    /// It runs and the others reach it.
    pub(super) fn is_reached(&self, n: usize) -> bool {
        self.nodes[n].is_up && self.nodes[n].cut_until_ms <= self.now_ms
    }

    /// It acknowledges what a leader sends: who was removed is shut out.
    pub(super) fn answers(&self, n: usize) -> bool {
        let leads = self.raft.leader == Some(n);
        self.is_reached(n) && (leads || self.ledger.is_enrolled(&self.nodes[n].id))
    }

    /// For how long gossip sees a node alive.
    pub(super) fn alive_for(&self, n: usize) -> Option<Duration> {
        let node = &self.nodes[n];
        let since = node.seen_from_ms.filter(|from| *from <= self.now_ms)?;
        let is_seen = self.now_ms < node.seen_until_ms && node.slandered_until_ms <= self.now_ms;
        is_seen.then(|| Duration::from_millis(self.now_ms - since))
    }

    pub(super) fn start(&mut self, n: usize) {
        self.nodes[n].is_up = true;
    }

    pub(super) fn stop(&mut self, n: usize) {
        self.nodes[n].is_up = false;
    }

    /// Who comes now, and what gossip makes of who is there.
    fn step_nodes(&mut self) {
        for n in 0..self.nodes.len() {
            if self.nodes[n].comes_ms == self.now_ms {
                self.comes(n);
            }
            let is_there = self.is_reached(n);
            if is_there != self.nodes[n].is_told_up {
                self.nodes[n].is_told_up = is_there;
                self.tell(match is_there {
                    true => What::Up { node: n },
                    false => What::Down { node: n },
                });
                // A death is noticed late, a return sooner.
                let (soon, late) = (self.rng.within(500, 2_500), self.rng.within(4_000, 9_000));
                let node = &mut self.nodes[n];
                match is_there {
                    true => {
                        node.seen_from_ms = Some(self.now_ms + soon);
                        node.seen_until_ms = u64::MAX;
                    }
                    false => node.seen_until_ms = self.now_ms + late,
                }
            }
            let was_slandered = self.nodes[n].slandered_until_ms;
            if was_slandered > 0 && was_slandered <= self.now_ms {
                self.nodes[n].slandered_until_ms = 0;
                self.nodes[n].seen_from_ms = Some(self.now_ms);
            }
        }
    }

    fn comes(&mut self, n: usize) {
        let node = &self.nodes[n];
        let invited = node.invitation.is_genuine() && node.skew_ms == 0;
        let zone = node.zone;
        self.tell(What::Comes {
            node: n,
            zone,
            invited,
        });
        self.start(n);
    }

    fn found(&mut self) {
        self.comes(0);
        self.enrol_founder();
        self.raft.found(0);
        let (voters, learners) = (self.policy.max_voters, self.policy.learners);
        self.tell(What::Policy { voters, learners });
        self.make_tokens();
        self.tell(What::Leads { node: 0, term: 1 });
        self.tell_group();
    }
}
