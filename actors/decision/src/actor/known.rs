//! The incidents that can be asked for, with their decisions: a bounded memory.

use super::{Decided, Kept};
use hale_model::{Decision, Incident, IncidentId, IncidentState, Route, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many incidents are remembered; the oldest resolved one is forgotten first.
const MAX_KNOWN: usize = 256;
/// How many decisions of one incident are remembered and made: an incident that changes on and on
/// is not understood better by deciding again.
const MAX_DECISIONS: usize = 8;

/// How long a run is given before what it changes is decided on anew.
const MENDING: Duration = Duration::from_secs(60);

/// An incident with its decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    incident: Incident,
    decisions: Vec<Decision>,
}

/// Why an incident was treated as it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Why {
    /// The incident.
    pub incident: Incident,
    /// Its story for people.
    pub narrative: String,
    /// What was decided, oldest first; empty while it is being decided on.
    pub decisions: Vec<Decision>,
}

/// By id, which begins with the time: the oldest come first.
#[derive(Debug, Default)]
pub(super) struct KnownIncidents(BTreeMap<IncidentId, Known>);

impl KnownIncidents {
    pub(super) fn new(known: Vec<Known>) -> Self {
        Self(
            known
                .into_iter()
                .map(|k| (k.incident.id.clone(), k))
                .collect(),
        )
    }

    /// Takes in an incident as it is now; says what is to be kept and forgotten.
    pub(super) fn put(&mut self, incident: &Incident) -> Vec<Kept> {
        let known = self.0.entry(incident.id.clone());
        let known = known.or_insert_with(|| Known {
            incident: incident.clone(),
            decisions: vec![],
        });
        // A decision that was on its way must not open what has resolved.
        if known.incident.state == IncidentState::Open {
            known.incident = incident.clone();
        }
        let mut kept: Vec<Kept> = vec![];
        if let Ok(bytes) = serde_json::to_vec(known) {
            kept.push((incident.id.to_string(), Some(bytes)));
        }
        while self.0.len() > MAX_KNOWN {
            let resolved = self
                .0
                .values()
                .find(|k| k.incident.state == IncidentState::Resolved);
            let oldest = resolved
                .or_else(|| self.0.values().next())
                .map(|k| k.incident.id.clone());
            let Some(id) = oldest else { break };
            self.0.remove(&id);
            kept.push((id.to_string(), None));
        }
        kept
    }

    /// Takes in a decision; says whether it chooses or routes otherwise than the one before.
    pub(super) fn decided(&mut self, decided: &Decided) -> bool {
        let id = decided.incident.id.clone();
        let known = self.0.entry(id);
        let known = known.or_insert_with(|| Known {
            incident: decided.incident.clone(),
            decisions: vec![],
        });
        let outcome = |d: &Decision| (d.chosen().map(|m| m.playbook.clone()), d.route);
        let is_news = known
            .decisions
            .last()
            .is_none_or(|last| outcome(last) != outcome(&decided.decision));
        if known.decisions.len() == MAX_DECISIONS {
            known.decisions.remove(1);
        }
        known.decisions.push(decided.decision.clone());
        is_news
    }

    pub(super) fn is_decided(&self, id: &IncidentId) -> bool {
        self.0.get(id).is_some_and(|k| !k.decisions.is_empty())
    }

    pub(super) fn is_decided_enough(&self, id: &IncidentId) -> bool {
        self.0
            .get(id)
            .is_some_and(|k| k.decisions.len() >= MAX_DECISIONS)
    }

    /// Whether a playbook was just chosen to run: what changes while it does is its own doing.
    pub(super) fn is_being_mended(&self, id: &IncidentId, now: Timestamp) -> bool {
        let last = self.0.get(id).and_then(|k| k.decisions.last());
        last.is_some_and(|d| d.route == Route::Execute && now.since(d.at) < MENDING)
    }

    pub(super) fn incident(&self, id: &IncidentId) -> Option<&Incident> {
        self.0.get(id).map(|k| &k.incident)
    }

    pub(super) fn why(&self, incident: Incident) -> Why {
        let decisions = self
            .0
            .get(&incident.id)
            .map(|k| k.decisions.clone())
            .unwrap_or_default();
        Why {
            narrative: crate::describe::narrative(&incident),
            incident,
            decisions,
        }
    }

    /// Newest first; those that are open as they are now.
    pub(super) fn list<'a>(&self, open: impl Iterator<Item = &'a Incident>) -> Vec<Incident> {
        let mut all: BTreeMap<&IncidentId, &Incident> = self
            .0
            .iter()
            .map(|(id, known)| (id, &known.incident))
            .collect();
        all.extend(open.map(|i| (&i.id, i)));
        all.into_values().rev().cloned().collect()
    }
}
