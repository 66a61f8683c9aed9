//! Samples become the shape that operators know:
//! `{host, environment, tags, metrics: {system: {cpu_percent, disk_usage_percent: {mount: v}}}}`.
//!
//! A metric's path leads to its value. A series with labels leads one level deeper, to an object
//! keyed by the labels' values; where one name is both a value and a group, the value stands
//! under the empty key.

use hale_model::{HostName, Sample, SeriesKey};
use serde_json::{Map, Number, Value, json};
use std::collections::BTreeMap;

/// Where the jobs stand that have started in this round.
pub const JOBS: &str = "log.jobs_started";

/// Builds a host's snapshot. `extra` adds values that are no series, by the same paths.
pub fn build<'a>(
    host: &HostName,
    environment: &str,
    tags: &BTreeMap<String, String>,
    samples: impl IntoIterator<Item = &'a Sample>,
    extra: impl IntoIterator<Item = (&'a str, Value)>,
) -> Value {
    let mut metrics = Map::new();
    for sample in samples {
        insert(&mut metrics, path_of(&sample.series), number(sample.value));
    }
    for (path, value) in extra {
        insert(
            &mut metrics,
            path.split('.').map(str::to_owned).collect(),
            value,
        );
    }
    json!({
        "host": host.as_str(),
        "environment": environment,
        "tags": tags,
        "metrics": metrics,
    })
}

/// At most four decimals, integers without a point: a page for people.
pub fn number(value: f64) -> Value {
    let rounded = (value * 1e4).round() / 1e4;
    // 2^53: above it a float is no exact integer any more.
    if rounded.fract() == 0.0 && rounded.abs() < 9_007_199_254_740_992.0 {
        return json!(rounded as i64);
    }
    Number::from_f64(if rounded.is_finite() { rounded } else { value })
        .map_or(Value::Null, Value::Number)
}

fn path_of(series: &SeriesKey) -> Vec<String> {
    let mut path: Vec<String> = series.metric.split('.').map(str::to_owned).collect();
    if !series.labels.is_empty() {
        let values: Vec<&str> = series.labels.values().map(String::as_str).collect();
        path.push(values.join(","));
    }
    path
}

fn insert(map: &mut Map<String, Value>, path: Vec<String>, value: Value) {
    let mut parts = path.into_iter().peekable();
    let mut map = map;
    while let Some(part) = parts.next() {
        let slot = map.entry(part).or_insert(Value::Null);
        if parts.peek().is_none() {
            match slot {
                Value::Object(group) => group.insert(String::new(), value),
                leaf => Some(std::mem::replace(leaf, value)),
            };
            return;
        }
        if !slot.is_object() {
            let before = std::mem::replace(slot, Value::Object(Map::new()));
            if let (Value::Object(group), false) = (&mut *slot, before.is_null()) {
                group.insert(String::new(), before);
            }
        }
        let Value::Object(group) = slot else { return };
        map = group;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;

    fn host() -> HostName {
        HostName::new("prod-db-01.internal").unwrap()
    }

    #[test]
    fn a_snapshot_has_the_shape_that_operators_know() {
        let gauge = |metric: &str, v: f64| Sample::gauge(SeriesKey::new(metric), v);
        let labelled = |metric: &str, k: &str, l: &str, v: f64| {
            Sample::gauge(SeriesKey::new(metric).with(k, l), v)
        };
        let samples = [
            gauge("system.cpu_percent", 42.300_000_01),
            gauge("system.memory_percent", 68.1),
            labelled(
                "system.disk_usage_percent",
                "mount",
                "/var/lib/postgresql",
                94.8,
            ),
            labelled("system.disk_usage_percent", "mount", "/", 12.0),
            gauge("system.load_average_1m", 2.34),
            gauge("database.connections_active", 87.0),
            gauge("database.connections_utilization", 0.93),
            gauge("custom.api.requests", 17.0),
            gauge("custom.api", 1.0),
            labelled("custom.api.requests", "code", "500", 3.0),
        ];
        let tags = BTreeMap::from([("service".to_owned(), "postgresql".to_owned())]);
        let top = json!([{"pid": 7, "name": "postgres", "cpu_percent": 12.5}]);
        let snapshot = build(
            &host(),
            "production",
            &tags,
            &samples,
            [("process.top_cpu", top)],
        );
        expect![[r#"
            {
              "environment": "production",
              "host": "prod-db-01.internal",
              "metrics": {
                "custom": {
                  "api": {
                    "": 1,
                    "requests": {
                      "": 17,
                      "500": 3
                    }
                  }
                },
                "database": {
                  "connections_active": 87,
                  "connections_utilization": 0.93
                },
                "process": {
                  "top_cpu": [
                    {
                      "cpu_percent": 12.5,
                      "name": "postgres",
                      "pid": 7
                    }
                  ]
                },
                "system": {
                  "cpu_percent": 42.3,
                  "disk_usage_percent": {
                    "/": 12,
                    "/var/lib/postgresql": 94.8
                  },
                  "load_average_1m": 2.34,
                  "memory_percent": 68.1
                }
              },
              "tags": {
                "service": "postgresql"
              }
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&snapshot).unwrap());
    }

    proptest! {
        #[test]
        fn no_names_or_values_make_it_panic(
            series in proptest::collection::vec(("[a-c.]{0,6}", any::<f64>(), proptest::option::of("[a-b]{0,2}")), 0..20),
        ) {
            let samples: Vec<Sample> = series
                .into_iter()
                .map(|(name, value, label)| {
                    let key = SeriesKey::new(name);
                    Sample::gauge(match label { Some(l) => key.with("l", l), None => key }, value)
                })
                .collect();
            let _ = build(&host(), "x", &BTreeMap::new(), &samples, []);
        }
    }
}
