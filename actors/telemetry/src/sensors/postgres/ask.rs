//! What a PostgreSQL server is asked, and its answers.
//!
//! The simple query protocol: one round trip each, and it works through a pooler too.

use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow};

/// The state that stands for our own session.
pub(super) const OWN: &str = "own";

/// Our own session is told apart, so that watching a quiet server does not make it active.
const ACTIVITY: &str = "
SELECT coalesce(application_name, '') AS application,
       CASE WHEN pid = pg_backend_pid() THEN 'own' ELSE coalesce(state, '') END AS state,
       count(*) AS sessions,
       coalesce(max(extract(epoch FROM clock_timestamp() - xact_start))
                FILTER (WHERE pid <> pg_backend_pid()), 0) AS longest,
       count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting
  FROM pg_stat_activity
 WHERE backend_type = 'client backend'
 GROUP BY 1, 2 ORDER BY 3 DESC, 1";

/// A standby that has replayed all it received does not lag, however long ago that was.
const SERVER: &str = "
SELECT current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true), '0')::int AS max,
       (SELECT count(*) FROM pg_stat_replication) AS replicas,
       CASE WHEN NOT pg_is_in_recovery() THEN
              (SELECT max(coalesce(extract(epoch FROM replay_lag), 0)) FROM pg_stat_replication)
            WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())
       END AS lag";

const COUNTERS: &str = "
SELECT sum(blks_hit) AS hit, sum(blks_read) AS read, sum(deadlocks) AS deadlocks,
       sum(xact_commit) AS commits, sum(xact_rollback) AS rollbacks, sum(temp_bytes) AS temporary,
       (SELECT archived_count FROM pg_stat_archiver) AS archived,
       (SELECT failed_count FROM pg_stat_archiver) AS failed,
       (SELECT coalesce(last_failed_wal, '') FROM pg_stat_archiver) AS failed_wal,
       (SELECT (last_failed_time > coalesce(last_archived_time, '-infinity'))::int
          FROM pg_stat_archiver) AS failing
  FROM pg_stat_database";

/// These need `pg_monitor`; a user without it still gets all the rest.
const WAL: &str = "SELECT coalesce(sum(size), 0) AS bytes FROM pg_ls_waldir()";
const DATA_DIRECTORY: &str = "SELECT current_setting('data_directory') AS path";

/// Sessions of one application in one state.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) application: String,
    pub(super) state: String,
    pub(super) count: f64,
}

#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Largest first.
    pub(super) groups: Vec<Group>,
    pub(super) waiting: f64,
    pub(super) longest: f64,
}

impl Activity {
    /// All sessions that take a connection slot, our own too.
    pub(super) fn total(&self) -> f64 {
        self.groups.iter().map(|g| g.count).sum()
    }

    pub(super) fn in_state(&self, states: &[&str]) -> f64 {
        let of = self
            .groups
            .iter()
            .filter(|g| states.contains(&g.state.as_str()));
        of.map(|g| g.count).sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct Server {
    /// Connections that ordinary users may have.
    pub(super) max: f64,
    pub(super) replicas: f64,
    pub(super) lag_seconds: Option<f64>,
    pub(super) wal_bytes: Option<f64>,
    pub(super) data_directory: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) blocks_hit: f64,
    pub(super) blocks_read: f64,
    pub(super) deadlocks: f64,
    pub(super) commits: f64,
    pub(super) rollbacks: f64,
    pub(super) temporary_bytes: f64,
    pub(super) archived: f64,
    pub(super) archive_failures: f64,
    pub(super) last_failed_wal: String,
    pub(super) archiving_fails: bool,
}

pub(super) async fn all(client: &Client) -> Result<(Activity, Server, Counters), Error> {
    let activity = activity(&rows(client, ACTIVITY).await?);
    let mut server = server(&rows(client, SERVER).await?);
    let counters = counters(&rows(client, COUNTERS).await?);
    if let Ok(rows) = rows(client, WAL).await {
        server.wal_bytes = rows.first().and_then(|row| number(row, "bytes"));
    }
    if let Ok(rows) = rows(client, DATA_DIRECTORY).await {
        server.data_directory = rows.first().map(|row| text(row, "path"));
    }
    Ok((activity, server, counters))
}

async fn rows(client: &Client, query: &str) -> Result<Vec<SimpleQueryRow>, Error> {
    let messages = client.simple_query(query).await?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

fn activity(rows: &[SimpleQueryRow]) -> Activity {
    let zero = |row: &SimpleQueryRow, name: &str| number(row, name).unwrap_or(0.0);
    Activity {
        waiting: rows.iter().map(|r| zero(r, "waiting")).sum(),
        longest: rows.iter().map(|r| zero(r, "longest")).fold(0.0, f64::max),
        groups: rows
            .iter()
            .map(|row| Group {
                application: text(row, "application"),
                state: text(row, "state"),
                count: zero(row, "sessions"),
            })
            .collect(),
    }
}

fn server(rows: &[SimpleQueryRow]) -> Server {
    let Some(row) = rows.first() else {
        return Server::default();
    };
    Server {
        max: number(row, "max").unwrap_or(0.0),
        replicas: number(row, "replicas").unwrap_or(0.0),
        lag_seconds: number(row, "lag").map(|lag| lag.max(0.0)),
        wal_bytes: None,
        data_directory: None,
    }
}

fn counters(rows: &[SimpleQueryRow]) -> Counters {
    let Some(row) = rows.first() else {
        return Counters::default();
    };
    let n = |name: &str| number(row, name).unwrap_or(0.0);
    Counters {
        blocks_hit: n("hit"),
        blocks_read: n("read"),
        deadlocks: n("deadlocks"),
        commits: n("commits"),
        rollbacks: n("rollbacks"),
        temporary_bytes: n("temporary"),
        archived: n("archived"),
        archive_failures: n("failed"),
        last_failed_wal: text(row, "failed_wal"),
        archiving_fails: n("failing") > 0.0,
    }
}

fn text(row: &SimpleQueryRow, name: &str) -> String {
    row.try_get(name)
        .ok()
        .flatten()
        .unwrap_or_default()
        .to_owned()
}

fn number(row: &SimpleQueryRow, name: &str) -> Option<f64> {
    row.try_get(name).ok().flatten()?.parse().ok()
}
