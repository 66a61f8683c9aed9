//! A playbook started by hand, or only shown.

use crate::answers::Inner;
use hale_api::{PlannedStep, Problem, RunRequest, RunView};
use hale_executor::actor::{DryRun, Manual, ManualAnswer, Message};
use hale_executor::journal::Phase;
use hale_model::{PlaybookName, StepStatus};
use std::time::Duration;

/// A dry run does the checks that only look.
const DRY_RUN: Duration = Duration::from_secs(25);

/// Plans the playbook and shows the plan; begins it unless only the plan was asked for.
pub(crate) async fn run(
    n: &Inner,
    name: PlaybookName,
    request: RunRequest,
) -> Result<RunView, Problem> {
    if n.library.get(&name).is_none() {
        return Err(Problem::not_found("playbook", &name, "hale playbook ls"));
    }
    let manual = |dry_run| Manual {
        playbook: name.clone(),
        incident: request.incident.clone(),
        service: request.service.clone(),
        params: request.params.clone(),
        dry_run,
        by: request.by.clone(),
    };
    let shown = match ask(n, manual(true)).await? {
        ManualAnswer::DryRun(shown) => *shown,
        ManualAnswer::Started { .. } => return Err(unexpected()),
    };
    let mut view = view(shown, &name);
    if request.dry_run {
        return Ok(view);
    }
    let frozen = n
        .consensus
        .read(|l| l.frozen().cloned())
        .await
        .map_err(Problem::from)?;
    if let Some(freeze) = frozen {
        let why = format!("execution is frozen by {}: {}", freeze.by, freeze.reason);
        return Err(Problem::refused(why, "hale thaw"));
    }
    match ask(n, manual(false)).await? {
        ManualAnswer::Started {
            execution,
            incident,
        } => {
            view.plan.execution = execution.clone();
            view.plan.incident = incident.clone();
            view.execution = Some(execution);
            view.dry_run = false;
            view.next = format!(
                "hale leases shows it while it runs, hale audit tail its record ({incident})"
            );
            Ok(view)
        }
        ManualAnswer::DryRun(_) => Err(unexpected()),
    }
}

async fn ask(n: &Inner, manual: Manual) -> Result<ManualAnswer, Problem> {
    let ask = |reply| Message::RunManual(Box::new(manual), reply);
    match n.slots.executor.ask(DRY_RUN, ask).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(why)) => Err(Problem::refused(
            why,
            "hale playbook show NAME tells its parameters",
        )),
        None => Err(Problem::unavailable(
            "the executor did not answer in time",
            "try again; hale status",
        )),
    }
}

fn unexpected() -> Problem {
    Problem::new(
        hale_api::Code::Internal,
        "the executor answered another question",
        "hale status",
    )
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::PreChecks => "pre_check",
        Phase::Steps => "step",
        Phase::Verification => "verification",
        Phase::Rollback => "rollback",
    }
}

fn view(shown: DryRun, name: &PlaybookName) -> RunView {
    let checked = shown.checks.iter().map(|line| PlannedStep {
        phase: "pre_check".into(),
        name: line.step.clone(),
        kind: line.kind.clone(),
        does: match line.status {
            StepStatus::Success => format!("checked now: holds. {}", line.message),
            _ => format!("checked now: DOES NOT HOLD. {}", line.message),
        },
    });
    let planned = shown.steps.iter().map(|step| {
        let mut does = step
            .query
            .iter()
            .chain(&step.texts)
            .cloned()
            .collect::<Vec<_>>()
            .join(" · ");
        if let Some(when) = &step.when {
            does = format!("if {when}: {does}");
        }
        PlannedStep {
            phase: phase(step.phase).into(),
            name: step.name.clone(),
            kind: step.kind.clone(),
            does,
        }
    });
    RunView {
        steps: checked.chain(planned).collect(),
        plan: shown.plan,
        plan_digest: shown.plan_digest,
        dry_run: true,
        execution: None,
        approval: None,
        next: format!("hale playbook run {name} starts it"),
    }
}
