//! Incidents for which a playbook was chosen that may not run alone: whether they went away without
//! it, and whether one in shadow was right. Kept in memory: what a restart forgets is not counted.

use hale_model::execution::Mode;
use hale_model::ledger::Sighting;
use hale_model::{
    ExecutionReport, Incident, IncidentId, OutcomeStatus, PlaybookName, ServiceName, Timestamp,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most incidents that are remembered; the one that opened first gives way.
const MOST: usize = 256;
/// What a human ran after this long was not for the incident any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What became of an incident whose playbook did not run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) playbook: PlaybookName,
    pub(super) service: Option<ServiceName>,
    pub(super) what: Sighting,
}

#[derive(Debug, Clone)]
struct Chosen {
    playbook: PlaybookName,
    service: Option<ServiceName>,
    is_shadow: bool,
    opened_at: Timestamp,
    /// A run for it began: it did not go away by itself.
    has_begun: bool,
}

impl Chosen {
    fn seen(self, what: Sighting) -> Seen {
        Seen {
            playbook: self.playbook,
            service: self.service,
            what,
        }
    }
}

/// What was chosen, by incident.
#[derive(Debug, Default)]
pub(super) struct Unrun(Mutex<BTreeMap<IncidentId, Chosen>>);

impl Unrun {
    fn all(&self) -> MutexGuard<'_, BTreeMap<IncidentId, Chosen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A playbook was chosen, and may not run alone.
    pub(super) fn chosen(&self, incident: &Incident, playbook: PlaybookName, is_shadow: bool) {
        let mut all = self.all();
        let oldest = all.iter().min_by_key(|(_, c)| c.opened_at);
        if all.len() >= MOST
            && !all.contains_key(&incident.id)
            && let Some(oldest) = oldest.map(|(id, _)| id.clone())
        {
            all.remove(&oldest);
        }
        let has_begun = all.get(&incident.id).is_some_and(|c| c.has_begun);
        let chosen = Chosen {
            playbook,
            service: incident.service.clone(),
            is_shadow,
            opened_at: incident.opened_at,
            has_begun,
        };
        all.insert(incident.id.clone(), chosen);
    }

    /// It may run alone, or nothing was chosen.
    pub(super) fn forget(&self, incident: &IncidentId) {
        self.all().remove(incident);
    }

    /// A run for it, or for what it concerns, is under way.
    pub(super) fn begun(&self, incident: &IncidentId, service: Option<&ServiceName>) {
        for (id, chosen) in &mut *self.all() {
            chosen.has_begun |= id == incident || chosen.service.as_ref() == service;
        }
    }

    /// Its signals are normal again.
    pub(super) fn resolved(&self, incident: &IncidentId) -> Vec<Seen> {
        let mut all = self.all();
        match all.get(incident) {
            Some(c) if !c.has_begun => {}
            _ => return vec![],
        }
        let gone = all.remove(incident);
        gone.map(|c| c.seen(Sighting::WentAway))
            .into_iter()
            .collect()
    }

