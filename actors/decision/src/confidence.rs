//! How sure, and who may start it: the calibrated similarity, plus history, plus recurrence, and the
//! gates that a decision has to pass. Every part is visible, and every gate says what would have
//! flipped it.

mod gates;

use crate::catalogue::Entry;
use crate::coefficients::Coefficients;
use crate::features;
use crate::rank::{Candidate, Ranking};
use hale_model::ledger::History;
use hale_model::{Confidence, Decision, Incident, Match, Route, Share};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A playbook for another product than the incident's is at most this likely: it asks.
const OTHER_PRODUCT_AT_MOST: f64 = 0.85;
/// Where acting could make harm worse, a match is at most this likely: it asks.
const DANGER_AT_MOST: f64 = 0.80;
/// With too few kinds of evidence a real incident's match is at most this likely: it asks.
const THIN_EVIDENCE_AT_MOST: f64 = 0.89;
/// Where another playbook has a sentence that is nearer to the text, and nothing but the text speaks of
/// it, a match is at most this likely: it asks.
const NOT_NEAREST_AT_MOST: f64 = 0.89;
/// How many kinds of evidence a match needs to run unattended.
pub const KINDS_NEEDED: u32 = 2;
/// What is believed of a playbook before it ran: nine of ten runs verified.
const PRIOR: (f64, f64) = (9.0, 1.0);
/// How far history can move the confidence.
const HISTORY_WEIGHT: f64 = 0.3;
/// What each earlier incident of the kind adds, and how much they add at most.
const RECURRENCE_EACH: f64 = 0.005;
const RECURRENCE_AT_MOST: f64 = 0.02;
/// How many matches a decision tells.
const TOLD: usize = 5;

/// From which confidence on what is done, and what else bounds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// From here on a playbook runs unattended.
    pub execute: f64,
    /// From here on a human is asked.
    pub ask: f64,
    /// By how much the first has to lead the second, as shares of the search.
    pub lead: f64,
    /// The most that is allowed here, whatever the playbook allows.
    pub max_route: Route,
    /// Why: the level that was earned or ruled.
    pub level: String,
    /// After so many incidents of the kind in thirty days a human is asked for the cause; never if 0.
    pub root_cause_after: u32,
    /// How long a series has to be known, in seconds, before a deviation alone lets anything run.
    pub learn_first_seconds: u64,
    /// Why the cluster is frozen, if it is.
    pub frozen: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            execute: 0.90,
            ask: 0.70,
            lead: 0.20,
            max_route: Route::Execute,
            level: String::new(),
            root_cause_after: 10,
            learn_first_seconds: 600,
            frozen: None,
        }
    }
}

/// The calibrated probability that the first playbook is the right one.
pub fn similarity_of_first(ranking: &Ranking, coefficients: &Coefficients, is_live: bool) -> f64 {
    let Some(first) = ranking.playbooks.first() else {
        return 0.0;
    };
    let mut p = coefficients.calibrate(&ranking.signs);
    if ranking.is_other_product {
        p = p.min(OTHER_PRODUCT_AT_MOST);
    }
    if ranking.danger.is_some() {
        p = p.min(DANGER_AT_MOST);
    }
    if !is_told_apart(ranking) {
        p = p.min(NOT_NEAREST_AT_MOST);
    }
    if is_live && first.evidence.kinds() < KINDS_NEEDED {
        p = p.min(THIN_EVIDENCE_AT_MOST);
    }
    p
}

/// Whether the first playbook has the nearest sentence, or a log line of its signature has come, or a
/// strong probe has found what it is for.
pub(crate) fn is_told_apart(ranking: &Ranking) -> bool {
    let is_found = |f: &hale_model::Finding| f.is_strong && f.found == Some(true);
    let has_evidence =
        |first: &Candidate| first.evidence.logs > 0 || first.findings.iter().any(is_found);
    ranking.is_nearest_by_sentence || ranking.playbooks.first().is_some_and(has_evidence)
}

/// How often it is taken to have helped: of what goes away by itself so often, that share of its
/// successes would have come without it.
fn helped(history: &History) -> f64 {
    let (right, wrong) = (history.succeeded as f64, history.failed as f64);
    let away = history.went_away as f64;
    match away {
        0.0 => right,
        _ => right * (1.0 - away / (away + right + wrong)),
    }
}

/// The parts of the confidence in a match. History is nought without a history; recurrence lifts
/// nothing over a threshold by itself.
pub fn confidence(
    similarity: f64,
    history: History,
    recurrence_30d: u32,
    policy: &Policy,
) -> Confidence {
    let wrong = history.failed as f64;
    let right = helped(&history);
    let believed = PRIOR.0 / (PRIOR.0 + PRIOR.1);
    // The mean of a Beta posterior, against the mean of its prior.
    let mean = (PRIOR.0 + right) / (PRIOR.0 + PRIOR.1 + right + wrong);
    let history = (mean - believed) * HISTORY_WEIGHT;
    let base = (similarity + history).clamp(0.0, 1.0);
    let bonus = (f64::from(recurrence_30d) * RECURRENCE_EACH).min(RECURRENCE_AT_MOST);
    let next = [policy.ask, policy.execute]
        .into_iter()
        .find(|t| *t > base)
        .unwrap_or(1.0);
    // Just below the next threshold, in the fourth digit that people are shown.
    let room = if next < 1.0 {
        next - 1e-4 - base
    } else {
        1.0 - base
    };
    let recurrence = bonus.min(room).max(0.0);
    Confidence {
        similarity,
        history,
        recurrence,
        total: (base + recurrence).clamp(0.0, 1.0),
    }
}

