//! Real log files: rotated, truncated, restarted upon, and full of what no log should hold.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use hale_model::{Level, ServiceName, Timestamp};
use hale_telemetry::config::{LimitsConfig, LogConfig};
use hale_telemetry::sensors::Found;
use hale_telemetry::sensors::logs::Logs;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

struct Host {
    directory: tempfile::TempDir,
    logs: Logs,
}

impl Host {
    fn new(pattern: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let logs = follow(directory.path(), pattern, LimitsConfig::default());
        Self { directory, logs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &[u8]) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(text).unwrap();
    }

    /// Reads, and says that what was found was handed on. The messages with their counts.
    async fn read(&mut self) -> Vec<(String, u64)> {
        let found = self.logs.read(Timestamp::from_secs(1)).await;
        self.logs.commit().await;
        messages(&found)
    }

    /// The node goes down without a word and comes up again.
    fn restart(&mut self, pattern: &str) {
        self.logs = follow(self.directory.path(), pattern, LimitsConfig::default());
    }
}

fn follow(directory: &Path, pattern: &str, limits: LimitsConfig) -> Logs {
    let config = LogConfig {
        path: directory.join(pattern).to_string_lossy().into_owned(),
        service: ServiceName::new("shop").ok(),
        min_level: Level::Warning,
        from_beginning: false,
    };
    Logs::new(vec![config], limits, Some(directory.join("positions.json")))
}

fn messages(found: &Found) -> Vec<(String, u64)> {
    let mut all: Vec<_> = found
        .events
        .iter()
        .map(|e| (e.message.clone(), e.count))
        .collect();
    all.sort();
    all
}

fn said(all: &[(&str, u64)]) -> Vec<(String, u64)> {
    all.iter().map(|(m, n)| ((*m).to_owned(), *n)).collect()
}

#[tokio::test]
async fn only_what_is_written_from_now_on_is_told() {
    let mut host = Host::new("app.log");
    host.write("app.log", b"ERROR: old\nERROR: ha");
    assert_eq!(host.read().await, said(&[]));
    host.write("app.log", b"lf\nERROR: new 1\nINFO: fine\nERROR: new 2\n");
    assert_eq!(host.read().await, said(&[("half", 1), ("new 1", 2)]));
    assert_eq!(host.read().await, said(&[]));
}

#[tokio::test]
async fn nothing_is_lost_or_told_twice_when_a_log_is_rotated() {
    let mut host = Host::new("app.log*");
    host.write("app.log", b"start\n");
    host.read().await;
    host.write("app.log", b"ERROR: before the rotation\n");
    fs::rename(host.path("app.log"), host.path("app.log.1")).unwrap();
    // The writer still has the old file open for a while.
    host.write("app.log.1", b"ERROR: late to the old file\n");
    host.write("app.log", b"ERROR: first in the new file\n");
    assert_eq!(
        host.read().await,
        said(&[
            ("before the rotation", 1),
            ("first in the new file", 1),
            ("late to the old file", 1)
        ])
    );
    host.write("app.log.1", b"ERROR: later still\n");
    assert_eq!(host.read().await, said(&[("later still", 1)]));
    fs::remove_file(host.path("app.log.1")).unwrap();
    host.write("app.log", b"ERROR: and on\n");
    assert_eq!(host.read().await, said(&[("and on", 1)]));
}

#[tokio::test]
async fn a_rotation_out_of_the_pattern_is_followed_to_its_end() {
    let mut host = Host::new("app.log");
    host.write("app.log", b"start\n");
    host.read().await;
    for round in 0..30 {
        host.write("app.log", b"ERROR: old file\n");
        fs::rename(host.path("app.log"), host.path(&format!("app.{round}"))).unwrap();
        host.write("app.log", b"ERROR: new file\n");
        assert_eq!(
            host.read().await,
            said(&[("new file", 1), ("old file", 1)]),
            "{round}"
        );
    }
}

#[tokio::test]
async fn a_truncated_log_is_read_from_its_beginning() {
    let mut host = Host::new("app.log");
    host.write("app.log", &b"a long line of the past\n".repeat(100));
    host.read().await;
    fs::write(host.path("app.log"), "ERROR: short\n").unwrap();
    assert_eq!(host.read().await, said(&[("short", 1)]));
    // Truncated and already longer than before: its first bytes tell.
    fs::write(
        host.path("app.log"),
        format!("ERROR: longer\n{}", "x\n".repeat(5_000)),
    )
    .unwrap();
    assert_eq!(host.read().await, said(&[("longer", 1)]));
}

