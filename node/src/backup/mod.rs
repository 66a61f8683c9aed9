//! A backup: the ledger's state and the whole chain up to it, in one file that can be checked
//! without a node.
//!
//! ```text
//! "HALEBKUP" version(1)
//! { kind(1) len(4, big-endian) payload(len) }*
//!   1  the header, once, first: JSON, see [`Header`]
//!   2  a piece of the ledger's state, as `Ledger::encode` writes it
//!   3  an entry of the chain: its stored bytes, from the first to the state's tip
//!   9  the end, once, last: sha256(32) signature(64)
//! ```
//!
//! The digest is over every byte before the end's frame; the node that the header names signs it,
//! under a prefix of its own. Its key is one of those that the chain enrols. So a changed, missing
//! or added byte shows, and so does a state that is not what the chain leads to. The node's private
//! key is not in it. Who reads or writes one never holds more than a frame and the state.

mod read;
pub(crate) mod restore;
mod write;

pub(crate) use read::{Backup, read};
pub(crate) use write::write;

use hale_audit::AuditError;
use hale_consensus::{Group, StateError};
use hale_model::chain::{ChainError, HEADER_BYTES};
use hale_model::ledger::MAX_BODY_BYTES;
use hale_model::{Digest, HostName, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 8] = *b"HALEBKUP";
const VERSION: u8 = 1;
const HEADER: u8 = 1;
const STATE: u8 = 2;
const ENTRY: u8 = 3;
const END: u8 = 9;
const END_BYTES: usize = 32 + 64;
/// The longest payload: one entry.
const MAX_PAYLOAD: usize = MAX_BODY_BYTES + HEADER_BYTES;
/// A piece of the state.
const STATE_PIECE: usize = 256 << 10;
/// The largest state; what a snapshot may have too.
const MAX_STATE: u64 = 64 << 20;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// The cluster, as 16 hexadecimal digits.
    pub(crate) cluster: String,
    /// Who made it, and signs it.
    pub(crate) node: NodeId,
    /// On which host.
    pub(crate) host: HostName,
    /// The release that made it.
    pub(crate) release: String,
    /// When, by that host's clock.
    pub(crate) at: Timestamp,
    /// The log index that the state is of.
    pub(crate) applied: u64,
    /// How long the state is.
    pub(crate) state_bytes: u64,
    /// Who was in the Raft group.
    pub(crate) group: Group,
    /// How many entries follow.
    pub(crate) entries: u64,
    /// The last one's hash.
    pub(crate) tip: Digest,
}

fn signed_bytes(digest: &Digest) -> Vec<u8> {
    [&b"hale-backup-v1\0"[..], digest.as_bytes()].concat()
}

/// Why a file is not a backup that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// It can't be read.
    #[error("the backup can't be read")]
    Io(#[source] std::io::Error),
    /// It is something else.
    #[error("this file is no backup of Hale's")]
    NotABackup,
    /// A newer binary made it.
    #[error("the backup has version {0}, this binary knows {VERSION}; use the newer binary")]
    Newer(u8),
    /// It is not whole.
    #[error("the backup is cut short at byte {0}; take another copy of it")]
    CutShort(u64),
    /// Something in it was changed.
    #[error("the backup is damaged at byte {at}: {what}; take another copy of it")]
    Damaged {
        /// Where.
        at: u64,
        /// What.
        what: String,
    },
    /// The digest is not that of the bytes.
    #[error("the backup's bytes are not those that were signed; take another copy of it")]
    Digest,
    /// The signature is not the node's.
    #[error("the backup is not signed by the node that it names")]
    Signature,
    /// The state in it.
    #[error("the ledger's state in the backup can't be used")]
    State(#[source] StateError),
    /// The chain in it.
    #[error("the chain in the backup does not hold: {0}")]
    Chain(String),
    /// State and chain.
    #[error("the ledger's state in the backup is not what its chain leads to: {0}")]
    Mismatch(String),
    /// Whoever takes the entries can't.
    #[error("an entry of the backup can't be written")]
    Write(#[source] std::io::Error),
}

/// Why a backup can't be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The chain.
    #[error("the chain can't be read")]
    Chain(#[from] AuditError),
    /// The state.
    #[error("the ledger's state can't be read")]
    State(#[from] StateError),
    /// It is behind.
    #[error("this node's chain has {have} of the {wanted} entries yet; try again in a moment")]
    Behind {
        /// How many there are.
        have: u64,
        /// How many there should be.
        wanted: u64,
    },
    /// The header.
    #[error("the header can't be written")]
    Header(#[source] serde_json::Error),
    /// Whoever reads it has gone.
    #[error("nobody takes the backup any more")]
    Gone,
}

impl From<ChainError> for BackupError {
    fn from(e: ChainError) -> Self {
        Self::Chain(e.to_string())
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
