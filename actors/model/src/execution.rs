//! One run of a playbook: what is planned, what was done, how it ended.

use crate::canonical::{self, NotCanonical};
use crate::crypto::Digest;
use crate::decision::Decision;
use crate::id::{ExecutionId, Fence, HostName, IncidentId, PlaybookName, ServiceName};
use crate::incident::Incident;
use crate::ledger::Scope;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum Mode {
    /// Hale alone.
    Autonomous,
    /// A human agreed to Hale's proposal.
    Approved {
        /// Who.
        by: String,
    },
    /// A human started it by hand.
    Manual {
        /// Who.
        by: String,
    },
}

/// What is to be run, with every value settled. An approval is bound to its [`Plan::digest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The run's id.
    pub execution: ExecutionId,
    /// The incident it is for.
    pub incident: IncidentId,
    /// Where.
    pub host: HostName,
    /// For which service.
    pub service: Option<ServiceName>,
    /// What is leased for it.
    pub scope: Scope,
    /// Which playbook.
    pub playbook: PlaybookName,
    /// Its version.
    pub version: String,
    /// The SHA-256 of the playbook's canonical form.
    pub playbook_digest: Digest,
    /// The parameters, typed and settled; secrets by name only.
    pub params: BTreeMap<String, serde_json::Value>,
    /// Whether it may be run again without harm.
    pub idempotent: bool,
}

impl Plan {
    /// What an approval agrees to: playbook, parameters, place. The run's id is left out, so
    /// that the same plan made again after a restart is still the same plan.
    ///
    /// # Errors
    /// If a parameter has no canonical form.
    pub fn digest(&self) -> Result<Digest, NotCanonical> {
        canonical::digest(&serde_json::json!({
            "incident": self.incident,
            "host": self.host,
            "service": self.service,
            "scope": self.scope,
            "playbook": self.playbook,
            "version": self.version,
            "playbook_digest": self.playbook_digest,
            "params": self.params,
            "idempotent": self.idempotent,
        }))
    }
}

/// How one check or step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It did what it should.
    Success,
    /// It did not.
    Failed,
    /// It took longer than it may.
    TimedOut,
    /// It did not apply.
    Skipped,
    /// It failed, and the playbook only wants a warning.
    Warned,
    /// The lease ran out or the run was stopped while it ran.
    Interrupted,
}

/// One line of an execution's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// The step's or check's name.
    pub step: String,
    /// Its type: `sql_query`, `command`, …
    pub kind: String,
    /// When it started.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// How it ended.
    pub status: StepStatus,
    /// What it returned; secrets masked, bounded in size.
    pub result: serde_json::Value,
    /// Why it failed, or what it says.
    pub message: String,
    /// How many attempts it took.
    pub attempts: u32,
}

/// How an execution, or an incident without one, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeStatus {
    /// Every verification passed.
    Success,
    /// A pre-check said no; nothing was touched.
    Aborted,
    /// A step or verification failed and what was done was undone.
    RolledBack,
    /// A step failed and could not be undone, or there was nothing to undo it with.
    Failed,
    /// Handed to a human.
    Escalated,
    /// A human said no.
    Denied,
    /// No human answered in time.
    Expired,
    /// The node died or lost its lease mid-run, and the run was not taken up again.
    Abandoned,
    /// The signals were normal again before anything was done.
    SelfResolved,
}

impl OutcomeStatus {
    /// As text, as it stands in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Aborted => "aborted",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Escalated => "escalated",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Abandoned => "abandoned",
            Self::SelfResolved => "self_resolved",
        }
    }
}

/// How it ended, for the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// In a word.
    pub status: OutcomeStatus,
    /// Seconds from the incident's opening to its end.
    pub resolution_time_seconds: f64,
    /// Whether all verifications passed.
    pub verification_passed: bool,
    /// Whether anything was undone.
    pub rollback_triggered: bool,
    /// Whether a human has to look, or had to agree.
    pub human_intervention_required: bool,
    /// Why, in a sentence.
    pub reason: String,
}

/// All that is told of one incident when it ends: what the record is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionReport {
    /// The incident as it was decided on.
    pub incident: Incident,
    /// The decision; none for a run started by hand.
    pub decision: Option<Decision>,
    /// The plan; none if nothing was to be run.
    pub plan: Option<Plan>,
    /// Who started it.
    pub mode: Mode,
    /// The fence of the lease it ran under; none if nothing was run.
    pub fence: Option<Fence>,
    /// When the run began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The pre-execution checks.
    pub pre_check_log: Vec<LogLine>,
    /// The steps.
    pub execution_log: Vec<LogLine>,
    /// The verifications.
    pub verification_log: Vec<LogLine>,
    /// The undoing, in the order it was done.
    pub rollback_log: Vec<LogLine>,
    /// How it ended.
    pub outcome: Outcome,
}
