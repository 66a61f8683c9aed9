//! A case's course: a host is booted and prepared, its node learns, the fault comes, and what the
//! node does about it is watched.

use super::case::{Case, Expect};
use super::host::{Host, Parts};
use super::node::Node;
use super::options::Options;
use super::report::{self, Report};
use super::stop;
use super::story;
use super::verdict::{self, Health, Seen, judge, seconds_between};
use hale_model::Timestamp;
use serde_json::Value;
use std::time::{Duration, Instant, SystemTime};

/// How long `prepare` may take.
const PREPARE: Duration = Duration::from_secs(120);
/// How long each of the other scripts may take.
const SCRIPT: Duration = Duration::from_secs(60);
/// How long a run that has begun may go on after the case's time.
const RUN: Duration = Duration::from_secs(90);
/// How long nothing may be done after a human was asked or told.
const QUIET: Duration = Duration::from_secs(8);

/// Why a case was not carried out to its end.
enum Broken {
    /// The host lacks something that the case needs.
    Skipped(String),
    /// A human was asked or told before the fault: the machine is busy, or the host is not well.
    Disturbed(String),
    /// Something went wrong.
    Failed(String),
}

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Carries out one case.
pub(crate) fn run(case: &Case, parts: &Parts, options: &Options) -> Report {
    let began = Instant::now();
    let mut report = Report::of(case);
    match Host::boot(parts, &case.dir, &case.told.disk) {
        Ok(host) => {
            match go(case, &host, parts, &mut report) {
                Ok(()) => {}
                Err(Broken::Skipped(why)) => report.skipped = Some(why),
                Err(Broken::Failed(why)) => report.fail(why),
                Err(Broken::Disturbed(why)) => {
                    report.disturbed = true;
                    report.fail(why);
                }
            }
            if (report.is_failed() || options.stories) && !stop::is_asked() {
                report.story = story::of(&host);
            }
            report.took = began.elapsed();
            if options.keep && !report.disturbed {
                stay(case, &host, &report);
            }
        }
        Err(why) => report.fail(format!("the host does not boot: {why}")),
    }
    report.took = began.elapsed();
    report
}

fn go(case: &Case, host: &Host, parts: &Parts, report: &mut Report) -> Result<(), Broken> {
    let node = begin(case, host, parts)?;
    let fault = now();
    must(host, "break", SCRIPT)?;
    report.felt = failed(host, "check")?.is_some();
    let mut seen = watch(case, &node)?;
    report.tell(case, &seen, fault);
    report.detected = detected(&node, fault)?;
    judged(case, host, &seen, report)?;
    if case.told.expect == Expect::Resolved && !report.is_failed() {
        if case.told.replay {
            report.again = Some(again(case, host, &node, &seen)?);
        }
        seen.look(&node)?;
        judged(case, host, &seen, report)?;
        in_time(case, report);
    }
    Ok(())
}

/// All before the fault: the service works, and a node knows what is normal.
fn begin<'a>(case: &Case, host: &'a Host, parts: &Parts) -> Result<Node<'a>, Broken> {
    for tool in &case.told.tools {
        let look = format!("command -v {tool}");
        if !host.run(&["sh", "-c", &look], SCRIPT)?.success() {
            return Err(Broken::Skipped(format!("the host has no {tool}")));
        }
    }
    host.join_network()?;
    must(host, "prepare", PREPARE)?;
    let node = Node::start(host, case, parts.library.is_some())?;
    stop::pass(case.told.learn)?;
    must(host, "check", SCRIPT)?;
    let mut early = Seen::default();
    early.look(&node)?;
    let Some(what) = early.anything() else {
        return Ok(node);
    };
    let why = format!("before the fault: {what}");
    if early.has_acted() || !early.running.is_empty() {
        return Err(Broken::Failed(why));
    }
    Err(Broken::Disturbed(why))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp::from_millis(since.map_or(0, |s| s.as_millis() as i64))
}

/// Runs a script that has to end well.
fn must(host: &Host, script: &str, bound: Duration) -> Result<(), String> {
    let ended = host.script(script, bound)?;
    if ended.success() {
        return Ok(());
    }
    let code = ended
        .code
        .map_or_else(|| "a signal".to_owned(), |c| c.to_string());
    Err(format!(
        "`{script}` ended with {code}\n{}",
        ended.said.trim_end()
    ))
}

/// What a script said if it did not end well.
fn failed(host: &Host, script: &str) -> Result<Option<String>, String> {
    let ended = host.script(script, SCRIPT)?;
    Ok((!ended.success()).then(|| format!("`{script}` fails: {}", ended.said.trim())))
}

