//! What is found in the end: every host's chain, put before the oracle together with what the
//! clients were told; and what was done under the leases, by the clock of the machine that all hosts
//! share.

use super::RealError;
use super::hosts::{Hosts, LEASES};
use super::workload::Seen;
use crate::event::{Happened, What};
use crate::oracle::judge;
use hale_model::ledger::{Disposition, Scope};
use hale_model::{Digest, ExecutionId, Fence};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long all may take to end.
const REST: Duration = Duration::from_secs(180);

/// What did not hold, and figures.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) wrong: Vec<String>,
    pub(super) log: Vec<Happened>,
    pub(super) entries: usize,
    pub(super) grants: usize,
    /// What was done under each lease: from and until, in milliseconds since the clients began.
    pub(super) held: Vec<(String, u64, u64)>,
}

pub(super) async fn of(hosts: &Hosts, seen: &Seen, began: Instant) -> Result<Verdict, RealError> {
    let mut verdict = Verdict::default();
    if !rest(hosts).await {
        let why = format!("leases were held or waited for {REST:?} after the faults were over");
        verdict.wrong.push(why);
    }
    let chains = chains(hosts).await?;
    let first = chains.first().map_or(&[][..], Vec::as_slice);
    verdict.entries = first.len();
    let mut log = seen.history.clone();
    let mut tell = |what| log.push(Happened { at_ms: 0, what });
    let mut by_writer: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in first {
        let (Some(index), Some(hash), Some(previous)) = (
            entry["index"].as_u64(),
            digest(&entry["hash"]),
            digest(&entry["previous"]),
        ) else {
            return Err(RealError::NotReady(format!("no entry of a chain: {entry}")));
        };
        tell(What::Appended {
            index,
            hash,
            previous,
        });
        let fence = entry["fence"].as_u64().map(Fence);
        match (entry["kind"].as_str(), fence) {
            (Some("intent"), Some(fence)) => {
                verdict.grants += 1;
                let execution = entry["body"]["plan"]["execution"].as_str();
                let execution = execution.and_then(|e| ExecutionId::new(e).ok());
                if let Some(execution) = execution {
                    // The chain does not say when a lease ran out: that no two were held at a time
                    // is seen by what was done under them.
                    let scope = Scope::Custom(execution.to_string());
                    let host = 0;
                    tell(What::Granted {
                        fence,
                        scope,
                        host,
                        execution,
                    });
                }
            }
            (Some("record"), Some(fence)) => {
                let disposition = Disposition::Done;
                tell(What::Closed { fence, disposition });
            }
            (Some("budget"), _) => {
                if let Some(by) = entry["body"]["by"].as_str() {
                    *by_writer.entry(by).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    for (host, chain) in chains.iter().enumerate().skip(1) {
        for entry in chain {
            if let (Some(index), Some(hash)) = (entry["index"].as_u64(), digest(&entry["hash"])) {
                tell(What::Copied { host, index, hash });
            }
        }
    }
    tell(What::Quiet);
    for (host, chain) in chains.iter().enumerate() {
        let entries = chain.len() as u64;
        tell(What::Ends { host, entries });
    }
    verdict
        .wrong
        .extend(judge(&log).iter().map(ToString::to_string));
    verdict.log = log;
    for (by, _) in &seen.acked {
        if !by_writer.contains_key(by.as_str()) {
            let lost = format!("the write `{by}` was acknowledged and is not on the chain");
            verdict.wrong.push(lost);
        }
    }
    let twice = by_writer.iter().filter(|(_, n)| **n > 1);
    verdict
        .wrong
        .extend(twice.map(|(by, n)| format!("the write `{by}` is on the chain {n} times")));
    for lease in LEASES {
        held_by_one(hosts, lease, began, &mut verdict);
    }
    Ok(verdict)
}

/// Waits until nobody holds anything and every grant is closed.
async fn rest(hosts: &Hosts) -> bool {
    let began = Instant::now();
    while began.elapsed() < REST {
        for host in 0..hosts.all.len() {
            let view = hosts.client(host).get("/v1/leases").await;
            if view.is_some_and(|v| v["leases"] == json!([]) && v["waiting"] == json!([])) {
                return true;
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    false
}

/// Every host's own chain, once all are equally long, or after long enough.
async fn chains(hosts: &Hosts) -> Result<Vec<Vec<Value>>, RealError> {
    let began = Instant::now();
    loop {
        let mut chains = vec![];
        // Who was not replaced has no chain.
        for host in (0..hosts.all.len()).filter(|h| Some(*h) != hosts.lost) {
            chains.push(chain(hosts, host).await?);
        }
        let lengths: BTreeSet<usize> = chains.iter().map(Vec::len).collect();
        if lengths.len() <= 1 || began.elapsed() > REST {
            return Ok(chains);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn chain(hosts: &Hosts, host: usize) -> Result<Vec<Value>, RealError> {
    let (mut entries, mut from) = (vec![], Some(0));
    while let Some(start) = from {
        let path = format!("/v1/audit/entries?from={start}&limit=500&consistency=stale");
        let page = hosts.client(host).get(&path).await;
        let name = &hosts.all[host].name;
        let silent = || RealError::NotReady(format!("{name} does not show its chain"));
        let page = page.ok_or_else(silent)?;
        entries.extend(page["entries"].as_array().into_iter().flatten().cloned());
        from = page["next"].as_u64();
    }
    Ok(entries)
}

fn digest(value: &Value) -> Option<Digest> {
    serde_json::from_value(value.clone()).ok()
}

/// Whether what was done under a lease was done by one after the other.
fn held_by_one(hosts: &Hosts, lease: &str, began: Instant, verdict: &mut Verdict) {
    let mut spans: BTreeMap<String, (u128, u128)> = BTreeMap::new();
    for (who, at) in hosts.ticks(lease) {
        let span = spans.entry(who).or_insert((at, at));
        *span = (span.0.min(at), span.1.max(at));
    }
    let mut spans: Vec<(String, (u128, u128))> = spans.into_iter().collect();
    spans.sort_by_key(|(_, (first, _))| *first);
    for pair in spans.windows(2) {
        let ((one, (_, last)), (other, (first, _))) = (&pair[0], &pair[1]);
        if last >= first {
            let ms = (last - first) / 1_000_000;
            let two = format!("lease {lease}: {one} and {other} acted at a time, for {ms} ms");
            verdict.wrong.push(two);
        }
    }
    let now_ns = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    let start_ns = now_ns.saturating_sub(began.elapsed().as_nanos());
    let ms = |at: u128| (at.saturating_sub(start_ns) / 1_000_000) as u64;
    for (_, (first, last)) in spans {
        verdict.held.push((lease.to_owned(), ms(first), ms(last)));
    }
}
