//! A short time of real faults on three hosts, with the release build of `hale`.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn hale() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let given = std::env::var_os("HALE_BIN").map(PathBuf::from);
    let path = given.unwrap_or_else(|| target.join("release/hale"));
    path.is_file().then_some(path)
}

fn chaos() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hale-chaos"))
}

fn skipped(test: &str) {
    #[allow(clippy::print_stdout, reason = "who reads the output counts these")]
    {
        println!("SKIPPED {test}: there is no release build of hale");
    }
}

#[allow(clippy::unwrap_used, reason = "a test's helper")]
/// Breaks a cluster, and gives the report if everything held.
///
/// # Panics
/// If anything did not hold.
fn broken(hale: PathBuf, name: &str, args: &[&str]) -> Value {
    let dir = std::env::temp_dir().join(format!("hale-report-{name}-{}", std::process::id()));
    let mut real = chaos();
    real.arg("real").args(args).arg("--json");
    let output = real.arg("--hale").arg(hale).arg("--report").arg(&dir);
    let output = output.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{out}\n{err}");
    for name in ["report.md", "report.json", "timeline.svg", "events.jsonl"] {
        assert!(dir.join(name).metadata().unwrap().len() > 100, "{name}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
    serde_json::from_str(&out).unwrap()
}

#[test]
fn nothing_that_must_hold_is_broken_by_real_faults() {
    let Some(hale) = hale() else {
        return skipped("real faults");
    };
    let line = "--hosts 3 --seed 3 --minutes 0.6 --pause 4 --scenario processes";
    let report = broken(hale, "short", &line.split(' ').collect::<Vec<_>>());
    let count = |what: &str| report[what].as_u64().unwrap();
    assert!(count("leader_kills") >= 1, "{report}");
    assert!(
        count("acknowledged") > 50 && count("grants") > 3,
        "{report}"
    );
}

#[test]
fn nothing_that_must_hold_is_broken_by_any_kind_of_fault() {
    let Some(hale) = hale() else {
        return skipped("every kind of real fault");
    };
    let line = "--hosts 5 --seed 5 --minutes 8 --pause 1.5 --scenario each";
    let report = broken(hale, "each", &line.split(' ').collect::<Vec<_>>());
    let told = |what: &str| report[what].as_array().unwrap().len();
    assert!(told("faults") + told("left_out") >= 20, "{report}");
    // What it takes for them may be missing; that processes die needs nothing.
    assert!(told("faults") >= 4, "{report}");
}

#[test]
fn a_schedule_is_shown_without_being_begun_and_is_the_seeds_own() {
    let schedule = |seed: &str| {
        let output = chaos()
            .args(["real", "--dry-run", "--minutes", "60", "--seed", seed])
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let (one, again, other) = (schedule("1"), schedule("1"), schedule("2"));
    assert_eq!(one, again);
    assert_ne!(one, other);
    assert!(one.lines().count() > 200, "{one}");
    let kills_leader = |line: &&str| {
        ["Kill(Leader)", "KillTwo", "KillAll", "PowerLoss(Leader)"]
            .iter()
            .any(|fault| line.contains(fault))
    };
    let kills = one.lines().filter(kills_leader).count();
    assert!(kills >= 60, "{kills} kills of the leader in an hour");
}

#[test]
fn what_cannot_be_done_is_told() {
    let output = chaos()
        .args(["real", "--hale", "/nowhere/hale"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/hale"));
}

#[test]
fn a_directory_with_files_of_others_is_not_taken() {
    let dir = std::env::temp_dir().join(format!("hale-chaos-full-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("mine"), "").unwrap();
    let output = chaos()
        .args(["real", "--hale", env!("CARGO_BIN_EXE_hale-chaos"), "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not empty"));
    assert!(dir.join("mine").is_file());
    std::fs::remove_dir_all(&dir).unwrap();
}
