//! What the cluster is kept busy with: clients that write and read and remember what they were
//! answered, and hosts that contend for leases.

use super::hosts::{Client, Hosts, LEASES};
use crate::event::{Happened, Operation, Outcome, What};
use hale_model::Fence;
use hale_model::ledger::Scope;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How many clients write.
const WRITERS: usize = 4;
/// How many read.
const READERS: usize = 2;
/// So many writes share a key; then the next key's turn comes, so that each has a short history.
const WRITES_OF_A_KEY: u64 = 25;
/// A key is dropped when its turn has been over for so long: longer than anyone waits for an answer.
const KEPT: Duration = Duration::from_secs(25);
/// Between two operations of one client.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two views of the leases.
const VIEW_PAUSE: Duration = Duration::from_millis(400);
/// Between two runs that one host is asked for.
const HOLD_PAUSE: Duration = Duration::from_millis(1_500);
/// Between two looks for keys to be dropped.
const SWEEP_PAUSE: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// The writes that were acknowledged: the text that names each, and when.
    pub(super) acked: Vec<(String, Instant)>,
    /// Writes that were refused, or not answered.
    pub(super) failed: u64,
    /// Reads of keys and of leases that were answered.
    pub(super) reads: u64,
    /// What was asked and answered, in milliseconds since the clients began.
    pub(super) history: Vec<Happened>,
    /// Runs that a host agreed to begin.
    pub(super) runs: u64,
    /// Who said that it leads, in which term, and when, in milliseconds since the clients began.
    pub(super) leads: Vec<(u64, usize, u64)>,
}

/// The clients, until they are ended.
pub(super) struct Workload {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What all clients have in common.
struct Shared {
    began: Instant,
    clients: Vec<Client>,
    is_over: AtomicBool,
    /// How many writes were begun.
    writes: AtomicU64,
    asked: AtomicU64,
    seen: Mutex<Seen>,
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn note(&self, f: impl FnOnce(&mut Seen)) {
        f(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// To be called before it is sent.
    fn ask(&self, host: usize, operation: Operation) -> u64 {
        let ask = self.asked.fetch_add(1, Ordering::Relaxed);
        self.note(|seen| {
            let at_ms = self.ms();
            let what = What::Asked {
                ask,
                host,
                operation,
            };
            seen.history.push(Happened { at_ms, what });
        });
        ask
    }

    /// To be called when the answer is there, or none will come.
    fn answer(&self, ask: u64, outcome: Option<Outcome>) {
        self.note(|seen| {
            let at_ms = self.ms();
            let what = match outcome {
                Some(outcome) => What::Answered { ask, outcome },
                None => What::Unanswered { ask },
            };
            seen.history.push(Happened { at_ms, what });
        });
    }

    /// Whose turn it is after so many writes.
    fn turn(writes: u64) -> u64 {
        writes / WRITES_OF_A_KEY
    }
}

fn key(turn: u64) -> String {
    format!("k{turn}")
}

impl Workload {
    pub(super) fn start(hosts: &Hosts) -> Self {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            clients: (0..hosts.all.len()).map(|n| hosts.client(n)).collect(),
            is_over: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            seen: Mutex::default(),
        });
        let share = || Arc::clone(&shared);
        let mut tasks = vec![tokio::spawn(sweep(share())), tokio::spawn(view(share()))];
        tasks.extend((0..WRITERS).map(|k| tokio::spawn(write(k, share()))));
        tasks.extend((0..READERS).map(|k| tokio::spawn(read(k, share()))));
        for host in 0..hosts.all.len() {
            tasks.push(tokio::spawn(hold(host, share())));
            tasks.push(tokio::spawn(watch(host, share())));
        }
        Self { shared, tasks }
    }

    pub(super) async fn end(self) -> Seen {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            // A client that panicked has said so.
            let _ = task.await;
        }
        let mut seen = Seen::default();
        self.shared.note(|s| seen = std::mem::take(s));
        seen
    }
}