    /// A run ended.
    pub(super) fn finished(&self, report: &ExecutionReport) -> Vec<Seen> {
        let Some(plan) = &report.plan else {
            return vec![];
        };
        let mut all = self.all();
        let own = all.remove(&report.incident.id);
        match report.outcome.status {
            // One that waited for a human is counted when its signals are normal again.
            OutcomeStatus::SelfResolved if own.is_some() || report.mode == Mode::Autonomous => {
                vec![Seen {
                    playbook: plan.playbook.clone(),
                    service: plan.service.clone(),
                    what: Sighting::WentAway,
                }]
            }
            OutcomeStatus::Success => {
                // What a human runs by hand has an incident of its own.
                let is_manual = matches!(report.mode, Mode::Manual { .. });
                let is_meant = |c: &Chosen| {
                    is_manual
                        && c.is_shadow
                        && c.service == plan.service
                        && report.ended_at.since(c.opened_at) < FORGOTTEN_AFTER
                };
                let meant: Vec<IncidentId> = all
                    .iter()
                    .filter(|(_, c)| is_meant(c))
                    .map(|(id, _)| id.clone())
                    .collect();
                let meant = meant.iter().filter_map(|id| all.remove(id));
                let meant: Vec<Chosen> = meant.collect();
                own.into_iter()
                    .filter(|c| c.is_shadow)
                    .chain(meant)
                    .map(|c| {
                        let what = if c.playbook == plan.playbook {
                            Sighting::Agreed
                        } else {
                            Sighting::Disagreed
                        };
                        c.seen(what)
                    })
                    .collect()
            }
            _ => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::execution::Plan;
    use hale_model::ledger::Scope;
    use hale_model::{Digest, ExecutionId, HostName, IncidentState, Outcome, Severity};

    fn name(of: &str) -> PlaybookName {
        PlaybookName::new(of).unwrap()
    }

    fn incident(n: i64) -> Incident {
        let at = Timestamp::from_millis(1_760_000_000_000 + n * 1000);
        Incident {
            id: IncidentId::at(at, n as u32),
            host: HostName::new("host-1").unwrap(),
            environment: "test".into(),
            service: Some(ServiceName::new("shop").unwrap()),
            tags: BTreeMap::new(),
            opened_at: at,
            updated_at: at,
            resolved_at: None,
            state: IncidentState::Open,
            severity: Severity::Warning,
            title: String::new(),
            anomalies: vec![],
            events: vec![],
            top_consumers: vec![],
            signature: Digest::ZERO,
            recurrence_30d: 0,
        }
    }

    fn report(
        incident: Incident,
        playbook: &str,
        mode: Mode,
        status: OutcomeStatus,
    ) -> ExecutionReport {
        let plan = Plan {
            execution: ExecutionId::new("exe_1").unwrap(),
            incident: incident.id.clone(),
            host: HostName::new("host-1").unwrap(),
            service: incident.service.clone(),
            scope: Scope::Custom("all".into()),
            playbook: name(playbook),
            version: "1.0.0".into(),
            playbook_digest: Digest::ZERO,
            params: BTreeMap::new(),
            idempotent: true,
        };
        let at = incident.opened_at;
        ExecutionReport {
            incident,
            decision: None,
            plan: Some(plan),
            mode,
            fence: None,
            started_at: at,
            ended_at: at,
            pre_check_log: vec![],
            execution_log: vec![],
            verification_log: vec![],
            rollback_log: vec![],
            outcome: Outcome {
                status,
                resolution_time_seconds: 1.0,
                verification_passed: true,
                rollback_triggered: false,
                human_intervention_required: false,
                reason: String::new(),
            },
        }
    }

    fn manual() -> Mode {
        Mode::Manual { by: "ana".into() }
    }

    #[test]
    fn what_nobody_acted_on_went_away() {
        let unrun = Unrun::default();
        unrun.chosen(&incident(1), name("restart"), false);
        let seen = unrun.resolved(&incident(1).id);
        assert_eq!(seen[0].what, Sighting::WentAway);
        assert!(unrun.resolved(&incident(1).id).is_empty(), "once");
        // Somebody is at it.
        unrun.chosen(&incident(2), name("restart"), false);
        unrun.begun(&incident(9).id, incident(2).service.as_ref());
        assert!(unrun.resolved(&incident(2).id).is_empty());
    }

    #[test]
    fn a_run_that_found_nothing_to_do_counts_as_gone_away() {
        let unrun = Unrun::default();
        let report = report(
            incident(1),
            "restart",
            Mode::Autonomous,
            OutcomeStatus::SelfResolved,
        );
        assert_eq!(unrun.finished(&report)[0].what, Sighting::WentAway);
    }

    #[test]
    fn shadow_is_held_against_what_a_human_ran() {
        let unrun = Unrun::default();
        for (shadow, ran, what) in [
            ("restart", "restart", Sighting::Agreed),
            ("reload", "restart", Sighting::Disagreed),
        ] {
            unrun.chosen(&incident(1), name(shadow), true);
            let report = report(incident(2), ran, manual(), OutcomeStatus::Success);
            let seen = unrun.finished(&report);
            assert_eq!((seen.len(), seen[0].what), (1, what));
            assert_eq!(seen[0].playbook, name(shadow));
        }
        // What failed says nothing, nor what was not in shadow.
        unrun.chosen(&incident(1), name("restart"), true);
        let failed = report(incident(2), "restart", manual(), OutcomeStatus::Failed);
        assert!(unrun.finished(&failed).is_empty());
        unrun.chosen(&incident(1), name("restart"), false);
        let asked = report(incident(2), "reload", manual(), OutcomeStatus::Success);
        assert!(unrun.finished(&asked).is_empty());
    }

    #[test]
    fn only_so_many_are_remembered() {
        let unrun = Unrun::default();
        for n in 0..(MOST as i64 + 50) {
            unrun.chosen(&incident(n), name("restart"), false);
        }
        assert_eq!(unrun.all().len(), MOST);
        assert!(unrun.resolved(&incident(0).id).is_empty());
        assert!(!unrun.resolved(&incident(MOST as i64 + 49).id).is_empty());
    }
}
