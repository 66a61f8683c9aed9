//! What is said to the ledger and what it answers. The state machine itself lives in
//! `node/consensus`; these are its words. They hold no clock, no float and no hash map: applying
//! the same commands gives the same bytes on every node.

mod policy;
mod refusal;

pub use policy::{Budget, BudgetLimit, Token, Waiting, WaitsFor};
pub use refusal::{LedgerError, Refusal};

use crate::chain::Entry;
use crate::crypto::{Digest, NodeId, Signature};
use crate::execution::OutcomeStatus;
use crate::id::{
    ApprovalId, ExecutionId, Fence, HostName, IncidentId, PlaybookName, ServiceName, TokenId,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a lease is on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One host as a whole.
    Host(HostName),
    /// One service on one host.
    Service(HostName, ServiceName),
    /// A name of the operators' own, cluster-wide.
    Custom(String),
}

impl Scope {
    /// Whether holding one must keep others from the other: a host excludes its services.
    pub fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(a), Self::Host(b) | Self::Service(b, _))
            | (Self::Service(b, _), Self::Host(a)) => a == b,
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(h) => write!(f, "host:{h}"),
            Self::Service(h, s) => write!(f, "service:{h}:{s}"),
            Self::Custom(c) => write!(f, "custom:{c}"),
        }
    }
}

/// What an entry of the chain tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A node was enrolled.
    Enrolment,
    /// A lease was granted: what is about to be done, before it is done.
    Intent,
    /// How it ended.
    Record,
    /// A human was asked, or answered, or did not.
    Approval,
    /// The cluster was frozen or thawed.
    Freeze,
    /// A node was taken off the roster.
    Removal,
    /// A join token was made or revoked.
    Token,
    /// A budget was set or dropped.
    Budget,
    /// The ledger goes on from one node's copy, after its quorum or all of its nodes were lost.
    Recovery,
}

impl EntryKind {
    /// Its number in an entry's bytes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Enrolment => 0,
            Self::Intent => 1,
            Self::Record => 2,
            Self::Approval => 3,
            Self::Freeze => 4,
            Self::Removal => 5,
            Self::Token => 6,
            Self::Budget => 7,
            Self::Recovery => 8,
        }
    }

    /// The kind with this number.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Enrolment,
            1 => Self::Intent,
            2 => Self::Record,
            3 => Self::Approval,
            4 => Self::Freeze,
            5 => Self::Removal,
            6 => Self::Token,
            7 => Self::Budget,
            8 => Self::Recovery,
            _ => return None,
        })
    }

    /// As text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enrolment => "enrolment",
            Self::Intent => "intent",
            Self::Record => "record",
            Self::Approval => "approval",
            Self::Freeze => "freeze",
            Self::Removal => "removal",
            Self::Token => "token",
            Self::Budget => "budget",
            Self::Recovery => "recovery",
        }
    }
}

/// Canonical JSON with its node's signature: what becomes an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// What it tells.
    pub kind: EntryKind,
    /// Canonical JSON (RFC 8785), at most [`MAX_BODY_BYTES`].
    #[serde(with = "crate::bytes")]
    pub body: Vec<u8>,
    /// Who says it.
    pub signer: NodeId,
    /// Over [`crate::chain::signing_bytes`] of kind and body.
    pub signature: Signature,
}

/// The largest body of an entry, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// How a grant is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// The work was done.
    Done,
    /// It was undone.
    RolledBack,
    /// Nothing was touched.
    Released,
    /// Nobody finished it.
    Abandoned,
}

