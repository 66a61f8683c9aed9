//! The actors' nouns in the shape in which operators see them.

use crate::answers::Inner;
use crate::pipeline::ASK;
use hale_api::ExecutionView;
use hale_baseline::SeriesView;
use hale_executor::journal::Phase;
use hale_model::Reading;
use hale_model::ledger::Scope;

/// A series' latest reading, as operators ask for it.
pub(crate) fn reading_of(view: &SeriesView) -> Option<Reading> {
    let m = view.latest?;
    Some(Reading {
        series: view.series.clone(),
        service: view.service.clone(),
        at: m.at,
        value: m.value,
        baseline: m.baseline,
        sigma: m.sigma,
        tail_probability: m.tail_probability,
        trend_per_hour: m.trend_per_hour,
        seconds_to_limit: m.seconds_to_limit,
        bounds: view.bounds,
        harm: view.harm,
    })
}

/// What runs now, as operators see it.
pub(crate) async fn executions(n: &Inner) -> Option<Vec<ExecutionView>> {
    let running = n
        .slots
        .executor
        .ask(ASK, hale_executor::actor::Message::Running)
        .await?;
    let view = |r: hale_executor::Running| ExecutionView {
        version: n
            .library
            .get(&r.playbook)
            .map_or_else(String::new, |k| k.playbook.version.clone()),
        id: r.execution,
        incident: r.incident,
        host: n.host.clone(),
        service: match r.scope {
            Scope::Service(_, service) => Some(service),
            _ => None,
        },
        playbook: r.playbook,
        mode: r.mode,
        fence: r.fence,
        phase: match (r.phase, r.fence) {
            (Some(Phase::PreChecks), _) => "pre_checks",
            (Some(Phase::Steps), _) => "steps",
            (Some(Phase::Verification), _) => "verification",
            (Some(Phase::Rollback), _) => "rollback",
            (None, None) => "leasing",
            (None, Some(_)) => "closing",
        }
        .to_owned(),
        step: r.step,
        started_at: r.started_at,
    };
    Some(running.into_iter().map(view).collect())
}
