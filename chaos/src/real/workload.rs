//! What the cluster is kept busy with: clients that write and remember what was acknowledged, and
//! hosts that contend for leases.

use super::hosts::{Client, Hosts, LEASES};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How many clients write.
const WRITERS: usize = 4;
/// Between two writes of one client.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two runs that one host is asked for.
const HOLD_PAUSE: Duration = Duration::from_millis(1_500);

/// What was seen.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// The writes that were acknowledged: the text that names each, and when.
    pub(super) acked: Vec<(String, Instant)>,
    /// Writes that were refused, or not answered.
    pub(super) failed: u64,
    /// Runs that a host agreed to begin.
    pub(super) runs: u64,
    /// Who said that it leads, in which term, and when, in milliseconds since the clients began.
    pub(super) leads: Vec<(u64, usize, u64)>,
}

/// The clients, until they are ended.
pub(super) struct Workload {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Workload {
    pub(super) fn start(hosts: &Hosts) -> Self {
        let (stop, seen) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Seen>>::default());
        let clients: Vec<Client> = (0..hosts.all.len()).map(|n| hosts.client(n)).collect();
        let writers = (0..WRITERS).map(|k| {
            let (stop, seen, clients) = (Arc::clone(&stop), Arc::clone(&seen), clients.clone());
            tokio::spawn(write(k, clients, stop, seen))
        });
        let holders = clients.iter().enumerate().map(|(n, client)| {
            let (stop, seen, client) = (Arc::clone(&stop), Arc::clone(&seen), client.clone());
            tokio::spawn(hold(n, client, stop, seen))
        });
        let began = Instant::now();
        let watchers = clients.iter().enumerate().map(|(n, client)| {
            let (stop, seen, client) = (Arc::clone(&stop), Arc::clone(&seen), client.clone());
            tokio::spawn(watch(n, client, began, stop, seen))
        });
        let tasks = writers.chain(holders).chain(watchers).collect();
        Self { stop, seen, tasks }
    }

    pub(super) async fn end(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            // A client that panicked has said so.
            let _ = task.await;
        }
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn note(seen: &Mutex<Seen>, f: impl FnOnce(&mut Seen)) {
    f(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Sets a budget to another value again and again: each is an entry of its own.
async fn write(k: usize, clients: Vec<Client>, stop: Arc<AtomicBool>, seen: Arc<Mutex<Seen>>) {
    let mut at = k % clients.len();
    for n in 1u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let by = format!("client {k} write {n}");
        let (name, at_most) = (format!("b{k}"), n % 1000 + 1);
        let budget = json!({"name": name, "service": "nothing", "at_most": at_most, "by": by});
        match clients[at].post("/v1/budgets", &budget).await {
            Some(_) => note(&seen, |s| s.acked.push((by, Instant::now()))),
            None => {
                note(&seen, |s| s.failed += 1);
                at = (at + 1) % clients.len();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks a host to run under one lease after the other.
async fn hold(host: usize, client: Client, stop: Arc<AtomicBool>, seen: Arc<Mutex<Seen>>) {
    for n in host.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = LEASES[n % LEASES.len()];
        let path = format!("/v1/playbooks/hold_{name}/run");
        let asked = json!({ "service": name, "by": "hale-chaos" });
        if client.post(&path, &asked).await.is_some() {
            note(&seen, |s| s.runs += 1);
        }
        tokio::time::sleep(HOLD_PAUSE).await;
    }
}

/// Asks a host again and again whether it leads.
async fn watch(
    host: usize,
    client: Client,
    began: Instant,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
) {
    while !stop.load(Ordering::Relaxed) {
        let at_ms = began.elapsed().as_millis() as u64;
        let view = client.get("/v1/leader").await.unwrap_or_default();
        if view["is_self"] == true {
            let term = view["term"].as_u64().unwrap_or(0);
            note(&seen, |s| s.leads.push((at_ms, host, term)));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
