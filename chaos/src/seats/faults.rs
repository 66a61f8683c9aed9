//! What goes wrong: planned from the seed before the world lives.

use super::Scenario;
use super::event::What;
use super::world::{STEP_MS, World};

/// What happens to some node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// It dies, and comes back after so long, or not by itself.
    Dies { n: usize, back_ms: Option<u64> },
    /// It dies and comes back again and again.
    Flaps { n: usize },
    /// All of a zone die, and come back.
    ZoneDies { zone: usize, back_ms: u64 },
    /// Nobody reaches it.
    CutOff { n: usize, for_ms: u64 },
    /// Gossip takes it for dead, and it lives.
    Slandered { n: usize, for_ms: u64 },
    /// Its log does not catch up.
    Lags { n: usize, for_ms: u64 },
    /// Its disk is full.
    Unfit { n: usize, for_ms: u64 },
    /// An operator removes it.
    Removed { n: usize },
    /// It comes back.
    Back { n: usize },
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) at_ms: u64,
    pub(super) kind: Kind,
}

/// How often a node that flaps dies, and for how long it lives and is dead.
const FLAPS: u64 = 6;
const FLAP_MS: u64 = 7_000;

impl World {
    pub(super) fn plan_faults(&mut self, scenario: &Scenario) -> Vec<Fault> {
        let mut all = vec![];
        for _ in 0..scenario.faults {
            let at_ms = STEP_MS * self.rng.within(1, scenario.duration_ms / STEP_MS + 1);
            let n = self.rng.within(0, self.nodes.len() as u64) as usize;
            let for_ms = STEP_MS * self.rng.within(2, 120);
            let kind = match self.rng.within(0, 10) {
                0..=2 => Kind::Dies {
                    n,
                    back_ms: self.rng.chance(800).then_some(for_ms),
                },
                3 => Kind::Flaps { n },
                4 => Kind::ZoneDies {
                    zone: self.nodes[n].zone,
                    back_ms: for_ms,
                },
                5 => Kind::CutOff { n, for_ms },
                6 => Kind::Slandered { n, for_ms },
                7 => Kind::Lags { n, for_ms },
                8 => Kind::Unfit { n, for_ms },
                _ => Kind::Removed { n },
            };
            self.spread(at_ms, kind, &mut all);
        }
        all
    }

    /// A fault and what follows of it.
    fn spread(&self, at_ms: u64, kind: Kind, all: &mut Vec<Fault>) {
        let mut add = |at_ms, kind| all.push(Fault { at_ms, kind });
        match kind {
            Kind::Flaps { n } => {
                for flap in 0..FLAPS {
                    let dies_at = at_ms + 2 * flap * FLAP_MS;
                    let back_ms = None;
                    add(dies_at, Kind::Dies { n, back_ms });
                    add(dies_at + FLAP_MS, Kind::Back { n });
                }
            }
            Kind::ZoneDies { zone, back_ms } => {
                for n in (0..self.nodes.len()).filter(|n| self.nodes[*n].zone == zone) {
                    add(at_ms, Kind::Dies { n, back_ms: None });
                    add(at_ms + back_ms, Kind::Back { n });
                }
            }
            Kind::Dies { n, back_ms } => {
                add(at_ms, kind);
                if let Some(after) = back_ms {
                    add(at_ms + after, Kind::Back { n });
                }
            }
            _ => add(at_ms, kind),
        }
    }

    pub(super) fn break_something(&mut self, kind: Kind) {
        let now_ms = self.now_ms;
        let (n, was_there) = match kind {
            Kind::Dies { n, .. }
            | Kind::Flaps { n }
            | Kind::CutOff { n, .. }
            | Kind::Slandered { n, .. }
            | Kind::Lags { n, .. }
            | Kind::Unfit { n, .. }
            | Kind::Removed { n }
            | Kind::Back { n } => (n, self.nodes[n].comes_ms <= now_ms),
            Kind::ZoneDies { .. } => return,
        };
        if !was_there {
            return;
        }
        self.tell(What::Fault {
            fault: format!("{kind:?}"),
        });
        let node = &mut self.nodes[n];
        match kind {
            Kind::Dies { .. } => self.stop(n),
            Kind::Back { .. } => self.start(n),
            Kind::CutOff { for_ms, .. } => node.cut_until_ms = now_ms + for_ms,
            Kind::Slandered { for_ms, .. } => node.slandered_until_ms = now_ms + for_ms,
            Kind::Lags { for_ms, .. } => node.lags_until_ms = now_ms + for_ms,
            Kind::Unfit { for_ms, .. } => node.unfit_until_ms = now_ms + for_ms,
            Kind::Removed { .. } => self.remove(n),
            Kind::Flaps { .. } | Kind::ZoneDies { .. } => {}
        }
    }

    /// The faults end. Of the nodes that are down some stay so, but as many voters come back as it
    /// takes to decide anything at all.
    pub(super) fn come_to_rest(&mut self) {
        for n in 0..self.nodes.len() {
            let node = &mut self.nodes[n];
            node.cut_until_ms = node.cut_until_ms.min(self.now_ms);
            node.slandered_until_ms = node.slandered_until_ms.min(self.now_ms);
            node.lags_until_ms = 0;
            node.unfit_until_ms = 0;
            if self.rng.chance(500) {
                self.start(n);
            }
        }
        for n in 0..self.nodes.len() {
            if !self.raft.goes_on(self, None) && self.nodes[n].comes_ms <= self.now_ms {
                self.start(n);
            }
        }
    }
}