/// Sets the budget that serves as a key, to a value that it never had: each is an entry of its own.
/// No run is of that budget's service.
async fn write(k: usize, shared: Arc<Shared>) {
    let hosts = shared.clients.len();
    let mut at = k % hosts;
    let mut n = 0u64;
    while shared.goes_on() {
        n += 1;
        let write = shared.writes.fetch_add(1, Ordering::Relaxed);
        let (key, value) = (key(Shared::turn(write)), write % WRITES_OF_A_KEY + 1);
        let by = format!("client {k} write {n}");
        let budget = json!({"name": key, "service": "nothing", "at_most": value, "by": by});
        let ask = shared.ask(at, Operation::Write { key, value });
        let is_done = shared.clients[at]
            .post("/v1/budgets", &budget)
            .await
            .is_some();
        shared.answer(ask, is_done.then_some(Outcome::Written));
        match is_done {
            true => shared.note(|s| s.acked.push((by, Instant::now()))),
            false => {
                shared.note(|s| s.failed += 1);
                at = (at + 1) % hosts;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads the key whose turn it is, at one host after the other.
async fn read(k: usize, shared: Arc<Shared>) {
    for at in k.. {
        if !shared.goes_on() {
            return;
        }
        let host = at % shared.clients.len();
        let key = key(Shared::turn(shared.writes.load(Ordering::Relaxed)));
        let ask = shared.ask(host, Operation::Read { key: key.clone() });
        let budgets = shared.clients[host].get("/v1/budgets").await;
        let value = budgets.and_then(|view| {
            let all = view["budgets"].as_array()?;
            let own = all.iter().find(|b| b["name"] == key.as_str());
            Some(own.and_then(|b| b["limit"]["at_most"].as_u64()))
        });
        shared.note(|s| s.reads += u64::from(value.is_some()));
        shared.answer(ask, value.map(Outcome::Value));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks at the leases, at one host after the other.
async fn view(shared: Arc<Shared>) {
    for at in 0.. {
        if !shared.goes_on() {
            return;
        }
        let host = at % shared.clients.len();
        let asks = LEASES.map(|name| {
            let scope = Scope::Custom(name.to_owned());
            let watch = Operation::Watch {
                scope: scope.clone(),
            };
            (shared.ask(host, watch), scope.to_string())
        });
        let view = shared.clients[host].get("/v1/leases").await;
        let leases = view.as_ref().and_then(|v| v["leases"].as_array());
        shared.note(|s| s.reads += u64::from(leases.is_some()));
        for (ask, scope) in asks {
            let live = |l: &&Value| l["scope"] == scope.as_str() && l["live"] == true;
            let fence = leases.map(|all| all.iter().find(live).and_then(|l| l["fence"].as_u64()));
            shared.answer(ask, fence.map(|f| Outcome::Live(f.map(Fence))));
        }
        tokio::time::sleep(VIEW_PAUSE).await;
    }
}

/// Drops the keys whose turn has long been over: the ledger has room for so many budgets only. One
/// that an unanswered write makes anew is dropped again.
async fn sweep(shared: Arc<Shared>) {
    let mut over: BTreeMap<String, Instant> = BTreeMap::new();
    let mut drops = 0u64;
    for at in 0.. {
        tokio::time::sleep(SWEEP_PAUSE).await;
        if !shared.goes_on() {
            return;
        }
        let now = Shared::turn(shared.writes.load(Ordering::Relaxed));
        let client = &shared.clients[at % shared.clients.len()];
        let budgets = client.get("/v1/budgets").await.unwrap_or_default();
        for budget in budgets["budgets"].as_array().into_iter().flatten() {
            let name = budget["name"].as_str().unwrap_or_default();
            let turn: Option<u64> = name.strip_prefix('k').and_then(|t| t.parse().ok());
            if turn.is_none_or(|turn| turn >= now) {
                continue;
            }
            let since = over.entry(name.to_owned()).or_insert_with(Instant::now);
            if since.elapsed() > KEPT {
                drops += 1;
                let by = json!({ "by": format!("sweeper drop {drops}") });
                // If not now, then next time.
                let _ = client.delete(&format!("/v1/budgets/{name}"), &by).await;
            }
        }
    }
}

/// Asks a host to run under one lease after the other.
async fn hold(host: usize, shared: Arc<Shared>) {
    for n in host.. {
        if !shared.goes_on() {
            return;
        }
        let name = LEASES[n % LEASES.len()];
        let path = format!("/v1/playbooks/hold_{name}/run");
        let asked = json!({ "service": name, "by": "hale-chaos" });
        if shared.clients[host].post(&path, &asked).await.is_some() {
            shared.note(|s| s.runs += 1);
        }
        tokio::time::sleep(HOLD_PAUSE).await;
    }
}

/// Asks a host again and again whether it leads.
async fn watch(host: usize, shared: Arc<Shared>) {
    while shared.goes_on() {
        let at_ms = shared.ms();
        let view = shared.clients[host].get("/v1/leader").await;
        let view = view.unwrap_or_default();
        if view["is_self"] == true {
            let term = view["term"].as_u64().unwrap_or(0);
            shared.note(|s| s.leads.push((at_ms, host, term)));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
