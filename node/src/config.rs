//! A node's configuration: one TOML file, every field with a default, unknown fields refused.

use crate::logging::LogFormat;
use hale_baseline::BaselineConfig;
use hale_decision::autonomy::{Autonomy, Rule};
use hale_executor::config::{DatabaseConfig, ExecutorConfig};
use hale_model::ledger::MAX_SERVICES;
use hale_model::{HostName, ServiceName};
use hale_telemetry::config::{
    DirectoryConfig, HealthConfig, LogConfig, ServiceConfig, TelemetryConfig,
};
use hale_telemetry::span::Span;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Who the node is and where it answers.
    pub(crate) node: NodeConfig,
    /// How it takes part in a cluster.
    pub(crate) cluster: ClusterConfig,
    /// What is watched.
    pub(crate) telemetry: TelemetryConfig,
    /// What is normal.
    pub(crate) baseline: BaselineConfig,
    /// When to act alone, when to ask.
    pub(crate) decision: DecisionConfig,
    /// How to act: leases, approvals, how many runs at a time.
    pub(crate) executor: ExecutorConfig,
    /// What is known of each service of the host: facts for playbooks, and what to watch.
    pub(crate) services: BTreeMap<String, BTreeMap<String, Value>>,
    /// Further playbooks and their parameters.
    pub(crate) playbooks: PlaybooksConfig,
    /// Secrets that playbooks name: where each is found on this host.
    pub(crate) secrets: BTreeMap<String, SecretSource>,
    /// Who is told.
    pub(crate) notify: NotifyConfig,
}

/// Who the node is and where it answers.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeConfig {
    /// The host's name; the machine's own if unset.
    pub(crate) host: Option<HostName>,
    /// `production`, `staging`, …
    pub(crate) environment: String,
    /// Tags of the host.
    pub(crate) tags: BTreeMap<String, String>,
    /// Where the node keeps its state.
    pub(crate) data_dir: Option<PathBuf>,
    /// Where it answers HTTP.
    pub(crate) listen: SocketAddr,
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub(crate) log_level: String,
    /// `text` or `json`.
    pub(crate) log_format: LogFormat,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            host: None,
            environment: "default".into(),
            tags: BTreeMap::new(),
            data_dir: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 7117)),
            log_level: "info".into(),
            log_format: LogFormat::Text,
        }
    }
}

/// How a node takes part in a cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClusterConfig {
    /// Where it listens for the other nodes, on UDP.
    pub(crate) bind: Option<SocketAddr>,
    /// Where the others reach it, if that is not where it listens.
    pub(crate) advertise: Option<SocketAddr>,
    /// Members that are asked when the node knows nobody, `HOST:PORT`.
    pub(crate) seeds: Vec<String>,
    /// The file that holds the token with which the node joins.
    pub(crate) token_file: Option<PathBuf>,
    /// The host's failure domain: a rack, an availability zone. Voters are spread over them.
    pub(crate) zone: Option<String>,
    /// How many nodes vote at most: 3 or 5.
    pub(crate) voters: usize,
    /// How long a node that joins tries to reach a seed.
    pub(crate) join_timeout: Span,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            bind: None,
            advertise: None,
            seeds: Vec::new(),
            token_file: None,
            zone: None,
            voters: 5,
            join_timeout: Span::secs(60),
        }
    }
}

/// When to act alone, when to ask.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DecisionConfig {
    /// From this confidence on Hale acts alone.
    pub(crate) execute_at: f64,
    /// From this confidence on it asks a human.
    pub(crate) ask_at: f64,
    /// How long a series has to be known before a deviation alone lets anything run unattended.
    pub(crate) learn_first: Span,
    /// When playbooks earn and lose the right to run alone.
    pub(crate) autonomy: Autonomy,
    /// What holds for some playbooks, services or environments.
    pub(crate) rules: Vec<Rule>,
}

impl Default for DecisionConfig {
    fn default() -> Self {
        Self {
            execute_at: 0.90,
            ask_at: 0.70,
            learn_first: Span::secs(600),
            autonomy: Autonomy::default(),
            rules: Vec::new(),
        }
    }
}

