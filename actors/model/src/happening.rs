//! What a node tells live of an incident's way, stage by stage: for the event stream, the demo
//! and `hale audit tail`. It is a convenience; the truth is the chain.

use crate::id::{HostName, IncidentId, ServiceName};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A stage on an incident's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// An incident opened: the anomaly's value, baseline and sigma.
    Detected,
    /// The incident as text.
    Understood,
    /// The five best matches.
    Matched,
    /// The confidence, its parts and the route.
    Confident,
    /// A human is asked.
    Asked,
    /// A human, or time, answered.
    Answered,
    /// A lease was granted.
    Leased,
    /// A pre-check ended.
    Checked,
    /// A step ended.
    Acted,
    /// A verification ended.
    Verified,
    /// Something was undone.
    Undone,
    /// The record is on the chain.
    Recorded,
    /// The signals are normal again.
    Resolved,
    /// Handed to a human.
    Escalated,
    /// Execution was frozen or thawed.
    Frozen,
}

impl Stage {
    /// As text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detected => "detected",
            Self::Understood => "understood",
            Self::Matched => "matched",
            Self::Confident => "confident",
            Self::Asked => "asked",
            Self::Answered => "answered",
            Self::Leased => "leased",
            Self::Checked => "checked",
            Self::Acted => "acted",
            Self::Verified => "verified",
            Self::Undone => "undone",
            Self::Recorded => "recorded",
            Self::Resolved => "resolved",
            Self::Escalated => "escalated",
            Self::Frozen => "frozen",
        }
    }
}

/// One thing that happened on an incident's way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// Its number since the node started, from 1, without a gap: a follower sees what it missed.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Which stage.
    pub stage: Stage,
    /// Of which incident.
    pub incident: Option<IncidentId>,
    /// On which host.
    pub host: HostName,
    /// For which service.
    pub service: Option<ServiceName>,
    /// In a sentence, for people.
    pub text: String,
    /// The numbers behind it.
    pub detail: serde_json::Value,
}
