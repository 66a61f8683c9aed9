//! What a configuration must keep to besides its types; and the defaults that are no constants.

use super::{
    CheckConfig, HealthConfig, LogConfig, MIN_INTERVAL, PostgresConfig, Probe, TelemetryConfig,
};
use crate::error::Error;
use crate::span::Span;
use hale_model::Level;
use std::collections::BTreeSet;

/// The most sources of one kind.
const MAX_SOURCES: usize = 100;
/// The most tags of a host.
const MAX_TAGS: usize = 64;

pub(super) fn all(config: &TelemetryConfig) -> Result<(), Error> {
    let interval = config.interval;
    if interval < MIN_INTERVAL || interval > Span::secs(3600) {
        return Err(Error::config(
            "interval",
            format!("{interval} is out of range"),
            "a duration from \"100ms\" to \"1h\"",
        ));
    }
    if config.environment.is_empty() || config.environment.len() > 64 {
        return Err(Error::config(
            "environment",
            "it is empty or longer than 64 bytes",
            "a short name such as \"production\"",
        ));
    }
    counts(config)?;
    postgres(&config.postgres)?;
    let names = config.redis.iter().map(|r| r.name.as_deref());
    instances("redis", names)?;
    for (i, log) in config.logs.iter().enumerate() {
        log_path(i, log)?;
    }
    let mut checks = BTreeSet::new();
    for (i, health) in config.health.iter().enumerate() {
        let probe = health.probe(i)?;
        if !checks.insert(health.label(&probe)) {
            return Err(Error::config(
                format!("health[{i}].name"),
                "another check has this name",
                "a name of its own for each check of a service",
            ));
        }
    }
    let mut names = BTreeSet::new();
    for (i, check) in config.checks.iter().enumerate() {
        if !names.insert(&check.name) {
            return Err(Error::config(
                format!("checks[{i}].name"),
                "another check has this name",
                "a name of its own for each check",
            ));
        }
        own_check(i, check)?;
    }
    for (i, directory) in config.directories.iter().enumerate() {
        if !directory.path.is_absolute() {
            return Err(Error::config(
                format!("directories[{i}].path"),
                "it is relative",
                "an absolute path such as \"/var/spool\"",
            ));
        }
    }
    limits(config)
}

fn own_check(i: usize, check: &CheckConfig) -> Result<(), Error> {
    let wrong = |field: &str, why: &str, instead: &str| {
        Err(Error::config(format!("checks[{i}].{field}"), why, instead))
    };
    let program = check.argv.first().map(String::as_str).unwrap_or_default();
    if check.name.is_empty() || check.name.len() > 100 {
        return wrong(
            "name",
            "it is empty or longer than 100 bytes",
            "a short name",
        );
    }
    if !program.starts_with('/') || check.argv.iter().any(|a| a.contains('\0')) {
        return wrong(
            "argv",
            "its first is no absolute path of a program",
            "[\"/usr/lib/nagios/plugins/check_load\", \"-w\", \"5\"]",
        );
    }
    if check.interval < MIN_INTERVAL || check.interval > Span::secs(86_400) {
        return wrong("interval", "it is out of range", "a duration up to \"1d\"");
    }
    if check.timeout < MIN_INTERVAL || check.timeout > Span::secs(60) {
        return wrong("timeout", "it is out of range", "a duration up to \"1m\"");
    }
    Ok(())
}

fn counts(config: &TelemetryConfig) -> Result<(), Error> {
    for (field, n, max) in [
        ("tags", config.tags.len(), MAX_TAGS),
        ("services", config.services.len(), MAX_SOURCES),
        ("postgres", config.postgres.len(), MAX_SOURCES),
        ("redis", config.redis.len(), MAX_SOURCES),
        ("logs", config.logs.len(), MAX_SOURCES),
        ("health", config.health.len(), MAX_SOURCES),
        ("checks", config.checks.len(), MAX_SOURCES),
        ("directories", config.directories.len(), MAX_SOURCES),
    ] {
        if n > max {
            return Err(Error::config(
                field,
                format!("{n} are too many"),
                format!("at most {max}"),
            ));
        }
    }
    Ok(())
}