/// What a node may ask of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Puts a node on the roster.
    Enrol {
        /// Its key.
        node: NodeId,
        /// Its host.
        host: HostName,
        /// For the chain.
        entry: Signed,
    },
    /// Asks for the exclusive right to act.
    Acquire(Acquire),
    /// Runs a lease for another full ttl, counted from the leader's applying it.
    Renew {
        /// Which.
        fence: Fence,
        /// Who holds it.
        holder: NodeId,
        /// For how long, in milliseconds.
        ttl_ms: u64,
    },
    /// The leader's own clock has run the full ttl since it applied the grant (or its last
    /// renewal, `generation` of them): the lease ends, its grant stays open until it is closed.
    Expire {
        /// Which.
        fence: Fence,
        /// How many renewals the leader had seen; a later renewal makes this stale.
        generation: u64,
    },
    /// Closes a grant, exactly once, with its record.
    Close {
        /// Which grant.
        fence: Fence,
        /// Who held it.
        holder: NodeId,
        /// How.
        disposition: Disposition,
        /// How the run ended, for the playbook's statistics.
        outcome: OutcomeStatus,
        /// For the chain.
        entry: Signed,
    },
    /// Writes a record that needed no lease: escalated, denied, expired, resolved by itself.
    Append {
        /// For the chain.
        entry: Signed,
    },
    /// Puts a plan before a human.
    AskApproval(Approval),
    /// A human's answer.
    Answer {
        /// To which question.
        approval: ApprovalId,
        /// The digest of the plan that was shown.
        plan_digest: Digest,
        /// Yes or no.
        approve: bool,
        /// Who.
        by: String,
        /// For the chain.
        entry: Signed,
    },
    /// An approval that no longer waits: the leader's clock ran out, or the plan changed.
    CloseApproval {
        /// Which.
        approval: ApprovalId,
        /// Why.
        state: ApprovalState,
        /// For the chain; the leader signs it.
        entry: Signed,
    },
    /// Stops or allows all execution.
    Freeze {
        /// Stop or allow.
        frozen: bool,
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// For the chain.
        entry: Signed,
    },
    /// Makes a join token.
    CreateToken {
        /// Its id.
        id: TokenId,
        /// The hash of its secret: what both ends of a join prove knowledge of. The secret itself
        /// is never said to the ledger, nor to the chain.
        verifier: Digest,
        /// How many nodes may join with it.
        uses: u32,
        /// For how long, in milliseconds, by the leader's clock.
        ttl_ms: u64,
        /// Who made it.
        by: String,
        /// When it ends by its maker's wall clock, in milliseconds since the epoch: shown, and
        /// checked outside the ledger.
        expires_at_ms: i64,
        /// For the chain.
        entry: Signed,
    },
    /// Ends a join token at once.
    RevokeToken {
        /// Which.
        id: TokenId,
        /// Who.
        by: String,
        /// For the chain.
        entry: Signed,
    },
    /// The leader's own clock has run a token's full ttl. Only a leader says so.
    ExpireToken {
        /// Which.
        id: TokenId,
    },
    /// Puts a node that showed a token on the roster, and spends one use of it.
    Admit {
        /// Which token it showed.
        token: TokenId,
        /// Its key.
        node: NodeId,
        /// Its host.
        host: HostName,
        /// An enrolment, for the chain; a member that vouches signs it.
        entry: Signed,
    },
    /// Takes a node off the roster, for good.
    Remove {
        /// Which.
        node: NodeId,
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// A removal that names the node, for the chain; any member signs it, the node itself to
        /// leave.
        entry: Signed,
    },
    /// A waiting execution has not asked again for as long as it may. Only a leader says so.
    ExpireWait {
        /// Which.
        execution: ExecutionId,
        /// The [`Waiting::generation`] that was seen; a later question makes this stale.
        generation: u64,
    },
    /// Sets a budget, or another one of the same name anew.
    SetBudget {
        /// Which, and how much.
        budget: Budget,
        /// Who.
        by: String,
        /// For the chain.
        entry: Signed,
    },
    /// Drops a budget.
    DropBudget {
        /// Which.
        name: String,
        /// Who.
        by: String,
        /// For the chain.
        entry: Signed,
    },
    /// Tells what a node runs, by which the hosts of a service are counted.
    Services {
        /// Which node.
        node: NodeId,
        /// Its services, sorted, each once, at most [`MAX_SERVICES`].
        services: Vec<ServiceName>,
    },
    /// An hour of the leader's own clock has gone since it applied a grant: its mark on an hourly
    /// budget is taken back. Only a leader says so.
    Refill {
        /// Which budget.
        budget: String,
        /// The grant that left the mark.
        fence: Fence,
    },
    /// From here on the ledger follows these rules; a version below those in force changes
    /// nothing. What an older binary wrote is applied by the older rules, so that it leads to the
    /// same chain. Only a leader says so.
    Rules {
        /// Their version.
        version: u32,
    },
    /// The ledger goes on from one node's copy: its quorum was lost for good, or it was restored
    /// from a backup. What the lost nodes had acknowledged and this copy lacks is gone.
    Recovered {
        /// Whose copy. On the roster, or the node that the restored state names.
        by: NodeId,
        /// Who had a log of its own and is taken off the roster, for good; sorted.
        lost: Vec<NodeId>,
        /// A recovery that says the same, for the chain; `by` signs it.
        entry: Signed,
    },
    /// Which texts of its playbooks a node runs, where the ledger knows of others or of none. A
    /// playbook with another text begins anew: what the one before it earned or lost is forgotten.
    Editions {
        /// Which node.
        node: NodeId,
        /// The digest of each text, sorted by name, each once, at most [`MAX_EDITIONS`].
        editions: Vec<(PlaybookName, Digest)>,
    },
    /// What was seen of a playbook that was chosen for an incident and did not run.
    Seen {
        /// By which node.
        node: NodeId,
        /// Which playbook.
        playbook: PlaybookName,
        /// For which service.
        service: Option<ServiceName>,
        /// What.
        what: Sighting,
    },
    /// Asks for a share of a scope: while it lives nobody is given the right to act there, and others
    /// may look at the same time. Nothing of it is on the chain.
    Look(Look),
    /// Gives a share back, by what it was asked for: who never heard of its fence can do so too.
    EndLook {
        /// Who held it.
        node: NodeId,
        /// The [`Look::id`].
        id: ExecutionId,
    },
    /// The leader's own clock has run a share's full ttl. Only a leader says so.
    ExpireLook {
        /// Which.
        fence: Fence,
    },
}

