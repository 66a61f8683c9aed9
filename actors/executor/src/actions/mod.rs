//! What a check or step does to the host: one file a type. Each returns what it found or did;
//! none decides whether the run goes on.

mod command;
mod concurrency_check;
mod condition;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod http_check;
mod log_check;
mod metric_check;
mod process;
mod sql_query;
mod stop;
mod systemd_unit;
mod tag_check;
mod walk;

pub use command::{Leftover, end_leftovers};
pub use log_check::Offsets;
pub use metric_check::series_matches;
pub use sql_query::Databases;
pub use stop::{Level, Stop};

use crate::config::ExecutorConfig;
use crate::env::Secrets;
use crate::journal::Phase;
use crate::run::{ActionResult, Perform, rollback};
use hale_model::ledger::Lease;
use hale_model::port::Port;
use hale_model::{ExecutionId, HostName, Reading, ServiceName, StepStatus, Timestamp};
use hale_playbooks::language::Action;
use hale_playbooks::{Env, Template};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The largest text that one output or body keeps, in bytes.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// Where actions ask for what they don't know themselves.
#[derive(Clone)]
pub struct Lookups {
    /// The leases of the cluster that are not closed.
    pub leases: Port<(), Result<Vec<Lease>, String>>,
    /// The latest readings of the series that [`series_matches`] the pattern.
    pub readings: Port<String, Vec<Reading>>,
    /// A secret's value by its name.
    pub secrets: Port<String, Result<String, String>>,
    /// The host's tags as they are now.
    pub tags: Port<(), BTreeMap<String, String>>,
}

/// What all actions of a node share.
pub struct Tools {
    pub(crate) lookups: Lookups,
    pub(crate) databases: Databases,
    http: http_check::Http,
    protected: Vec<PathBuf>,
}

/// What the actions of one run share.
#[derive(Clone)]
pub struct Context {
    /// The run.
    pub execution: ExecutionId,
    /// Where it runs.
    pub host: HostName,
    /// For which service.
    pub service: Option<ServiceName>,
    /// How long the logs were when it began.
    pub offsets: Arc<Mutex<Offsets>>,
    /// The secrets it has used: masked in everything it says from then on.
    pub secrets: Arc<Mutex<Secrets>>,
}

impl ActionResult {
    pub(crate) fn success(result: Value, message: impl Into<String>) -> Self {
        Self {
            status: StepStatus::Success,
            result,
            message: message.into(),
        }
    }

    pub(crate) fn failed(result: Value, message: impl Into<String>) -> Self {
        Self {
            status: StepStatus::Failed,
            result,
            message: message.into(),
        }
    }

    pub(crate) fn interrupted() -> Self {
        Self {
            status: StepStatus::Interrupted,
            result: Value::Null,
            message: "it did not end in time".into(),
        }
    }
}

/// What keeps an action from being tried: a text that has no value, a name that is not there.
pub(crate) type Tried = Result<ActionResult, String>;

impl Tools {
    /// The tools of a node.
    pub fn new(config: &ExecutorConfig, lookups: Lookups) -> Self {
        Self {
            databases: Databases::new(config.databases.clone(), lookups.secrets.clone()),
            http: http_check::Http::default(),
            protected: config.protected.clone(),
            lookups,
        }
    }

    /// Performs a check or step. When this returns, nothing of it runs any more.
    pub async fn perform(&self, context: &Context, perform: Perform, stop: Stop) -> ActionResult {
        let result = match self.reveal(context, &perform).await {
            Ok(env) => self.act(context, &perform, &env, stop).await,
            Err(why) => Err(why),
        };
        let result = result.unwrap_or_else(|why| ActionResult::failed(Value::Null, why));
        let secrets = lock(&context.secrets);
        ActionResult {
            status: result.status,
            result: secrets.mask_value(result.result),
            message: secrets.mask(&result.message),
        }
    }

    /// The environment with the secrets that the action's texts name, and those alone.
    async fn reveal(&self, context: &Context, perform: &Perform) -> Result<Env, String> {
        let names: Vec<String> = templates(&perform.step.action)
            .iter()
            .flat_map(|t| t.secrets())
            .collect();
        let mut own = Secrets::default();
        for name in names {
            let value = (self.lookups.secrets)(name.clone()).await.map_err(|why| {
                format!("there is no secret `{name}`: {why}; name where it is in `[secrets]`")
            })?;
            lock(&context.secrets).add(name.clone(), value.clone());
            own.add(name, value);
        }
        let mut env = perform.env.clone();
        env.insert("secret".into(), own.reveal());
        Ok(env)
    }

