//! A checked document as a [`Playbook`]: defaults filled in, every field settled.
//!
//! The document has passed every check, so what does not fit here is left at its default.

use crate::check::bytes_of;
use crate::expr::{Expr, Template};
use crate::language::{
    Action, FailAction, FileOperation, Parameter, ParameterType, Playbook, Probe, ProcessMatch,
    ProcessOperation, Proof, ScopeKind, SeriesPattern, Signature, Step, UnitOperation, Weight,
};
use crate::node::{Kind, Node};
use crate::quantity;
use hale_model::{Digest, Direction, PlaybookName, Route, canonical};
use serde_json::Value;
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// A decision waits for it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_RUN: Duration = Duration::from_secs(600);

/// What fails where nothing is said: by section, and by whether there is anything to undo with.
#[derive(Clone, Copy)]
struct Habits {
    fails: FailAction,
}

/// The playbook that a checked document is.
///
/// # Errors
/// What the checks did not foresee.
pub(crate) fn playbook(root: &Node) -> Result<Playbook, String> {
    let empty = Node {
        at: root.at,
        kind: Kind::Null,
    };
    let meta = root.get("metadata").unwrap_or(&empty);
    let idempotent = flag(meta, "idempotent").unwrap_or(false);
    let rollback = steps(root, "rollback", FailAction::Escalate)?;
    let undo = if rollback.is_empty() {
        FailAction::Escalate
    } else {
        FailAction::Rollback
    };
    let compliance = texts(meta, "compliance")
        .into_iter()
        .map(|c| format!("compliance:{c}"));
    let mut playbook = Playbook {
        name: PlaybookName::new(text(meta, "name").unwrap_or_default())
            .map_err(|e| e.to_string())?,
        version: text(meta, "version").unwrap_or_default(),
        description: unfolded(&text(meta, "description").unwrap_or_default()),
        tags: texts(meta, "tags").into_iter().chain(compliance).collect(),
        idempotent,
        services: texts(meta, "services"),
        aliases: texts(meta, "aliases"),
        not_when: texts(meta, "not_when"),
        signature: meta.get("signature").map(signature).unwrap_or_default(),
        max_route: match text(meta, "max_route").as_deref() {
            Some("escalate") => Route::Escalate,
            Some("ask") => Route::Ask,
            Some("execute") => Route::Execute,
            _ if idempotent => Route::Execute,
            _ => Route::Ask,
        },
        scope: scope(meta),
        max_duration: span(meta, "max_duration").unwrap_or(DEFAULT_RUN),
        proof: match text(meta, "proof").as_deref() {
            Some("proven") => Proof::Proven,
            _ => Proof::Linted,
        },
        diagnose: probes(root)?,
        parameters: root
            .get("parameters")
            .map_or(&[][..], Node::entries)
            .iter()
            .filter_map(|(key, node)| parameter(&key.name, node))
            .collect(),
        pre_execution_checks: steps(root, "pre_execution_checks", FailAction::Abort)?,
        steps: steps(root, "steps", undo)?,
        verification: steps(root, "verification", undo)?,
        rollback,
        no_rollback_reason: text(root, "no_rollback_reason"),
        references: texts(meta, "references"),
        digest: Digest::ZERO,
    };
    playbook.digest = canonical::digest(&playbook).map_err(|e| e.to_string())?;
    Ok(playbook)
}

/// The parameter that a node describes, if it has a known type.
pub(crate) fn parameter(name: &str, node: &Node) -> Option<Parameter> {
    let kind = match text(node, "type")?.as_str() {
        "integer" => ParameterType::Integer,
        "number" => ParameterType::Number,
        "boolean" => ParameterType::Boolean,
        "text" => ParameterType::Text,
        "duration" => ParameterType::Duration,
        "text_list" => ParameterType::TextList,
        _ => return None,
    };
    let mut parameter = Parameter {
        name: name.to_owned(),
        kind,
        description: text(node, "description").unwrap_or_default(),
        default: None,
        from: expr(node, "from"),
        min: node.get("min").and_then(|n| n.json().as_f64()),
        max: node.get("max").and_then(|n| n.json().as_f64()),
        one_of: node
            .get("one_of")
            .map_or(&[][..], Node::items)
            .iter()
            .map(Node::json)
            .collect(),
        pattern: text(node, "pattern"),
    };
    // A default is kept in the form it is used in: durations in seconds.
    let default = node.get("default").map(Node::json);
    parameter.default = default.and_then(|d| crate::settle::admit(&parameter, &d).ok());
    Some(parameter)
}

fn signature(node: &Node) -> Signature {
    let series = node
        .get("series")
        .map_or(&[][..], Node::items)
        .iter()
        .map(|s| SeriesPattern {
            metric: text(s, "metric").unwrap_or_default(),
            direction: match text(s, "direction").as_deref() {
                Some("above") => Some(Direction::Above),
                Some("below") => Some(Direction::Below),
                _ => None,
            },
        });
    Signature {
        series: series.collect(),
        logs: texts(node, "logs"),
    }
}

