//! How playbooks did: what is counted of them, on which service, and since which text.

use super::{Applied, Ledger, RULES_WITH_EDITIONS, Row, limits};
use hale_model::ledger::{History, Lease, MAX_EDITIONS, Refusal, Sighting};
use hale_model::{Digest, NodeId, OutcomeStatus, PlaybookName, ServiceName};
use serde::{Deserialize, Serialize};

/// A playbook on a service, or on hosts themselves.
pub(super) type Place = (PlaybookName, Option<ServiceName>);

/// How its runs ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Outcomes {
    succeeded: u64,
    failed: u64,
    aborted: u64,
}

/// What became of incidents for which it did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Sightings {
    went_away: u64,
    agreed: u64,
    disagreed: u64,
}

impl Ledger {
    /// How a playbook did on a service.
    pub fn history(&self, playbook: &PlaybookName, service: Option<&ServiceName>) -> History {
        self.history_at(&(playbook.clone(), service.cloned()))
    }

    /// How all playbooks did, wherever something is known of them.
    pub fn histories(
        &self,
    ) -> impl Iterator<Item = (&PlaybookName, Option<&ServiceName>, History)> {
        let seen_only = self.sightings.keys();
        let seen_only = seen_only.filter(|place| !self.outcomes.contains_key(*place));
        let places = self.outcomes.keys().chain(seen_only);
        places.map(|place| (&place.0, place.1.as_ref(), self.history_at(place)))
    }

    /// The text of a playbook that the history counts from, if a node told of one.
    pub fn edition(&self, playbook: &PlaybookName) -> Option<Digest> {
        self.editions.get(playbook).copied()
    }

    fn history_at(&self, place: &Place) -> History {
        let ran = self.outcomes.get(place).copied().unwrap_or_default();
        let seen = self.sightings.get(place).copied().unwrap_or_default();
        History {
            succeeded: ran.succeeded,
            failed: ran.failed,
            aborted: ran.aborted,
            went_away: seen.went_away,
            agreed: seen.agreed,
            disagreed: seen.disagreed,
        }
    }

    /// Counts a run that was closed.
    pub(super) fn count(&mut self, lease: &Lease, outcome: OutcomeStatus) {
        let place = (lease.playbook.clone(), lease.service.clone());
        if self.outcomes.len() >= limits::MAX_HISTORIES && !self.outcomes.contains_key(&place) {
            return;
        }
        let mut outcomes = self.outcomes.get(&place).copied().unwrap_or_default();
        match outcome {
            OutcomeStatus::Success => outcomes.succeeded += 1,
            // What nobody finished has not helped either.
            OutcomeStatus::Failed | OutcomeStatus::RolledBack | OutcomeStatus::Abandoned => {
                outcomes.failed += 1;
            }
            OutcomeStatus::Aborted => outcomes.aborted += 1,
            OutcomeStatus::Escalated
            | OutcomeStatus::Denied
            | OutcomeStatus::Expired
            | OutcomeStatus::SelfResolved => return,
        }
        self.touched
            .insert(Row::History(place.0.clone(), place.1.clone()));
        self.outcomes.insert(place, outcomes);
    }

    /// Counts an incident for which a playbook was chosen and did not run.
    pub(super) fn see(
        &mut self,
        node: NodeId,
        place: Place,
        what: Sighting,
    ) -> Result<Applied, Refusal> {
        self.may_tell(&node)?;
        if self.sightings.len() >= limits::MAX_HISTORIES && !self.sightings.contains_key(&place) {
            return Ok(Applied::nothing());
        }
        let seen = self.sightings.entry(place.clone()).or_default();
        let count = match what {
            Sighting::WentAway => &mut seen.went_away,
            Sighting::Agreed => &mut seen.agreed,
            Sighting::Disagreed => &mut seen.disagreed,
        };
        *count = count.saturating_add(1);
        self.touched.insert(Row::Sightings(place.0, place.1));
        Ok(Applied::nothing())
    }

    /// Takes in which texts there are. What another text earned or lost is forgotten; the records of
    /// its runs stay on the chain.
    pub(super) fn tell_editions(
        &mut self,
        node: NodeId,
        editions: Vec<(PlaybookName, Digest)>,
    ) -> Result<Applied, Refusal> {
        self.may_tell(&node)?;
        if editions.len() > MAX_EDITIONS {
            return Err(Refusal::Full {
                what: "texts of playbooks in one command".into(),
                limit: MAX_EDITIONS as u64,
            });
        }
        if !editions.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Refusal::BadEntry(
                "texts of playbooks are told sorted, each once".into(),
            ));
        }
        for (playbook, digest) in editions {
            let known = self.editions.get(&playbook);
            if known == Some(&digest) || (known.is_none() && self.has_all_editions()) {
                continue;
            }
            // What came before any text was known of is not known to be of another.
            if known.is_some() {
                self.forget(&playbook);
            }
            self.touched.insert(Row::Edition(playbook.clone()));
            self.editions.insert(playbook, digest);
        }
        Ok(Applied::nothing())
    }

    fn has_all_editions(&self) -> bool {
        self.editions.len() >= limits::MAX_HISTORIES
    }

    /// Forgets how a playbook did.
    fn forget(&mut self, playbook: &PlaybookName) {
        let is_its = |place: &&Place| place.0 == *playbook;
        let ran: Vec<Place> = self.outcomes.keys().filter(is_its).cloned().collect();
        for place in ran {
            self.outcomes.remove(&place);
            self.touched.insert(Row::History(place.0, place.1));
        }
        let seen: Vec<Place> = self.sightings.keys().filter(is_its).cloned().collect();
        for place in seen {
            self.sightings.remove(&place);
            self.touched.insert(Row::Sightings(place.0, place.1));
        }
    }

    fn may_tell(&self, node: &NodeId) -> Result<(), Refusal> {
        if self.rules() < RULES_WITH_EDITIONS {
            return Err(super::too_early());
        }
        match self.is_enrolled(node) {
            true => Ok(()),
            false => Err(Refusal::UnknownNode(*node)),
        }
    }
}
