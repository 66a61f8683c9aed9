//! An execution, told as a record: pure, and never failing. What can't be said in canonical JSON
//! is made sayable, what is too long is cut with a note.

mod fit;

use hale_model::canonical;
use hale_model::decision::Route;
use hale_model::execution::Mode;
use hale_model::ledger::{EntryKind, MAX_BODY_BYTES, Signed};
use hale_model::record::{
    AnomalySummary, AuditMetadata, DecisionSummary, IncidentContext, RECORD_SCHEMA, Record,
};
use hale_model::{
    Anomaly, Event, ExecutionReport, Fence, Incident, Keypair, NodeId, Outcome, OutcomeStatus,
};

/// Tells what happened, in the shape that operators and auditors know.
pub fn of(report: &ExecutionReport, node: NodeId, fence: Option<Fence>) -> Record {
    let incident = &report.incident;
    let plan = report.plan.as_ref();
    let mut record = Record {
        schema: RECORD_SCHEMA.into(),
        incident_id: incident.id.clone(),
        execution_id: plan.map(|p| p.execution.clone()),
        timestamp_start: incident.opened_at,
        timestamp_end: report.ended_at,
        duration_seconds: report.ended_at.since(incident.opened_at).as_millis() as f64 / 1000.0,
        incident_context: context(incident),
        decision: decision(report, fence),
        pre_check_log: report.pre_check_log.clone(),
        execution_log: report.execution_log.clone(),
        verification_log: report.verification_log.clone(),
        rollback_log: report.rollback_log.clone(),
        outcome: Outcome {
            resolution_time_seconds: finite(report.outcome.resolution_time_seconds),
            ..report.outcome.clone()
        },
        audit_metadata: AuditMetadata {
            node_id: node.to_string(),
            fence: fence.map(|f| f.0),
            compliance_tags: compliance_tags(report, fence),
        },
    };
    fit::make_sayable(&mut record);
    record
}

/// The record as its node signs it: canonical bytes, within [`MAX_BODY_BYTES`]. A record that is
/// too long loses the middle of its logs, and says so.
pub fn sign(record: &Record, key: &Keypair) -> Signed {
    let body = canonical::to_bytes(record)
        .ok()
        .filter(|b| b.len() <= MAX_BODY_BYTES);
    let body = body.unwrap_or_else(|| fit::within(record, MAX_BODY_BYTES));
    Signed::new(EntryKind::Record, body, key)
}

fn context(incident: &Incident) -> IncidentContext {
    let mut tags = incident.tags.clone();
    if let Some(service) = &incident.service {
        tags.insert("service".into(), service.to_string());
    }
    let anomalies: Vec<_> = incident.anomalies.iter().map(anomaly).collect();
    IncidentContext {
        host: incident.host.to_string(),
        environment: incident.environment.clone(),
        tags,
        title: incident.title.clone(),
        anomaly: anomalies.first().cloned(),
        anomalies,
        events: incident.events.iter().map(event).collect(),
        top_consumers: incident
            .top_consumers
            .iter()
            .map(|c| c.text.clone())
            .collect(),
        recurrence_30d: incident.recurrence_30d,
    }
}

fn anomaly(a: &Anomaly) -> AnomalySummary {
    AnomalySummary {
        metric: a.reading.series.to_string(),
        value: finite(a.reading.value),
        baseline_mean: finite(a.reading.baseline.mean),
        baseline_stddev: finite(a.reading.baseline.stddev),
        sigma: finite(a.reading.sigma),
        severity: a.severity,
        trend_per_hour: finite(a.reading.trend_per_hour),
    }
}

fn event(e: &Event) -> String {
    format!("{} × {}", e.count, e.message)
}

fn decision(report: &ExecutionReport, fence: Option<Fence>) -> DecisionSummary {
    let decision = report.decision.as_ref();
    let plan = report.plan.as_ref();
    // A match that was not good enough to ask for was not selected.
    let matched = decision
        .filter(|d| d.route != Route::Escalate)
        .and_then(|d| d.chosen());
    let (rationale, confidence) = match (decision, &report.mode) {
        (Some(d), _) => (d.rationale.clone(), finite(d.confidence.total)),
        (None, Mode::Manual { by } | Mode::Approved { by }) => (
            format!("started by {by}, without a decision of Hale's"),
            0.0,
        ),
        (None, Mode::Autonomous) => ("nothing was decided".into(), 0.0),
    };
    let agreed = match &report.mode {
        Mode::Approved { by } | Mode::Manual { by } => Some(by.clone()),
        Mode::Autonomous => None,
    };
    let was_asked = matches!(
        report.outcome.status,
        OutcomeStatus::Denied | OutcomeStatus::Expired
    ) || decision.is_some_and(|d| d.route == Route::Ask);
    DecisionSummary {
        playbook_selected: plan
            .map(|p| p.playbook.to_string())
            .or_else(|| matched.map(|m| m.playbook.to_string())),
        playbook_version: plan
            .map(|p| p.version.clone())
            .or_else(|| matched.map(|m| m.version.clone())),
        confidence,
        decision_rationale: rationale,
        execution_mode: execution_mode(report, fence).into(),
        approval_required: matches!(report.mode, Mode::Approved { .. }) || was_asked,
        approved_by: agreed,
        plan_digest: plan.and_then(|p| p.digest().ok()).map(|d| d.to_string()),
    }
}

/// Without a lease nothing was run.
fn execution_mode(report: &ExecutionReport, fence: Option<Fence>) -> &'static str {
    match (fence, &report.mode) {
        (None, _) => "none",
        (_, Mode::Autonomous) => "autonomous",
        (_, Mode::Approved { .. }) => "approved",
        (_, Mode::Manual { .. }) => "manual",
    }
}

/// The controls that this record is evidence for. SOC 2 (trust services criteria) CC7.3: events
/// are evaluated; CC7.4: incidents are responded to; CC7.5: what was lost is recovered; CC8.1:
/// changes are authorised. HIPAA 164.312(b): audit controls; 164.308(a)(6): incident response.
/// PCI DSS 10.2: audit logs; 12.10: incident response.
fn compliance_tags(report: &ExecutionReport, fence: Option<Fence>) -> Vec<String> {
    let mut tags = vec!["soc2_cc7.3"];
    let responded = fence.is_some() || report.outcome.status == OutcomeStatus::Escalated;
    if responded {
        tags.push("soc2_cc7.4");
    }
    if matches!(
        report.outcome.status,
        OutcomeStatus::Success | OutcomeStatus::RolledBack
    ) {
        tags.push("soc2_cc7.5");
    }
    if !matches!(report.mode, Mode::Autonomous) || report.outcome.status == OutcomeStatus::Denied {
        tags.push("soc2_cc8.1");
    }
    let scopes = report
        .incident
        .tags
        .get("compliance")
        .map(|t| t.to_ascii_lowercase());
    let under = |name: &str| scopes.as_deref().is_some_and(|s| s.contains(name));
    if under("hipaa") {
        tags.push("hipaa_164.312.b");
        if responded {
            tags.push("hipaa_164.308.a.6");
        }
    }
    if under("pci") {
        tags.push("pci_dss_10.2");
        if responded {
            tags.push("pci_dss_12.10");
        }
    }
    tags.into_iter().map(str::to_owned).collect()
}

/// JSON has no NaN and no infinities: the first becomes 0, the others the largest there are.
fn finite(x: f64) -> f64 {
    if x.is_nan() {
        0.0
    } else {
        x.clamp(f64::MIN, f64::MAX)
    }
}

#[cfg(test)]
#[path = "record/tests.rs"]
mod tests;
