//! Builders shared by the stories: rounds of observations, and a small library.

#![allow(dead_code, reason = "each test file uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use hale_decision::catalogue::Entry;
use hale_model::{
    Anomaly, BaselineStats, Consumer, Direction, Event, EventSource, Harm, Level, Observed,
    PlaybookName, Reading, Route, SeriesKey, ServiceName, Severity, Timestamp,
};
use hale_playbooks::SeriesPattern;

pub(crate) fn start() -> Timestamp {
    "2026-02-12T11:26:00Z".parse().unwrap()
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

pub(crate) fn anomaly(
    series: &str,
    of: Option<&str>,
    value: f64,
    expected: f64,
    sigma: f64,
) -> Anomaly {
    Anomaly {
        reading: Reading {
            series: SeriesKey::parse(series).unwrap(),
            service: of.map(service),
            at: start(),
            value,
            baseline: BaselineStats {
                mean: expected,
                expected,
                spread: ((value - expected) / sigma).abs(),
                samples: 20_000,
                age_seconds: 7 * 86_400,
                ..BaselineStats::default()
            },
            sigma,
            tail_probability: 1e-6,
            trend_per_hour: 0.0,
            seconds_to_limit: None,
            bounds: None,
            harm: Harm::Both,
        },
        severity: Severity::of_sigma(sigma).unwrap(),
        confidence: (sigma.abs() / 5.0).min(1.0),
        since: start(),
    }
}

pub(crate) fn event(source: EventSource, of: Option<&str>, level: Level, message: &str) -> Event {
    Event {
        at: start(),
        source,
        service: of.map(service),
        level,
        template: message.to_owned(),
        message: message.to_owned(),
        count: 3,
        origin: match source {
            EventSource::Log => "/var/log/app.log",
            EventSource::Health => "health",
            EventSource::Kernel => "kernel",
            _ => "sensor",
        }
        .to_owned(),
    }
}

/// A round `second` seconds after the start.
pub(crate) fn round(second: i64, anomalies: Vec<Anomaly>, events: Vec<Event>) -> Observed {
    let at = Timestamp::from_millis(start().as_millis() + second * 1000);
    let events = events.into_iter().map(|e| Event { at, ..e }).collect();
    Observed {
        at,
        host: "prod-db-01.internal".parse().unwrap(),
        anomalies,
        cleared: vec![],
        events,
        snapshot: serde_json::json!({"environment": "production", "tags": {"role": "primary"}}),
    }
}

pub(crate) fn consumer(resource: &str, text: &str) -> Consumer {
    Consumer {
        resource: resource.into(),
        name: text.into(),
        amount: 8.3e9,
        unit: "bytes".into(),
        text: text.into(),
    }
}

pub(crate) fn exhausted_pool() -> (Vec<Anomaly>, Vec<Event>) {
    let of = Some("postgresql");
    (
        vec![
            anomaly("database.connections_utilization", of, 0.98, 0.423, 6.63),
            anomaly("database.connections_idle", of, 89.0, 12.0, 9.0),
        ],
        vec![
            event(
                EventSource::Log,
                of,
                Level::Critical,
                "FATAL:  sorry, too many clients already",
            ),
            event(
                EventSource::Log,
                of,
                Level::Critical,
                "FATAL:  remaining connection slots are reserved for non-replication superuser connections",
            ),
        ],
    )
}

pub(crate) fn unhealthy_service() -> (Vec<Anomaly>, Vec<Event>) {
    let of = Some("checkout");
    (
        vec![anomaly(
            "health.up{check=\"checkout\"}",
            of,
            0.0,
            1.0,
            -20.0,
        )],
        vec![event(
            EventSource::Health,
            of,
            Level::Error,
            "health check checkout failed: connection refused",
        )],
    )
}

pub(crate) fn runaway_log() -> (Vec<Anomaly>, Vec<Consumer>) {
    (
        vec![anomaly(
            "system.disk_usage_percent{mount=\"/var\"}",
            None,
            94.8,
            72.3,
            9.7,
        )],
        vec![consumer("disk", "log files 38.5 GB under /var/log/app")],
    )
}

pub(crate) fn cpu_spike() -> Vec<Anomaly> {
    vec![
        anomaly("system.cpu_percent", None, 99.0, 31.0, 8.0),
        anomaly("system.load_average_1m", None, 14.0, 1.2, 7.0),
    ]
}

struct Sketch {
    name: &'static str,
    services: &'static [&'static str],
    series: &'static [(&'static str, Option<Direction>)],
    logs: &'static [&'static str],
    description: &'static str,
}

const UP: Option<Direction> = Some(Direction::Above);
const DOWN: Option<Direction> = Some(Direction::Below);

