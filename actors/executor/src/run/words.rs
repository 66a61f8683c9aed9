//! What is said to a run and what it answers.

use crate::journal::{Finished, Intent, JournalRecord, Phase};
use hale_model::execution::Mode;
use hale_model::ledger::{Answer, Lease, LedgerError, Scope};
use hale_model::{
    ExecutionId, Fence, HostName, IncidentId, PlaybookName, ServiceName, Stage, StepStatus,
    Timestamp,
};
use hale_playbooks::Env;
use hale_playbooks::language::{Playbook, Step};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What to do, for whom and why.
    pub intent: Intent,
    /// The playbook that the plan names.
    pub playbook: Playbook,
    /// What its expressions see: see [`crate::env::base`].
    pub env: Env,
    /// Its bounds.
    pub limits: Limits,
}

/// The bounds of a run that its playbook does not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long the lease runs unless renewed.
    pub lease_ttl: Duration,
    /// How long it waits for a lease that another holds.
    pub queue_wait: Duration,
    /// How long it tries to have a lost lease again.
    pub regain_wait: Duration,
}

/// What a run is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A new run begins.
    Begin,
    /// A recovered run is taken up, with what the ledger knows of its lease, and whether its
    /// incident is still open.
    Resume {
        /// The grant of this execution that is not closed.
        lease: Option<Lease>,
        /// Whether the incident is open.
        is_open: bool,
    },
    /// A journal record is on the platter, or can't be put there.
    Journaled {
        /// Which.
        seq: u64,
        /// Whether it is.
        result: Result<(), String>,
    },
    /// The ledger's answer to [`Effect::Acquire`].
    Leased {
        /// To which question.
        ask: u64,
        /// What it said.
        answer: Result<Answer, LedgerError>,
    },
    /// The ledger's answer to [`Effect::Renew`].
    Renewed {
        /// To which question.
        ask: u64,
        /// What it said.
        answer: Result<Answer, LedgerError>,
    },
    /// An action ended, by itself or because it was stopped: nothing of it runs any more.
    Performed {
        /// Which.
        ticket: u64,
        /// How.
        result: ActionResult,
    },
    /// The incident's signals are normal again.
    IncidentResolved,
    /// The cluster was frozen or thawed.
    Frozen(bool),
    /// Time has passed: see [`super::Run::next_wake`].
    Tick,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write this down durably, then tell [`Event::Journaled`].
    Journal {
        /// Its number.
        seq: u64,
        /// What to write.
        record: JournalRecord,
    },
    /// Ask the ledger for the lease of this run's plan.
    Acquire {
        /// The question's number.
        ask: u64,
    },
    /// Ask the ledger to renew it.
    Renew {
        /// The question's number.
        ask: u64,
        /// Which lease.
        fence: Fence,
    },
    /// Run a check or step, then tell [`Event::Performed`].
    Perform(Box<Perform>),
    /// End the action, with a moment to end by itself.
    Stop {
        /// Which.
        ticket: u64,
    },
    /// Kill whatever this run has running, at once.
    KillChildren,
    /// Tell who watches.
    Progress(Progress),
    /// It is over: close the grant with this report, then forget the journal.
    Finish(Box<Finished>),
}

/// A check or step to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Perform {
    /// Its number in this run.
    pub ticket: u64,
    /// In which part.
    pub phase: Phase,
    /// What to run; its texts are not rendered yet.
    pub step: Step,
    /// What its texts see.
    pub env: Env,
    /// The longest it may take.
    pub timeout: Duration,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionResult {
    /// Success, or how it failed.
    pub status: StepStatus,
    /// What it returned, bounded and with secrets masked.
    pub result: Value,
    /// Why it failed and what to do, or what it says.
    pub message: String,
}

/// One thing to tell who watches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// When.
    pub at: Timestamp,
    /// Which stage.
    pub stage: Stage,
    /// Of which incident.
    pub incident: IncidentId,
    /// Of which run; none if none was planned.
    pub execution: Option<ExecutionId>,
    /// On which host.
    pub host: HostName,
    /// For which service.
    pub service: Option<ServiceName>,
    /// In a sentence.
    pub text: String,
    /// The numbers behind it.
    pub detail: Value,
}

/// A run as it is shown while it runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Running {
    /// Its id.
    pub execution: ExecutionId,
    /// What for.
    pub incident: IncidentId,
    /// Which playbook.
    pub playbook: PlaybookName,
    /// Who started it.
    pub mode: Mode,
    /// What is leased.
    pub scope: Scope,
    /// Under which fence, once it is.
    pub fence: Option<Fence>,
    /// When it began.
    pub started_at: Timestamp,
    /// What it does at the moment.
    pub doing: String,
    /// In which part it is; none while it waits for its lease.
    pub phase: Option<Phase>,
    /// The check or step it is at.
    pub step: Option<String>,
    /// How many checks and steps have ended.
    pub ended: usize,
}
