//! Durable writes a second into a group of one: `cargo run --example writes -- [seconds]`.
//! Each write is a signed record of some 256 bytes, on the log's disk before it counts.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example prints what it found and ends where something is wrong"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use hale_audit::archive::Options;
use hale_consensus::{Consensus, NoPeers, SegmentChain};
use hale_model::ledger::{Command, EntryKind, Signed};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::*;

fn record(client: usize, n: u64) -> Command {
    let what = format!("{client:04} {n:08} {}", "x".repeat(220));
    Command::Append {
        entry: signed_record(&what),
    }
}

fn signed_record(what: &str) -> Signed {
    signed(EntryKind::Record, 0, what)
}

async fn measure(node: &Arc<Consensus>, clients: usize, run: Duration) {
    let before = node.metrics();
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let node = Arc::clone(node);
            tokio::spawn(async move {
                let mut times = vec![];
                while began.elapsed() < run {
                    let command = record(client, began.elapsed().as_nanos() as u64);
                    let asked = Instant::now();
                    node.propose(command).await.unwrap();
                    times.push(asked.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = vec![];
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let elapsed = began.elapsed().as_secs_f64();
    times.sort();
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    let after = node.metrics();
    let packs = after.packs - before.packs;
    println!(
        "{clients:>3} clients: {:>6.0} writes/s, p50 {:?}, p99 {:?}, {:.1} commands an entry, \
         {:.0} entries/s, log sync p50 {} us p99 {} us",
        times.len() as f64 / elapsed,
        at(0.5),
        at(0.99),
        times.len() as f64 / packs as f64,
        packs as f64 / elapsed,
        after.log_syncs.p50_us,
        after.log_syncs.p99_us,
    );
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(3);
    let dir = tempfile::tempdir().unwrap();
    let chain = SegmentChain::open(&dir.path().join("chain"), Options::default()).unwrap();
    let config = config(dir.path(), 0);
    let node = Consensus::start(config, Arc::new(chain), Arc::new(NoPeers))
        .await
        .unwrap();
    node.found().await.unwrap();
    let node = Arc::new(node);
    for clients in [1, 64] {
        measure(&node, clients, Duration::from_secs(seconds)).await;
    }
    let m = node.metrics();
    println!(
        "log {} KiB, state {} KiB",
        m.log_bytes >> 10,
        m.state_bytes >> 10
    );
}
