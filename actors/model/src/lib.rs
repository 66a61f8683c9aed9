//! The nouns of Hale: what every actor and every node agrees on.
//!
//! A sample becomes a [`Reading`], readings become an [`Anomaly`], anomalies and events an
//! [`Incident`], an incident a [`Decision`], a decision an execution, an execution a
//! [`record::Record`] in the chain. This crate holds those types, the bytes they become
//! ([`canonical`], [`wire`]), and the keys that sign them ([`crypto`]). It does no I/O, runs no
//! task, reads no clock: time comes in as a [`Timestamp`].

pub mod bytes;
pub mod canonical;
pub mod chain;
pub mod crypto;
pub mod decision;
pub mod execution;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod happening;
pub mod id;
pub mod incident;
pub mod ledger;
pub mod planted;
pub mod port;
pub mod reading;
pub mod record;
pub mod series;
pub mod time;
pub mod wire;

pub use crypto::{Digest, Hasher, Keypair, NodeId, Signature};
pub use decision::{Confidence, Decision, Diagnosis, Finding, Gate, Match, Route, Share};
pub use execution::{ExecutionReport, LogLine, Outcome, OutcomeStatus, Plan, StepStatus};
pub use happening::{Happening, Stage};
pub use id::{
    ApprovalId, ExecutionId, Fence, HostName, IncidentId, PlaybookName, ServiceName, TokenId,
};
pub use incident::{Consumer, Incident, IncidentState};
pub use reading::{Anomaly, BaselineStats, Direction, Observed, Reading, Severity};
pub use series::{Batch, Bounds, Event, EventSource, Harm, Level, Sample, SeriesKey, SeriesKind};
pub use time::Timestamp;
