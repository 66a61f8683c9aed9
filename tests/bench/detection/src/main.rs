//! Runs stories and labelled series through a `hale` binary, and prints what it told.
//!
//!     cargo run --release --manifest-path tests/bench/detection/Cargo.toml -- \
//!         --hale target/release/hale [--seeds 3] [NAME=DIR]…
//!
//! DIR holds `data/**.csv` and `labels.json`, like the Numenta Anomaly Benchmark; NAME is what it
//! is called in the table.

use detection_bench::labelled::{self, Labelled};
use detection_bench::stories::{self, Alert, Story};
use hale_model::Severity;
use serde_json::json;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The threshold at which a score is a warning.
const WARNING: f64 = 0.5;
/// False alerts of a host in a week.
const HOST_BUDGET: f64 = 0.25;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut hale, mut seeds, mut sets) = (None, 3, vec![]);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or("a value is missing");
        match arg.as_str() {
            "--hale" => hale = Some(PathBuf::from(value()?)),
            "--seeds" => seeds = value()?.parse()?,
            set => {
                let (name, dir) = set.split_once('=').ok_or("write NAME=DIR")?;
                sets.push((name.to_owned(), PathBuf::from(dir)));
            }
        }
    }
    let hale = hale.ok_or("name the binary with --hale")?;
    let work = std::env::temp_dir().join(format!("detection-{}", std::process::id()));
    let passed = told_stories(&hale, &work, seeds)?;
    for (name, dir) in &sets {
        for profile in ["balanced", "novelty"] {
            set(&hale, &work, name, dir, profile)?;
        }
    }
    fs::remove_dir_all(&work)?;
    if passed {
        Ok(())
    } else {
        Err("a story was not told as it should be".into())
    }
}

fn replay(hale: &Path, from: &Path, to: &Path, profile: &str) -> Result<(), Box<dyn Error>> {
    let run = Command::new(hale)
        .args(["baseline", "replay", "--json", "--profile", profile])
        .args([from, to])
        .output()?;
    match run.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&run.stderr).into_owned().into()),
    }
}

fn told_stories(hale: &Path, work: &Path, seeds: u64) -> Result<bool, Box<dyn Error>> {
    let all: Vec<(u64, Story)> = (1..=seeds)
        .flat_map(|seed| stories::all(seed).into_iter().map(move |s| (seed, s)))
        .collect();
    let (from, to) = (work.join("stories"), work.join("told"));
    fs::create_dir_all(&from)?;
    let mut described = serde_json::Map::new();
    let file = |n: usize| format!("{n}.csv");
    for (n, (_, story)) in all.iter().enumerate() {
        let mut text = "timestamp,value\n".to_owned();
        for (t, x) in &story.rows {
            writeln!(text, "{t},{x}")?;
        }
        fs::write(from.join(file(n)), text)?;
        let bounds = story.sample.bounds;
        let known = json!({
            "kind": story.sample.kind,
            "min": bounds.map(|b| b.min),
            "max": bounds.map(|b| b.max),
            "tz": story.zone,
        });
        described.insert(file(n), known);
    }
    fs::write(from.join("series.json"), serde_json::to_string(&described)?)?;
    replay(hale, &from, &to, "balanced")?;
    let mut passed = 0;
    for (n, (seed, story)) in all.iter().enumerate() {
        let wrong = story.grade(&alerts(&to.join(file(n)))?);
        passed += usize::from(wrong.is_empty());
        for what in wrong {
            println!("{}, seed {seed}: {what}", story.name);
        }
    }
    println!("stories: {passed} of {}, {seeds} seeds", all.len());
    Ok(passed == all.len())
}

fn alerts(path: &Path) -> Result<Vec<Alert>, Box<dyn Error>> {
    let mut alerts = vec![];
    for line in fs::read_to_string(path)?.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let severity = match fields.as_slice() {
            [_, _, _, "1", severity, ..] => *severity,
            _ => continue,
        };
        let severity = [Severity::Warning, Severity::Critical]
            .into_iter()
            .find(|s| s.as_str() == severity);
        // An info pages nobody.
        if let Some(severity) = severity {
            alerts.push((fields[0].parse()?, severity));
        }
    }
    Ok(alerts)
}

fn set(
    hale: &Path,
    work: &Path,
    name: &str,
    dir: &Path,
    profile: &str,
) -> Result<(), Box<dyn Error>> {
    let to = work.join(name).join(profile);
    replay(hale, &dir.join("data"), &to, profile)?;
    let all: Vec<(String, Labelled)> = labelled::read(&to, &dir.join("labels.json"))?;
    let table = labelled::nab(&all);
    let best = labelled::best(&table).ok_or("there is nothing to score")?;
    let fixed = labelled::at(&table, WARNING).map_or(0.0, |n| n.score);
    let told = labelled::alerts(&all, WARNING);
    println!(
        "{name}, {profile}: NAB {:.1} at its best threshold ({:.2}), {fixed:.1} at {WARNING}; {} of {} \
         windows, {:.2} false alerts a series-week",
        best.score,
        best.threshold,
        told.found,
        told.windows,
        told.false_per_week()
    );
    let hosts = labelled::hosts(&all);
    if let Some((threshold, told)) = labelled::within(&hosts, HOST_BUDGET) {
        println!(
            "{name}, {profile}: of {} hosts {} of {} windows ({:.3}) at {:.2} false alerts a host-week \
             (threshold {threshold:.2})",
            hosts.len(),
            told.found,
            told.windows,
            told.recall(),
            told.false_per_week()
        );
    }
    Ok(())
}
