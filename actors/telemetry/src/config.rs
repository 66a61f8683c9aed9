//! What to watch on a host, and how often. Every field has a default; a host without any
//! configuration is still watched.

mod check;

use crate::error::Error;
use crate::span::Span;
use core::net::SocketAddr;
use hale_model::{HostName, Level, ServiceName};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The shortest interval: below it, reading /proc is most of what a host would do.
pub const MIN_INTERVAL: Span = Span(Duration::from_millis(100));

/// The section `telemetry` of a node's configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// How often the host is read, `100ms` and up.
    pub interval: Span,
    /// The host's name; the machine's own if unset.
    pub host: Option<HostName>,
    /// `production`, `staging`, …
    pub environment: String,
    /// Tags of the host: `role = "primary"`, `maintenance_mode = "false"`.
    pub tags: BTreeMap<String, String>,
    /// Services whose processes are counted and whose trouble is told as theirs.
    pub services: Vec<ServiceConfig>,
    /// PostgreSQL servers.
    pub postgres: Vec<PostgresConfig>,
    /// Redis servers.
    pub redis: Vec<RedisConfig>,
    /// Where to listen for StatsD: `127.0.0.1:8125`. Off if unset.
    pub statsd: Option<SocketAddr>,
    /// Log files to follow.
    pub logs: Vec<LogConfig>,
    /// Health checks.
    pub health: Vec<HealthConfig>,
    /// Programs that check something, as monitoring plugins do.
    pub checks: Vec<CheckConfig>,
    /// Directories whose size is watched.
    pub directories: Vec<DirectoryConfig>,
    /// Whether systemd is asked for failed units; where it runs, if unset.
    pub systemd: Option<bool>,
    /// Whether the kernel's messages are read (OOM kills, disk errors), where that is allowed.
    pub kernel: bool,
    /// How much may be told.
    pub limits: LimitsConfig,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            interval: Span::secs(30),
            host: None,
            environment: "default".to_owned(),
            tags: BTreeMap::new(),
            services: Vec::new(),
            postgres: Vec::new(),
            redis: Vec::new(),
            statsd: None,
            logs: Vec::new(),
            health: Vec::new(),
            checks: Vec::new(),
            systemd: None,
            directories: Vec::new(),
            kernel: true,
            limits: LimitsConfig::default(),
        }
    }
}

/// A service of the host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Its name.
    pub name: ServiceName,
    /// The names of its processes as the kernel knows them (at most 15 bytes): `postgres`.
    #[serde(default)]
    pub processes: Vec<String>,
    /// Its unit, where systemd runs it: `nginx.service`.
    #[serde(default)]
    pub unit: Option<String>,
}

/// A PostgreSQL server. Its user needs the role `pg_monitor` to see other users' sessions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresConfig {
    /// What to call it where there are several; becomes the label `instance`.
    pub name: Option<String>,
    /// `postgres://user@host:port/dbname`, instead of the single fields.
    pub url: Option<Secret>,
    /// A host name, an address, or the directory of a Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// The database.
    pub dbname: String,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
    /// The file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The service it is.
    pub service: Option<ServiceName>,
    /// How long it may take to answer.
    pub timeout: Span,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            name: None,
            url: None,
            host: "/var/run/postgresql".to_owned(),
            port: 5432,
            user: "postgres".to_owned(),
            dbname: "postgres".to_owned(),
            password_env: None,
            password_file: None,
            service: ServiceName::new("postgresql").ok(),
            timeout: Span::secs(3),
        }
    }
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// What to call it where there are several; becomes the label `instance`.
    pub name: Option<String>,
    /// `host:port`.
    pub address: String,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
    /// The file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The service it is.
    pub service: Option<ServiceName>,
    /// How long it may take to answer.
    pub timeout: Span,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            name: None,
            address: "127.0.0.1:6379".to_owned(),
            password_env: None,
            password_file: None,
            service: ServiceName::new("redis").ok(),
            timeout: Span::secs(2),
        }
    }
}

