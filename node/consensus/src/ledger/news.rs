//! What a command did, for whoever asked and whoever listens.

use hale_model::chain::Entry;
use hale_model::ledger::{
    Answer, ApprovalState, Disposition, EntryKind, EntryRef, Lease, SharedLease, Waiting,
};
use hale_model::{
    ApprovalId, ExecutionId, Fence, HostName, IncidentId, NodeId, OutcomeStatus, TokenId,
};

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// For whoever asked.
    pub answer: Answer,
    /// What it put at the end of the chain.
    pub entries: Vec<Entry>,
    /// What changed, for whoever listens.
    pub news: Vec<News>,
}

impl Applied {
    pub(super) fn done(answer: Answer) -> Self {
        Self {
            answer,
            entries: vec![],
            news: vec![],
        }
    }

    /// Nothing was to be done.
    pub(super) fn nothing() -> Self {
        Self::done(Answer::Done { entry: None })
    }
}

/// Something changed in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A node is on the roster.
    Enrolled {
        /// Its key.
        node: NodeId,
        /// Its host.
        host: HostName,
    },
    /// A node is not on the roster any more.
    Removed {
        /// Its key.
        node: NodeId,
        /// Its host.
        host: HostName,
    },
    /// A lease was granted.
    Granted(Lease),
    /// A lease runs for another ttl.
    Renewed(Lease),
    /// A lease ran out; its grant waits to be closed.
    Expired(Lease),
    /// The node of an open grant was removed: another closes it, once it can't act any more.
    Orphaned(Lease),
    /// A grant was closed.
    Closed {
        /// What it was.
        lease: Lease,
        /// How.
        disposition: Disposition,
        /// How the run ended.
        outcome: OutcomeStatus,
    },
    /// An execution waits for its lease, or asked again.
    Waits(Waiting),
    /// An execution does not wait any more.
    WaitEnded(ExecutionId),
    /// Somebody looks at a scope.
    Looks(SharedLease),
    /// Nobody looks under this fence any more.
    LookEnded(Fence),
    /// An approval was asked for, answered, used, or no longer waits.
    Approval {
        /// Which.
        id: ApprovalId,
        /// For which incident.
        incident: IncidentId,
        /// The node that will run it.
        node: NodeId,
        /// Where it stands now.
        state: ApprovalState,
        /// Who answered.
        by: Option<String>,
        /// How long it may stand there, in milliseconds, by the leader's clock.
        ttl_ms: u64,
    },
    /// A join token was made, used, revoked, or expired.
    Token {
        /// Which.
        id: TokenId,
        /// How many nodes may still join with it.
        uses_left: u32,
        /// Whether it may be used.
        live: bool,
        /// How long it lives from when it was made, in milliseconds, by the leader's clock; none if
        /// it was not made just now.
        made_for_ms: Option<u64>,
    },
    /// A budget was set or dropped.
    Budget {
        /// Which.
        name: String,
        /// Whether there is one now.
        exists: bool,
    },
    /// A grant left its mark on an hourly budget.
    Marked {
        /// Which budget.
        budget: String,
        /// The grant.
        fence: Fence,
    },
    /// A mark was taken back.
    Refilled {
        /// Which budget.
        budget: String,
        /// The grant that had left it.
        fence: Fence,
    },
    /// Execution was frozen or thawed.
    Frozen {
        /// Stopped or allowed.
        frozen: bool,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// The ledger follows these rules from now on.
    Rules(u32),
    /// The chain grew.
    Appended {
        /// Where the entry stands.
        entry: EntryRef,
        /// What it tells.
        kind: EntryKind,
        /// Who says it.
        signer: NodeId,
    },
    /// The state was replaced as a whole by a newer one: what changed in between is not told.
    Replaced,
}
