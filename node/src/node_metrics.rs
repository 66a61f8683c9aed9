//! The node's own metrics: what it costs, what it decided, how its ledger does.

use crate::answers::Inner;
use hale_api::metrics::{Family, Kind, of_samples};
use std::time::Duration;

const ASK: Duration = Duration::from_secs(2);

/// All families but those of the API itself.
pub(crate) async fn families(n: &Inner) -> Vec<Family> {
    let round = n.memory.last_round();
    let samples: Vec<_> = round
        .samples
        .values()
        .map(|(_, sample)| sample.clone())
        .collect();
    let mut out = of_samples(&n.host, &samples);
    let g = Family::gauge;
    let c = Family::counter;
    out.push(
        Family::new(
            Kind::Gauge,
            "hale_build_info",
            "The binary's version; always 1.",
        )
        .point([("version", env!("CARGO_PKG_VERSION"))], 1.0),
    );
    out.push(g(
        "hale_uptime_seconds",
        "Seconds since the node started.",
        n.started.elapsed().as_secs_f64(),
    ));
    out.push(c(
        "hale_samples_total",
        "Samples taken since the node started.",
        round.taken as f64,
    ));
    own_cost(&mut out);
    out.push(g(
        "hale_state_bytes",
        "Bytes of the host's own state on disk.",
        (n.store_bytes)() as f64,
    ));
    telemetry(n, &mut out).await;
    judgement(n, &mut out).await;
    ledger(n, &mut out);
    crate::cluster_metrics::families(n, &mut out);
    out
}

/// From /proc/self: the same numbers that `top` shows.
fn own_cost(out: &mut Vec<Family>) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the command, which may hold spaces: proc_pid_stat(5).
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let number = |i: usize| {
        fields
            .get(i)
            .and_then(|f| f.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    out.push(Family::counter(
        "process_cpu_seconds_total",
        "CPU time the node has used.",
        (number(11) + number(12)) / ticks,
    ));
    out.push(Family::gauge(
        "process_resident_memory_bytes",
        "Memory the node holds.",
        number(21) * page,
    ));
}

async fn telemetry(n: &Inner, out: &mut Vec<Family>) {
    let Some(stats) = n
        .slots
        .telemetry
        .ask(ASK, hale_telemetry::Message::Stats)
        .await
    else {
        return;
    };
    let c = Family::counter;
    out.push(c(
        "hale_rounds_total",
        "Rounds of the sensors that were begun.",
        stats.rounds as f64,
    ));
    out.push(c(
        "hale_rounds_skipped_total",
        "Rounds left out because the one before was still going.",
        stats.skipped_rounds as f64,
    ));
    let mut dropped = Family::new(
        Kind::Counter,
        "hale_dropped_total",
        "What limits dropped, by reason.",
    );
    for (reason, count) in stats.drops.by_reason() {
        dropped = dropped.point([("reason", reason)], *count as f64);
    }
    out.push(dropped);
}

async fn judgement(n: &Inner, out: &mut Vec<Family>) {
    if let Some(counts) = n
        .slots
        .baseline
        .ask(ASK, hale_baseline::actor::Message::Counts)
        .await
    {
        out.push(Family::gauge(
            "hale_series",
            "Series with a baseline.",
            counts.series as f64,
        ));
        out.push(Family::counter(
            "hale_series_evicted_total",
            "Series that gave way to others.",
            counts.evicted as f64,
        ));
    }
    if let Some(incidents) = n
        .slots
        .decision
        .ask(ASK, hale_decision::actor::Message::ListIncidents)
        .await
    {
        let open = incidents
            .iter()
            .filter(|i| i.state == hale_model::IncidentState::Open);
        out.push(Family::gauge(
            "hale_incidents_open",
            "Incidents whose signals are not normal.",
            open.count() as f64,
        ));
    }
    if let Some(indexed) = n
        .slots
        .decision
        .ask(ASK, hale_decision::actor::Message::Indexed)
        .await
    {
        out.push(Family::gauge(
            "hale_playbooks_indexed",
            "Playbooks that incidents are matched with; 0 while they are read after a start.",
            indexed.unwrap_or_default() as f64,
        ));
    }
    let mut runs = Family::new(
        Kind::Counter,
        "hale_executions_total",
        "Closed runs by playbook and outcome, and incidents that ended without the one chosen.",
    );
    n.consensus.read_stale(|l| {
        for (playbook, service, h) in l.histories() {
            let service = service.map_or("", |s| s.as_str());
            for (outcome, count) in [
                ("succeeded", h.succeeded),
                ("failed", h.failed),
                ("aborted", h.aborted),
                ("went_away", h.went_away),
                ("shadow_agreed", h.agreed),
                ("shadow_disagreed", h.disagreed),
            ] {
                let labels = [
                    ("playbook", playbook.as_str()),
                    ("service", service),
                    ("outcome", outcome),
                ];
                runs.points.extend(
                    Family::new(Kind::Counter, "", "")
                        .point(labels, count as f64)
                        .points,
                );
            }
        }
    });
    out.push(runs);
}

fn ledger(n: &Inner, out: &mut Vec<Family>) {
    let m = n.consensus.metrics();
    let g = Family::gauge;
    let c = Family::counter;
    let frozen = n.consensus.read_stale(|l| l.frozen().is_some());
    out.push(g(
        "hale_frozen",
        "1 if execution is frozen.",
        f64::from(u8::from(frozen)),
    ));
    out.push(g("hale_raft_term", "Raft's term.", m.term as f64));
    out.push(g(
        "hale_raft_leader",
        "1 if this node leads.",
        f64::from(u8::from(m.leads)),
    ));
    out.push(g(
        "hale_raft_applied_index",
        "The last log entry applied.",
        m.applied as f64,
    ));
    out.push(g(
        "hale_raft_last_log_index",
        "The last log entry written.",
        m.last_log as f64,
    ));
    out.push(g(
        "hale_ledger_waiting",
        "Commands that wait to be written.",
        m.waiting as f64,
    ));
    out.push(c(
        "hale_ledger_commands_total",
        "Commands written since the start.",
        m.commands as f64,
    ));
    out.push(c(
        "hale_ledger_packs_total",
        "Log entries they were packed into.",
        m.packs as f64,
    ));
    out.push(c(
        "hale_ledger_syncs_total",
        "Waits for the log's disk.",
        m.log_syncs.count as f64,
    ));
    out.push(c(
        "hale_ledger_sync_seconds_total",
        "Time spent waiting for the log's disk.",
        m.log_syncs.total_us as f64 / 1e6,
    ));
    out.push(g(
        "hale_ledger_sync_p99_seconds",
        "The 99th percentile of waits for the log's disk.",
        m.log_syncs.p99_us as f64 / 1e6,
    ));
    out.push(g(
        "hale_leases_open",
        "Grants that are not closed.",
        m.open_grants as f64,
    ));
    out.push(g(
        "hale_chain_entries",
        "Entries of the audit chain, as far as this node knows.",
        m.entries as f64,
    ));
}
