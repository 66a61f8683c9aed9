//! Looks at the host for playbooks that may fit, before anything is decided: their probes, all at
//! once, each with its own end, and none of them changes anything. While they look nobody acts there:
//! see [`looking`].

mod looking;

use super::State;
use super::manual::look;
use super::shared::{Shared, entropy, wall};
use crate::actions::{Context, templates};
use crate::env;
use crate::journal::Phase;
use crate::run::Perform;
use hale_model::{Diagnosis, ExecutionId, Finding, Incident, LogLine, PlaybookName, StepStatus};
use hale_playbooks::language::{FailAction, Probe, Step, Weight};
use hale_playbooks::{Env, Playbook};
use ractor::RpcReplyPort;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// No probe may take longer, whatever its playbook says.
const AT_MOST: Duration = Duration::from_millis(3500);
/// So many of those that could not find out, and said so within this time, look once more, one after
/// the other.
const MOST_AGAIN: usize = 4;
const AGAIN_WITHIN: Duration = Duration::from_secs(1);
/// So many reasons why it can't run are told.
const MAX_LACKING: usize = 3;
/// What people are shown of what was seen, in bytes.
const MAX_SAW_BYTES: usize = 200;

impl State {
    /// Runs the probes beside the mailbox.
    pub(super) fn diagnose(
        &self,
        incident: Incident,
        playbooks: &[PlaybookName],
        reply: RpcReplyPort<Diagnosis>,
    ) {
        let known = playbooks.iter().filter_map(|name| self.playbooks.get(name));
        let known: Vec<Playbook> = known.cloned().collect();
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let _ = reply.send(diagnose(&shared, &incident, &known).await);
        });
    }
}

async fn diagnose(shared: &Arc<Shared>, incident: &Incident, playbooks: &[Playbook]) -> Diagnosis {
    let incident = crate::plan::settled(crate::plan::sayable(incident.clone()));
    let context = Context {
        execution: ExecutionId::at(wall(), entropy()),
        host: incident.host.clone(),
        service: incident.service.clone(),
        offsets: Arc::default(),
        secrets: Arc::default(),
    };
    // What they see is gathered before the share is asked for: nobody waits for that.
    let envs = shared.envs_of(&incident, playbooks).await;
    let looking = match playbooks.iter().any(|p| !p.diagnose.is_empty()) {
        true => Some(looking::begin(shared, &incident, &context.execution).await),
        false => None,
    };
    let mut running = JoinSet::new();
    let mut all: Vec<(PlaybookName, Vec<Finding>)> = vec![];
    let mut looks = BTreeMap::new();
    for (p, (playbook, env)) in playbooks.iter().zip(&envs).enumerate() {
        all.push((playbook.name.clone(), impossible(playbook, env)));
        for (n, probe) in playbook.diagnose.iter().enumerate() {
            let (shared, context) = (Arc::clone(shared), context.clone());
            let (probe, env) = (probe.clone(), env.clone());
            looks.insert((p, n), (probe.clone(), env.clone()));
            running.spawn(async move { ((p, n), find(&shared, &context, &probe, env).await) });
        }
    }
    let mut found = BTreeMap::new();
    while let Some(done) = running.join_next().await {
        match done {
            Ok((place, finding)) => drop(found.insert(place, finding)),
            Err(e) => tracing::error!("a probe broke off: {e}"),
        }
    }
    // What is short may have been short for one because of the others: a last free connection.
    let is_open =
        |f: &&mut Finding| f.found.is_none() && f.took_ms < AGAIN_WITHIN.as_millis() as u64;
    let open = found
        .iter_mut()
        .filter_map(|(place, f)| Some((place, f.as_mut().filter(is_open)?)));
    for (place, finding) in open.take(MOST_AGAIN) {
        let Some((probe, env)) = looks.remove(place) else {
            continue;
        };
        let again = find(shared, &context, &probe, env);
        if let Ok(Some(again)) = tokio::time::timeout(AGAIN_WITHIN, again).await {
            *finding = again;
        }
    }
    for ((p, _), finding) in found {
        if let Some((_, findings)) = all.get_mut(p) {
            findings.extend(finding);
        }
    }
    let share = match looking {
        Some(looking) => Some(looking::end(shared, looking).await),
        None => None,
    };
    Diagnosis { found: all, share }
}

