//! How gossip does in a cluster of so many nodes: how soon all know of a join and of a death, whom it
//! suspects in vain while packets get lost, and what it sends.

use super::cpu;
use crate::gossip::{Cluster, Traffic};
use hale_membership::MembershipError;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Nodes that join, and nodes that die.
const JOINS: usize = 5;
const DEATHS: usize = 5;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(1_500);
/// Before anything is measured, and while the traffic of a quiet cluster is.
const WARM_UP: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(5);
/// For so long everybody has time to hear of the last of them.
const HEAR: Duration = Duration::from_secs(20);
/// How long one packet in twenty is lost: longer than a suspect's time to answer.
const LOSSY: Duration = Duration::from_secs(15);
const LOSS_PERCENT: u64 = 5;

/// When it was known, in seconds; the median and the largest of several.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// To 99 of a hundred nodes, in the median.
    pub most_median_s: Option<f64>,
    /// To all of them, in the median.
    pub all_median_s: Option<f64>,
    /// To all of them, of the slowest.
    pub all_max_s: Option<f64>,
    /// How many were not known to all when the measurement ended.
    pub unknown: usize,
}

/// What each node sends in a second, on average.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sent {
    /// Datagrams.
    pub packets: f64,
    /// Their bytes, without the headers of QUIC, UDP and IP.
    pub bytes: f64,
    /// Exchanges of everything known that it has part in.
    pub exchanges: f64,
}

/// What was measured of a cluster.
#[derive(Debug, Clone, Serialize)]
pub struct Gossip {
    /// How many nodes.
    pub nodes: usize,
    /// How soon a join is known.
    pub joins: Spread,
    /// How soon a death is known.
    pub deaths: Spread,
    /// Without loss, joins or deaths.
    pub quiet: Sent,
    /// While one packet in twenty is lost.
    pub lossy: Sent,
    /// How often a node that lived was suspected in that time, by whoever probed it.
    pub false_suspicions: u64,
    /// How often a node was told then that one that lived is down.
    pub false_downs: usize,
    /// For so long, in seconds.
    pub lossy_s: f64,
    /// One end's part of an exchange: every member with its profile, in bytes.
    pub exchange_bytes: u64,
    /// What this simulation lived through, in virtual seconds.
    pub virtual_s: f64,
    /// What it took, in seconds.
    pub took_s: f64,
    /// The CPU time that it took, in seconds.
    pub cpu_s: f64,
    /// The CPU time of what came after the cluster was formed, in seconds.
    pub core_s: f64,
    /// A number that two runs share only if all packets in them were alike.
    pub trace: String,
}

/// Lives through it. `tell` hears how far it is, from 0 to 1.
///
/// # Errors
/// If a node can't be made.
pub fn study(nodes: usize, seed: u64, tell: impl Fn(f64)) -> Result<Gossip, MembershipError> {
    let (began, cpu_before) = (Instant::now(), cpu::of_this_thread());
    let mut cluster = Cluster::formed(nodes + JOINS, nodes, seed)?;
    let formed = cpu::of_this_thread();
    let from = cluster.now();
    let pauses = PAUSE * (JOINS + DEATHS) as u32;
    let whole = WARM_UP + QUIET + pauses + HEAR + LOSSY;
    let live = |cluster: &mut Cluster, so_long: Duration| {
        let end = cluster.now() + so_long;
        while cluster.now() < end {
            cluster.run((end - cluster.now()).min(Duration::from_secs(1)));
            tell((cluster.now() - from).as_secs_f64() / whole.as_secs_f64());
        }
    };
    live(&mut cluster, WARM_UP);
    let before = cluster.traffic();
    live(&mut cluster, QUIET);
    let quiet = sent(before, cluster.traffic(), nodes, QUIET);

    let mut happened = BTreeMap::new();
    for n in nodes..nodes + JOINS {
        let mut seed_node = || cluster.random(nodes as u64) as usize;
        let seeds = [seed_node(), seed_node()];
        happened.insert(n, cluster.now());
        cluster.start(n, &seeds)?;
        live(&mut cluster, PAUSE);
    }
    let mut dead = BTreeMap::new();
    while dead.len() < DEATHS {
        let n = cluster.random(nodes as u64) as usize;
        if dead.contains_key(&n) {
            continue;
        }
        dead.insert(n, cluster.now());
        cluster.kill(n);
        live(&mut cluster, PAUSE);
    }
    live(&mut cluster, HEAR);
    let joins = spread(&cluster, nodes, &happened, true);
    let deaths = spread(&cluster, nodes, &dead, false);

    let suspicions = |c: &Cluster| -> u64 {
        let counts = c.running().filter_map(|n| c.node(n));
        counts.map(|node| node.counts().suspicions).sum()
    };
    let (before, suspected, heard) = (cluster.traffic(), suspicions(&cluster), cluster.heard.len());
    cluster.loss_percent = LOSS_PERCENT;
    live(&mut cluster, LOSSY);
    let of_the_living = |of: usize| cluster.node(of).is_some();
    let wrong = cluster.heard[heard..].iter().filter(|h| !h.up);
    Ok(Gossip {
        nodes,
        joins,
        deaths,
        quiet,
        lossy: sent(before, cluster.traffic(), nodes, LOSSY),
        false_suspicions: suspicions(&cluster) - suspected,
        false_downs: wrong.filter(|h| of_the_living(h.of)).count(),
        lossy_s: LOSSY.as_secs_f64(),
        exchange_bytes: exchange_bytes(seed)? * nodes as u64,
        virtual_s: whole.as_secs_f64(),
        cpu_s: cpu::of_this_thread()
            .saturating_sub(cpu_before)
            .as_secs_f64(),
        took_s: began.elapsed().as_secs_f64(),
        core_s: cpu::of_this_thread().saturating_sub(formed).as_secs_f64(),
        trace: format!("{:016x}", cluster.trace()),
    })
}

