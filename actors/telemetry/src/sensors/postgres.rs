//! A PostgreSQL server, seen over one connection that stays open: when others are refused, this
//! one still sees why.

mod ask;

use super::{Evidence, Found, Holders, chain, event, lock};
use crate::config::PostgresConfig;
use crate::consumers;
use ask::{Activity, Counters, Server};
use hale_model::{EventSource, Harm, Level, Sample, SeriesKey, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// Blocks read between two rounds, below which a hit ratio would be noise.
const MIN_BLOCKS: f64 = 1_000.0;
/// The most applications told of as holders of connections.
const MAX_HOLDERS: usize = 20;

/// One server.
#[derive(Debug)]
pub struct Postgres {
    config: PostgresConfig,
    origin: String,
    evidence: Arc<Evidence>,
    client: Option<Open>,
    /// What was last known, for when the server refuses.
    last_server: Server,
    last_blocks: Option<(f64, f64)>,
    hit_ratio: Option<f64>,
}

struct Open(Client);

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection")
    }
}

/// Why the server can't be read.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    /// It refuses: every connection slot is taken.
    refused: bool,
    /// In the server's own words where it answered.
    message: String,
}

impl Postgres {
    /// A sensor of the server that `config` describes. It connects when it is first read.
    pub fn new(config: PostgresConfig, evidence: Arc<Evidence>) -> Self {
        let at = format!("postgresql at {}:{}", config.host, config.port);
        let origin = config.name.clone().unwrap_or(match &config.url {
            Some(url) => crate::mask::mask(url.reveal()).into_owned(),
            None => at,
        });
        Self {
            config,
            origin,
            evidence,
            client: None,
            last_server: Server::default(),
            last_blocks: None,
            hit_ratio: None,
        }
    }

