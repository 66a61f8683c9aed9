//! The types of check and step with their own fields.

use super::{Field, MAX_STEP_SECONDS, NAME, Want, may, must};

const YEAR_SECONDS: u64 = 366 * 86_400;

/// A type of check or step.
pub(crate) struct ActionShape {
    pub(crate) kind: &'static str,
    pub(crate) about: &'static str,
    pub(crate) fields: &'static [Field],
}

/// Every type with its own fields.
pub(crate) const ACTIONS: &[ActionShape] = &[
    ActionShape {
        kind: "condition",
        about: "A CEL condition.",
        fields: &[must("condition", Want::Condition(&[]), "It must be true.")],
    },
    ActionShape {
        kind: "sql_query",
        about: "One statement on a configured database, in a read-only transaction unless `writes`. Result: `{rows, row_count}`.",
        fields: &[
            must(
                "query",
                Want::Text(8000),
                "The statement, with `$1`, `$2`, … for values and no `${…}` in it.",
            ),
            may(
                "bind",
                Want::List(&Want::Bound),
                "The values of `$1`, `$2`, …, typed.",
            ),
            may(
                "database",
                Want::Template,
                "Which configured database. None: the incident's.",
            ),
            may(
                "expect_rows",
                Want::Whole(0, 1_000_000),
                "Exactly so many rows.",
            ),
            may(
                "writes",
                Want::Bool,
                "Whether it may change anything. Default false.",
            ),
            may(
                "new_connection",
                Want::Bool,
                "On a connection of its own, to prove that a new one can be had. Default false.",
            ),
        ],
    },
    ActionShape {
        kind: "tag_check",
        about: "A tag of the host.",
        fields: &[
            must("tag", NAME, "Its name."),
            must(
                "expect_value",
                Want::Scalar,
                "The value it must have. A missing tag counts as `false`.",
            ),
        ],
    },
    ActionShape {
        kind: "concurrency_check",
        about: "No other execution on the scope.",
        fields: &[
            may("scope", Want::Scope, "Where. Default `host`."),
            may(
                "max",
                Want::Whole(0, 1000),
                "How many others there may be. Default 0.",
            ),
        ],
    },
    ActionShape {
        kind: "command",
        about: "A program with its arguments, never a shell. Result: `{exit, stdout, stderr}`.",
        fields: &[
            must(
                "argv",
                Want::List(&Want::Template),
                "The program and its arguments, each one argument. One that is a single `${…}` and a list is spliced.",
            ),
            may(
                "expect_exit",
                Want::OneOrMore(&Want::Whole(0, 255)),
                "Exit codes that mean success. Default 0.",
            ),
            may("cwd", Want::Template, "Where it runs."),
            may(
                "env",
                Want::Map(&Want::Template),
                "Further environment. Nothing is inherited but PATH, LANG and HOME.",
            ),
        ],
    },
    ActionShape {
        kind: "http_check",
        about: "An HTTP request. Result: `{status, body}`.",
        fields: &[
            must("url", Want::Template, "Where to."),
            may(
                "method",
                Want::OneOf(&["GET", "HEAD", "POST"]),
                "Default `GET`.",
            ),
            may(
                "expect_status",
                Want::OneOrMore(&Want::Whole(100, 599)),
                "Status codes that mean success. Default 200.",
            ),
            may("expect_body", Want::Text(1000), "What the body must hold."),
        ],
    },
    ActionShape {
        kind: "systemd_unit",
        about: "A systemd unit. Result: `{active_state, sub_state, result}`.",
        fields: &[
            must("unit", Want::Template, "Its name."),
            may(
                "operation",
                Want::OneOf(&[
                    "check",
                    "start",
                    "stop",
                    "restart",
                    "reload",
                    "reset_failed",
                ]),
                "What it is told. Default `check`.",
            ),
            may(
                "expect_state",
                Want::OneOf(&[
                    "active",
                    "inactive",
                    "failed",
                    "activating",
                    "deactivating",
                    "reloading",
                ]),
                "The ActiveState it must have afterwards.",
            ),
        ],
    },
    ActionShape {
        kind: "process",
        about: "Processes of this host. Result: `{count, pids}`.",
        fields: &[
            must(
                "match",
                Want::Object(PROCESS_MATCH),
                "Which. All that is given must hold.",
            ),
            may(
                "operation",
                Want::OneOf(&["count", "signal", "renice"]),
                "Default `count`.",
            ),
            may(
                "signal",
                Want::OneOf(&[
                    "TERM", "HUP", "INT", "KILL", "USR1", "USR2", "CHLD", "CONT", "STOP", "QUIT",
                ]),
                "With `signal`: its name. Default `TERM`.",
            ),
            may(
                "grace",
                Want::Span(600),
                "With `signal`: how long they have to end. Default 5s.",
            ),
            may(
                "kill_after",
                Want::Bool,
                "With `signal`: whether `KILL` follows. Default false.",
            ),
            may(
                "nice",
                Want::Whole(0, 19),
                "With `renice`: the nice value. Default 10.",
            ),
        ],
    },
    ActionShape {
        kind: "file",
        about: "Files of this host. Result: `{exists, size_bytes, age_seconds, count, free_bytes, used_percent}`.",
        fields: &[
            must(
                "path",
                Want::Template,
                "An absolute path, or a glob. Symbolic links are not followed out of its directory.",
            ),
            may(
                "operation",
                Want::OneOf(&["stat", "truncate", "delete", "compress"]),
                "Default `stat`.",
            ),
            may(
                "keep_bytes",
                Want::Bytes,
                "With `truncate`: what is kept of the end. Default 0.",
            ),
            may(
                "older_than",
                Want::Span(10 * YEAR_SECONDS),
                "Only files at least this old.",
            ),
            may("min_bytes", Want::Bytes, "Only files at least this large."),
            may(
                "limit",
                Want::Whole(1, 1_000_000),
                "At most so many files; more is an error before any is touched. Default 1000.",
            ),
        ],
    },
    ActionShape {
        kind: "wait",
        about: "Lets time pass.",
        fields: &[must("duration", Want::Span(MAX_STEP_SECONDS), "How much.")],
    },
    ActionShape {
        kind: "log_check",
        about: "Counts log lines that match since the run began. Result: `{count}`.",
        fields: &[
            must("pattern", Want::Regex, "A regular expression."),
            may(
                "path",
                Want::Template,
                "The file. None: the logs watched for the incident's service.",
            ),
            may(
                "max_count",
                Want::Whole(0, 1_000_000_000),
                "How many there may be at most. Default 0, or no limit with `min_count`.",
            ),
            may(
                "min_count",
                Want::Whole(0, 1_000_000_000),
                "How many there must be at least. Default 0.",
            ),
        ],
    },
    ActionShape {
        kind: "metric_check",
        about: "A series' latest value. Result: `{value, sigma, baseline}`.",
        fields: &[
            must(
                "series",
                Want::Template,
                "A metric path with labels, or a glob over it.",
            ),
            must(
                "condition",
                Want::Condition(&["value", "sigma", "baseline"]),
                "What must hold of `value`, `sigma`, `baseline`.",
            ),
            may(
                "max_age",
                Want::Span(MAX_STEP_SECONDS),
                "How old the value may be. Default 2m.",
            ),
        ],
    },
];

const PROCESS_MATCH: &[Field] = &[
    may(
        "name",
        Want::Template,
        "The process name, as in /proc/PID/comm.",
    ),
    may("pid_file", Want::Template, "A file holding the pid."),
    may("pid", Want::Template, "The pid."),
    may(
        "cmdline",
        Want::Template,
        "A regular expression over the command line.",
    ),
    may(
        "state",
        Want::OneOf(&["R", "S", "D", "T", "Z", "I"]),
        "The state letter of /proc.",
    ),
    may(
        "min_cpu_percent",
        Want::Decimal(0.0, 100_000.0),
        "At least this much of one CPU, measured over a second.",
    ),
    may(
        "min_age",
        Want::Span(YEAR_SECONDS),
        "Running for at least this long.",
    ),
    may(
        "parent",
        Want::Bool,
        "Act on the parent of the match instead: how zombies are reaped.",
    ),
    may(
        "limit",
        Want::Whole(1, 1000),
        "At most so many; more is an error and nothing is touched. Default 10.",
    ),
];
