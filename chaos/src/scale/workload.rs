//! What one incident puts on the chain: the intent and the record of a run of a playbook of the
//! library, as a node would sign them.

use super::ScaleError;
use hale_executor::plan;
use hale_model::execution::Mode;
use hale_model::ledger::{Acquire, Command, Disposition, EntryKind, Signed};
use hale_model::{
    Anomaly, BaselineStats, Digest, ExecutionId, ExecutionReport, Fence, Harm, HostName, Incident,
    IncidentId, IncidentState, Keypair, LogLine, Outcome, OutcomeStatus, Plan, Reading, SeriesKey,
    Severity, StepStatus, Timestamp,
};
use hale_playbooks::Playbook;
use std::collections::BTreeMap;

/// When all of it happens, in seconds since the epoch.
const AT_S: i64 = 1_780_000_000;

/// Runs of one playbook, on any host.
pub(super) struct Workload {
    playbook: Playbook,
    ttl_ms: u64,
}

/// One run: its host's key, its plan and its incident.
pub(super) struct Run<'a> {
    key: &'a Keypair,
    plan: Plan,
    incident: Incident,
}

impl Workload {
    /// Of the library's first playbook.
    pub(super) fn new(ttl_ms: u64) -> Result<Self, ScaleError> {
        let parsed = hale_playbooks::library()
            .into_iter()
            .find_map(|(name, text)| hale_playbooks::parse(&name, text).ok());
        let playbook = parsed.ok_or(ScaleError::Input("the library has no playbook"))?;
        Ok(Self { playbook, ttl_ms })
    }

    pub(super) fn run<'a>(&self, key: &'a Keypair, host: &HostName, number: u32) -> Run<'a> {
        let at = Timestamp::from_secs(AT_S);
        let incident = incident(host, at, number);
        let execution = ExecutionId::at(at, number);
        let params = BTreeMap::new();
        let plan = plan::of(&incident, &self.playbook, params, execution);
        Run {
            key,
            plan,
            incident,
        }
    }

    pub(super) fn acquire(&self, run: &Run<'_>) -> Result<Command, ScaleError> {
        let at = Timestamp::from_secs(AT_S);
        let wrong = |_| ScaleError::Input("a plan has no canonical form");
        let body = plan::intent(&run.plan, &self.playbook, None, &Mode::Autonomous, at);
        Ok(Command::Acquire(Acquire {
            scope: run.plan.scope.clone(),
            holder: run.key.node_id(),
            ttl_ms: self.ttl_ms,
            execution: run.plan.execution.clone(),
            plan_digest: plan::digest(&run.plan).map_err(wrong)?,
            playbook: run.plan.playbook.clone(),
            service: None,
            approval: None,
            entry: Signed::new(EntryKind::Intent, body.map_err(wrong)?, run.key),
        }))
    }

    pub(super) fn renew(&self, run: &Run<'_>, fence: Fence) -> Command {
        Command::Renew {
            fence,
            holder: run.key.node_id(),
            ttl_ms: self.ttl_ms,
        }
    }

    pub(super) fn close(&self, run: Run<'_>, fence: Fence) -> Command {
        let node = run.key.node_id();
        let report = self.report(run.plan, run.incident, fence);
        let record = hale_audit::record::of(&report, node, Some(fence));
        Command::Close {
            fence,
            holder: node,
            disposition: Disposition::Done,
            outcome: OutcomeStatus::Success,
            entry: hale_audit::record::sign(&record, run.key),
        }
    }

    fn report(&self, plan: Plan, incident: Incident, fence: Fence) -> ExecutionReport {
        let at = incident.opened_at;
        let line = |step: &hale_playbooks::language::Step| LogLine {
            step: step.name.clone(),
            kind: "command".into(),
            at,
            duration_ms: 42,
            status: StepStatus::Success,
            result: serde_json::json!({"exit": 0, "stdout": "active (running)"}),
            message: "it did what it should".into(),
            attempts: 1,
        };
        let lines = |steps: &[hale_playbooks::language::Step]| steps.iter().map(line).collect();
        ExecutionReport {
            incident,
            decision: None,
            plan: Some(plan),
            mode: Mode::Autonomous,
            fence: Some(fence),
            started_at: at,
            ended_at: at,
            pre_check_log: lines(&self.playbook.pre_execution_checks),
            execution_log: lines(&self.playbook.steps),
            verification_log: lines(&self.playbook.verification),
            rollback_log: vec![],
            outcome: Outcome {
                status: OutcomeStatus::Success,
                resolution_time_seconds: 31.5,
                verification_passed: true,
                rollback_triggered: false,
                human_intervention_required: false,
                reason: "every verification passed".into(),
            },
        }
    }
}

fn incident(host: &HostName, at: Timestamp, number: u32) -> Incident {
    let baseline = BaselineStats {
        mean: 41.0,
        stddev: 3.5,
        p50: 40.0,
        p95: 47.0,
        p99: 51.0,
        expected: 40.5,
        spread: 3.0,
        samples: 40_000,
        age_seconds: 600_000,
    };
    let reading = Reading {
        series: SeriesKey::new("memory_used_percent"),
        service: None,
        at,
        value: 97.5,
        baseline,
        sigma: 19.0,
        tail_probability: 0.000_01,
        trend_per_hour: 2.5,
        seconds_to_limit: Some(3_600.0),
        bounds: None,
        harm: Harm::High,
    };
    Incident {
        id: IncidentId::at(at, number),
        host: host.clone(),
        environment: "production".into(),
        service: None,
        tags: [("role".to_owned(), "database".to_owned())].into(),
        opened_at: at,
        updated_at: at,
        resolved_at: None,
        state: IncidentState::Open,
        severity: Severity::Critical,
        title: "memory_used_percent is far above what is normal at this time of the week".into(),
        anomalies: vec![Anomaly {
            reading,
            severity: Severity::Critical,
            confidence: 1.0,
            since: at,
        }],
        events: vec![],
        top_consumers: vec![],
        signature: Digest::ZERO,
        recurrence_30d: 0,
    }
}
