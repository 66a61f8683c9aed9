//! Recorded history through the binary: a folder, and a real Prometheus server.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Scratch, free_port, hale, skipped, wait_until};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const START: i64 = 1_770_000_000;
const DAY: i64 = 86_400;
const STEP: i64 = 60;
/// A disk at 60 % that jumps to 90 % after eight days.
const JUMP: i64 = START + 8 * DAY;

fn rows() -> impl Iterator<Item = (i64, f64)> {
    (START..START + 9 * DAY).step_by(STEP as usize).map(|t| {
        let ripple = 0.3 * ((t / STEP) as f64 / 7.0).sin();
        (t, if t < JUMP { 60.0 + ripple } else { 90.0 })
    })
}

fn backtest(args: &[&str]) -> Value {
    let told = hale(&[&["--json", "backtest"], args].concat()).succeeded();
    serde_json::from_str(&told.stdout).unwrap()
}

/// One incident, when the disk jumped, and nothing before.
#[track_caller]
fn told_once(report: &Value) {
    let incidents = report["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1, "{report}");
    assert_eq!(incidents[0]["host"], "db-01");
    assert_eq!(incidents[0]["severity"], "critical");
    let opened = incidents[0]["opened_at"].as_str().unwrap();
    assert!(opened.starts_with("2026-02-10T02:4"), "{opened}");
    assert_eq!(report["counts"]["alerts"]["critical"], 1);
    // Nine days, of which seven are only learned from; one call of 20 minutes, or a question of 3.
    let minutes = match incidents[0]["outcome"].as_str() {
        Some("escalated") => 20.0,
        Some("asked") => 3.0,
        _ => 0.0,
    };
    let told = report["counts"]["minutes_per_host_week"].as_f64().unwrap();
    assert!((told - minutes * 3.5).abs() < 0.1, "{told} of {minutes}");
}

#[test]
fn a_folder_tells_what_would_have_been_seen_decided_and_done() {
    let scratch = Scratch::new();
    let dir = scratch.path("history");
    fs::create_dir_all(dir.join("db-01")).unwrap();
    let mut text = "timestamp,value\n".to_owned();
    for (t, x) in rows() {
        writeln!(text, "{t},{x}").unwrap();
    }
    fs::write(dir.join("db-01/disk.csv"), text).unwrap();
    let about = r#"{"db-01/disk.csv": {"series": "system.disk_usage_percent{mount=\"/\"}",
        "min": 0, "max": 100, "harm": "high"}}"#;
    fs::write(dir.join("series.json"), about).unwrap();
    let report = backtest(&[dir.to_str().unwrap()]);
    told_once(&report);
    let incident = &report["incidents"][0];
    assert!(incident["playbook"].is_string(), "{incident}");
    assert!(
        incident["title"]
            .as_str()
            .unwrap()
            .contains("disk_usage_percent")
    );
    let picture = scratch.path("disk.svg");
    let csv = dir.join("db-01/disk.csv");
    hale(&[
        "baseline",
        "plot",
        csv.to_str().unwrap(),
        picture.to_str().unwrap(),
    ])
    .succeeded();
    assert!(fs::read_to_string(picture).unwrap().contains("<circle"));
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn prometheus(dir: &Path, port: u16) -> Server {
    let mut text = "# TYPE node_disk_percent gauge\n".to_owned();
    for (t, x) in rows() {
        writeln!(
            text,
            "node_disk_percent{{instance=\"db-01:9100\",job=\"node\"}} {x:.3} {t}"
        )
        .unwrap();
    }
    text.push_str("# EOF\n");
    fs::write(dir.join("rows"), text).unwrap();
    let made = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([dir.join("rows"), dir.join("data")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::write(dir.join("config.yml"), "global: {}\n").unwrap();
    let server = Command::new("prometheus")
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.join("data").display()
        ))
        .arg("--storage.tsdb.retention.time=100y")
        .arg(format!(
            "--config.file={}",
            dir.join("config.yml").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Server(server)
}

#[test]
fn a_prometheus_server_is_asked_for_its_history() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return skipped(
            "a_prometheus_server_is_asked_for_its_history",
            "prometheus is not installed",
        );
    }
    let scratch = Scratch::new();
    let port = free_port();
    let _server = prometheus(scratch.dir(), port);
    let url = format!("http://127.0.0.1:{port}");
    let asked = [
        "--prometheus",
        &url,
        "--query",
        "node_disk_percent",
        "--from",
        "2026-02-02T02:40:00Z",
        "--until",
        "2026-02-11T02:40:00Z",
        "--step",
        "60",
    ];
    // While it starts it may answer with nothing yet.
    wait_until(
        "Prometheus knows the series",
        Duration::from_secs(60),
        || hale(&[&["backtest"], asked.as_slice()].concat()).code == Some(0),
    );
    let report = backtest(&asked);
    told_once(&report);
    let mut wrong = asked;
    wrong[3] = "node_disk_percent{";
    let refused = hale(&[&["backtest"], wrong.as_slice()].concat());
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("parse error"), "{refused}");
}