impl DecisionConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let are_sound = |execute_at: f64, ask_at: f64| {
            (0.0..=1.0).contains(&ask_at) && (ask_at..=1.0).contains(&execute_at)
        };
        let thresholds = "0 <= ask_at <= execute_at <= 1 must hold, e.g. 0.70 and 0.90";
        if !are_sound(self.execute_at, self.ask_at) {
            return Err(field("decision", thresholds));
        }
        for (n, rule) in self.rules.iter().enumerate() {
            let at = format!("decision.rules[{n}]");
            let says = rule.level.is_some() || rule.execute_at.is_some() || rule.ask_at.is_some();
            if !says {
                let why = "it says nothing; add `level`, `execute_at` or `ask_at`";
                return Err(field(&at, why));
            }
            let execute_at = rule.execute_at.unwrap_or(1.0);
            let ask_at = rule.ask_at.unwrap_or(execute_at.min(self.ask_at));
            if !are_sound(execute_at, ask_at) {
                return Err(field(&at, thresholds));
            }
        }
        if !(0.0..=1.0).contains(&self.autonomy.demote_below) {
            let why = "write a share from 0 to 1, e.g. 0.8";
            return Err(field("decision.autonomy.demote_below", why));
        }
        Ok(())
    }
}

/// Further playbooks and their parameters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PlaybooksConfig {
    /// Further playbooks, `*.yaml` in it and below; one of the same name replaces the built-in.
    pub(crate) directory: Option<PathBuf>,
    /// Built-in playbooks that are not to be used.
    pub(crate) disabled: Vec<String>,
    /// Parameters by playbook: `[playbooks.params.postgres_connection_pool_reset]`.
    pub(crate) params: BTreeMap<String, BTreeMap<String, Value>>,
}

/// Where a secret is found on this host: exactly one of the two.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretSource {
    /// The environment variable that holds it.
    pub(crate) env: Option<String>,
    /// The file that holds it.
    pub(crate) file: Option<PathBuf>,
}

/// Who is told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NotifyConfig {
    /// A Slack-compatible webhook.
    pub(crate) webhook_url: Option<String>,
    /// The environment variable that holds its URL, which is a secret.
    pub(crate) webhook_url_env: Option<String>,
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read.
    #[error("the configuration {path} can't be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be; the parser says where.
    #[error(
        "the configuration {path} is not valid; `hale node --help` shows a short one, deploy/hale.toml every field"
    )]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A field makes no sense.
    #[error("in the configuration, {field}: {why}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong, and what to write instead.
        why: String,
    },
    /// What is to be watched makes no sense.
    #[error("in the configuration, section `telemetry`")]
    Telemetry(#[source] hale_telemetry::Error),
    /// What is normal makes no sense.
    #[error("in the configuration, section `baseline`")]
    Baseline(#[source] hale_baseline::BaselineError),
}

impl ClusterConfig {
    /// Whether it makes sense by itself.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if ![3, 5].contains(&self.voters) {
            return Err(field("cluster.voters", "write 3 or 5"));
        }
        if self.zone.as_ref().is_some_and(|z| z.len() > 64) {
            return Err(field("cluster.zone", "it may have at most 64 bytes"));
        }
        if self.advertise.is_some_and(|a| a.ip().is_unspecified()) {
            let why =
                "write the address under which the others reach this host, like 10.0.0.5:7118";
            return Err(field("cluster.advertise", why));
        }
        for seed in &self.seeds {
            let port = seed
                .rsplit_once(':')
                .and_then(|(_, p)| p.parse::<u16>().ok());
            if port.is_none_or(|p| p == 0) {
                let why = format!("`{seed}` is not HOST:PORT, like db-1.internal:7118");
                return Err(field("cluster.seeds", why));
            }
        }
        Ok(())
    }
}

fn field(field: impl Into<String>, why: impl Into<String>) -> ConfigError {
    ConfigError::Field {
        field: field.into(),
        why: why.into(),
    }
}

