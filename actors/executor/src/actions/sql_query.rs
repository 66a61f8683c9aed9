//! `sql_query`: a query on a configured PostgreSQL server, over a connection that is held open, so
//! that there is one when the server refuses new ones.

mod values;

use super::{Stop, Tried, lock};
use crate::config::DatabaseConfig;
use crate::run::ActionResult;
use hale_model::port::Port;
use hale_model::{ServiceName, StepStatus};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};
#[cfg(any(test, fuzzing))]
pub(super) use values::read as read_value;
use values::{Bound, MAX_RESULT_BYTES, MAX_ROWS};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// What the server gets less than the step has, so that its own answer comes first.
const HEAD_START: Duration = Duration::from_millis(200);
/// How long a cancelled query may take to end.
const CANCEL: Duration = Duration::from_secs(2);
/// What can't run within a transaction, by how it begins.
const ALONE: [&str; 5] = [
    "VACUUM",
    "ALTER SYSTEM",
    "CREATE INDEX CONCURRENTLY",
    "REINDEX",
    "CLUSTER",
];

/// A query with its values.
pub(super) struct Query<'a> {
    pub(super) text: &'a str,
    pub(super) bind: Vec<Value>,
    pub(super) expect_rows: Option<u64>,
    pub(super) writes: bool,
    pub(super) new_connection: bool,
    pub(super) timeout: Duration,
}

type Held = Arc<tokio::sync::Mutex<Option<Client>>>;

/// The configured databases and a connection to each.
pub struct Databases {
    configured: BTreeMap<String, DatabaseConfig>,
    secrets: Port<String, Result<String, String>>,
    held: Mutex<BTreeMap<String, Held>>,
}

impl Databases {
    /// None of them is connected to yet.
    pub fn new(
        configured: BTreeMap<String, DatabaseConfig>,
        secrets: Port<String, Result<String, String>>,
    ) -> Self {
        Self {
            configured,
            secrets,
            held: Mutex::default(),
        }
    }

    /// Connects to those that are not connected: done now and then, so that there is a connection
    /// when it is needed and a new one would be refused. Tells which could not be reached.
    pub async fn stay_connected(&self) -> Vec<(String, String)> {
        let mut failed = vec![];
        for (name, config) in &self.configured {
            let held = self.held(name);
            let Ok(mut held) = held.try_lock() else {
                continue;
            };
            if held.as_ref().is_some_and(|c| !c.is_closed()) {
                continue;
            }
            match self.connect(config).await {
                Ok(client) => *held = Some(client),
                Err(why) => failed.push((name.clone(), why)),
            }
        }
        failed
    }

    fn held(&self, name: &str) -> Held {
        Arc::clone(lock(&self.held).entry(name.to_owned()).or_default())
    }

