//! Prometheus' text format, version 0.0.4, written by hand: families with HELP and TYPE, escaped
//! labels, no series twice.

use hale_model::{HostName, Sample, SeriesKind};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The most series one family may show: what is over it is left out and counted.
pub const MAX_SERIES: usize = 10_000;

/// What a family measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A count that only rises; its name ends in `_total`.
    Counter,
    /// Cumulative buckets: its points are named with `_bucket`, `_sum`, `_count`.
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// One value of a family.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// What is added to the family's name: empty, or a histogram's `_bucket`, `_sum`, `_count`.
    pub suffix: &'static str,
    /// Its labels, in order.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

/// A metric with all its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Its name; what is not allowed in one becomes `_`.
    pub name: String,
    /// What it says, for people.
    pub help: String,
    /// What it measures.
    pub kind: Kind,
    /// Its series.
    pub points: Vec<Point>,
}

impl Family {
    /// A family without series yet.
    pub fn new(kind: Kind, name: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            kind,
            points: Vec::new(),
        }
    }

    /// A gauge with one value.
    pub fn gauge(name: &str, help: &str, value: f64) -> Self {
        Self::new(Kind::Gauge, name, help).point([], value)
    }

    /// A counter with one value.
    pub fn counter(name: &str, help: &str, value: f64) -> Self {
        Self::new(Kind::Counter, name, help).point([], value)
    }

    /// The same with one more series.
    #[must_use]
    pub fn point<const N: usize>(mut self, labels: [(&str, &str); N], value: f64) -> Self {
        let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        self.points.push(Point {
            suffix: "",
            labels,
            value,
        });
        self
    }
}

/// A host's latest samples as families named `hale_host_GROUP_NAME`, each series with a `host`
/// label.
pub fn of_samples(host: &HostName, samples: &[Sample]) -> Vec<Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for sample in samples {
        let kind = match sample.kind {
            SeriesKind::Gauge => Kind::Gauge,
            SeriesKind::Counter => Kind::Counter,
        };
        let end = if kind == Kind::Counter && !sample.series.metric.ends_with("_total") {
            "_total"
        } else {
            ""
        };
        let name = format!("hale_host_{}{end}", metric_name(&sample.series.metric));
        let family = families.entry(name.clone()).or_insert_with(|| {
            Family::new(
                kind,
                name,
                format!("{} as the sensors last saw it.", sample.series.metric),
            )
        });
        let mut labels = vec![("host".to_owned(), host.to_string())];
        labels.extend(sample.series.labels.iter().map(|(k, v)| match k.as_str() {
            "host" => ("label_host".to_owned(), v.clone()),
            _ => (k.clone(), v.clone()),
        }));
        if let Some(service) = &sample.service
            && !sample.series.labels.contains_key("service")
        {
            labels.push(("service".to_owned(), service.to_string()));
        }
        family.points.push(Point {
            suffix: "",
            labels,
            value: sample.value,
        });
    }
    families.into_values().collect()
}

/// Writes families as text: each name once, each series once (the first wins: a scraper would
/// reject the whole page otherwise).
pub fn encode(families: &[Family]) -> String {
    let mut by_name: BTreeMap<String, Vec<&Family>> = BTreeMap::new();
    for family in families {
        by_name
            .entry(metric_name(&family.name))
            .or_default()
            .push(family);
    }
    let mut out = String::new();
    let mut left_out = 0usize;
    for (name, parts) in by_name {
        let Some(first) = parts.first() else { continue };
        let mut seen = BTreeSet::new();
        // Writing to a String can't fail.
        let _ = writeln!(out, "# HELP {name} {}", escape_help(&first.help));
        let _ = writeln!(out, "# TYPE {name} {}", first.kind.as_str());
        for point in parts
            .iter()
            .filter(|f| f.kind == first.kind)
            .flat_map(|f| &f.points)
        {
            let series = format!("{name}{}{}", point.suffix, labels(&point.labels));
            if seen.len() < MAX_SERIES && seen.insert(series.clone()) {
                let _ = writeln!(out, "{series} {}", number(point.value));
            } else {
                left_out += 1;
            }
        }
    }
    let _ = writeln!(
        out,
        "# HELP hale_metrics_left_out Series left out of this page: twice the same, or over the limit.\n\
         # TYPE hale_metrics_left_out gauge\nhale_metrics_left_out {left_out}"
    );
    out
}

fn labels(labels: &[(String, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let mut names = BTreeSet::new();
    let parts: Vec<String> = labels
        .iter()
        .map(|(k, v)| (label_name(k), v))
        .filter(|(k, _)| names.insert(k.clone()))
        .map(|(k, v)| format!("{k}=\"{}\"", escape_label(v)))
        .collect();
    format!("{{{}}}", parts.join(","))
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`.
fn metric_name(text: &str) -> String {
    sanitise(text, |c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`, and not `__…`, which Prometheus keeps for itself.
fn label_name(text: &str) -> String {
    let name = sanitise(text, |c| c.is_ascii_alphanumeric() || c == '_');
    if name.starts_with("__") {
        format!("label{name}")
    } else {
        name
    }
}

fn sanitise(text: &str, allowed: impl Fn(char) -> bool) -> String {
    let name: String = text
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    if name.starts_with(|c: char| !c.is_ascii_digit()) {
        name
    } else {
        format!("_{name}")
    }
}

fn escape_label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn escape_help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 {
            "+Inf".into()
        } else {
            "-Inf".into()
        }
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::SeriesKey;

    #[test]
    fn what_a_label_or_help_holds_can_not_break_the_page() {
        let family = Family::new(Kind::Gauge, "a.b-c", "one\\two\nthree")
            .point(
                [("mo-unt", "a\"b\\c\nd"), ("__name__", "x"), ("1", "y")],
                f64::NAN,
            )
            .point([], f64::INFINITY);
        let text = encode(&[family]);
        assert!(
            text.starts_with(
                "# HELP a_b_c one\\\\two\\nthree\n# TYPE a_b_c gauge\n\
             a_b_c{mo_unt=\"a\\\"b\\\\c\\nd\",label__name__=\"x\",_1=\"y\"} NaN\na_b_c +Inf\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn no_series_is_written_twice() {
        let one = Family::gauge("a.b", "first", 1.0);
        let two = Family::gauge("a_b", "second", 2.0);
        let text = encode(&[one, two]);
        assert_eq!(
            text.lines()
                .filter(|l| l.starts_with("a_b "))
                .collect::<Vec<_>>(),
            ["a_b 1"]
        );
        assert!(text.contains("hale_metrics_left_out 1"));
    }

    #[test]
    fn samples_become_families_with_their_host() {
        let host = HostName::new("db-01").unwrap();
        let key = SeriesKey::new("system.disk_usage_percent").with("mount", "/var");
        let samples = [
            Sample::percent(key, 94.8),
            Sample::counter(SeriesKey::new("database.deadlocks"), 3.0),
        ];
        let text = encode(&of_samples(&host, &samples));
        assert!(
            text.contains(
                "hale_host_system_disk_usage_percent{host=\"db-01\",mount=\"/var\"} 94.8\n"
            )
        );
        assert!(text.contains("# TYPE hale_host_database_deadlocks_total counter\n"));
    }
}
