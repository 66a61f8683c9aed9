//! `hale baseline replay` and `hale decision replay`: what the engines say of recorded data, with
//! no host and no cluster.

mod plot;

use hale_baseline::moment::LocalTime;
use hale_baseline::replay::{Replay, ReplayRow};
use hale_baseline::{Profile, Sensitivity};
use hale_decision::catalogue::Entry;
use hale_decision::replay as decision;
use hale_model::{Bounds, Harm, Sample, SeriesKey, SeriesKind, Timestamp};
use indicatif::ProgressBar;
use plot::Drawn;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Why recorded data can't be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// A file.
    #[error("{path} can't be used")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A row that is no row.
    #[error(
        "{path}, line {line}: expected `timestamp,value` with a time in UTC or seconds since the epoch, found `{text}`"
    )]
    Row {
        /// In which file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is there.
        text: String,
    },
    /// `series.json` is not what it should be.
    #[error("{path} is not a map of file names to {{kind, min, max, tz}}")]
    Series {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
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

fn at(path: &Path) -> impl Fn(std::io::Error) -> ReplayError + '_ {
    move |source| ReplayError::Io {
        path: path.to_owned(),
        source,
    }
}

/// What `series.json` may say of a file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Described {
    kind: SeriesKind,
    min: Option<f64>,
    max: Option<f64>,
    tz: Option<String>,
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
    let described = described(input)?;
    let mut files = Vec::new();
    csv_files(input, Path::new(""), &mut files)
        .map_err(|(path, source)| ReplayError::Io { path, source })?;
    files.sort();
    bar.set_length(files.len() as u64);
    for name in &files {
        let text = fs::read_to_string(input.join(name)).map_err(at(&input.join(name)))?;
        let file = Recorded {
            path: &input.join(name),
            name: &name.to_string_lossy(),
            text: &text,
        };
        let out = scored(&file, known(&described, file.name), options)?;
        let target = output.join(name);
        fs::create_dir_all(target.parent().unwrap_or(output)).map_err(at(output))?;
        fs::write(&target, out).map_err(at(&target))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(files.len())
}

fn described(input: &Path) -> Result<BTreeMap<String, Described>, ReplayError> {
    let path = input.join("series.json");
    match fs::read_to_string(&path) {
        Ok(text) => {
            serde_json::from_str(&text).map_err(|source| ReplayError::Series { path, source })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(e) => Err(at(&path)(e)),
    }
}

/// Every CSV below a folder, as its path in it; or what could not be read, and why.
pub(crate) fn csv_files(
    root: &Path,
    below: &Path,
    found: &mut Vec<PathBuf>,
) -> Result<(), (PathBuf, std::io::Error)> {
    let dir = root.join(below);
    for entry in fs::read_dir(&dir).map_err(|e| (dir.clone(), e))? {
        let entry = entry.map_err(|e| (dir.clone(), e))?;
        let name = below.join(entry.file_name());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            csv_files(root, &name, found)?;
        } else if name.extension().is_some_and(|e| e == "csv") {
            found.push(name);
        }
    }
    Ok(())
}

fn known<'a>(described: &'a BTreeMap<String, Described>, name: &str) -> &'a Described {
    static NOTHING: Described = Described {
        kind: SeriesKind::Gauge,
        min: None,
        max: None,
        tz: None,
    };
    let known = described
        .get(name)
        .or_else(|| described.get(name.trim_end_matches(".csv")));
    known.unwrap_or(&NOTHING)
}

/// A file of rows.
struct Recorded<'a> {
    path: &'a Path,
    name: &'a str,
    text: &'a str,
}

