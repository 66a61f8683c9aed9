//! History run through a baseline: rows in, scores and alerts out. Pure, so that any tool can ask
//! what would have been seen.

use crate::config::Sensitivity;
use crate::detect::{self, AlertState, judge};
use crate::engine::Baseline;
use crate::moment::LocalTime;
use hale_model::{Sample, Severity, Timestamp};
use std::collections::VecDeque;
use std::time::Duration;

/// An alert is told again only if it is graver than any within this time.
pub const COOLDOWN: Duration = Duration::from_secs(12 * 3600);

/// What became of one row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReplayRow {
    /// From 0 to 1: `s / (s + 3)`, where `s` is the distance in spreads; a half is a warning.
    /// Zero for a row that can't be judged.
    pub score: f64,
    /// Whether an alert is told here.
    pub alert: bool,
    /// The severity of that alert.
    pub severity: Option<Severity>,
    /// Signed spreads from what was expected.
    pub sigma: f64,
    /// What was expected; none for a row that can't be judged.
    pub expected: Option<f64>,
}

/// A series being replayed.
#[derive(Debug)]
pub struct Replay {
    sample: Sample,
    sensitivity: Sensitivity,
    local: LocalTime,
    baseline: Baseline,
    state: AlertState,
    told: VecDeque<(Timestamp, Severity)>,
}

impl Replay {
    /// A replay of the series that `sample` describes; its value is not used.
    pub fn new(
        sample: Sample,
        sensitivity: Sensitivity,
        local: LocalTime,
        window: Duration,
    ) -> Self {
        Self {
            sample,
            sensitivity,
            local,
            baseline: Baseline::new(window),
            state: AlertState::default(),
            told: VecDeque::new(),
        }
    }

    /// The next row.
    pub fn row(&mut self, at: Timestamp, value: f64) -> ReplayRow {
        self.sample.value = value;
        let now = self.local.moment(at);
        let Some(reading) = self.baseline.observe(&self.sample, now) else {
            return ReplayRow::default();
        };
        let age_s = reading.baseline.age_seconds;
        let s = detect::score(reading.sigma, reading.harm, reading.seconds_to_limit, age_s);
        let anomaly = judge(&reading, self.sensitivity, &mut self.state);
        let news = anomaly.map(|a| a.severity).filter(|s| self.is_news(at, *s));
        ReplayRow {
            score: s / (s + 3.0),
            alert: news.is_some(),
            severity: news,
            sigma: reading.sigma,
            expected: Some(reading.baseline.expected),
        }
    }

    fn is_news(&mut self, at: Timestamp, severity: Severity) -> bool {
        while self
            .told
            .front()
            .is_some_and(|(t, _)| at.since(*t) >= COOLDOWN)
        {
            self.told.pop_front();
        }
        let news = self.told.iter().all(|(_, s)| *s < severity);
        // While it goes on, it stays told.
        if news {
            self.told.push_back((at, severity));
        } else if let Some((t, s)) = self.told.back_mut()
            && *s >= severity
        {
            *t = at;
        }
        news
    }
}

/// Replays rows in their order.
pub fn replay(
    rows: impl IntoIterator<Item = (Timestamp, f64)>,
    sample: Sample,
    sensitivity: Sensitivity,
    local: LocalTime,
    window: Duration,
) -> Vec<ReplayRow> {
    let mut replay = Replay::new(sample, sensitivity, local, window);
    rows.into_iter()
        .map(|(at, value)| replay.row(at, value))
        .collect()
}