fn limits(config: &TelemetryConfig) -> Result<(), Error> {
    let l = &config.limits;
    for (field, value, min, max) in [
        ("series", l.series as u64, 100, 1_000_000),
        ("statsd_series", l.statsd_series as u64, 1, 100_000),
        ("templates", l.templates as u64, 10, 100_000),
        ("events", l.events as u64, 1, 10_000),
        ("line_bytes", l.line_bytes as u64, 256, 1 << 20),
        ("files", l.files as u64, 1, 5_000),
        ("read_bytes", l.read_bytes, 64 << 10, 1 << 30),
        ("backlog_bytes", l.backlog_bytes, 1 << 20, 1 << 40),
    ] {
        if value < min || value > max {
            return Err(Error::config(
                format!("limits.{field}"),
                format!("{value} is out of range"),
                format!("a number from {min} to {max}"),
            ));
        }
    }
    Ok(())
}

fn postgres(all: &[PostgresConfig]) -> Result<(), Error> {
    instances("postgres", all.iter().map(|p| p.name.as_deref()))?;
    for (i, p) in all.iter().enumerate() {
        if p.password_env.is_some() && p.password_file.is_some() {
            return Err(Error::config(
                format!("postgres[{i}]"),
                "password_env and password_file are both set",
                "one of them",
            ));
        }
        let Some(url) = &p.url else { continue };
        let url = url.reveal();
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(Error::config(
                format!("postgres[{i}].url"),
                "it is no PostgreSQL address",
                "\"postgres://user@host:5432/dbname\"",
            ));
        }
        if ["sslmode=require", "sslmode=verify"]
            .iter()
            .any(|s| url.contains(s))
        {
            return Err(Error::config(
                format!("postgres[{i}].url"),
                "TLS to PostgreSQL is not supported: a node watches the servers of its own host",
                "the server's Unix socket directory as host, or a loopback address",
            ));
        }
    }
    Ok(())
}

/// Several servers of a kind need names, or their series would be the same.
fn instances<'a>(field: &str, names: impl Iterator<Item = Option<&'a str>>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for (i, name) in names.enumerate() {
        if !seen.insert(name.unwrap_or_default()) {
            return Err(Error::config(
                format!("{field}[{i}].name"),
                "another server has this name, or none either",
                "a name of its own for each, such as name = \"orders\"",
            ));
        }
    }
    Ok(())
}

fn log_path(i: usize, log: &LogConfig) -> Result<(), Error> {
    if !log.path.starts_with('/') || log.path.contains("**") || log.path.len() > 1024 {
        return Err(Error::config(
            format!("logs[{i}].path"),
            "it is relative, holds ** or is too long",
            "an absolute path such as \"/var/log/nginx/*.log\"",
        ));
    }
    Ok(())
}

impl HealthConfig {
    /// What the check asks; `i` is its place in the list, for the error.
    ///
    /// # Errors
    /// If none or several of its targets are set, or the target makes no sense.
    pub fn probe(&self, i: usize) -> Result<Probe, Error> {
        let at = |field: &str| format!("health[{i}].{field}");
        if self.timeout > Span::secs(60)
            || self.timeout < Span(std::time::Duration::from_millis(10))
        {
            return Err(Error::config(
                at("timeout"),
                "it is out of range",
                "10ms to 60s",
            ));
        }
        match (&self.http, &self.tcp, &self.unix, &self.pid_file) {
            (Some(url), None, None, None) => http(url).ok_or_else(|| {
                Error::config(
                    at("http"),
                    "only plain http addresses can be asked",
                    "\"http://127.0.0.1:8080/healthz\", or tcp = \"host:443\" for a TLS port",
                )
            }),
            (None, Some(address), None, None) => Some(address)
                .filter(|a| has_port(a))
                .map(|a| Probe::Tcp(a.clone()))
                .ok_or_else(|| Error::config(at("tcp"), "it has no port", "\"127.0.0.1:5432\"")),
            (None, None, Some(path), None) => Ok(Probe::Unix(path.clone())),
            (None, None, None, Some(path)) => Ok(Probe::PidFile(path.clone())),
            _ => Err(Error::config(
                format!("health[{i}]"),
                "it needs exactly one target",
                "one of http, tcp, unix and pid_file",
            )),
        }
    }

    /// The check's name, as its series and events carry it.
    pub fn label(&self, probe: &Probe) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => format!("{}-{}", self.service, probe.kind()),
        }
    }
}

fn has_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn http(url: &str) -> Option<Probe> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    // What would break out of the request's first lines is no address.
    let plain = !url.bytes().any(|b| b.is_ascii_control() || b == b' ') && !host.contains('@');
    if host.is_empty() || !plain {
        return None;
    }
    let address = if has_port(host) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    Some(Probe::Http {
        address,
        host: host.to_owned(),
        path: path.to_owned(),
    })
}

pub(super) fn warning() -> Level {
    Level::Warning
}

pub(super) fn two_seconds() -> Span {
    Span::secs(2)
}

