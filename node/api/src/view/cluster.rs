//! What a client is told of the cluster: its members and seats, the ledger, leases and budgets,
//! and the tokens that let others in.

use hale_model::ledger::{Lease, SharedLease};
use hale_model::{
    Digest, ExecutionId, Fence, HostName, NodeId, PlaybookName, ServiceName, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The ledger, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// `leader`, `follower`, `candidate`, `learner`, `none`.
    pub role: String,
    /// Who leads, if anybody does.
    pub leader: Option<NodeId>,
    /// The Raft term.
    pub term: u64,
    /// The last log index applied.
    pub applied: u64,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who stands by.
    pub learners: Vec<NodeId>,
    /// Entries in the chain.
    pub entries: u64,
    /// The hash of the last entry.
    pub tip: Digest,
    /// Members that gossip sees alive, this node among them.
    #[serde(default)]
    pub members_alive: u64,
    /// Members on the roster.
    #[serde(default)]
    pub members_known: u64,
    /// Where this node stands, if its operators said so: voters are spread over zones.
    #[serde(default)]
    pub zone: Option<String>,
}

/// A lease as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// Its number.
    pub fence: Fence,
    /// On what: `service:db-01:postgresql`.
    pub scope: String,
    /// Who holds it.
    pub holder: NodeId,
    /// For how long, from the grant or the last renewal.
    pub ttl_ms: u64,
    /// How often it was renewed.
    pub renewals: u64,
    /// For which run.
    pub execution: ExecutionId,
    /// Which playbook.
    pub playbook: PlaybookName,
    /// For which service.
    pub service: Option<ServiceName>,
    /// What for.
    pub plan_digest: Digest,
    /// Whether it still excludes others; if not, its grant waits to be closed.
    pub live: bool,
}

impl From<&Lease> for LeaseView {
    fn from(l: &Lease) -> Self {
        Self {
            fence: l.fence,
            scope: l.scope.to_string(),
            holder: l.holder,
            ttl_ms: l.ttl_ms,
            renewals: l.generation,
            execution: l.execution.clone(),
            playbook: l.playbook.clone(),
            service: l.service.clone(),
            plan_digest: l.plan_digest,
            live: l.live,
        }
    }
}

/// A shared lease as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLeaseView {
    /// Its number.
    pub fence: Fence,
    /// What is looked at: `service:db-01:postgresql`.
    pub scope: String,
    /// Who looks.
    pub holder: NodeId,
    /// For how long, from the grant.
    pub ttl_ms: u64,
}

impl From<&SharedLease> for SharedLeaseView {
    fn from(l: &SharedLease) -> Self {
        Self {
            fence: l.fence,
            scope: l.look.scope.to_string(),
            holder: l.look.node,
            ttl_ms: l.look.ttl_ms,
        }
    }
}