/// Watches the node until the outcome is known, or the case's time is over.
fn watch(case: &Case, node: &Node<'_>) -> Result<Seen, String> {
    let began = Instant::now();
    let mut seen = Seen::default();
    let mut since = None;
    stop::wait_for("the outcome is known", case.told.within + RUN, || {
        if let Err(why) = seen.look(node) {
            return Some(Err(why));
        }
        if seen.is_as_expected(case) && since.is_none() {
            since = Some(Instant::now());
        }
        // Who was asked or told could still be passed over.
        let quiet = if case.told.expect == Expect::Resolved {
            Duration::ZERO
        } else {
            QUIET
        };
        let is_known = since.is_some_and(|s| s.elapsed() >= quiet) || seen.is_spoiled(case);
        let is_over = began.elapsed() >= case.told.within && seen.running.is_empty();
        (is_known || is_over).then_some(Ok(()))
    })??;
    Ok(seen)
}

impl Seen {
    /// Looks at the node once more.
    fn look(&mut self, node: &Node<'_>) -> Result<(), String> {
        for approval in node.list("/v1/approvals", "approvals")? {
            self.approvals.insert(approval["id"].to_string(), approval);
        }
        // First what runs: what has ended in between is among the records.
        self.running = node.list("/v1/executions", "executions")?;
        self.records = node.records()?;
        Ok(())
    }
}

/// Looks at the host, and writes into the report how the case ended.
fn judged(case: &Case, host: &Host, seen: &Seen, report: &mut Report) -> Result<(), String> {
    let mut health = Health {
        check: failed(host, "check")?,
        unharmed: None,
    };
    if case.has("unharmed") {
        health.unharmed = failed(host, "unharmed")?;
    }
    let (outcome, why) = judge(case, seen, &health);
    report.outcome = outcome;
    report.why = why;
    Ok(())
}

fn in_time(case: &Case, report: &mut Report) {
    let within = case.told.within.as_secs_f64();
    if let Some(took) = report.fixed.filter(|f| *f > within && report.why.is_none()) {
        report.why = Some(format!("it took {took:.1} s, longer than {within} s"));
    }
}

/// Runs the playbook once more, by hand: it may find nothing to do, and must do no harm. Returns how
/// that ended.
fn again(case: &Case, host: &Host, node: &Node<'_>, seen: &Seen) -> Result<String, String> {
    let record = seen.success(case).ok_or("there is no success to repeat")?;
    let service = record["incident_context"]["tags"]["service"].as_str();
    let mut args = vec![
        "playbook",
        "run",
        verdict::playbook(record),
        "--by",
        "gallery",
        "--json",
    ];
    args.extend(service.iter().flat_map(|s| ["--service", s]));
    let said = node.cli(&args)?.said;
    let run: Value = serde_json::from_str(&said)
        .map_err(|_| format!("the playbook can't be run once more: {said}"))?;
    let incident = &run["plan"]["incident"];
    if !incident.is_string() {
        return Err(format!("the playbook can't be run once more: {said}"));
    }
    let record = stop::wait_for("the playbook has run once more", RUN, || {
        let records = node.records().unwrap_or_default();
        records.into_iter().find(|r| r["incident_id"] == *incident)
    })?;
    let status = record["outcome"]["status"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    if !verdict::is_harmless(&record) {
        let reason = &record["outcome"]["reason"];
        return Err(format!(
            "run once more, the playbook ended as {status}: {reason}"
        ));
    }
    match failed(host, "check")? {
        Some(why) => Err(format!("after the playbook was run once more, {why}")),
        None => Ok(status),
    }
}

/// Seconds from the fault to the first incident.
fn detected(node: &Node<'_>, fault: Timestamp) -> Result<Option<f64>, String> {
    let incidents = node.list("/v1/incidents?state=all&limit=100", "incidents")?;
    let since = incidents
        .iter()
        .filter_map(|i| seconds_between(fault, &i["opened_at"]));
    Ok(since.filter(|s| *s >= 0.0).min_by(f64::total_cmp))
}

impl Report {
    /// Writes down what was done, and how long that took.
    fn tell(&mut self, case: &Case, seen: &Seen, fault: Timestamp) {
        let told = seen.success(case).or(seen.records.first());
        let asked = seen.approvals.values().next();
        self.playbook = match (told, asked) {
            (Some(record), _) => Some(verdict::playbook(record).to_owned()),
            (None, Some(asked)) => asked["playbook"].as_str().map(str::to_owned),
            (None, None) => None,
        };
        self.fixed = seen
            .success(case)
            .and_then(|r| seconds_between(fault, &r["timestamp_end"]));
    }
}

/// Leaves the host as it is until the gallery is stopped.
fn stay(case: &Case, host: &Host, report: &Report) {
    report.print();
    report::say(&format!("{}: {}  (Ctrl-C ends it)", case.name, host.door()));
    while stop::pass(Duration::from_secs(60)).is_ok() {}
}
