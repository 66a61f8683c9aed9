//! An incident as text: once for the embedding, once for people. What is embedded holds the words
//! of the trouble and nothing else: sentences about hosts, tags, sigma and trend make all incidents
//! alike (measured: a tenth fewer right answers).

use crate::query::{Moved, Query};
use crate::words;
use hale_model::{Anomaly, Direction, Event, Incident, Severity};
use std::fmt::Write;

/// How many series, events and consumers are told.
const TOLD: usize = 6;
/// The longest text of one event, in bytes.
const MAX_EVENT_BYTES: usize = 240;

/// The text that is embedded: metric names as words with their direction, what takes the most, and
/// log lines without what differs between two of a kind.
pub fn describe(incident: &Incident) -> String {
    let mut parts: Vec<String> = vec![];
    for anomaly in incident.anomalies.iter().take(TOLD) {
        push_once(&mut parts, series_in_words(incident, anomaly));
    }
    for consumer in incident.top_consumers.iter().take(TOLD) {
        push_once(&mut parts, words::without_particulars(&consumer.text));
    }
    for event in incident.events.iter().take(TOLD) {
        push_once(&mut parts, event_in_words(event));
    }
    let text = parts.join(". ");
    match &incident.service {
        // A log line seldom says whose it is.
        Some(service) if !text.contains(service.as_str()) => format!("{service}: {text}"),
        _ => text,
    }
}

fn push_once(parts: &mut Vec<String>, part: String) {
    if !part.is_empty() && !parts.contains(&part) {
        parts.push(part);
    }
}

/// `database.connections_utilization` of postgresql, above: "postgresql connections utilization
/// high".
fn series_in_words(incident: &Incident, anomaly: &Anomaly) -> String {
    let reading = &anomaly.reading;
    let service = reading.service.as_ref().or(incident.service.as_ref());
    let (group, name) = reading
        .series
        .metric
        .split_once('.')
        .unwrap_or(("", &reading.series.metric));
    let subject = match (group, service) {
        ("database" | "custom" | "log" | "health", Some(service)) => service.as_str(),
        _ => group,
    };
    let name = match group {
        "health" if name == "up" => "health check".to_owned(),
        _ => words::humanise(name),
    };
    let way = match (group, reading.direction()) {
        ("health", Direction::Below) => "down",
        (_, Direction::Above) => "high",
        (_, Direction::Below) => "low",
    };
    // A mount or a check's name tells which; a pid or a device number does not.
    let label = ["mount", "name", "check", "unit", "state"]
        .iter()
        .find_map(|l| reading.series.labels.get(*l));
    let label = label.map(|l| format!(" {l}")).unwrap_or_default();
    format!("{} {name}{label} {way}", words::humanise(subject))
        .trim()
        .to_owned()
}

fn event_in_words(event: &Event) -> String {
    let text = if event.message.is_empty() {
        &event.template
    } else {
        &event.message
    };
    let cut = text.floor_char_boundary(MAX_EVENT_BYTES);
    words::without_particulars(&text[..cut])
}

/// The incident as the search sees it.
pub fn query(incident: &Incident) -> Query {
    let moved = incident.anomalies.iter().map(|a| Moved {
        metric: a.reading.series.metric.clone(),
        direction: Some(a.reading.direction()),
        severity: a.severity,
    });
    let logs = incident
        .events
        .iter()
        .flat_map(|e| [e.template.clone(), e.message.clone()]);
    Query {
        text: describe(incident),
        service: incident
            .service
            .as_ref()
            .map(|s| s.as_str().to_owned())
            .or_else(|| incident.tags.get("service").cloned()),
        service_is_sure: incident.service.is_some(),
        moved: moved.collect(),
        logs: logs.filter(|l| !l.is_empty()).collect(),
        consumers: incident
            .top_consumers
            .iter()
            .map(|c| c.text.clone())
            .collect(),
        is_live: true,
    }
}

/// One line for people, written when an incident opens: its gravest signal.
pub fn title(incident: &Incident) -> String {
    let of = match &incident.service {
        Some(service) => format!("{service} on {}", incident.host),
        None => incident.host.to_string(),
    };
    let what = match (incident.lead(), incident.events.first()) {
        (Some(lead), _) if lead.severity > Severity::Info => {
            let r = &lead.reading;
            format!("{} is {} ({})", r.series, number(r.value), sigma(r.sigma))
        }
        (_, Some(event)) => event_in_words(event),
        (Some(lead), None) => format!("{} is {}", lead.reading.series, number(lead.reading.value)),
        (None, None) => "no signals".to_owned(),
    };
    format!("{of}: {what}")
}

/// The whole story for people: `why`, notifications, records.
pub fn narrative(incident: &Incident) -> String {
    let mut text = format!(
        "{} {}",
        capital(incident.severity.as_str()),
        of_whom(incident)
    );
    for anomaly in incident.anomalies.iter().take(TOLD) {
        let _ = write!(text, " {}", anomaly_for_people(anomaly));
    }
    for event in incident.events.iter().take(TOLD) {
        let cut = event.message.floor_char_boundary(MAX_EVENT_BYTES);
        let times = if event.count > 1 {
            format!(" ({} times)", event.count)
        } else {
            String::new()
        };
        let _ = write!(
            text,
            " {} says{times}: \"{}\".",
            event.origin,
            event.message[..cut].trim()
        );
    }
    for consumer in incident.top_consumers.iter().take(TOLD) {
        let _ = write!(
            text,
            " Most of the {} is taken by {}.",
            consumer.resource, consumer.text
        );
    }
    let _ = match incident.recurrence_30d {
        0 => write!(text, " Not seen before in 30 days."),
        1 => write!(text, " The like was seen once in 30 days."),
        n => write!(text, " The like was seen {n} times in 30 days."),
    };
    text
}

fn of_whom(incident: &Incident) -> String {
    let service = incident
        .service
        .as_ref()
        .map(|s| format!("service {s} on "))
        .unwrap_or_default();
    let environment = if incident.environment.is_empty() {
        String::new()
    } else {
        format!(" ({})", incident.environment)
    };
    format!(
        "for {service}{}{environment} since {}.",
        incident.host, incident.opened_at
    )
}

fn anomaly_for_people(anomaly: &Anomaly) -> String {
    let r = &anomaly.reading;
    let mut text = format!(
        "{} is {}, {} its usual {} ({})",
        r.series,
        number(r.value),
        sigma(r.sigma),
        number(r.baseline.expected),
        anomaly.severity.as_str()
    );
    if r.trend_per_hour.is_finite() && r.trend_per_hour.abs() >= r.baseline.spread.abs().max(1e-9) {
        let _ = write!(text, ", changing by {} an hour", number(r.trend_per_hour));
    }
    if let Some(seconds) = r
        .seconds_to_limit
        .filter(|s| s.is_finite() && *s < 86_400.0)
    {
        let _ = write!(
            text,
            ", at its limit in {} min",
            number((seconds / 60.0).round())
        );
    }
    text.push('.');
    text
}

fn sigma(sigma: f64) -> String {
    let way = if sigma >= 0.0 { "above" } else { "below" };
    format!("{:.1}σ {way}", sigma.abs().min(999.0))
}

/// Three significant digits at most, without an exponent for what people meet.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        m if !m.is_finite() => return "unknown".into(),
        m if m >= 100.0 => format!("{value:.0}"),
        m if m >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|c| c.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