impl Config {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Reads a file's text.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Settles what depends on the machine and on other sections, and checks the rest.
    pub(crate) fn settled(mut self, machine: &str) -> Result<Self, ConfigError> {
        let host = match self
            .node
            .host
            .clone()
            .or_else(|| self.telemetry.host.clone())
        {
            Some(host) => host,
            None => HostName::new(machine)
                .map_err(|e| field("node.host", format!("{e}; write the host's name there")))?,
        };
        self.node.host = Some(host.clone());
        self.telemetry.host = Some(host);
        self.telemetry
            .environment
            .clone_from(&self.node.environment);
        for (name, value) in &self.node.tags {
            self.telemetry
                .tags
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        self.watch_services()?;
        self.know_databases();
        self.telemetry.validate().map_err(ConfigError::Telemetry)?;
        self.baseline.check().map_err(ConfigError::Baseline)?;
        self.decision.check()?;
        if !["error", "warn", "info", "debug", "trace"].contains(&self.node.log_level.as_str()) {
            return Err(field(
                "node.log_level",
                "write error, warn, info, debug or trace",
            ));
        }
        self.cluster.check()?;
        let executor = &self.executor;
        let day = std::time::Duration::from_secs(86_400);
        let second = std::time::Duration::from_secs(1);
        if !(second..=day).contains(&executor.lease_ttl) {
            return Err(field(
                "executor.lease_ttl",
                "write between 1s and 24h, e.g. 30s",
            ));
        }
        if !(second..=day * 7).contains(&executor.approval_ttl) {
            return Err(field(
                "executor.approval_ttl",
                "write between 1s and 7d, e.g. 30m",
            ));
        }
        if executor.max_runs == 0 || executor.max_waiting == 0 {
            let why = "it and max_waiting must be at least 1; `hale freeze` stops all execution";
            return Err(field("executor.max_runs", why));
        }
        for (name, source) in &self.secrets {
            if source.env.is_some() == source.file.is_some() {
                return Err(field(
                    format!("secrets.{name}"),
                    "write either env = \"VARIABLE\" or file = \"/path\"",
                ));
            }
        }
        Ok(self)
    }

    /// The services that this host runs, as far as it is told: sorted, each once. Budgets in percent
    /// of a service's hosts count them.
    pub(crate) fn services_here(&self) -> Vec<ServiceName> {
        let told = self
            .services
            .keys()
            .filter_map(|n| ServiceName::new(n.clone()).ok());
        let t = &self.telemetry;
        let watched = t.services.iter().map(|s| s.name.clone());
        let databases = t.postgres.iter().filter_map(|p| p.service.clone());
        let caches = t.redis.iter().filter_map(|r| r.service.clone());
        let checked = t.health.iter().map(|h| h.service.clone());
        let all: BTreeSet<ServiceName> = told
            .chain(watched)
            .chain(databases)
            .chain(caches)
            .chain(checked)
            .collect();
        all.into_iter().take(MAX_SERVICES).collect()
    }

    /// What is watched as a database can be asked by playbooks, and what is known of a service is
    /// known to them.
    fn know_databases(&mut self) {
        for (n, watched) in self.telemetry.postgres.iter().enumerate() {
            let service = watched
                .service
                .as_ref()
                .map_or("postgresql", ServiceName::as_str);
            let name = watched.name.clone().unwrap_or_else(|| match n {
                0 => service.to_owned(),
                n => format!("{service}-{n}"),
            });
            let secret = format!("database.{name}");
            let source = match (&watched.password_env, &watched.password_file) {
                (None, None) => None,
                (env, file) => Some(SecretSource {
                    env: env.clone(),
                    file: file.clone(),
                }),
            };
            let url = match &watched.url {
                Some(url) => url.reveal().to_owned(),
                None => format!(
                    "host={} port={} user={} dbname={}",
                    watched.host, watched.port, watched.user, watched.dbname
                ),
            };
            self.executor
                .databases
                .entry(name)
                .or_insert(DatabaseConfig {
                    url,
                    password_secret: source.is_some().then(|| secret.clone()),
                    service: watched.service.clone(),
                });
            if let Some(source) = source {
                self.secrets.entry(secret).or_insert(source);
            }
        }
        for (name, facts) in &self.services {
            if let Ok(service) = ServiceName::new(name.clone()) {
                let known = self.executor.services.entry(service).or_default();
                for (fact, value) in facts {
                    known.entry(fact.clone()).or_insert_with(|| value.clone());
                }
            }
        }
    }

    /// What is known of a service is watched, unless it is watched already.
    fn watch_services(&mut self) -> Result<(), ConfigError> {
        for (name, facts) in &self.services {
            let at = |fact: &str| format!("services.{name}.{fact}");
            let service =
                ServiceName::new(name.clone()).map_err(|e| field(at(""), e.to_string()))?;
            let text = |fact: &str| match facts.get(fact) {
                None => Ok(None),
                Some(Value::String(s)) => Ok(Some(s.clone())),
                Some(_) => Err(field(at(fact), "it must be a text in quotes")),
            };
            for command in ["restart_command", "reload_command"] {
                let fine = |v: &Value| {
                    v.as_array()
                        .is_some_and(|a| !a.is_empty() && a.iter().all(Value::is_string))
                };
                if facts.get(command).is_some_and(|v| !fine(v)) {
                    return Err(field(
                        at(command),
                        "write a list: [\"/usr/sbin/service\", \"shop\", \"restart\"]",
                    ));
                }
            }
            let telemetry = &mut self.telemetry;
            let has_check = telemetry.health.iter().any(|h| h.service == service);
            let check = HealthConfig {
                service: service.clone(),
                name: None,
                http: text("health_url")?,
                tcp: None,
                unix: None,
                pid_file: None,
                expect_status: None,
                timeout: Span::secs(2),
                failures: 2,
            };
            match text("pid_file")? {
                _ if has_check => {}
                _ if check.http.is_some() => telemetry.health.push(check),
                Some(path) => {
                    telemetry.health.push(HealthConfig {
                        pid_file: Some(path.into()),
                        ..check
                    });
                }
                None => {}
            }
            if let Some(path) = text("log_path")?
                && !telemetry.logs.iter().any(|l| l.path == path)
            {
                telemetry.logs.push(LogConfig {
                    path,
                    service: Some(service.clone()),
                    min_level: hale_model::Level::Warning,
                    from_beginning: false,
                });
            }
            if let Some(path) = text("log_dir")?.map(PathBuf::from)
                && !telemetry.directories.iter().any(|d| d.path == path)
            {
                telemetry.directories.push(DirectoryConfig {
                    path,
                    service: Some(service.clone()),
                });
            }
            let unit = text("unit")?;
            match telemetry.services.iter_mut().find(|s| s.name == service) {
                Some(watched) => watched.unit = watched.unit.take().or(unit),
                None => telemetry.services.push(ServiceConfig {
                    name: service,
                    processes: Vec::new(),
                    unit,
                }),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("test"), text)?.settled("machine")
    }

    #[test]
    fn the_sample_is_a_configuration_with_and_without_its_comments() {
        let sample = include_str!("../../deploy/hale.toml");
        read(sample).unwrap();
        let all: String = sample
            .lines()
            .map(|l| l.strip_prefix("#! ").unwrap_or(l).to_owned() + "\n")
            .collect();
        let config = read(&all).unwrap();
        assert!(!config.telemetry.postgres.is_empty() && !config.executor.databases.is_empty());
    }

    #[test]
    fn nothing_at_all_is_a_configuration() {
        let config = read("").unwrap();
        assert_eq!(config.node.host.unwrap().as_str(), "machine");
        assert!(config.node.listen.ip().is_loopback());
    }

    #[test]
    fn what_is_known_of_a_service_is_watched() {
        let config = read(
            "[services.shop]\nhealth_url = \"http://127.0.0.1:1/\"\nlog_path = \"/var/log/shop.log\"\nlog_dir = \"/var/log/shop\"",
        )
        .unwrap();
        assert_eq!(config.telemetry.health.len(), 1);
        assert_eq!(config.telemetry.logs.len(), 1);
        assert_eq!(config.telemetry.directories.len(), 1);
    }

    #[test]
    fn a_field_that_does_not_exist_or_makes_no_sense_is_named() {
        let error = |text: &str| {
            let e = read(text).unwrap_err();
            format!(
                "{e} {}",
                std::error::Error::source(&e)
                    .map(ToString::to_string)
                    .unwrap_or_default()
            )
        };
        assert!(error("[node]\nhots = \"x\"").contains("hots"));
        assert!(error("[decision]\nask_at = 0.95").contains("ask_at"));
        assert!(error("[services.shop]\nrestart_command = \"sh -c x\"").contains("write a list"));
        assert!(error("[secrets.db]\n").contains("env"));
    }
}
