//! A Prometheus server's range API (`/api/v1/query_range`), asked piece by piece: a server answers
//! with at most 11,000 points a series.

use super::{BacktestError, Recorded};
use hale_model::{Sample, SeriesKey, SeriesKind, Timestamp};
use indicatif::ProgressBar;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// `http://prometheus:9090`
    pub(crate) url: String,
    /// Each a PromQL expression or a selector.
    pub(crate) queries: Vec<String>,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) step: Duration,
}

/// Points asked for at once.
const AT_ONCE: i64 = 10_000;
/// How long one piece may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most that one answer may hold, in bytes, and all of them together, in values.
const MOST_BYTES: usize = 512 << 20;
const MOST_VALUES: usize = 50_000_000;

#[derive(Debug, Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Debug, Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    #[serde(default)]
    result: Vec<Series>,
}

#[derive(Debug, Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

pub(super) async fn read(asked: &Asked, bar: &ProgressBar) -> Result<Vec<Recorded>, BacktestError> {
    let failed = |why: String| BacktestError::Server {
        url: asked.url.clone(),
        why,
    };
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .map_err(|e| failed(e.to_string()))?;
    let step_ms = (asked.step.as_millis() as i64).max(1000);
    let (first, last) = (asked.from.as_millis(), asked.until.as_millis());
    let pieces = (last.saturating_sub(first) / step_ms / AT_ONCE + 1).max(1);
    bar.set_length(pieces.unsigned_abs() * asked.queries.len() as u64);
    if first > last {
        return Err(failed("--from is later than --until; swap them".into()));
    }
    let mut all: BTreeMap<(String, SeriesKey), Recorded> = BTreeMap::new();
    let mut values = 0;
    for query in &asked.queries {
        let mut from = first;
        while from <= last {
            let until = last.min(from.saturating_add(step_ms * (AT_ONCE - 1)));
            let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
            let form = [
                ("query", query.clone()),
                ("start", seconds(from)),
                ("end", seconds(until)),
                ("step", seconds(step_ms)),
            ];
            let answer = ask(&client, &asked.url, &form).await.map_err(failed)?;
            for series in answer {
                values += series.values.len();
                take(series, query, &mut all);
            }
            if values > MOST_VALUES {
                return Err(failed(
                    "that is over 50 million values; ask for fewer series, less time, or a larger --step"
                        .into(),
                ));
            }
            bar.inc(1);
            from = until.saturating_add(step_ms);
        }
    }
    Ok(all.into_values().map(Recorded::sorted).collect())
}

async fn ask(
    client: &reqwest::Client,
    url: &str,
    form: &[(&str, String)],
) -> Result<Vec<Series>, String> {
    let path = format!("{}/api/v1/query_range", url.trim_end_matches('/'));
    let mut whole = reqwest::Url::parse(&path).map_err(|e| format!("{path} is no address: {e}"))?;
    whole.query_pairs_mut().extend_pairs(form);
    let mut response = client.get(whole).send().await.map_err(|e| chain(&e))?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|e| chain(&e))? {
        body.extend_from_slice(&piece);
        if body.len() > MOST_BYTES {
            return Err("an answer is over 512 MiB; name fewer series with --query".into());
        }
    }
    parse(&body)
}

fn parse(body: &[u8]) -> Result<Vec<Series>, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|e| {
        let start = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        format!("that is no answer of Prometheus' range API: {e}, in `{start}`")
    })?;
    match answer.data {
        Some(data) if answer.status == "success" && data.kind == "matrix" => Ok(data.result),
        Some(data) if answer.status == "success" => Err(format!(
            "a range of values was expected, not a {}",
            data.kind
        )),
        _ => Err(format!("the server says: {}", answer.error)),
    }
}

/// An answer of any bytes.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzzed(body: &[u8]) -> Vec<Recorded> {
    let mut all = BTreeMap::new();
    for series in parse(body).into_iter().flatten() {
        take(series, "up", &mut all);
    }
    all.into_values().map(Recorded::sorted).collect()
}

/// What went wrong, with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        text = format!("{text}: {c}");
        cause = c.source();
    }
    text
}

fn take(series: Series, query: &str, all: &mut BTreeMap<(String, SeriesKey), Recorded>) {
    let mut labels = series.metric;
    let metric = labels
        .remove("__name__")
        .unwrap_or_else(|| query.to_owned());
    // The port is the exporter's, not the host's; two of one host are told apart by the label.
    let host = labels.get("instance").map_or("prometheus", |i| {
        i.rsplit_once(':').map_or(i.as_str(), |(h, _)| h)
    });
    let host = host.to_owned();
    let service = labels.get("job").and_then(|j| j.parse().ok());
    // By convention (OpenMetrics): what counts up ends in _total, _count, _sum or _bucket.
    let counts = ["_total", "_count", "_sum", "_bucket"];
    let kind = if counts.iter().any(|end| metric.ends_with(end)) {
        SeriesKind::Counter
    } else {
        SeriesKind::Gauge
    };
    let key = SeriesKey { metric, labels };
    let recorded = all
        .entry((host.clone(), key.clone()))
        .or_insert_with(|| Recorded {
            host,
            sample: Sample {
                kind,
                service,
                ..Sample::gauge(key, 0.0)
            },
            zone: None,
            rows: vec![],
        });
    let rows = series.values.into_iter().filter_map(|(t, x)| {
        let value: f64 = x.parse().ok()?;
        let at = crate::recorded::of_seconds(t)?;
        value.is_finite().then_some((at, value))
    });
    recorded.rows.extend(rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_series_of_hosts() {
        let body = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"node_load1","instance":"db-01:9100","job":"node"},
             "values":[[1770000000,"0.5"],[1770000030.5,"NaN"],[1770000060,"0.7"]]},
            {"metric":{},"values":[[1770000000,"3"]]}]}}"#;
        let answer: Answer = serde_json::from_str(body).unwrap();
        let mut all = BTreeMap::new();
        for series in answer.data.unwrap().result {
            take(series, "sum(rate(x[5m]))", &mut all);
        }
        let told: Vec<_> = all
            .values()
            .map(|r| (r.host.as_str(), r.sample.series.to_string(), r.rows.len()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "db-01",
                    "node_load1{instance=\"db-01:9100\",job=\"node\"}".to_owned(),
                    2
                ),
                ("prometheus", "sum(rate(x[5m]))".to_owned(), 1),
            ]
        );
    }
}
