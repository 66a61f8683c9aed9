//! The language as tables: every field, what it wants, and what it is for. The check of a
//! document, the JSON Schema and the suggestions of unknown names are all read from here.

mod actions;

pub(crate) use actions::ACTIONS;

/// What a field wants.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Want {
    /// A text of at most so many bytes.
    Text(usize),
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds.
    Whole(i64, i64),
    /// A number within bounds.
    Decimal(f64, f64),
    /// A number of bytes, or a text like `64KiB`.
    Bytes,
    /// A text like `90s`, at most so many seconds. The same field with `_seconds` takes a number.
    Span(u64),
    /// A CEL expression that sees these names beside the usual ones.
    Condition(&'static [&'static str]),
    /// A text with `${…}`.
    Template,
    /// A value to bind: a text with `${…}`, a number, a boolean.
    Bound,
    /// A regular expression.
    Regex,
    /// A text, number or boolean.
    Scalar,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// `host`, `service` or `custom:NAME`.
    Scope,
    /// A list.
    List(&'static Want),
    /// One value or a list of them.
    OneOrMore(&'static Want),
    /// A map from names to these.
    Map(&'static Want),
    /// A map with these fields.
    Object(&'static [Field]),
    /// A list of checks or steps.
    Steps,
}

/// A field of the language.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) want: Want,
    pub(crate) needed: bool,
    pub(crate) about: &'static str,
}

const fn must(name: &'static str, want: Want, about: &'static str) -> Field {
    Field {
        name,
        want,
        needed: true,
        about,
    }
}

const fn may(name: &'static str, want: Want, about: &'static str) -> Field {
    Field {
        name,
        want,
        needed: false,
        about,
    }
}

/// The longest a single attempt, or waiting, may be: one hour.
pub(crate) const MAX_STEP_SECONDS: u64 = 3600;
/// The longest a run may be: six hours, well below what a lease is renewed for.
pub(crate) const MAX_RUN_SECONDS: u64 = 6 * 3600;
const LINE: Want = Want::Text(500);
const NAME: Want = Want::Text(100);
const NAMES: Want = Want::List(&NAME);

/// A whole playbook.
pub(crate) const PLAYBOOK: &[Field] = &[
    must(
        "metadata",
        Want::Object(METADATA),
        "What it is and when it applies.",
    ),
    may(
        "parameters",
        Want::Map(&Want::Object(PARAMETER)),
        "Its parameters, by name.",
    ),
    may(
        "diagnose",
        Want::Steps,
        "What is looked at on the host to tell whether it fits: each finds what is expected, or speaks against it.",
    ),
    may(
        "pre_execution_checks",
        Want::Steps,
        "What must hold before anything is touched.",
    ),
    may("steps", Want::Steps, "What is done, in order."),
    may("verification", Want::Steps, "What must hold afterwards."),
    may(
        "rollback",
        Want::Steps,
        "What undoes the steps, run in reverse order of what was done.",
    ),
    may(
        "no_rollback_reason",
        LINE,
        "Why nothing has to be undone, instead of `rollback`.",
    ),
];

const METADATA: &[Field] = &[
    must(
        "name",
        NAME,
        "Its name: lower-case words joined by `_`, the product first.",
    ),
    must(
        "version",
        NAME,
        "Its semantic version, as a text: \"1.4.2\".",
    ),
    must(
        "description",
        Want::Text(2000),
        "The trouble in the words of alerts and logs, and what is done about it. Incidents are matched with this text.",
    ),
    must(
        "idempotent",
        Want::Bool,
        "Whether it may run again without harm. If not, it always asks.",
    ),
    may("tags", NAMES, "For people and for filters."),
    may(
        "services",
        NAMES,
        "The services it is for. None: the host itself, or any service.",
    ),
    may(
        "aliases",
        NAMES,
        "Other products it may fit: found for them, but then it asks.",
    ),
    may(
        "not_when",
        Want::List(&LINE),
        "Words of trouble that looks alike and must not be treated with it.",
    ),
    may(
        "signature",
        Want::Object(SIGNATURE),
        "What an incident that it fits looks like.",
    ),
    may(
        "max_route",
        Want::OneOf(&["execute", "ask", "escalate"]),
        "The most it may do unattended. `execute` if idempotent, else `ask`; `escalate` hands it to a person.",
    ),
    may(
        "scope",
        Want::Scope,
        "What is leased while it runs. Default `host`.",
    ),
    may(
        "max_duration",
        Want::Span(MAX_RUN_SECONDS),
        "The longest a whole run may take. Default 10m.",
    ),
    may(
        "proof",
        Want::OneOf(&["linted", "proven"]),
        "How far it is proven. `linted`, the default, asks until it has earned more; `proven`: a test caused the real fault and saw it resolved.",
    ),
    may(
        "references",
        Want::List(&LINE),
        "Where the procedure comes from.",
    ),
    may(
        "compliance",
        NAMES,
        "Controls it touches: `soc2_cc6.1`. Kept as tags `compliance:…`.",
    ),
];

const SIGNATURE: &[Field] = &[
    may(
        "series",
        Want::List(&Want::Object(SERIES)),
        "Series that move.",
    ),
    may(
        "logs",
        Want::List(&Want::Regex),
        "Regular expressions, case-insensitive, over log lines.",
    ),
];

const SERIES: &[Field] = &[
    must(
        "metric",
        Want::Text(256),
        "A metric path or a glob over it: `database.connections_*`.",
    ),
    may(
        "direction",
        Want::OneOf(&["above", "below"]),
        "Which way it moves. Either if left out.",
    ),
];

pub(crate) const PARAMETER_TYPES: &[&str] = &[
    "integer",
    "number",
    "boolean",
    "text",
    "duration",
    "text_list",
];

const PARAMETER: &[Field] = &[
    must(
        "type",
        Want::OneOf(PARAMETER_TYPES),
        "Its type. A duration's value is in seconds.",
    ),
    must("description", LINE, "What it is for."),
    may(
        "default",
        Want::OneOrMore(&Want::Scalar),
        "Its value unless something else is given.",
    ),
    may(
        "from",
        Want::Condition(&[]),
        "Where its value comes from, tried before the default: `service.log_path`.",
    ),
    may(
        "min",
        Want::Decimal(f64::MIN, f64::MAX),
        "The least it may be; for durations in seconds.",
    ),
    may(
        "max",
        Want::Decimal(f64::MIN, f64::MAX),
        "The most it may be; for durations in seconds.",
    ),
    may(
        "one_of",
        Want::List(&Want::Scalar),
        "The values it may have.",
    ),
    may(
        "pattern",
        Want::Regex,
        "A regular expression that a text must match as a whole.",
    ),
];

pub(crate) const FAIL_ACTIONS: &[&str] = &["abort", "wait", "rollback", "escalate", "warn"];

/// What every check and step has.
pub(crate) const COMMON: &[Field] = &[
    must(
        "name",
        NAME,
        "Its name, unique in the playbook. Its result is `steps.NAME` for all that comes later.",
    ),
    must("type", Want::OneOf(TYPES), "What it does or checks."),
    may("reason", LINE, "Why it is there."),
    may("when", Want::Condition(&[]), "Skipped unless this holds."),
    may(
        "expect",
        Want::Condition(&["result"]),
        "What must hold of its `result`, beyond what its type demands.",
    ),
    may(
        "timeout",
        Want::Span(MAX_STEP_SECONDS),
        "The longest one attempt may take. Default 30s.",
    ),
    may(
        "fail_action",
        Want::OneOf(FAIL_ACTIONS),
        "What happens when it fails. Default: checks abort; steps and verification roll back where there is a rollback, else escalate; rollback escalates.",
    ),
    may(
        "max_wait",
        Want::Span(MAX_STEP_SECONDS),
        "How long `fail_action: wait` tries at most.",
    ),
    may(
        "retries",
        Want::Whole(0, 60),
        "How often it is tried again after a failure. Default 0.",
    ),
    may(
        "retry_delay",
        Want::Span(300),
        "The time between attempts. Default 1s.",
    ),
    may(
        "hold",
        Want::Span(MAX_STEP_SECONDS),
        "In verification: it must hold this long without a break.",
    ),
    may(
        "weight",
        Want::OneOf(&["weak", "strong"]),
        "In diagnose: how much its finding says. Default `strong`.",
    ),
    may(
        "undoes",
        NAME,
        "In rollback: the step it undoes. It runs only if that step was begun.",
    ),
];

/// The types of check and step, in the order of [`ACTIONS`].
pub(crate) const TYPES: &[&str] = &[
    "condition",
    "sql_query",
    "tag_check",
    "concurrency_check",
    "command",
    "http_check",
    "systemd_unit",
    "process",
    "file",
    "wait",
    "log_check",
    "metric_check",
];

/// The fields of a type, the common ones first.
pub(crate) fn step_fields(kind: Option<&str>) -> impl Iterator<Item = &'static Field> {
    let own = ACTIONS
        .iter()
        .find(|a| Some(a.kind) == kind)
        .map_or(&[][..], |a| a.fields);
    COMMON.iter().chain(own)
}

/// The field that a name stands for among these, and whether it is its form in seconds.
pub(crate) fn field_named<'a>(
    fields: impl IntoIterator<Item = &'a Field>,
    name: &str,
) -> Option<(&'a Field, bool)> {
    let stem = name.strip_suffix("_seconds");
    fields.into_iter().find_map(|f| match f.want {
        _ if f.name == name => Some((f, false)),
        Want::Span(_) if stem == Some(f.name) => Some((f, true)),
        _ => None,
    })
}
