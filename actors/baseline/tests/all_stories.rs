//! The stories of the detection bench, each with three seeds.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../../tests/bench/detection/src/stories.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "the bench uses all of it"
)]
mod stories;

use hale_baseline::replay::replay;
use hale_baseline::{LocalTime, Sensitivity};
use hale_model::{Severity, Timestamp};
use std::time::Duration;
use stories::{Alert, Story};

fn alerts(story: &Story) -> Vec<Alert> {
    let rows: Vec<(Timestamp, f64)> = story
        .rows
        .iter()
        .map(|(t, x)| (Timestamp::from_secs(*t), *x))
        .collect();
    let told = replay(
        rows,
        story.sample.clone(),
        Sensitivity::Medium,
        LocalTime::named(story.zone).unwrap(),
        Duration::from_secs(7 * 86_400),
    );
    assert_eq!(told.len(), story.rows.len(), "{}", story.name);
    assert!(
        told.iter().all(|r| (0.0..=1.0).contains(&r.score)),
        "{}: a score is no number from 0 to 1",
        story.name
    );
    let rows = story.rows.iter().zip(&told);
    rows.filter_map(|((t, _), row)| Some((*t, row.severity?)))
        .filter(|(_, severity)| *severity >= Severity::Warning)
        .collect()
}

#[test]
fn every_story_is_told_as_it_should_be() {
    let mut wrong = vec![];
    for seed in 1..=3 {
        for story in stories::all(seed) {
            let told = story.grade(&alerts(&story));
            wrong.extend(
                told.iter()
                    .map(|w| format!("{}, seed {seed}: {w}", story.name)),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
