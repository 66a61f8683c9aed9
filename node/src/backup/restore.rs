//! A new data directory is made of a backup, after all nodes were lost.

use super::{Backup, BackupError, read};
use crate::cluster::book::Settings;
use crate::identity::{DataDir, IdentityError, at, write_private};
use hale_audit::archive::Options;
use hale_consensus::recovery::{self, Recovered, RecoveryError, Restoring};
use hale_consensus::{ChainStore, SegmentChain};
use hale_model::chain::Entry;
use hale_model::{HostName, Keypair, NodeId, Timestamp};
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// So many bytes of entries are written at once.
const BATCH: usize = 1 << 20;

/// Why a backup can't be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    /// The file.
    #[error("{path} can't be restored")]
    Backup {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: BackupError,
    },
    /// The directory is not empty.
    #[error("{0} is not empty; restore into a directory of its own with --data-dir")]
    NotEmpty(PathBuf),
    /// The key is not a member's.
    #[error(
        "the key in {path} is node {node}'s, which is not on the backup's roster; leave out \
         --key-file to restore as a new node"
    )]
    NotAMember {
        /// The key's file.
        path: PathBuf,
        /// Whose it is.
        node: String,
    },
    /// It has another host.
    #[error("that key belongs to host {0}; leave out --host, or leave out --key-file")]
    OtherHost(HostName),
    /// The files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The chain.
    #[error("the chain can't be written to {path}")]
    Chain {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] RecoveryError),
}

/// Reads and checks a backup's file.
pub(crate) fn open(path: &Path) -> Result<Backup, RestoreError> {
    reading(path, |_| Ok(()))
}

fn reading(path: &Path, take: impl FnMut(Entry) -> io::Result<()>) -> Result<Backup, RestoreError> {
    let unusable = |source| RestoreError::Backup {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(|e| unusable(BackupError::Io(e)))?;
    let backup = read(BufReader::with_capacity(1 << 20, file), take);
    backup.map_err(unusable)
}

/// Who the new node will be.
#[derive(Debug)]
pub(crate) struct NewNode {
    key: Option<Keypair>,
    pub(crate) host: HostName,
}

impl NewNode {
    /// A new node on this host.
    pub(crate) fn on(host: HostName) -> Self {
        Self { key: None, host }
    }

    /// The member of the backup whose key is in a file.
    pub(crate) fn with_key_of(
        path: &Path,
        backup: &Backup,
        host: Option<&HostName>,
    ) -> Result<Self, RestoreError> {
        let bytes = fs::read(path).map_err(at(path))?;
        let seed = <[u8; 32]>::try_from(bytes);
        let seed = seed.map_err(|_| IdentityError::BadKey(path.to_owned()))?;
        let key = Keypair::from_seed(&seed);
        let node = key.node_id();
        let found = backup.ledger.roster().find(|(n, _)| **n == node);
        let (_, known) = found.ok_or_else(|| RestoreError::NotAMember {
            path: path.to_owned(),
            node: node.short(),
        })?;
        if host.is_some_and(|h| h != known) {
            return Err(RestoreError::OtherHost(known.clone()));
        }
        Ok(Self {
            key: Some(key),
            host: known.clone(),
        })
    }

    /// The member it is; none if it is a new node.
    pub(crate) fn member(&self) -> Option<NodeId> {
        self.key.as_ref().map(Keypair::node_id)
    }
}

/// Whether a directory may be restored into.
pub(crate) fn is_free(dir: &Path) -> Result<(), RestoreError> {
    match fs::read_dir(dir) {
        Ok(mut found) => match found.next() {
            None => Ok(()),
            Some(_) => Err(RestoreError::NotEmpty(dir.to_owned())),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(at(dir)(e).into()),
    }
}

/// Makes the directory of a node that goes on from a backup. If it fails nothing is left there.
///
/// # Errors
/// If the directory is not empty, the file does not hold, or the disk does not take it.
pub(crate) fn restore(
    file: &Path,
    dir: &Path,
    node: NewNode,
    (settings, advertise): (&Settings, SocketAddr),
    now: Timestamp,
) -> Result<Recovered, RestoreError> {
    is_free(dir)?;
    let data = DataDir::open(dir)?;
    let made = fill(file, &data, node, (settings, advertise), now);
    if made.is_err() {
        empty(dir);
    }
    made
}

/// The cluster's number is written last: before it is there, this is no node's directory.
fn fill(
    file: &Path,
    data: &DataDir,
    node: NewNode,
    (settings, advertise): (&Settings, SocketAddr),
    now: Timestamp,
) -> Result<Recovered, RestoreError> {
    if let Some(key) = &node.key {
        write_private(&data.join("node.key"), &key.seed())?;
    }
    let key = data.key()?;
    let path = data.join("chain");
    let failed = |source| RestoreError::Chain {
        path: path.clone(),
        source,
    };
    let chain = SegmentChain::open(&path, Options::default()).map_err(failed)?;
    let (mut batch, mut bytes) = (vec![], 0);
    let backup = reading(file, |entry| {
        bytes += entry.body.len();
        batch.push(entry);
        if bytes < BATCH {
            return Ok(());
        }
        bytes = 0;
        chain.append(&std::mem::take(&mut batch))
    })?;
    chain.append(&batch).map_err(failed)?;
    chain.sync().map_err(failed)?;
    let unusable = |source| RestoreError::Backup {
        path: file.to_owned(),
        source,
    };
    let cluster = backup.cluster().map_err(unusable)?;
    let done = recovery::restore(
        Restoring {
            dir: &data.join("ledger"),
            key: &key,
            host: node.host,
            addr: advertise.to_string(),
            cluster,
            copy: &backup.copy,
            backup: backup.digest,
            at: now,
        },
        &chain,
    )?;
    settings.write(data.path())?;
    data.token()?;
    data.set_cluster(cluster)?;
    Ok(done)
}

/// What was made here goes; the directory itself may be a mount point.
fn empty(dir: &Path) {
    for found in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = found.path();
        let gone = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        if let Err(error) = gone {
            tracing::warn!(path = %path.display(), %error, "it could not be removed");
        }
    }
}
