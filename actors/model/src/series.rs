//! What a host says about itself: samples of series, and events.

use crate::id::{HostName, ServiceName};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The most labels one series may have.
pub const MAX_LABELS: usize = 16;
/// The longest metric name, label name or label value, in bytes.
pub const MAX_LABEL_BYTES: usize = 256;

/// One metric of one host with its labels, shown as `system.disk_usage_percent{mount="/var"}`.
/// The metric is a path, `group.name`: the same path leads to its value in a host's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// `system.cpu_percent`, `database.connections_active`.
    pub metric: String,
    /// What tells apart the series of one metric: a mount, an interface, an instance.
    pub labels: BTreeMap<String, String>,
}

impl SeriesKey {
    /// A series without labels.
    pub fn new(metric: impl Into<String>) -> Self {
        Self {
            metric: metric.into(),
            labels: BTreeMap::new(),
        }
    }

    /// The same series with one more label.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Whether it keeps within [`MAX_LABELS`] and [`MAX_LABEL_BYTES`] and has a name.
    pub fn is_within_limits(&self) -> bool {
        !self.metric.is_empty()
            && self.metric.len() <= MAX_LABEL_BYTES
            && self.labels.len() <= MAX_LABELS
            && self
                .labels
                .iter()
                .all(|(k, v)| k.len().max(v.len()) <= MAX_LABEL_BYTES)
    }

    /// Reads what [`fmt::Display`] writes. `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let Some((metric, rest)) = text.split_once('{') else {
            return (!text.is_empty()).then(|| Self::new(text));
        };
        let mut key = Self::new(metric);
        let mut rest = rest.strip_suffix('}')?;
        while !rest.is_empty() {
            let (name, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next()? {
                    (_, '\\') => value.push(chars.next()?.1),
                    (i, '"') => break i + 1,
                    (_, c) => value.push(c),
                }
            };
            key.labels.insert(name.to_owned(), value);
            rest = &after[end..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        Some(key)
    }
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.metric)?;
        for (i, (k, v)) in self.labels.iter().enumerate() {
            let v = v.replace('\\', "\\\\").replace('"', "\\\"");
            write!(f, "{}{k}=\"{v}\"", if i == 0 { "{" } else { "," })?;
        }
        if self.labels.is_empty() {
            Ok(())
        } else {
            f.write_str("}")
        }
    }
}

/// How a series' values are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum SeriesKind {
    /// A value as it is.
    #[default]
    Gauge,
    /// A count that only rises; a fall is a restart. What is judged is its rate per second.
    Counter,
}

/// The range a value can have by nature; the upper end is the limit that a trend runs into.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// The least it can be.
    pub min: f64,
    /// The most it can be, in the sample's unit.
    pub max: f64,
}

/// Which way trouble lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// High values hurt: usage, errors, latency.
    High,
    /// Low values hurt: a cache hit ratio, free space.
    Low,
    /// Either may hurt.
    #[default]
    Both,
    /// Kept and shown, never judged: an identifier, a total.
    Neither,
}

/// One value of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which series.
    pub series: SeriesKey,
    /// The value, in the metric's own unit (percent, bytes, seconds: the name says which).
    pub value: f64,
    /// How to read it.
    pub kind: SeriesKind,
    /// Its natural range, where there is one.
    pub bounds: Option<Bounds>,
    /// Which way trouble lies.
    pub harm: Harm,
    /// The least change that can matter, in the metric's unit; zero where that is not known.
    #[serde(default)]
    pub grain: f64,
    /// The service it belongs to, where it belongs to one.
    pub service: Option<ServiceName>,
}

impl Sample {
    /// A gauge without bounds that hurts either way.
    pub fn gauge(series: SeriesKey, value: f64) -> Self {
        Self {
            series,
            value,
            kind: SeriesKind::Gauge,
            bounds: None,
            harm: Harm::Both,
            grain: 0.0,
            service: None,
        }
    }

    /// A percentage that hurts when high.
    pub fn percent(series: SeriesKey, value: f64) -> Self {
        let bounds = Some(Bounds {
            min: 0.0,
            max: 100.0,
        });
        Self {
            bounds,
            harm: Harm::High,
            ..Self::gauge(series, value)
        }
    }

    /// A count that only rises and hurts when it rises fast.
    pub fn counter(series: SeriesKey, value: f64) -> Self {
        Self {
            kind: SeriesKind::Counter,
            harm: Harm::High,
            ..Self::gauge(series, value)
        }
    }

    /// The same with trouble the given way.
    #[must_use]
    pub fn harm(self, harm: Harm) -> Self {
        Self { harm, ..self }
    }

    /// The same within `0..=max`.
    #[must_use]
    pub fn up_to(self, max: f64) -> Self {
        Self {
            bounds: Some(Bounds { min: 0.0, max }),
            ..self
        }
    }

    /// The same, where less than `grain` is no change.
    #[must_use]
    pub fn grained(self, grain: f64) -> Self {
        Self { grain, ..self }
    }

    /// The same, belonging to a service.
    #[must_use]
    pub fn of(self, service: &ServiceName) -> Self {
        Self {
            service: Some(service.clone()),
            ..self
        }
    }
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventSource {
    /// A log file's line.
    Log,
    /// A sensor that could not do its work: a database that refuses, an endpoint that is down.
    Sensor,
    /// A configured health check of a service.
    Health,
    /// The kernel: OOM killer, disk errors.
    Kernel,
    /// The service manager: a unit failed or restarted.
    Unit,
}

/// How grave a log line says it is (the syslog severities of RFC 5424 section 6.2.1, folded).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Debug and trace.
    Debug,
    /// Informational and notice.
    #[default]
    Info,
    /// Warning.
    Warning,
    /// Error.
    Error,
    /// Critical, alert, emergency, fatal, panic.
    Critical,
}

/// Something that happened, not measured. Lines of one template within one interval are folded
/// into one event with their count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it was last seen.
    pub at: Timestamp,
    /// Where it came from.
    pub source: EventSource,
    /// The service it belongs to, where that is known.
    pub service: Option<ServiceName>,
    /// How grave it is.
    pub level: Level,
    /// The message with its variable parts replaced by `<*>`.
    pub template: String,
    /// One message as it was, cut to a bound; secrets masked.
    pub message: String,
    /// How many were folded into it.
    pub count: u64,
    /// The file, unit or check that said it.
    pub origin: String,
}

/// All that one round of the sensors found on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The host.
    pub host: HostName,
    /// When the round was taken.
    pub at: Timestamp,
    /// The values.
    pub samples: Vec<Sample>,
    /// What happened since the last round.
    pub events: Vec<Event>,
    /// The host in the shape operators know: `{host, environment, tags, metrics: {…}}`.
    pub snapshot: serde_json::Value,
    /// Samples and events dropped by limits since the node started.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_series_is_read_back_as_it_was_written(
            metric in "[a-z_.]{1,20}",
            labels in proptest::collection::btree_map("[a-z_]{1,8}", "[ -~]{0,12}", 0..4),
        ) {
            let key = SeriesKey { metric, labels };
            prop_assert_eq!(SeriesKey::parse(&key.to_string()), Some(key));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}") {
            let _ = SeriesKey::parse(&text);
        }
    }
}
