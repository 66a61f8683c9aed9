//! What is told live of an incident's way: nouns in, sentences with their numbers out.

use hale_model::ledger::EntryRef;
use hale_model::record::Record;
use hale_model::{
    Anomaly, Decision, Direction, Happening, HostName, Incident, IncidentId, ServiceName, Stage,
    Timestamp,
};
use serde_json::{Value, json};
use std::fmt::Write;

/// Whose story it is.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) incident: Option<IncidentId>,
    pub(crate) host: HostName,
    pub(crate) service: Option<ServiceName>,
}

impl Subject {
    pub(crate) fn of(incident: &Incident) -> Self {
        Self {
            incident: Some(incident.id.clone()),
            host: incident.host.clone(),
            service: incident.service.clone(),
        }
    }

    /// A happening of theirs; its number is given by the feed.
    pub(crate) fn says(
        &self,
        at: Timestamp,
        stage: Stage,
        text: String,
        detail: Value,
    ) -> Happening {
        Happening {
            seq: 0,
            at,
            stage,
            incident: self.incident.clone(),
            host: self.host.clone(),
            service: self.service.clone(),
            text,
            detail,
        }
    }
}

/// An anomaly in a line: `database.connections_utilization 0.98 where 0.05 is normal, 9.1σ above`.
fn anomaly_line(a: &Anomaly) -> String {
    let r = &a.reading;
    let side = match r.direction() {
        Direction::Above => "above",
        Direction::Below => "below",
    };
    let mut line = format!(
        "{} is {} where {} is normal: {:.1}σ {side} ({})",
        r.series,
        short(r.value),
        short(r.baseline.expected),
        r.sigma.abs(),
        a.severity.as_str(),
    );
    if let Some(seconds) = r.seconds_to_limit {
        let _ = write!(line, ", full in {}", span(seconds));
    }
    line
}

/// A number for people: three significant digits, thousands as k, M, G.
fn short(v: f64) -> String {
    let a = v.abs();
    match a {
        _ if !v.is_finite() => v.to_string(),
        _ if a >= 1e9 => format!("{:.1}G", v / 1e9),
        _ if a >= 1e6 => format!("{:.1}M", v / 1e6),
        _ if a >= 1e4 => format!("{:.1}k", v / 1e3),
        _ if a >= 100.0 || v.fract() == 0.0 => format!("{v:.0}"),
        _ => format!("{v:.2}"),
    }
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// An incident opened.
pub(crate) fn detected(incident: &Incident) -> Happening {
    let mut text = incident.title.clone();
    for anomaly in incident.anomalies.iter().take(3) {
        let _ = write!(text, "\n{}", anomaly_line(anomaly));
    }
    for event in incident.events.iter().take(3) {
        let message: String = event.message.chars().take(120).collect();
        let _ = write!(text, "\n{}× {message}", event.count);
    }
    let lead = incident.lead();
    let detail = json!({
        "severity": incident.severity,
        "sigma": lead.map(|a| a.reading.sigma),
        "metric": lead.map(|a| a.reading.series.to_string()),
        "value": lead.map(|a| a.reading.value),
        "baseline_mean": lead.map(|a| a.reading.baseline.mean),
        "recurrence_30d": incident.recurrence_30d,
    });
    Subject::of(incident).says(incident.updated_at, Stage::Detected, text, detail)
}

/// An incident's signals are normal again.
pub(crate) fn resolved(incident: &Incident) -> Happening {
    let text = format!("{}: the signals are normal again", incident.title);
    let detail =
        json!({"seconds_open": incident.updated_at.since(incident.opened_at).as_secs_f64()});
    Subject::of(incident).says(incident.updated_at, Stage::Resolved, text, detail)
}

/// A decision, in its three stages: understood, matched, confident.
pub(crate) fn decided(incident: &Incident, decision: &Decision) -> [Happening; 3] {
    let subject = Subject::of(incident);
    let mut understood = format!("“{}”", decision.text);
    for consumer in incident.top_consumers.iter().take(2) {
        let _ = write!(understood, "\ntop consumer: {}", consumer.text);
    }
    let matches: Vec<String> = decision
        .matches
        .iter()
        .map(|m| format!("{:.2} {}", m.similarity, m.playbook))
        .collect();
    let c = &decision.confidence;
    let confident = format!(
        "{:.2} = similarity {:.2} {} history {:.2} {} recurrence {:.2} → {}\n{}",
        c.total,
        c.similarity,
        sign(c.history),
        c.history.abs(),
        sign(c.recurrence),
        c.recurrence.abs(),
        decision.route.as_str(),
        decision.rationale,
    );
    [
        subject.says(
            decision.at,
            Stage::Understood,
            understood,
            json!({"text": decision.text}),
        ),
        subject.says(
            decision.at,
            Stage::Matched,
            matches.join("\n"),
            json!({"matches": decision.matches}),
        ),
        subject.says(
            decision.at,
            Stage::Confident,
            confident,
            json!({
                "confidence": c,
                "route": decision.route,
                "playbook": decision.chosen().map(|m| m.playbook.clone()),
                "took_us": decision.took_us,
                "gates": decision.gates,
            }),
        ),
    ]
}

fn sign(v: f64) -> char {
    if v < 0.0 { '−' } else { '+' }
}

/// The record is on the chain.
pub(crate) fn recorded(record: &Record, entry: &EntryRef, host: &HostName) -> Happening {
    let status = record.outcome.status;
    let text = format!(
        "{} as entry {} {}\n{} in {:.1} s: {}",
        status.as_str(),
        entry.index,
        entry.hash,
        record
            .decision
            .playbook_selected
            .as_deref()
            .unwrap_or("no playbook"),
        record.outcome.resolution_time_seconds,
        record.outcome.reason,
    );
    let service = record.incident_context.tags.get("service");
    let subject = Subject {
        incident: Some(record.incident_id.clone()),
        host: host.clone(),
        service: service.and_then(|s| ServiceName::new(s.clone()).ok()),
    };
    let detail = json!({
        "status": status,
        "playbook": record.decision.playbook_selected,
        "index": entry.index,
        "hash": entry.hash,
        "previous": entry.previous,
        "resolution_time_seconds": record.outcome.resolution_time_seconds,
    });
    subject.says(record.timestamp_end, Stage::Recorded, text, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_people_say_them() {
        let told: Vec<String> = [0.0, 0.98, 42.3, 94.8, 176.0, 12_345.0, 8.3e9]
            .iter()
            .map(|v| short(*v))
            .collect();
        assert_eq!(
            told,
            ["0", "0.98", "42.30", "94.80", "176", "12.3k", "8.3G"]
        );
        assert_eq!(
            (span(90.0), span(5400.0), span(36_000.0)),
            ("90 s".into(), "90 min".into(), "10.0 h".into())
        );
    }
}
