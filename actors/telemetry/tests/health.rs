//! Health checks against real sockets and processes.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use hale_model::{EventSource, Timestamp};
use hale_telemetry::config::HealthConfig;
use hale_telemetry::sensors::Found;
use hale_telemetry::sensors::health::Health;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

fn health(json: &str) -> Health {
    let configs: Vec<HealthConfig> = serde_json::from_str(json).unwrap();
    Health::new(&configs).unwrap()
}

async fn read(health: &mut Health) -> Found {
    health.read(Timestamp::from_secs(1)).await
}

fn up(found: &Found, check: &str) -> Option<f64> {
    let series = format!("health.up{{check=\"{check}\"}}");
    found
        .samples
        .iter()
        .find(|s| s.series.to_string() == series)
        .map(|s| s.value)
}

/// Answers each connection with the next of `answers`, then ends.
fn server(answers: Vec<&'static [u8]>) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let n = stream.read(&mut request).unwrap();
            assert!(request[..n].starts_with(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
            stream.write_all(answer).unwrap();
        }
    };
    (port, std::thread::spawn(serve))
}

#[tokio::test]
async fn an_http_check_judges_the_status_and_tells_after_two_failures() {
    let (port, server) = server(vec![
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
        b"garbage\r\n",
    ]);
    let mut health = health(&format!(
        r#"[{{"service": "shop", "http": "http://127.0.0.1:{port}/healthz"}}]"#
    ));
    let found = read(&mut health).await;
    assert_eq!(
        (up(&found, "shop-http"), found.events.len()),
        (Some(1.0), 0)
    );
    let found = read(&mut health).await;
    assert_eq!(
        (up(&found, "shop-http"), found.events.len()),
        (Some(0.0), 0)
    );
    let found = read(&mut health).await;
    assert_eq!(found.events.len(), 1);
    let event = &found.events[0];
    assert_eq!(
        event.message,
        "health check shop-http of shop fails: it does not answer in HTTP"
    );
    assert_eq!(
        (event.source, event.service.as_ref().unwrap().as_str()),
        (EventSource::Health, "shop")
    );
    server.join().unwrap();
    let found = read(&mut health).await;
    assert!(found.events[0].message.ends_with("connection refused"));
}

#[tokio::test]
async fn a_service_that_accepts_and_never_answers_is_down_and_holds_up_no_other_check() {
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = hung.local_addr().unwrap().port();
    let mut health = health(&format!(
        r#"[{{"service": "hung", "http": "http://127.0.0.1:{port}/", "timeout": "200ms", "failures": 1}},
            {{"service": "fine", "tcp": "127.0.0.1:{port}"}}]"#
    ));
    let found = read(&mut health).await;
    assert_eq!(
        (up(&found, "hung-http"), up(&found, "fine-tcp")),
        (Some(0.0), Some(1.0))
    );
    assert_eq!(
        found.events[0].message,
        "health check hung-http of hung fails: no answer within 200ms"
    );
}

#[tokio::test]
async fn sockets_and_processes_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let _listener = UnixListener::bind(at("sock")).unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    std::fs::write(at("live.pid"), format!("{}\n", child.id())).unwrap();
    std::fs::write(at("bad.pid"), "nonsense").unwrap();
    let mut health = health(&format!(
        r#"[{{"service": "a", "unix": "{0}/sock"}},
            {{"service": "b", "pid_file": "{0}/live.pid", "failures": 1}},
            {{"service": "c", "pid_file": "{0}/bad.pid", "failures": 1}},
            {{"service": "d", "pid_file": "{0}/none.pid", "failures": 1}}]"#,
        directory.path().display()
    ));
    let found = read(&mut health).await;
    assert_eq!(
        ["a-unix", "b-pid", "c-pid", "d-pid"].map(|c| up(&found, c)),
        [Some(1.0), Some(1.0), Some(0.0), Some(0.0)]
    );
    child.kill().unwrap();
    // Dead and not yet waited for: a zombie.
    let why = |found: &Found| {
        found
            .events
            .iter()
            .find(|e| e.origin == "b-pid")
            .map(|e| e.message.clone())
    };
    let mut tries = 0;
    let message = loop {
        if let Some(message) = why(&read(&mut health).await) {
            break message;
        }
        tries += 1;
        assert!(tries < 1_000, "a killed process is still alive");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert!(message.ends_with("its process is a zombie"), "{message}");
    child.wait().unwrap();
    let message = why(&read(&mut health).await).unwrap();
    assert!(message.ends_with("its process is gone"), "{message}");
}
