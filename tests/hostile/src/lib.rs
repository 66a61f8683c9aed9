//! Bytes that nobody should send, held against whatever reads them.
//!
//! A crate that reads bytes from outside lists its readers as [`Parser`]s in its `src/fuzz.rs`. The
//! tests there call [`hold`]: bytes of any kind and valid ones that were spoilt, always the same for
//! one seed. The targets in `tests/fuzz/` feed the same functions for hours.

mod memory;
mod spoil;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// What reads bytes from outside.
pub struct Parser {
    /// Its name: the fuzz target's too.
    pub name: &'static str,
    /// Bytes that it reads without an error.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads these bytes, whatever they are, and panics if what must hold does not.
    pub feed: fn(&[u8]),
}

/// How many inputs of each kind [`hold`] tries.
const CASES: u32 = 384;
/// The longest input of random bytes.
const MAX_RANDOM_BYTES: usize = 300;
/// Where another seed than [`DEFAULT_SEED`] is taken from, a number.
const SEED_VARIABLE: &str = "HALE_HOSTILE_SEED";
const DEFAULT_SEED: u64 = 7118;

/// Holds hostile bytes against a parser.
///
/// # Panics
/// If it panics; with the seed and the shortest bytes found.
pub fn hold(parser: &Parser) {
    hold_for(parser, CASES);
}

/// As [`hold`], with so many inputs of each kind: fewer where each takes long.
///
/// # Panics
/// As [`hold`].
pub fn hold_for(parser: &Parser, cases: u32) {
    memory::bound();
    let seeds = (parser.seeds)();
    assert!(
        !seeds.is_empty(),
        "{} has no valid bytes to spoil",
        parser.name
    );
    for seed in &seeds {
        (parser.feed)(seed);
    }
    run(parser, cases, &spoil::random(MAX_RANDOM_BYTES));
    run(parser, cases, &spoil::spoilt(seeds));
}

fn run(parser: &Parser, cases: u32, strategy: &impl proptest::strategy::Strategy<Value = Vec<u8>>) {
    let seed = std::env::var(SEED_VARIABLE)
        .ok()
        .and_then(|t| t.parse().ok());
    let seed: u64 = seed.unwrap_or(DEFAULT_SEED);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let held = TestRunner::new_with_rng(config, rng).run(strategy, |bytes| {
        (parser.feed)(&bytes);
        Ok::<(), TestCaseError>(())
    });
    match held {
        Ok(()) => {}
        Err(TestError::Fail(why, bytes)) => panic!(
            "{}: {why}\nthe bytes: b\"{}\"\nagain: {SEED_VARIABLE}={seed}",
            parser.name,
            bytes.escape_ascii()
        ),
        Err(TestError::Abort(why)) => panic!("{}: {why}", parser.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICKY: Parser = Parser {
        name: "picky",
        seeds: || vec![b"HALE\x01\x00".to_vec()],
        feed: |bytes| assert!(!bytes.starts_with(b"HALE") || bytes.get(4) != Some(&0xff)),
    };

    #[test]
    fn what_only_spoilt_bytes_reach_is_reached_and_told_with_the_seed() {
        let told = std::panic::catch_unwind(|| hold_for(&PICKY, 3_000)).unwrap_err();
        let told = told.downcast_ref::<String>().unwrap();
        assert!(
            told.contains("HALE\\xff") && told.contains("HALE_HOSTILE_SEED=7118"),
            "{told}"
        );
    }

    #[test]
    fn a_parser_that_takes_everything_is_left_alone() {
        hold(&Parser {
            name: "all",
            seeds: || vec![vec![]],
            feed: |_| {},
        });
    }
}
