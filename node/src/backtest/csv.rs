//! A folder of `timestamp,value` files. Files of one folder are one host, whose name is the
//! folder's; `series.json` may say otherwise.

use super::{BacktestError, Recorded};
use crate::replay::{csv_files, timestamp};
use hale_model::{Bounds, Harm, Sample, SeriesKey, SeriesKind, ServiceName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What `series.json` may say of a file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Described {
    /// As Hale writes it: `system.disk_usage_percent{mount="/var"}`.
    series: Option<String>,
    host: Option<String>,
    service: Option<ServiceName>,
    kind: SeriesKind,
    min: Option<f64>,
    max: Option<f64>,
    harm: Option<Harm>,
}

pub(super) fn read(dir: &Path) -> Result<Vec<Recorded>, BacktestError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| BacktestError::Io { path, source }
    };
    let about = dir.join("series.json");
    let described: BTreeMap<String, Described> = match fs::read_to_string(&about) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| BacktestError::Line {
            path: about.clone(),
            line: e.line(),
            why: format!("expected a map of file names to {{series, host, service, kind, min, max, harm}}: {e}"),
        })?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(e) => return Err(io(&about)(e)),
    };
    let mut files = Vec::new();
    csv_files(dir, Path::new(""), &mut files)
        .map_err(|(path, source)| BacktestError::Io { path, source })?;
    files.sort();
    let own = dir
        .canonicalize()
        .unwrap_or_else(|_| dir.to_owned())
        .file_name()
        .map_or_else(|| "host".to_owned(), |n| n.to_string_lossy().into_owned());
    let mut all = vec![];
    for name in files {
        let path = dir.join(&name);
        let text = fs::read_to_string(&path).map_err(io(&path))?;
        let key = name.to_string_lossy().into_owned();
        let known = described.get(&key).cloned().unwrap_or_default();
        all.push(one(&own, &path, &name, &text, known)?);
    }
    Ok(all)
}

fn one(
    own: &str,
    path: &Path,
    name: &Path,
    text: &str,
    known: Described,
) -> Result<Recorded, BacktestError> {
    let mut rows = vec![];
    for (i, line) in text.lines().enumerate().skip(1) {
        if line.trim().is_empty() {
            continue;
        }
        let mut fields = line.split(',');
        let row = fields.next().zip(fields.next());
        let row = row.and_then(|(t, x)| Some((timestamp(t.trim())?, x)));
        let Some((time, value)) = row else {
            return Err(BacktestError::Line {
                path: path.to_owned(),
                line: i + 1,
                why: format!(
                    "expected `timestamp,value` with a time in UTC or seconds since the epoch, found `{}`",
                    line.chars().take(80).collect::<String>()
                ),
            });
        };
        // What is no number is what a sensor gives that could not read: a gap.
        if let Ok(value) = value.trim().parse() {
            rows.push((time, value));
        }
    }
    let folder = name.parent().filter(|p| *p != Path::new(""));
    let host = known
        .host
        .or_else(|| folder.map(|p| p.to_string_lossy().replace('/', "-")))
        .unwrap_or_else(|| own.to_owned());
    let stem = PathBuf::from(name.file_stem().unwrap_or_default());
    let written = known
        .series
        .unwrap_or_else(|| stem.to_string_lossy().into_owned());
    let series = SeriesKey::parse(&written).unwrap_or_else(|| SeriesKey::new(written.clone()));
    let bounds = known.max.map(|max| Bounds {
        min: known.min.unwrap_or(0.0),
        max,
    });
    let sample = Sample {
        kind: known.kind,
        bounds,
        harm: known.harm.unwrap_or(Harm::Both),
        service: known.service,
        ..Sample::gauge(series, 0.0)
    };
    Ok(Recorded { host, sample, rows }.sorted())
}
