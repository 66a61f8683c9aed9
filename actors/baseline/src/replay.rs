//! History run through a baseline: rows in, scores and alerts out. Pure, so that any tool can ask
//! what would have been seen.

use crate::config::Sensitivity;
use crate::detect::{AlertState, judge, urgency};
use crate::engine::{Baseline, Profile, Views};
use crate::moment::LocalTime;
use hale_model::{Sample, Severity, Timestamp};
use std::collections::VecDeque;
use std::time::Duration;

/// An alert is told again only if it is graver than any within this time.
pub const COOLDOWN: Duration = Duration::from_secs(12 * 3600);

/// Less surprise than this is told nowhere.
const LEAST_SCORED: f64 = 0.05;

/// What was normal for one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normal {
    /// What was expected.
    pub expected: f64,
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

/// What became of one row.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ReplayRow {
    /// From 0 to 1: `s / (s + 1)` of the surprise `s` where it enters a level, a power of two, that
    /// is higher than any in the last twelve hours, and zero elsewhere: a half is a warning.
    pub score: f64,
    /// Whether an alert is told here.
    pub alert: bool,
    /// The severity of that alert.
    pub severity: Option<Severity>,
    /// Signed spreads from what was expected.
    pub sigma: f64,
    /// What was expected, and the least and the most that was normal; none for a row that can't be
    /// judged.
    pub normal: Option<Normal>,
    /// How surprising it is, whether it is news or not: 1 is a warning.
    pub surprise: f64,
    /// The views that it was made of.
    pub views: Views,
}

/// A series being replayed.
#[derive(Debug)]
pub struct Replay {
    sample: Sample,
    sensitivity: Sensitivity,
    local: LocalTime,
    baseline: Baseline,
    state: AlertState,
    told: News,
    scored: News,
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
            told: News::default(),
            scored: News::default(),
        }
    }

    /// Changes what surprises.
    pub fn set_profile(&mut self, profile: Profile) {
        self.baseline.set_profile(profile);
    }

    /// The next row.
    pub fn row(&mut self, at: Timestamp, value: f64) -> ReplayRow {
        self.sample.value = value;
        let now = self.local.moment(at);
        let Some(measured) = self.baseline.measure(&self.sample, now) else {
            return ReplayRow::default();
        };
        let reading = measured.reading(&self.sample);
        let surprise = measured.surprise.max(urgency(&reading));
        let is_scored = surprise >= LEAST_SCORED
            && self
                .scored
                .is_news(at, (surprise.log2() + 1e-9).floor() as i32);
        let anomaly = judge(&reading, self.sensitivity, &mut self.state);
        let news = anomaly
            .map(|a| a.severity)
            .filter(|s| self.told.is_news(at, *s as i32));
        ReplayRow {
            score: if is_scored {
                surprise / (surprise + 1.0)
            } else {
                0.0
            },
            alert: news.is_some(),
            severity: news,
            sigma: reading.sigma,
            normal: Some(Normal {
                expected: reading.baseline.expected,
                low: measured.low,
                high: measured.high,
            }),
            surprise,
            views: measured.views,
        }
    }
}

/// What was told lately: each level that is higher than all since, and when it was last reached.
#[derive(Debug, Default)]
struct News(VecDeque<(Timestamp, i32)>);

impl News {
    /// Whether `level` is higher than any within the cooldown. While it goes on, it stays told.
    fn is_news(&mut self, at: Timestamp, level: i32) -> bool {
        let is_over = |(t, _): &(Timestamp, i32)| at.since(*t) >= COOLDOWN;
        while self.0.front().is_some_and(is_over) {
            self.0.pop_front();
        }
        let is_news = self.0.front().is_none_or(|(_, l)| *l < level);
        while self.0.back().is_some_and(|(_, l)| *l <= level) {
            self.0.pop_back();
        }
        self.0.push_back((at, level));
        is_news
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
