//! The PostgreSQL sensor on a real server: what it counts, and what it says when all connection
//! slots are taken and when the server is gone.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod cluster;

use cluster::Cluster;
use hale_model::{EventSource, Level, ServiceName, Timestamp};
use hale_telemetry::Span;
use hale_telemetry::config::{PostgresConfig, Secret};
use hale_telemetry::consumers::ConsumersQuery;
use hale_telemetry::sensors::postgres::Postgres;
use hale_telemetry::sensors::{Evidence, Found, top};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

fn sensor(cluster: &Cluster, user: &str, evidence: &Arc<Evidence>) -> Postgres {
    let config = PostgresConfig {
        url: Some(Secret::new(cluster.url(user))),
        ..PostgresConfig::default()
    };
    Postgres::new(config, Arc::clone(evidence))
}

async fn read(sensor: &mut Postgres) -> Found {
    sensor.read(Timestamp::from_secs(1)).await
}

fn value(found: &Found, name: &str) -> Option<f64> {
    let series = format!("database.{name}");
    found
        .samples
        .iter()
        .find(|s| s.series.to_string() == series)
        .map(|s| s.value)
}

async fn client(cluster: &Cluster, user: &str) -> Result<Client, tokio_postgres::Error> {
    let url = format!("{}?application_name=leaky", cluster.url(user));
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Connects until the server refuses.
async fn leak(cluster: &Cluster, user: &str) -> Vec<Client> {
    let mut open = Vec::new();
    while let Ok(client) = client(cluster, user).await {
        open.push(client);
        assert!(open.len() < 500, "the server never refuses");
    }
    open
}

/// Reads until a value is as it should be: the server notices ended sessions a little later.
async fn read_until(sensor: &mut Postgres, name: &str, fine: impl Fn(f64) -> bool) -> Found {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = read(sensor).await;
        if value(&found, name).is_some_and(&fine) {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{name} is {:?}",
            value(&found, name)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn sessions_locks_and_counters_of_a_real_server_are_told() {
    let Some(cluster) = Cluster::start("sessions_locks_and_counters", "-c max_connections=20")
    else {
        return;
    };
    let evidence = Arc::new(Evidence::default());
    let mut sensor = sensor(&cluster, "postgres", &evidence);
    let idle = client(&cluster, "postgres").await.unwrap();
    let holder = client(&cluster, "postgres").await.unwrap();
    idle.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    holder
        .batch_execute("BEGIN; UPDATE t SET n = 2")
        .await
        .unwrap();
    let waiter = client(&cluster, "postgres").await.unwrap();
    let waiting = tokio::spawn(async move { waiter.batch_execute("UPDATE t SET n = 3").await });

    let found = read_until(&mut sensor, "waiting_locks", |n| n == 1.0).await;
    for (name, want) in [
        ("up", 1.0),
        ("connections_refused", 0.0),
        ("connections_max", 17.0),
        ("connections_total", 4.0),
        ("connections_active", 1.0),
        ("connections_idle", 1.0),
        ("connections_idle_in_transaction", 1.0),
        ("connections_utilization", 4.0 / 17.0),
        ("replicas", 0.0),
        ("deadlocks", 0.0),
        ("archiver_failures", 0.0),
    ] {
        assert_eq!(value(&found, name), Some(want), "{name}");
    }
    assert!(value(&found, "longest_transaction_seconds").unwrap() > 0.0);
    assert!(value(&found, "wal_size_bytes").unwrap() >= f64::from(16 << 20));
    assert!(value(&found, "cache_hit_ratio").unwrap() > 0.1);
    assert!(found.events.is_empty());
    assert!(
        found
            .samples
            .iter()
            .all(|s| s.service == ServiceName::new("postgresql").ok())
    );

    holder.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    let ask = |resource: &str| ConsumersQuery {
        resource: resource.into(),
        within: None,
        service: ServiceName::new("postgresql").ok(),
        limit: 1,
    };
    let holders = top::answer(Arc::clone(&evidence), ask("connections")).await;
    assert_eq!(holders[0].name, "leaky");
    let disk = top::answer(evidence, ask("disk")).await;
    assert!(
        disk[0].text.starts_with("WAL files 16.8 MB under pg_wal"),
        "{disk:?}"
    );
}

#[tokio::test]
async fn an_open_sensor_sees_why_others_are_refused_and_that_they_no_longer_are() {
    let Some(cluster) = Cluster::start("an_open_sensor_sees_why", "-c max_connections=15") else {
        return;
    };
    let superuser = client(&cluster, "postgres").await.unwrap();
    superuser
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher",
        )
        .await
        .unwrap();
    drop(superuser);
    for watcher in ["watcher", "postgres"] {
        let mut sensor = sensor(&cluster, watcher, &Arc::default());
        assert_eq!(value(&read(&mut sensor).await, "up"), Some(1.0));
        let open = leak(&cluster, "app").await;
        let found = read_until(&mut sensor, "connections_utilization", |u| u == 1.0).await;
        assert_eq!(value(&found, "up"), Some(1.0));
        assert_eq!(value(&found, "connections_refused"), Some(1.0));
        assert_eq!(value(&found, "connections_total"), Some(12.0));
        assert_eq!(found.events.len(), 1);
        let event = &found.events[0];
        assert_eq!(
            (event.source, event.level),
            (EventSource::Sensor, Level::Critical)
        );
        if watcher == "watcher" {
            assert_eq!(
                event.message,
                "remaining connection slots are reserved for non-replication superuser connections"
            );
        } else {
            assert!(
                event.message.contains("newcomers are refused"),
                "{}",
                event.message
            );
        }
        drop(open);
        let found = read_until(&mut sensor, "connections_utilization", |u| u < 0.5).await;
        assert_eq!(
            (value(&found, "connections_refused"), found.events.len()),
            (Some(0.0), 0)
        );
    }
}

#[tokio::test]
async fn a_sensor_that_is_refused_itself_tells_the_servers_own_words() {
    let Some(cluster) = Cluster::start("a_sensor_that_is_refused", "-c max_connections=10") else {
        return;
    };
    let evidence = Arc::new(Evidence::default());
    let mut sensor = sensor(&cluster, "postgres", &evidence);
    let open = leak(&cluster, "postgres").await;
    let found = read(&mut sensor).await;
    assert_eq!(value(&found, "up"), Some(0.0));
    assert_eq!(value(&found, "connections_refused"), Some(1.0));
    assert_eq!(value(&found, "connections_utilization"), Some(1.0));
    assert_eq!(found.events[0].message, "sorry, too many clients already");
    drop(open);
    read_until(&mut sensor, "up", |up| up == 1.0).await;
}

#[tokio::test]
async fn an_ended_session_is_opened_anew_and_a_server_that_is_gone_is_told() {
    let Some(cluster) = Cluster::start("an_ended_session", "-c max_connections=10") else {
        return;
    };
    let mut sensor = sensor(&cluster, "postgres", &Arc::default());
    read(&mut sensor).await;
    let other = client(&cluster, "postgres").await.unwrap();
    other.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hale'").await.unwrap();
    let found = read(&mut sensor).await;
    assert_eq!((value(&found, "up"), found.events.len()), (Some(1.0), 0));
    cluster.stop();
    let found = read(&mut sensor).await;
    assert_eq!(value(&found, "up"), Some(0.0));
    assert_eq!(value(&found, "connections_refused"), Some(0.0));
    assert!(
        found.events[0]
            .message
            .starts_with("the database can't be reached: "),
        "{:?}",
        found.events
    );
}

#[tokio::test]
async fn archiving_that_fails_is_told() {
    let settings = "-c max_connections=10 -c archive_mode=on -c archive_command=false";
    let Some(cluster) = Cluster::start("archiving_that_fails", settings) else {
        return;
    };
    let mut sensor = sensor(&cluster, "postgres", &Arc::default());
    let other = client(&cluster, "postgres").await.unwrap();
    other.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    other.batch_execute("SELECT pg_switch_wal()").await.unwrap();
    let found = read_until(&mut sensor, "archiver_failures", |n| n >= 1.0).await;
    assert!(
        found.events[0].message.starts_with("archiving WAL fails: "),
        "{:?}",
        found.events
    );
    assert_eq!(
        found.events[0].template,
        "archiving WAL fails: <*> failures, last of file <*>"
    );
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_told_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = PostgresConfig {
        host: "127.0.0.1".into(),
        port: silent.local_addr().unwrap().port(),
        timeout: Span(Duration::from_millis(200)),
        ..PostgresConfig::default()
    };
    let mut sensor = Postgres::new(config, Arc::default());
    let began = Instant::now();
    let found = read(&mut sensor).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(
        found.events[0].message,
        "the database did not answer within 200ms"
    );
}
