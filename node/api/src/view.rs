//! What a client is answered: the model's nouns, and these where a reader needs another shape.
//! `schemas.json` describes them; a test holds the two together.

mod cluster;
mod series;

pub use cluster::*;
pub use series::*;

use hale_model::chain::Entry;
use hale_model::decision::{Decision, Route};
use hale_model::execution::{Mode, Outcome, OutcomeStatus, Plan};
use hale_model::ledger::{Approval, ApprovalState, EntryKind, EntryRef, History};
use hale_model::record::Record;
use hale_model::{
    ApprovalId, Digest, ExecutionId, Fence, Happening, HostName, Incident, IncidentId,
    IncidentState, NodeId, PlaybookName, ServiceName, Severity, Signature, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// An error as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorView,
}

/// What went wrong and what to type next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// A word for programs: `not_found`, `refused`, …
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The next command to type, or what to change.
    pub next: String,
}

/// Whether the node does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether it does.
    pub ready: bool,
    /// What is missing, if it does not.
    pub reasons: Vec<String>,
}

/// The node at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The binary's version.
    pub version: String,
    /// The host it runs on.
    pub host: HostName,
    /// The host's environment.
    pub environment: String,
    /// The node's identity.
    pub node: NodeId,
    /// When it started.
    pub started_at: Timestamp,
    /// For how long it has run.
    pub uptime_seconds: u64,
    /// Whether it does its work.
    pub ready: bool,
    /// What is wrong, each with what to do about it.
    pub problems: Vec<String>,
    /// How often the sensors are read.
    pub interval_ms: u64,
    /// When they were last read.
    pub last_round_at: Option<Timestamp>,
    /// Series with a baseline.
    pub series: u64,
    /// Samples taken since the start.
    pub samples: u64,
    /// Samples and events dropped by limits since the start.
    pub dropped: u64,
    /// Incidents whose signals are not normal.
    pub incidents_open: u64,
    /// Approvals that wait for a human.
    pub approvals_waiting: u64,
    /// Executions that run now.
    pub executions_running: u64,
    /// Playbooks loaded.
    pub playbooks: u64,
    /// Whether execution is frozen.
    pub freeze: FreezeState,
    /// The ledger, as this node sees it.
    pub ledger: LedgerStatus,
}

/// Whether execution is frozen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FreezeState {
    /// Whether it is.
    pub frozen: bool,
    /// Who froze or thawed it last.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// A host this node knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Its name.
    pub host: HostName,
    /// Its node.
    pub node: Option<NodeId>,
    /// Its environment.
    pub environment: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// `alive`, `suspect`, `down`.
    pub state: String,
    /// When its sensors were last read.
    pub last_round_at: Option<Timestamp>,
    /// Incidents open on it; none if only that host's own node knows.
    pub incidents_open: Option<u64>,
}

/// What was gathered from many hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gathered<T> {
    /// All that was told.
    pub items: Vec<T>,
    /// Hosts that gave no answer in time: theirs are missing.
    pub silent: Vec<HostName>,
}

impl<T> From<Vec<T>> for Gathered<T> {
    fn from(items: Vec<T>) -> Self {
        let silent = Vec::new();
        Self { items, silent }
    }
}

/// An incident in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentRow {
    /// Its id.
    pub id: IncidentId,
    /// On which host.
    pub host: HostName,
    /// For which service.
    pub service: Option<ServiceName>,
    /// How grave.
    pub severity: Severity,
    /// Open or resolved.
    pub state: IncidentState,
    /// In a line.
    pub title: String,
    /// When it opened.
    pub opened_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its signals were normal again.
    pub resolved_at: Option<Timestamp>,
    /// The playbook that fits best.
    pub playbook: Option<PlaybookName>,
    /// The confidence in it.
    pub confidence: Option<f64>,
    /// Who may start it.
    pub route: Option<Route>,
    /// How it ended, if it has.
    pub outcome: Option<OutcomeStatus>,
}

