//! What an attacker says: Hale's own words, written by hand where the product does not give them out.

use hale_membership::join::{
    Answer as Joined, EXPORT_LABEL, End, Hello, JoinToken, Proven, Welcome,
};
use hale_model::ledger::{Answer, Command};
use hale_model::{Keypair, NodeId, wire};
use hale_transport::{Arrivals, Config, Endpoint, Lane, Limits, Link, Peer, Trust};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncWriteExt;

pub(crate) const HELLO: u8 = 0x40;
pub(crate) const EXCHANGE: u8 = 0x20;
pub(crate) const API: u8 = 0x31;
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n; 32])
}

/// An endpoint that believes everybody.
pub(crate) fn endpoint(key: &Keypair, cluster: u64) -> (Endpoint, Arrivals) {
    Endpoint::bind(Config {
        key: key.clone(),
        cluster,
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        trust: Trust {
            roster: Arc::new(|_| true),
            joins: Arc::new(|| true),
        },
        limits: Limits {
            streams: 1024,
            ..Limits::default()
        },
    })
    .unwrap()
}

pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

/// A hello with its proof for one connection.
pub(crate) fn hello(token: &JoinToken, name: &str, exported: &[u8; 32]) -> Vec<u8> {
    let hello = Hello::new(token, super::fleet::host(name), "0.0.0", now_ms());
    let proven = Proven::new(&hello, &token.verifier(), End::Stranger, exported).unwrap();
    wire::encode(&proven).unwrap()
}

/// Says one thing on the lane of strangers and hears what is answered.
pub(crate) async fn say(link: &Link, kind: u8, said: &[u8]) -> Option<Joined> {
    let mut stream = link.open().await.ok()?;
    stream.send(kind, said).await.ok()?;
    let heard = tokio::time::timeout(SOON, stream.recv()).await;
    let frame = heard.ok()?.ok()??;
    wire::decode(frame.payload()).ok()
}

/// Joins as a host does, and keeps the key.
pub(crate) async fn join(at: SocketAddr, token: &str, name: &str, key: &Keypair) -> Welcome {
    let token: JoinToken = token.parse().unwrap();
    let (endpoint, _arrivals) = endpoint(key, 0);
    let link = endpoint.join(at).await.unwrap();
    let exported = link.export(EXPORT_LABEL).unwrap();
    let answer = say(&link, HELLO, &hello(&token, name, &exported)).await;
    let Some(Joined::Welcome(proven)) = answer else {
        panic!("not let in: {answer:?}");
    };
    let welcome = wire::decode(&proven.said).unwrap();
    endpoint.close().await;
    welcome
}

pub(crate) type Vote = ((u64, u64), bool);
pub(crate) type LogId = ((u64, u64), u64);

/// What the ledgers of two nodes ask each other, in the order of their numbers.
#[derive(Serialize)]
#[allow(dead_code, reason = "one of them only holds its place")]
pub(crate) enum Request {
    Append(Vote, Option<LogId>, Vec<()>, Option<LogId>),
    Vote(Vote, Option<LogId>),
    Snapshot(Vote, Meta, u64, Vec<u8>, bool),
    Entries(u64, u64),
    Propose(Vec<Command>),
    ReadIndex,
    Follow(u64, u32),
    Group,
    PreVote(Option<LogId>),
    TakeOver,
}

/// A snapshot's: the last log id, the membership's log id with no members, its name.
pub(crate) type Meta = (Option<LogId>, (Option<LogId>, Vec<()>, Vec<()>), String);

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "most only hold their places")]
pub(crate) enum Reply {
    Append,
    Vote,
    Snapshot,
    Entries(Vec<Vec<u8>>),
    Proposed(Vec<Answer>),
    ReadIndex(Option<u64>),
    NotLeader,
    Unable(String),
}

/// A member whose key the test holds.
pub(crate) struct Liar {
    pub(crate) key: Keypair,
    pub(crate) endpoint: Endpoint,
    pub(crate) cluster: u64,
    pub(crate) peers: Vec<Peer>,
    _arrivals: Arrivals,
}

impl Liar {
    pub(crate) fn new(key: Keypair, cluster: u64, peers: Vec<Peer>) -> Self {
        let (endpoint, arrivals) = endpoint(&key, cluster);
        Self {
            key,
            endpoint,
            cluster,
            peers,
            _arrivals: arrivals,
        }
    }

    pub(crate) fn frame(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        wire::frame(kind, self.cluster, payload).unwrap()
    }

    /// Asks one ledger; nothing if there is no answer.
    pub(crate) async fn ask(&self, peer: Peer, request: &Request) -> Option<Reply> {
        let frame = self.frame(hale_consensus::REQUEST, &wire::encode(request).unwrap());
        let asked = self.endpoint.ask(peer, Lane::Main, &frame, SOON).await;
        wire::decode(asked.ok()?.get(wire::FRAME_HEADER_BYTES..)?).ok()
    }

    /// Writes bytes on a stream of its own, and gives what comes back within a moment.
    pub(crate) async fn write(&self, peer: Peer, lane: Lane, bytes: &[u8]) {
        let link = self.endpoint.link(peer, lane).await.unwrap();
        let (_read, mut write) = link.open().await.unwrap().into_halves();
        // It may be refused before all of it is there.
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
    }

    /// Has a node answer a request of its API as if a user had asked here.
    pub(crate) async fn api(&self, peer: Peer, method: &str, path: &str) -> Option<u16> {
        let asked = wire::encode(&(method, path, Vec::<u8>::new())).unwrap();
        let link = self.endpoint.link(peer, Lane::Bulk).await.ok()?;
        let mut stream = link.open().await.ok()?;
        stream.send(API, &asked).await.ok()?;
        stream.finish();
        let heard = tokio::time::timeout(SOON * 4, stream.recv()).await;
        wire::decode(heard.ok()?.ok()??.payload()).ok()
    }

    pub(crate) fn node(&self) -> NodeId {
        self.key.node_id()
    }
}