    /// Reads the server once, within the configured timeout for each of connecting and asking.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        let mut found = Found::default();
        // A connection that the server has ended meanwhile (a restart, an operator) is opened
        // again before anything is told.
        for attempt in 0..2 {
            match self.ask(at, &mut found).await {
                Ok(()) => return found,
                Err(failure) => {
                    let was_open = self.client.take().is_some();
                    if attempt == 0 && was_open && failure.message != self.too_slow() {
                        continue;
                    }
                    return self.tell_failure(at, &failure);
                }
            }
        }
        found
    }

    async fn ask(&mut self, at: Timestamp, found: &mut Found) -> Result<(), Failure> {
        let patience = self.config.timeout.0;
        let slow = self.too_slow();
        let late = || Failure {
            refused: false,
            message: slow.clone(),
        };
        let client = match self.client.take() {
            Some(Open(client)) => client,
            None => timeout(patience, connect(&self.config))
                .await
                .map_err(|_| late())??,
        };
        let asked = timeout(patience, ask::all(&client))
            .await
            .map_err(|_| late())?;
        self.client = Some(Open(client));
        let (activity, server, counters) = asked.map_err(|e| failure(&e))?;
        self.tell_connections(&activity, &server, &mut found.samples);
        self.tell_server(&server, &mut found.samples);
        self.tell_counters(&counters, at, found);
        self.remember(&activity, &server);
        if server.max > 0.0 && activity.total() >= server.max {
            self.tell_full(at, activity.total(), server.max, found)
                .await;
        }
        self.last_server = server;
        Ok(())
    }

    fn too_slow(&self) -> String {
        format!("the database did not answer within {}", self.config.timeout)
    }

    fn sample(&self, name: &str, value: f64) -> Sample {
        let series = SeriesKey::new(format!("database.{name}"));
        let sample = Sample::gauge(
            match &self.config.name {
                Some(name) => series.with("instance", name.as_str()),
                None => series,
            },
            value,
        );
        match &self.config.service {
            Some(service) => sample.of(service),
            None => sample,
        }
    }

    fn up(&self, up: bool, refused: bool) -> [Sample; 2] {
        let as_number = |b: bool| f64::from(u8::from(b));
        [
            self.sample("up", as_number(up)).up_to(1.0).harm(Harm::Low),
            self.sample("connections_refused", as_number(refused))
                .up_to(1.0)
                .harm(Harm::High),
        ]
    }

    fn tell_connections(&self, activity: &Activity, server: &Server, out: &mut Vec<Sample>) {
        let total = activity.total();
        out.extend(self.up(true, false));
        for (name, value) in [
            (
                "connections_active",
                activity.in_state(&["active", "fastpath function call"]),
            ),
            ("connections_idle", activity.in_state(&["idle"])),
            (
                "connections_idle_in_transaction",
                activity.in_state(&["idle in transaction", "idle in transaction (aborted)"]),
            ),
            ("connections_total", total),
        ] {
            out.push(self.sample(name, value).up_to(server.max).harm(Harm::High));
        }
        out.push(
            self.sample("connections_max", server.max)
                .harm(Harm::Neither),
        );
        if server.max > 0.0 {
            out.push(self.utilization(total / server.max));
        }
        out.push(
            self.sample("waiting_locks", activity.waiting)
                .harm(Harm::High),
        );
        out.push(
            self.sample("longest_transaction_seconds", activity.longest)
                .harm(Harm::High),
        );
    }

    /// Over 1 where superusers use the slots that are reserved for them.
    fn utilization(&self, value: f64) -> Sample {
        self.sample("connections_utilization", value.min(1.0))
            .up_to(1.0)
            .harm(Harm::High)
    }

    fn tell_server(&self, server: &Server, out: &mut Vec<Sample>) {
        out.push(self.sample("replicas", server.replicas).harm(Harm::Low));
        if let Some(lag) = server.lag_seconds {
            out.push(self.sample("replication_lag_seconds", lag).harm(Harm::High));
        }
        if let Some(bytes) = server.wal_bytes {
            out.push(self.sample("wal_size_bytes", bytes).harm(Harm::High));
        }
    }

    fn tell_counters(&mut self, c: &Counters, at: Timestamp, found: &mut Found) {
        let counter = |s: Sample, harm: Harm| Sample {
            kind: hale_model::SeriesKind::Counter,
            harm,
            ..s
        };
        for (name, value, harm) in [
            ("deadlocks", c.deadlocks, Harm::High),
            ("commits", c.commits, Harm::Both),
            ("rollbacks", c.rollbacks, Harm::High),
            ("temporary_bytes", c.temporary_bytes, Harm::High),
            ("archiver_failures", c.archive_failures, Harm::High),
            ("archived_wal_files", c.archived, Harm::Both),
        ] {
            found.samples.push(counter(self.sample(name, value), harm));
        }
        if let Some(ratio) = self.cache_hit_ratio(c) {
            found.samples.push(
                self.sample("cache_hit_ratio", ratio)
                    .up_to(1.0)
                    .harm(Harm::Low),
            );
        }
        if c.archiving_fails {
            let message = format!(
                "archiving WAL fails: {} failures, last of file {}",
                c.archive_failures, c.last_failed_wal
            );
            found.events.push(self.event(at, Level::Error, &message));
        }
    }

    /// Of the blocks read since the last round; of all since the server's start as long as there
    /// were too few, so that a quiet database has no noise for a ratio.
    fn cache_hit_ratio(&mut self, c: &Counters) -> Option<f64> {
        let (hit, read) = (c.blocks_hit, c.blocks_read);
        let (then_hit, then_read) = self.last_blocks.unwrap_or((0.0, 0.0));
        let (new_hit, new_read) = (hit - then_hit, read - then_read);
        let reset = new_hit < 0.0 || new_read < 0.0;
        if reset || new_hit + new_read >= MIN_BLOCKS {
            self.last_blocks = Some((hit, read));
            if !reset {
                self.hit_ratio = Some(new_hit / (new_hit + new_read));
            }
        }
        self.hit_ratio
    }

    /// Keeps who holds connections, and where the server keeps its data, for evidence.
    fn remember(&self, activity: &Activity, server: &Server) {
        let others = activity.groups.iter().filter(|g| g.state != ask::OWN);
        let holders = others.take(MAX_HOLDERS);
        let holders = holders.map(|g| consumers::of_connections(&g.application, &g.state, g.count));
        let holders = Holders {
            service: self.config.service.clone(),
            consumers: holders.collect(),
        };
        lock(&self.evidence.connections).insert(self.origin.clone(), holders);
        if let Some(directory) = &server.data_directory {
            let wal = std::path::Path::new(directory).join("pg_wal");
            lock(&self.evidence.directories)
                .entry(wal)
                .or_insert(self.config.service.clone());
        }
    }

    /// Every slot is taken: what does a newcomer hear? A superuser may still be let in; then it
    /// is told what the others hear.
    async fn tell_full(&self, at: Timestamp, total: f64, max: f64, found: &mut Found) {
        let newcomer = timeout(Duration::from_secs(1), connect(&self.config)).await;
        let message = match newcomer {
            Ok(Err(f)) if f.refused => f.message,
            _ => format!(
                "all {max} connection slots for ordinary users are taken ({total} connections): newcomers are refused"
            ),
        };
        found
            .samples
            .retain(|s| s.series.metric != "database.connections_refused");
        let [_, refused] = self.up(true, true);
        found.samples.push(refused);
        found.events.push(self.event(at, Level::Critical, &message));
    }

    fn tell_failure(&self, at: Timestamp, failure: &Failure) -> Found {
        let mut found = Found::default();
        found.samples.extend(self.up(false, failure.refused));
        if failure.refused {
            found.samples.push(self.utilization(1.0));
            if self.last_server.max > 0.0 {
                let max = self.last_server.max;
                found
                    .samples
                    .push(self.sample("connections_max", max).harm(Harm::Neither));
                found.samples.push(
                    self.sample("connections_total", max)
                        .up_to(max)
                        .harm(Harm::High),
                );
            }
        }
        found
            .events
            .push(self.event(at, Level::Critical, &failure.message));
        found
    }

    fn event(&self, at: Timestamp, level: Level, message: &str) -> hale_model::Event {
        let service = self.config.service.as_ref();
        event(
            at,
            EventSource::Sensor,
            service,
            level,
            message,
            &self.origin,
        )
    }
}

