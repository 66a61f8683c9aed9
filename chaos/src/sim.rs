//! Many simulated worlds, one after the other on every core, each judged as it ends.

use crate::event::Happened;
use crate::oracle::{Violation, judge};
use crate::world::{Scenario, World};
use hale_model::planted::Mistake;
use std::num::NonZero;
use std::ops::Range;
use std::thread;

/// One world that was lived.
#[derive(Debug)]
pub struct Lived {
    /// Its seed.
    pub seed: u64,
    /// What happened in it.
    pub log: Vec<Happened>,
    /// What did not hold.
    pub wrong: Vec<Violation>,
}

/// How many worlds each thread lives before they are told of.
const BLOCK: u64 = 16;

/// Lives the worlds of these seeds and tells of each, in order, until told to stop.
///
/// # Errors
/// What `tell` says.
pub fn live<E>(
    seeds: Range<u64>,
    scenario: &Scenario,
    mistake: Option<Mistake>,
    mut tell: impl FnMut(Lived) -> Result<bool, E>,
) -> Result<(), E> {
    let jobs = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let mut next = seeds.start;
    while next < seeds.end {
        let block = next..seeds.end.min(next.saturating_add(jobs * BLOCK));
        next = block.end;
        let lived = thread::scope(|scope| {
            let threads: Vec<_> = (0..jobs)
                .map(|job| {
                    let mine = block.clone().skip(job as usize).step_by(jobs as usize);
                    scope.spawn(move || {
                        plant(mistake);
                        mine.map(|seed| live_one(seed, scenario))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect::<Vec<_>>()
        });
        let mut all = vec![];
        for result in lived {
            // A panic in a world is this program's own, with the seed in its backtrace's message.
            all.extend(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all.sort_by_key(|lived| lived.seed);
        for lived in all {
            if !tell(lived)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn live_one(seed: u64, scenario: &Scenario) -> Lived {
    let log = World::run(seed, scenario);
    let wrong = judge(&log);
    Lived { seed, log, wrong }
}

/// Plants a mistake on this thread, in a build that can.
pub fn plant(mistake: Option<Mistake>) {
    #[cfg(feature = "planted")]
    hale_model::planted::plant(mistake);
    #[cfg(not(feature = "planted"))]
    let _ = mistake;
}
