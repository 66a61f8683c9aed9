//! A group of one: founded, written to, read, restarted, damaged.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use hale_consensus::{ChainStore, Consensus, ConsensusError, News, NoPeers, StoreError};
use hale_model::ledger::{Answer, Approval, ApprovalState, Command, EntryKind, Refusal};
use hale_model::{ApprovalId, Digest, HostName, IncidentId, PlaybookName};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::*;
use tempfile::tempdir;

async fn start(dir: &Path, n: u8) -> Result<Consensus, ConsensusError> {
    let chain = Arc::new(chain(dir));
    Consensus::start(config(dir, n), chain, Arc::new(NoPeers)).await
}

async fn start_error(dir: &Path) -> String {
    match start(dir, 0).await {
        Ok(_) => panic!("it started"),
        Err(e) => e.to_string(),
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempdir().unwrap();
    let first = node(dir.path()).await;
    let granted = first
        .propose(Command::Acquire(acquire(0, "s", "exe_1")))
        .await
        .unwrap();
    let Answer::Granted { fence, .. } = granted else {
        panic!("{granted:?}")
    };
    written(&first, close(0, fence, "done")).await;
    let tip = first.read(|l| l.tip()).await.unwrap();
    first.stop().await;

    let second = node(dir.path()).await;
    assert_eq!(second.read(|l| l.tip()).await.unwrap(), tip);
    assert!(matches!(second.found().await, Err(ConsensusError::Founded)));
    let again = second.propose(close(0, fence, "otherwise")).await.unwrap();
    assert_eq!(again, Answer::Refused(Refusal::AlreadyClosed(fence)));
    let next = second
        .propose(Command::Acquire(acquire(0, "s", "exe_2")))
        .await
        .unwrap();
    assert!(matches!(next, Answer::Granted { fence: f, .. } if f > fence));
    second.stop().await;
    let bodies = verified(&chain(dir.path()));
    assert_eq!(
        bodies.len(),
        4,
        "enrolment, intent, record, intent: {bodies:?}"
    );
}

#[tokio::test]
async fn snapshots_purge_the_log_and_lose_nothing() {
    let dir = tempdir().unwrap();
    // What was dropped without a stop lets go of its files a little later.
    let start = || async {
        for _ in 0..200 {
            let chain = Arc::new(chain(dir.path()));
            let mut config = config(dir.path(), 0);
            config.snapshot_every = 20;
            match Consensus::start(config, chain, Arc::new(NoPeers)).await {
                Ok(node) => return node,
                Err(ConsensusError::Store(StoreError::InUse { .. })) => {}
                Err(e) => panic!("{e}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("its files are still in use")
    };
    let first = start().await;
    first.found().await.unwrap();
    for n in 0..100 {
        written(&first, append(0, &format!("record {n}"))).await;
    }
    until("the log is purged", || first.metrics().purged > 50).await;
    let tip = first.read_stale(|l| l.tip());
    drop(first);
    let second = start().await;
    assert_eq!(second.read(|l| l.tip()).await.unwrap(), tip);
    written(&second, append(0, "after")).await;
    second.stop().await;
    assert_eq!(verified(&chain(dir.path())).len(), 102);
}

#[tokio::test]
async fn a_lease_runs_out_by_the_leaders_clock_and_its_grant_waits() {
    let dir = tempdir().unwrap();
    let node = node(dir.path()).await;
    let mut news = node.subscribe();
    let asked = std::time::Instant::now();
    let granted = node
        .propose(Command::Acquire(acquire(0, "s", "exe_1")))
        .await
        .unwrap();
    let Answer::Granted { fence, ttl_ms } = granted else {
        panic!("{granted:?}")
    };
    loop {
        if let News::Expired(lease) = news.recv().await.unwrap() {
            assert_eq!(lease.fence, fence);
            break;
        }
    }
    assert!(
        asked.elapsed().as_millis() as u64 >= ttl_ms,
        "not before its ttl"
    );
    let live = node.read(|l| l.lease(fence).map(|l| l.live)).await.unwrap();
    assert_eq!(live, Some(false));
    written(&node, close(0, fence, "late")).await;
    node.stop().await;
}

#[tokio::test]
async fn a_question_nobody_answers_runs_out_and_is_on_the_chain() {
    let dir = tempdir().unwrap();
    let node = node(dir.path()).await;
    let mut news = node.subscribe();
    let id = ApprovalId::new("apr_1").unwrap();
    let question = Approval {
        id: id.clone(),
        incident: IncidentId::new("inc_1").unwrap(),
        host: HostName::new("host-0").unwrap(),
        node: key(0).node_id(),
        playbook: PlaybookName::new("restart").unwrap(),
        version: "1.0.0".into(),
        plan_digest: Digest::of(b"plan"),
        plan: b"{}".to_vec(),
        rationale: String::new(),
        confidence_ppm: 800_000,
        ttl_ms: 1_000,
        asked_at_ms: 0,
        state: ApprovalState::Waiting,
        answered_by: None,
        entry: signed(EntryKind::Approval, 0, "ask"),
    };
    written(&node, Command::AskApproval(question)).await;
    loop {
        if let News::Approval {
            state: ApprovalState::Expired,
            ..
        } = news.recv().await.unwrap()
        {
            break;
        }
    }
    let last = node.entries(2..3).unwrap().remove(0);
    let body: serde_json::Value = serde_json::from_slice(&last.body).unwrap();
    assert_eq!(
        (&body["state"], &body["incident"]),
        (&"expired".into(), &"inc_1".into())
    );
    node.stop().await;
}

#[tokio::test]
async fn a_node_without_a_cluster_says_so() {
    let dir = tempdir().unwrap();
    let chain = Arc::new(chain(dir.path()));
    let mut config = config(dir.path(), 0);
    config.timeouts.write = std::time::Duration::from_millis(200);
    let node = Consensus::start(config, chain, Arc::new(NoPeers))
        .await
        .unwrap();
    assert!(!node.is_founded());
    let error = node.propose(append(0, "x")).await.unwrap_err();
    assert!(error.to_string().contains("no leader"), "{error}");
    assert!(node.read(|_| ()).await.is_err());
    node.read_stale(|l| assert_eq!(l.tip().entries, 0));
    node.stop().await;
}

#[tokio::test]
async fn a_directory_in_use_or_of_another_node_is_refused() {
    let dir = tempdir().unwrap();
    let first = node(dir.path()).await;
    let elsewhere = tempdir().unwrap();
    let second = Arc::new(chain(elsewhere.path()));
    let in_use = Consensus::start(config(dir.path(), 0), second, Arc::new(NoPeers)).await;
    let in_use = in_use.err().unwrap();
    assert!(
        matches!(in_use, ConsensusError::Store(StoreError::InUse { .. })),
        "{in_use}"
    );
    first.stop().await;
    let foreign = start(dir.path(), 1).await.err().unwrap();
    assert!(
        matches!(foreign, ConsensusError::Store(StoreError::Foreign { .. })),
        "{foreign}"
    );
    std::fs::write(dir.path().join("ledger/FORMAT"), "hale consensus 9\nx\n").unwrap();
    let newer = start(dir.path(), 0).await.err().unwrap();
    assert!(
        matches!(newer, ConsensusError::Store(StoreError::Newer { .. })),
        "{newer}"
    );
}

/// A node with some history, stopped.
async fn with_history() -> tempfile::TempDir {
    let dir = tempdir().unwrap();
    let node = node(dir.path()).await;
    for n in 0..30 {
        written(&node, append(0, &format!("record {n}"))).await;
    }
    node.stop().await;
    dir
}

fn wal(dir: &Path) -> PathBuf {
    let log = dir.join("ledger/log");
    let files = std::fs::read_dir(log).unwrap().map(|f| f.unwrap().path());
    files
        .filter(|f| f.extension().is_some_and(|e| e == "wal"))
        .max()
        .unwrap()
}

fn flip(path: &Path, at: f64) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = (bytes.len() as f64 * at) as usize;
    bytes[at] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_log_is_refused_wherever_the_damage_is() {
    let whole = with_history().await;
    for part in [0.1, 0.3, 0.5, 0.7, 0.9] {
        let dir = tempdir().unwrap();
        copy(whole.path(), dir.path());
        flip(&wal(dir.path()), part);
        let error = start_error(dir.path()).await;
        assert!(
            error.contains("ledger/log") && error.contains("backup"),
            "{part}: {error}"
        );
    }
}

#[tokio::test]
async fn a_log_cut_short_is_refused_because_the_chain_knows_more() {
    let dir = with_history().await;
    let path = wal(dir.path());
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = start_error(dir.path()).await;
    assert!(
        error.contains("ledger/log") && error.contains("backup"),
        "{error}"
    );
    // Also if the state beside it is lost: then the chain alone knows.
    std::fs::remove_dir_all(dir.path().join("ledger/state")).unwrap();
    let error = start_error(dir.path()).await;
    assert!(
        error.contains("ledger/log") && error.contains("backup"),
        "{error}"
    );
}

#[tokio::test]
async fn a_lost_log_is_refused() {
    let dir = with_history().await;
    std::fs::remove_dir_all(dir.path().join("ledger/log")).unwrap();
    let error = start_error(dir.path()).await;
    assert!(
        error.contains("ledger/log") && error.contains("vote"),
        "{error}"
    );
}

#[tokio::test]
async fn a_damaged_or_lost_state_is_refused_or_made_anew() {
    let dir = with_history().await;
    let db = dir.path().join("ledger/state/db");
    let whole = std::fs::read(&db).unwrap();
    for n in 1..20 {
        std::fs::write(&db, &whole).unwrap();
        flip(&db, f64::from(n) / 20.0);
        match start(dir.path(), 0).await {
            // Free space in the file, or sled went back to an older state that the log leads on
            // from: nothing is lost then.
            Ok(node) => {
                assert_eq!(
                    node.read(|l| l.tip().entries).await.unwrap(),
                    31,
                    "part {n}"
                );
                node.stop().await;
            }
            Err(e) => {
                let error = e.to_string();
                assert!(
                    error.contains("ledger/state") && error.contains("backup"),
                    "{error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_chain_cut_short_is_refused() {
    let dir = with_history().await;
    chain(dir.path()).truncate_to(10).unwrap();
    let error = start_error(dir.path()).await;
    assert!(
        error.contains("10 entries") && error.contains("backup"),
        "{error}"
    );
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        if file.path().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&file.path(), &to);
        } else {
            std::fs::copy(file.path(), to).unwrap();
        }
    }
}
