//! What came of it: figures, as JSON and as Markdown, and a picture of hosts, leaders, leases and
//! faults over time.

use super::faults::RealFault;
use super::hosts::{Hosts, LEASES};
use super::verdict::Verdict;
use super::workload::Seen;
use super::{Plan, Scenario};
use serde::Serialize;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// A fault that was brought about.
#[derive(Debug, Clone, Serialize)]
pub struct Done {
    /// When it began, in milliseconds since the clients began.
    pub from_ms: u64,
    /// When it was over.
    pub until_ms: u64,
    /// Which.
    pub fault: RealFault,
    /// Whether somebody led then.
    pub was_led: bool,
    /// In words.
    pub told: String,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of this shape.
    pub schema: &'static str,
    /// The schedule's seed.
    pub seed: u64,
    /// Which faults there were to draw from.
    pub scenario: Scenario,
    /// How many hosts.
    pub hosts: usize,
    /// Where they were: namespaces, or loopback and why.
    pub network: String,
    /// For how long, in milliseconds, with what it took to end.
    pub took_ms: u64,
    /// The faults, in order.
    pub faults: Vec<Done>,
    /// Those that could not be brought about, and why.
    pub left_out: Vec<(RealFault, String)>,
    /// How many of them killed the leader.
    pub leader_kills: usize,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes that were refused or not answered.
    pub unanswered: u64,
    /// Reads of keys and leases that were answered; they must fit what was written and granted.
    pub reads: u64,
    /// Runs that hosts began.
    pub runs: u64,
    /// Leases that were granted.
    pub grants: usize,
    /// Entries of the chain.
    pub entries: usize,
    /// The share of seconds in which a write was acknowledged.
    pub write_availability: f64,
    /// The longest time without one, in milliseconds.
    pub longest_write_gap_ms: u64,
    /// From a kill of the leader to the next acknowledged write, in milliseconds: the median.
    pub write_after_kill_ms: Option<u64>,
    /// From a kill of the leader until another says that it leads: the median.
    pub leader_after_kill_ms: Option<u64>,
    /// From a kill of the leader until something is done under a new lease: the median.
    pub lease_after_kill_ms: Option<u64>,
    /// The longest time in which nothing was done under any lease, in milliseconds.
    pub longest_lease_gap_ms: u64,
    /// What did not hold. Nothing may be here.
    pub wrong: Vec<String>,
    /// Who led: from, until, host, in milliseconds.
    pub leaders: Vec<(u64, u64, usize)>,
    /// What was done under leases: lease, from, until.
    pub held: Vec<(String, u64, u64)>,
}

/// A leader that is not heard of for this long does not lead, for the picture.
const SILENT_MS: u64 = 1_500;

pub(super) fn of(
    plan: &Plan,
    hosts: &Hosts,
    (done, left_out): (&[Done], Vec<(RealFault, String)>),
    seen: Seen,
    verdict: Verdict,
    took: Duration,
) -> Report {
    let network = match &hosts.loopback {
        None => "a network namespace each".to_owned(),
        Some(why) => format!("ports on loopback ({why})"),
    };
    let acked = acked_ms(&seen, took);
    let end = done.last().map_or(0, |d| d.until_ms);
    let is_kill = |d: &&Done| d.fault.kills_leader() && d.was_led;
    let kills: Vec<u64> = done.iter().filter(is_kill).map(|d| d.from_ms).collect();
    let leaders = spans(&seen.leads);
    let starts: Vec<u64> = verdict.held.iter().map(|(_, from, _)| *from).collect();
    let terms: Vec<u64> = leaders.iter().map(|(from, ..)| *from).collect();
    let busy: Vec<u64> = verdict.held.iter().flat_map(|(_, a, b)| [*a, *b]).collect();
    Report {
        schema: "hale.chaos.real.v1",
        seed: plan.seed,
        scenario: plan.scenario,
        left_out,
        hosts: plan.hosts,
        network,
        took_ms: took.as_millis() as u64,
        leader_kills: kills.len(),
        acknowledged: seen.acked.len(),
        unanswered: seen.failed,
        reads: seen.reads,
        runs: seen.runs,
        grants: verdict.grants,
        entries: verdict.entries,
        write_availability: availability(&acked, end),
        longest_write_gap_ms: longest_gap(&acked, end),
        write_after_kill_ms: median_after(&kills, &acked),
        leader_after_kill_ms: median_after(&kills, &terms),
        lease_after_kill_ms: median_after(&kills, &starts),
        longest_lease_gap_ms: longest_gap(&busy, end),
        wrong: verdict.wrong,
        leaders,
        held: verdict.held,
        faults: done.to_vec(),
    }
}