impl IncidentRow {
    /// The row of an incident, of the decision about it and of how it ended.
    pub fn of(
        incident: &Incident,
        decision: Option<&Decision>,
        outcome: Option<OutcomeStatus>,
    ) -> Self {
        Self {
            id: incident.id.clone(),
            host: incident.host.clone(),
            service: incident.service.clone(),
            severity: incident.severity,
            state: incident.state,
            title: incident.title.clone(),
            opened_at: incident.opened_at,
            updated_at: incident.updated_at,
            resolved_at: incident.resolved_at,
            playbook: decision
                .and_then(|d| d.chosen())
                .map(|m| m.playbook.clone()),
            confidence: decision.map(|d| d.confidence.total),
            route: decision.map(|d| d.route),
            outcome,
        }
    }
}

/// One incident with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentView {
    /// The incident.
    pub incident: Incident,
    /// What was decided.
    pub decision: Option<Decision>,
    /// The execution that runs for it now.
    pub execution: Option<ExecutionView>,
    /// The approval that was asked for it.
    pub approval: Option<ApprovalView>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Its record in the chain.
    pub entry: Option<EntryRef>,
}

/// Why an incident was treated as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The incident.
    pub incident: IncidentRow,
    /// What was decided: the text, the matches, the confidence's parts, the gates.
    pub decision: Option<Decision>,
    /// What happened, in order, as far as this node remembers.
    pub story: Vec<Happening>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Its record in the chain.
    pub entry: Option<EntryRef>,
}

/// An approval as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Its id.
    pub id: ApprovalId,
    /// For which incident.
    pub incident: IncidentId,
    /// On which host.
    pub host: HostName,
    /// The node that will run it.
    pub node: NodeId,
    /// Which playbook.
    pub playbook: PlaybookName,
    /// Its version.
    pub version: String,
    /// What exactly is agreed to.
    pub plan_digest: Digest,
    /// The plan.
    pub plan: Value,
    /// Why Hale proposes it and why it asks.
    pub rationale: String,
    /// The confidence in it.
    pub confidence: f64,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// About when it expires; the leader's clock decides.
    pub expires_at: Timestamp,
    /// Where it stands.
    pub state: ApprovalState,
    /// Who answered.
    pub answered_by: Option<String>,
}

impl From<&Approval> for ApprovalView {
    fn from(a: &Approval) -> Self {
        let asked_at = Timestamp::from_millis(a.asked_at_ms);
        Self {
            id: a.id.clone(),
            incident: a.incident.clone(),
            host: a.host.clone(),
            node: a.node,
            playbook: a.playbook.clone(),
            version: a.version.clone(),
            plan_digest: a.plan_digest,
            plan: serde_json::from_slice(&a.plan).unwrap_or(Value::Null),
            rationale: a.rationale.clone(),
            confidence: f64::from(a.confidence_ppm) / 1e6,
            asked_at,
            expires_at: asked_at.plus(Duration::from_millis(a.ttl_ms)),
            state: a.state,
            answered_by: a.answered_by.clone(),
        }
    }
}

/// A playbook in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaybookRow {
    /// Its name.
    pub name: PlaybookName,
    /// Its version.
    pub version: String,
    /// What trouble it is for and what it does.
    pub description: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The services it is for.
    pub services: Vec<String>,
    /// Whether it may run again without harm.
    pub idempotent: bool,
    /// The most it may do unattended.
    pub max_route: Route,
    /// How far it is proven: `linted` or `proven`.
    pub proof: String,
    /// What it may do on this node by rule or by what it has earned: `shadow`, `ask` or `auto`.
    pub level: String,
    /// Why.
    pub level_reason: String,
    /// SHA-256 of its canonical form.
    pub digest: Digest,
    /// Where it came from: `library` or a file's path.
    pub source: String,
    /// Its verified outcomes, over all services.
    pub history: History,
}

/// A playbook with its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlaybookView {
    /// As in the list.
    #[serde(flatten)]
    pub row: PlaybookRow,
    /// The playbook as it was parsed.
    pub definition: Value,
    /// The YAML.
    pub text: String,
}

