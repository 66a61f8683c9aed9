//! The study, told to people.

use super::Report;
use super::gossip::{Gossip, Spread};
use super::leader::Leader;
use std::fmt::Write;

/// The report as Markdown.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let told = tell(&mut out, report);
    // Writing into a text does not fail.
    debug_assert!(told.is_ok());
    out
}

fn tell(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "# How it grows\n")?;
    writeln!(
        out,
        "Measured on this machine ({} cores), seed {}. Lines with ~ follow from smaller clusters.\n",
        report.cores, report.seed
    )?;
    writeln!(out, "## Gossip, simulated with the product's machines\n")?;
    rows(
        out,
        &[
            "nodes",
            "join known: 99 %",
            "all",
            "max",
            "death known: 99 %",
            "all",
            "max",
            "packets/s quiet",
            "B/s",
            "packets/s at 5 % loss",
            "B/s",
            "false suspicions",
            "false downs",
            "exchange",
            "CPU time",
            "virtual",
        ],
        report.gossip.iter().map(gossip_row),
    )?;
    writeln!(
        out,
        "\nTimes are medians of five, and the longest; packets and bytes are each node's, without \
         headers; each node takes part in an exchange about {:.0} times a minute.\n",
        report
            .gossip
            .last()
            .map_or(0.0, |g| g.quiet.exchanges * 60.0)
    )?;
    costs(out, report)?;
    let a = &report.assumed;
    writeln!(
        out,
        "## The leader, in a second\n\n{} incidents of each host in an hour; a run holds its lease \
         for {} s and renews it every {} s; {} nodes in the group.\n",
        a.incidents_per_hour, a.run_seconds, a.renew_seconds, a.group
    )?;
    rows(
        out,
        &[
            "nodes",
            "commands",
            "signatures",
            "renewals",
            "heartbeats",
            "requests",
            "bytes out",
            "followers",
            "connections",
            "handshakes",
            "one core",
            "ledger",
            "gossip",
            "port",
            "disk's syncs",
            "snapshot",
            "roster",
        ],
        report.leaders.iter().map(leader_row),
    )?;
    writeln!(out, "\n## What gives, the first first\n")?;
    let limits = report.limits.iter().map(|l| {
        let nodes = l.nodes.map_or("never".into(), |n| n.to_string());
        let runs = l.incidents_per_hour.map_or("-".into(), short);
        vec![l.what.clone(), short(l.of), nodes, runs]
    });
    rows(
        out,
        &["what", "there is", "at nodes", "incidents/h there"],
        limits,
    )?;
    if let Some(first) = report.limits.first()
        && let Some(nodes) = first.nodes
    {
        writeln!(out, "\nThe first limit: {}, at {nodes} nodes.", first.what)?;
    }
    Ok(())
}

fn costs(out: &mut String, report: &Report) -> std::fmt::Result {
    let (ledger, disk, quic) = (&report.ledger, &report.disk, &report.quic);
    writeln!(out, "## What the parts cost\n")?;
    for (what, cost) in [
        ("acquire", ledger.acquire),
        ("renew", ledger.renew),
        ("close", ledger.close),
    ] {
        let (us, size) = (cost.apply_us, cost.bytes);
        writeln!(out, "- {what}: {us:.0} us of CPU, {size:.0} bytes")?;
    }
    writeln!(
        out,
        "- each open grant adds {:.2} us to an acquire",
        ledger.acquire_us_per_open
    )?;
    for s in &report.states {
        writeln!(
            out,
            "- a state with {} nodes: {}, {:.1} ms to write, {:.1} ms to read",
            s.nodes,
            bytes(s.bytes),
            s.encode_ms,
            s.decode_ms
        )?;
    }
    writeln!(
        out,
        "- QUIC, one end: a handshake {:.0} us, a question with its answer {:.0} us, a datagram {:.0} us",
        quic.handshake_us, quic.question_us, quic.datagram_us
    )?;
    writeln!(
        out,
        "- the disk: a sync p50 {:.0} us, p99 {:.0} us, {:.0} a second\n",
        disk.sync_p50_us, disk.sync_p99_us, disk.syncs_per_second
    )
}

fn rows(
    out: &mut String,
    head: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> std::fmt::Result {
    writeln!(out, "| {} |", head.join(" | "))?;
    writeln!(out, "|{}", " --- |".repeat(head.len()))?;
    for row in rows {
        writeln!(out, "| {} |", row.join(" | "))?;
    }
    Ok(())
}

fn seconds(s: Option<f64>) -> String {
    s.map_or("never".into(), |s| format!("{s:.1} s"))
}

fn spread(s: &Spread) -> [String; 3] {
    let most = match s.unknown {
        0 => seconds(s.all_max_s),
        n => format!("{n} not to all"),
    };
    [seconds(s.most_median_s), seconds(s.all_median_s), most]
}

fn gossip_row(g: &Gossip) -> Vec<String> {
    let mut row = vec![g.nodes.to_string()];
    row.extend(spread(&g.joins));
    row.extend(spread(&g.deaths));
    row.extend([
        format!("{:.1}", g.quiet.packets),
        bytes(g.quiet.bytes),
        format!("{:.1}", g.lossy.packets),
        bytes(g.lossy.bytes),
        format!("{} in {:.0} s", g.false_suspicions, g.lossy_s),
        g.false_downs.to_string(),
        bytes(g.exchange_bytes as f64),
        format!("{:.0} s", g.cpu_s),
        format!("{:.0} s", g.virtual_s),
    ]);
    row
}

fn leader_row(l: &Leader) -> Vec<String> {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let mark = if l.measured { "" } else { "~" };
    vec![
        format!("{mark}{}", l.nodes),
        short(l.commands),
        short(l.entries),
        short(l.renewals),
        short(l.heartbeats),
        short(l.requests),
        bytes(l.bytes_out),
        short(l.followers),
        short(l.connections),
        short(l.handshakes),
        percent(l.core),
        percent(l.core_ledger),
        percent(l.core_gossip),
        percent(l.core_port),
        percent(l.disk),
        bytes(l.state_bytes),
        bytes(l.roster_bytes),
    ]
}

fn bytes(n: f64) -> String {
    match n {
        n if n < 1e4 => format!("{n:.0} B"),
        n => format!("{}B", short(n)),
    }
}

/// With three digits or so.
fn short(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.1} G", n / 1e9),
        n if n >= 1e6 => format!("{:.1} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        n if n >= 10.0 => format!("{n:.0}"),
        n => format!("{n:.2}"),
    }
}
