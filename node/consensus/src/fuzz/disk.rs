//! A node's files as a bad disk might leave them.

use super::{CLUSTER, entries, id};
use crate::ledger::Ledger;
use crate::store::log::LogStore;
use crate::store::state::{Progress, StateStore};
use hale_hostile::Parser;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

/// The Raft log's file.
pub(super) const RAFT_LOG: Parser = Parser {
    name: "raft_log",
    seeds: || vec![LOG.1.clone()],
    feed: raft_log,
};

/// The applied state's files. The bytes say where they are spoilt: see [`spoilt`].
pub(super) const STATE_STORE: Parser = Parser {
    name: "state_store",
    seeds: || vec![vec![], vec![1, 0, 0, 0, 9, 0xff], vec![0, 0, 9, 9]],
    feed: state_store,
};

/// The name and the bytes of the file of a log with some entries.
static LOG: LazyLock<(String, Vec<u8>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let log = LogStore::open(dir.path(), CLUSTER).unwrap();
    for entry in entries() {
        log.continue_with(crate::types::Vote::new(2, 3), &entry)
            .unwrap();
    }
    log.close();
    let mut files = files(dir.path());
    files.retain(|name, _| name.ends_with(".wal"));
    files.pop_last().unwrap()
});

/// The files of a small state.
static STATE: LazyLock<BTreeMap<String, Vec<u8>>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let (store, ..) = StateStore::open(dir.path()).unwrap();
    let mut ledger = Ledger::decode(&super::unhex(super::STATE)).unwrap();
    let progress = |n| Progress {
        last: Some(id(n)),
        membership: openraft::StoredMembership::default(),
    };
    store
        .replace(ledger.take_all().unwrap(), &progress(16))
        .unwrap();
    for (command, n) in super::commands().into_iter().zip(1_000..) {
        ledger.apply(n, command);
        store
            .write(ledger.take_touched().unwrap(), &progress(n))
            .unwrap();
    }
    drop(store);
    files(dir.path())
});

/// Every file below a directory, by its name from there.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_file() {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

fn raft_log(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(&LOG.0), bytes).unwrap();
    let Ok(log) = LogStore::open(dir.path(), CLUSTER) else {
        return;
    };
    let Ok(ends) = log.ends() else {
        return;
    };
    let from = ends.purged.map_or(0, |p| p.index);
    let _ = log.stretch(from);
    log.close();
}

fn state_store(how: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in spoilt(&STATE, how) {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    if let Ok((store, ..)) = StateStore::open(dir.path()) {
        let _ = store.disk_bytes();
    }
}

/// Files with changes of six bytes each: an even first byte changes a byte of the file with that
/// number among those that are not zero, an odd one cuts the file there.
fn spoilt(files: &BTreeMap<String, Vec<u8>>, how: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = files.clone();
    for change in how.chunks_exact(6) {
        let (file, place) = (usize::from(change[0]), &change[1..5]);
        let place = place.iter().fold(0, |n, b| n << 8 | usize::from(*b));
        let count = files.len();
        let Some(bytes) = files.values_mut().nth(file / 2 % count) else {
            continue;
        };
        let used: Vec<_> = (0..bytes.len()).filter(|n| bytes[*n] != 0).collect();
        let Some(at) = used.get(place % used.len().max(1)) else {
            continue;
        };
        if file.is_multiple_of(2) {
            bytes[*at] ^= change[5];
        } else {
            bytes.truncate(*at);
        }
    }
    files
}
