//! What the tests of running nodes share: a chain, a node, commands to give it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses its own part of this"
)]

pub mod cluster;

use hale_audit::archive::Options;
use hale_consensus::{ChainStore, Config, Consensus, NoPeers, SegmentChain};
use hale_model::ledger::{
    Acquire, Answer, Command, Disposition, EntryKind, EntryRef, Scope, Signed,
};
use hale_model::{
    Digest, ExecutionId, Fence, HostName, Keypair, OutcomeStatus, PlaybookName, canonical,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The chain's files in `dir`; what was dropped a moment ago may still hold them.
pub fn chain(dir: &Path) -> SegmentChain {
    let options = Options {
        segment_bytes: 64 << 10,
        preallocate_bytes: 16 << 10,
        ..Options::default()
    };
    let began = Instant::now();
    loop {
        match SegmentChain::open(&dir.join("chain"), options) {
            Ok(chain) => return chain,
            Err(e) => assert!(began.elapsed() < Duration::from_secs(5), "{e}"),
        }
        std::thread::yield_now();
    }
}

pub fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n + 1; 32])
}

pub fn config(dir: &Path, n: u8) -> Config {
    let host = HostName::new(format!("host-{n}")).unwrap();
    let mut config = Config::new(dir.join("ledger"), key(n), 7, host);
    config.reserve_bytes = 0;
    config
}

/// A node of a group of one in `dir`, founded if it is new.
pub async fn node(dir: &Path) -> Consensus {
    let chain = Arc::new(chain(dir));
    let node = Consensus::start(config(dir, 0), chain, Arc::new(NoPeers))
        .await
        .unwrap();
    if !node.is_founded() {
        node.found().await.unwrap();
    }
    node
}

pub fn signed(kind: EntryKind, by: u8, what: &str) -> Signed {
    let body = canonical::to_bytes(&serde_json::json!({ "what": what })).unwrap();
    Signed::new(kind, body, &key(by))
}

pub fn acquire(by: u8, scope: &str, run: &str) -> Acquire {
    Acquire {
        scope: Scope::Custom(scope.into()),
        holder: key(by).node_id(),
        ttl_ms: 1_000,
        execution: ExecutionId::new(run).unwrap(),
        plan_digest: Digest::of(b"plan"),
        playbook: PlaybookName::new("restart").unwrap(),
        service: None,
        approval: None,
        entry: signed(EntryKind::Intent, by, run),
    }
}

pub fn close(by: u8, fence: Fence, what: &str) -> Command {
    Command::Close {
        fence,
        holder: key(by).node_id(),
        disposition: Disposition::Done,
        outcome: OutcomeStatus::Success,
        entry: signed(EntryKind::Record, by, what),
    }
}

pub fn append(by: u8, what: &str) -> Command {
    Command::Append {
        entry: signed(EntryKind::Record, by, what),
    }
}

pub async fn written(node: &Consensus, command: Command) -> EntryRef {
    match node.propose(command).await.unwrap() {
        Answer::Done { entry: Some(entry) } => entry,
        other => panic!("not written: {other:?}"),
    }
}

/// Checks each link and signature; gives the bodies.
pub fn verified(chain: &dyn ChainStore) -> Vec<String> {
    let (mut bodies, mut tip) = (vec![], Digest::ZERO);
    for (n, entry) in chain.read(0..chain.len()).unwrap().into_iter().enumerate() {
        entry.follows(n as u64, tip).unwrap();
        tip = entry.hash();
        bodies.push(String::from_utf8(entry.body).unwrap());
    }
    bodies
}

/// Waits until it holds, at most 20 s.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
