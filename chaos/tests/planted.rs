//! Classic mistakes, each of which the simulation must find. Built with `--features planted` alone.
#![cfg(feature = "planted")]
#![allow(clippy::print_stdout, reason = "how many worlds it took is printed")]

use hale_chaos::{Scenario, shrink, sim};
use hale_model::planted::Mistake;
use std::convert::Infallible;

/// So many worlds may be lived until a mistake shows.
const SEEDS: u64 = 2_000;

#[test]
fn every_planted_mistake_is_found() {
    let scenario = Scenario::default();
    let mut missed = vec![];
    for mistake in Mistake::ALL {
        let mut found = None;
        let told = sim::live(1..SEEDS + 1, &scenario, Some(mistake), |lived| {
            if let Some(wrong) = lived.wrong.first() {
                found = Some((lived.seed, wrong.to_string()));
            }
            Ok::<_, Infallible>(found.is_none())
        });
        let Ok(()) = told;
        match found {
            Some((seed, wrong)) => println!("{mistake:?}: after {seed} worlds: {wrong}"),
            None => missed.push(mistake),
        }
    }
    assert_eq!(missed, [], "not found in {SEEDS} worlds each");
}

#[test]
fn a_failing_schedule_is_made_shorter() {
    let mistake = Some(Mistake::WallClockExpiry);
    let scenario = Scenario::default();
    let mut failing = None;
    let told = sim::live(1..SEEDS + 1, &scenario, mistake, |lived| {
        failing = (!lived.wrong.is_empty()).then_some(lived.seed);
        Ok::<_, Infallible>(failing.is_none())
    });
    let Ok(()) = told;
    let seed = failing.expect("the mistake shows");
    sim::plant(mistake);
    let shortest = shrink(seed, &scenario);
    sim::plant(None);
    let left = scenario.faults as usize - shortest.without.len();
    println!("seed {seed}: {left} of {} faults", scenario.faults);
    assert!((1..=4).contains(&left), "{left} faults are left");
}
