//! The sources of a host's telemetry, one file a source. This folder does the I/O; what is read
//! is parsed and folded by the pure modules beside it.

pub mod checks;
pub mod directories;
pub mod health;
pub mod kernel;
pub mod logs;
pub mod mounts;
pub mod postgres;
pub mod process;
mod program;
pub mod redis;
pub mod statsd;
pub mod system;
pub mod top;
pub mod units;
pub mod walk;

use crate::limits::Drops;
use crate::{mask, template};
use hale_model::{Consumer, Event, EventSource, Level, Sample, ServiceName, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// What one source found in one round.
#[derive(Debug, Default)]
pub struct Found {
    /// The values.
    pub samples: Vec<Sample>,
    /// What happened since the last round.
    pub events: Vec<Event>,
    /// Jobs that have started since the last round, by name.
    pub jobs: BTreeSet<String>,
    /// Values for the snapshot that are no series, by their path.
    pub extra: Vec<(&'static str, Value)>,
    /// What was dropped.
    pub drops: Drops,
}

/// A source.
#[derive(Debug)]
pub enum Source {
    /// CPU, memory, load, pressure, disks, network.
    System(Box<system::System>),
    /// Processes.
    Process(process::Processes),
    /// A PostgreSQL server.
    Postgres(Box<postgres::Postgres>),
    /// A Redis server.
    Redis(redis::Redis),
    /// Metrics received over UDP.
    Statsd(statsd::Statsd),
    /// Log files.
    Logs(logs::Logs),
    /// Health checks.
    Health(health::Health),
    /// The operator's own checks.
    Checks(checks::Checks),
    /// The units of systemd.
    Units(units::Units),
    /// The kernel's messages.
    Kernel(kernel::Kernel),
    /// The sizes of directories.
    Directories(directories::Directories),
}

impl Source {
    /// Its name, for messages and counts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::System(_) => "system",
            Self::Process(_) => "process",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
            Self::Statsd(_) => "statsd",
            Self::Logs(_) => "logs",
            Self::Health(_) => "health",
            Self::Checks(_) => "checks",
            Self::Units(_) => "systemd",
            Self::Kernel(_) => "kernel",
            Self::Directories(_) => "directories",
        }
    }

    /// Whether it tells of events that should not wait for a long interval to end.
    pub fn is_quick(&self) -> bool {
        matches!(
            self,
            Self::Logs(_) | Self::Health(_) | Self::Kernel(_) | Self::Checks(_) | Self::Units(_)
        )
    }

    /// Reads it once. It may take long; it bounds its own waits where it can.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        match self {
            Self::System(s) => Box::pin(s.read(at)).await,
            Self::Process(s) => s.read().await,
            Self::Postgres(s) => Box::pin(s.read(at)).await,
            Self::Redis(s) => Box::pin(s.read(at)).await,
            Self::Statsd(s) => s.read(at).await,
            Self::Logs(s) => s.read(at).await,
            Self::Health(s) => Box::pin(s.read(at)).await,
            Self::Checks(s) => Box::pin(s.read(at)).await,
            Self::Units(s) => Box::pin(s.read(at)).await,
            Self::Kernel(s) => s.read(at).await,
            Self::Directories(s) => s.read().await,
        }
    }

    /// Says that what the last read found was handed on: it need not be read again after a
    /// restart.
    pub async fn commit(&mut self) {
        if let Self::Logs(logs) = self {
            logs.commit().await;
        }
    }
}

/// What sources know that explains trouble, kept for [`top::answer`].
#[derive(Debug, Default)]
pub struct Evidence {
    /// The processes that use the most CPU.
    pub cpu: Mutex<Vec<Consumer>>,
    /// The processes that hold the most memory.
    pub memory: Mutex<Vec<Consumer>>,
    /// Who holds connections, by server.
    pub connections: Mutex<BTreeMap<String, Holders>>,
    /// Directories that are known to grow: configured ones, and the data of databases.
    pub directories: Mutex<BTreeMap<PathBuf, Option<ServiceName>>>,
}

/// Who holds the connections of one database server.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    /// The service that the server is.
    pub service: Option<ServiceName>,
    /// Its clients, those with the most connections first.
    pub consumers: Vec<Consumer>,
}

/// Locks; a panic elsewhere does not make what is behind the lock useless.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `read` where it may block. `None` if it panicked or the runtime ends.
pub(crate) async fn blocking<T, R>(
    state: &Arc<Mutex<T>>,
    read: impl FnOnce(&mut T) -> R + Send + 'static,
) -> Option<R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let state = Arc::clone(state);
    tokio::task::spawn_blocking(move || read(&mut lock(&state)))
        .await
        .inspect_err(|e| tracing::error!(error = %e, "a sensor's read ended early"))
        .ok()
}

/// The wall clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// An event with its secrets masked and its template made.
pub(crate) fn event(
    at: Timestamp,
    source: EventSource,
    service: Option<&ServiceName>,
    level: Level,
    message: &str,
    origin: &str,
) -> Event {
    let mut message = mask::mask(message).into_owned();
    template::truncate(&mut message, crate::fold::MAX_MESSAGE_BYTES);
    Event {
        at,
        source,
        service: service.cloned(),
        level,
        template: template::template(&message),
        message,
        count: 1,
        origin: origin.to_owned(),
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// A password from an environment variable or a file, read anew at each connection so that a
/// rotated one is found.
pub(crate) fn password(
    env: Option<&str>,
    file: Option<&std::path::Path>,
) -> Result<Option<String>, String> {
    if let Some(name) = env {
        return std::env::var(name)
            .map(Some)
            .map_err(|_| format!("the environment variable {name} with the password is not set"));
    }
    let Some(path) = file else { return Ok(None) };
    std::fs::read_to_string(path)
        .map(|text| Some(text.trim_end_matches(['\n', '\r']).to_owned()))
        .map_err(|e| format!("the password file {} can't be read: {e}", path.display()))
}
