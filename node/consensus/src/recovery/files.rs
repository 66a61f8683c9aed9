//! The files of a recovery: the marker, and a new node's state.

use super::{MARKER, Marker, Place, seats_of};
use crate::ledger::Ledger;
use crate::store::StoreError;
use crate::store::log::LogStore;
use crate::store::state::{Progress, StateStore};
use crate::types::{LogId, Peer};
use openraft::StoredMembership;
use std::fs::File;
use std::io;
use std::path::Path;

/// The recovery that the chain is still to be told of.
pub(super) fn marker(dir: &Path) -> Result<Option<Marker>, StoreError> {
    let path = dir.join(MARKER);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io(&path)(e)),
    };
    let marker = serde_json::from_slice(&bytes);
    marker.map(Some).map_err(|e| StoreError::damaged(&path, e))
}

/// The chain tells of it.
pub(super) fn forget(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(MARKER);
    std::fs::remove_file(&path).map_err(StoreError::io(&path))?;
    let synced = File::open(dir).and_then(|d| d.sync_all());
    synced.map_err(StoreError::io(dir))
}

/// Whether the log went through the entry that made its node the only voter.
pub(super) fn holds(log: &LogStore, at: Place) -> io::Result<bool> {
    if log.ends()?.purged.is_some_and(|p| p.index >= at.index) {
        return Ok(true);
    }
    let found = log.stretch(at.index)?;
    Ok(found.first().is_some_and(|e| Place::from(e.log_id) == at))
}

/// Stores a state as if it had been applied up to this log index, by a group of this node alone.
pub(super) fn write_state(
    dir: &Path,
    mut ledger: Ledger,
    last: LogId,
    me: &Peer,
) -> Result<(), StoreError> {
    let path = dir.join("state");
    let (store, ..) = StateStore::open(&path)?;
    let rows = ledger.take_all();
    let rows = rows.map_err(|e| StoreError::damaged(&path, e))?;
    let progress = Progress {
        last: Some(last),
        membership: StoredMembership::new(Some(last), seats_of(me)),
    };
    store
        .replace(rows, &progress)
        .map_err(StoreError::io(&path))
}
