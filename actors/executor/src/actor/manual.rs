//! Playbooks that a human starts, and what they would do.

use super::shared::{Shared, entropy, wall};
use super::{Message, State};
use crate::actions::{Context, Stop, only_looks, templates};
use crate::env;
use crate::error::Error;
use crate::journal::Phase;
use crate::run::{ActionResult, Perform, Setup};
use hale_model::execution::Mode;
use hale_model::{
    Digest, ExecutionId, Incident, IncidentId, IncidentState, LogLine, Plan, PlaybookName,
    ServiceName, Severity, StepStatus,
};
use hale_playbooks::Playbook;
use hale_playbooks::language::{Action, Step};
use ractor::{ActorRef, RpcReplyPort};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout;

/// A playbook that a human starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Manual {
    /// Which.
    pub playbook: PlaybookName,
    /// For which open incident; none starts it for the host or service alone.
    pub incident: Option<IncidentId>,
    /// For which service, where there is no incident.
    pub service: Option<ServiceName>,
    /// Parameters that are given.
    pub params: BTreeMap<String, Value>,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Who.
    pub by: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ManualAnswer {
    /// It is under way, or waits for its turn.
    Started {
        /// The run.
        execution: ExecutionId,
        /// The incident it is recorded under.
        incident: IncidentId,
    },
    /// What it would do.
    DryRun(Box<DryRun>),
}

/// What a playbook would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DryRun {
    /// The plan with its parameters.
    pub plan: Plan,
    /// Its digest.
    pub plan_digest: Digest,
    /// The pre-checks that only look, done.
    pub checks: Vec<LogLine>,
    /// What would be done, in order.
    pub steps: Vec<DryStep>,
}

/// A check or step that was not run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DryStep {
    /// In which part.
    pub phase: Phase,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its texts, rendered as far as they can be now; secrets masked.
    pub texts: Vec<String>,
    /// The query, where it is one.
    pub query: Option<String>,
    /// The condition under which it runs.
    pub when: Option<String>,
}

impl State {
    /// Plans beside the mailbox: whoever is asked for the incident may be waiting for this actor.
    pub(super) fn run_manual(
        &mut self,
        myself: &ActorRef<Message>,
        manual: Manual,
        reply: RpcReplyPort<Result<ManualAnswer, String>>,
    ) {
        let Some(playbook) = self.playbooks.get(&manual.playbook).cloned() else {
            let _ = reply.send(Err(Error::UnknownPlaybook(manual.playbook).to_string()));
            return;
        };
        let (shared, myself) = (Arc::clone(&self.shared), myself.clone());
        tokio::spawn(async move {
            let setup = plan(&shared, &manual, &playbook).await;
            if !manual.dry_run {
                let planned = setup.map(Box::new).map_err(|e| e.to_string());
                let _ = myself.cast(Message::ManualPlanned(planned, reply));
                return;
            }
            let told = match setup {
                Ok(setup) => tell(&shared, setup).await,
                Err(e) => Err(e),
            };
            let told = told.map(|d| ManualAnswer::DryRun(Box::new(d)));
            let _ = reply.send(told.map_err(|e| e.to_string()));
        });
    }

    pub(super) fn manual_planned(
        &mut self,
        myself: &ActorRef<Message>,
        planned: Result<Setup, String>,
        reply: RpcReplyPort<Result<ManualAnswer, String>>,
    ) {
        let answer = planned.and_then(|setup| {
            let plan = setup.intent.plan.clone();
            if self.early.is_some() {
                return Err("the node is still finding out what it left behind; try again".into());
            }
            if self.is_underway(&plan.incident) {
                return Err(Error::Underway(plan.incident.to_string()).to_string());
            }
            self.begin(myself, setup)
                .map_err(|n| Error::Busy(n).to_string())?;
            let (execution, incident) = (plan.execution, plan.incident);
            Ok(ManualAnswer::Started {
                execution,
                incident,
            })
        });
        let _ = reply.send(answer);
    }
}

async fn plan(shared: &Shared, manual: &Manual, playbook: &Playbook) -> Result<Setup, Error> {
    let incident = match &manual.incident {
        None => by_hand(shared, manual, playbook).await,
        Some(id) => {
            let found = (shared.ports.incident)(id.clone()).await;
            let found = found.filter(|i| i.state == IncidentState::Open);
            found.ok_or_else(|| Error::UnknownIncident(id.to_string()))?
        }
    };
    let by = manual.by.clone();
    let mode = Mode::Manual { by };
    shared
        .setup(incident, None, playbook, &manual.params, mode, None)
        .await
}

