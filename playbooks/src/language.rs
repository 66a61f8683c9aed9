//! A playbook as it runs: every field settled and valid. Parsing and linting make these.

use crate::expr::{Expr, Template};
use hale_model::{Digest, Direction, PlaybookName, Route};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// A playbook: when it applies, what it checks, does, verifies and undoes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Playbook {
    /// Its name, unique in a library.
    pub name: PlaybookName,
    /// Semantic version.
    pub version: String,
    /// What trouble it is for and what it does: this is embedded and searched.
    pub description: String,
    /// For people and for filters.
    pub tags: Vec<String>,
    /// Whether it may run again without harm. If not, it always asks.
    pub idempotent: bool,
    /// The services it is for; empty means the host itself or any service.
    pub services: Vec<String>,
    /// Other products that speak the same language: found by it, but then it asks.
    pub aliases: Vec<String>,
    /// Words of trouble that look alike and must not be treated with it.
    pub not_when: Vec<String>,
    /// What an incident that it fits looks like.
    pub signature: Signature,
    /// The most it may do unattended.
    pub max_route: Route,
    /// What is leased while it runs.
    pub scope: ScopeKind,
    /// The longest a whole run may take.
    pub max_duration: Duration,
    /// How far it is proven.
    #[serde(skip_serializing_if = "Proof::is_linted")]
    pub proof: Proof,
    /// Typed parameters.
    pub parameters: Vec<Parameter>,
    /// What is looked at on the host, before anything is decided, to tell whether it fits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diagnose: Vec<Probe>,
    /// What must hold before anything is touched.
    pub pre_execution_checks: Vec<Step>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What must hold afterwards.
    pub verification: Vec<Step>,
    /// What undoes the steps: each names the step it undoes; run in reverse order of what was done.
    pub rollback: Vec<Step>,
    /// Why nothing has to be undone, if `rollback` is empty.
    pub no_rollback_reason: Option<String>,
    /// Where the procedure comes from.
    pub references: Vec<String>,
    /// SHA-256 of the playbook's canonical JSON, without this field.
    #[serde(skip)]
    pub digest: Digest,
}

impl Playbook {
    /// Checks before the run that ask of the host, its service and the parameters alone: they hold or
    /// fail before anything has happened, and where one fails the playbook can't run at all.
    pub fn standing_conditions(&self) -> impl Iterator<Item = (&Step, &Expr)> {
        const STANDING: [&str; 3] = ["service", "params", "tags"];
        self.pre_execution_checks.iter().filter_map(|step| {
            let Action::Condition { condition } = &step.action else {
                return None;
            };
            let paths = condition.paths();
            let mut roots = paths.iter().map(|path| path[0].as_str());
            let stands = !paths.is_empty() && roots.all(|root| STANDING.contains(&root));
            let counts = step.when.is_none() && step.fail_action != FailAction::Warn;
            (stands && counts).then_some((step, condition))
        })
    }
}

/// What an incident that a playbook fits looks like.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Signature {
    /// Series that move, and which way.
    pub series: Vec<SeriesPattern>,
    /// Regular expressions (RE2 syntax, case-insensitive) over log templates and messages.
    pub logs: Vec<String>,
}

/// A series that moves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeriesPattern {
    /// A glob over the metric's path: `database.connections_*`.
    pub metric: String,
    /// Which way; none means either.
    pub direction: Option<Direction>,
}

/// How far a playbook is proven.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Its text was checked, no more: it asks until it has earned more.
    #[default]
    Linted,
    /// A test caused the real fault on the real part and saw it resolved.
    Proven,
}

impl Proof {
    /// Its name in a playbook and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linted => "linted",
            Self::Proven => "proven",
        }
    }

    fn is_linted(&self) -> bool {
        *self == Self::Linted
    }
}

/// How much a probe's finding says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// It is likelier one way than the other.
    Weak,
    /// It all but settles it.
    #[default]
    Strong,
}

/// A look at the host that tells whether a playbook fits: it changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probe {
    /// What is looked at, and what is found if the playbook fits.
    #[serde(flatten)]
    pub step: Step,
    /// How much it says.
    pub weight: Weight,
}

