//! The event log: what a run of the simulation, or a real cluster, tells the oracle.

use hale_model::ledger::{Disposition, Scope};
use hale_model::{Digest, ExecutionId, Fence};
use serde::Serialize;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Happened {
    /// When, in milliseconds of true time since the world began.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What a client asks of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// To write a value under a key. No two writes of one key have the same.
    Write {
        /// Under which key.
        key: String,
        /// What.
        value: u64,
    },
    /// What is written there.
    Read {
        /// Under which key.
        key: String,
    },
    /// To be granted a lease.
    Acquire {
        /// On what.
        scope: Scope,
        /// For which run.
        execution: ExecutionId,
    },
    /// To run a lease for another full ttl.
    Renew {
        /// For which run.
        execution: ExecutionId,
        /// Which.
        fence: Fence,
    },
    /// To close a grant.
    Close {
        /// For which run.
        execution: ExecutionId,
        /// Which.
        fence: Fence,
    },
    /// Which lease is live.
    Watch {
        /// On what.
        scope: Scope,
    },
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is written.
    Written,
    /// This is written there, if anything is.
    Value(Option<u64>),
    /// The lease is granted, or was before.
    Granted(Fence),
    /// Another has it.
    Held(Fence),
    /// It runs for another full ttl.
    Renewed,
    /// The grant is closed, now or before.
    Closed,
    /// This lease is live, or none is.
    Live(Option<Fence>),
    /// Something else, which tells nothing of what was asked for.
    Other,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum What {
    /// The ledger granted a lease.
    Granted {
        /// Its fence.
        fence: Fence,
        /// On what.
        scope: Scope,
        /// To which host.
        host: usize,
        /// For which run.
        execution: ExecutionId,
    },
    /// The ledger ran a lease for another full ttl.
    Renewed {
        /// Its fence.
        fence: Fence,
    },
    /// The ledger ended a lease; its grant stays open.
    Expired {
        /// Its fence.
        fence: Fence,
    },
    /// The ledger closed a grant.
    Closed {
        /// Its fence.
        fence: Fence,
        /// How.
        disposition: Disposition,
    },
    /// The ledger granted a share of a scope, to look at it: nobody acts there meanwhile.
    Looks {
        /// Its fence.
        fence: Fence,
        /// On what.
        scope: Scope,
        /// For how long, in milliseconds.
        ttl_ms: u64,
        /// For what it was asked.
        id: ExecutionId,
    },
    /// A host begins to give a share back, whether or not it has heard that it was granted.
    GivesBack {
        /// For what it was asked.
        id: ExecutionId,
    },
    /// The ledger ended a share.
    LookEnded {
        /// Its fence.
        fence: Fence,
    },
    /// The chain grew.
    Appended {
        /// The entry's number.
        index: u64,
        /// Its hash.
        hash: Digest,
        /// The hash before it.
        previous: Digest,
    },
    /// A host's own copy of the chain got an entry that another's had before.
    Copied {
        /// Which host.
        host: usize,
        /// The entry's number.
        index: u64,
        /// Its hash there.
        hash: Digest,
    },
    /// A host leads from now on.
    Leads {
        /// Which.
        host: usize,
        /// In which term.
        term: u64,
    },
    /// A host was told that its record is on the chain.
    Acknowledged {
        /// The entry's number.
        index: u64,
        /// Its hash.
        hash: Digest,
    },
    /// A step began to change something.
    Acted {
        /// On which host.
        host: usize,
        /// In which run.
        execution: ExecutionId,
        /// Which step.
        step: String,
        /// Whether it may run again.
        idempotent: bool,
    },
    /// Execution was frozen or thawed, at the ledger.
    Frozen {
        /// Frozen or thawed.
        frozen: bool,
    },
    /// From now on at most so many runs may be open at once, in the whole cluster.
    Budget {
        /// How many.
        at_most: u32,
    },
    /// A run got a place in the line for its lease, or asked again.
    Waits {
        /// Which.
        execution: ExecutionId,
        /// Its place: whoever asked first has the smaller one.
        place: u64,
        /// On what it waits: its scope, or nothing where it waits for the budget that all need.
        scope: Option<Scope>,
    },
    /// A run waits no more: it was granted, gave up, or asked no more.
    WaitEnded {
        /// Which.
        execution: ExecutionId,
    },
    /// A client asks something. It takes effect, if at all, from now on, and before it is answered.
    Asked {
        /// The number of what is asked.
        ask: u64,
        /// The host that is asked.
        host: usize,
        /// What.
        operation: Operation,
    },
    /// It is answered.
    Answered {
        /// The number of what was asked.
        ask: u64,
        /// What.
        outcome: Outcome,
    },
    /// The client waits no more for an answer: it may take effect at any later time, or never. So may
    /// what is neither answered nor given up.
    Unanswered {
        /// The number of what was asked.
        ask: u64,
    },
    /// A fault was put in, for people.
    Fault {
        /// Which.
        fault: String,
    },
    /// The faults are over and everything had time to end.
    Quiet,
    /// So long is a host's chain then.
    Ends {
        /// Which host.
        host: usize,
        /// How many entries it has.
        entries: u64,
    },
}
