//! What must hold within one check or step, by its type.

use crate::expr::{Expr, Template};
use crate::finding::Findings;
use crate::node::Kind;
use crate::node::Node;
use crate::relations::DIAGNOSE;

/// Programs that take a script as an argument: a way around "never a shell string".
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "busybox"];

/// Looks at one check or step.
pub(crate) fn check(section: &str, node: &Node, root: &Node, findings: &mut Findings) {
    match node.get("type").and_then(Node::text).unwrap_or_default() {
        "sql_query" => sql_query(section, node, findings),
        "command" => command(node, root, findings),
        "http_check" => http_check(section, node, findings),
        "process" => process(section, node, findings),
        "file" => file(section, node, findings),
        "systemd_unit" => systemd_unit(section, node, findings),
        "log_check" => log_check(node, findings),
        _ => {}
    }
}

fn only_looks(section: &str, what: &str, at: crate::finding::Place, findings: &mut Findings) {
    if section == "pre_execution_checks" || section == DIAGNOSE {
        let instead = "move it to `steps`; a check before the run only looks";
        findings.error(at, format!("{what} before the run has begun"), instead);
    }
}

fn sql_query(section: &str, node: &Node, findings: &mut Findings) {
    let Some(query) = node.get("query") else {
        return;
    };
    let text = query.text().unwrap_or_default();
    if text.contains("${") {
        let instead = "write `$1` in the query and put `${…}` under `bind:`";
        findings.error(query.at, "a value is pasted into SQL", instead);
    }
    let bare = without_literals(text);
    if bare.trim_end().trim_end_matches(';').contains(';') {
        findings.error(
            query.at,
            "it is more than one statement",
            "write one step for each statement",
        );
    }
    let highest = placeholders(&bare);
    let bound = node.get("bind").map_or(0, |b| b.items().len());
    if highest != bound && !text.contains("${") {
        let message = format!("the query has {highest} values, `bind` gives {bound}");
        findings.error(
            query.at,
            message,
            "give one under `bind:` for each of `$1`, `$2`, …",
        );
    }
    if let Some(writes) = node
        .get("writes")
        .filter(|n| matches!(n.kind, Kind::Bool(true)))
    {
        only_looks(section, "it writes", writes.at, findings);
    }
}

/// The statement without what stands in quotes.
fn without_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None => out.push(c),
        }
    }
    out
}

/// The highest `$n`.
fn placeholders(text: &str) -> usize {
    text.split('$')
        .skip(1)
        .filter_map(|rest| {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            rest[..digits].parse().ok()
        })
        .max()
        .unwrap_or(0)
}

fn command(node: &Node, root: &Node, findings: &mut Findings) {
    let Some(argv) = node.get("argv") else { return };
    let items = argv.items();
    let Some(first) = items.first() else {
        findings.error(
            argv.at,
            "it runs nothing",
            "write `argv: [PROGRAM, ARGUMENT, …]`",
        );
        return;
    };
    let words: Vec<&str> = items.iter().map(|n| n.text().unwrap_or_default()).collect();
    let program = |w: &str| SHELLS.contains(&w.rsplit('/').next().unwrap_or(w));
    let scripted = |w: &str| w.starts_with('-') && !w.starts_with("--") && w.contains('c');
    let shell = words.iter().position(|w| program(w));
    if shell.is_some_and(|at| words[at + 1..].iter().any(|w| scripted(w))) {
        let instead = "write the program and each argument as its own element; use several steps, `file` or `process` for the rest";
        findings.error(first.at, "it is a shell string", instead);
    } else if words[0].contains(' ') && !words[0].contains("${") {
        let instead = format!(
            "write `argv: [{}]`",
            words[0].split_whitespace().collect::<Vec<_>>().join(", ")
        );
        findings.error(
            first.at,
            "program and arguments stand in one element",
            instead,
        );
    }
    for (index, item) in items.iter().enumerate() {
        let Some(Ok(template)) = item.text().map(Template::parse) else {
            continue;
        };
        for expression in template.expressions() {
            let Ok(expr) = Expr::parse(expression) else {
                continue;
            };
            if index == 0 {
                program_is_configured(item, &expr, findings);
            }
            list_stands_alone(item, &template, &expr, root, findings);
        }
    }
}

/// What is run is written in the playbook or by the operator, never by what was observed.
fn program_is_configured(item: &Node, expr: &Expr, findings: &mut Findings) {
    if expr.paths().iter().any(|p| p[0] != "service") {
        let instead = "write the program's name, or `${service.restart_command}` as the operator configured it";
        findings.error(
            item.at,
            "the program is not settled before the run",
            instead,
        );
    }
}

