//! A schedule of faults that leads to a violation is made shorter, as long as it still does (Zeller,
//! Hildebrandt, "Simplifying and isolating failure-inducing input", IEEE TSE 2002: faults are left
//! out in ever smaller parts).

use crate::oracle::judge;
use crate::world::{Scenario, World};

/// The most worlds that are lived for it.
const MAX_TRIES: usize = 400;

/// The scenario with as many faults left out as can be; the seed's world must end badly.
pub fn shrink(seed: u64, scenario: &Scenario) -> Scenario {
    let fails = |s: &Scenario| !judge(&World::run(seed, s)).is_empty();
    let mut shortest = scenario.clone();
    let mut tries = 0;
    let mut size = (scenario.faults as usize).max(1);
    loop {
        let all = 0..scenario.faults as usize;
        let left: Vec<usize> = all.filter(|n| !shortest.without.contains(n)).collect();
        let shorter = left.chunks(size).find_map(|part| {
            if tries >= MAX_TRIES {
                return None;
            }
            tries += 1;
            let mut without = shortest.clone();
            without.without.extend(part);
            fails(&without).then_some(without)
        });
        match shorter {
            Some(shorter) => shortest = shorter,
            None if size == 1 || tries >= MAX_TRIES => return shortest,
            None => size = size.div_ceil(2),
        }
    }
}
