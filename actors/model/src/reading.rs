//! A sample held against what is normal, and what of it matters.

use crate::id::{HostName, ServiceName};
use crate::series::{Bounds, Event, Harm, SeriesKey};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What is normal for a series, over its rolling window, at this time of the week.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct BaselineStats {
    /// The mean of what was learned.
    pub mean: f64,
    /// The standard deviation.
    pub stddev: f64,
    /// The median.
    pub p50: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// What is expected now, at this time of the week.
    pub expected: f64,
    /// The robust spread around it that sigma is measured in; never zero.
    pub spread: f64,
    /// How many samples were learned.
    pub samples: u64,
    /// Seconds since the first sample learned.
    pub age_seconds: u64,
}

/// Above or below what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Higher than expected.
    Above,
    /// Lower than expected.
    Below,
}

/// A sample held against its baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Which series.
    pub series: SeriesKey,
    /// The service it belongs to.
    pub service: Option<ServiceName>,
    /// When.
    pub at: Timestamp,
    /// The value judged: for a counter its rate per second.
    pub value: f64,
    /// The baseline it was held against.
    pub baseline: BaselineStats,
    /// How many spreads away from the expected value, signed: positive is above.
    pub sigma: f64,
    /// The share of normal samples that lie this far out or further, as learned (not Gaussian).
    pub tail_probability: f64,
    /// The slope, in the series' unit per hour.
    pub trend_per_hour: f64,
    /// Seconds until the trend reaches the limit, where there is a limit and the trend leads there.
    pub seconds_to_limit: Option<f64>,
    /// Its natural range.
    pub bounds: Option<Bounds>,
    /// Which way trouble lies.
    pub harm: Harm,
}

impl Reading {
    /// Which side of the expected value it is on.
    pub fn direction(&self) -> Direction {
        if self.sigma >= 0.0 {
            Direction::Above
        } else {
            Direction::Below
        }
    }
}

/// How grave an anomaly or an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// From 2σ.
    Info,
    /// From 3σ.
    Warning,
    /// From 5σ.
    Critical,
}

impl Severity {
    /// 2σ is info, 3σ a warning, 5σ critical; below that it is nothing.
    pub fn of_sigma(sigma: f64) -> Option<Self> {
        match sigma.abs() {
            s if s >= 5.0 => Some(Self::Critical),
            s if s >= 3.0 => Some(Self::Warning),
            s if s >= 2.0 => Some(Self::Info),
            _ => None,
        }
    }

    /// As text: `info`, `warning`, `critical`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A reading that matters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    /// The reading.
    pub reading: Reading,
    /// How grave.
    pub severity: Severity,
    /// `min(|sigma| / 5, 1)`.
    pub confidence: f64,
    /// Since when this series has been anomalous without a break.
    pub since: Timestamp,
}

/// What one round of the sensors means, as it is handed on to the decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// When the round was taken.
    pub at: Timestamp,
    /// The host.
    pub host: HostName,
    /// Every series that is anomalous now.
    pub anomalies: Vec<Anomaly>,
    /// The series that were anomalous in the round before and are normal again.
    pub cleared: Vec<SeriesKey>,
    /// What happened since the last round.
    pub events: Vec<Event>,
    /// The host in the shape operators know.
    pub snapshot: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_follows_sigma_on_both_sides() {
        let of = |s| Severity::of_sigma(s);
        assert_eq!(of(1.99), None);
        assert_eq!(of(-2.0), Some(Severity::Info));
        assert_eq!(of(4.69), Some(Severity::Warning));
        assert_eq!(of(-6.63), Some(Severity::Critical));
        assert_eq!(of(f64::NAN), None);
    }
}