/// When writes were acknowledged, in milliseconds since the clients began.
fn acked_ms(seen: &Seen, took: Duration) -> Vec<u64> {
    let now = Instant::now();
    let ms = |at: &Instant| took.saturating_sub(now.duration_since(*at)).as_millis() as u64;
    seen.acked.iter().map(|(_, at)| ms(at)).collect()
}

fn availability(acked: &[u64], end: u64) -> f64 {
    let seconds = (end / 1000).max(1);
    let with = (0..seconds).filter(|s| acked.iter().any(|at| at / 1000 == *s));
    with.count() as f64 / seconds as f64
}

fn longest_gap(moments: &[u64], end: u64) -> u64 {
    let mut all: Vec<u64> = moments.iter().copied().filter(|m| *m < end).collect();
    all.extend([0, end]);
    all.sort_unstable();
    all.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0)
}

/// The median time from each of these moments to the next of the others.
fn median_after(from: &[u64], moments: &[u64]) -> Option<u64> {
    let next = |at: &u64| moments.iter().filter(|m| *m > at).min().map(|m| m - at);
    let mut all: Vec<u64> = from.iter().filter_map(next).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied()
}

/// Who led from when until when.
fn spans(leads: &[(u64, usize, u64)]) -> Vec<(u64, u64, usize)> {
    let mut leads = leads.to_vec();
    leads.sort_unstable();
    let mut out: Vec<(u64, u64, usize, u64)> = vec![];
    for (at, host, term) in leads {
        let same = out
            .iter_mut()
            .rev()
            .find(|(_, until, h, t)| *h == host && *t == term && at < *until + SILENT_MS);
        match same {
            Some(span) => span.1 = at,
            None => out.push((at, at, host, term)),
        }
    }
    out.into_iter()
        .map(|(a, b, host, _)| (a, b, host))
        .collect()
}

/// The report for people.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let ms = |m: Option<u64>| m.map_or_else(|| "-".to_owned(), |m| format!("{m} ms"));
    let verdict = match report.wrong.len() {
        0 => "Everything held.".to_owned(),
        n => format!("**{n} things did not hold.**"),
    };
    let took = Duration::from_millis(report.took_ms).as_secs();
    let lines = [
        ("hosts", format!("{}, {}", report.hosts, report.network)),
        ("seed", report.seed.to_string()),
        ("took", format!("{took} s")),
        (
            "faults, and left out",
            format!("{}, {}", report.faults.len(), report.left_out.len()),
        ),
        (
            "of them kills of the leader",
            report.leader_kills.to_string(),
        ),
        ("writes acknowledged", report.acknowledged.to_string()),
        (
            "writes refused or unanswered",
            report.unanswered.to_string(),
        ),
        ("reads answered", report.reads.to_string()),
        (
            "runs begun, leases granted",
            format!("{}, {}", report.runs, report.grants),
        ),
        ("entries on every chain", report.entries.to_string()),
        (
            "seconds with an acknowledged write",
            format!("{:.1} %", report.write_availability * 100.0),
        ),
        (
            "longest time without one",
            ms(Some(report.longest_write_gap_ms)),
        ),
        (
            "after a kill: the next write (median)",
            ms(report.write_after_kill_ms),
        ),
        (
            "after a kill: another leads (median)",
            ms(report.leader_after_kill_ms),
        ),
        (
            "after a kill: a new lease is used (median)",
            ms(report.lease_after_kill_ms),
        ),
        (
            "longest time without a lease in use",
            ms(Some(report.longest_lease_gap_ms)),
        ),
    ];
    // Writing to a string can't fail.
    let _ = writeln!(
        out,
        "# Real faults\n\n{verdict}\n\n| what | figure |\n| --- | --- |"
    );
    for (what, figure) in lines {
        let _ = writeln!(out, "| {what} | {figure} |");
    }
    if !report.wrong.is_empty() {
        let _ = writeln!(out, "\n## What did not hold\n");
        for wrong in &report.wrong {
            let _ = writeln!(out, "- {wrong}");
        }
    }
    let _ = writeln!(
        out,
        "\n## Faults\n\n| from s | until s | what |\n| --- | --- | --- |"
    );
    for done in &report.faults {
        let (from, until) = (done.from_ms as f64 / 1e3, done.until_ms as f64 / 1e3);
        let _ = writeln!(out, "| {from:.1} | {until:.1} | {} |", done.told);
    }
    out
}

