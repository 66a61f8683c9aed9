//! The applied state on disk, and the one home of sled for the cluster's state: the ledger's rows,
//! and how far they were applied, changed together or not at all.

use super::StoreError;
use crate::ledger::{Change, Ledger, Row};
use crate::types::{LogId, Membership};
use hale_model::{Digest, wire};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const CHECKSUM_BYTES: usize = 8;
const CACHE_BYTES: u64 = 8 << 20;
/// The key of what is no row of the ledger; rows' keys begin with another byte.
const APPLIED: &[u8] = b"applied";
const ROW: u8 = b'/';

/// How far the log was applied, and who is in the group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: Membership,
}

/// The applied state.
pub(crate) struct StateStore {
    path: PathBuf,
    db: sled::Db,
}

impl StateStore {
    /// Opens the state in `path`, or makes an empty one, and reads it all.
    pub(crate) fn open(path: &Path) -> Result<(Self, Progress, Ledger), StoreError> {
        // sled asserts on some kinds of damage; an assertion is an answer too, not a crash.
        let opened = std::panic::catch_unwind(|| {
            sled::Config::new()
                .path(path)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .mode(sled::Mode::LowSpace)
                .open()
        });
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(sled::Error::Io(e))) if e.to_string().contains("lock") => {
                return Err(StoreError::InUse {
                    path: path.to_owned(),
                });
            }
            Ok(Err(sled::Error::Io(e))) => return Err(StoreError::io(path)(e)),
            Ok(Err(e)) => return Err(StoreError::damaged(path, e)),
            Err(_) => return Err(StoreError::damaged(path, "its pages do not fit together")),
        };
        let store = Self {
            path: path.to_owned(),
            db,
        };
        let (progress, ledger) = store.load()?;
        Ok((store, progress, ledger))
    }

    fn load(&self) -> Result<(Progress, Ledger), StoreError> {
        let damaged = |what: String| StoreError::damaged(&self.path, what);
        let (mut progress, mut rows) = (Progress::default(), vec![]);
        for found in self.db.iter() {
            let (key, value) = found.map_err(|e| damaged(e.to_string()))?;
            let value = unsealed(&key, &value)
                .ok_or_else(|| damaged("a value does not match its checksum".into()))?;
            if key.as_ref() == APPLIED {
                progress = wire::decode(value).map_err(|e| damaged(e.to_string()))?;
            } else {
                rows.push(value.to_vec());
            }
        }
        if progress == Progress::default() && !rows.is_empty() {
            return Err(damaged("it does not say how far it was applied".into()));
        }
        let ledger = Ledger::from_rows(rows).map_err(|e| damaged(e.to_string()))?;
        Ok((progress, ledger))
    }

    /// Stores what changed, and how far that is, in one step; on the disk when it returns.
    pub(crate) fn write(&self, changes: Vec<Change>, progress: &Progress) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for (row, content) in changes {
            let key = key_of(&row)?;
            match content {
                Some(bytes) => batch.insert(key.clone(), sealed(&key, &bytes)),
                None => batch.remove(key),
            }
        }
        self.apply(batch, progress)
    }

    /// Stores these rows instead of all there were.
    pub(crate) fn replace(&self, rows: Vec<(Row, Vec<u8>)>, progress: &Progress) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for key in self.db.iter().keys() {
            batch.remove(key.map_err(io::Error::other)?);
        }
        for (row, bytes) in rows {
            let key = key_of(&row)?;
            batch.insert(key.clone(), sealed(&key, &bytes));
        }
        self.apply(batch, progress)
    }

    fn apply(&self, mut batch: sled::Batch, progress: &Progress) -> io::Result<()> {
        let progress = wire::encode(progress).map_err(io::Error::other)?;
        batch.insert(APPLIED, sealed(APPLIED, &progress));
        self.db.apply_batch(batch).map_err(io::Error::other)?;
        self.db.flush().map_err(io::Error::other)?;
        // sled's flush only asks for write-back (sync_file_range); this waits for the disk.
        File::open(self.path.join("db"))?.sync_data()
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

fn key_of(row: &Row) -> io::Result<Vec<u8>> {
    let mut key = vec![ROW];
    key.extend(wire::encode(row).map_err(io::Error::other)?);
    Ok(key)
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&Digest::of_parts(&[key, value]).as_bytes()[..CHECKSUM_BYTES]);
    sum
}

fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = checksum(key, value).to_vec();
    out.extend_from_slice(value);
    out
}

fn unsealed<'a>(key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = bytes.split_at_checked(CHECKSUM_BYTES)?;
    (checksum(key, value) == sum).then_some(value)
}
