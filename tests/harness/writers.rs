//! Clients that write to a cluster without pause and remember what was acknowledged.

use super::chain::Chain;
use super::http::Client;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two writes of one client, and before it goes to another node.
const PAUSE: Duration = Duration::from_millis(150);

/// What was acknowledged: the text that names the entry, and when.
type Acked = Arc<Mutex<Vec<(String, Instant)>>>;

/// The clients. They stop when this is dropped.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    acked: Acked,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// So many clients, each of which goes to the next node when one does not answer.
    pub fn start(count: usize, nodes: &[Client]) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let group = STARTED.fetch_add(1, Ordering::Relaxed);
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Acked::default());
        let threads = (0..count).map(|k| {
            let (stop, acked, nodes) = (Arc::clone(&stop), Arc::clone(&acked), nodes.to_vec());
            std::thread::spawn(move || write((group, k), &nodes, &stop, &acked))
        });
        let threads = threads.collect();
        Self {
            stop,
            acked,
            threads,
        }
    }

    /// How many writes were acknowledged so far.
    pub fn count(&self) -> usize {
        self.acked.lock().unwrap().len()
    }

    /// When the first write after `moment` was acknowledged.
    pub fn first_after(&self, moment: Instant) -> Option<Instant> {
        let acked = self.acked.lock().unwrap();
        acked.iter().map(|(_, at)| *at).find(|at| *at > moment)
    }

    /// Ends them and returns what was acknowledged.
    ///
    /// # Panics
    /// If one of them failed.
    pub fn end(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let acked = self.acked.lock().unwrap();
        acked.iter().map(|(text, _)| text.clone()).collect()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn write(
    (group, k): (usize, usize),
    nodes: &[Client],
    stop: &AtomicBool,
    acked: &Mutex<Vec<(String, Instant)>>,
) {
    let json = [("content-type", "application/json")];
    let mut at = k % nodes.len();
    for n in 1u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // A budget that is set to another value is a new entry; no service is called that.
        let by = format!("client {group}.{k} write {n}");
        let budget = json!({ "name": format!("b{group}.{k}"), "service": "nothing", "at_most": n % 1000 + 1, "by": by });
        let body = budget.to_string();
        match nodes[at].send("POST", "/v1/budgets", &json, body.as_bytes()) {
            Ok(answer) if (200..300).contains(&answer.status) => {
                acked.lock().unwrap().push((by, Instant::now()));
            }
            Ok(_) | Err(_) => at = (at + 1) % nodes.len(),
        }
        std::thread::park_timeout(PAUSE);
    }
}

/// Checks that each write that was acknowledged is on the chain, once.
///
/// # Panics
/// If one is not.
#[track_caller]
pub fn assert_written(chain: &Chain, acked: &[String]) {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    let budgets = chain.entries.iter().filter(|e| e["kind"] == "budget");
    for by in budgets.filter_map(|e| e["body"]["by"].as_str()) {
        *found.entry(by).or_default() += 1;
    }
    let lost: Vec<&String> = acked
        .iter()
        .filter(|a| !found.contains_key(a.as_str()))
        .collect();
    assert!(
        lost.is_empty(),
        "acknowledged and not on the chain: {lost:?}"
    );
    let twice: Vec<_> = found.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "on the chain twice: {twice:?}");
}
