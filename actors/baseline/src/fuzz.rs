//! What reads bytes from outside here, to be held against hostile ones: states from the disk, and
//! times and values of any kind.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::{Baseline, LocalTime, Moment, Profile, Sensitivity, replay::Replay};
use hale_hostile::Parser;
use hale_model::{Sample, SeriesKey, Timestamp};
use std::time::Duration;

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "baseline_state",
        seeds: states,
        feed: state,
    },
    Parser {
        name: "baseline_values",
        seeds: || vec![values(40, 60_000), values(40, 3_600_000), values(9, 1)],
        feed: observe,
    },
];

const WINDOW: Duration = Duration::from_secs(7 * 86_400);
const START_MS: i64 = 1_770_000_000_000;

fn samples() -> [Sample; 2] {
    let series = || SeriesKey::new("system.cpu_percent");
    [
        Sample::percent(series(), 0.0),
        Sample::counter(series(), 0.0),
    ]
}

fn with(sample: &Sample, value: f64) -> Sample {
    Sample {
        value,
        ..sample.clone()
    }
}

/// Baselines of a minute, and of some weeks.
fn states() -> Vec<Vec<u8>> {
    let of = |sample: &Sample, count: i64, step_ms: i64| {
        let mut baseline = Baseline::new(WINDOW);
        for n in 0..count {
            let at = Timestamp::from_millis(START_MS + n * step_ms);
            let value = 50.0 + (n % 7) as f64 + n as f64 * 0.01;
            baseline.observe(&with(sample, value), Moment::utc(at));
        }
        baseline.to_bytes().unwrap()
    };
    let [gauge, counter] = samples();
    vec![
        of(&gauge, 20, 1_000),
        of(&gauge, 1_500, 900_000),
        of(&counter, 500, 60_000),
    ]
}

/// A state that is read is one that can be gone on from, whatever comes and whenever.
fn state(bytes: &[u8]) {
    let Ok(mut baseline) = Baseline::from_bytes(bytes) else {
        return;
    };
    let sister = |bytes: &[u8]| Baseline::from_bytes(bytes).unwrap();
    for other in states() {
        let sisters = vec![baseline.clone(), sister(&other)];
        if let Some(merged) = Baseline::of_sisters(sisters, WINDOW, Profile::Balanced) {
            sister(&merged.to_bytes().unwrap());
        }
    }
    let last = baseline.last_at().as_millis();
    let _ = baseline.step();
    for sample in samples() {
        for ahead in [0, 1_000, 60_000, 900_000, 30 * 86_400_000, -3_600_000] {
            let at = Timestamp::from_millis(last.saturating_add(ahead));
            for value in [50.0, 1e300, -3.0] {
                baseline.observe(&with(&sample, value), Moment::utc(at));
            }
        }
    }
    baseline.exclude(
        Timestamp::from_millis(last),
        Timestamp::from_millis(i64::MAX),
    );
    baseline.set_window(WINDOW);
    let written = baseline.to_bytes().unwrap();
    Baseline::from_bytes(&written).unwrap();
}

fn values(count: i64, step_ms: i64) -> Vec<u8> {
    let one = |n: i64| {
        let at = START_MS + n * step_ms;
        [at.to_be_bytes(), (n as f64).to_be_bytes()].concat()
    };
    (0..count).flat_map(one).collect()
}

/// Pairs of a time and a value, eight bytes each.
fn observe(bytes: &[u8]) {
    let utc = LocalTime::named("UTC").unwrap();
    for sample in samples() {
        let mut replay = Replay::new(sample, Sensitivity::High, utc.clone(), WINDOW);
        for pair in bytes.chunks_exact(16) {
            let (at, value) = pair.split_at(8);
            let at = i64::from_be_bytes(at.try_into().unwrap());
            let value = f64::from_be_bytes(value.try_into().unwrap());
            let row = replay.row(Timestamp::from_millis(at), value);
            assert!((0.0..=1.0).contains(&row.score), "{}", row.score);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_hostile::hold;

    #[test]
    fn a_state_from_the_disk_may_be_anything() {
        hold(&PARSERS[0]);
    }

    #[test]
    fn times_and_values_may_be_anything() {
        hold(&PARSERS[1]);
    }
}