/// What is leased while a playbook runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeKind {
    /// The whole host.
    Host,
    /// The incident's service on its host; the host where there is no service.
    Service,
    /// A cluster-wide name.
    Custom(String),
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterType {
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A text.
    Text,
    /// A text like `90s`, `1h`; as a value: seconds.
    Duration,
    /// A list of texts.
    TextList,
}

/// A typed parameter of a playbook.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ParameterType,
    /// What it is for.
    pub description: String,
    /// Its value unless something else is given.
    pub default: Option<Value>,
    /// Where its value comes from in the incident's context, tried before the default:
    /// `incident.labels.mount`, `service.log_path`.
    pub from: Option<Expr>,
    /// The least it may be (numbers, seconds).
    pub min: Option<f64>,
    /// The most it may be (numbers, seconds).
    pub max: Option<f64>,
    /// The values it may have.
    pub one_of: Vec<Value>,
    /// A regular expression a text must match as a whole.
    pub pattern: Option<String>,
}

/// What happens when a check or step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailAction {
    /// Stop; what was done stays as it is (in a pre-check: nothing was).
    Abort,
    /// Try again until `max_wait` has passed, then abort.
    Wait,
    /// Undo what was done.
    Rollback,
    /// Stop and hand over to a human.
    Escalate,
    /// Note it and go on.
    Warn,
}

/// One check or step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its name, unique within the playbook; its result is `steps.NAME` for what comes later.
    pub name: String,
    /// What it does or checks.
    pub action: Action,
    /// Why it is there.
    pub reason: Option<String>,
    /// Skipped unless this holds.
    pub when: Option<Expr>,
    /// What must hold of its `result`, beyond what its type demands.
    pub expect: Option<Expr>,
    /// The longest one attempt may take.
    pub timeout: Duration,
    /// What happens when it fails.
    pub fail_action: FailAction,
    /// How long `wait` tries at most.
    pub max_wait: Duration,
    /// How often it is tried again after a failure, within its own bounds.
    pub retries: u32,
    /// The time between attempts.
    pub retry_delay: Duration,
    /// In verification: it must hold this long without a break. Verifications hold together: all
    /// pass once, in their order, then they are looked at in turn.
    pub hold: Duration,
    /// In rollback: the step it undoes. None: it runs whenever anything is undone.
    pub undoes: Option<String>,
}

/// What a unit is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitOperation {
    /// Only looks: `expect_state`.
    Check,
    /// Starts it.
    Start,
    /// Stops it.
    Stop,
    /// Restarts it.
    Restart,
    /// Reloads its configuration.
    Reload,
    /// Forgets its failures.
    ResetFailed,
}

/// What is done with processes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "operation")]
pub enum ProcessOperation {
    /// Counts them: result `{count, pids}`.
    Count,
    /// Sends a signal (`TERM`, `HUP`, …); after `grace`, if any are left, `KILL` where `kill_after`.
    Signal {
        /// Its name without SIG.
        signal: String,
        /// How long they have to end.
        grace: Duration,
        /// Whether `KILL` follows.
        kill_after: bool,
    },
    /// Sets the nice value (0..=19).
    Renice {
        /// The value.
        nice: i32,
    },
}

/// Which processes. All that is given must hold; at least one of name, pid_file, pid, cmdline.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ProcessMatch {
    /// The process name (comm).
    pub name: Option<Template>,
    /// A file holding the pid.
    pub pid_file: Option<Template>,
    /// The pid.
    pub pid: Option<Template>,
    /// A regular expression over the command line.
    pub cmdline: Option<Template>,
    /// The state letter of /proc: `Z`, `D`, `R`.
    pub state: Option<String>,
    /// At least this much of one CPU, in percent, measured over a second.
    pub min_cpu_percent: Option<f64>,
    /// Running for at least this long.
    pub min_age: Option<Duration>,
    /// Signal the parent of the match instead (how zombies are reaped).
    pub parent: bool,
    /// At most so many; more is an error and nothing is touched.
    pub limit: u32,
}

/// What is done with files.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "operation")]
pub enum FileOperation {
    /// Looks: result `{exists, size_bytes, age_seconds, count, free_bytes, used_percent}`.
    Stat,
    /// Cuts matching files to their last `keep_bytes`, in place (writers keep their handle).
    Truncate {
        /// What is kept of the end.
        keep_bytes: u64,
    },
    /// Deletes matching files.
    Delete,
    /// Compresses matching files with gzip and deletes the originals.
    Compress,
}

