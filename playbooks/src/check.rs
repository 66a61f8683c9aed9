//! Whether a document has the language's shape: known fields, values that fit them, expressions
//! that parse and see what they read.

use crate::expr::{EvalError, Expr, Template};
use crate::finding::{Findings, Place, nearest};
use crate::node::{Kind, Node};
use crate::quantity;
use crate::shape::{self, Field, Want};

/// What every expression sees. `anomaly_sigma` is the incident's sigma under the name that
/// operators know.
pub(crate) const NAMES: [&str; 8] = [
    "incident",
    "params",
    "tags",
    "steps",
    "checks",
    "service",
    "secret",
    "anomaly_sigma",
];

/// What `incident` has.
pub(crate) const INCIDENT_FIELDS: [&str; 20] = [
    "id",
    "host",
    "environment",
    "service",
    "severity",
    "title",
    "tags",
    "opened_at",
    "recurrence",
    "metric",
    "series",
    "labels",
    "value",
    "sigma",
    "expected",
    "trend_per_hour",
    "metrics",
    "anomalies",
    "events",
    "top_consumers",
];

/// The longest regular expression once compiled, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// One expression of a document: where it is and what it reads.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) at: Place,
    pub(crate) paths: Vec<Vec<String>>,
}

/// What the check of a document leaves for the checks between its parts.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) findings: Findings,
    pub(crate) readings: Vec<Reading>,
}

/// Checks a whole document.
pub(crate) fn playbook(file: &str, root: &Node) -> Checked {
    let mut checked = Checked {
        findings: Findings::of(file),
        readings: vec![],
    };
    if root.is_map() {
        checked.object(root, "a playbook", shape::PLAYBOOK.iter());
    } else {
        let instead = "write `metadata:`, `steps:`, `verification:` and `rollback:` at the top";
        checked.findings.error(
            root.at,
            format!("a playbook is a map, not {}", root.describe()),
            instead,
        );
    }
    checked
}

impl Checked {
    fn object(&mut self, node: &Node, what: &str, fields: impl Iterator<Item = &'static Field>) {
        let fields: Vec<_> = fields.collect();
        let Kind::Map(entries) = &node.kind else {
            let names: Vec<_> = fields.iter().map(|f| f.name).collect();
            let instead = format!("write a map with {}", names.join(", "));
            self.findings.error(
                node.at,
                format!("{what} is a map, not {}", node.describe()),
                instead,
            );
            return;
        };
        let mut given = vec![];
        for (key, value) in entries {
            match shape::field_named(fields.iter().copied(), &key.name) {
                Some((field, in_seconds)) => {
                    if given.contains(&field.name) {
                        let message = format!("`{}` is given twice", field.name);
                        self.findings.error(key.at, message, "keep one of the two");
                    }
                    given.push(field.name);
                    self.value(
                        &key.name,
                        if in_seconds {
                            seconds(field)
                        } else {
                            field.want
                        },
                        value,
                    );
                }
                None => self.unknown(key, what, &fields),
            }
        }
        for field in fields
            .iter()
            .filter(|f| f.needed && !given.contains(&f.name))
        {
            let instead = format!("add `{}:`. {}", field.name, field.about);
            self.findings
                .error(node.at, format!("{what} has no `{}`", field.name), instead);
        }
    }