/// What a run by hand is recorded under where there is no incident.
async fn by_hand(shared: &Shared, manual: &Manual, playbook: &Playbook) -> Incident {
    let at = wall();
    let service = manual.service.clone();
    // A playbook for one service is for that service, unless another is named.
    let own = playbook
        .services
        .first()
        .and_then(|s| ServiceName::new(s.clone()).ok());
    Incident {
        id: IncidentId::at(at, entropy()),
        host: shared.host.clone(),
        environment: shared.environment.clone(),
        service: service.or(own.filter(|_| playbook.services.len() == 1)),
        tags: (shared.ports.tags)(()).await,
        opened_at: at,
        updated_at: at,
        resolved_at: None,
        state: IncidentState::Open,
        severity: Severity::Warning,
        title: format!("{} started {} by hand", manual.by, playbook.name),
        anomalies: vec![],
        events: vec![],
        top_consumers: vec![],
        signature: Digest::of(playbook.name.as_str().as_bytes()),
        recurrence_30d: 0,
    }
}

async fn tell(shared: &Shared, setup: Setup) -> Result<DryRun, Error> {
    let plan = setup.intent.plan;
    let context = Context {
        execution: plan.execution.clone(),
        host: plan.host.clone(),
        service: plan.service.clone(),
        offsets: Arc::default(),
        secrets: Arc::default(),
    };
    let mut told = DryRun {
        plan_digest: crate::plan::digest(&plan)?,
        plan,
        checks: vec![],
        steps: vec![],
    };
    let mut env = setup.env;
    let playbook = &setup.playbook;
    for (n, step) in playbook.pre_execution_checks.iter().enumerate() {
        let perform = Perform {
            ticket: n as u64,
            phase: Phase::PreChecks,
            step: step.clone(),
            env: env.clone(),
            timeout: step.timeout,
        };
        if !only_looks(&perform) {
            told.steps.push(would(Phase::PreChecks, step, &env));
            continue;
        }
        let line = look(shared, &context, perform).await;
        env::remember(&mut env, &step.name, true, &line.result);
        told.checks.push(line);
    }
    let parts = [
        (Phase::Steps, &playbook.steps),
        (Phase::Verification, &playbook.verification),
        (Phase::Rollback, &playbook.rollback),
    ];
    for (phase, steps) in parts {
        told.steps
            .extend(steps.iter().map(|s| would(phase, s, &env)));
    }
    Ok(told)
}

/// Performs what only looks, and holds its result against what is expected of it.
pub(super) async fn look(shared: &Shared, context: &Context, perform: Perform) -> LogLine {
    let (step, env, at, begun) = (
        perform.step.clone(),
        perform.env.clone(),
        wall(),
        Instant::now(),
    );
    let (_never, stop) = Stop::channel();
    let limit = perform.timeout;
    let done = timeout(limit, shared.tools.perform(context, perform, stop)).await;
    let mut done = done.unwrap_or_else(|_| ActionResult {
        status: StepStatus::TimedOut,
        result: Value::Null,
        message: format!("it took longer than {} s", limit.as_secs_f64()),
    });
    if let (Some(expect), StepStatus::Success) = (&step.expect, done.status) {
        let held = expect.holds(&env::with_result(&env, &done.result));
        if held != Ok(true) {
            done.status = StepStatus::Failed;
            done.message = format!("`{}` does not hold of its result", expect.as_str());
        }
    }
    LogLine {
        step: step.name,
        kind: step.action.kind().into(),
        at,
        duration_ms: begun.elapsed().as_millis() as u64,
        status: done.status,
        result: done.result,
        message: done.message,
        attempts: 1,
    }
}

fn would(phase: Phase, step: &Step, env: &hale_playbooks::Env) -> DryStep {
    let mut env = env.clone();
    let names = templates(&step.action)
        .into_iter()
        .flat_map(|t| t.secrets());
    let masked: BTreeMap<String, &str> = names.map(|n| (n, env::MASK)).collect();
    env.insert("secret".into(), json!(masked));
    let rendered = |t: &hale_playbooks::Template| match t.render(&env) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        // It needs the result of a step that has not run.
        Err(_) => t.as_str().to_owned(),
    };
    DryStep {
        phase,
        name: step.name.clone(),
        kind: step.action.kind().into(),
        texts: templates(&step.action).into_iter().map(rendered).collect(),
        query: match &step.action {
            Action::SqlQuery { query, .. } => Some(query.clone()),
            _ => None,
        },
        when: step.when.as_ref().map(|w| w.as_str().to_owned()),
    }
}
