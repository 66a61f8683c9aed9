//! Which faults a game day is made of.

use super::faults::{RealFault, Step, Whom};
use crate::rng::Rng;
use serde::Serialize;
use std::ops::Range;
use std::time::Duration;

/// A list of faults to draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Everything; the leader is killed in about three of ten steps.
    Mixed,
    /// Each kind once, in a fixed order.
    Each,
    /// Processes that are killed and stopped.
    Processes,
    /// Cuts, partitions and bad lines.
    Network,
    /// Disks that are full, stuck, slow, read-only or broken, and power loss.
    Disks,
    /// Wall clocks that jump.
    Clocks,
    /// Little processor time, little memory.
    Resources,
    /// What operators do: rolling restarts and upgrades, replaced hosts.
    Operations,
}

impl Scenario {
    /// All of them, with what they are called and what they are for.
    pub const ALL: [(Self, &'static str, &'static str); 8] = [
        (
            Self::Mixed,
            "mixed",
            "every kind of fault, the leader killed in three of ten",
        ),
        (Self::Each, "each", "every kind of fault once"),
        (
            Self::Processes,
            "processes",
            "does the cluster go on when processes die or hang?",
        ),
        (
            Self::Network,
            "network",
            "do minorities stand still, and does nobody act twice?",
        ),
        (
            Self::Disks,
            "disks",
            "is what was acknowledged still there after a disk's worst day?",
        ),
        (
            Self::Clocks,
            "clocks",
            "do leases and expiry keep to monotonic time?",
        ),
        (
            Self::Resources,
            "resources",
            "does a starved host step aside?",
        ),
        (
            Self::Operations,
            "operations",
            "can hosts be restarted, upgraded and replaced under load?",
        ),
    ];

    /// How many steps it has, if it ends by itself.
    pub fn steps(self) -> Option<usize> {
        (self == Self::Each).then_some(EACH)
    }

    /// The kinds that it draws from: of the fifty numbers that stand for how often a kind comes.
    fn kinds(self) -> Range<u8> {
        match self {
            Self::Mixed | Self::Each => 0..50,
            Self::Processes => 0..22,
            Self::Network => 22..30,
            Self::Disks => 30..41,
            Self::Clocks => 41..44,
            Self::Resources => 44..47,
            Self::Operations => 47..50,
        }
    }
}

/// How many kinds there are.
const EACH: usize = 23;
/// One number of each kind, of the fifty that stand for how often a kind comes.
const FIRST_OF_KIND: [u8; EACH] = [
    0, 12, 14, 16, 17, 19, 22, 24, 25, 27, 30, 32, 33, 34, 35, 38, 40, 41, 44, 46, 47, 49, 1,
];

/// The schedule of a seed; without an end, but for [`Scenario::Each`].
pub fn plan(
    seed: u64,
    hosts: usize,
    pause: Duration,
    scenario: Scenario,
) -> impl Iterator<Item = Step> {
    let mut rng = Rng::new(seed);
    let (kinds, mut number) = (scenario.kinds(), 0);
    std::iter::from_fn(move || {
        let host = rng.within(0, hosts as u64) as usize;
        // Whatever can be done to any host is done to the leader every other time.
        let whom = [Whom::Leader, Whom::Follower(host)][rng.within(0, 2) as usize];
        let drawn = rng.within(kinds.start.into(), kinds.end.into()) as u8;
        let kind = match scenario {
            Scenario::Each => *FIRST_OF_KIND.get(number)?,
            _ => drawn,
        };
        number += 1;
        let far = rng.within(30, 7_200) as i64;
        let seconds = [far, -far][rng.within(0, 2) as usize];
        let pause = pause.as_millis() as u64;
        Some(Step {
            after: Duration::from_millis(rng.within(pause / 2, pause * 3 / 2 + 1)),
            lasts: Duration::from_millis(rng.within(500, 6_000)),
            fault: fault(kind, host, whom, seconds),
        })
    })
}

/// The fault of a number from 0 to 49.
fn fault(kind: u8, host: usize, whom: Whom, seconds: i64) -> RealFault {
    match kind {
        0..=11 => RealFault::Kill(Whom::Leader),
        12..=13 => RealFault::Kill(Whom::Follower(host)),
        14..=15 => RealFault::KillHolder,
        16 => RealFault::KillTwo(host),
        17..=18 => RealFault::KillAll,
        19..=21 => RealFault::Stop(whom),
        22..=23 => RealFault::CutOff(whom),
        24 => RealFault::MuteLeader,
        25..=26 => RealFault::Partition(host),
        27..=29 => RealFault::BadLine(whom),
        30..=31 => RealFault::DiskFull(whom),
        32 => RealFault::DiskStuck(whom),
        33 => RealFault::DiskFails(whom),
        34 => RealFault::DiskReadOnly(host),
        35..=37 => RealFault::PowerLoss(whom),
        38..=39 => RealFault::SlowSync(whom),
        40 => RealFault::FailingSync(whom),
        41..=43 => RealFault::ClockJump(whom, seconds),
        44..=45 => RealFault::LittleCpu(whom),
        46 => RealFault::LittleMemory(whom),
        47..=48 => RealFault::RollingRestart,
        _ => RealFault::Replace(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::mem::discriminant;

    #[test]
    fn every_kind_is_in_the_scenario_that_has_each_once() {
        let steps = plan(1, 5, Duration::from_secs(1), Scenario::Each);
        let each: Vec<_> = steps.map(|s| discriminant(&s.fault)).collect();
        let all: Vec<_> = (0..50)
            .map(|k| discriminant(&fault(k, 0, Whom::Leader, 60)))
            .collect();
        assert!(all.iter().all(|k| each.contains(k)), "{each:?}");
        assert_eq!(each.len(), EACH);
    }

    #[test]
    fn the_narrower_scenarios_have_every_fault_between_them() {
        let narrow = Scenario::ALL.iter().skip(2);
        let kinds: Vec<u8> = narrow.flat_map(|(s, ..)| s.kinds()).collect();
        let different: BTreeSet<u8> = kinds.iter().copied().collect();
        assert_eq!(kinds.len(), 50);
        assert_eq!(different.len(), 50);
    }
}
