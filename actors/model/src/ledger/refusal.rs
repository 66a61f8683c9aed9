//! Why the ledger says no, or says nothing. Each message names the next command to type.

use super::{ApprovalState, Scope};
use crate::crypto::{Digest, NodeId};
use crate::id::{ApprovalId, ExecutionId, Fence, HostName, PlaybookName, TokenId};
use serde::{Deserialize, Serialize};

/// Why the ledger said no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Another holds a lease that conflicts.
    #[error("{scope} is leased under fence {fence} by node {} for {playbook}", holder.short())]
    Held {
        /// What is held.
        scope: Scope,
        /// Its fence.
        fence: Fence,
        /// By whom.
        holder: NodeId,
        /// For which playbook.
        playbook: PlaybookName,
    },
    /// The cluster is frozen.
    #[error("the cluster is frozen by {by}: {reason}; `hale thaw` lifts it")]
    Frozen {
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// There is no such lease, or it has ended.
    #[error("fence {0} is not a live lease of this holder")]
    StaleFence(Fence),
    /// The grant was closed before.
    #[error("the grant under fence {0} was closed before")]
    AlreadyClosed(Fence),
    /// The node is not on the roster.
    #[error("node {} is not on the roster", .0.short())]
    UnknownNode(NodeId),
    /// A signature does not hold, or its signer is not who it should be.
    #[error("the entry's signature is not this node's over these bytes")]
    BadSignature,
    /// The entry is of the wrong kind, not canonical JSON, or too large.
    #[error("the entry can't be written: {0}")]
    BadEntry(String),
    /// There is no such approval.
    #[error("there is no approval {0}; `hale status` lists those that wait")]
    UnknownApproval(ApprovalId),
    /// The approval does not wait any more.
    #[error("approval {id} is {state:?}, it can't be answered any more")]
    NotWaiting {
        /// Which.
        id: ApprovalId,
        /// What it is now.
        state: ApprovalState,
    },
    /// The plan is not the one that was approved.
    #[error("the plan is not the one that was approved: {approved} was, {asked} is asked for")]
    PlanChanged {
        /// What was approved.
        approved: Digest,
        /// What is asked for.
        asked: Digest,
    },
    /// Too many wait already.
    #[error("{what}: {limit} is the limit")]
    Full {
        /// Of what.
        what: String,
        /// How many there may be.
        limit: u64,
    },
    /// Another node has this host's name.
    #[error(
        "host {host} is node {} already; `hale remove {host}` on a member takes that node out, or \
         join under another name with --host; `hale members` lists them", node.short()
    )]
    HostTaken {
        /// The name.
        host: HostName,
        /// Whose it is.
        node: NodeId,
    },
    /// There is no such token.
    #[error("there is no join token {0}; `hale token create` makes one")]
    UnknownToken(TokenId),
    /// All its uses are spent.
    #[error("join token {0} is used up; `hale token create` makes another")]
    TokenUsedUp(TokenId),
    /// Its time is over, or it was revoked.
    #[error("join token {0} has expired or was revoked; `hale token create` makes another")]
    TokenExpired(TokenId),
    /// Nobody would be left.
    #[error("the last node of a cluster can't be removed; `hale status` lists the nodes")]
    LastNode,
    /// It was taken off the roster, which is for good.
    #[error(
        "node {} was removed from the cluster and can't come back: wipe its data directory and \
         join as a new node with `hale join`", .0.short()
    )]
    WasRemoved(NodeId),
    /// The scope is free, but others asked before.
    #[error("{scope} is next for {ahead}; this execution is number {position} in line")]
    Queued {
        /// What is waited for.
        scope: Scope,
        /// The place in the line, from 1.
        position: u32,
        /// Whose turn it is.
        ahead: ExecutionId,
    },
    /// A budget allows no more for now.
    #[error("budget `{budget}` is spent: {limit_text}, {used} used; `hale budget ls` shows it")]
    BudgetSpent {
        /// Which.
        budget: String,
        /// What it allows.
        limit_text: String,
        /// How much is used.
        used: u64,
    },
    /// There is no such budget.
    #[error("there is no budget `{0}`; `hale budget ls` lists them")]
    UnknownBudget(String),
    /// The votes that are left could decide nothing.
    #[error(
        "without it only {left} of {voters} voters are left that can be counted on, and no majority \
         could decide anything any more; `hale voters` shows who votes"
    )]
    NoMajority {
        /// Voters that would be left, enrolled and alive.
        left: u64,
        /// All that vote now.
        voters: u64,
    },
    /// Somebody looks at it: for some seconds nobody acts there.
    #[error("{scope} is being looked at under fence {fence} by node {}", node.short())]
    LookedAt {
        /// What is looked at.
        scope: Scope,
        /// Under which fence.
        fence: Fence,
        /// By whom.
        node: NodeId,
    },
}

/// Why there is no answer from the ledger. The command may or may not have been applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// No leader within the time a write waits.
    #[error("no leader answered within {0} ms; `hale status` shows the group")]
    NoLeader(u64),
    /// The disk does not take writes.
    #[error("the ledger's disk does not take writes: {0}")]
    Storage(String),
    /// The node is stopping.
    #[error("the ledger is stopping")]
    Stopping,
    /// Too much waits.
    #[error("the ledger has too much waiting; try again")]
    Busy,
}
