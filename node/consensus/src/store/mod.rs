//! The cluster's state on disk: the Raft log (`log`, on the write-ahead log of `wal`), the applied state
//! (`state`, the home of sled), the newest snapshot (`snapshot`), and the state machine that ties
//! them to the chain (`machine`).
//!
//! The log is what makes a command durable: nothing is acknowledged before its entry is on the
//! log's disk. What is applied lives in memory and is stored at checkpoints, in this order: the
//! chain is synced, then the state is written and synced. So the state on disk is never ahead of
//! the chain, the log is never purged past the state, and a crash costs the re-application of the
//! log's end, which makes the very same entries again.

mod legacy;
pub(crate) mod log;
pub(crate) mod machine;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod syncs;
#[cfg(test)]
mod tests;
mod wal;
mod words;

use crate::ledger::StateError;
use hale_model::NodeId;
use openraft::{AnyError, ErrorSubject, ErrorVerb, StorageIOError};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Why the cluster's state on disk can't be used. Each says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory can't be used at all.
    #[error("{path} can't be used; check its owner and the disk's free space")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{path} is in use by another process; stop the other `hale node` first")]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// It belongs to another node or cluster.
    #[error(
        "{path} belongs to {found}, this node is {expected}; start with the key and configuration \
         it was made with, or with an empty data directory"
    )]
    Foreign {
        /// The marker file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who opens it.
        expected: String,
    },
    /// A newer binary wrote it.
    #[error("{path} has the format `{found}`, this binary knows `{FORMAT}`; use the newer binary")]
    Newer {
        /// The marker file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// What is there was changed after it was written.
    #[error(
        "{path} is damaged ({what}). The node does not start, so that nothing acknowledged is \
         silently lost: put the data directory back from a backup, or move it away and join as a \
         new node; keep the damaged files for `hale audit verify`"
    )]
    Damaged {
        /// Which file or directory.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The chain can't be used.
    #[error("the audit chain can't be used")]
    Chain {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The chain and the ledger's state don't belong together.
    #[error(
        "the audit chain and {path} don't fit ({what}). The node does not start, so that nothing \
         acknowledged is silently lost: put the whole data directory back from one backup"
    )]
    ChainMismatch {
        /// The ledger's directory.
        path: PathBuf,
        /// What was found.
        what: String,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, what: impl ToString) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }
}

pub(crate) const FORMAT: &str = "hale consensus 2";
/// The one before, whose log was another's: it is taken over.
const FORMAT_BEFORE: &str = "hale consensus 1";

/// Makes the directory, or checks that it is this node's, of this cluster, of a known format. It is
/// in use until the file that is given back is dropped.
pub(crate) fn claim(dir: &Path, node: NodeId, cluster: u64) -> Result<File, StoreError> {
    fs::create_dir_all(dir).map_err(StoreError::io(dir))?;
    let path = dir.join("LOCK");
    let lock = File::create(&path).map_err(StoreError::io(&path))?;
    lock.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => StoreError::InUse {
            path: dir.to_owned(),
        },
        TryLockError::Error(e) => StoreError::io(&path)(e),
    })?;
    let path = dir.join("FORMAT");
    let mine = format!("node {node} of cluster {cluster:016x}");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = format!("{FORMAT}\n{mine}\n");
            write_file(&path, text.as_bytes()).map_err(StoreError::io(&path))?;
            text
        }
        Err(e) => return Err(StoreError::io(&path)(e)),
    };
    let (format, owner) = text
        .trim_end()
        .split_once('\n')
        .unwrap_or((text.trim(), ""));
    if format != FORMAT && format != FORMAT_BEFORE {
        let found = format.chars().take(40).collect();
        return Err(StoreError::Newer { path, found });
    }
    if owner != mine {
        let found = owner.chars().take(120).collect();
        return Err(StoreError::Foreign {
            path,
            found,
            expected: mine,
        });
    }
    if format == FORMAT_BEFORE {
        // From here on an older binary says that it is older.
        let text = format!("{FORMAT}\n{mine}\n");
        write_file(&path, text.as_bytes()).map_err(StoreError::io(&path))?;
    }
    Ok(lock)
}

/// Writes a file so that after a crash either the old or the new one is there, whole.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(dir) = path.parent() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    write_by(&path.with_extension("new"), path, bytes)?;
    File::open(dir)?.sync_all()
}

/// As [`write_file`], by way of `new`, which is on the same disk; the directory is not synced.
pub(crate) fn write_by(new: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(new)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(new, path)
}

/// Runs what computes for long or waits for the disk, so that other tasks of these threads go on.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|threads| threads.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // Nothing else runs here, or there is no other thread.
        _ => work(),
    }
}

/// A lock whose holder panicked is still a lock: the state behind it is checked when it is loaded.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As openraft wants it: any storage error stops this Raft node.
pub(crate) fn fatal(
    subject: ErrorSubject<u64>,
    verb: ErrorVerb,
    error: impl std::error::Error + 'static,
) -> crate::types::StorageError {
    StorageIOError::new(subject, verb, AnyError::new(&error)).into()
}

impl From<StateError> for io::Error {
    fn from(e: StateError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, e)
    }
}
