//! What must hold between the parts of a playbook: names that are there, checks that belong
//! there, and the habits that keep a run safe.

mod actions;

use crate::check::{Checked, Reading, is_name};
use crate::expr::Template;
use crate::finding::{Findings, Place, nearest};
use crate::node::{Kind, Node};
use crate::quantity;
use crate::settle;
use crate::typed::parameter;
use std::collections::BTreeMap;

/// The sections that hold checks and steps, in the order they run.
pub(crate) const SECTIONS: [&str; 5] = [
    DIAGNOSE,
    "pre_execution_checks",
    "steps",
    "verification",
    "rollback",
];
/// What runs before anything is decided, apart from the rest.
pub(crate) const DIAGNOSE: &str = "diagnose";
/// A decision waits for its probes: they are few and quick.
const MAX_PROBES: usize = 5;
const MAX_PROBE_SECONDS: f64 = 3.5;

const MIN_DESCRIPTION: usize = 80;
const MAX_DESCRIPTION: usize = 1200;
const MAX_STEPS: usize = 100;

/// A check or step with where it stands.
struct Placed<'a> {
    section: &'static str,
    name: &'a str,
    node: &'a Node,
}

/// Looks between the parts of a document whose shape was checked.
pub(crate) fn check(root: &Node, checked: &mut Checked) {
    let Checked { findings, readings } = checked;
    let steps: Vec<Placed<'_>> = SECTIONS
        .into_iter()
        .flat_map(|section| {
            let items = root.get(section).map_or(&[][..], Node::items);
            items.iter().map(move |node| Placed {
                section,
                name: node.get("name").and_then(Node::text).unwrap_or_default(),
                node,
            })
        })
        .collect();
    metadata(root, findings);
    sections(root, &steps, findings);
    names_are_unique(&steps, findings);
    parameters(root, readings, findings);
    probes(root, &steps, findings);
    for step in &steps {
        belongs(step, root, &steps, findings);
        actions::check(step.section, step.node, root, findings);
    }
    steps_are_read_after_they_ran(&steps, readings, findings);
    secrets_stay_hidden(&steps, findings);
}

fn metadata(root: &Node, findings: &mut Findings) {
    let Some(meta) = root.get("metadata") else {
        return;
    };
    let text = |name| meta.get(name).and_then(|n| n.text().map(|t| (n.at, t)));
    if let Some((at, name)) = text("name")
        && !(is_name(name) && name == name.to_lowercase() && name.len() >= 3 && !name.contains('-'))
    {
        let instead =
            "write lower-case words joined by `_`, the product first: `redis_memory_purge`";
        findings.error(at, format!("`{name}` is no name of a playbook"), instead);
    }
    if let Some((at, version)) = text("version")
        && !is_semantic(version)
    {
        let instead = "write MAJOR.MINOR.PATCH in quotes: \"1.0.0\"";
        findings.error(
            at,
            format!("`{version}` is not a semantic version"),
            instead,
        );
    }
    if let Some((at, description)) = text("description") {
        let length = description.trim().chars().count();
        if length < MIN_DESCRIPTION {
            let instead = "name the symptoms in the words of alerts and logs, then what is done";
            let message =
                format!("the description has {length} characters, too few to be found by");
            findings.error(at, message, instead);
        } else if length > MAX_DESCRIPTION {
            let instead = format!(
                "keep it below {MAX_DESCRIPTION}: symptoms first, details in `reason` of the steps"
            );
            findings.warning(at, format!("the description has {length} characters; a long one matches everything a little"), instead);
        }
    }
    if meta.get("signature").is_none_or(|s| s.entries().is_empty()) {
        let instead = "add `signature:` with `series:` (metric, direction) and `logs:`";
        findings.warning(
            meta.at,
            "without a signature it is found by its words alone",
            instead,
        );
    }
    let flag = |name| meta.get(name).map(|n| n.json());
    if flag("idempotent") == Some(false.into()) && flag("max_route") == Some("execute".into()) {
        let at = meta.get("max_route").map_or(meta.at, |n| n.at);
        let instead = "write `max_route: ask`, or make every step safe to repeat";
        findings.warning(at, "it is not idempotent, so it always asks", instead);
    }
}

