//! One of each noun, as the fake backend tells it.

use hale_api::*;
use hale_model::chain::Entry;
use hale_model::decision::{Confidence, Gate, Match};
use hale_model::execution::Mode;
use hale_model::ledger::{Approval, ApprovalState, EntryKind, EntryRef, History, Scope, Signed};
use hale_model::series::SeriesKey;
use hale_model::*;
use serde_json::json;
use std::collections::BTreeMap;

pub(crate) fn at() -> Timestamp {
    "2026-02-12T11:26:00Z".parse().unwrap()
}
pub(crate) fn host() -> HostName {
    HostName::new("db-01").unwrap()
}
pub(crate) fn service() -> Option<ServiceName> {
    Some(ServiceName::new("postgresql").unwrap())
}
pub(crate) fn incident_id() -> IncidentId {
    IncidentId::at(at(), 7)
}
pub(crate) fn key() -> Keypair {
    Keypair::from_seed(&[7; 32])
}
pub(crate) fn playbook() -> PlaybookName {
    PlaybookName::new("postgres_connection_pool_reset").unwrap()
}

pub(crate) fn reading() -> Reading {
    Reading {
        series: SeriesKey::new("system.disk_usage_percent").with("mount", "/var"),
        service: service(),
        at: at(),
        value: 94.8,
        baseline: BaselineStats {
            mean: 72.3,
            stddev: 4.8,
            spread: 4.8,
            ..Default::default()
        },
        sigma: 4.69,
        tail_probability: 0.001,
        trend_per_hour: 3.2,
        seconds_to_limit: Some(5850.0),
        bounds: Some(Bounds {
            min: 0.0,
            max: 100.0,
        }),
        harm: Harm::High,
    }
}

pub(crate) fn incident() -> Incident {
    Incident {
        id: incident_id(),
        host: host(),
        environment: "production".into(),
        service: service(),
        tags: BTreeMap::from([("role".into(), "primary".into())]),
        opened_at: at(),
        updated_at: at(),
        resolved_at: None,
        state: IncidentState::Open,
        severity: Severity::Warning,
        title: "disk /var is filling".into(),
        anomalies: vec![Anomaly {
            reading: reading(),
            severity: Severity::Warning,
            confidence: 0.94,
            since: at(),
        }],
        events: vec![Event {
            at: at(),
            source: EventSource::Log,
            service: service(),
            level: Level::Error,
            template: "archive command failed with <*>".into(),
            message: "archive command failed with exit code 1".into(),
            count: 4,
            origin: "/var/log/postgresql/a.log".into(),
        }],
        top_consumers: vec![Consumer {
            resource: "disk".into(),
            name: "pg_wal".into(),
            amount: 8.3e9,
            unit: "bytes".into(),
            text: "WAL files 8.3 GB under pg_wal".into(),
        }],
        signature: Digest::of(b"signature"),
        recurrence_30d: 3,
    }
}

pub(crate) fn decision() -> Decision {
    Decision {
        incident: incident_id(),
        at: at(),
        text: "disk /var at 94.8 %".into(),
        matches: vec![Match {
            playbook: playbook(),
            version: "1.4.2".into(),
            similarity: 0.94,
            features: BTreeMap::from([("dense".into(), 0.9)]),
            findings: vec![],
        }],
        confidence: Confidence {
            similarity: 0.94,
            history: 0.0,
            recurrence: 0.02,
            total: 0.96,
        },
        route: Route::Execute,
        rationale: "it fits".into(),
        gates: vec![Gate {
            name: "confidence".into(),
            passed: true,
            value: "0.96".into(),
            needed: "0.90".into(),
            flip: "below 0.90 it would ask".into(),
        }],
        took_us: 900,
    }
}

pub(crate) fn outcome() -> Outcome {
    Outcome {
        status: OutcomeStatus::Success,
        resolution_time_seconds: 28.0,
        verification_passed: true,
        rollback_triggered: false,
        human_intervention_required: false,
        reason: "every verification passed".into(),
    }
}

pub(crate) fn plan() -> Plan {
    Plan {
        execution: ExecutionId::at(at(), 9),
        incident: incident_id(),
        host: host(),
        service: service(),
        scope: Scope::Host(host()),
        playbook: playbook(),
        version: "1.4.2".into(),
        playbook_digest: Digest::of(b"playbook"),
        params: BTreeMap::from([("idle_seconds".into(), json!(3600))]),
        idempotent: true,
    }
}

pub(crate) fn execution() -> ExecutionView {
    ExecutionView {
        id: ExecutionId::at(at(), 9),
        incident: incident_id(),
        host: host(),
        service: service(),
        playbook: playbook(),
        version: "1.4.2".into(),
        mode: Mode::Manual { by: "ana".into() },
        fence: Some(Fence(12)),
        phase: "steps".into(),
        step: Some("terminate_idle".into()),
        started_at: at(),
    }
}

