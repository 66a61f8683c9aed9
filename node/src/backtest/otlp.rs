//! Metrics as OTLP/JSON (OpenTelemetry Protocol 1.x, `ExportMetricsServiceRequest`): one request a
//! line, or one in the whole file. Gauges and sums are read; histograms are left out.

use super::{BacktestError, Recorded};
use crate::recorded::at;
use hale_model::{Sample, SeriesKey, SeriesKind, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Request {
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceMetrics {
    resource: Resource,
    scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ScopeMetrics {
    metrics: Vec<Metric>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metric {
    name: String,
    gauge: Option<Points>,
    sum: Option<Points>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Points {
    data_points: Vec<Point>,
    is_monotonic: bool,
    /// 2, or its name, is cumulative.
    aggregation_temporality: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Point {
    attributes: Vec<Attribute>,
    /// 64-bit integers are strings in JSON.
    time_unix_nano: Value,
    /// A number, or `NaN` and its like as text.
    as_double: Value,
    as_int: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attribute {
    key: String,
    value: BTreeMap<String, Value>,
}

fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn attributes(of: &[Attribute]) -> BTreeMap<String, String> {
    of.iter()
        .filter_map(|a| Some((a.key.clone(), text(a.value.values().next()?))))
        .collect()
}

pub(super) fn read(path: &Path) -> Result<Vec<Recorded>, BacktestError> {
    let whole = fs::read_to_string(path).map_err(at(path))?;
    parse(path, &whole)
}

pub(super) fn parse(path: &Path, whole: &str) -> Result<Vec<Recorded>, BacktestError> {
    let wrong = |line: usize, e: &serde_json::Error| BacktestError::Line {
        path: path.to_owned(),
        line,
        why: format!(
            "expected an OTLP/JSON ExportMetricsServiceRequest, {{\"resourceMetrics\": […]}}: {e}"
        ),
    };
    let mut all = BTreeMap::new();
    let first = whole.lines().find(|l| !l.trim().is_empty());
    let is_by_line = first.is_some_and(|l| serde_json::from_str::<Value>(l).is_ok());
    if is_by_line {
        for (i, line) in whole.lines().enumerate() {
            if !line.trim().is_empty() {
                let request = serde_json::from_str(line).map_err(|e| wrong(i + 1, &e))?;
                take(request, &mut all);
            }
        }
    } else {
        let request = serde_json::from_str(whole).map_err(|e| wrong(e.line(), &e))?;
        take(request, &mut all);
    }
    Ok(all.into_values().map(Recorded::sorted).collect())
}

type All = BTreeMap<(String, SeriesKey), Recorded>;

fn take(request: Request, all: &mut All) {
    for resource in request.resource_metrics {
        let about = attributes(&resource.resource.attributes);
        let host = ["host.name", "service.instance.id"]
            .iter()
            .find_map(|k| about.get(*k).cloned())
            .unwrap_or_else(|| "host".to_owned());
        let service = about.get("service.name").and_then(|s| s.parse().ok());
        let metrics = resource.scope_metrics.into_iter().flat_map(|s| s.metrics);
        for metric in metrics {
            let (points, is_counter) = match (metric.gauge, metric.sum) {
                (Some(points), _) => (points, false),
                (None, Some(points)) => {
                    let temporality = text(&points.aggregation_temporality);
                    let is_cumulative = temporality == "2" || temporality.ends_with("CUMULATIVE");
                    let is_counter = points.is_monotonic && is_cumulative;
                    (points, is_counter)
                }
                _ => continue,
            };
            for point in points.data_points {
                let mut labels = attributes(&point.attributes);
                // What tells two resources of one host apart.
                for name in ["service.name", "service.instance.id"] {
                    if let Some(value) = about.get(name) {
                        labels
                            .entry(name.to_owned())
                            .or_insert_with(|| value.clone());
                    }
                }
                let series = SeriesKey {
                    metric: metric.name.clone(),
                    labels,
                };
                let nanos = text(&point.time_unix_nano).parse::<i64>().ok();
                let written = [&point.as_double, &point.as_int];
                let value = written.iter().find_map(|v| text(v).parse::<f64>().ok());
                let (Some(nanos), Some(value)) = (nanos, value) else {
                    continue;
                };
                let recorded = all
                    .entry((host.clone(), series.clone()))
                    .or_insert_with(|| Recorded {
                        host: host.clone(),
                        sample: Sample {
                            kind: if is_counter {
                                SeriesKind::Counter
                            } else {
                                SeriesKind::Gauge
                            },
                            service: service.clone(),
                            ..Sample::gauge(series, 0.0)
                        },
                        zone: None,
                        rows: vec![],
                    });
                let at = Timestamp::from_millis(nanos / 1_000_000);
                recorded.rows.push((at, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[
        {"key":"host.name","value":{"stringValue":"db-01"}},{"key":"service.name","value":{"stringValue":"shop"}}]},
        "scopeMetrics":[{"metrics":[
        {"name":"http.server.requests","sum":{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[
          {"timeUnixNano":"1770000000000000000","asInt":"7","attributes":[{"key":"code","value":{"intValue":"200"}}]},
          {"timeUnixNano":"1770000030000000000","asInt":"9","attributes":[{"key":"code","value":{"intValue":"200"}}]}]}},
        {"name":"process.memory","gauge":{"dataPoints":[{"timeUnixNano":"1770000000000000000","asDouble":1.5},{"timeUnixNano":"1770000001000000000","asDouble":"NaN"}]}},
        {"name":"latency","histogram":{"dataPoints":[{"count":"3"}]}}]}]}]}"#;

    #[test]
    fn sums_are_counters_and_gauges_are_values() {
        let dir = tempfile::tempdir().unwrap();
        let one = dir.path().join("one.json");
        fs::write(&one, REQUEST).unwrap();
        let lines = dir.path().join("lines.jsonl");
        let line = REQUEST.replace('\n', " ");
        fs::write(&lines, format!("{line}\n\n{line}\n")).unwrap();
        for file in [one, lines] {
            let all = read(&file).unwrap();
            let told: Vec<_> = all
                .iter()
                .map(|r| (r.sample.series.to_string(), r.sample.kind, r.rows.len()))
                .collect();
            assert_eq!(
                told,
                [
                    (
                        "http.server.requests{code=\"200\",service.name=\"shop\"}".into(),
                        SeriesKind::Counter,
                        2
                    ),
                    (
                        "process.memory{service.name=\"shop\"}".into(),
                        SeriesKind::Gauge,
                        2
                    ),
                ]
            );
            assert_eq!(all[0].host, "db-01");
            assert_eq!(all[0].sample.service, Some("shop".parse().unwrap()));
        }
    }

    #[test]
    fn what_is_no_request_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bad.jsonl");
        fs::write(&file, "{}\n{\"resourceMetrics\": 3}\n").unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
