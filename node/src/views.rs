//! The actors' nouns in the shape in which operators see them.

use crate::answers::Inner;
use crate::pipeline::ASK;
use hale_api::{EpisodeView, ExecutionView, ExplanationView, PointView};
use hale_baseline::{SeriesDetail, SeriesView};
use hale_executor::journal::Phase;
use hale_model::ledger::Scope;
use hale_model::{HostName, Reading};

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

/// One series with its last readings; none before its first reading.
pub(crate) fn series_of(host: HostName, detail: &SeriesDetail) -> Option<hale_api::SeriesView> {
    let explanation = detail.explanation.as_ref()?;
    let point = |p: &hale_baseline::Point| PointView {
        at: p.at,
        value: p.value,
        expected: p.expected.into(),
        low: p.low.into(),
        high: p.high.into(),
        sigma: p.sigma.into(),
    };
    let episode = |e: &hale_baseline::Episode| EpisodeView {
        from: e.from,
        until: e.until,
        severity: e.severity,
    };
    Some(hale_api::SeriesView {
        host,
        reading: reading_of(&detail.view)?,
        sensitivity: detail.view.sensitivity.map(|s| s.as_str().to_owned()),
        step_seconds: detail.view.step_seconds,
        points: detail.points.iter().map(point).collect(),
        anomalies: detail.episodes.iter().map(episode).collect(),
        explanation: ExplanationView {
            why: explanation.why.clone(),
            surprise: explanation.surprise,
            false_alerts_per_week: explanation.false_alerts_per_week,
            novelty: explanation.novelty,
            deviation: explanation.deviation,
            time_of_day: explanation.time_of_day,
            phase: explanation.phase.as_str().to_owned(),
        },
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
