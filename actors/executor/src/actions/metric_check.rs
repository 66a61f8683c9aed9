//! `metric_check`: a series' latest value against its baseline.

use crate::run::ActionResult;
use hale_model::{Reading, SeriesKey, Timestamp};
use hale_playbooks::{Env, Expr};
use serde_json::{Value, json};
use std::time::Duration;

/// The most series that one check tells of.
const MAX_TOLD: usize = 20;

/// Whether a series is meant by a pattern: a metric's path, or a glob over it, with those labels
/// that must match (their values may be globs too): `system.disk_*{mount="/var"}`.
pub fn series_matches(pattern: &str, series: &SeriesKey) -> bool {
    if pattern == series.to_string() {
        return true;
    }
    let (metric, labels) = match pattern.split_once('{') {
        None => (pattern, None),
        // The braces belong to the labels, not to a glob.
        Some((metric, labels)) => match SeriesKey::parse(&format!("labels{{{labels}")) {
            Some(key) => (metric, Some(key.labels)),
            None => return false,
        },
    };
    let has = |(name, wanted): (&String, &String)| {
        series
            .labels
            .get(name)
            .is_some_and(|v| v == wanted || glob_match::glob_match(wanted, v))
    };
    glob_match::glob_match(metric, &series.metric) && labels.iter().flatten().all(has)
}

pub(super) fn run(
    pattern: &str,
    readings: &[Reading],
    condition: &Expr,
    max_age: Duration,
    now: Timestamp,
    env: &Env,
) -> ActionResult {
    let found: Vec<&Reading> = readings
        .iter()
        .filter(|r| series_matches(pattern, &r.series))
        .collect();
    if found.is_empty() {
        let message =
            format!("no series is called `{pattern}`; `hale metrics` lists those that are watched");
        return ActionResult::failed(json!({"series": []}), message);
    }
    let told: Vec<Value> = found.iter().take(MAX_TOLD).map(|r| tell(r)).collect();
    let result = json!({"series": told, "count": found.len(), "value": found[0].value});
    let wrong = found
        .iter()
        .find_map(|r| judge(r, condition, max_age, now, env).err());
    match wrong {
        Some(why) => ActionResult::failed(result, why),
        None => {
            let text = condition.as_str();
            ActionResult::success(result, format!("`{text}` holds for {} series", found.len()))
        }
    }
}

fn tell(r: &Reading) -> Value {
    json!({"series": r.series.to_string(), "value": r.value, "sigma": r.sigma, "at": r.at})
}

fn judge(
    reading: &Reading,
    condition: &Expr,
    max_age: Duration,
    now: Timestamp,
    env: &Env,
) -> Result<(), String> {
    let series = &reading.series;
    let age = now.since(reading.at);
    if age > max_age {
        return Err(format!(
            "{series} is {} s old, {} s are allowed",
            age.as_secs(),
            max_age.as_secs()
        ));
    }
    let mut env = env.clone();
    env.insert("value".into(), json!(reading.value));
    env.insert("sigma".into(), json!(reading.sigma));
    env.insert("baseline".into(), json!(reading.baseline));
    match condition.holds(&env) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "`{}` does not hold: {series} is {}",
            condition.as_str(),
            reading.value
        )),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::samples;
    use hale_model::StepStatus;

    #[test]
    fn a_pattern_names_a_metric_and_the_labels_that_matter() {
        let series = SeriesKey::new("system.disk_usage_percent")
            .with("mount", "/var")
            .with("fs", "ext4");
        for fits in [
            "system.disk_usage_percent",
            "system.disk_*",
            "system.disk_usage_percent{mount=\"/var\"}",
            "system.disk_usage_percent{mount=\"/v*\"}",
        ] {
            assert!(series_matches(fits, &series), "{fits}");
        }
        for not in [
            "system.disk",
            "system.disk_usage_percent{mount=\"/\"}",
            "system.*{",
            "*{a=\"b\"}",
        ] {
            assert!(!series_matches(not, &series), "{not}");
        }
    }

    #[test]
    fn an_old_value_proves_nothing() {
        let incident = samples::incident();
        let readings = [incident.anomalies[0].reading.clone()];
        let condition = Expr::parse("value > 90.0 && sigma > 3.0").unwrap();
        let at = |seconds| {
            let now = samples::OPENED.plus(Duration::from_secs(seconds));
            let max_age = Duration::from_secs(60);
            run("system.*", &readings, &condition, max_age, now, &Env::new()).status
        };
        assert_eq!(at(59), StepStatus::Success);
        assert_eq!(at(61), StepStatus::Failed);
    }
}
