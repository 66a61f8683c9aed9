//! Metrics of one interval come together to samples of the group `custom`.

use super::{Kind, Metric, Value};
use crate::limits::Drops;
use hale_model::series::MAX_LABEL_BYTES;
use hale_model::{Harm, Sample, SeriesKey, ServiceName};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};

/// Values kept of one distribution in one interval; of more, every second, fourth, … is kept.
const MAX_KEPT: usize = 1_024;
/// Different members of a set told apart in one interval.
const MAX_MEMBERS: usize = 10_000;
/// Rounds for which a silent counter or gauge is still told.
const KEPT_ROUNDS: u64 = 120;

/// What was received, by series.
#[derive(Debug)]
pub struct Aggregate {
    max: usize,
    series: BTreeMap<SeriesKey, Entry>,
    round: u64,
    drops: Drops,
    malformed: u64,
    received: u64,
}

#[derive(Debug)]
struct Entry {
    state: State,
    seen: u64,
}

#[derive(Debug)]
enum State {
    /// A total since the node started, and whether it ever fell.
    Counter {
        total: f64,
        fell: bool,
    },
    Gauge(f64),
    Distribution(Distribution),
    Set(HashSet<u64>),
}

#[derive(Debug, Default)]
struct Distribution {
    kept: Vec<f64>,
    stride: u64,
    skipped: u64,
    /// Of this interval, what was not sent because of its sample rate included.
    sum: f64,
    weight: f64,
    /// Since the node started.
    total: f64,
}

impl Aggregate {
    /// An aggregate of at most `max` series.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            series: BTreeMap::new(),
            round: 0,
            drops: Drops::default(),
            malformed: 0,
            received: 0,
        }
    }

    /// Takes a datagram.
    pub fn datagram(&mut self, bytes: &[u8]) {
        for line in super::datagram(bytes) {
            match line {
                Ok(metric) => self.take(&metric),
                Err(why) => {
                    self.malformed += 1;
                    self.drops.add(why.reason(), 1);
                }
            }
        }
    }

    /// Takes one metric.
    pub fn take(&mut self, metric: &Metric<'_>) {
        self.received += 1;
        let key = SeriesKey {
            metric: format!("custom.{}", metric.name),
            labels: metric.tags.clone(),
        };
        if self.series.len() >= self.max && !self.series.contains_key(&key) {
            self.drops.add("statsd_series", 1);
            return;
        }
        let round = self.round;
        let entry = self.series.entry(key).or_insert_with(|| Entry {
            state: State::new(metric.kind),
            seen: round,
        });
        entry.seen = round;
        if !entry.state.is(metric.kind) {
            // The type of a name may change with a deployment: the newer wins.
            entry.state = State::new(metric.kind);
        }
        for value in &metric.values {
            entry.state.take(value, metric.rate);
        }
    }

    /// Ends an interval: its samples, and what was dropped in it.
    pub fn flush(&mut self) -> (Vec<Sample>, Drops) {
        let mut samples = vec![
            Sample::counter(
                SeriesKey::new("statsd.metrics_received"),
                self.received as f64,
            )
            .harm(Harm::Neither),
            Sample::counter(
                SeriesKey::new("statsd.lines_malformed"),
                self.malformed as f64,
            ),
        ];
        for (key, entry) in &mut self.series {
            entry.state.flush(key, &mut samples);
        }
        self.round += 1;
        let oldest = self.round.saturating_sub(KEPT_ROUNDS);
        self.series.retain(|_, e| e.seen >= oldest);
        (samples, std::mem::take(&mut self.drops))
    }
}