    fn unknown(&mut self, key: &crate::node::Key, what: &str, fields: &[&'static Field]) {
        let names: Vec<_> = fields.iter().map(|f| f.name).collect();
        let here = names.join(", ");
        let near = nearest(&key.name, names.iter().copied());
        let instead = match (other_home(&key.name), near) {
            (Some(home), _) => format!("`{}` belongs to {home}; {what} has {here}", key.name),
            (None, Some(near)) => format!("write `{near}`"),
            (None, None) => format!("{what} has {here}"),
        };
        self.findings.error(
            key.at,
            format!("{what} has no field `{}`", key.name),
            instead,
        );
    }

    fn value(&mut self, name: &str, want: Want, node: &Node) {
        match want {
            Want::List(each) => self.list(name, *each, node),
            Want::OneOrMore(each) if matches!(node.kind, Kind::List(_)) => {
                self.list(name, *each, node)
            }
            Want::OneOrMore(one) => self.value(name, *one, node),
            Want::Map(each) => self.map(name, *each, node),
            Want::Object(fields) => self.object(node, &format!("`{name}`"), fields.iter()),
            Want::Steps => self.steps(name, node),
            Want::Condition(also) => self.condition(name, also, node),
            Want::Template | Want::Bound => self.template(name, want, node),
            Want::Regex => self.regex(name, node),
            _ => self.plain(name, want, node),
        }
    }

    fn list(&mut self, name: &str, each: Want, node: &Node) {
        if !matches!(node.kind, Kind::List(_)) {
            let message = format!("`{name}` is a list, not {}", node.describe());
            self.findings.error(
                node.at,
                message,
                format!("write `{name}:` and below it `- …`"),
            );
        }
        for item in node.items() {
            self.value(name, each, item);
        }
    }

    fn map(&mut self, name: &str, each: Want, node: &Node) {
        if !matches!(node.kind, Kind::Map(_)) {
            let message = format!("`{name}` is a map, not {}", node.describe());
            self.findings.error(
                node.at,
                message,
                format!("write `{name}:` and below it `NAME: …`"),
            );
        }
        for (key, value) in node.entries() {
            self.value(&key.name, each, value);
        }
    }

    fn steps(&mut self, name: &str, node: &Node) {
        if !matches!(node.kind, Kind::List(_)) {
            let message = format!("`{name}` is a list, not {}", node.describe());
            let instead = format!("write `{name}:` and below it `- name: …` and `  type: …`");
            self.findings.error(node.at, message, instead);
        }
        for step in node.items() {
            let kind = step.get("type").and_then(Node::text);
            let what = match kind {
                Some(kind) if shape::TYPES.contains(&kind) => format!("a `{kind}`"),
                _ => "a step".into(),
            };
            if kind.is_some_and(|k| !shape::TYPES.contains(&k)) {
                // Its fields can't be judged before its type is known.
                self.value(
                    "type",
                    Want::OneOf(shape::TYPES),
                    step.get("type").unwrap_or(step),
                );
            } else {
                self.object(step, &what, shape::step_fields(kind));
            }
        }
    }

    fn condition(&mut self, name: &str, also: &[&str], node: &Node) {
        let text = match &node.kind {
            Kind::Text(text) => text.clone(),
            Kind::Bool(b) => b.to_string(),
            _ => {
                return self.mistyped(
                    name,
                    node,
                    "an expression",
                    "write a CEL expression as a text",
                );
            }
        };
        if text.contains("${") {
            let instead = "write the expression itself, without `${` and `}`";
            return self.findings.error(
                node.at,
                format!("`{name}` is an expression already"),
                instead,
            );
        }
        match Expr::parse(&text) {
            Ok(expr) => self.reads(node.at, expr, also),
            Err(e) => self.bad_expression(node.at, &e),
        }
    }

    fn template(&mut self, name: &str, want: Want, node: &Node) {
        let text = match &node.kind {
            Kind::Text(text) => text,
            Kind::Number(_) | Kind::Bool(_) => return,
            _ => {
                let instead = "write a text; in quotes if it holds `: ` or begins with a sign";
                return self.mistyped(name, node, "a text", instead);
            }
        };
        if matches!(want, Want::Template) && text.contains('\0') {
            return self.mistyped(name, node, "a text without a zero byte", "leave it out");
        }
        match Template::parse(text) {
            Ok(template) => {
                for expression in template.expressions() {
                    if let Ok(expr) = Expr::parse(expression) {
                        self.reads(node.at, expr, &[]);
                    }
                }
            }
            Err(e) => self.bad_expression(node.at, &e),
        }
    }

    fn bad_expression(&mut self, at: Place, error: &EvalError) {
        let instead = "write CEL: `incident.sigma >= 3.0`, `has(service.unit)`, `steps.count.rows[0].idle > 0`";
        self.findings.error(at, error.to_string(), instead);
    }

    fn reads(&mut self, at: Place, expr: Expr, also: &[&str]) {
        let paths: Vec<_> = expr.paths().into_iter().collect();
        for path in &paths {
            let known = || NAMES.iter().chain(also).copied();
            if !known().any(|n| n == path[0]) && !is_type_name(&path[0]) {
                let all: Vec<_> = known().collect();
                let instead = match nearest(&path[0], known()) {
                    Some(near) => format!("write `{near}`"),
                    None => format!("it sees {}", all.join(", ")),
                };
                self.findings
                    .error(at, format!("nothing is called `{}` here", path[0]), instead);
            }
            if let ("incident", Some(member)) = (path[0].as_str(), path.get(1))
                && !INCIDENT_FIELDS.contains(&member.as_str())
            {
                let instead = match nearest(member, INCIDENT_FIELDS) {
                    Some(near) => format!("write `incident.{near}`"),
                    None => format!("it has {}", INCIDENT_FIELDS.join(", ")),
                };
                self.findings
                    .error(at, format!("an incident has no `{member}`"), instead);
            }
        }
        self.readings.push(Reading { at, paths });
    }

    fn regex(&mut self, name: &str, node: &Node) {
        let Some(text) = node.text() else {
            return self.mistyped(
                name,
                node,
                "a regular expression",
                "write it as a text in quotes",
            );
        };
        if let Err(e) = regex::RegexBuilder::new(text)
            .size_limit(MAX_REGEX_BYTES)
            .build()
        {
            let why = e.to_string();
            let why = why
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            let instead =
                "write RE2 syntax: no look-around, no back references; `\\(` for a bracket";
            self.findings.error(
                node.at,
                format!("`{name}` is not a regular expression: {why}"),
                instead,
            );
        }
    }

    fn plain(&mut self, name: &str, want: Want, node: &Node) {
        let (fits, wanted, instead) = match want {
            Want::Text(max) => (
                node.text()
                    .is_some_and(|t| t.len() <= max && !t.trim().is_empty()),
                format!("a text of 1 to {max} bytes"),
                "write a text, in quotes if it looks like a number".to_owned(),
            ),
            Want::Bool => (
                matches!(node.kind, Kind::Bool(_)),
                "true or false".to_owned(),
                "write `true` or `false`".to_owned(),
            ),
            Want::Whole(min, max) => (
                matches!(&node.kind, Kind::Number(n) if n.as_i64().is_some_and(|n| (min..=max).contains(&n))),
                format!("a whole number from {min} to {max}"),
                format!("write a number from {min} to {max}"),
            ),
            Want::Decimal(min, max) => (
                matches!(&node.kind, Kind::Number(n) if n.as_f64().is_some_and(|n| (min..=max).contains(&n))),
                "a number".to_owned(),
                "write a number".to_owned(),
            ),
            Want::Bytes => (
                bytes_of(node).is_some(),
                "a size in bytes".to_owned(),
                "write a number, or `64KiB`, `10MiB`".to_owned(),
            ),
            Want::Span(max) => (
                node.text()
                    .and_then(quantity::duration)
                    .is_some_and(|d| d.as_secs() <= max),
                format!("a duration of at most {max} s"),
                format!("write `90s` or `5m`, or `{name}_seconds: 90`; at most {max} s"),
            ),
            Want::Scalar => (
                matches!(node.kind, Kind::Bool(_) | Kind::Number(_) | Kind::Text(_)),
                "a text, a number or a boolean".to_owned(),
                "write a single value".to_owned(),
            ),
            Want::OneOf(known) => {
                let near = node.text().and_then(|t| nearest(t, known.iter().copied()));
                let all = format!("write one of {}", known.join(", "));
                (
                    node.text().is_some_and(|t| known.contains(&t)),
                    format!("one of {}", known.join(", ")),
                    near.map_or(all, |near| format!("write `{near}`")),
                )
            }
            Want::Scope => (
                node.text().is_some_and(|t| {
                    matches!(t, "host" | "service")
                        || t.strip_prefix("custom:").is_some_and(is_name)
                }),
                "a scope".to_owned(),
                "write `host`, `service` or `custom:NAME`".to_owned(),
            ),
            _ => (true, String::new(), String::new()),
        };
        if !fits {
            self.mistyped(name, node, &wanted, &instead);
        }
    }

    fn mistyped(&mut self, name: &str, node: &Node, wanted: &str, instead: &str) {
        let message = format!("`{name}` should be {wanted} and is {}", node.describe());
        self.findings.error(node.at, message, instead);
    }
}

/// The types of CEL are values too: `type(x) == string`.
fn is_type_name(name: &str) -> bool {
    [
        "int",
        "uint",
        "double",
        "bool",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
        "type",
        "optional",
    ]
    .contains(&name)
}

/// Letters, digits, `-` and `_`.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !text.is_empty() && text.chars().all(fits)
}

/// A duration's form in seconds: a number within the same bound.
fn seconds(field: &Field) -> Want {
    match field.want {
        Want::Span(max) => Want::Decimal(0.0, max as f64),
        other => other,
    }
}

pub(crate) fn bytes_of(node: &Node) -> Option<u64> {
    match &node.kind {
        Kind::Number(n) => n.as_u64(),
        Kind::Text(t) => quantity::bytes(t),
        _ => None,
    }
}

/// Which part of the language a field belongs to, if it is known elsewhere.
fn other_home(name: &str) -> Option<String> {
    let has = |fields: &'static [Field]| shape::field_named(fields, name).is_some();
    if let Some(action) = shape::ACTIONS.iter().find(|a| has(a.fields)) {
        return Some(format!("`type: {}`", action.kind));
    }
    if has(shape::COMMON) {
        return Some("a check or step".into());
    }
    shape::PLAYBOOK.iter().find_map(|f| match f.want {
        _ if f.name == name => Some("the top of the playbook".into()),
        Want::Object(fields) if has(fields) => Some(format!("`{}`", f.name)),
        _ => None,
    })
}