    async fn act(&self, context: &Context, perform: &Perform, env: &Env, stop: Stop) -> Tried {
        let step = &perform.step;
        match &step.action {
            // These three end their own work before they return, stopped or not.
            Action::Command {
                argv,
                expect_exit,
                cwd,
                env: further,
            } => {
                let mut wanted = command::Wanted::render(argv, cwd.as_ref(), further, env)?;
                wanted.tag(&context.execution, perform.phase, &step.name);
                Ok(command::run(wanted, expect_exit, stop).await)
            }
            Action::SqlQuery {
                database,
                query,
                bind,
                expect_rows,
                writes,
                new_connection,
            } => {
                let name = database.as_ref().map(|d| text(d, env)).transpose()?;
                let bind = bind
                    .iter()
                    .map(|b| b.render(env))
                    .collect::<Result<Vec<_>, _>>();
                let query = sql_query::Query {
                    text: query,
                    bind: bind.map_err(|e| e.to_string())?,
                    expect_rows: *expect_rows,
                    writes: *writes,
                    new_connection: *new_connection,
                    timeout: perform.timeout,
                };
                let service = context.service.as_ref();
                self.databases
                    .run(name.as_deref(), service, query, stop)
                    .await
            }
            Action::File {
                path,
                operation,
                older_than,
                min_bytes,
                limit,
            } => {
                let wanted = file::Wanted {
                    path: text(path, env)?,
                    operation: operation.clone(),
                    older_than: *older_than,
                    min_bytes: *min_bytes,
                    limit: *limit,
                };
                file::run(wanted, &self.protected, stop).await
            }
            Action::SystemdUnit {
                unit,
                operation,
                expect_state,
            } => {
                let unit = text(unit, env)?;
                systemd_unit::run(&unit, *operation, expect_state.as_deref(), stop).await
            }
            // The others can be dropped at any moment.
            _ => {
                let mut stop = stop;
                tokio::select! {
                    biased;
                    result = self.look(context, perform, env) => result,
                    () = stop.asked() => Ok(ActionResult::interrupted()),
                }
            }
        }
    }

    async fn look(&self, context: &Context, perform: &Perform, env: &Env) -> Tried {
        match &perform.step.action {
            Action::Condition { condition } => condition::run(condition, env),
            Action::TagCheck { tag, expect_value } => Ok(tag_check::run(
                &(self.lookups.tags)(()).await,
                tag,
                expect_value,
            )),
            Action::ConcurrencyCheck { scope, max } => {
                let leases = (self.lookups.leases)(()).await;
                Ok(concurrency_check::run(leases, context, scope, *max))
            }
            Action::HttpCheck {
                url,
                method,
                expect_status,
                expect_body,
            } => {
                let url = text(url, env)?;
                let body = expect_body.as_deref();
                self.http
                    .run(&url, method, expect_status, body, perform.timeout)
                    .await
            }
            Action::Process {
                matching,
                operation,
            } => process::run(matching, operation, env).await,
            Action::Wait { duration } => {
                tokio::time::sleep(*duration).await;
                let seconds = duration.as_secs_f64();
                Ok(ActionResult::success(
                    json!({"seconds": seconds}),
                    format!("{seconds} s"),
                ))
            }
            Action::LogCheck {
                path,
                pattern,
                max_count,
                min_count,
            } => {
                let path = path.as_ref().map(|p| text(p, env)).transpose()?;
                let path = log_check::path_of(path, env)?;
                log_check::run(path, context, pattern, *min_count, *max_count).await
            }
            Action::MetricCheck {
                series,
                condition,
                max_age,
            } => {
                let pattern = text(series, env)?;
                let readings = (self.lookups.readings)(pattern.clone()).await;
                Ok(metric_check::run(
                    &pattern,
                    &readings,
                    condition,
                    *max_age,
                    now(),
                    env,
                ))
            }
            // Handled by `act`.
            Action::SqlQuery { .. }
            | Action::Command { .. }
            | Action::File { .. }
            | Action::SystemdUnit { .. } => Err("it was given to the wrong hands".into()),
        }
    }
}

/// Whether a dry run may perform it: it changes nothing.
pub fn only_looks(perform: &Perform) -> bool {
    matches!(perform.phase, Phase::PreChecks) && !rollback::touches(&perform.step)
}

/// Every text of an action that is rendered before it runs.
pub(crate) fn templates(action: &Action) -> Vec<&Template> {
    match action {
        Action::SqlQuery { database, bind, .. } => database.iter().chain(bind).collect(),
        Action::Command { argv, cwd, env, .. } => argv
            .iter()
            .chain(cwd)
            .chain(env.iter().map(|(_, v)| v))
            .collect(),
        Action::HttpCheck { url, .. } => vec![url],
        Action::SystemdUnit { unit, .. } => vec![unit],
        Action::Process { matching: m, .. } => [&m.name, &m.pid_file, &m.pid, &m.cmdline]
            .into_iter()
            .flatten()
            .collect(),
        Action::File { path, .. } => vec![path],
        Action::LogCheck { path, .. } => path.iter().collect(),
        Action::MetricCheck { series, .. } => vec![series],
        Action::Condition { .. }
        | Action::TagCheck { .. }
        | Action::ConcurrencyCheck { .. }
        | Action::Wait { .. } => vec![],
    }
}

pub(crate) fn text(template: &Template, env: &Env) -> Result<String, String> {
    template.render_text(env).map_err(|e| e.to_string())
}

/// A lock whose holder panicked is still a lock: what it holds are plain values.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_millis(since.map_or(0, |d| d.as_millis() as i64))
}