/// Asks for a share of a scope, to look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Of what.
    pub scope: Scope,
    /// Who asks.
    pub node: NodeId,
    /// For how long, in milliseconds.
    pub ttl_ms: u64,
    /// For what: asking twice gives the one share.
    pub id: ExecutionId,
}

/// A share of a scope that is held to look at it: a lease that excludes who wants to act, and nobody
/// else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLease {
    /// Its number.
    pub fence: Fence,
    /// What was asked for.
    pub look: Look,
}

/// What became of an incident for which a playbook was chosen that did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sighting {
    /// It went away by itself.
    WentAway,
    /// It was mended by this playbook, which a human started: in shadow it had been right.
    Agreed,
    /// It was mended by another playbook: in shadow it had been wrong.
    Disagreed,
}

impl Command {
    /// Whether it may be asked for again when no answer came, whatever others asked for meanwhile: the
    /// ledger recognises it, or it does nothing more. A value that is set again would take back what
    /// another set in between; a thaw that is said again would end a later freeze; what was seen
    /// would count twice. To freeze again errs on the safe side.
    pub fn may_be_repeated(&self) -> bool {
        !matches!(
            self,
            Self::SetBudget { .. }
                | Self::DropBudget { .. }
                | Self::Freeze { frozen: false, .. }
                | Self::Seen { .. }
        )
    }

    /// The entry it puts on the chain, if it carries one.
    pub fn entry(&self) -> Option<&Signed> {
        match self {
            Self::Acquire(ask) => Some(&ask.entry),
            Self::AskApproval(ask) => Some(&ask.entry),
            Self::Enrol { entry, .. }
            | Self::Close { entry, .. }
            | Self::Append { entry }
            | Self::Answer { entry, .. }
            | Self::CloseApproval { entry, .. }
            | Self::Freeze { entry, .. }
            | Self::CreateToken { entry, .. }
            | Self::RevokeToken { entry, .. }
            | Self::Admit { entry, .. }
            | Self::Remove { entry, .. }
            | Self::SetBudget { entry, .. }
            | Self::DropBudget { entry, .. }
            | Self::Recovered { entry, .. } => Some(entry),
            Self::Renew { .. }
            | Self::Expire { .. }
            | Self::ExpireToken { .. }
            | Self::ExpireWait { .. }
            | Self::Refill { .. }
            | Self::Services { .. }
            | Self::Rules { .. }
            | Self::Editions { .. }
            | Self::Seen { .. }
            | Self::Look(_)
            | Self::EndLook { .. }
            | Self::ExpireLook { .. } => None,
        }
    }
}

/// The most playbooks whose texts one command tells of.
pub const MAX_EDITIONS: usize = 512;