fn steps(root: &Node, section: &str, fails: FailAction) -> Result<Vec<Step>, String> {
    let items = root.get(section).map_or(&[][..], Node::items);
    items
        .iter()
        .map(|node| step(node, Habits { fails }))
        .collect()
}

fn probes(root: &Node) -> Result<Vec<Probe>, String> {
    let fails = FailAction::Warn;
    let probe = |node: &Node| {
        let mut step = step(node, Habits { fails })?;
        step.timeout = span(node, "timeout").unwrap_or(PROBE_TIMEOUT);
        let weight = match text(node, "weight").as_deref() {
            Some("weak") => Weight::Weak,
            _ => Weight::Strong,
        };
        Ok(Probe { step, weight })
    };
    let items = root.get("diagnose").map_or(&[][..], Node::items);
    items.iter().map(probe).collect()
}

fn step(node: &Node, habits: Habits) -> Result<Step, String> {
    Ok(Step {
        name: text(node, "name").unwrap_or_default(),
        action: action(node)?,
        reason: text(node, "reason"),
        when: expr(node, "when"),
        expect: expr(node, "expect"),
        timeout: span(node, "timeout").unwrap_or(DEFAULT_TIMEOUT),
        fail_action: match text(node, "fail_action").as_deref() {
            Some("abort") => FailAction::Abort,
            Some("wait") => FailAction::Wait,
            Some("rollback") => FailAction::Rollback,
            Some("escalate") => FailAction::Escalate,
            Some("warn") => FailAction::Warn,
            _ => habits.fails,
        },
        max_wait: span(node, "max_wait").unwrap_or_default(),
        retries: whole(node, "retries").unwrap_or(0),
        retry_delay: span(node, "retry_delay").unwrap_or(Duration::from_secs(1)),
        hold: span(node, "hold").unwrap_or_default(),
        undoes: text(node, "undoes"),
    })
}

fn action(node: &Node) -> Result<Action, String> {
    let kind = text(node, "type").unwrap_or_default();
    Ok(match kind.as_str() {
        "condition" => Action::Condition {
            condition: needed(expr(node, "condition"), "condition")?,
        },
        "sql_query" => Action::SqlQuery {
            database: template(node, "database"),
            query: text(node, "query").unwrap_or_default(),
            bind: node
                .get("bind")
                .map_or(&[][..], Node::items)
                .iter()
                .filter_map(bound)
                .collect(),
            expect_rows: whole(node, "expect_rows").map(u64::from),
            writes: flag(node, "writes").unwrap_or(false),
            new_connection: flag(node, "new_connection").unwrap_or(false),
        },
        "tag_check" => Action::TagCheck {
            tag: text(node, "tag").unwrap_or_default(),
            expect_value: node.get("expect_value").map(Node::json).unwrap_or_default(),
        },
        "concurrency_check" => Action::ConcurrencyCheck {
            scope: scope(node),
            max: whole(node, "max").unwrap_or(0),
        },
        "command" => Action::Command {
            argv: templates(node.get("argv")),
            expect_exit: numbers(node, "expect_exit").unwrap_or_else(|| vec![0]),
            cwd: template(node, "cwd"),
            env: node
                .get("env")
                .map_or(&[][..], Node::entries)
                .iter()
                .filter_map(|(k, v)| Some((k.name.clone(), plain_template(v)?)))
                .collect(),
        },
        "http_check" => Action::HttpCheck {
            url: needed(template(node, "url"), "url")?,
            method: text(node, "method").unwrap_or_else(|| "GET".into()),
            expect_status: numbers(node, "expect_status").unwrap_or_else(|| vec![200]),
            expect_body: text(node, "expect_body"),
        },
        "systemd_unit" => Action::SystemdUnit {
            unit: needed(template(node, "unit"), "unit")?,
            operation: match text(node, "operation").as_deref() {
                Some("start") => UnitOperation::Start,
                Some("stop") => UnitOperation::Stop,
                Some("restart") => UnitOperation::Restart,
                Some("reload") => UnitOperation::Reload,
                Some("reset_failed") => UnitOperation::ResetFailed,
                _ => UnitOperation::Check,
            },
            expect_state: text(node, "expect_state"),
        },
        "process" => Action::Process {
            matching: node.get("match").map(process_match).unwrap_or_default(),
            operation: process_operation(node),
        },
        "file" => Action::File {
            path: needed(template(node, "path"), "path")?,
            operation: match text(node, "operation").as_deref() {
                Some("truncate") => FileOperation::Truncate {
                    keep_bytes: size(node, "keep_bytes").unwrap_or(0),
                },
                Some("delete") => FileOperation::Delete,
                Some("compress") => FileOperation::Compress,
                _ => FileOperation::Stat,
            },
            older_than: span(node, "older_than"),
            min_bytes: size(node, "min_bytes"),
            limit: whole(node, "limit").unwrap_or(1000),
        },
        "wait" => Action::Wait {
            duration: span(node, "duration").unwrap_or_default(),
        },
        "log_check" => {
            let min_count = whole(node, "min_count").map_or(0, u64::from);
            let unbounded = if min_count > 0 { u64::MAX } else { 0 };
            Action::LogCheck {
                path: template(node, "path"),
                pattern: text(node, "pattern").unwrap_or_default(),
                max_count: whole(node, "max_count").map_or(unbounded, u64::from),
                min_count,
            }
        }
        "metric_check" => Action::MetricCheck {
            series: needed(template(node, "series"), "series")?,
            condition: needed(expr(node, "condition"), "condition")?,
            max_age: span(node, "max_age").unwrap_or(Duration::from_secs(120)),
        },
        other => return Err(format!("there is no type `{other}`")),
    })
}

