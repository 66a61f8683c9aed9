//! Recorded series: folders of `timestamp,value` files, with a `series.json` that may say of each file
//! what a sensor would know.

use hale_model::{Bounds, Harm, Sample, SeriesKey, SeriesKind, ServiceName, Timestamp};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Why recorded series can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordedError {
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
    #[error(
        "{path} is not a map of file names to {{series, host, service, kind, min, max, harm, tz}}, all optional"
    )]
    Series {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

pub(crate) fn at(path: &Path) -> impl Fn(std::io::Error) -> RecordedError + '_ {
    move |source| RecordedError::Io {
        path: path.to_owned(),
        source,
    }
}

/// What `series.json` may say of a file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Described {
    /// As Hale writes it: `system.disk_usage_percent{mount="/var"}`.
    pub(crate) series: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) service: Option<ServiceName>,
    pub(crate) kind: SeriesKind,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) harm: Option<Harm>,
    pub(crate) tz: Option<String>,
}

impl Described {
    /// The nature of the file's series, which its name tells where nothing else does.
    pub(crate) fn sample(&self, name: &Path) -> Sample {
        let stem = name.file_stem().unwrap_or_default().to_string_lossy();
        let written = self.series.as_deref().unwrap_or(&stem);
        let series = SeriesKey::parse(written).unwrap_or_else(|| SeriesKey::new(written));
        let bounds = self.max.map(|max| Bounds {
            min: self.min.unwrap_or(0.0),
            max,
        });
        Sample {
            kind: self.kind,
            bounds,
            harm: self.harm.unwrap_or(Harm::Both),
            service: self.service.clone(),
            ..Sample::gauge(series, 0.0)
        }
    }
}

/// All that `series.json` says.
#[derive(Debug, Default)]
pub(crate) struct Descriptions(BTreeMap<String, Described>);

impl Descriptions {
    /// Of a folder; nothing if it has none.
    pub(crate) fn read(dir: &Path) -> Result<Self, RecordedError> {
        let path = dir.join("series.json");
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Self)
                .map_err(|source| RecordedError::Series { path, source }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(at(&path)(e)),
        }
    }

    /// Of a file, by its path in the folder.
    pub(crate) fn of(&self, name: &Path) -> Described {
        let name = name.to_string_lossy();
        let known = self.0.get(&*name);
        let known = known.or_else(|| self.0.get(name.trim_end_matches(".csv")));
        known.cloned().unwrap_or_default()
    }
}

/// Every CSV below a folder, as its path in it, in the order of their names.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>, RecordedError> {
    let mut found = Vec::new();
    search(root, Path::new(""), &mut found)?;
    found.sort();
    Ok(found)
}

fn search(root: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result<(), RecordedError> {
    let dir = root.join(below);
    for entry in fs::read_dir(&dir).map_err(at(&dir))? {
        let entry = entry.map_err(at(&dir))?;
        let name = below.join(entry.file_name());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            search(root, &name, found)?;
        } else if name.extension().is_some_and(|e| e == "csv") {
            found.push(name);
        }
    }
    Ok(())
}

/// A row, as it is written and as it is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) when: &'a str,
    pub(crate) value: &'a str,
    pub(crate) at: Timestamp,
    /// What is no number is what a sensor gives that could not read.
    pub(crate) number: f64,
}

/// The rows of a file, after its head.
pub(crate) fn rows<'a>(
    path: &Path,
    text: &'a str,
) -> impl Iterator<Item = Result<Row<'a>, RecordedError>> {
    let lines = text.lines().enumerate().skip(1);
    lines
        .filter(|(_, l)| !l.trim().is_empty())
        .map(move |(i, line)| {
            row(line).ok_or_else(|| RecordedError::Row {
                path: path.to_owned(),
                line: i + 1,
                text: line.chars().take(80).collect(),
            })
        })
}

fn row(line: &str) -> Option<Row<'_>> {
    let mut fields = line.split(',');
    let (when, value) = (fields.next()?, fields.next()?);
    Some(Row {
        when,
        value,
        at: timestamp(when.trim())?,
        number: value.trim().parse().unwrap_or(f64::NAN),
    })
}

/// Seconds since the epoch, of the years 1 to 9999: what lies beyond are milliseconds, or no time.
pub(crate) fn of_seconds(seconds: f64) -> Option<Timestamp> {
    let is_time = (-62_135_596_800.0..253_402_300_800.0).contains(&seconds);
    is_time.then(|| Timestamp::from_millis((seconds * 1000.0) as i64))
}

/// `2014-02-14 14:30:00`, RFC 3339, or seconds since the epoch; UTC where nothing else is said.
fn timestamp(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>() {
        return of_seconds(seconds);
    }
    let text = text.replacen(' ', "T", 1);
    text.parse().or_else(|_| format!("{text}Z").parse()).ok()
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
    fn a_bad_row_is_named_and_what_is_no_number_is_kept_as_such() {
        let text = "timestamp,value\n1,2\n\n2,\nnever,1\n";
        let rows: Vec<_> = rows(Path::new("a.csv"), text).collect();
        assert_eq!(rows.len(), 3);
        assert!(rows[1].as_ref().is_ok_and(|r| r.number.is_nan()));
        let error = rows[2].as_ref().unwrap_err().to_string();
        assert!(
            error.contains("a.csv, line 5") && error.contains("never"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_what_its_name_says_unless_it_is_described() {
        let dir = tempfile::tempdir().unwrap();
        let about = r#"{"db/a.csv": {"series": "x.y{m=\"/\"}", "max": 9, "harm": "low"}, "b": {"kind": "counter"}}"#;
        fs::write(dir.path().join("series.json"), about).unwrap();
        let described = Descriptions::read(dir.path()).unwrap();
        let of = |name: &str| described.of(Path::new(name)).sample(Path::new(name));
        let a = of("db/a.csv");
        assert_eq!(a.series, SeriesKey::new("x.y").with("m", "/"));
        assert_eq!((a.harm, a.bounds.map(|b| b.min)), (Harm::Low, Some(0.0)));
        assert_eq!(of("b.csv").kind, SeriesKind::Counter);
        assert_eq!(of("db/load.csv").series, SeriesKey::new("load"));
        fs::write(dir.path().join("series.json"), "[]").unwrap();
        assert!(Descriptions::read(dir.path()).is_err());
    }
}