const SKETCHES: &[Sketch] = &[
    Sketch {
        name: "postgres_connection_pool_reset",
        services: &["postgresql"],
        series: &[
            ("database.connections_utilization", UP),
            ("database.connections_idle", UP),
        ],
        logs: &[
            "remaining connection slots are reserved",
            "too many clients already",
        ],
        description: "The PostgreSQL connection pool is exhausted by idle or leaked client sessions: connections are close to max_connections and new clients are refused with too many clients or remaining connection slots are reserved. Ends sessions that have been idle for longer than an hour, then checks that a new connection and a write succeed.",
    },
    Sketch {
        name: "postgres_connection_pool_scale",
        services: &["postgresql"],
        series: &[
            ("database.connections_active", UP),
            ("database.connections_utilization", UP),
        ],
        logs: &[],
        description: "PostgreSQL connections are nearly all active because of genuine load, so ending idle sessions would not help; clients wait in the pooler queue. Raises the pool size.",
    },
    Sketch {
        name: "postgres_idle_in_transaction_kill",
        services: &["postgresql"],
        series: &[
            ("database.connections_idle_in_transaction", UP),
            ("database.longest_transaction_seconds", UP),
        ],
        logs: &["idle.in.transaction"],
        description: "PostgreSQL sessions stay idle in transaction, hold locks and keep vacuum from removing dead rows. Ends transactions that have been idle for too long.",
    },
    Sketch {
        name: "postgres_wal_archival_recovery",
        services: &["postgresql"],
        series: &[
            ("database.wal_size_bytes", UP),
            ("database.archiver_failures", UP),
            ("system.disk_usage_percent", UP),
        ],
        logs: &[
            "archive command failed",
            "archiving write-ahead log file .* failed",
        ],
        description: "WAL segment files pile up in pg_wal and the database volume fills because archive_command keeps failing. Repairs the archive destination, retries archiving and lets PostgreSQL recycle the segments.",
    },
    Sketch {
        name: "disk_log_cleanup",
        services: &[],
        series: &[("system.disk_usage_percent", UP), ("disk.*", UP)],
        logs: &["no space left on device"],
        description: "A filesystem on a host is almost full because log files grow. Compresses old logs and cuts runaway log files until usage is below the target.",
    },
    Sketch {
        name: "tmp_cleanup",
        services: &[],
        series: &[
            ("system.disk_usage_percent", UP),
            ("system.disk_inodes_percent", UP),
        ],
        logs: &[],
        description: "The filesystem of /tmp or /var/tmp fills with old temporary files. Deletes temporary files that nobody has used for days.",
    },
    Sketch {
        name: "service_restart",
        services: &[],
        series: &[("health.up", DOWN)],
        logs: &["health check .* failed"],
        description: "A service is unhealthy: its process hangs or is gone and its health check fails. Restarts the service and waits until the health check passes again.",
    },
    Sketch {
        name: "nginx_reload",
        services: &["nginx"],
        series: &[("nginx.*", None)],
        logs: &["upstream timed out", "no live upstreams"],
        description: "nginx serves errors or stale workers after a configuration or upstream change. Tests the configuration and reloads nginx without dropping connections.",
    },
    Sketch {
        name: "redis_memory_purge",
        services: &["redis"],
        series: &[("redis.used_memory*", UP)],
        logs: &["OOM command not allowed"],
        description: "Redis memory usage is close to maxmemory or fragmentation is high and writes fail with OOM command not allowed. Purges the allocator and expires stale keys.",
    },
    Sketch {
        name: "runaway_process_limit",
        services: &[],
        series: &[
            ("system.cpu_percent", UP),
            ("system.load_average_1m", UP),
            ("process.cpu_percent", UP),
        ],
        logs: &[],
        description: "CPU usage or load average of a host stays high because a process runs away. Identifies the top consumer and lowers its priority.",
    },
    Sketch {
        name: "zombie_reaper",
        services: &[],
        series: &[("process.zombies", UP)],
        logs: &["fork: retry: resource temporarily unavailable"],
        description: "Many zombie processes accumulate and the process table comes close to its limit. Signals the parent process to reap its children.",
    },
];

/// A library of playbooks as the search sees them.
pub(crate) fn library() -> Vec<Entry> {
    let entry = |s: &Sketch| Entry {
        name: PlaybookName::new(s.name).unwrap(),
        version: "1.0.0".into(),
        description: s.description.into(),
        tags: vec![],
        services: s.services.iter().map(|s| (*s).to_owned()).collect(),
        aliases: if s.name.starts_with("postgres") {
            vec!["cockroachdb".into()]
        } else {
            vec![]
        },
        not_when: vec!["certificate".into()],
        series: s
            .series
            .iter()
            .map(|(m, d)| SeriesPattern {
                metric: (*m).into(),
                direction: *d,
            })
            .collect(),
        logs: s
            .logs
            .iter()
            .map(|l| {
                regex::RegexBuilder::new(l)
                    .case_insensitive(true)
                    .build()
                    .unwrap()
            })
            .collect(),
        idempotent: true,
        max_route: Route::Execute,
        has_probes: false,
        is_person: false,
    };
    SKETCHES.iter().map(entry).collect()
}