fn process_operation(node: &Node) -> ProcessOperation {
    match text(node, "operation").as_deref() {
        Some("signal") => ProcessOperation::Signal {
            signal: text(node, "signal").unwrap_or_else(|| "TERM".into()),
            grace: span(node, "grace").unwrap_or(Duration::from_secs(5)),
            kill_after: flag(node, "kill_after").unwrap_or(false),
        },
        Some("renice") => ProcessOperation::Renice {
            nice: whole(node, "nice").map_or(10, |n: u32| n as i32),
        },
        _ => ProcessOperation::Count,
    }
}

fn process_match(node: &Node) -> ProcessMatch {
    ProcessMatch {
        name: template(node, "name"),
        pid_file: template(node, "pid_file"),
        pid: template(node, "pid"),
        cmdline: template(node, "cmdline"),
        state: text(node, "state"),
        min_cpu_percent: node.get("min_cpu_percent").and_then(|n| n.json().as_f64()),
        min_age: span(node, "min_age"),
        parent: flag(node, "parent").unwrap_or(false),
        limit: whole(node, "limit").unwrap_or(10),
    }
}

fn needed<T>(found: Option<T>, name: &str) -> Result<T, String> {
    found.ok_or_else(|| format!("`{name}` is missing"))
}

fn text(node: &Node, name: &str) -> Option<String> {
    node.get(name)?.text().map(str::to_owned)
}

fn texts(node: &Node, name: &str) -> Vec<String> {
    let items = node.get(name).map_or(&[][..], Node::items);
    items
        .iter()
        .filter_map(|n| n.text().map(str::to_owned))
        .collect()
}

fn flag(node: &Node, name: &str) -> Option<bool> {
    node.get(name)?.json().as_bool()
}

fn whole(node: &Node, name: &str) -> Option<u32> {
    u32::try_from(node.get(name)?.json().as_u64()?).ok()
}

fn size(node: &Node, name: &str) -> Option<u64> {
    node.get(name).and_then(bytes_of)
}

fn numbers<T: TryFrom<i64>>(node: &Node, name: &str) -> Option<Vec<T>> {
    let node = node.get(name)?;
    let one = std::slice::from_ref(node);
    let items = if matches!(node.kind, Kind::List(_)) {
        node.items()
    } else {
        one
    };
    Some(
        items
            .iter()
            .filter_map(|n| T::try_from(n.json().as_i64()?).ok())
            .collect(),
    )
}

/// A duration, as a text or with `_seconds` as a number.
fn span(node: &Node, name: &str) -> Option<Duration> {
    if let Some(text) = text(node, name) {
        return quantity::duration(&text);
    }
    let seconds = node.get(&format!("{name}_seconds"))?.json().as_f64()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn scope(node: &Node) -> ScopeKind {
    match text(node, "scope").as_deref() {
        Some("service") => ScopeKind::Service,
        Some(other) => match other.strip_prefix("custom:") {
            Some(name) => ScopeKind::Custom(name.to_owned()),
            None => ScopeKind::Host,
        },
        None => ScopeKind::Host,
    }
}

fn expr(node: &Node, name: &str) -> Option<Expr> {
    match &node.get(name)?.kind {
        Kind::Text(text) => Expr::parse(text).ok(),
        Kind::Bool(b) => Expr::parse(&b.to_string()).ok(),
        _ => None,
    }
}

fn template(node: &Node, name: &str) -> Option<Template> {
    plain_template(node.get(name)?)
}

fn templates(node: Option<&Node>) -> Vec<Template> {
    node.map_or(&[][..], Node::items)
        .iter()
        .filter_map(plain_template)
        .collect()
}

/// Numbers and booleans as the text they are written as.
fn plain_template(node: &Node) -> Option<Template> {
    match node.json() {
        Value::String(text) => Template::parse(&text).ok(),
        value @ (Value::Number(_) | Value::Bool(_)) => Template::parse(&value.to_string()).ok(),
        _ => None,
    }
}

/// Numbers and booleans keep their type.
fn bound(node: &Node) -> Option<Template> {
    match node.json() {
        Value::String(text) => Template::parse(&text).ok(),
        value @ (Value::Number(_) | Value::Bool(_)) => {
            Template::parse(&format!("${{{value}}}")).ok()
        }
        _ => None,
    }
}

/// A description in one line, however it was folded.
fn unfolded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
