//! What a client is told of the group: the ledger, its leases.

use hale_model::ledger::Lease;
use hale_model::{Digest, ExecutionId, Fence, NodeId, PlaybookName, ServiceName};
use serde::{Deserialize, Serialize};

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
