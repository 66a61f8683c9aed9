//! Decisions → executions. [`Run`] is the protocol machine of one run; [`journal`] is what it
//! writes down before it acts; [`plan`] is what is leased, signed and approved; `actions/` has one
//! file a step type; [`actor`] drives it all.

pub mod actions;
pub mod actor;
pub mod config;
pub mod env;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod grants;
pub mod journal;
pub mod plan;
pub mod run;
#[cfg(any(test, fuzzing))]
mod tests;

pub use config::{DatabaseConfig, ExecutorConfig};
pub use error::Error;
pub use journal::{Close, Finished};
pub use run::{ActionResult, Effect, Event, Limits, Perform, Progress, Run, Running, Setup};
