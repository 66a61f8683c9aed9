//! `hale-chaos sim --world seats`.

use super::sim::{SHOWN, Sim, commit, event_log, progress, summarise};
use hale_chaos::seats::{Happened, Scenario, Violation, World, judge};
use std::io::{self, Write};
use std::num::NonZero;
use std::thread;
use std::time::Instant;

/// How many worlds each thread lives before they are told of.
const BLOCK: u64 = 16;

/// A world that was lived.
type Lived = (u64, Vec<Happened>, Vec<Violation>);

/// How many worlds failed.
pub(super) fn run(asked: &Sim) -> io::Result<usize> {
    let scenario = Scenario {
        duration_ms: asked.minutes * 60_000,
        faults: asked.faults,
    };
    let mut log = event_log(asked)?;
    let mut out = io::stdout().lock();
    let bar = progress(asked.runs);
    let began = Instant::now();
    let (mut events, mut failed) = (0, vec![]);
    let (mut next, end) = (asked.seed, asked.seed.saturating_add(asked.runs));
    while next < end {
        let lived = live(&scenario, next, end);
        next += lived.len() as u64;
        bar.inc(lived.len() as u64);
        for (seed, happened, wrong) in lived {
            events += happened.len();
            if let Some(log) = &mut log {
                for one in &happened {
                    serde_json::to_writer(&mut *log, one)?;
                    log.write_all(b"\n")?;
                }
            }
            if wrong.is_empty() {
                continue;
            }
            failed.push(seed);
            if failed.len() <= SHOWN && !asked.json {
                bar.suspend(|| show(&mut out, asked, seed, &wrong))?;
            }
        }
    }
    bar.finish_and_clear();
    if let Some(log) = &mut log {
        log.flush()?;
    }
    summarise(&mut out, asked, "seats", events, &failed, began.elapsed())?;
    Ok(failed.len())
}

/// The worlds of the next seeds, on every core, in order.
fn live(scenario: &Scenario, from: u64, end: u64) -> Vec<Lived> {
    let jobs = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let until = end.min(from.saturating_add(jobs * BLOCK));
    let one = |seed| {
        let log = World::run(seed, scenario);
        let wrong = judge(&log);
        (seed, log, wrong)
    };
    let mut all: Vec<Lived> = thread::scope(|scope| {
        let of = |job| (from + job..until).step_by(jobs as usize);
        let threads: Vec<_> = (0..jobs)
            .map(|job| scope.spawn(move || of(job).map(one).collect::<Vec<_>>()))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            // A panic in a world is this program's own.
            let lived = thread.join();
            lived.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.flatten().collect()
    });
    all.sort_by_key(|(seed, ..)| *seed);
    all
}

fn show(out: &mut impl Write, asked: &Sim, seed: u64, wrong: &[Violation]) -> io::Result<()> {
    writeln!(out, "seed {seed}, commit {}:", commit())?;
    for violation in wrong.iter().take(10) {
        writeln!(out, "  {violation}")?;
    }
    writeln!(
        out,
        "  replay: hale-chaos sim --world seats --seed {seed} --runs 1 --minutes {} --faults {} --log events.jsonl",
        asked.minutes, asked.faults
    )
}
