//! What a case's course was, and whether that is how it has to be.

use super::case::{Case, Expect};
use hale_model::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The right playbook ran unattended, and the service works.
    Resolved,
    /// A human is asked, and nothing was done.
    Asked,
    /// A human is told, and nothing was done.
    Escalated,
    /// Nobody is disturbed, and nothing was done.
    Nothing,
    /// A playbook ran that must not.
    Wrong,
    /// Something precious is lost, or what counts as success left a service that does not work.
    Harmed,
    /// It ended otherwise, or could not be carried out.
    Failed,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::Asked => "asked",
            Self::Escalated => "escalated",
            Self::Nothing => "nothing",
            Self::Wrong => "wrong",
            Self::Harmed => "harmed",
            Self::Failed => "failed",
        }
    }

    fn is(self, expected: Expect) -> bool {
        self.as_str() == expected.as_str()
    }
}

/// What was seen of the node since the fault.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The records on the chain.
    pub(crate) records: Vec<Value>,
    /// The approvals that ever waited, by id.
    pub(crate) approvals: BTreeMap<String, Value>,
    /// What runs.
    pub(crate) running: Vec<Value>,
}

/// The playbook of a record, if there is one.
pub(crate) fn playbook(record: &Value) -> &str {
    record["decision"]["playbook_selected"]
        .as_str()
        .unwrap_or_default()
}

fn status(record: &Value) -> &str {
    record["outcome"]["status"].as_str().unwrap_or_default()
}

fn is_manual(record: &Value) -> bool {
    record["decision"]["execution_mode"] == "manual"
}

/// Whether any of its steps did anything.
pub(crate) fn has_acted(record: &Value) -> bool {
    let lines = ["execution_log", "rollback_log"].map(|log| record[log].as_array());
    lines
        .into_iter()
        .flatten()
        .flatten()
        .any(|l| l["status"] != "skipped")
}

/// Whether a playbook that was started once more did well, or saw that it has nothing to do.
pub(crate) fn is_harmless(record: &Value) -> bool {
    status(record) == "success" || (!has_acted(record) && is_turned_away(record))
}

fn is_turned_away(record: &Value) -> bool {
    ["aborted", "escalated"].contains(&status(record))
}

impl Seen {
    /// What was done, asked or told so far, if anything.
    pub(crate) fn anything(&self) -> Option<String> {
        let told = |r: &Value| {
            let title = &r["incident_context"]["title"];
            format!("{} {} for {title}", playbook(r), status(r))
        };
        let told = self.records.iter().map(told);
        let asked = self.approvals.values();
        let asked = asked.map(|a| format!("{} is asked for: {}", a["playbook"], a["rationale"]));
        let runs = self
            .running
            .iter()
            .map(|r| format!("{} runs", r["playbook"]));
        told.chain(asked).chain(runs).next()
    }

    /// Whether any step was begun.
    pub(crate) fn has_acted(&self) -> bool {
        self.records.iter().any(has_acted)
    }

    fn unattended(&self) -> impl Iterator<Item = &Value> {
        self.records.iter().filter(|r| !is_manual(r))
    }

    /// The playbooks that did something and must not.
    pub(crate) fn wrong(&self, case: &Case) -> Vec<String> {
        let acted = self.records.iter().filter(|r| has_acted(r));
        let wrong = acted.filter(|r| !case.allows(playbook(r)));
        wrong.map(|r| playbook(r).to_owned()).collect()
    }

    /// The record of the success that the case expects.
    pub(crate) fn success(&self, case: &Case) -> Option<&Value> {
        self.unattended()
            .find(|r| status(r) == "success" && Some(playbook(r)) == case.told.playbook.as_deref())
    }

    /// The record of a run that did something and is no success.
    pub(crate) fn spoiled(&self) -> Option<&Value> {
        self.unattended()
            .find(|r| has_acted(r) && status(r) != "success")
    }

    fn is_escalated(&self, wanted: Option<&str>) -> bool {
        let mut told = self.unattended().filter(|r| is_turned_away(r));
        told.any(|r| wanted.is_none_or(|w| playbook(r) == w))
    }

    fn is_asked_for(&self, wanted: Option<&str>) -> bool {
        let mut asked = self.approvals.values();
        asked.any(|a| wanted.is_none() || a["playbook"].as_str() == wanted)
    }

    /// Whether the node has done what the case expects, as far as it can be seen already.
    pub(crate) fn is_as_expected(&self, case: &Case) -> bool {
        match case.told.expect {
            Expect::Resolved => self.success(case).is_some(),
            Expect::Asked => self.is_asked_for(case.told.playbook.as_deref()),
            Expect::Escalated => self.is_escalated(case.told.playbook.as_deref()),
            Expect::Nothing => false,
        }
    }

    /// Whether it can't get well any more.
    pub(crate) fn is_spoiled(&self, case: &Case) -> bool {
        !self.wrong(case).is_empty() || self.spoiled().is_some()
    }
}

/// Whether the scripts found the host well in the end; what they said if not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// `check`.
    pub(crate) check: Option<String>,
    /// `unharmed`.
    pub(crate) unharmed: Option<String>,
}

/// How it ended, and if that is not as it has to be, why not.
pub(crate) fn judge(case: &Case, seen: &Seen, health: &Health) -> (Outcome, Option<String>) {
    let outcome = outcome(case, seen, health);
    let why = match outcome {
        Outcome::Wrong => Some(format!("{} ran", seen.wrong(case).join(", "))),
        Outcome::Harmed => {
            let said = health.unharmed.as_ref().or(health.check.as_ref());
            said.cloned()
        }
        Outcome::Failed => seen.spoiled().map(|r| {
            format!(
                "{} ended as {}: {}",
                playbook(r),
                status(r),
                r["outcome"]["reason"]
            )
        }),
        Outcome::Asked if !seen.is_asked_for(case.told.playbook.as_deref()) => {
            let asked: Vec<_> = seen
                .approvals
                .values()
                .map(|a| a["playbook"].to_string())
                .collect();
            Some(format!("it asks for {}", asked.join(", ")))
        }
        Outcome::Escalated if !seen.is_escalated(case.told.playbook.as_deref()) => {
            let told: Vec<_> = seen.unattended().map(playbook).collect();
            Some(format!("a human is told of {}", told.join(", ")))
        }
        _ => None,
    };
    if outcome.is(case.told.expect) && why.is_none() {
        return (outcome, None);
    }
    let why = why.map(|w| format!(": {w}")).unwrap_or_default();
    let expected = case.told.expect.as_str();
    (
        outcome,
        Some(format!("{}, expected {expected}{why}", outcome.as_str())),
    )
}

fn outcome(case: &Case, seen: &Seen, health: &Health) -> Outcome {
    let success = seen.success(case).is_some();
    if !seen.wrong(case).is_empty() {
        Outcome::Wrong
    } else if health.unharmed.is_some() || (success && health.check.is_some()) {
        Outcome::Harmed
    } else if seen.spoiled().is_some() {
        Outcome::Failed
    } else if success {
        Outcome::Resolved
    } else if !seen.approvals.is_empty() {
        Outcome::Asked
    } else if seen.is_escalated(None) {
        Outcome::Escalated
    } else {
        Outcome::Nothing
    }
}

/// Seconds from a moment to a time that a record tells.
pub(crate) fn seconds_between(from: Timestamp, told: &Value) -> Option<f64> {
    let at: Timestamp = told.as_str()?.parse().ok()?;
    Some((at.as_millis() - from.as_millis()) as f64 / 1000.0)
}
