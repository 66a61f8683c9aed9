//! What a playbook's expressions can see, and what nobody may see: secrets are masked in
//! everything that is kept.

use hale_model::{Anomaly, Incident};
use hale_playbooks::Env;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// The environment of a run before its first check: `incident`, `params`, `tags`, `service`, and
/// `steps` and `checks` with nothing in them yet.
pub fn base(
    incident: &Incident,
    params: &BTreeMap<String, Value>,
    tags: &BTreeMap<String, String>,
    service: Option<&BTreeMap<String, Value>>,
) -> Env {
    let mut env = Env::new();
    env.insert("incident".into(), of_incident(incident));
    env.insert("params".into(), json!(params));
    env.insert("tags".into(), json!(tags));
    let mut facts: Map<String, Value> = service
        .map(|f| f.clone().into_iter().collect())
        .unwrap_or_default();
    if let Some(name) = &incident.service {
        facts.entry("name").or_insert_with(|| json!(name));
    }
    env.insert("service".into(), Value::Object(facts));
    env.insert("steps".into(), json!({}));
    env.insert("checks".into(), json!({}));
    env
}

/// Puts a step's result where later expressions find it: `steps.NAME`, and `checks.NAME` for a
/// check.
pub fn remember(env: &mut Env, name: &str, is_check: bool, result: &Value) {
    let groups: &[&str] = if is_check {
        &["steps", "checks"]
    } else {
        &["steps"]
    };
    for group in groups {
        if let Some(Value::Object(map)) = env.get_mut(*group) {
            map.insert(name.to_owned(), result.clone());
        }
    }
}

/// The environment that `expect` sees.
pub fn with_result(env: &Env, result: &Value) -> Env {
    let mut env = env.clone();
    env.insert("result".into(), result.clone());
    env
}

/// An incident as expressions see it. What it has no value for is null, never missing.
pub fn of_incident(incident: &Incident) -> Value {
    let lead = incident.lead();
    let reading = lead.map(|a| &a.reading);
    json!({
        "id": incident.id,
        "host": incident.host,
        "environment": incident.environment,
        "service": incident.service,
        "severity": incident.severity,
        "title": incident.title,
        "tags": incident.tags,
        "opened_at": incident.opened_at,
        "recurrence": incident.recurrence_30d,
        "metric": reading.map(|r| &r.series.metric),
        "series": reading.map(|r| r.series.to_string()),
        "labels": reading.map(|r| json!(r.series.labels)).unwrap_or_else(|| json!({})),
        "value": reading.map(|r| r.value),
        "sigma": reading.map(|r| r.sigma),
        "expected": reading.map(|r| r.baseline.expected),
        "trend_per_hour": reading.map(|r| r.trend_per_hour),
        "metrics": incident.anomalies.iter().map(of_anomaly).collect::<Map<_, _>>(),
        "anomalies": incident.anomalies.iter().map(|a| of_anomaly(a).1).collect::<Vec<_>>(),
        "events": incident.events.iter().map(|e| json!({
            "level": e.level, "template": e.template, "message": e.message,
            "count": e.count, "origin": e.origin,
        })).collect::<Vec<_>>(),
        "top_consumers": incident.top_consumers,
    })
}

fn of_anomaly(anomaly: &Anomaly) -> (String, Value) {
    let reading = &anomaly.reading;
    let value = json!({
        "metric": reading.series.metric,
        "labels": reading.series.labels,
        "value": reading.value,
        "sigma": reading.sigma,
        "expected": reading.baseline.expected,
        "severity": anomaly.severity,
    });
    (reading.series.metric.clone(), value)
}

/// The secrets a run has resolved, by name. They are never shown.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// Adds one.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Whether one of this name is known.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// `secret.NAME` for the templates of one action.
    pub fn reveal(&self) -> Value {
        json!(self.0)
    }

    /// The text with every secret in it replaced by [`MASK`], the longest first, so that one
    /// that begins like another leaves no rest.
    pub fn mask(&self, text: &str) -> String {
        let mut values: Vec<&str> = self
            .0
            .values()
            .map(String::as_str)
            .filter(|v| !v.is_empty())
            .collect();
        values.sort_by_key(|v| std::cmp::Reverse(v.len()));
        values
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret, MASK))
    }

    /// The same for every text, number and key in a value.
    pub fn mask_value(&self, value: Value) -> Value {
        if self.0.values().all(String::is_empty) {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.mask(&text)),
            Value::Array(items) => items.into_iter().map(|v| self.mask_value(v)).collect(),
            Value::Object(map) => map
                .into_iter()
                .map(|(key, v)| (self.mask(&key), self.mask_value(v)))
                .collect(),
            Value::Number(n) if self.0.values().any(|s| *s == n.to_string()) => MASK.into(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::samples;
    use hale_playbooks::Expr;
    use proptest::prelude::*;

    #[test]
    fn expressions_read_the_incident_its_service_and_earlier_results() {
        let incident = samples::incident();
        let facts = [("unit".to_owned(), json!("nginx.service"))].into();
        let params = [("limit".to_owned(), json!(5))].into();
        let mut env = base(&incident, &params, &incident.tags, Some(&facts));
        remember(&mut env, "count", true, &json!({"count": 3}));
        for holds in [
            "incident.value > 90.0 && incident.labels.mount == '/var'",
            "service.unit == 'nginx.service' && service.name == 'nginx'",
            "steps.count.count < params.limit && checks.count.count == 3",
            "tags.role == 'web'",
        ] {
            let held = Expr::parse(holds).unwrap().holds(&env);
            assert_eq!(held, Ok(true), "{holds}");
        }
    }

    proptest! {
        #[test]
        fn no_secret_survives_masking(secret in "[a-zA-Z0-9/+]{4,12}", before in ".{0,8}", after in ".{0,8}") {
            let mut secrets = Secrets::default();
            secrets.add("token", secret.clone());
            secrets.add("prefix", &secret[..3]);
            let text = format!("{before}{secret}{after}");
            let masked = secrets.mask_value(json!({"a": [text.clone()], text: 1})).to_string();
            prop_assert!(!masked.contains(&secret));
            let shown = format!("{secrets:?}");
            prop_assert!(!shown.contains(&secret));
        }
    }
}
