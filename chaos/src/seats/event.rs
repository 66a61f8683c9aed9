//! What a world of joins and seats tells the oracle.

use serde::Serialize;
use std::collections::BTreeSet;

/// Nodes by number, in the order in which they first came.
pub type Nodes = BTreeSet<usize>;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// When, in milliseconds of true time since the world began.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum What {
    /// How the group's seats are given in this world.
    Policy {
        /// The most that vote.
        voters: usize,
        /// Those that stand by when all vote.
        learners: usize,
    },
    /// A node is there for the first time.
    Comes {
        /// Which.
        node: usize,
        /// Its failure domain.
        zone: usize,
        /// Whether it may come in: it has a token's secret, or founds the cluster, and its clock is
        /// right.
        invited: bool,
    },
    /// A token was made.
    Token {
        /// Which.
        token: String,
        /// How many it may let in.
        uses: u32,
    },
    /// A node was put on the roster.
    Enrolled {
        /// Which.
        node: usize,
        /// By which token; who founds the cluster comes without one.
        token: Option<String>,
    },
    /// A node was taken off the roster.
    Removed {
        /// Which.
        node: usize,
    },
    /// A node runs and is reached.
    Up {
        /// Which.
        node: usize,
    },
    /// A node does not run, or is reached by nobody.
    Down {
        /// Which.
        node: usize,
    },
    /// A node leads from now on.
    Leads {
        /// Which.
        node: usize,
        /// In which term.
        term: u64,
    },
    /// A leader begins to change the group.
    Begins {
        /// In which term.
        term: u64,
        /// How, for people.
        change: String,
        /// Who would vote then; nothing if that does not change.
        voters: Option<Nodes>,
        /// Whether it is the second half of a change that a leader before left half done.
        finishes: bool,
    },
    /// What was begun last in this term is done, or was lost.
    Ends {
        /// In which term.
        term: u64,
    },
    /// The group is this from now on.
    Group {
        /// Who votes.
        voters: Nodes,
        /// Who follows without a vote.
        learners: Nodes,
    },
    /// A fault was put in, for people.
    Fault {
        /// Which.
        fault: String,
    },
    /// The faults are over.
    Quiet,
    /// The world is over: everything had time to come to rest.
    Over,
}