/// What one member with its profile takes in an exchange: a node that knows only itself tells that.
///
/// # Errors
/// If a node can't be made.
pub fn exchange_bytes(seed: u64) -> Result<u64, MembershipError> {
    let mut alone = Cluster::new(1, seed, 0);
    alone.start(0, &[])?;
    match alone.node(0) {
        Some(node) => Ok(node.everything()?.len() as u64),
        None => Ok(0),
    }
}

fn sent(before: Traffic, after: Traffic, nodes: usize, so_long: Duration) -> Sent {
    let rate = |before: u64, after: u64| {
        after.saturating_sub(before) as f64 / nodes as f64 / so_long.as_secs_f64()
    };
    Sent {
        packets: rate(before.packets, after.packets),
        bytes: rate(before.bytes, after.bytes),
        exchanges: 2.0 * rate(before.exchanges, after.exchanges),
    }
}

/// How soon each of these was known to the nodes that were there from the beginning.
fn spread(
    cluster: &Cluster,
    nodes: usize,
    happened: &BTreeMap<usize, Duration>,
    up: bool,
) -> Spread {
    let mut known: BTreeMap<usize, BTreeMap<usize, Duration>> = BTreeMap::new();
    for heard in cluster.heard.iter().filter(|h| h.up == up) {
        if let Some(since) = happened.get(&heard.of)
            && heard.at >= *since
        {
            let by = known.entry(heard.of).or_default();
            by.entry(heard.by).or_insert(heard.at - *since);
        }
    }
    let (mut most, mut all) = (vec![], vec![]);
    for of in happened.keys() {
        let others = cluster.running().filter(|n| n != of && *n < nodes);
        let mut times: Vec<Option<f64>> = others
            .map(|n| known.get(of)?.get(&n).map(Duration::as_secs_f64))
            .collect();
        times.sort_by(|a, b| match (a, b) {
            (Some(a), Some(b)) => a.total_cmp(b),
            // Who does not know it yet comes last.
            _ => b.is_some().cmp(&a.is_some()),
        });
        most.push(
            times
                .get((times.len() * 99).div_ceil(100).saturating_sub(1))
                .copied()
                .flatten(),
        );
        all.push(times.last().copied().flatten());
    }
    let known: Vec<f64> = all.iter().copied().flatten().collect();
    Spread {
        most_median_s: median(most.into_iter().flatten().collect()),
        all_median_s: median(known.clone()),
        all_max_s: known.iter().copied().reduce(f64::max),
        unknown: all.len() - known.len(),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl Gossip {
    /// The share of a core that one node's machine takes, without the network around it.
    pub(super) fn core_per_node(&self) -> f64 {
        self.core_s / self.virtual_s / self.nodes as f64
    }
}
