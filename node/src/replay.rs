//! `hale baseline replay` and `hale decision replay`: what the engines say of recorded data, with
//! no host and no cluster.

mod plot;

use crate::recorded::{self, Described, Descriptions, RecordedError, Row, at};
use hale_baseline::moment::LocalTime;
use hale_baseline::replay::{Replay, ReplayRow};
use hale_baseline::{Profile, Sensitivity};
use hale_decision::catalogue::Entry;
use hale_decision::replay as decision;
use indicatif::ProgressBar;
use plot::Drawn;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Why recorded data can't be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// The recorded series.
    #[error(transparent)]
    Recorded(#[from] RecordedError),
    /// An unknown time zone.
    #[error("the time zone of {file} is not known here")]
    Zone {
        /// Of which file.
        file: String,
        /// Why.
        #[source]
        source: hale_baseline::BaselineError,
    },
    /// The decision's files.
    #[error("the incidents can't be replayed")]
    Decision(#[from] decision::ReplayError),
}

/// How recorded series are judged.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) sensitivity: Sensitivity,
    pub(crate) profile: Profile,
}

/// Replays every CSV below `input` into one of the same name below `output`. Returns how many.
pub(crate) fn baseline(
    input: &Path,
    output: &Path,
    options: Options,
    bar: &ProgressBar,
) -> Result<usize, ReplayError> {
    let described = Descriptions::read(input)?;
    let files = recorded::files(input)?;
    bar.set_length(files.len() as u64);
    for name in &files {
        let path = input.join(name);
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let file = File {
            path: &path,
            name,
            text: &text,
        };
        let out = scored(&file, &described.of(name), options)?;
        let target = output.join(name);
        fs::create_dir_all(target.parent().unwrap_or(output)).map_err(at(output))?;
        fs::write(&target, out).map_err(at(&target))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(files.len())
}

/// A file of rows.
struct File<'a> {
    path: &'a Path,
    name: &'a Path,
    text: &'a str,
}

/// What a file's rows came to: each with its time and value as they were written.
fn each_row(
    file: &File<'_>,
    described: &Described,
    options: Options,
    mut take: impl FnMut(&Row<'_>, &ReplayRow),
) -> Result<(), ReplayError> {
    let zone = described.tz.as_deref().unwrap_or("UTC");
    let local = LocalTime::named(zone).map_err(|source| ReplayError::Zone {
        file: file.name.display().to_string(),
        source,
    })?;
    let sample = described.sample(file.name);
    let window = Duration::from_secs(7 * 86_400);
    let mut replay = Replay::new(sample, options.sensitivity, local, window);
    replay.set_profile(options.profile);
    for row in recorded::rows(file.path, file.text) {
        let row = row?;
        take(&row, &replay.row(row.at, row.number));
    }
    Ok(())
}

fn scored(file: &File<'_>, described: &Described, options: Options) -> Result<String, ReplayError> {
    let mut out =
        String::from("timestamp,value,anomaly_score,alert,severity,sigma,expected,low,high\n");
    each_row(file, described, options, |written, row| {
        let Row { when, value, .. } = written;
        let severity = row.severity.map_or("", |s| s.as_str());
        let alert = u8::from(row.alert);
        // Writing to a String can't fail.
        let _ = write!(out, "{when},{value},{:.6},{alert},{severity},", row.score);
        let _ = match row.normal {
            Some(n) => writeln!(out, "{:.3},{},{},{}", row.sigma, n.expected, n.low, n.high),
            None => writeln!(out, ",,,"),
        };
    })?;
    Ok(out)
}

/// `hale baseline plot FILE SVG`.
pub(crate) fn plot_command(
    file: &Path,
    output: &Path,
    options: Options,
    last_days: Option<u16>,
    json: bool,
) -> Result<ExitCode, ReplayError> {
    let text = fs::read_to_string(file).map_err(at(file))?;
    let name = Path::new(file.file_name().unwrap_or_default());
    let described = Descriptions::read(file.parent().unwrap_or(Path::new(".")))?;
    let whole = File {
        path: file,
        name,
        text: &text,
    };
    let mut drawn = Vec::new();
    each_row(&whole, &described.of(name), options, |written, row| {
        drawn.push(Drawn {
            at: written.at,
            value: written.number,
            normal: row.normal,
            alert: row.severity,
        });
    })?;
    if let (Some(days), Some(last)) = (last_days, drawn.iter().map(|d| d.at).max()) {
        let length = Duration::from_secs(u64::from(days) * 86_400);
        drawn.retain(|d| last.since(d.at) <= length);
    }
    let alerts = drawn.iter().filter(|d| d.alert.is_some()).count();
    fs::write(output, plot::svg(&name.to_string_lossy(), &drawn)).map_err(at(output))?;
    let line = match json {
        true => {
            let rows = drawn.len();
            serde_json::json!({"rows": rows, "alerts": alerts, "output": output}).to_string()
        }
        false => format!("{alerts} alerts drawn into {}", output.display()),
    };
    // A closed pipe is no failure: the file is written.
    writeln!(std::io::stdout(), "{line}").ok();
    Ok(ExitCode::SUCCESS)
}

/// Replays a series of any text.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzzed(text: &str) {
    let name = Path::new("a.csv");
    let counter = Described {
        kind: hale_model::SeriesKind::Counter,
        max: Some(100.0),
        ..Described::default()
    };
    for described in [Described::default(), counter] {
        let file = File {
            path: name,
            name,
            text,
        };
        if let Ok(out) = scored(&file, &described, Options::default()) {
            assert!(out.lines().count() <= 1 + text.lines().count());
        }
    }
}

