//! The gallery: real faults of real software that a real node has to resolve alone, or must leave
//! alone. `tests/gallery/README.md` tells what a case is made of.
//!
//! As a test it only looks whether the cases are complete; `tests/gallery/run` carries them out.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "gallery/case.rs"]
mod case;
#[path = "gallery/config.rs"]
mod config;
#[path = "gallery/course.rs"]
mod course;
#[path = "gallery/host.rs"]
mod host;
#[path = "gallery/node.rs"]
mod node;
#[path = "gallery/options.rs"]
mod options;
#[path = "gallery/report.rs"]
mod report;
#[path = "gallery/stop.rs"]
mod stop;
#[path = "gallery/story.rs"]
mod story;
#[path = "gallery/verdict.rs"]
mod verdict;

use case::Case;
use host::{Host, Parts};
use options::Options;
use report::{Report, say};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a case is begun at most: on a busy machine a host that is well may look as if it were not.
const ATTEMPTS: usize = 3;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let well = match args.split_first() {
        Some((_, rest)) if rest.iter().any(|a| a == "--help") => {
            say(options::USAGE);
            Ok(true)
        }
        Some((first, rest)) if first == "run" => Options::parse(rest).and_then(|o| run(&o)),
        // The test harness's own arguments mean nothing here.
        _ => check(),
    };
    match well {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            say(&why);
            ExitCode::from(2)
        }
    }
}

/// Whether every case is complete.
fn check() -> Result<bool, String> {
    let began = Instant::now();
    let playbooks = playbooks(&library())?;
    let (mut passed, mut failed) = (0, 0);
    for dir in case::directories(&case::home(), &[])? {
        let faults = match Case::read(&dir) {
            Ok(case) => case.faults(&playbooks),
            Err(why) => vec![why],
        };
        let name = dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if faults.is_empty() {
            passed += 1;
            say(&format!("test {name} ... ok"));
        } else {
            failed += 1;
            say(&format!(
                "test {name} ... FAILED\n  {}",
                faults.join("\n  ")
            ));
        }
    }
    for name in unproven(&library())? {
        failed += 1;
        say(&format!(
            "test {name} ... FAILED\n  it says `proof: proven`, and no case resolves it"
        ));
    }
    Ok(report::result(passed, failed, began.elapsed()))
}

/// The playbooks that say that they are proven, without a case that has to be resolved by them.
fn unproven(library: &Path) -> Result<Vec<String>, String> {
    let mut resolved = BTreeSet::new();
    for dir in case::directories(&case::home(), &[])? {
        if let Ok(case) = Case::read(&dir)
            && case.told.expect == case::Expect::Resolved
        {
            resolved.extend(case.told.playbook.into_iter().chain(case.told.also));
        }
    }
    let mut left = vec![library.to_owned()];
    let mut unproven = vec![];
    while let Some(below) = left.pop() {
        let entries = std::fs::read_dir(&below).map_err(|e| format!("{}: {e}", below.display()))?;
        for path in entries.flatten().map(|e| e.path()) {
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if text.contains("\n  proof: proven\n") && !resolved.contains(&*name) {
                unproven.push(name.into_owned());
            }
        }
    }
    Ok(unproven)
}

fn library() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../playbooks/library")
}

/// The names of the playbooks in a directory and below it: as their files are named.
fn playbooks(below: &Path) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    let entries = std::fs::read_dir(below).map_err(|e| format!("{}: {e}", below.display()))?;
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            names.extend(playbooks(&path)?);
        } else if let Some(name) = path.file_stem() {
            names.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Carries out the cases that are asked for. Returns whether all is well.
fn run(options: &Options) -> Result<bool, String> {
    let began = Instant::now();
    let cases = case::directories(&options.cases, &options.names)?;
    let cases: Result<Vec<Case>, String> = cases.iter().map(|d| Case::read(d)).collect();
    let mut cases = cases?;
    cases.retain(|c| !options.smoke || c.told.smoke);
    stop::listen();
    host::sweep();
    let parts = match parts(options) {
        Ok(parts) => parts,
        Err(why) if stop::is_asked() => return Err(why),
        Err(why) => return Ok(skip_all(&cases, &why, began.elapsed())),
    };
    let reports = carry_out(&cases, &parts, options);
    Ok(report::summary(&reports, began.elapsed(), options.json.as_deref()) && !stop::is_asked())
}

/// What hosts are made from, or why there are no hosts on this machine.
fn parts(options: &Options) -> Result<Parts, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("containers need root".into());
    }
    let hale = hale_tests::binary();
    let hale = hale
        .canonicalize()
        .map_err(|e| format!("{}: {e}", hale.display()))?;
    let parts = Parts {
        image: image()?,
        hale,
        library: options.library.clone(),
    };
    match Host::boot(&parts, &case::home(), "64m") {
        Ok(_) => Ok(parts),
        Err(why) => {
            if !stop::is_asked() {
                say(&why);
            }
            Err("no container boots on this machine".into())
        }
    }
}

/// The root file system of the hosts; it is made if it is not there.
fn image() -> Result<PathBuf, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("gallery/image");
    let mut command = Command::new(here);
    let made = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("no image: {e}"))?;
    let said = String::from_utf8_lossy(&made.stderr);
    if !said.is_empty() {
        say(said.trim());
    }
    if !made.status.success() {
        return Err(said
            .lines()
            .next()
            .unwrap_or("the image can't be made")
            .to_owned());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&made.stdout).trim()))
}

fn skip_all(cases: &[Case], why: &str, took: Duration) -> bool {
    for case in cases {
        say(&format!("SKIPPED gallery {}: {why}", case.name));
    }
    report::result(0, 0, took)
}

/// Carries out the cases, several at a time, each on a thread of its own: it joins its host's
/// network for good, and its host ends with it.
fn carry_out(cases: &[Case], parts: &Parts, options: &Options) -> Vec<Report> {
    let waiting = Mutex::new(cases.iter());
    let done = Mutex::new(vec![]);
    std::thread::scope(|all| {
        for _ in 0..options.jobs {
            all.spawn(|| {
                while let Some(case) = next(&waiting) {
                    let report = carry_out_one(case, parts, options);
                    if !options.keep {
                        report.print();
                    }
                    done.lock().unwrap().push(report);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by(|a: &Report, b| a.name.cmp(&b.name));
    done
}

fn next<'a>(waiting: &Mutex<std::slice::Iter<'a, Case>>) -> Option<&'a Case> {
    if stop::is_asked() {
        return None;
    }
    waiting.lock().unwrap().next()
}

/// Carries out one case, again if the node was disturbed before the fault had come.
fn carry_out_one(case: &Case, parts: &Parts, options: &Options) -> Report {
    for _ in 1..ATTEMPTS {
        let report = attempt(case, parts, options);
        if !report.disturbed || stop::is_asked() {
            return report;
        }
        let why = report.why.unwrap_or_default();
        say(&format!("again  {:<34} {why}", case.name));
    }
    attempt(case, parts, options)
}

fn attempt(case: &Case, parts: &Parts, options: &Options) -> Report {
    let ended = std::thread::scope(|one| one.spawn(|| course::run(case, parts, options)).join());
    ended.unwrap_or_else(|_| {
        let mut report = Report::of(case);
        report.fail("the driver panicked".into());
        report
    })
}