#[tokio::test]
async fn a_restarted_node_goes_on_where_it_was() {
    let mut host = Host::new("app.log");
    host.write("app.log", b"start\n");
    host.read().await;
    host.write("app.log", b"ERROR: one\nERROR: in the mid");
    assert_eq!(host.read().await, said(&[("one", 1)]));
    host.write("app.log", b"dle\nERROR: two\n");
    host.restart("app.log");
    assert_eq!(host.read().await, said(&[("in the middle", 1), ("two", 1)]));
}

#[tokio::test]
async fn lines_that_were_not_handed_on_are_told_again_after_a_crash() {
    let mut host = Host::new("app.log");
    host.write("app.log", b"start\n");
    host.read().await;
    host.write("app.log", b"ERROR: one\n");
    assert_eq!(
        messages(&host.logs.read(Timestamp::from_secs(1)).await),
        said(&[("one", 1)])
    );
    host.restart("app.log");
    assert_eq!(host.read().await, said(&[("one", 1)]));
}

#[tokio::test]
async fn a_log_rotated_while_the_node_was_down_is_read_to_its_end_and_then_its_successor() {
    let mut host = Host::new("app.log");
    host.write("app.log", b"start\nERROR: seen\n");
    host.read().await;
    host.write("app.log", b"ERROR: unseen\n");
    fs::rename(host.path("app.log"), host.path("app.log.1")).unwrap();
    host.write("app.log", b"ERROR: successor\n");
    host.restart("app.log");
    assert_eq!(host.read().await, said(&[("successor", 1), ("unseen", 1)]));
}

#[tokio::test]
async fn a_new_file_of_a_known_pattern_is_read_from_its_beginning_after_a_restart() {
    let mut host = Host::new("*.log");
    host.write("monday.log", b"start\n");
    host.read().await;
    host.write("tuesday.log", b"ERROR: new day\n");
    host.restart("*.log");
    assert_eq!(host.read().await, said(&[("new day", 1)]));
}

#[tokio::test]
async fn spoilt_positions_are_no_reason_to_fail() {
    let mut host = Host::new("app.log");
    fs::write(host.path("positions.json"), b"\xff{not json").unwrap();
    host.write("app.log", b"ERROR: old\n");
    host.restart("app.log");
    assert_eq!(host.read().await, said(&[]));
    host.write("app.log", b"ERROR: new\n");
    assert_eq!(host.read().await, said(&[("new", 1)]));
}

#[tokio::test]
async fn a_line_of_a_megabyte_and_invalid_utf8_are_told_cut_and_readable() {
    let mut host = Host::new("app.log");
    host.write("app.log", b"start\n");
    host.read().await;
    let mut text = b"ERROR: ".to_vec();
    text.extend(std::iter::repeat_n(b'x', 1 << 20));
    text.extend_from_slice(b"\nERROR: caf\xe9 is closed\n");
    host.write("app.log", &text);
    let found = host.logs.read(Timestamp::from_secs(1)).await;
    assert_eq!(found.events.len(), 2);
    assert!(
        found
            .events
            .iter()
            .all(|e| e.message.len() <= 1024 && e.template.len() <= 300)
    );
    assert!(
        found
            .events
            .iter()
            .any(|e| e.message == "caf\u{fffd} is closed")
    );
    assert_eq!(found.drops.by_reason().get("log_line_cut"), Some(&1));
}

#[tokio::test]
async fn a_log_that_runs_away_is_skipped_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    fs::write(&path, "start\n").unwrap();
    let limits = LimitsConfig {
        read_bytes: 64 << 10,
        backlog_bytes: 1 << 20,
        ..LimitsConfig::default()
    };
    let mut logs = follow(directory.path(), "app.log", limits);
    logs.read(Timestamp::from_secs(1)).await;
    let flood = b"ERROR: the same again\n".repeat(100_000);
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(&flood)
        .unwrap();
    let found = logs.read(Timestamp::from_secs(2)).await;
    assert_eq!(found.drops.by_reason().get("log_backlog"), Some(&1));
    assert!(found.events[0].count > 1_000 && found.events[0].count < 4_000);
}

#[tokio::test]
async fn files_over_the_limit_and_what_is_no_file_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    for i in 0..5 {
        fs::write(directory.path().join(format!("{i}.log")), "x\n").unwrap();
    }
    // A FIFO would block whoever opens it.
    let made = std::process::Command::new("mkfifo")
        .arg(directory.path().join("0.pipe.log"))
        .status();
    assert!(made.is_ok_and(|s| s.success()));
    let limits = LimitsConfig {
        files: 3,
        ..LimitsConfig::default()
    };
    let mut logs = follow(directory.path(), "*.log", limits);
    let found = logs.read(Timestamp::from_secs(1)).await;
    let files = found
        .samples
        .iter()
        .filter(|s| s.series.metric == "log.lines")
        .count();
    assert_eq!(files, 3);
}
