//! A backup that is not exactly what was written is found out.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use hale_audit::archive::{Options, Segments};
use hale_consensus::{Consensus, NoPeers, SegmentChain};
use hale_model::ledger::{Command, EntryKind, Signed};
use hale_model::{Keypair, canonical};
use std::path::Path;
use std::sync::Arc;

fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n + 1; 32])
}

fn host(n: u8) -> HostName {
    HostName::new(format!("host-{n}")).unwrap()
}

async fn node(dir: &Path, n: u8) -> (Consensus, Arc<SegmentChain>) {
    let chain = SegmentChain::open(&dir.join("chain"), Options::default());
    let chain = Arc::new(chain.unwrap());
    let mut config = hale_consensus::Config::new(dir.join("ledger"), key(n), 7, host(n));
    config.reserve_bytes = 0;
    let started = Consensus::start(config, chain.clone(), Arc::new(NoPeers)).await;
    (started.unwrap(), chain)
}

/// A backup of a cluster of one, with a few records.
pub(crate) async fn backup(dir: &Path) -> Vec<u8> {
    let (consensus, chain) = node(dir, 0).await;
    consensus.found().await.unwrap();
    for n in 0..4 {
        let body = canonical::to_bytes(&serde_json::json!({ "n": n })).unwrap();
        let entry = Signed::new(EntryKind::Record, body, &key(0));
        consensus.propose(Command::Append { entry }).await.unwrap();
    }
    let copy = consensus.copy().await.unwrap();
    let bytes = written(&copy, &chain.segments().unwrap());
    consensus.stop().await;
    bytes
}

fn written(copy: &hale_consensus::Copy, chain: &Segments) -> Vec<u8> {
    let mut out = vec![];
    let take = |piece: Vec<u8>| {
        out.extend(piece);
        true
    };
    let at = Timestamp::from_millis(1_000);
    write(copy, chain, 7, (&key(0), &host(0)), at, take).unwrap();
    out
}

fn check(bytes: &[u8]) -> Result<Backup, BackupError> {
    read(bytes, |_| Ok(()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_read_as_it_was_written_and_any_other_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = backup(dir.path()).await;
    let mut entries = vec![];
    let found = read(&bytes[..], |e| {
        entries.push(e);
        Ok(())
    });
    let found = found.unwrap();
    assert_eq!((found.report.entries, entries.len()), (5, 5));
    assert_eq!(found.header.cluster, "0000000000000007");
    assert_eq!(found.bytes, bytes.len() as u64);
    assert!(found.ledger.is_enrolled(&key(0).node_id()));
    for at in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[at] ^= 1 << (at % 8);
        assert!(check(&forged).is_err(), "byte {at}");
    }
    for cut in 0..bytes.len() {
        assert!(check(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let longer = [&bytes[..], b"\0"].concat();
    assert!(matches!(check(&longer), Err(BackupError::Damaged { .. })));
    let mut newer = bytes.clone();
    newer[MAGIC.len()] = 2;
    assert!(matches!(check(&newer), Err(BackupError::Newer(2))));
    assert!(matches!(check(b"{}"), Err(BackupError::NotABackup)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_state_or_another_maker_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (consensus, chain) = node(dir.path(), 0).await;
    consensus.found().await.unwrap();
    let copy = consensus.copy().await.unwrap();
    let segments = chain.segments().unwrap();
    // A stranger who signs it by the book.
    let mut out = vec![];
    let take = |piece: Vec<u8>| {
        out.extend(piece);
        true
    };
    let at = Timestamp::from_millis(1_000);
    write(&copy, &segments, 7, (&key(5), &host(0)), at, take).unwrap();
    assert!(matches!(check(&out), Err(BackupError::Signature)));
    // A chain that is not there yet is no backup.
    let body = canonical::to_bytes(&serde_json::json!({ "n": 1 })).unwrap();
    let entry = Signed::new(EntryKind::Record, body, &key(0));
    consensus.propose(Command::Append { entry }).await.unwrap();
    let ahead = consensus.copy().await.unwrap();
    let empty = tempfile::tempdir().unwrap();
    let empty = Segments::open(empty.path(), Options::default()).unwrap();
    let behind = write(&ahead, &empty, 7, (&key(0), &host(0)), at, |_| true);
    assert!(matches!(behind, Err(WriteError::Behind { .. })));
    let gone = write(&copy, &segments, 7, (&key(0), &host(0)), at, |_| false);
    assert!(matches!(gone, Err(WriteError::Gone)));
    drop(segments);
    consensus.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_becomes_a_node_in_an_empty_directory_or_nothing() {
    use super::restore::{NewNode, RestoreError, open, restore};
    let dir = tempfile::tempdir().unwrap();
    let bytes = backup(dir.path()).await;
    let file = dir.path().join("backup");
    std::fs::write(&file, &bytes).unwrap();
    let settings = crate::cluster::book::Settings::default();
    let (at, addr) = (
        Timestamp::from_millis(2_000),
        "10.0.0.1:7118".parse().unwrap(),
    );
    let into = |file: &Path, to: &Path, node| restore(file, to, node, (&settings, addr), at);

    let occupied = into(&file, dir.path(), NewNode::on(host(5)));
    assert!(matches!(occupied, Err(RestoreError::NotEmpty(_))));
    let new = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken");
    std::fs::write(&broken, &bytes[..bytes.len() - 1]).unwrap();
    let refused = into(&broken, new.path(), NewNode::on(host(5)));
    assert!(matches!(refused, Err(RestoreError::Backup { .. })));
    assert_eq!(std::fs::read_dir(new.path()).unwrap().count(), 0);

    // As the member it was: its key is on the roster.
    let seed = dir.path().join("node.key");
    std::fs::write(&seed, key(0).seed()).unwrap();
    let found = open(&file).unwrap();
    let other = NewNode::with_key_of(&seed, &found, Some(&host(3)));
    assert!(matches!(other, Err(RestoreError::OtherHost(_))));
    let member = NewNode::with_key_of(&seed, &found, None).unwrap();
    let done = into(&file, new.path(), member).unwrap();
    assert_eq!(
        (done.told.node, &done.told.host),
        (key(0).node_id(), &host(0))
    );
    let (consensus, chain) = node(new.path(), 0).await;
    assert_eq!(consensus.metrics().entries, 6);
    let entries: Result<Vec<_>, _> = chain.segments().unwrap().read(0..6).collect();
    assert_eq!(entries.unwrap()[5].kind, EntryKind::Recovery);
    // And its own backup is one too.
    let copy = consensus.copy().await.unwrap();
    let again = check(&written(&copy, &chain.segments().unwrap())).unwrap();
    assert_eq!(again.report.recoveries.len(), 1);
    consensus.stop().await;

    std::fs::write(&seed, key(9).seed()).unwrap();
    let stranger = NewNode::with_key_of(&seed, &found, None);
    assert!(matches!(stranger, Err(RestoreError::NotAMember { .. })));
}