    /// The database that is named, the service's, or the only one.
    fn choose(
        &self,
        name: Option<&str>,
        service: Option<&ServiceName>,
    ) -> Result<(&str, &DatabaseConfig), String> {
        let all = || {
            self.configured
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let found = match name {
            Some(name) => self.configured.get_key_value(name),
            None => self
                .configured
                .iter()
                .find(|(name, c)| {
                    service.is_some_and(|s| c.service.as_ref() == Some(s) || s.as_str() == *name)
                })
                .or_else(|| {
                    self.configured
                        .iter()
                        .next()
                        .filter(|_| self.configured.len() == 1)
                }),
        };
        found.map(|(name, config)| (name.as_str(), config)).ok_or_else(|| match name {
            Some(name) => format!(
                "no database `{name}` is configured; add `[executor.databases.{name}]` (there are: {})", all()
            ),
            None => format!(
                "no database belongs to the incident's service; name one in the step (there are: {})", all()
            ),
        })
    }

    async fn connect(&self, config: &DatabaseConfig) -> Result<Client, String> {
        let mut to: Config = config.url.parse().map_err(|_| {
            "its `url` is not a PostgreSQL address; write it like postgres://hale@127.0.0.1:5432/postgres"
        })?;
        if let Some(secret) = &config.password_secret {
            to.password((self.secrets)(secret.clone()).await?);
        }
        to.application_name("hale-executor")
            .connect_timeout(CONNECT);
        let connected = timeout(CONNECT, to.connect(NoTls)).await;
        let (client, connection) = connected
            .map_err(|_| format!("no answer within {} s", CONNECT.as_secs()))?
            .map_err(|e| values::in_words(&e))?;
        // It ends when the client is dropped.
        tokio::spawn(connection);
        Ok(client)
    }

    pub(super) async fn run(
        &self,
        name: Option<&str>,
        service: Option<&ServiceName>,
        query: Query<'_>,
        stop: Stop,
    ) -> Tried {
        let (name, config) = self.choose(name, service)?;
        let unreachable = |why: String| {
            let message = format!(
                "database `{name}` can't be reached: {why}; is it up, and may Hale connect?"
            );
            Ok(ActionResult::failed(Value::Null, message))
        };
        if query.new_connection {
            return match self.connect(config).await {
                Ok(client) => Ok(ask(&client, &query, stop).await),
                Err(why) => unreachable(why),
            };
        }
        let held = self.held(name);
        let mut held = match timeout(query.timeout, held.lock()).await {
            Ok(held) => held,
            Err(_) => {
                return unreachable("its connection was busy for all of the step's time".into());
            }
        };
        // A connection that broke meanwhile is made anew, once.
        for is_last in [false, true] {
            let was_open = held.as_ref().is_some_and(|c| !c.is_closed());
            if !was_open {
                match self.connect(config).await {
                    Ok(client) => *held = Some(client),
                    Err(why) => return unreachable(why),
                }
            }
            let Some(client) = held.as_ref() else {
                continue;
            };
            let is_fresh = !was_open;
            if is_fresh || is_last || client.simple_query("").await.is_ok() {
                return Ok(ask(client, &query, stop).await);
            }
            *held = None;
        }
        unreachable("its connection broke".into())
    }
}

/// Runs the query; stopped, it is cancelled at the server too.
async fn ask(client: &Client, query: &Query<'_>, mut stop: Stop) -> ActionResult {
    let cancel = client.cancel_token();
    let mut work = Box::pin(within_a_transaction(client, query));
    let answered = tokio::select! {
        answered = &mut work => Some(answered),
        () = stop.asked() => None,
    };
    let answered = match answered {
        Some(answered) => answered,
        None => {
            let _ = timeout(CANCEL, cancel.cancel_query(NoTls)).await;
            let _ = timeout(CANCEL, &mut work).await;
            drop(work);
            let _ = timeout(CANCEL, client.batch_execute("ROLLBACK")).await;
            return ActionResult::interrupted();
        }
    };
    match answered {
        Ok((rows, affected)) => judge(rows, affected, query),
        Err(e) => {
            let _ = timeout(CANCEL, client.batch_execute("ROLLBACK")).await;
            ActionResult::failed(Value::Null, e)
        }
    }
}

async fn within_a_transaction(
    client: &Client,
    query: &Query<'_>,
) -> Result<(Vec<Row>, u64), String> {
    let words = |e: tokio_postgres::Error| values::in_words(&e);
    let time = query
        .timeout
        .saturating_sub(HEAD_START)
        .max(HEAD_START)
        .as_millis();
    let start = query.text.trim_start().to_ascii_uppercase();
    let is_alone = query.writes && ALONE.iter().any(|word| start.starts_with(word));
    let begin = match (is_alone, query.writes) {
        (true, _) => format!("SET statement_timeout = {time}"),
        (_, true) => format!("BEGIN READ WRITE; SET LOCAL statement_timeout = {time}"),
        (_, false) => format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {time}"),
    };
    client.batch_execute(&begin).await.map_err(words)?;
    let statement = client.prepare(query.text).await.map_err(words)?;
    if statement.params().len() != query.bind.len() {
        return Err(format!(
            "the query has {} parameters, {} values are bound",
            statement.params().len(),
            query.bind.len()
        ));
    }
    let bound: Vec<Bound> = query.bind.iter().map(Bound).collect();
    let params: Vec<&(dyn ToSql + Sync)> = bound.iter().map(|b| b as &(dyn ToSql + Sync)).collect();
    let answer = if statement.columns().is_empty() {
        (
            vec![],
            client.execute(&statement, &params).await.map_err(words)?,
        )
    } else {
        let rows = client.query(&statement, &params).await.map_err(words)?;
        let count = rows.len() as u64;
        (rows, count)
    };
    if !is_alone {
        client.batch_execute("COMMIT").await.map_err(words)?;
    }
    Ok(answer)
}

fn judge(rows: Vec<Row>, affected: u64, query: &Query<'_>) -> ActionResult {
    let count = rows.len();
    let (rows, is_cut) = match values::rows(&rows) {
        Ok(rows) => rows,
        Err(why) => return ActionResult::failed(Value::Null, why),
    };
    let result = json!({
        "rows": rows, "row_count": count, "affected": affected, "cut": is_cut,
    });
    let note = if is_cut {
        format!(" (cut to {MAX_ROWS} rows, {MAX_RESULT_BYTES} bytes)")
    } else {
        String::new()
    };
    match query.expect_rows {
        Some(wanted) if wanted != count as u64 => ActionResult {
            status: StepStatus::Failed,
            result,
            message: format!("{count} rows came back, {wanted} are expected"),
        },
        _ => ActionResult::success(result, format!("{affected} rows{note}")),
    }
}
