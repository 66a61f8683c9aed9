//! Which playbook, how sure, and who may start it.

use crate::id::{Fence, IncidentId, PlaybookName};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Who may start the playbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// A human has to find out: nothing fits well enough.
    Escalate,
    /// A human has to agree first.
    Ask,
    /// Hale starts it alone.
    Execute,
}

impl Route {
    /// As text: `escalate`, `ask`, `execute`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Escalate => "escalate",
            Self::Ask => "ask",
            Self::Execute => "execute",
        }
    }
}

/// A playbook and how well it fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Match {
    /// Which playbook.
    pub playbook: PlaybookName,
    /// Its semantic version.
    pub version: String,
    /// How well it fits, calibrated: the probability that it is the right one.
    pub similarity: f64,
    /// What the similarity was made of, by name: `dense`, `lexical`, `metric`, `service`, …
    pub features: BTreeMap<String, f64>,
    /// What its probes found on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// What a look at the host found that tells whether a playbook fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The probe's name.
    pub probe: String,
    /// Whether it found what the playbook is for; none if it could not find out.
    pub found: Option<bool>,
    /// Whether it all but settles it.
    pub is_strong: bool,
    /// Whether it keeps the playbook from running here at all.
    #[serde(default)]
    pub rules_out: bool,
    /// What was seen, for people.
    pub saw: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What the probes of some playbooks found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// By playbook.
    pub found: Vec<(PlaybookName, Vec<Finding>)>,
    /// Under what they looked; none if none of them looked.
    pub share: Option<Share>,
}

/// Whether others were kept from acting while probes looked; the later, the less is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// They were: a shared lease was held.
    Held(Fence),
    /// They were not, and why.
    Without(String),
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(fence) => write!(f, "under shared lease {fence}"),
            Self::Without(why) => write!(f, "without a lease: {why}"),
        }
    }
}

/// The parts of the confidence; they add up to `total`, clamped to 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Confidence {
    /// The best match's similarity.
    pub similarity: f64,
    /// What verified outcomes of this playbook on this service add or take away.
    pub history: f64,
    /// What a recurring incident adds: at most 0.02.
    pub recurrence: f64,
    /// The sum, clamped.
    pub total: f64,
}

/// One thing that had to hold, with its value and what it had to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// Its name: `confidence`, `idempotent`, `runner_up`, `frozen`.
    pub name: String,
    /// Whether it let the incident pass to the next better route.
    pub passed: bool,
    /// The value that was seen.
    pub value: String,
    /// What it had to be.
    pub needed: String,
    /// The change that would have flipped it.
    pub flip: String,
}

/// The chosen playbook with a calibrated confidence and a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// For which incident.
    pub incident: IncidentId,
    /// When.
    pub at: Timestamp,
    /// The incident as text, as it was embedded.
    pub text: String,
    /// The best matches, best first, five at most.
    pub matches: Vec<Match>,
    /// The parts of the confidence in the first.
    pub confidence: Confidence,
    /// Who may start it.
    pub route: Route,
    /// Why, in a sentence.
    pub rationale: String,
    /// What had to hold.
    pub gates: Vec<Gate>,
    /// Microseconds from the incident to this decision.
    pub took_us: u64,
}

impl Decision {
    /// The playbook it is about, unless nothing fits at all.
    pub fn chosen(&self) -> Option<&Match> {
        self.matches.first()
    }
}
