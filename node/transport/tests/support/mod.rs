//! Endpoints on loopback, for the tests beside this.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses its own part of this"
)]

use hale_model::{Keypair, NodeId, wire};
use hale_transport::{Arrivals, Config, Endpoint, Limits, Peer, Trust};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const CLUSTER: u64 = 0xfeed;
pub const SOON: Duration = Duration::from_secs(10);

pub type Roster = Arc<Mutex<Vec<NodeId>>>;

pub fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n; 32])
}

pub fn roster(members: &[u8]) -> Roster {
    Arc::new(Mutex::new(
        members.iter().map(|n| key(*n).node_id()).collect(),
    ))
}

pub fn config(n: u8, roster: &Roster) -> Config {
    let roster = roster.clone();
    Config {
        key: key(n),
        cluster: CLUSTER,
        bind: "127.0.0.1:0".parse().unwrap(),
        trust: Trust {
            roster: Arc::new(move |id| roster.lock().unwrap().contains(id)),
            joins: Arc::new(|| false),
        },
        limits: Limits {
            frame_bytes: 1 << 20,
            ..Limits::default()
        },
    }
}

pub fn start(config: Config) -> (Endpoint, Arrivals) {
    Endpoint::bind(config).unwrap()
}

pub fn peer(endpoint: &Endpoint) -> Peer {
    Peer {
        node: endpoint.node(),
        addr: endpoint.local_addr().unwrap(),
    }
}

/// Answers each frame with its own payload.
pub fn echo(mut arrivals: Arrivals) {
    tokio::spawn(async move {
        while let Some(mut stream) = arrivals.streams.recv().await {
            tokio::spawn(async move {
                while let Ok(Some(frame)) = stream.recv().await {
                    let _ = stream.send(frame.kind(), frame.payload()).await;
                }
                stream.finish();
            });
        }
    });
}

pub fn frame(payload: &[u8]) -> Vec<u8> {
    wire::frame(7, CLUSTER, payload).unwrap()
}

pub async fn until(what: impl Fn() -> bool) {
    for _ in 0..1000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not happen");
}
