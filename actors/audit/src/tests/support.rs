//! An incident, its execution and a chain, for the tests of this crate.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::enrolment;
use hale_model::chain::Entry;
use hale_model::decision::Confidence;
use hale_model::execution::{LogLine, Mode, StepStatus};
use hale_model::ledger::{EntryKind, Lease, Scope, Signed};
use hale_model::*;
use serde_json::json;

pub(crate) fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-02-12T11:26:00Z".parse().unwrap();
    Timestamp::from_millis(start.as_millis() + seconds * 1000)
}

fn log_line(step: &str, kind: &str, seconds: i64, result: serde_json::Value) -> LogLine {
    LogLine {
        step: step.into(),
        kind: kind.into(),
        at: at(seconds),
        duration_ms: 247,
        status: StepStatus::Success,
        result,
        message: String::new(),
        attempts: 1,
    }
}

fn incident() -> Incident {
    let service = ServiceName::new("postgresql").unwrap();
    let reading = Reading {
        series: SeriesKey::new("database.connections_utilization"),
        service: Some(service.clone()),
        at: at(0),
        value: 0.98,
        baseline: BaselineStats {
            mean: 0.423,
            stddev: 0.084,
            ..Default::default()
        },
        sigma: 6.63,
        tail_probability: 1e-6,
        trend_per_hour: -0.002,
        seconds_to_limit: None,
        bounds: None,
        harm: Harm::High,
    };
    let anomaly = Anomaly {
        reading,
        severity: Severity::Critical,
        confidence: 1.0,
        since: at(0),
    };
    let event = Event {
        at: at(0),
        source: EventSource::Log,
        service: Some(service.clone()),
        level: Level::Critical,
        template: "FATAL: sorry, too many clients already".into(),
        message: "FATAL: sorry, too many clients already".into(),
        count: 12,
        origin: "postgresql.log".into(),
    };
    let tags = [("role", "primary"), ("compliance", "hipaa,pci")];
    Incident {
        id: IncidentId::at(at(0), 0xa8f3_b2c1),
        host: HostName::new("prod-db-01.internal").unwrap(),
        environment: "production".into(),
        service: Some(service),
        tags: tags.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        opened_at: at(0),
        updated_at: at(1),
        resolved_at: None,
        state: IncidentState::Open,
        severity: Severity::Critical,
        title: "connections used up on postgresql".into(),
        anomalies: vec![anomaly],
        events: vec![event],
        top_consumers: vec![],
        signature: Digest::of(b"signature"),
        recurrence_30d: 3,
    }
}

/// The incident of the mission: 28 seconds, healed without a human.
pub(crate) fn report() -> ExecutionReport {
    let incident = incident();
    let playbook = PlaybookName::new("postgres_connection_pool_reset").unwrap();
    let best = Match {
        playbook: playbook.clone(),
        version: "1.4.2".into(),
        similarity: 0.94,
        features: Default::default(),
        findings: vec![],
    };
    let decision = Decision {
        incident: incident.id.clone(),
        at: at(1),
        text: "connections used up".into(),
        matches: vec![best],
        confidence: Confidence {
            similarity: 0.94,
            history: 0.0,
            recurrence: 0.02,
            total: 0.96,
        },
        route: Route::Execute,
        rationale: "0.94 similarity + 0.02 recurrence".into(),
        gates: vec![],
        took_us: 800,
    };
    let plan = Plan {
        execution: ExecutionId::at(at(4), 0x5b1e_9d20),
        incident: incident.id.clone(),
        host: incident.host.clone(),
        service: incident.service.clone(),
        scope: Scope::Host(incident.host.clone()),
        playbook,
        version: "1.4.2".into(),
        playbook_digest: Digest::of(b"playbook"),
        params: [("idle_seconds".to_owned(), json!(3600))].into(),
        idempotent: true,
    };
    ExecutionReport {
        incident,
        decision: Some(decision),
        plan: Some(plan),
        mode: Mode::Autonomous,
        fence: Some(Fence(7)),
        started_at: at(4),
        ended_at: at(28),
        pre_check_log: vec![log_line(
            "database_answers",
            "sql_query",
            4,
            json!([{"one": 1}]),
        )],
        execution_log: vec![log_line(
            "end_idle",
            "sql_query",
            6,
            json!({"terminated": 89}),
        )],
        verification_log: vec![log_line(
            "new_connection",
            "sql_query",
            20,
            json!("success"),
        )],
        rollback_log: vec![],
        outcome: Outcome {
            status: OutcomeStatus::Success,
            resolution_time_seconds: 28.0,
            verification_passed: true,
            rollback_triggered: false,
            human_intervention_required: false,
            reason: "every verification passed".into(),
        },
    }
}

pub(crate) fn report_of(status: OutcomeStatus) -> ExecutionReport {
    let mut r = report();
    r.outcome.status = status;
    r
}

pub(crate) fn key(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

/// Puts a signed body at the end of a chain.
pub(crate) fn extend(chain: &mut Vec<Entry>, fence: u64, signed: Signed) {
    let previous = chain.last().map_or(Digest::ZERO, Entry::hash);
    chain.push(Entry::after(
        chain.len() as u64,
        previous,
        Fence(fence),
        signed,
    ));
}

pub(crate) fn intent(key: &Keypair, incident: &str) -> Signed {
    let body = json!({ "incident_id": incident, "schema": "hale.intent.v1" }).to_string();
    Signed::new(EntryKind::Intent, body.into_bytes(), key)
}

pub(crate) fn record(key: &Keypair, incident: &str, fence: u64) -> Signed {
    let body = json!({
        "audit_metadata": { "fence": fence, "node_id": key.node_id() },
        "incident_id": incident,
        "outcome": { "reason": "it said \"no\"\n", "status": "success" },
    });
    Signed::new(EntryKind::Record, body.to_string().into_bytes(), key)
}

pub(crate) fn lease(fence: u64, holder: u8) -> Lease {
    Lease {
        fence: Fence(fence),
        scope: Scope::Custom("deploys".into()),
        holder: key(holder).node_id(),
        ttl_ms: 30_000,
        generation: 0,
        execution: ExecutionId::at(at(4), 1),
        plan_digest: Digest::of(b"plan"),
        playbook: PlaybookName::new("restart").unwrap(),
        service: None,
        live: false,
    }
}

/// Two nodes enrolled, then `runs` grants opened and closed by turns.
pub(crate) fn chain(runs: u64) -> Vec<Entry> {
    let (a, b) = (key(1), key(2));
    let mut chain = vec![];
    let host = |n: &str| HostName::new(n).unwrap();
    extend(
        &mut chain,
        0,
        enrolment::sign(a.node_id(), &host("db-1"), &a),
    );
    extend(
        &mut chain,
        0,
        enrolment::sign(b.node_id(), &host("db-2"), &a),
    );
    for i in 0..runs {
        let by = if i % 2 == 0 { &a } else { &b };
        let (fence, incident) = (10 + i, format!("inc_{i}"));
        extend(&mut chain, fence, intent(by, &incident));
        extend(&mut chain, fence, record(by, &incident, fence));
    }
    chain
}