/// What a check or step does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Action {
    /// A CEL condition over `incident`, `params`, `tags`, `steps`.
    Condition {
        /// It must be true.
        condition: Expr,
    },
    /// A query on a configured database; values only as bound parameters.
    SqlQuery {
        /// Which configured database; none means the incident's.
        database: Option<Template>,
        /// The text, with `$1`, `$2`, … and no templates in it.
        query: String,
        /// The values, typed.
        bind: Vec<Template>,
        /// Exactly so many rows.
        expect_rows: Option<u64>,
        /// Whether it may change anything; if not, it runs in a read-only transaction.
        writes: bool,
        /// On a connection of its own, to prove that a new one can be had.
        new_connection: bool,
    },
    /// A tag of the host.
    TagCheck {
        /// Its name.
        tag: String,
        /// The value it must have; a missing tag counts as `false`.
        expect_value: Value,
    },
    /// No other execution on the scope.
    ConcurrencyCheck {
        /// Where.
        scope: ScopeKind,
        /// How many others there may be.
        max: u32,
    },
    /// A program with its arguments; never a shell.
    Command {
        /// The program and its arguments, each one argument, whatever is in it.
        argv: Vec<Template>,
        /// Exit codes that mean success.
        expect_exit: Vec<i32>,
        /// Where it runs.
        cwd: Option<Template>,
        /// Further environment; nothing is inherited but PATH, LANG and HOME.
        env: Vec<(String, Template)>,
    },
    /// An HTTP request.
    HttpCheck {
        /// Where to.
        url: Template,
        /// `GET`, `HEAD` or `POST`.
        method: String,
        /// Status codes that mean success.
        expect_status: Vec<u16>,
        /// What the body must hold.
        expect_body: Option<String>,
    },
    /// A systemd unit.
    SystemdUnit {
        /// Its name.
        unit: Template,
        /// What it is told.
        operation: UnitOperation,
        /// The ActiveState it must have afterwards.
        expect_state: Option<String>,
    },
    /// Processes of this host.
    Process {
        /// Which.
        #[serde(rename = "match")]
        matching: ProcessMatch,
        /// What is done with them.
        #[serde(flatten)]
        operation: ProcessOperation,
    },
    /// Files of this host.
    File {
        /// A path or glob. Absolute; symbolic links are not followed out of its directory.
        path: Template,
        /// What is done with them.
        #[serde(flatten)]
        operation: FileOperation,
        /// Only files at least this old.
        older_than: Option<Duration>,
        /// Only files at least this large.
        min_bytes: Option<u64>,
        /// At most so many files are touched; more is an error before any is.
        limit: u32,
    },
    /// Lets time pass.
    Wait {
        /// How much.
        duration: Duration,
    },
    /// Counts log lines that match, from when the execution began.
    LogCheck {
        /// The file; none means the logs watched for the incident's service.
        path: Option<Template>,
        /// A regular expression.
        pattern: String,
        /// How many there may be at most.
        max_count: u64,
        /// How many there must be at least.
        min_count: u64,
    },
    /// A series' latest value.
    MetricCheck {
        /// The series: a metric path with labels, or a glob over it.
        series: Template,
        /// A condition over `value`, `sigma`, `baseline`.
        condition: Expr,
        /// How old the value may be.
        max_age: Duration,
    },
}

impl Action {
    /// Its type as it stands in YAML.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Condition { .. } => "condition",
            Self::SqlQuery { .. } => "sql_query",
            Self::TagCheck { .. } => "tag_check",
            Self::ConcurrencyCheck { .. } => "concurrency_check",
            Self::Command { .. } => "command",
            Self::HttpCheck { .. } => "http_check",
            Self::SystemdUnit { .. } => "systemd_unit",
            Self::Process { .. } => "process",
            Self::File { .. } => "file",
            Self::Wait { .. } => "wait",
            Self::LogCheck { .. } => "log_check",
            Self::MetricCheck { .. } => "metric_check",
        }
    }
}