/// A word of the API: the same in JSON and for people.
macro_rules! word {
    ($(#[$doc:meta])* $type:ident { $($(#[$about:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $type {
            $($(#[$about])* #[serde(rename = $text)] $variant,)+
        }

        impl $type {
            /// As text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

word!(
    /// A member as gossip sees it.
    MemberState {
        /// It answers.
        Alive = "alive",
        /// It did not answer; it may still say that it lives.
        Suspect = "suspect",
        /// It did not answer and did not object.
        Down = "down",
        /// It is on the roster, and gossip has not told of it yet.
        Unknown = "unknown",
    }
);

word!(
    /// A node's seat in the Raft group.
    Seat {
        /// It votes, and leads.
        Leader = "leader",
        /// It votes.
        Voter = "voter",
        /// It follows without a vote, a warm stand-in.
        Learner = "learner",
        /// It has none.
        None = "none",
    }
);

word!(
    /// Whether a join token still lets anybody in.
    TokenState {
        /// It does.
        Valid = "valid",
        /// As many have come in as it was for.
        UsedUp = "used_up",
        /// Its time is over.
        Expired = "expired",
    }
);

/// A member of the cluster: the roster says who is one, gossip how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its key.
    pub node: NodeId,
    /// Its host.
    pub host: HostName,
    /// Where its UDP port is, `address:port`, if it is known.
    pub addr: Option<String>,
    /// Where its API answers, `address:port`, if it is known.
    pub http: Option<String>,
    /// As gossip sees it.
    pub state: MemberState,
    /// How often it has refuted that it is down (SWIM section 4.2).
    pub incarnation: u64,
    /// Where it stands, if its operators said so.
    pub zone: Option<String>,
    /// The binary's version, if it is known.
    pub version: Option<String>,
    /// Its host's tags.
    pub tags: BTreeMap<String, String>,
    /// Its seat in the Raft group.
    pub seat: Seat,
    /// Entries in its chain when it was last heard.
    pub chain_entries: Option<u64>,
    /// The hash of the last of them.
    pub chain_tip: Option<Digest>,
    /// Whether it is the node that answers.
    pub is_self: bool,
    /// Whether it was taken off the roster: it is shut out.
    pub removed: bool,
}

/// A node with a seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterView {
    /// Its key.
    pub node: NodeId,
    /// Its host, if the roster knows it.
    pub host: Option<HostName>,
    /// Where Raft reaches it.
    pub addr: String,
    /// Its seat.
    pub seat: Seat,
    /// Where it stands, if it is known.
    pub zone: Option<String>,
    /// The last log index that the leader knows it has; none where the leader was not asked.
    pub matched: Option<u64>,
    /// How many log entries it lacks.
    pub lag: Option<u64>,
    /// For how long the leader has not heard of it, in milliseconds.
    pub silent_ms: Option<u64>,
}

/// The Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VotersView {
    /// The Raft term.
    pub term: u64,
    /// Who leads, if anybody does.
    pub leader: Option<NodeId>,
    /// The last log index that is committed.
    pub commit: u64,
    /// The last log index written.
    pub last_log: u64,
    /// Those with a seat, learners after voters.
    pub voters: Vec<VoterView>,
    /// How many voters have to agree.
    pub quorum: u64,
    /// How old this is, in milliseconds: for how long the node that tells it has not heard from a
    /// quorum.
    pub age_ms: u64,
    /// What the seat planner would do next, if anything.
    pub plan: Option<String>,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderView {
    /// Its key, if anybody leads.
    pub leader: Option<NodeId>,
    /// Its host, if it is known.
    pub host: Option<HostName>,
    /// Where its API answers, if it is known.
    pub http: Option<String>,
    /// The Raft term.
    pub term: u64,
    /// Whether it is the node that answers.
    pub is_self: bool,
}

/// A join token as it is shown: never the secret itself, of which the ledger knows only a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its name.
    pub id: String,
    /// How many nodes it is for.
    pub uses: u64,
    /// How many may still come in.
    pub uses_left: u64,
    /// Who made it.
    pub by: String,
    /// About when it expires; the leader's clock decides.
    pub expires_at: Timestamp,
    /// Whether it still lets anybody in.
    pub state: TokenState,
}

/// A token that was just made. The one answer that holds a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// The secret, shown this once.
    pub token: String,
    /// As it is shown from now on.
    pub view: TokenView,
    /// The command line to type on the new host.
    pub join: String,
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The command line holds the secret too.
        write!(f, "NewToken({:?})", self.view)
    }
}

/// How much a budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetLimitView {
    /// Executions at once.
    AtMost(u64),
    /// Executions at once, in percent of the hosts.
    Percent(u64),
    /// Executions begun within an hour.
    PerHour(u64),
}

impl fmt::Display for BudgetLimitView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(n) => write!(f, "{n} at once"),
            Self::Percent(n) => write!(f, "{n} % at once"),
            Self::PerHour(n) => write!(f, "{n} per hour"),
        }
    }
}

/// A budget, and how much of it is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetView {
    /// Its name.
    pub name: String,
    /// For which service; every execution, if none.
    pub service: Option<ServiceName>,
    /// How much it allows.
    pub limit: BudgetLimitView,
    /// How many count against it now.
    pub used: u64,
    /// How many may, as the cluster is now.
    pub allowed: u64,
}

/// A run that waits for a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitView {
    /// Which run.
    pub execution: ExecutionId,
    /// For what: `service:db-01:postgresql`.
    pub scope: String,
    /// The node that waits.
    pub holder: NodeId,
    /// For which service.
    pub service: Option<ServiceName>,
    /// What keeps it: `its turn`, or the budgets that are spent.
    pub waits_for: String,
    /// How many come before it, and itself: 1 is next.
    pub position: u64,
}
