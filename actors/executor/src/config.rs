//! How the executor is configured. Every field has a default.

use hale_model::ServiceName;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The section `executor` of a node's configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutorConfig {
    /// How long a lease runs unless it is renewed: `30s`. A run renews it at a third of that.
    #[serde(deserialize_with = "span")]
    pub lease_ttl: Duration,
    /// How long a run waits for a lease that another holds, before it is escalated.
    #[serde(deserialize_with = "span")]
    pub queue_wait: Duration,
    /// How long a run that lost its lease, or was found after a restart, tries to have it again.
    #[serde(deserialize_with = "span")]
    pub regain_wait: Duration,
    /// How long a human has to answer.
    #[serde(deserialize_with = "span")]
    pub approval_ttl: Duration,
    /// How many runs there are at a time, on scopes that don't conflict.
    pub max_runs: usize,
    /// How many more may wait for their turn.
    pub max_waiting: usize,
    /// The databases that `sql_query` may name.
    pub databases: BTreeMap<String, DatabaseConfig>,
    /// Facts of the host's services that playbooks read as `service.…`: `log_path`, `unit`,
    /// `health_url`, `pid_file`, `command`, `port`.
    pub services: BTreeMap<ServiceName, BTreeMap<String, Value>>,
    /// Directories whose files are never touched, besides those of the system: the node's own.
    pub protected: Vec<PathBuf>,
}

/// A database that playbooks may query.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user@host:port/dbname`, without the password.
    pub url: String,
    /// The name of the secret that holds the password.
    #[serde(default)]
    pub password_secret: Option<String>,
    /// The service it is: a query without a database goes to the incident's.
    #[serde(default)]
    pub service: Option<ServiceName>,
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(30),
            queue_wait: Duration::from_secs(60),
            regain_wait: Duration::from_secs(60),
            approval_ttl: Duration::from_secs(30 * 60),
            max_runs: 4,
            max_waiting: 32,
            databases: BTreeMap::new(),
            services: BTreeMap::new(),
            protected: Vec::new(),
        }
    }
}

/// `250ms`, `30s`, `5m`, `2h`.
fn span<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    parse_span(&text).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "`{text}` is not a duration; write it like 30s, 5m, 2h"
        ))
    })
}

pub(crate) fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(ms_per_unit)
        .map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_with_its_unit() {
        assert_eq!(parse_span("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_span("2h"), Some(Duration::from_secs(7200)));
        for bad in [
            "",
            "30",
            "s",
            "-1s",
            "1.5s",
            "99999999999999999999h",
            "18446744073709551615d",
        ] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }
}
