//! One series of a host, to look at.

use hale_model::{HostName, Reading, Severity, Timestamp};
use serde::{Deserialize, Serialize};

/// All that is known of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesView {
    /// Of which host.
    pub host: HostName,
    /// Its last reading, with the baseline it was held against.
    pub reading: Reading,
    /// `low`, `medium` or `high`; none if it is never judged.
    pub sensitivity: Option<String>,
    /// Seconds between its samples, typically.
    pub step_seconds: f64,
    /// The last readings, the oldest first.
    pub points: Vec<PointView>,
    /// When it was anomalous, as far as is remembered; the oldest first.
    pub anomalies: Vec<EpisodeView>,
    /// Why the last reading is as normal or as strange as it is said to be.
    pub explanation: ExplanationView,
}

/// One reading as it was then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointView {
    /// When.
    pub at: Timestamp,
    /// The value judged: for a counter its rate per second.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// The least that was normal.
    pub low: f64,
    /// The most that was normal.
    pub high: f64,
    /// How many spreads from what was expected.
    pub sigma: f64,
}

/// A time in which the series was anomalous.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodeView {
    /// Since when.
    pub from: Timestamp,
    /// Until when; none while it goes on.
    pub until: Option<Timestamp>,
    /// The gravest it was.
    pub severity: Severity,
}

/// Why a reading is as it is said to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExplanationView {
    /// In sentences, the most telling first.
    pub why: Vec<String>,
    /// How surprising: 1 is a warning.
    pub surprise: f64,
    /// False alerts per series and week if all that surprises so much is told.
    pub false_alerts_per_week: f64,
    /// How new the value is.
    pub novelty: f64,
    /// How sudden.
    pub deviation: f64,
    /// How unlike this time of the day.
    pub time_of_day: f64,
    /// `starting`, `learning` or `seasonal`.
    pub phase: String,
}

/// What a host's baselines know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct States {
    /// Of the series that were asked for, those that it has watched for long enough.
    pub states: Vec<StateView>,
}

/// A baseline's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateView {
    /// Of which series.
    pub series: String,
    /// The state, in hexadecimal.
    pub state: String,
}

/// What was excluded from what is normal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// How many series fit.
    pub series: u64,
}
