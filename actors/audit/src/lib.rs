//! Executions become records, records become entries of a chain that an auditor can verify
//! without trusting Hale.
//!
//! [`record`] tells an execution and signs it; [`actor`] sees to it that the ledger takes it
//! exactly once; [`archive`] keeps the chain's entries on disk and copies what is sealed;
//! [`merkle`] and [`checkpoint`] say what the whole chain is in 32 bytes; [`export`], [`verify`]
//! and [`prove`] hand it to an auditor. Nothing here ever re-encodes what was signed.

pub mod abandoned;
pub mod actor;
pub mod archive;
pub mod checkpoint;
pub mod enrolment;
mod error;
pub mod export;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod merkle;
pub mod prove;
pub mod record;
pub mod recovery;
pub mod removal;
pub mod verify;

pub use error::AuditError;

#[cfg(any(test, fuzzing))]
#[path = "tests/support.rs"]
mod tests_support;