/// What a linter found in a playbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingView {
    /// In which file.
    pub file: String,
    /// In which line, from 1.
    pub line: u64,
    /// In which column, from 1.
    pub column: u64,
    /// `error` or `warning`.
    pub severity: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub instead: String,
}

/// One thing a plan would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// `pre_check`, `step`, `verification`, `rollback`.
    pub phase: String,
    /// Its name.
    pub name: String,
    /// Its type: `sql_query`, `command`, …
    pub kind: String,
    /// What it would do, with every value that is known before it runs.
    pub does: String,
}

/// A playbook started by hand, or its plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// The plan.
    pub plan: Plan,
    /// Its digest: what an approval would be bound to.
    pub plan_digest: Digest,
    /// What it would do, in order.
    pub steps: Vec<PlannedStep>,
    /// Whether only the plan was asked for.
    pub dry_run: bool,
    /// The run, if it was started.
    pub execution: Option<ExecutionId>,
    /// The approval it waits for, if it has to.
    pub approval: Option<ApprovalId>,
    /// The next command to type.
    pub next: String,
}

/// An execution that runs now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionView {
    /// Its id.
    pub id: ExecutionId,
    /// For which incident.
    pub incident: IncidentId,
    /// On which host.
    pub host: HostName,
    /// For which service.
    pub service: Option<ServiceName>,
    /// Which playbook.
    pub playbook: PlaybookName,
    /// Its version.
    pub version: String,
    /// Who started it.
    pub mode: Mode,
    /// The lease it runs under, once it has one.
    pub fence: Option<Fence>,
    /// `leasing`, `pre_checks`, `steps`, `verification`, `rollback`, `closing`.
    pub phase: String,
    /// The step that runs now.
    pub step: Option<String>,
    /// When it was planned.
    pub started_at: Timestamp,
}

/// A page of the chain, as the node gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryPage {
    /// The entries, by index.
    pub entries: Vec<Entry>,
    /// Where the next page begins; none if this is the last.
    pub next: Option<u64>,
    /// How many entries the chain has.
    pub total: u64,
}

/// An entry as it is shown. For reading: what is signed and hashed are the stored bytes, which
/// `/v1/audit/export` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryView {
    /// Its number.
    pub index: u64,
    /// What it tells.
    pub kind: EntryKind,
    /// The grant it belongs to; none if it needed none.
    pub fence: Option<Fence>,
    /// Its hash.
    pub hash: Digest,
    /// The hash of the entry before it.
    pub previous: Digest,
    /// Who says it.
    pub signer: NodeId,
    /// The signature.
    pub signature: Signature,
    /// What it says; a record comes with its proof.
    pub body: Value,
}

impl From<&Entry> for EntryView {
    fn from(e: &Entry) -> Self {
        let record = (e.kind == EntryKind::Record)
            .then(|| Record::with_proof(e))
            .flatten();
        Self {
            index: e.index,
            kind: e.kind,
            fence: (e.fence.0 != 0).then_some(e.fence),
            hash: e.hash(),
            previous: e.previous,
            signer: e.signer,
            signature: e.signature,
            body: record.unwrap_or_else(|| {
                serde_json::from_slice(&e.body)
                    .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&e.body).into()))
            }),
        }
    }
}

/// What a verification of the chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Whether everything holds.
    pub valid: bool,
    /// Entries looked at.
    pub entries: u64,
    /// Entries that follow the one before them.
    pub chain: u64,
    /// Signatures that hold.
    pub signatures: u64,
    /// The hash of the last entry.
    pub tip: Digest,
    /// The Merkle tree's root over all entries (RFC 6962).
    pub root: Digest,
    /// What does not hold, and where.
    pub problems: Vec<ChainProblem>,
}

/// Something in the chain that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainProblem {
    /// In which entry, if it is in one.
    pub index: Option<u64>,
    /// What.
    pub what: String,
}
