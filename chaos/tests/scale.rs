//! The study of growth, with small clusters.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use hale_chaos::scale::gossip;
use serde_json::Value;
use std::process::{Command, Output};

#[allow(clippy::unwrap_used, reason = "a test's helper")]
fn scale(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hale-chaos"));
    command.arg("scale").args(args).output().unwrap()
}

#[test]
fn twenty_nodes_hear_of_joins_and_deaths_and_one_seed_is_one_run() {
    let study = |seed| gossip::study(20, seed, |_| {}).unwrap();
    let one = study(4);
    assert_eq!((one.joins.unknown, one.deaths.unknown), (0, 0));
    assert!(one.joins.all_max_s.unwrap() < one.deaths.all_max_s.unwrap());
    assert_eq!(one.false_downs, 0);
    assert!(one.quiet.packets < one.lossy.packets);
    assert_eq!(one.trace, study(4).trace);
    assert_ne!(one.trace, study(5).trace);
}

#[test]
fn a_report_says_what_gives_first_and_marks_what_follows_from_smaller_clusters() {
    let args = ["--nodes", "40,9000", "--simulate-up-to", "40"];
    let output = scale(&[&args[..], &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], "hale.chaos.scale.v1");
    let leaders = report["leaders"].as_array().unwrap();
    let measured: Vec<_> = leaders
        .iter()
        .map(|l| l["measured"].as_bool().unwrap())
        .collect();
    assert_eq!(measured, [true, false]);
    let commands = |n: usize| leaders[n]["commands"].as_f64().unwrap();
    assert!((commands(1) / commands(0) - 225.0).abs() < 1e-6);
    let limits = report["limits"].as_array().unwrap();
    let nodes: Vec<_> = limits.iter().filter_map(|l| l["nodes"].as_u64()).collect();
    assert!(nodes.is_sorted() && nodes.len() > 3, "{nodes:?}");
    assert!(report["ledger"]["close"]["bytes"].as_f64().unwrap() > 1_000.0);
}

#[test]
fn what_cannot_be_measured_is_told() {
    for wrong in [
        ["--incidents-per-hour", "0"],
        ["--run-seconds", "nan"],
        ["--dir", "/nowhere"],
        ["--nodes", "3"],
    ] {
        let output = scale(&wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(!output.stderr.is_empty());
    }
}