/// What keeps the playbook from running here at all, as findings against it. What merely allows it to
/// run says nothing for it.
fn impossible(playbook: &Playbook, env: &Env) -> Vec<Finding> {
    let failing = playbook
        .standing_conditions()
        .filter(|(_, condition)| condition.holds(env) == Ok(false))
        .map(|(step, condition)| (step, format!("`{}` does not hold", condition.as_str())));
    let always = |step: &&Step| step.when.is_none() && step.fail_action != FailAction::Warn;
    let parts = [
        &playbook.pre_execution_checks,
        &playbook.steps,
        &playbook.verification,
    ];
    let lacking = parts
        .into_iter()
        .flatten()
        .filter(always)
        .filter_map(|step| Some((step, lacks(step, env)?)));
    let finding = |(step, saw): (&Step, String)| Finding {
        probe: step.name.clone(),
        found: Some(false),
        is_strong: true,
        rules_out: true,
        saw,
        took_ms: 0,
    };
    failing
        .chain(lacking)
        .take(MAX_LACKING)
        .map(finding)
        .collect()
}

/// What a step that runs in any case needs and the configuration does not say.
fn lacks(step: &Step, env: &Env) -> Option<String> {
    let is_known = |path: &Vec<String>| ["service", "params", "tags"].contains(&path[0].as_str());
    templates(&step.action).into_iter().find_map(|template| {
        let is_standing = template.expressions().into_iter().all(|text| {
            hale_playbooks::Expr::parse(text).is_ok_and(|expr| expr.paths().iter().all(is_known))
        });
        let missing = is_standing.then(|| template.render(env).err()).flatten()?;
        Some(format!(
            "`{}` has no value here: {missing}",
            template.as_str()
        ))
    })
}

/// None if it does not apply here.
async fn find(shared: &Shared, context: &Context, probe: &Probe, env: Env) -> Option<Finding> {
    let begun = Instant::now();
    let step = &probe.step;
    let holds = step.when.as_ref().map(|when| when.holds(&env));
    if holds.is_some_and(|h| h != Ok(true)) {
        return None;
    }
    let looks = Step {
        expect: None,
        ..step.clone()
    };
    let perform = Perform {
        ticket: 0,
        // As a look before a run: what changes anything is not let through by lint.
        phase: Phase::PreChecks,
        step: looks,
        env: env.clone(),
        timeout: step.timeout.min(AT_MOST),
    };
    let line = look(shared, context, perform).await;
    let expected = step.expect.as_ref().map(|expect| {
        let held = expect.holds(&env::with_result(&env, &line.result));
        (expect.as_str(), held.ok())
    });
    let saw = match expected {
        Some((text, Some(held))) if line.status == StepStatus::Success => {
            let holds = if held { "holds" } else { "does not hold" };
            format!("{}; `{text}` {holds}", line.message)
        }
        _ => line.message.clone(),
    };
    Some(Finding {
        probe: step.name.clone(),
        found: meaning(&line, expected.map(|(_, held)| held)),
        is_strong: probe.weight == Weight::Strong,
        rules_out: false,
        saw: crate::plan::cut(&saw, MAX_SAW_BYTES),
        took_ms: begun.elapsed().as_millis() as u64,
    })
}

/// What failed with something to show for it has looked and not found it; what failed without could
/// not find out.
fn meaning(line: &LogLine, expected: Option<Option<bool>>) -> Option<bool> {
    match line.status {
        StepStatus::Success => expected.unwrap_or(Some(true)),
        // Who is asked over HTTP and does not answer has been found not to answer.
        StepStatus::Failed | StepStatus::TimedOut if line.kind == "http_check" => Some(false),
        StepStatus::Failed if line.result != Value::Null => Some(false),
        _ => None,
    }
}
