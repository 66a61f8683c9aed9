//! A simulated world of joins and seats: nodes come with tokens, die, return, flap, lag behind, are
//! cut off and are removed, while the product's planner gives the seats of the group, and an oracle
//! reads what happened.
//!
//! Real are the planner ([`hale_consensus::seats`]), the words and proofs of joining
//! ([`hale_membership::join`]) and the ledger's state machine, which spends tokens and keeps the
//! roster. A model are gossip (who is seen alive, late and at times wrongly), Raft's changes of
//! membership (one at a time, in two halves, each as soon as a majority has it) and elections, and
//! the rule that nobody is removed without whom no majority is left.

pub mod event;
mod faults;
mod group;
mod joining;
pub mod oracle;
mod world;

pub use event::{Happened, What};
pub use oracle::{Violation, judge};
pub use world::World;

/// What is simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// For how long nodes come and faults happen, in virtual milliseconds.
    pub duration_ms: u64,
    /// How many faults.
    pub faults: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            duration_ms: 600_000,
            faults: 24,
        }
    }
}