/// Log files to follow.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// An absolute path; its parts may hold `*`, `?` and `[…]`: `/var/log/postgresql/*.log`.
    pub path: String,
    /// The service that writes them.
    #[serde(default)]
    pub service: Option<ServiceName>,
    /// Lines below this level are counted and not told.
    #[serde(default = "check::warning")]
    pub min_level: Level,
    /// Whether to read files from their beginning when they are first seen, not their end.
    #[serde(default)]
    pub from_beginning: bool,
}

/// A health check of a service. Exactly one of `http`, `tcp`, `unix` and `pid_file` says what is
/// asked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthConfig {
    /// The service.
    pub service: ServiceName,
    /// What to call the check; `SERVICE-http`, `SERVICE-tcp`, … if unset.
    #[serde(default)]
    pub name: Option<String>,
    /// `http://host:port/path`: it must answer with the expected status.
    #[serde(default)]
    pub http: Option<String>,
    /// `host:port`: it must accept a connection.
    #[serde(default)]
    pub tcp: Option<String>,
    /// The path of a socket: it must accept a connection.
    #[serde(default)]
    pub unix: Option<PathBuf>,
    /// A file with a process id: the process must be alive and no zombie.
    #[serde(default)]
    pub pid_file: Option<PathBuf>,
    /// The status that `http` must answer with; any of 200 to 399 if unset.
    #[serde(default)]
    pub expect_status: Option<u16>,
    /// How long it may take.
    #[serde(default = "check::two_seconds")]
    pub timeout: Span,
    /// After how many failures in a row it is told.
    #[serde(default = "check::two")]
    pub failures: u32,
}

/// A program that checks something and speaks as monitoring plugins do: it exits with 0 if all is
/// well, 1 for a warning, 2 if it is critical, 3 if it can't find out; its first line is for people,
/// and what follows `|` are values.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckConfig {
    /// What to call it; becomes the label `check`.
    pub name: String,
    /// The service it is about.
    #[serde(default)]
    pub service: Option<ServiceName>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// How often it runs; not more often than the host is read.
    #[serde(default = "check::ten_seconds")]
    pub interval: Span,
    /// How long it may take.
    #[serde(default = "check::five_seconds")]
    pub timeout: Span,
}

/// A directory whose size is watched.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryConfig {
    /// Its absolute path.
    pub path: PathBuf,
    /// The service that fills it.
    #[serde(default)]
    pub service: Option<ServiceName>,
}

/// How much a host may tell.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Series in all.
    pub series: usize,
    /// Series from StatsD.
    pub statsd_series: usize,
    /// Log templates known at a time.
    pub templates: usize,
    /// Events from logs in one round.
    pub events: usize,
    /// Bytes of one log line; the rest of a longer one is cut.
    pub line_bytes: usize,
    /// Log files followed at a time.
    pub files: usize,
    /// Bytes read of one log file in one round.
    pub read_bytes: u64,
    /// Bytes a log file may be ahead; beyond it the older part is skipped and counted.
    pub backlog_bytes: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            series: 5_000,
            statsd_series: 1_000,
            templates: 1_000,
            events: 200,
            line_bytes: 16 << 10,
            files: 200,
            read_bytes: 8 << 20,
            backlog_bytes: 256 << 20,
        }
    }
}

/// A text that is not shown, since it may hold a password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(crate::mask::MASK)
    }
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// An HTTP request.
    Http {
        /// `host:port` to connect to.
        address: String,
        /// What the `Host` header says.
        host: String,
        /// The path and query.
        path: String,
    },
    /// A TCP connection.
    Tcp(String),
    /// A connection to a Unix socket.
    Unix(PathBuf),
    /// A process.
    PidFile(PathBuf),
}

impl Probe {
    /// Its kind, as a check's default name ends.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Tcp(_) => "tcp",
            Self::Unix(_) => "unix",
            Self::PidFile(_) => "pid",
        }
    }
}

impl TelemetryConfig {
    /// Checks what the types can't say.
    ///
    /// # Errors
    /// The first field that makes no sense, with what to write instead.
    pub fn validate(&self) -> Result<(), Error> {
        check::all(self)
    }
}
