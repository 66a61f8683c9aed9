//! What becomes of a decision: a run, a question to a human, or a report that hands it over.

use super::shared::{Shared, wall};
use super::{Message, State};
use crate::journal::without_run;
use crate::plan;
use crate::run::{Event, Setup};
use hale_model::execution::Mode;
use hale_model::{Decision, Incident, IncidentId, OutcomeStatus, Route};
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A decision with what would be run for it.
pub struct Planned {
    pub(super) incident: Incident,
    pub(super) decision: Decision,
    pub(super) route: Route,
    pub(super) setup: Result<Setup, String>,
}

impl State {
    pub(super) fn decided(
        &mut self,
        myself: &ActorRef<Message>,
        incident: Box<Incident>,
        decision: Box<Decision>,
    ) {
        if self.is_underway(&incident.id) {
            tracing::debug!(incident = %incident.id, "it is being worked on: the decision is left out");
            return;
        }
        let chosen = decision.chosen().map(|m| m.playbook.clone());
        let playbook = chosen
            .as_ref()
            .and_then(|name| self.playbooks.get(name))
            .cloned();
        let playbook = match (decision.route, chosen, playbook) {
            (Route::Escalate, ..) | (_, None, _) => {
                let why = decision.rationale.clone();
                return self.escalate(*incident, *decision, why);
            }
            (_, Some(name), None) => {
                let why = format!(
                    "there is no playbook `{name}` any more; `hale playbook ls` lists them"
                );
                return self.escalate(*incident, *decision, why);
            }
            (_, _, Some(playbook)) => playbook,
        };
        // The playbook's own bounds hold whatever was decided.
        let most = if playbook.idempotent {
            playbook.max_route
        } else {
            playbook.max_route.min(Route::Ask)
        };
        let route = decision.route.min(most);
        if route == Route::Escalate {
            let why = format!(
                "`{}` only tells a human what to do; `hale playbook show {}`",
                playbook.name, playbook.name
            );
            return self.escalate(*incident, *decision, why);
        }
        let (shared, myself) = (Arc::clone(&self.shared), myself.clone());
        tokio::spawn(async move {
            let none = BTreeMap::new();
            let setup = shared
                .setup(
                    (*incident).clone(),
                    Some((*decision).clone()),
                    &playbook,
                    &none,
                    Mode::Autonomous,
                    None,
                )
                .await
                .map_err(|e| e.to_string());
            let planned = Planned {
                incident: *incident,
                decision: *decision,
                route,
                setup,
            };
            let _ = myself.cast(Message::Planned(Box::new(planned)));
        });
    }

    pub(super) fn planned(&mut self, myself: &ActorRef<Message>, planned: Planned) {
        let Planned {
            incident,
            decision,
            route,
            setup,
        } = planned;
        if self.is_underway(&incident.id) {
            return;
        }
        let setup = match setup {
            Ok(setup) => setup,
            Err(why) => return self.escalate(incident, decision, why),
        };
        if self.is_asked_already(&setup, route) {
            return;
        }
        if route == Route::Ask {
            return self.ask(myself, setup, decision);
        }
        if let Err(waiting) = self.begin(myself, setup) {
            let why = crate::Error::Busy(waiting).to_string();
            self.escalate(incident, decision, why);
        }
    }

    /// Whether the same question waits. One that has become another is withdrawn.
    fn is_asked_already(&mut self, setup: &Setup, route: Route) -> bool {
        let plan = &setup.intent.plan;
        let asked = self
            .questions
            .values()
            .find(|q| q.plan.incident == plan.incident);
        let Some(asked) = asked.cloned() else {
            return false;
        };
        let is_same = plan::digest(plan).is_ok_and(|d| d == asked.approval.plan_digest);
        if is_same && route == Route::Ask {
            return true;
        }
        self.withdraw(&asked, "something else was decided");
        false
    }

    /// Hands an incident to a human, once.
    pub(super) fn escalate(&mut self, incident: Incident, decision: Decision, why: String) {
        if !self.is_first_escalation(&incident.id) {
            return;
        }
        let incident = plan::sayable(incident);
        let status = OutcomeStatus::Escalated;
        let mode = Mode::Autonomous;
        let finished = without_run(incident, Some(decision), None, mode, status, why, wall());
        self.shared.report(finished, vec![]);
    }

    pub(super) async fn incident_resolved(&mut self, id: &IncidentId) {
        for run in self.running.values().filter(|r| r.incident == *id) {
            run.tell(Event::IncidentResolved).await;
        }
        let mut resolved = vec![];
        self.waiting.retain(|setup| {
            let is_it = setup.intent.plan.incident == *id;
            if is_it {
                resolved.push(setup.intent.clone());
            }
            !is_it
        });
        for intent in resolved {
            self_resolved(
                &self.shared,
                intent.incident,
                intent.decision,
                intent.mode,
                vec![],
            );
        }
        let asked: Vec<_> = self
            .questions
            .values()
            .filter(|q| q.plan.incident == *id)
            .cloned()
            .collect();
        for question in asked {
            self.withdraw(&question, "the signals are normal again");
            let decision = Some(question.decision);
            self_resolved(
                &self.shared,
                question.incident,
                decision,
                Mode::Autonomous,
                vec![],
            );
        }
    }
}

fn self_resolved(
    shared: &Arc<Shared>,
    incident: Incident,
    decision: Option<Decision>,
    mode: Mode,
    remove: Vec<String>,
) {
    let why = "the signals were normal again before anything was done".to_owned();
    let status = OutcomeStatus::SelfResolved;
    let finished = without_run(incident, decision, None, mode, status, why, wall());
    shared.report(finished, remove);
}