fn is_semantic(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let number = |p: &str| {
        p.len() <= 9
            && !p.is_empty()
            && p.chars().all(|c| c.is_ascii_digit())
            && (p == "0" || !p.starts_with('0'))
    };
    let parts: Vec<_> = core.split('.').collect();
    let suffix = &version[core.len()..];
    let clean = |c: char| c.is_ascii_alphanumeric() || "-.+".contains(c);
    parts.len() == 3
        && parts.into_iter().all(number)
        && suffix.len() != 1
        && suffix.chars().all(clean)
}

/// Whether it only hands the incident to a person.
pub(crate) fn hands_over(root: &Node) -> bool {
    let route = root.get("metadata").and_then(|m| m.get("max_route"));
    route.and_then(Node::text) == Some("escalate")
}

fn sections(root: &Node, steps: &[Placed<'_>], findings: &mut Findings) {
    let has = |section| steps.iter().any(|s| s.section == section);
    if steps.len() > MAX_STEPS {
        let message = format!(
            "it has {} checks and steps, the most is {MAX_STEPS}",
            steps.len()
        );
        findings.error(root.at, message, "split it into several playbooks");
    }
    if hands_over(root) && !has("steps") {
        return;
    }
    for (section, message, instead) in [
        (
            "steps",
            "it does nothing",
            "add `steps:`, or `max_route: escalate` if a person has to act",
        ),
        (
            "verification",
            "nothing verifies that it helped",
            "add `verification:` with checks of what users see: a new connection, a write, a health check",
        ),
    ] {
        if !has(section) {
            findings.error(root.at, message, instead);
        }
    }
    match (has("rollback"), root.get("no_rollback_reason")) {
        (false, None) => findings.error(
            root.at,
            "nothing undoes it",
            "add `rollback:`, or `no_rollback_reason:` that says why there is nothing to undo",
        ),
        (true, Some(reason)) => findings.warning(
            reason.at,
            "it has a rollback and a reason for none",
            "remove one of the two",
        ),
        _ => {}
    }
    let guarded = |kind, fits: &dyn Fn(&Node) -> bool| {
        steps.iter().any(|s| {
            s.section == "pre_execution_checks"
                && s.node.get("type").and_then(Node::text) == Some(kind)
                && fits(s.node)
        })
    };
    if !guarded("tag_check", &|n| {
        n.get("tag").and_then(Node::text) == Some("maintenance_mode")
    }) {
        let instead = "add to `pre_execution_checks`: `{name: not_in_maintenance, type: tag_check, tag: maintenance_mode, expect_value: false}`";
        findings.warning(root.at, "it would run in maintenance", instead);
    }
    if !guarded("concurrency_check", &|_| true) {
        let instead = "add to `pre_execution_checks`: `{name: nothing_else_runs, type: concurrency_check, scope: host, fail_action: wait, max_wait: 60s}`";
        findings.warning(root.at, "it would run beside another playbook", instead);
    }
}

/// What a probe may be: a quick look, with something it finds.
fn probes(root: &Node, steps: &[Placed<'_>], findings: &mut Findings) {
    for step in steps.iter().filter(|s| s.section != DIAGNOSE) {
        if let Some(weight) = step.node.get("weight") {
            let instead = "move it to `diagnose`, or remove `weight`";
            findings.error(weight.at, "only a probe has a weight", instead);
        }
    }
    let all = root.get(DIAGNOSE).map_or(&[][..], Node::items);
    if all.len() > MAX_PROBES {
        let message = format!("it has {} probes, the most is {MAX_PROBES}", all.len());
        findings.error(all[MAX_PROBES].at, message, "keep those that tell most");
    }
    for probe in all {
        for name in ["fail_action", "retries", "retry_delay", "undoes"] {
            if let Some(node) = probe.get(name) {
                let message = format!("`{name}` means nothing for a probe");
                let instead = "remove it: what can't be found out speaks neither for nor against";
                findings.error(node.at, message, instead);
            }
        }
        let kind = probe.get("type").and_then(Node::text).unwrap_or_default();
        if matches!(
            kind,
            "wait" | "concurrency_check" | "tag_check" | "log_check"
        ) {
            let instead = "write it under `pre_execution_checks`; log lines that tell belong in `signature.logs`";
            findings.error(probe.at, format!("a `{kind}` finds out nothing"), instead);
        }
        if matches!(kind, "sql_query" | "file" | "process") && probe.get("expect").is_none() {
            let instead = "add `expect:` with a condition over `result`";
            findings.error(probe.at, "nothing says what it finds", instead);
        }
        let slow = ["timeout", "timeout_seconds"]
            .iter()
            .find_map(|n| probe.get(n));
        let seconds = slow.and_then(|n| match n.text() {
            Some(text) => quantity::duration(text).map(|d| d.as_secs_f64()),
            None => n.json().as_f64(),
        });
        if let (Some(node), Some(true)) = (slow, seconds.map(|s| s > MAX_PROBE_SECONDS)) {
            let instead =
                format!("write at most `{MAX_PROBE_SECONDS}s`: the decision waits for it");
            findings.error(node.at, "a probe that takes long", instead);
        }
    }
}

fn names_are_unique(steps: &[Placed<'_>], findings: &mut Findings) {
    let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
    for step in steps.iter().filter(|s| !s.name.is_empty()) {
        let at = step.node.get("name").map_or(step.node.at, |n| n.at);
        if !is_name(step.name) || step.name.contains('-') {
            let instead = "write letters, digits and `_`, so that `steps.NAME` can be read";
            findings.error(at, format!("`{}` is no name of a step", step.name), instead);
        }
        if let Some(first) = seen.insert(step.name, at) {
            let instead = format!("name it differently; the first is on line {}", first.line);
            findings.error(
                at,
                format!("two checks or steps are called `{}`", step.name),
                instead,
            );
        }
    }
}

fn parameters(root: &Node, readings: &[Reading], findings: &mut Findings) {
    let given = root.get("parameters").map_or(&[][..], Node::entries);
    let names: Vec<&str> = given.iter().map(|(k, _)| k.name.as_str()).collect();
    let read = |name: &str| {
        readings.iter().any(|r| {
            r.paths
                .iter()
                .any(|p| p[0] == "params" && p.get(1).is_none_or(|n| n == name))
        })
    };
    for reading in readings {
        for name in reading
            .paths
            .iter()
            .filter(|p| p[0] == "params")
            .filter_map(|p| p.get(1))
        {
            if !names.contains(&name.as_str()) {
                let instead = match nearest(name, names.iter().copied()) {
                    Some(near) => format!("write `params.{near}`"),
                    None => format!("add it to `parameters:`; there is {}", list(&names)),
                };
                findings.error(
                    reading.at,
                    format!("there is no parameter `{name}`"),
                    instead,
                );
            }
        }
    }
    for (key, node) in given {
        if !is_name(&key.name) || key.name.contains('-') {
            let instead = "write letters, digits and `_`";
            findings.error(
                key.at,
                format!("`{}` is no name of a parameter", key.name),
                instead,
            );
        }
        if !read(&key.name) {
            let instead = format!("read it as `params.{}`, or remove it", key.name);
            findings.warning(
                key.at,
                format!("nothing reads the parameter `{}`", key.name),
                instead,
            );
        }
        if node.get("default").is_none() && node.get("from").is_none() {
            let instead = "add `default:` or `from:`";
            findings.warning(
                key.at,
                format!(
                    "`{}` must be given by hand, so it can't run alone",
                    key.name
                ),
                instead,
            );
        }
        if let (Some(default), Some(typed)) = (node.get("default"), parameter(&key.name, node))
            && let Err(why) = settle::admit(&typed, &default.json())
        {
            findings.error(
                default.at,
                format!("the default of `{}` {why}", key.name),
                "write one that fits",
            );
        }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

/// Whether what a step says of its failure, its hold and its undoing has a meaning in its section.
fn belongs(step: &Placed<'_>, root: &Node, all: &[Placed<'_>], findings: &mut Findings) {
    let Placed { section, node, .. } = *step;
    let fails = node
        .get("fail_action")
        .and_then(|n| n.text().map(|t| (n.at, t)));
    let waits = ["max_wait", "max_wait_seconds"]
        .iter()
        .find_map(|n| node.get(n));
    match fails {
        Some((at, "wait")) if waits.is_none() => {
            findings.error(
                at,
                "it would wait without a bound",
                "add `max_wait_seconds: 60`",
            );
        }
        Some((at, "wait")) if section != "pre_execution_checks" => {
            let instead = "write `retries: 5` and `retry_delay: 2s` with `fail_action: rollback` or `escalate`";
            findings.warning(
                at,
                "`wait` ends in `abort`, which leaves things half done",
                instead,
            );
        }
        Some((at, "rollback")) if section == "pre_execution_checks" => {
            findings.error(
                at,
                "nothing has been done yet that could be undone",
                "write `abort` or `escalate`",
            );
        }
        Some((at, "rollback")) if section == "rollback" => {
            findings.error(
                at,
                "a rollback can't roll back",
                "write `escalate` or `warn`",
            );
        }
        Some((at, "rollback")) if root.get("rollback").is_none_or(|r| r.items().is_empty()) => {
            findings.warning(
                at,
                "there is no rollback",
                "write `escalate`, or add `rollback:`",
            );
        }
        _ => {}
    }
    if let Some(node) = waits
        && fails.is_none_or(|(_, f)| f != "wait")
    {
        findings.warning(
            node.at,
            "nothing waits",
            "add `fail_action: wait`, or remove it",
        );
    }
    let hold = ["hold", "hold_seconds"].iter().find_map(|n| node.get(n));
    if let Some(hold) = hold
        && section != "verification"
    {
        findings.error(
            hold.at,
            "only a verification can hold",
            "move it to `verification`, or add a `type: wait` step",
        );
    }
    if let Some(undoes) = node.get("undoes") {
        let name = undoes.text().unwrap_or_default();
        let names = all.iter().filter(|s| s.section == "steps").map(|s| s.name);
        if section != "rollback" {
            findings.error(undoes.at, "only a rollback undoes", "move it to `rollback`");
        } else if !names.clone().any(|n| n == name) {
            let instead = match nearest(name, names.clone()) {
                Some(near) => format!("write `{near}`"),
                None => format!("the steps are {}", names.collect::<Vec<_>>().join(", ")),
            };
            findings.error(
                undoes.at,
                format!("it undoes `{name}`, which is no step"),
                instead,
            );
        }
    }
}

fn steps_are_read_after_they_ran(
    steps: &[Placed<'_>],
    readings: &[Reading],
    findings: &mut Findings,
) {
    for reading in readings {
        // The step that reads is the last one that begins at or before the expression.
        let reader = steps.iter().rposition(|s| s.node.at <= reading.at);
        for name in reading
            .paths
            .iter()
            .filter(|p| p[0] == "steps")
            .filter_map(|p| p.get(1))
        {
            // A probe runs apart from the run: nothing reads it, and it reads nothing.
            let of_run = |s: &&Placed<'_>| s.section != DIAGNOSE;
            let names = || steps.iter().filter(of_run).map(|s| s.name);
            let place = steps.iter().position(|s| of_run(&s) && s.name == name);
            match (place, reader) {
                (None, _) => {
                    let instead = match nearest(name, names()) {
                        Some(near) => format!("write `steps.{near}`"),
                        None => format!("there is {}", list(&names().collect::<Vec<_>>())),
                    };
                    findings.error(
                        reading.at,
                        format!("there is no check or step `{name}`"),
                        instead,
                    );
                }
                (Some(read), Some(reader)) if read == reader => {
                    findings.error(
                        reading.at,
                        format!("`{name}` reads its own result"),
                        "write `result`, in `expect`",
                    );
                }
                (Some(read), Some(reader)) if read > reader => {
                    let instead = format!("move `{name}` before it");
                    findings.error(reading.at, format!("`{name}` runs only later"), instead);
                }
                _ => {}
            }
        }
    }
}

/// Secrets may go where nothing is kept and nobody looks: bound values, headers, a command's
/// environment. Its arguments stand in the process list for all to read.
fn secrets_stay_hidden(steps: &[Placed<'_>], findings: &mut Findings) {
    for step in steps {
        for (key, value) in step.node.entries() {
            let open = matches!(
                key.name.as_str(),
                "condition"
                    | "expect"
                    | "when"
                    | "argv"
                    | "path"
                    | "series"
                    | "unit"
                    | "match"
                    | "cwd"
            );
            if open && let Some(at) = names_a_secret(value) {
                let instead = "pass it under `env:` of a command or `bind:` of a query";
                findings.error(
                    at,
                    format!("a secret in `{}` can be seen", key.name),
                    instead,
                );
            }
        }
    }
}

fn names_a_secret(node: &Node) -> Option<Place> {
    match &node.kind {
        Kind::Text(text) => {
            let reads = |e: &crate::Expr| e.paths().iter().any(|p| p[0] == "secret");
            let in_template = Template::parse(text).is_ok_and(|t| !t.secrets().is_empty());
            let in_condition = crate::Expr::parse(text).is_ok_and(|e| reads(&e));
            (in_template || in_condition).then_some(node.at)
        }
        Kind::List(items) => items.iter().find_map(names_a_secret),
        Kind::Map(entries) => entries.iter().find_map(|(_, v)| names_a_secret(v)),
        _ => None,
    }
}