/// What a file's rows came to: each with its time and value as they were written.
fn each_row(
    file: &Recorded<'_>,
    described: &Described,
    options: Options,
    mut take: impl FnMut((&str, &str), (Timestamp, f64), &ReplayRow),
) -> Result<(), ReplayError> {
    let zone = described.tz.as_deref().unwrap_or("UTC");
    let local = LocalTime::named(zone).map_err(|source| ReplayError::Zone {
        file: file.name.to_owned(),
        source,
    })?;
    let bounds = described.max.map(|max| Bounds {
        min: described.min.unwrap_or(0.0),
        max,
    });
    let sample = Sample {
        kind: described.kind,
        bounds,
        harm: Harm::Both,
        ..Sample::gauge(SeriesKey::new(file.name.trim_end_matches(".csv")), 0.0)
    };
    let window = Duration::from_secs(7 * 86_400);
    let mut replay = Replay::new(sample, options.sensitivity, local, window);
    replay.set_profile(options.profile);
    let lines = file.text.lines().enumerate().skip(1);
    for (i, line) in lines.filter(|(_, l)| !l.trim().is_empty()) {
        let wrong = || ReplayError::Row {
            path: file.path.to_owned(),
            line: i + 1,
            text: line.chars().take(80).collect(),
        };
        let mut fields = line.split(',');
        let (when, value) = fields.next().zip(fields.next()).ok_or_else(wrong)?;
        let time = timestamp(when.trim()).ok_or_else(wrong)?;
        // What is no number is what a sensor gives that could not read: a gap.
        let number = value.trim().parse().unwrap_or(f64::NAN);
        take((when, value), (time, number), &replay.row(time, number));
    }
    Ok(())
}

fn scored(
    file: &Recorded<'_>,
    described: &Described,
    options: Options,
) -> Result<String, ReplayError> {
    let mut out =
        String::from("timestamp,value,anomaly_score,alert,severity,sigma,expected,low,high\n");
    each_row(file, described, options, |(when, value), _, row| {
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
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let described = described(file.parent().unwrap_or(Path::new(".")))?;
    let recorded = Recorded {
        path: file,
        name: &name,
        text: &text,
    };
    let mut drawn = Vec::new();
    let take = |_: (&str, &str), (time, value): (Timestamp, f64), row: &ReplayRow| {
        drawn.push(Drawn {
            at: time,
            value,
            normal: row.normal,
            alert: row.severity,
        });
    };
    each_row(&recorded, known(&described, &name), options, take)?;
    if let (Some(days), Some(last)) = (last_days, drawn.iter().map(|d| d.at).max()) {
        let length = Duration::from_secs(u64::from(days) * 86_400);
        drawn.retain(|d| last.since(d.at) <= length);
    }
    let alerts = drawn.iter().filter(|d| d.alert.is_some()).count();
    fs::write(output, plot::svg(&name, &drawn)).map_err(at(output))?;
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

/// Seconds since the epoch, of the years 1 to 9999: what lies beyond are milliseconds, or no time.
pub(crate) fn of_seconds(seconds: f64) -> Option<Timestamp> {
    let is_time = (-62_135_596_800.0..253_402_300_800.0).contains(&seconds);
    is_time.then(|| Timestamp::from_millis((seconds * 1000.0) as i64))
}

/// `2014-02-14 14:30:00`, RFC 3339, or seconds since the epoch; UTC where nothing else is said.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>() {
        return of_seconds(seconds);
    }
    let text = text.replacen(' ', "T", 1);
    text.parse().or_else(|_| format!("{text}Z").parse()).ok()
}

/// Replays a series of any text.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzzed(text: &str) {
    let path = Path::new("a.csv");
    let counter = Described {
        kind: SeriesKind::Counter,
        max: Some(100.0),
        ..Described::default()
    };
    for described in [Described::default(), counter] {
        let file = Recorded {
            path,
            name: "a.csv",
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
    fn times_are_read_as_the_bench_and_as_prometheus_write_them() {
        let at = timestamp("2014-02-14T14:30:00Z");
        assert!(at.is_some());
        for same in [
            "2014-02-14 14:30:00",
            "2014-02-14 14:30:00.000000",
            "1392388200",
        ] {
            assert_eq!(timestamp(same), at, "{same}");
        }
        for none in ["yesterday", "1392388200000", "-1e300", "NaN"] {
            assert_eq!(timestamp(none), None, "{none}");
        }
    }

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
