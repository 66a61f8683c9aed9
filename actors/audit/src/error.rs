//! What can go wrong with the chain on disk, its exports and its proofs.

use hale_model::chain::ChainError;
use std::path::{Path, PathBuf};

/// What can go wrong. What a verifier finds in somebody's file is no error of ours: that is a
/// [`crate::verify::Fault`].
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The disk or directory does not do what is asked.
    #[error("{doing} {}; check its owner, its mount and the disk's free space", path.display())]
    Io {
        /// What was being done: `reading`.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// Another process has the archive open.
    #[error("the archive in {} is in use by another process; stop it first (`hale status`)", .0.display())]
    InUse(PathBuf),
    /// What is there is not what was written.
    #[error(
        "{} is damaged at byte {offset}: {what}. Nothing was changed. Stop the node, copy this \
         file away, and restore it from the segment archive or another member (`hale restore`), \
         then run `hale audit verify`", path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// An entry that does not follow the last one was to be written.
    #[error("the entry was not written")]
    DoesNotFollow(#[source] ChainError),
    /// A write or a flush failed before, so what is on the platter is not known.
    #[error(
        "the archive in {} failed to reach the disk before and takes no more entries; restart \
         the node once `dmesg` and `df` show a healthy disk", .0.display()
    )]
    Failed(PathBuf),
    /// Entries that are published can't be taken back.
    #[error(
        "the chain can't be cut to {asked} entries: {published} are published in the segment \
         archive; restore from it instead (`hale restore`)"
    )]
    Published {
        /// How many entries were to remain.
        asked: u64,
        /// How many are published.
        published: u64,
    },
    /// There are not that many entries.
    #[error("the chain has {have} entries, {asked} were asked for")]
    TooShort {
        /// How many were asked for.
        asked: u64,
        /// How many there are.
        have: u64,
    },
    /// A sealed segment is in the directory already, with other bytes.
    #[error(
        "{} is already there with other bytes; one of two chains is not this cluster's. Nothing \
         was overwritten: point `audit.archive` at an empty directory and compare the two with \
         `hale audit verify`", .0.display()
    )]
    Conflict(PathBuf),
    /// An entry can't be exported as text.
    #[error("the body of entry {0} is not UTF-8; export the segment files instead")]
    NotText(u64),
    /// Nothing in the chain is about this incident.
    #[error("no entry is about {0}; `hale incidents` lists those that are recorded")]
    UnknownIncident(String),
    /// The chain grew or shrank while it was being read.
    #[error("the chain has {found} entries where the checkpoint says {size}; try again")]
    Moved {
        /// What the checkpoint says.
        size: u64,
        /// What was read.
        found: u64,
    },
    /// An incident with more entries than a proof may have.
    #[error(
        "{found} entries are about this incident, a proof may have {limit}; use `hale audit export`"
    )]
    ProofTooLarge {
        /// How many.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A proof file that can't be read or does not hold.
    #[error("the proof does not hold: {0}")]
    BadProof(String),
    /// The actor has too much waiting.
    #[error("{0} records wait for the ledger already; try again when it answers (`hale status`)")]
    Busy(usize),
    /// The outbox does not take the record.
    #[error("the record can't be kept until the ledger has it: {0}")]
    Outbox(String),
}

impl AuditError {
    /// For `map_err`: what was being done, and with what.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }
}
