//! A fixed set of seeds in every test run; more by `hale-chaos sim --runs N`.

use hale_chaos::{Scenario, World, judge};

#[test]
fn nothing_that_must_hold_is_broken_in_a_hundred_worlds() {
    for seed in 1..=100 {
        let wrong = judge(&World::run(seed, Scenario::default()));
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    }
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| World::run(seed, Scenario::default());
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn worlds_are_not_empty() {
    let happened = World::run(3, Scenario::default());
    let count = |word: &str| {
        happened
            .iter()
            .filter(|h| serde_json::to_string(&h.what).unwrap().contains(word))
            .count()
    };
    for word in ["granted", "closed", "acted", "crashed", "acknowledged"] {
        assert!(count(word) > 0, "no {word} in the world of seed 3");
    }
}