/// How the host was looked at for a decision; the later, the less is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Looked {
    /// Nothing had to be looked at.
    #[default]
    Nothing,
    /// Probes looked, and under this.
    Under(Share),
    /// Probes were asked for and did not answer in time.
    Unanswered,
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    /// The incident.
    pub incident: &'a Incident,
    /// The text that was embedded.
    pub text: &'a str,
    /// The search's result.
    pub ranking: &'a Ranking,
    /// How the host was looked at: of several looks the one that tells least.
    pub looked: &'a Looked,
    /// The entries that its candidates refer to.
    pub entries: &'a [Entry],
    /// The coefficients it was ranked with.
    pub coefficients: &'a Coefficients,
    /// Verified outcomes of the first playbook on the incident's service.
    pub history: History,
    /// What is allowed.
    pub policy: &'a Policy,
}

/// The decision: matches, confidence, gates and the route they leave open.
pub fn route(grounds: &Grounds<'_>) -> Decision {
    let similarity = similarity_of_first(grounds.ranking, grounds.coefficients, true);
    let confidence = confidence(
        similarity,
        grounds.history,
        grounds.incident.recurrence_30d,
        grounds.policy,
    );
    let (gates, route) = gates::pass(grounds, &confidence);
    let matches: Vec<Match> = grounds
        .ranking
        .playbooks
        .iter()
        .take(TOLD)
        .enumerate()
        .map(|(i, candidate)| {
            let share = candidate.probability.min(similarity);
            matched(
                &grounds.entries[candidate.entry],
                candidate,
                if i == 0 { similarity } else { share },
            )
        })
        .collect();
    Decision {
        incident: grounds.incident.id.clone(),
        at: grounds.incident.updated_at,
        text: grounds.text.to_owned(),
        rationale: rationale(&matches, &confidence, route, &gates),
        matches,
        confidence,
        route,
        gates,
        took_us: 0,
    }
}

fn matched(entry: &Entry, candidate: &Candidate, similarity: f64) -> Match {
    let named = features::NAMES.iter().zip(candidate.features);
    let text = named
        .filter(|(_, v)| *v != 0.0)
        .map(|(n, v)| ((*n).to_owned(), v));
    let e = candidate.evidence;
    let evidence = [
        ("evidence_series", f64::from(e.series)),
        ("evidence_logs", f64::from(e.logs)),
        ("evidence_service", f64::from(u8::from(e.service))),
        ("evidence_consumer", f64::from(u8::from(e.consumer))),
        ("evidence_probes", e.probes),
        ("share", candidate.probability),
    ];
    let evidence = evidence
        .into_iter()
        .filter(|(_, v)| *v != 0.0)
        .map(|(n, v)| (n.to_owned(), v));
    let features: BTreeMap<String, f64> = text.chain(evidence).collect();
    Match {
        playbook: entry.name.clone(),
        version: entry.version.clone(),
        similarity,
        features,
        findings: candidate.findings.clone(),
    }
}

fn rationale(
    matches: &[Match],
    c: &Confidence,
    route: Route,
    gates: &[hale_model::Gate],
) -> String {
    let Some(first) = matches.first() else {
        return "No playbook is loaded: a person has to look.".into();
    };
    let sureness = format!(
        "{} fits with {:.2} ({:.2} similarity, {:+.2} history, {:+.2} recurrence)",
        first.playbook, c.total, c.similarity, c.history, c.recurrence
    );
    let held_back: Vec<&str> = gates
        .iter()
        .filter(|g| !g.passed)
        .map(|g| g.name.as_str())
        .collect();
    match (route, held_back.is_empty()) {
        (Route::Execute, _) => format!("{sureness}; every gate passed, so it runs."),
        (Route::Ask, _) => format!(
            "{sureness}; held back by {}, so a human is asked.",
            held_back.join(", ")
        ),
        (Route::Escalate, _) => format!(
            "{sureness}; held back by {}, so a person has to look.",
            held_back.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_a_history_nothing_is_added() {
        let c = confidence(0.8, History::default(), 0, &Policy::default());
        assert_eq!((c.history, c.recurrence, c.total), (0.0, 0.0, 0.8));
    }

    #[test]
    fn failures_take_more_away_than_successes_add() {
        let with = |succeeded, failed| {
            let history = History {
                succeeded,
                failed,
                ..History::default()
            };
            confidence(0.9, history, 0, &Policy::default()).history
        };
        assert!(with(20, 0) > 0.0 && with(0, 3) < 0.0);
        assert!(with(3, 0) < -with(0, 3));
    }

    #[test]
    fn what_goes_away_by_itself_earns_less() {
        let with = |went_away| {
            let history = History {
                succeeded: 10,
                went_away,
                ..History::default()
            };
            confidence(0.9, history, 0, &Policy::default()).history
        };
        assert!(with(0) > with(5) && with(5) > with(50) && with(50) >= 0.0);
    }

    proptest! {
        #[test]
        fn recurrence_never_lifts_over_a_threshold_by_itself(similarity in 0.0f64..1.0, n in 0u32..1000) {
            let policy = Policy::default();
            let (with, without) = (
                confidence(similarity, History::default(), n, &policy),
                confidence(similarity, History::default(), 0, &policy),
            );
            prop_assert!(with.recurrence <= 0.02 + 1e-12);
            for threshold in [policy.ask, policy.execute] {
                prop_assert_eq!(with.total >= threshold, without.total >= threshold);
            }
        }

        #[test]
        fn the_total_is_a_probability(s in 0.0f64..=1.0, ok in 0u64..1000, bad in 0u64..1000, n: u32) {
            let history = History { succeeded: ok, failed: bad, went_away: u64::from(n), ..History::default() };
            let c = confidence(s, history, n, &Policy::default());
            prop_assert!((0.0..=1.0).contains(&c.total));
        }
    }
}