impl State {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter {
                total: 0.0,
                fell: false,
            },
            Kind::Gauge => Self::Gauge(0.0),
            Kind::Distribution => Self::Distribution(Distribution::default()),
            Kind::Set => Self::Set(HashSet::new()),
        }
    }

    fn is(&self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Counter { .. }, Kind::Counter)
                | (Self::Gauge(_), Kind::Gauge)
                | (Self::Distribution(_), Kind::Distribution)
                | (Self::Set(_), Kind::Set)
        )
    }

    fn take(&mut self, value: &Value<'_>, rate: f64) {
        match (self, value) {
            (Self::Counter { total, fell }, Value::Number(n)) => {
                *total = finite(*total + n / rate);
                *fell |= *n < 0.0;
            }
            (Self::Gauge(now), Value::Number(n)) => *now = *n,
            (Self::Gauge(now), Value::Change(by)) => *now = finite(*now + by),
            (Self::Distribution(d), Value::Number(n)) => d.take(*n, rate),
            (Self::Set(members), Value::Member(text)) if members.len() < MAX_MEMBERS => {
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                members.insert(hasher.finish());
            }
            _ => {}
        }
    }

    fn flush(&mut self, key: &SeriesKey, out: &mut Vec<Sample>) {
        match self {
            // A counter that also falls is a level: its fall is no restart.
            Self::Counter { total, fell: true } => out.push(sample(key, "", *total)),
            Self::Counter { total, .. } => {
                let s = Sample::counter(key.clone(), *total).harm(Harm::Both);
                out.push(with_service(s));
            }
            Self::Gauge(value) => out.push(sample(key, "", *value)),
            Self::Set(members) => {
                out.push(sample(key, "", members.len() as f64));
                members.clear();
            }
            Self::Distribution(d) => d.flush(key, out),
        }
    }
}

impl Distribution {
    fn take(&mut self, value: f64, rate: f64) {
        let weight = 1.0 / rate;
        self.weight = finite(self.weight + weight);
        self.total = finite(self.total + weight);
        self.sum = finite(self.sum + value * weight);
        self.skipped += 1;
        if self.skipped < self.stride {
            return;
        }
        self.skipped = 0;
        self.kept.push(value);
        if self.kept.len() >= MAX_KEPT {
            let mut nth = 0usize;
            self.kept.retain(|_| {
                nth += 1;
                nth.is_multiple_of(2)
            });
            self.stride = self.stride.max(1) * 2;
        }
    }

    fn flush(&mut self, key: &SeriesKey, out: &mut Vec<Sample>) {
        let mut values = std::mem::take(&mut self.kept);
        values.sort_by(f64::total_cmp);
        let count = SeriesKey {
            metric: format!("{}.count", key.metric),
            labels: key.labels.clone(),
        };
        out.push(with_service(
            Sample::counter(count, self.total).harm(Harm::Both),
        ));
        if let (Some(min), Some(max)) = (values.first(), values.last()) {
            // Nearest rank: the smallest value that at least q of all are at or below.
            let at = |q: f64| values[((q * values.len() as f64).ceil() as usize).max(1) - 1];
            for (name, value, harm) in [
                ("min", *min, Harm::Neither),
                ("max", *max, Harm::Neither),
                ("mean", self.sum / self.weight, Harm::High),
                ("p50", at(0.5), Harm::High),
                ("p95", at(0.95), Harm::High),
                ("p99", at(0.99), Harm::High),
            ] {
                out.push(sample(key, name, value).harm(harm));
            }
        }
        *self = Self {
            total: self.total,
            ..Self::default()
        };
    }
}

/// Sums of finite values may still overflow; a value that stays at the edge can be told.
fn finite(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}

fn sample(key: &SeriesKey, statistic: &str, value: f64) -> Sample {
    let mut series = key.clone();
    if !statistic.is_empty() {
        series.metric = format!("{}.{statistic}", series.metric);
    }
    debug_assert!(series.metric.len() <= MAX_LABEL_BYTES);
    with_service(Sample::gauge(series, value))
}