/// The most services that one node tells of.
pub const MAX_SERVICES: usize = 64;

/// Asks for the exclusive right to act on a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// On what.
    pub scope: Scope,
    /// Who asks.
    pub holder: NodeId,
    /// For how long, in milliseconds.
    pub ttl_ms: u64,
    /// For which run. Asking twice for one run gives the one grant.
    pub execution: ExecutionId,
    /// What for.
    pub plan_digest: Digest,
    /// Which playbook.
    pub playbook: PlaybookName,
    /// For which service.
    pub service: Option<ServiceName>,
    /// The approval it rests on; it is used up by the grant.
    pub approval: Option<ApprovalId>,
    /// The intent, for the chain: there before any command runs.
    pub entry: Signed,
}

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody has answered yet.
    Waiting,
    /// A human agreed.
    Approved,
    /// A human refused.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The plan it was for is no longer what would be run, or the incident resolved by itself.
    Superseded,
    /// It was used by a grant.
    Used,
}

/// A question put to a human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
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
    /// The plan as canonical JSON, to be shown.
    #[serde(with = "crate::bytes")]
    pub plan: Vec<u8>,
    /// Why Hale proposes it and why it asks.
    pub rationale: String,
    /// Confidence in parts per million (no floats in the ledger).
    pub confidence_ppm: u32,
    /// How long it waits, in milliseconds, by the leader's clock.
    pub ttl_ms: u64,
    /// When it was asked, by the asking node's clock, in milliseconds since the epoch: shown only.
    pub asked_at_ms: i64,
    /// Where it stands.
    pub state: ApprovalState,
    /// Who answered.
    pub answered_by: Option<String>,
    /// For the chain.
    pub entry: Signed,
}

/// A lease as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its number.
    pub fence: Fence,
    /// On what.
    pub scope: Scope,
    /// Who holds it.
    pub holder: NodeId,
    /// For how long, in milliseconds, from the grant or the last renewal.
    pub ttl_ms: u64,
    /// How often it was renewed.
    pub generation: u64,
    /// For which run.
    pub execution: ExecutionId,
    /// What for.
    pub plan_digest: Digest,
    /// Which playbook.
    pub playbook: PlaybookName,
    /// For which service.
    pub service: Option<ServiceName>,
    /// Whether it still excludes others. False once expired: the grant waits to be closed.
    pub live: bool,
}

/// What the ledger answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The lease is yours.
    Granted {
        /// Its number.
        fence: Fence,
        /// For how long, in milliseconds.
        ttl_ms: u64,
    },
    /// It ran for another ttl.
    Renewed {
        /// How often now.
        generation: u64,
    },
    /// It was done; where something was written, the entry.
    Done {
        /// The entry written.
        entry: Option<EntryRef>,
    },
    /// It was not done.
    Refused(Refusal),
}

/// Where an entry stands in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRef {
    /// Its number, from 0.
    pub index: u64,
    /// Its hash.
    pub hash: Digest,
    /// The hash before it.
    pub previous: Digest,
}

impl From<&Entry> for EntryRef {
    fn from(e: &Entry) -> Self {
        Self {
            index: e.index,
            hash: e.hash(),
            previous: e.previous,
        }
    }
}

/// How one playbook did on one service, counted by the ledger since its text is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// Runs that ended with every verification passed.
    pub succeeded: u64,
    /// Runs that failed or were rolled back.
    pub failed: u64,
    /// Runs that a pre-check stopped.
    pub aborted: u64,
    /// Incidents for which it was chosen and that went away before anything was done.
    pub went_away: u64,
    /// Incidents for which it was chosen in shadow, and a human had it run with success.
    pub agreed: u64,
    /// Incidents for which it was chosen in shadow, and another playbook mended them.
    pub disagreed: u64,
}

impl History {
    /// The sum of both.
    pub fn plus(self, other: Self) -> Self {
        Self {
            succeeded: self.succeeded.saturating_add(other.succeeded),
            failed: self.failed.saturating_add(other.failed),
            aborted: self.aborted.saturating_add(other.aborted),
            went_away: self.went_away.saturating_add(other.went_away),
            agreed: self.agreed.saturating_add(other.agreed),
            disagreed: self.disagreed.saturating_add(other.disagreed),
        }
    }
}
