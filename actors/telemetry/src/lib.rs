//! What a host says about itself: samples of its series and events, round after round.
//!
//! The [`actor`] runs the [`sensors`], each on its own, and hands one [`hale_model::Batch`] a
//! round to the port it was given. Everything else here is pure: lines become [`template`]s,
//! datagrams become metrics, samples become the [`snapshot`] that operators know. This crate
//! decides nothing about what is normal, and writes nothing on the host but its own log
//! positions.

pub mod actor;
pub mod config;
pub mod consumers;
pub mod error;
pub mod fold;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod jobs;
pub mod limits;
pub mod lines;
pub mod mask;
mod plugin;
pub mod rates;
pub mod sensors;
pub mod severity;
pub mod snapshot;
pub mod span;
pub mod statsd;
pub mod template;

pub use actor::{Arguments, Message, Stats, Telemetry};
pub use config::TelemetryConfig;
pub use consumers::ConsumersQuery;
pub use error::Error;
pub use span::Span;
