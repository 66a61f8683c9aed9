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
