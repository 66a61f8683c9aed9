//! The Redis sensor on a real server.

use hale_model::Timestamp;
use hale_telemetry::config::RedisConfig;
use hale_telemetry::sensors::Found;
use hale_telemetry::sensors::redis::Redis;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn value(found: &Found, name: &str) -> Option<f64> {
    let series = format!("redis.{name}{{instance=\"cache\"}}");
    found
        .samples
        .iter()
        .find(|s| s.series.to_string() == series)
        .map(|s| s.value)
}

#[tokio::test]
async fn memory_and_clients_of_a_real_server_are_told_and_its_end_too() {
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ])
        .args(["--requirepass", "opensesame", "--maxmemory", "100mb"])
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .spawn();
    let Ok(mut server) = server else {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: memory_and_clients_of_a_real_server: redis-server is not installed"
        );
        return;
    };
    let password_file = directory.path().join("password");
    std::fs::write(&password_file, "opensesame\n").unwrap();
    let config = RedisConfig {
        name: Some("cache".into()),
        address: format!("127.0.0.1:{port}"),
        password_file: Some(password_file),
        ..RedisConfig::default()
    };
    let mut redis = Redis::new(config.clone());
    let deadline = Instant::now() + Duration::from_secs(20);
    let found = loop {
        let found = redis.read(Timestamp::from_secs(1)).await;
        if value(&found, "up") == Some(1.0) {
            break found;
        }
        assert!(Instant::now() < deadline, "{:?}", found.events);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(
        value(&found, "max_memory_bytes"),
        Some(100.0 * 1024.0 * 1024.0)
    );
    assert!(value(&found, "used_memory_bytes") > Some(100_000.0));
    assert_eq!(value(&found, "connected_clients"), Some(1.0));
    assert_eq!(value(&found, "evicted_keys"), Some(0.0));

    let mut stranger = Redis::new(RedisConfig {
        password_file: None,
        ..config
    });
    let refused = stranger.read(Timestamp::from_secs(1)).await;
    assert!(
        refused.events[0].message.contains("NOAUTH"),
        "{:?}",
        refused.events
    );

    server.kill().unwrap();
    server.wait().unwrap();
    let found = redis.read(Timestamp::from_secs(2)).await;
    assert_eq!(value(&found, "up"), Some(0.0));
    assert!(found.events[0].message.starts_with("redis can't be read: "));
}