fn list_stands_alone(
    item: &Node,
    template: &Template,
    expr: &Expr,
    root: &Node,
    findings: &mut Findings,
) {
    for path in expr
        .paths()
        .iter()
        .filter(|p| p[0] == "params" && p.len() == 2)
    {
        let kind = root
            .get("parameters")
            .and_then(|p| p.get(&path[1]))
            .and_then(|p| p.get("type"));
        let is_list = kind.and_then(Node::text) == Some("text_list");
        if is_list && !(template.is_single() && expr.as_str() == format!("params.{}", path[1])) {
            let instead = format!("write `- ${{params.{}}}` as an element of its own", path[1]);
            findings.error(
                item.at,
                format!("`{}` is a list and can't stand within a text", path[1]),
                instead,
            );
        }
    }
    // Hale made the id and the configuration the names; all else came from outside.
    let is_ours = |p: &[String]| {
        ["id", "host", "environment", "service", "severity"]
            .iter()
            .any(|n| p.get(1).is_some_and(|m| m == n))
    };
    if expr
        .paths()
        .iter()
        .any(|p| p[0] == "incident" && !is_ours(p))
    {
        let instead = "make it a parameter with `from:` and a `pattern:` or `one_of:`";
        findings.warning(
            item.at,
            "what was observed becomes an argument unchecked",
            instead,
        );
    }
}

fn http_check(section: &str, node: &Node, findings: &mut Findings) {
    let posts = node.get("method").filter(|m| m.text() == Some("POST"));
    if let Some(method) = posts.filter(|_| section == DIAGNOSE) {
        only_looks(section, "it posts", method.at, findings);
    }
    let Some(url) = node.get("url") else { return };
    let text = url.text().unwrap_or_default();
    if !["http://", "https://", "${"]
        .iter()
        .any(|p| text.starts_with(p))
    {
        let instead = "write `http://…`, `https://…` or `${service.health_url}`";
        findings.error(url.at, format!("`{text}` is no address"), instead);
    }
}

fn process(section: &str, node: &Node, findings: &mut Findings) {
    let Some(matching) = node.get("match") else {
        return;
    };
    let names = ["name", "pid_file", "pid", "cmdline"];
    if !names.iter().any(|n| matching.get(n).is_some()) {
        let instead = "add `name:`, `pid_file:`, `pid:` or `cmdline:`";
        findings.error(matching.at, "it would match every process", instead);
    }
    if let Some(operation) = node.get("operation").filter(|o| o.text() != Some("count")) {
        only_looks(section, "it changes processes", operation.at, findings);
    }
    belongs_to(
        node,
        "operation",
        "count",
        &[
            ("signal", "signal"),
            ("grace", "signal"),
            ("kill_after", "signal"),
            ("nice", "renice"),
        ],
        findings,
    );
}

fn file(section: &str, node: &Node, findings: &mut Findings) {
    if let Some(operation) = node.get("operation").filter(|o| o.text() != Some("stat")) {
        only_looks(section, "it changes files", operation.at, findings);
    }
    belongs_to(
        node,
        "operation",
        "stat",
        &[("keep_bytes", "truncate")],
        findings,
    );
    let Some(path) = node.get("path") else { return };
    let text = path.text().unwrap_or_default();
    if !(text.starts_with('/') || text.starts_with("${")) || text.split('/').any(|p| p == "..") {
        let instead = "write an absolute path without `..`, or `${service.log_path}`";
        findings.error(
            path.at,
            format!("`{text}` is not an absolute path"),
            instead,
        );
    }
}

fn systemd_unit(section: &str, node: &Node, findings: &mut Findings) {
    if let Some(operation) = node.get("operation").filter(|o| o.text() != Some("check")) {
        only_looks(section, "it changes a unit", operation.at, findings);
    } else if node.get("expect_state").is_none() && node.get("expect").is_none() {
        let instead = "add `expect_state: active`, or `operation: restart`";
        findings.warning(node.at, "it looks at a unit and expects nothing", instead);
    }
}

fn log_check(node: &Node, findings: &mut Findings) {
    let count = |name| node.get(name).and_then(|n| n.json().as_u64());
    if let (Some(min), Some(max)) = (count("min_count"), count("max_count"))
        && min > max
    {
        findings.error(
            node.at,
            "it can never pass",
            "let `min_count` be at most `max_count`",
        );
    }
}

/// Fields that mean something for one operation only.
fn belongs_to(
    node: &Node,
    name: &str,
    default: &str,
    fields: &[(&str, &str)],
    findings: &mut Findings,
) {
    let operation = node.get(name).and_then(Node::text).unwrap_or(default);
    for (field, wanted) in fields {
        let given = node
            .get(field)
            .or_else(|| node.get(&format!("{field}_seconds")));
        if let Some(given) = given
            && operation != *wanted
        {
            let instead = format!("write `{name}: {wanted}`, or remove it");
            findings.error(
                given.at,
                format!("`{field}` means nothing with `{name}: {operation}`"),
                instead,
            );
        }
    }
}