/// Ranks the playbooks of a catalogue for each incident of a file. Returns how many.
pub(crate) fn decisions(
    incidents: &Path,
    catalogue: Option<&Path>,
    own: Vec<Entry>,
    output: &Path,
    bar: &ProgressBar,
) -> Result<usize, ReplayError> {
    let read = |path: &Path| fs::read_to_string(path).map_err(at(path));
    let entries = match catalogue {
        Some(path) => decision::catalogue(&read(path)?)?,
        None => own,
    };
    let incidents = decision::incidents(&read(incidents)?)?;
    let replay = decision::Replay::new(entries)?;
    bar.set_length(incidents.len() as u64);
    let mut out = String::new();
    for incident in &incidents {
        let began = std::time::Instant::now();
        let ranked = replay.decide(incident);
        let mut line = serde_json::to_value(&ranked).unwrap_or_default();
        line["latency_us"] = serde_json::json!(began.elapsed().as_micros() as u64);
        let _ = writeln!(out, "{line}");
        bar.inc(1);
    }
    bar.finish_and_clear();
    fs::write(output, out).map_err(at(output))?;
    Ok(incidents.len())
}

/// `hale baseline replay IN OUT`.
pub(crate) fn baseline_command(
    input: &Path,
    output: &Path,
    options: Options,
    json: bool,
) -> Result<ExitCode, ReplayError> {
    let bar = bar(json);
    let count = baseline(input, output, options, &bar)?;
    told(json, count, "series", output);
    Ok(ExitCode::SUCCESS)
}

/// `hale decision replay --incidents IN [--playbooks CATALOGUE] OUT`.
pub(crate) fn decision_command(
    incidents: &Path,
    playbooks: Option<&Path>,
    output: &Path,
    json: bool,
) -> Result<ExitCode, ReplayError> {
    let bar = bar(json);
    let (library, _) = crate::library::Library::load(&crate::config::PlaybooksConfig::default());
    let own = library.playbooks().iter().map(Entry::from).collect();
    let count = decisions(incidents, playbooks, own, output, &bar)?;
    told(json, count, "incidents", output);
    Ok(ExitCode::SUCCESS)
}

fn bar(json: bool) -> ProgressBar {
    if json {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    }
}

/// A closed pipe is no failure: the files are written.
fn told(json: bool, count: usize, what: &str, output: &Path) {
    let line = if json {
        serde_json::json!({what: count, "output": output}).to_string()
    } else {
        format!("{count} {what} replayed into {}", output.display())
    };
    writeln!(std::io::stdout(), "{line}").ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_replayed_row_for_row_and_a_bad_row_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (input, output) = (dir.path().join("in"), dir.path().join("out"));
        fs::create_dir_all(input.join("sub")).unwrap();
        let rows: String = (0..50)
            .map(|i| format!("2026-01-01 00:{:02}:00,{}\n", i % 60, i % 3))
            .collect();
        fs::write(input.join("sub/a.csv"), format!("timestamp,value\n{rows}")).unwrap();
        assert_eq!(
            baseline(&input, &output, Options::default(), &ProgressBar::hidden()).unwrap(),
            1
        );
        assert_eq!(
            fs::read_to_string(output.join("sub/a.csv"))
                .unwrap()
                .lines()
                .count(),
            51
        );
        fs::write(input.join("b.csv"), "timestamp,value\nnever,1\n").unwrap();
        let error = baseline(&input, &output, Options::default(), &ProgressBar::hidden())
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
