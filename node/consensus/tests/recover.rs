//! A group that lost its quorum for good, and one that lost all of its nodes.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use hale_consensus::recovery::{self, Recovered, RecoveryError, Restoring, Survey};
use hale_consensus::{ChainStore, Consensus, ConsensusError, NoPeers, Peer, StoreError};
use hale_model::ledger::{Answer, Command, EntryKind, Refusal};
use hale_model::{Digest, HostName, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use support::cluster::Cluster;
use support::*;

const AT: Timestamp = Timestamp::from_millis(1_000);

fn ledger(dir: &Path) -> PathBuf {
    dir.join("ledger")
}

fn survey(dir: &Path, n: u8) -> Result<Survey, RecoveryError> {
    recovery::survey(&ledger(dir), key(n).node_id(), 7, &chain(dir))
}

fn recover(dir: &Path, n: u8) -> Result<Recovered, RecoveryError> {
    recovery::recover(&ledger(dir), &key(n), 7, &chain(dir), AT)
}

fn enrol(n: u8, by: u8) -> Command {
    Command::Enrol {
        node: key(n).node_id(),
        host: HostName::new(format!("host-{n}")).unwrap(),
        entry: signed(EntryKind::Enrolment, by, &format!("enrol {n}")),
    }
}

fn kind_of_last(chain: &dyn ChainStore) -> EntryKind {
    let len = chain.len();
    chain.read(len - 1..len).unwrap()[0].kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_goes_on_alone_with_all_it_had_and_others_join_it() {
    let mut cluster = Cluster::of(3, 5_000).await;
    let leader = cluster.leader().await;
    for n in 0..20 {
        written(
            &cluster.node(leader),
            append(leader as u8, &format!("record {n}")),
        )
        .await;
    }
    cluster.level().await;
    for n in [1, 2, 0] {
        cluster.kill(n).await;
    }
    let dir = cluster.dirs[0].path().to_owned();
    let before = verified(&cluster.chain(0));
    let seen = survey(&dir, 0).unwrap();
    assert_eq!((seen.voters.len(), seen.roster.len()), (3, 3));
    assert_eq!(seen.leads_to.entries, before.len() as u64);
    assert_eq!(survey(&dir, 0).unwrap(), seen, "looking changes nothing");

    let done = recover(&dir, 0).unwrap();
    assert_eq!(done.told.lost.len(), 2);
    assert!(done.at.term > seen.highest_term && done.at.index == seen.last.index + 1);
    assert!(matches!(recover(&dir, 0), Err(RecoveryError::Alone)));

    cluster.start(0).await;
    let node = cluster.node(0);
    let metrics = node.metrics();
    assert!(metrics.leads && metrics.voters.len() == 1);
    assert_eq!(node.read(|l| l.roster().count()).await.unwrap(), 1);
    assert_eq!(metrics.entries, before.len() as u64 + 1);
    assert!(!ledger(&dir).join("recovered.json").exists());

    // Who was lost comes back with its old directory: it has no say any more.
    cluster.start(1).await;
    let back = cluster.node(0).propose(append(1, "back")).await.unwrap();
    assert!(matches!(back, Answer::Refused(Refusal::UnknownNode(_))));
    let same_key = node.propose(enrol(1, 0)).await.unwrap();
    assert!(matches!(same_key, Answer::Refused(Refusal::WasRemoved(_))));
    cluster.kill(1).await;

    // A node with a new key stands by, and then votes.
    let new = cluster.add().await as u8;
    written(&node, enrol(new, 0)).await;
    let peer = Peer {
        node: key(new).node_id(),
        addr: String::new(),
    };
    node.add_learner(peer).await.unwrap();
    node.set_voters(&[key(0).node_id(), key(new).node_id()])
        .await
        .unwrap();
    written(&node, append(new, "goes on")).await;
    cluster.level().await;
    drop(node);
    cluster.kill(0).await;
    cluster.kill(usize::from(new)).await;
    let whole = verified(&cluster.chain(0));
    assert_eq!(whole[..before.len()], before, "nothing it had is lost");
    assert_eq!(verified(&cluster.chain(usize::from(new))), whole);
    // What the chain tells is told once, whatever starts again.
    cluster.start(0).await;
    cluster.kill(0).await;
    assert_eq!(verified(&cluster.chain(0)), whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_known_to_be_committed_becomes_final_and_is_counted() {
    let mut cluster = Cluster::of(3, 5_000).await;
    let leader = cluster.leader().await;
    cluster.level().await;
    let before = cluster.node(leader).metrics().entries;
    let node = cluster.node(leader);
    for n in (0..3).filter(|n| *n != leader) {
        cluster.kill(n).await;
    }
    let asked = node.propose(append(leader as u8, "acknowledged by nobody"));
    let asked = tokio::time::timeout(Duration::from_millis(800), asked).await;
    assert!(asked.is_err(), "a minority acknowledges nothing");
    drop(node);
    cluster.kill(leader).await;
    let dir = cluster.dirs[leader].path().to_owned();
    let seen = survey(&dir, leader as u8).unwrap();
    assert!(seen.unconfirmed >= 1, "{seen:?}");
    assert_eq!(seen.chain.entries, before);
    assert_eq!(seen.leads_to.entries, before + 1);
    let done = recover(&dir, leader as u8).unwrap();
    assert_eq!(done.told.unconfirmed, seen.unconfirmed);
    cluster.start(leader).await;
    assert_eq!(cluster.node(leader).metrics().entries, before + 2);
    cluster.kill(leader).await;
    let chain = cluster.chain(leader);
    assert_eq!(kind_of_last(&chain), EntryKind::Recovery);
    assert!(verified(&chain)[before as usize].contains("acknowledged by nobody"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_can_not_be_recovered_is_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = survey(dir.path(), 0);
    assert!(matches!(nothing, Err(RecoveryError::Outside(_))));
    assert!(!ledger(dir.path()).exists(), "and nothing is made");

    // One that only ever followed has a log without an entry.
    let idle = Consensus::start(
        config(dir.path(), 0),
        Arc::new(chain(dir.path())),
        Arc::new(NoPeers),
    );
    idle.await.unwrap().stop().await;
    let outside = recover(dir.path(), 0);
    assert!(matches!(outside, Err(RecoveryError::Outside(_))));

    let mut cluster = Cluster::of(3, 5_000).await;
    let dir = cluster.dirs[0].path().to_owned();
    let other = tempfile::tempdir().unwrap();
    let running = recovery::survey(&ledger(&dir), key(0).node_id(), 7, &chain(other.path()));
    let in_use = RecoveryError::Store(StoreError::InUse { path: dir.clone() }).to_string();
    assert!(
        running
            .unwrap_err()
            .to_string()
            .ends_with(&in_use[in_use.len() - 60..])
    );
    cluster.kill(0).await;
    let foreign = recovery::survey(&ledger(&dir), key(1).node_id(), 7, &chain(&dir));
    assert!(matches!(
        foreign,
        Err(RecoveryError::Store(StoreError::Foreign { .. }))
    ));
    // A recovery that was begun and not done is none.
    let marker = ledger(&dir).join("recovered.json");
    recover(&dir, 0).unwrap();
    let begun = std::fs::read(&marker).unwrap();
    cluster.start(0).await;
    cluster.kill(0).await;
    std::fs::write(ledger(cluster.dirs[1].path()).join("recovered.json"), begun).unwrap();
    cluster.kill(1).await;
    cluster.start(1).await;
    assert!(
        !ledger(cluster.dirs[1].path())
            .join("recovered.json")
            .exists()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_becomes_a_new_node_that_takes_the_place_of_all() {
    let mut cluster = Cluster::of(3, 5_000).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    for n in 0..20 {
        written(&node, append(leader as u8, &format!("record {n}"))).await;
    }
    let held = node
        .propose(Command::Acquire(acquire(1, "s", "exe_1")))
        .await;
    let Answer::Granted { fence: old, .. } = held.unwrap() else {
        panic!("not granted")
    };
    let copy = node.copy().await.unwrap();
    let entries = node
        .entries(0..copy.ledger().unwrap().tip().entries)
        .unwrap();
    drop(node);

    let dir = tempfile::tempdir().unwrap();
    let new = 8;
    let restored = |chain: &dyn ChainStore, copy| {
        recovery::restore(
            Restoring {
                dir: &ledger(dir.path()),
                key: &key(new),
                host: HostName::new("host-0").unwrap(),
                addr: String::new(),
                cluster: 7,
                copy,
                backup: Digest::of(b"backup"),
                at: AT,
            },
            chain,
        )
    };
    {
        let chain = chain(dir.path());
        chain.append(&entries[..5]).unwrap();
        let short = restored(&chain, &copy);
        let cut = matches!(
            short,
            Err(RecoveryError::Store(StoreError::ChainMismatch { .. }))
        );
        assert!(cut, "a chain that does not fit the state is refused");
        std::fs::remove_dir_all(ledger(dir.path())).unwrap();
        chain.append(&entries[5..]).unwrap();
        chain.sync().unwrap();
        let done = restored(&chain, &copy).unwrap();
        assert_eq!(done.told.lost.len(), 3);
        assert!(matches!(
            restored(&chain, &copy),
            Err(RecoveryError::Occupied(_))
        ));
    }
    let alone = Consensus::start(
        config(dir.path(), new),
        Arc::new(chain(dir.path())),
        Arc::new(NoPeers),
    );
    let alone = alone.await.unwrap();
    assert!(alone.metrics().leads);
    let roster = alone.read(|l| l.roster().map(|(n, _)| *n).collect::<Vec<_>>());
    assert_eq!(roster.await.unwrap(), [key(new).node_id()]);
    // The grant of a node that is gone is closed as abandoned, by the one that is left.
    until("the old grant is closed", || {
        alone.metrics().open_grants == 0
    })
    .await;
    let granted = alone.propose(Command::Acquire(acquire(new, "s", "exe_2")));
    let Answer::Granted { fence, .. } = granted.await.unwrap() else {
        panic!("not granted")
    };
    assert!(fence > old, "fences only rise");
    alone.stop().await;
    let chain = chain(dir.path());
    verified(&chain);
    let after = chain.read(0..chain.len()).unwrap();
    assert_eq!(after[..entries.len()], entries);
    assert_eq!(after[entries.len()].kind, EntryKind::Recovery);
    cluster.kill(leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_take_the_entry_keeps_the_node_from_starting() {
    let mut cluster = Cluster::of(3, 5_000).await;
    cluster.level().await;
    for n in [1, 2, 0] {
        cluster.kill(n).await;
    }
    let dir = cluster.dirs[0].path().to_owned();
    recover(&dir, 0).unwrap();
    let full = hale_consensus::Config {
        reserve_bytes: u64::MAX,
        ..config(&dir, 0)
    };
    let started = Consensus::start(full, Arc::new(chain(&dir)), Arc::new(NoPeers)).await;
    let error = started.err().unwrap();
    assert!(matches!(error, ConsensusError::Recovery(_)), "{error}");
    cluster.start(0).await;
    assert_eq!(cluster.node(0).read_stale(|l| l.roster().count()), 1);
}