pub(crate) fn approval(state: ApprovalState, by: Option<String>) -> Approval {
    Approval {
        id: ApprovalId::at(at(), 3),
        incident: incident_id(),
        host: host(),
        node: key().node_id(),
        playbook: playbook(),
        version: "1.4.2".into(),
        plan_digest: Digest::of(b"plan"),
        plan: serde_json::to_vec(&plan()).unwrap(),
        rationale: "0.82 is below 0.90".into(),
        confidence_ppm: 820_000,
        ttl_ms: 900_000,
        asked_at_ms: at().as_millis(),
        state,
        answered_by: by,
        entry: Signed::new(EntryKind::Approval, b"{}".to_vec(), &key()),
    }
}

pub(crate) fn entry(index: u64) -> Entry {
    let body = json!({ "incident_id": incident_id(), "audit_metadata": { "node_id": "n" } });
    let signed = Signed::new(
        EntryKind::Record,
        serde_json::to_vec(&body).unwrap(),
        &key(),
    );
    Entry::after(index, Digest::of(b"before"), Fence(12), signed)
}

pub(crate) fn entry_ref() -> Option<EntryRef> {
    Some(EntryRef::from(&entry(4)))
}

pub(crate) fn playbook_row() -> PlaybookRow {
    PlaybookRow {
        name: playbook(),
        version: "1.4.2".into(),
        description: "ends idle connections".into(),
        tags: vec!["database".into()],
        services: vec!["postgresql".into()],
        idempotent: true,
        max_route: Route::Execute,
        proof: "proven".into(),
        level: "auto".into(),
        level_reason: "auto, proven by test".into(),
        digest: Digest::of(b"playbook"),
        source: "library".into(),
        history: History::default(),
    }
}

pub(crate) fn freeze(frozen: bool, by: Option<String>) -> FreezeState {
    FreezeState {
        frozen,
        by,
        reason: Some("maintenance".into()),
        since: Some(at()),
    }
}

pub(crate) fn happening(text: &str) -> Happening {
    Happening {
        seq: 1,
        at: at(),
        stage: Stage::Detected,
        incident: Some(incident_id()),
        host: host(),
        service: service(),
        text: text.into(),
        detail: json!({ "sigma": 4.69 }),
    }
}

pub(crate) fn member(removed: bool) -> MemberView {
    MemberView {
        node: key().node_id(),
        host: host(),
        addr: Some("10.0.0.1:7118".into()),
        http: Some("10.0.0.1:7117".into()),
        state: MemberState::Alive,
        incarnation: 2,
        zone: Some("a".into()),
        version: Some("0.1.0".into()),
        tags: BTreeMap::from([("role".into(), "primary".into())]),
        seat: Seat::Voter,
        chain_entries: Some(5),
        chain_tip: Some(Digest::of(b"tip")),
        is_self: true,
        removed,
    }
}

pub(crate) fn voters() -> VotersView {
    VotersView {
        term: 3,
        leader: Some(key().node_id()),
        commit: 40,
        last_log: 41,
        voters: vec![VoterView {
            node: key().node_id(),
            host: Some(host()),
            addr: "10.0.0.1:7118".into(),
            seat: Seat::Leader,
            zone: None,
            matched: Some(41),
            lag: Some(0),
            silent_ms: Some(0),
        }],
        quorum: 1,
        age_ms: 12,
        plan: Some("seat db-02 as a learner".into()),
    }
}

pub(crate) fn leader() -> LeaderView {
    LeaderView {
        leader: Some(key().node_id()),
        host: Some(host()),
        http: None,
        term: 3,
        is_self: true,
    }
}

pub(crate) fn token() -> TokenView {
    TokenView {
        id: "tok_1".into(),
        uses: 3,
        uses_left: 2,
        by: "ana".into(),
        expires_at: at(),
        state: TokenState::Valid,
    }
}

pub(crate) fn new_token() -> NewToken {
    NewToken {
        token: "a-secret".into(),
        view: token(),
        join: "hale join 10.0.0.1:7118 --token a-secret".into(),
    }
}

pub(crate) fn budget(limit: BudgetLimitView) -> BudgetView {
    BudgetView {
        name: "web".into(),
        service: service(),
        limit,
        used: 1,
        allowed: 2,
    }
}

pub(crate) fn wait() -> WaitView {
    WaitView {
        execution: ExecutionId::at(at(), 10),
        scope: "host:db-01".into(),
        holder: key().node_id(),
        service: None,
        waits_for: "its turn".into(),
        position: 1,
    }
}
