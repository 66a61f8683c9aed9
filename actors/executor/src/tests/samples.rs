//! Values for the unit tests: an incident, a playbook, steps.

use hale_model::{
    Anomaly, BaselineStats, Digest, Harm, HostName, Incident, IncidentId, IncidentState,
    PlaybookName, Reading, Route, SeriesKey, ServiceName, Severity, Timestamp,
};
use hale_playbooks::language::{Action, FailAction, Playbook, Proof, ScopeKind, Signature, Step};
use hale_playbooks::{Expr, Template};
use std::time::Duration;

pub(crate) const OPENED: Timestamp = Timestamp::from_secs(1_770_000_000);

pub(crate) fn incident() -> Incident {
    let reading = Reading {
        series: SeriesKey::new("system.disk_usage_percent").with("mount", "/var"),
        service: None,
        at: OPENED,
        value: 97.25,
        baseline: BaselineStats::default(),
        sigma: 6.5,
        tail_probability: 0.001,
        trend_per_hour: 4.0,
        seconds_to_limit: None,
        bounds: None,
        harm: Harm::High,
    };
    Incident {
        id: IncidentId::at(OPENED, 7),
        host: HostName::new("web-1").unwrap(),
        environment: "test".into(),
        service: Some(ServiceName::new("nginx").unwrap()),
        tags: [("role".to_owned(), "web".to_owned())].into(),
        opened_at: OPENED,
        updated_at: OPENED,
        resolved_at: None,
        state: IncidentState::Open,
        severity: Severity::Critical,
        title: "/var is filling up".into(),
        anomalies: vec![Anomaly {
            reading,
            severity: Severity::Critical,
            confidence: 1.0,
            since: OPENED,
        }],
        events: vec![],
        top_consumers: vec![],
        signature: Digest::of(b"disk"),
        recurrence_30d: 2,
    }
}

/// A step that is a command, so that it touches something.
pub(crate) fn command(name: &str) -> Step {
    let action = Action::Command {
        argv: vec![Template::parse(name).unwrap()],
        expect_exit: vec![0],
        cwd: None,
        env: vec![],
    };
    step(name, action)
}

/// A check that only looks.
pub(crate) fn check(name: &str) -> Step {
    let condition = Expr::parse("true").unwrap();
    step(name, Action::Condition { condition })
}

pub(crate) fn step(name: &str, action: Action) -> Step {
    Step {
        name: name.into(),
        action,
        reason: None,
        when: None,
        expect: None,
        timeout: Duration::from_secs(10),
        fail_action: FailAction::Rollback,
        max_wait: Duration::from_secs(30),
        retries: 0,
        retry_delay: Duration::from_secs(1),
        hold: Duration::ZERO,
        undoes: None,
    }
}

pub(crate) fn undo(name: &str, undoes: Option<&str>) -> Step {
    Step {
        undoes: undoes.map(Into::into),
        ..command(name)
    }
}

/// One check, two steps, one verification, and what undoes each step.
pub(crate) fn playbook() -> Playbook {
    Playbook {
        name: PlaybookName::new("disk_log_cleanup").unwrap(),
        version: "1.0.0".into(),
        description: "frees room".into(),
        tags: vec![],
        idempotent: true,
        services: vec![],
        aliases: vec![],
        not_when: vec![],
        signature: Signature::default(),
        max_route: Route::Execute,
        scope: ScopeKind::Service,
        max_duration: Duration::from_secs(600),
        proof: Proof::Proven,
        diagnose: vec![],
        parameters: vec![],
        pre_execution_checks: vec![Step {
            fail_action: FailAction::Abort,
            ..check("ready")
        }],
        steps: vec![command("first"), command("second")],
        verification: vec![check("healthy")],
        rollback: vec![
            undo("undo_first", Some("first")),
            undo("undo_second", Some("second")),
            undo("undo_always", None),
        ],
        no_rollback_reason: None,
        references: vec![],
        digest: Digest::of(b"playbook"),
    }
}