/// A picture of it (SVG): a lane for each host, in which its time as the leader is filled, one for
/// each lease, and the faults as bands across.
pub fn timeline(report: &Report) -> String {
    const LEFT: f64 = 90.0;
    const WIDTH: f64 = 1400.0;
    const LANE: f64 = 22.0;
    let lanes = report.hosts + LEASES.len();
    let height = 30.0 + LANE * (lanes as f64 + 1.0);
    let end = report.took_ms.max(1) as f64;
    let x = |ms: u64| LEFT + ms as f64 / end * WIDTH;
    let y = |lane: usize| 20.0 + LANE * lane as f64;
    let width = LEFT + WIDTH + 20.0;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    );
    for done in &report.faults {
        let (from, to) = (x(done.from_ms), x(done.until_ms));
        let (w, h) = ((to - from).max(1.0), LANE * lanes as f64);
        let told = done.told.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            out,
            "<rect x=\"{from:.1}\" y=\"16\" width=\"{w:.1}\" height=\"{h}\" fill=\"#e4572e\" \
             opacity=\"0.18\"><title>{told}</title></rect>"
        );
    }
    let mut lane = |n: usize, name: &str, spans: Vec<(u64, u64)>, colour: &str| {
        let at = y(n);
        let _ = writeln!(out, "<text x=\"4\" y=\"{:.1}\">{name}</text>", at + 12.0);
        for (from, until) in spans {
            let (from, to) = (x(from), x(until));
            let w = (to - from).max(1.0);
            let _ = writeln!(
                out,
                "<rect x=\"{from:.1}\" y=\"{at:.1}\" width=\"{w:.1}\" height=\"14\" fill=\"{colour}\"/>"
            );
        }
    };
    for host in 0..report.hosts {
        let led = report.leaders.iter().filter(|(.., h)| *h == host);
        let led = led.map(|(a, b, _)| (*a, *b)).collect();
        lane(host, &format!("host-{}", host + 1), led, "#2e6f95");
    }
    for (n, lease) in LEASES.iter().enumerate() {
        let held = report.held.iter().filter(|(l, ..)| l == lease);
        let held = held.map(|(_, a, b)| (*a, *b)).collect();
        lane(report.hosts + n, &format!("lease {lease}"), held, "#76a21e");
    }
    let seconds = report.took_ms / 1000;
    let at = y(lanes) + 12.0;
    for n in 0..=10 {
        let second = seconds * n / 10;
        let at_x = x(second * 1000);
        let _ = writeln!(out, "<text x=\"{at_x:.1}\" y=\"{at:.1}\">{second} s</text>");
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_led_by_as_long_as_it_says_so() {
        let leads = [
            (0, 1, 1),
            (200, 1, 1),
            (400, 1, 1),
            (600, 2, 2),
            (9_000, 2, 2),
        ];
        assert_eq!(
            spans(&leads),
            [(0, 400, 1), (600, 600, 2), (9_000, 9_000, 2)]
        );
    }

    #[test]
    fn gaps_and_medians_are_counted_from_the_first_moment_to_the_last() {
        assert_eq!(longest_gap(&[1_000, 1_500, 4_000], 5_000), 2_500);
        assert_eq!(longest_gap(&[], 5_000), 5_000);
        assert_eq!(median_after(&[100, 200, 900], &[150, 1_000]), Some(100));
        assert_eq!(median_after(&[100], &[50]), None);
        assert!((availability(&[100, 1_900, 1_950], 4_000) - 0.5).abs() < 1e-9);
    }
}
