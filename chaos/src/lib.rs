//! What must always hold, checked by a program: a seeded simulation in which the pure machines of
//! Hale live through crashes, lost packets, drifting clocks and partitions, and an oracle that
//! reads what happened and knows nothing of how it came about.

pub mod event;
pub mod gossip;
mod histories;
mod linear;
pub mod oracle;
pub mod real;
pub mod rng;
pub mod scale;
pub mod seats;
pub mod shrink;
pub mod sim;
pub mod world;

pub use event::{Happened, Operation, Outcome, What};
pub use oracle::{Violation, judge};
pub use shrink::shrink;
pub use world::{Fault, FaultKind, Scenario, World};