pub(super) fn five_seconds() -> Span {
    Span::secs(5)
}

pub(super) fn ten_seconds() -> Span {
    Span::secs(10)
}

pub(super) fn two() -> u32 {
    2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RedisConfig;
    use expect_test::{Expect, expect};
    use hale_model::ServiceName;

    fn check(text: &str, want: Expect) {
        let got = match serde_json::from_str::<TelemetryConfig>(text) {
            Err(e) => e.to_string(),
            Ok(config) => match config.validate() {
                Err(e) => e.to_string(),
                Ok(()) => "fine".to_owned(),
            },
        };
        want.assert_eq(&got);
    }

    #[test]
    fn an_empty_configuration_is_fine_and_has_defaults() {
        let config: TelemetryConfig = serde_json::from_str("{}").unwrap();
        config.validate().unwrap();
        assert_eq!(config.interval, Span::secs(30));
        assert_eq!(
            PostgresConfig::default().service,
            ServiceName::new("postgresql").ok()
        );
        assert_eq!(
            RedisConfig::default().service,
            ServiceName::new("redis").ok()
        );
    }

    #[test]
    fn every_error_says_what_to_write() {
        check(
            r#"{"intervall": "1s"}"#,
            expect![
                "unknown field `intervall`, expected one of `interval`, `host`, `environment`, `tags`, `services`, `postgres`, `redis`, `statsd`, `logs`, `health`, `checks`, `directories`, `systemd`, `kernel`, `limits` at line 1 column 12"
            ],
        );
        check(
            r#"{"interval": "5"}"#,
            expect![
                "`5` is not a duration; write it like 100ms, 30s, 5m, 2h or 7d at line 1 column 17"
            ],
        );
        check(
            r#"{"interval": "50ms"}"#,
            expect![[
                r#"telemetry.interval: 50ms is out of range; write a duration from "100ms" to "1h""#
            ]],
        );
        check(
            r#"{"postgres": [{}, {}]}"#,
            expect![[
                r#"telemetry.postgres[1].name: another server has this name, or none either; write a name of its own for each, such as name = "orders""#
            ]],
        );
        check(
            r#"{"postgres": [{"url": "mysql://x"}]}"#,
            expect![[
                r#"telemetry.postgres[0].url: it is no PostgreSQL address; write "postgres://user@host:5432/dbname""#
            ]],
        );
        check(
            r#"{"logs": [{"path": "var/log/x"}]}"#,
            expect![[
                r#"telemetry.logs[0].path: it is relative, holds ** or is too long; write an absolute path such as "/var/log/nginx/*.log""#
            ]],
        );
        check(
            r#"{"health": [{"service": "x"}]}"#,
            expect![
                "telemetry.health[0]: it needs exactly one target; write one of http, tcp, unix and pid_file"
            ],
        );
        check(
            r#"{"health": [{"service": "x", "http": "https://x/"}]}"#,
            expect![[
                r#"telemetry.health[0].http: only plain http addresses can be asked; write "http://127.0.0.1:8080/healthz", or tcp = "host:443" for a TLS port"#
            ]],
        );
        check(
            r#"{"health": [{"service": "x", "tcp": "a:1"}, {"service": "x", "tcp": "a:2"}]}"#,
            expect![
                "telemetry.health[1].name: another check has this name; write a name of its own for each check of a service"
            ],
        );
        check(
            r#"{"checks": [{"name": "load", "argv": ["check_load"]}]}"#,
            expect![[
                r#"telemetry.checks[0].argv: its first is no absolute path of a program; write ["/usr/lib/nagios/plugins/check_load", "-w", "5"]"#
            ]],
        );
        check(
            r#"{"checks": [{"name": "a", "argv": ["/x"]}, {"name": "a", "argv": ["/y"]}]}"#,
            expect![
                "telemetry.checks[1].name: another check has this name; write a name of its own for each check"
            ],
        );
        check(
            r#"{"limits": {"series": 1}}"#,
            expect![
                "telemetry.limits.series: 1 is out of range; write a number from 100 to 1000000"
            ],
        );
        check(
            r#"{"health": [{"service": "x", "http": "http://h/p?q"}], "postgres": [{"name": "a"}, {}], "statsd": "127.0.0.1:8125"}"#,
            expect!["fine"],
        );
    }

    #[test]
    fn a_password_in_an_address_is_never_shown() {
        let text = r#"{"postgres": [{"url": "postgres://u:hunter2@h/d"}]}"#;
        let config: TelemetryConfig = serde_json::from_str(text).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
