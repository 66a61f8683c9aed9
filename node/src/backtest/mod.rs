//! `hale backtest`: what Hale would have seen, decided and done in recorded history. The history of
//! a host goes through the same baselines, correlation and decision as a node's own rounds.

mod csv;
mod engine;
mod otlp;
mod prometheus;
mod report;

pub(crate) use report::Report;

use crate::recorded::RecordedError;
use hale_model::{Sample, Timestamp};
use indicatif::ProgressBar;
use std::path::PathBuf;

/// Why a history can't be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BacktestError {
    /// The recorded series.
    #[error(transparent)]
    Recorded(#[from] RecordedError),
    /// What is in a file.
    #[error("{path}, line {line}: {why}")]
    Line {
        /// Which file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong, and what to write.
        why: String,
    },
    /// Nothing to run.
    #[error("there is no series in {0}; a history needs at least one")]
    Nothing(String),
    /// The server.
    #[error("{url} could not be asked: {why}")]
    Server {
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// A baseline setting.
    #[error(transparent)]
    Baseline(#[from] hale_baseline::BaselineError),
    /// The decision's model.
    #[error(transparent)]
    Decision(#[from] hale_decision::replay::ReplayError),
}

/// Where the history is.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A folder of `timestamp,value` files.
    Csv(PathBuf),
    /// Metrics as OTLP/JSON, one export request a line or one in the whole file.
    Otlp(PathBuf),
    /// A Prometheus server's range API.
    Prometheus(prometheus::Asked),
}

pub(crate) use prometheus::Asked;

/// One series of one host.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) host: String,
    /// Its nature; the value is not used.
    pub(crate) sample: Sample,
    /// Whose clock its nights follow, if that is known.
    pub(crate) zone: Option<String>,
    /// In the order of their time, each time once.
    pub(crate) rows: Vec<(Timestamp, f64)>,
}

impl Recorded {
    /// Brings the rows in order.
    fn sorted(mut self) -> Self {
        self.rows.sort_by_key(|(t, _)| *t);
        self.rows.dedup_by_key(|(t, _)| *t);
        self
    }
}

/// How it is judged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) baseline: hale_baseline::BaselineConfig,
    pub(crate) policy: hale_decision::confidence::Policy,
    pub(crate) correlation: hale_decision::incident::Settings,
    /// Alerts before this much of the history has passed are counted apart: it is learned from.
    pub(crate) learn_days: f64,
}

/// Reads the history and runs it.
pub(crate) async fn run(
    source: &Source,
    settings: Settings,
    entries: Vec<hale_decision::catalogue::Entry>,
    bar: &ProgressBar,
) -> Result<Report, BacktestError> {
    let (name, series) = match source {
        Source::Csv(dir) => (dir.display().to_string(), csv::read(dir)?),
        Source::Otlp(file) => (file.display().to_string(), otlp::read(file)?),
        Source::Prometheus(asked) => (asked.url.clone(), prometheus::read(asked, bar).await?),
    };
    if series.iter().all(|s| s.rows.is_empty()) {
        return Err(BacktestError::Nothing(name));
    }
    engine::run(series, &settings, entries, bar)
}

/// Reads a history of any bytes: an OTLP file, and a server's answer.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzzed(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = otlp::parse(std::path::Path::new("a.json"), &text);
    for series in [read.unwrap_or_default(), prometheus::fuzzed(bytes)].concat() {
        let in_order = |w: &[(Timestamp, f64)]| w[0].0 < w[1].0;
        assert!(series.rows.windows(2).all(in_order));
    }
}