async fn connect(config: &PostgresConfig) -> Result<Client, Failure> {
    let target = target(config).map_err(|message| Failure {
        refused: false,
        message,
    })?;
    let (client, connection) = target.connect(NoTls).await.map_err(|e| failure(&e))?;
    // It ends when the client is dropped or the server closes.
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            tracing::debug!(error = %chain(&e), "a connection to PostgreSQL ended");
        }
    });
    Ok(client)
}

fn target(config: &PostgresConfig) -> Result<tokio_postgres::Config, String> {
    let mut target = match &config.url {
        Some(url) => url
            .reveal()
            .parse()
            .map_err(|e| format!("the configured url can't be read: {}", chain(&e)))?,
        None => {
            let mut target = tokio_postgres::Config::new();
            target
                .host(&config.host)
                .port(config.port)
                .user(&config.user)
                .dbname(&config.dbname);
            target
        }
    };
    if target.get_application_name().is_none() {
        target.application_name("hale");
    }
    if let Some(password) = super::password(
        config.password_env.as_deref(),
        config.password_file.as_deref(),
    )? {
        target.password(password);
    }
    target.connect_timeout(config.timeout.0);
    Ok(target)
}

fn failure(e: &tokio_postgres::Error) -> Failure {
    match e.as_db_error() {
        Some(db) => Failure {
            refused: *db.code() == SqlState::TOO_MANY_CONNECTIONS,
            message: db.message().to_owned(),
        },
        None => Failure {
            refused: false,
            message: format!("the database can't be reached: {}", chain(e)),
        },
    }
}
