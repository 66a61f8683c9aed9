//! Joins and seats: a fixed set of seeds in every test run; more by `hale-chaos sim --world seats`.

use hale_chaos::seats::{Scenario, What, World, judge};
use std::collections::BTreeSet;
use std::thread;

#[test]
fn nothing_that_must_hold_is_broken_in_two_hundred_worlds() {
    let failed = |seeds: std::ops::Range<u64>| {
        let judged = seeds.map(|seed| (seed, judge(&World::run(seed, &Scenario::default()))));
        judged
            .filter(|(_, wrong)| !wrong.is_empty())
            .collect::<Vec<_>>()
    };
    let failed = thread::scope(|scope| {
        let other = scope.spawn(|| failed(101..201));
        let mut all = failed(1..101);
        all.extend(other.join().unwrap());
        all
    });
    assert!(failed.is_empty(), "{} seeds: {failed:#?}", failed.len());
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| World::run(seed, &Scenario::default());
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn worlds_are_not_empty() {
    let mut words: BTreeSet<&str> = [
        "stands by",
        "stands by no more",
        "a change left half done",
        "5 voters",
        "3 voters",
        "2 learners",
        "removed",
        "used up",
        "kept out",
        "Flaps",
        "CutOff",
        "Slandered",
        "Lags",
        "Unfit",
        "Dies",
    ]
    .into();
    for seed in 1..101 {
        let log = World::run(seed, &Scenario::default());
        let (mut used, mut uninvited) = (0, BTreeSet::new());
        for happened in &log {
            match &happened.what {
                What::Begins { change, .. } => words.retain(|w| !change.contains(w)),
                What::Group { voters, learners } => {
                    let told = format!("{} voters {} learners", voters.len(), learners.len());
                    words.retain(|w| !told.contains(w));
                }
                What::Removed { .. } => drop(words.remove("removed")),
                What::Fault { fault } => words.retain(|w| !fault.contains(w)),
                What::Enrolled { token, .. } if token.as_deref() == Some("tok_a") => used += 1,
                What::Token { token, uses } if token == "tok_a" && *uses == used => {}
                What::Comes { node, invited, .. } if !invited => drop(uninvited.insert(*node)),
                _ => {}
            }
        }
        let uses = log.iter().find_map(|h| match &h.what {
            What::Token { token, uses } if token == "tok_a" => Some(*uses),
            _ => None,
        });
        if uses == Some(used) {
            words.remove("used up");
        }
        if !uninvited.is_empty() {
            words.remove("kept out");
        }
    }
    // What flaps is told as the deaths that it is made of.
    words.remove("Flaps");
    assert_eq!(words, BTreeSet::new(), "never happened");
}