/// The tag `service` says whose metric it is.
fn with_service(sample: Sample) -> Sample {
    let service = sample.series.labels.get("service").map(String::as_str);
    match service.map(ServiceName::new) {
        Some(Ok(service)) => sample.of(&service),
        _ => sample,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::SeriesKind;
    use proptest::prelude::*;

    fn value(samples: &[Sample], series: &str) -> Option<f64> {
        samples
            .iter()
            .find(|s| s.series.to_string() == series)
            .map(|s| s.value)
    }

    #[test]
    fn every_kind_comes_together_as_it_should() {
        let mut a = Aggregate::new(100);
        a.datagram(
            b"hits:2|c|@0.5\nhits:1|c\ntemp:20|g\ntemp:-5|g\ntemp:+1|g\nu:a|s\nu:b|s\nu:a|s",
        );
        a.datagram(b"lat:10|ms|#service:shop\nlat:20:30|ms|#service:shop\nbad");
        let (samples, drops) = a.flush();
        for (series, want) in [
            ("custom.hits", 5.0),
            ("custom.temp", 16.0),
            ("custom.u", 2.0),
            ("custom.lat.count{service=\"shop\"}", 3.0),
            ("custom.lat.mean{service=\"shop\"}", 20.0),
            ("custom.lat.p50{service=\"shop\"}", 20.0),
            ("custom.lat.p99{service=\"shop\"}", 30.0),
            ("statsd.lines_malformed", 1.0),
        ] {
            assert_eq!(value(&samples, series), Some(want), "{series}");
        }
        let latency = samples
            .iter()
            .find(|s| s.series.metric == "custom.lat.p50")
            .unwrap();
        assert_eq!(latency.service, ServiceName::new("shop").ok());
        assert_eq!(drops.by_reason().get("statsd_no_value"), Some(&1));
        // A silent interval: counters and gauges stay, distributions and sets are empty.
        let (samples, _) = a.flush();
        assert_eq!(value(&samples, "custom.hits"), Some(5.0));
        assert_eq!(value(&samples, "custom.u"), Some(0.0));
        assert_eq!(value(&samples, "custom.lat.p50{service=\"shop\"}"), None);
    }

    #[test]
    fn a_counter_that_falls_is_a_gauge_from_then_on() {
        let mut a = Aggregate::new(10);
        a.datagram(b"x:5|c");
        assert_eq!(a.flush().0[2].kind, SeriesKind::Counter);
        a.datagram(b"x:-2|c");
        let (samples, _) = a.flush();
        assert_eq!(
            (samples[2].kind, samples[2].value),
            (SeriesKind::Gauge, 3.0)
        );
    }

    #[test]
    fn a_flood_of_names_is_bounded_and_silent_ones_make_room() {
        let mut a = Aggregate::new(3);
        for i in 0..10 {
            a.datagram(format!("n{i}:1|c").as_bytes());
        }
        let (samples, drops) = a.flush();
        assert_eq!(samples.len(), 2 + 3);
        assert_eq!(drops.by_reason().get("statsd_series"), Some(&7));
        for _ in 0..=KEPT_ROUNDS {
            a.flush();
        }
        a.datagram(b"new:1|c");
        assert_eq!(value(&a.flush().0, "custom.new"), Some(1.0));
    }

    proptest! {
        #[test]
        fn a_million_values_keep_their_quantiles_in_bounded_memory(scale in 1.0f64..1e6) {
            let mut d = Distribution::default();
            for i in 0..50_000 {
                d.take(f64::from(i) / 50_000.0 * scale, 1.0);
                assert!(d.kept.len() <= MAX_KEPT);
            }
            let mut out = Vec::new();
            d.flush(&SeriesKey::new("custom.x"), &mut out);
            let p95 = value(&out, "custom.x.p95").unwrap();
            prop_assert!((p95 / scale - 0.95).abs() < 0.01);
        }

        #[test]
        fn no_stream_makes_it_panic_or_tell_what_is_not_finite(
            lines in proptest::collection::vec("[ab]:[-+]?[0-9]{1,3}(e308)?\\|(c|g|ms|s)(\\|@0\\.[0-9])?", 0..40),
        ) {
            let mut a = Aggregate::new(4);
            for line in &lines { a.datagram(line.as_bytes()); }
            for s in a.flush().0 { prop_assert!(s.value.is_finite(), "{} {}", s.series, s.value); }
        }
    }
}
