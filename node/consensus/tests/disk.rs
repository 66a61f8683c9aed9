//! A disk that fills up under a node, and gets room again. Needs root, for a small tmpfs.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use hale_consensus::{Consensus, NoPeers};
use hale_model::ledger::LedgerError;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use support::*;

/// A disk of 24 MiB.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=24m", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(dir.path()).output();
        if mounted.is_ok_and(|m| m.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("SKIPPED: a tmpfs can't be mounted here; run as root to test a full disk");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.path().join("filler")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

async fn start(disk: &SmallDisk, reserve_bytes: u64) -> Consensus {
    let chain = Arc::new(chain(disk.path()));
    let mut config = config(disk.path(), 0);
    config.reserve_bytes = reserve_bytes;
    config.timeouts.write = Duration::from_secs(2);
    Consensus::start(config, chain, Arc::new(NoPeers))
        .await
        .unwrap()
}

/// Writes until it is taken, at most 20 s.
async fn written_again(node: &Consensus, what: &str) {
    for _ in 0..400 {
        if node.propose(append(0, what)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never recovered: {:?}", node.metrics());
}

async fn fills_and_recovers(reserve_bytes: u64) {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let node = start(&disk, reserve_bytes).await;
    node.found().await.unwrap();
    let mut acknowledged = vec![];
    for n in 0..20 {
        acknowledged.push(written(&node, append(0, &format!("record {n}"))).await);
    }
    disk.fill();
    let mut refused = None;
    for n in 0..2_000 {
        let filler = "x".repeat(2_000);
        match node.propose(append(0, &format!("full {n} {filler}"))).await {
            Ok(hale_model::ledger::Answer::Done { entry: Some(entry) }) => acknowledged.push(entry),
            Ok(other) => panic!("{other:?}"),
            Err(e) => {
                refused = Some(e);
                break;
            }
        }
    }
    let refused = refused.expect("a full disk takes no writes");
    assert!(matches!(refused, LedgerError::Storage(_)), "{refused}");
    disk.make_room();
    written_again(&node, "room again").await;
    let entries = node.entries(0..u64::MAX).unwrap();
    for entry in &acknowledged {
        assert_eq!(
            entries[entry.index as usize].hash(),
            entry.hash,
            "acknowledged and there"
        );
    }
    node.stop().await;
    let node = start(&disk, reserve_bytes).await;
    written_again(&node, "after a restart").await;
    node.stop().await;
    assert!(verified(&chain(disk.path())).len() >= acknowledged.len() + 3);
}

#[tokio::test]
async fn writes_stop_before_the_disk_is_full_and_go_on_when_there_is_room() {
    fills_and_recovers(4 << 20).await;
}

#[tokio::test]
async fn a_disk_that_does_fill_up_stops_the_ledger_until_there_is_room() {
    fills_and_recovers(0).await;
}
