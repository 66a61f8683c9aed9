//! What the leader's clock ends: tokens, places in the line, grants of nodes that were removed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use hale_audit::{enrolment, removal};
use hale_consensus::{Consensus, News, ledger};
use hale_model::ledger::{Answer, Command, EntryKind, Refusal};
use hale_model::{Digest, HostName, Timestamp, TokenId};
use std::time::{Duration, Instant};
use support::{acquire, key, node, signed, until, written};
use tempfile::tempdir;

fn host(n: u8) -> HostName {
    HostName::new(format!("host-{n}")).unwrap()
}

fn token(ttl_ms: u64) -> (TokenId, Command) {
    let id = TokenId::of([7; 5]);
    let command = Command::CreateToken {
        id: id.clone(),
        verifier: Digest::of(b"secret"),
        uses: 1,
        ttl_ms,
        by: "ada".into(),
        expires_at_ms: 0,
        entry: signed(EntryKind::Token, 0, "token"),
    };
    (id, command)
}

async fn with_a_second(node: &Consensus) {
    let (id, create) = token(60_000);
    written(node, create).await;
    let second = key(1).node_id();
    let admit = Command::Admit {
        token: id,
        node: second,
        host: host(1),
        entry: enrolment::sign(second, &host(1), &key(0)),
    };
    written(node, admit).await;
}

#[tokio::test]
async fn a_leader_tells_the_ledger_the_rules_it_knows() {
    let dir = tempdir().unwrap();
    let node = node(dir.path()).await;
    until("the rules", || {
        node.read_stale(|l| l.rules() == ledger::RULES)
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_token_runs_out_by_the_leaders_clock() {
    let dir = tempdir().unwrap();
    let node = node(dir.path()).await;
    let (id, create) = token(1_000);
    let made = Instant::now();
    written(&node, create).await;
    until("the token's end", || {
        node.read_stale(|l| l.token(&id).is_some_and(|t| !t.live))
    })
    .await;
    assert!(made.elapsed() >= Duration::from_secs(1));
    node.stop().await;
}

#[tokio::test]
async fn who_stops_asking_loses_its_place() {
    let dir = tempdir().unwrap();
    let node = node(dir.path()).await;
    until("the rules", || {
        node.read_stale(|l| l.rules() == ledger::RULES)
    })
    .await;
    for run in ["exe_1", "exe_2"] {
        let asked = Command::Acquire(acquire(0, "s", run));
        node.propose(asked).await.unwrap();
    }
    let asked = Instant::now();
    assert_eq!(node.read_stale(|l| l.waiting().count()), 1);
    until("an empty line", || {
        node.read_stale(|l| l.waiting().next().is_none())
    })
    .await;
    assert!(asked.elapsed() >= ledger::limits::WAIT_TTL - Duration::from_millis(100));
    node.stop().await;
}

#[tokio::test]
async fn the_leader_closes_what_a_removed_node_left_open_once_it_can_not_act() {
    let dir = tempdir().unwrap();
    let node = node(dir.path()).await;
    with_a_second(&node).await;
    let second = key(1).node_id();
    let granted = node
        .propose(Command::Acquire(acquire(1, "s", "exe_1")))
        .await;
    let Ok(Answer::Granted { fence, .. }) = granted else {
        panic!("{granted:?}")
    };
    let mut news = node.subscribe();
    let at = Timestamp::from_millis(0);
    let removed = Instant::now();
    written(
        &node,
        Command::Remove {
            node: second,
            by: "ada".into(),
            reason: "retired".into(),
            entry: removal::sign(second, &host(1), "ada", "retired", at, &key(0)),
        },
    )
    .await;
    let next = Command::Acquire(acquire(0, "s", "exe_2"));
    let held = node.propose(next).await.unwrap();
    assert!(matches!(held, Answer::Refused(Refusal::Held { .. })));
    loop {
        if let News::Closed { lease, .. } = news.recv().await.unwrap() {
            assert_eq!(lease.fence, fence);
            break;
        }
    }
    assert!(
        removed.elapsed() >= Duration::from_secs(1),
        "not before its ttl"
    );
    let last = node.read_stale(|l| l.tip()).entries - 1;
    let entry = node.entries(last..last + 1).unwrap().remove(0);
    let body: serde_json::Value = serde_json::from_slice(&entry.body).unwrap();
    assert_eq!((entry.kind, entry.fence), (EntryKind::Record, fence));
    assert_eq!(body["schema"], "hale.abandoned.v1");
    node.stop().await;
}
