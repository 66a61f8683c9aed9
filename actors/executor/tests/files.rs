//! Files and logs, with real ones.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use hale_executor::{ActionResult, ExecutorConfig};
use hale_model::StepStatus;
use hale_playbooks::language::{Action, FileOperation};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};
use support::*;

fn file(path: impl AsRef<Path>, operation: FileOperation) -> Action {
    Action::File {
        path: text(&path.as_ref().display().to_string()),
        operation,
        older_than: None,
        min_bytes: None,
        limit: 10,
    }
}

async fn done(path: impl AsRef<Path>, operation: FileOperation) -> ActionResult {
    act(&tools(ExecutorConfig::default()), file(path, operation)).await
}

fn age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(then)
        .unwrap();
}

#[tokio::test]
async fn a_log_is_cut_in_place_to_its_last_whole_lines_while_its_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut writer = fs::File::options()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap();
    for n in 0..10_000 {
        writeln!(writer, "line {n}").unwrap();
    }
    let before = fs::metadata(&path).unwrap().len();
    let r = done(&path, FileOperation::Truncate { keep_bytes: 100 }).await;
    assert_eq!(r.status, StepStatus::Success, "{r:?}");
    writeln!(writer, "after").unwrap();
    let content = fs::read_to_string(&path).unwrap();
    assert!(
        content.starts_with("line 99") && content.ends_with("line 9999\nafter\n"),
        "{content}"
    );
    let left = fs::metadata(&path).unwrap().len() - 6;
    assert!(left <= 100);
    assert_eq!(number(&r, "freed_bytes"), before - left);
}

#[tokio::test]
async fn only_old_and_large_files_that_match_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["old.log", "new.log", "old.txt", "small.log"] {
        fs::write(
            at(name),
            if name == "small.log" {
                "x".into()
            } else {
                "x".repeat(2000)
            },
        )
        .unwrap();
    }
    for name in ["old.log", "old.txt", "small.log"] {
        age(&at(name), 7200);
    }
    let action = Action::File {
        path: text(&at("*.log").display().to_string()),
        operation: FileOperation::Delete,
        older_than: Some(Duration::from_secs(3600)),
        min_bytes: Some(1000),
        limit: 10,
    };
    let r = act(&tools(ExecutorConfig::default()), action).await;
    assert_eq!(
        (r.status, number(&r, "count"), number(&r, "freed_bytes")),
        (StepStatus::Success, 1, 2000),
        "{r:?}"
    );
    assert!(!at("old.log").exists());
    assert!(
        ["new.log", "old.txt", "small.log"]
            .iter()
            .all(|n| at(n).exists())
    );
}

#[tokio::test]
async fn more_files_than_the_limit_are_all_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..11 {
        fs::write(dir.path().join(format!("{n}.tmp")), "x").unwrap();
    }
    let r = done(dir.path().join("*.tmp"), FileOperation::Delete).await;
    assert_eq!(r.status, StepStatus::Failed);
    assert!(r.message.contains("11 files match"), "{}", r.message);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 11);
}

#[tokio::test]
async fn links_are_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let precious = outside.path().join("precious.log");
    fs::write(&precious, "keep me").unwrap();
    symlink(&precious, dir.path().join("link.log")).unwrap();
    symlink(outside.path(), dir.path().join("sub")).unwrap();
    for pattern in ["*.log", "**/*.log", "sub/*.log", "link.log"] {
        for operation in [
            FileOperation::Delete,
            FileOperation::Truncate { keep_bytes: 0 },
            FileOperation::Compress,
        ] {
            // A directory that the host's operators linked may be named; what is found in it is
            // then there and not elsewhere.
            if pattern == "sub/*.log" {
                continue;
            }
            let r = done(dir.path().join(pattern), operation).await;
            assert_eq!(number(&r, "count"), 0, "{pattern}: {r:?}");
        }
    }
    fs::hard_link(&precious, dir.path().join("hard.log")).unwrap();
    let r = done(
        dir.path().join("hard.log"),
        FileOperation::Truncate { keep_bytes: 0 },
    )
    .await;
    assert_eq!(r.status, StepStatus::Failed, "{r:?}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "keep me");
}

#[tokio::test]
async fn the_system_the_node_and_paths_that_climb_are_refused() {
    let own = tempfile::tempdir().unwrap();
    fs::write(own.path().join("raft.log"), "x").unwrap();
    let via = tempfile::tempdir().unwrap();
    symlink("/etc", via.path().join("e")).unwrap();
    let config = ExecutorConfig {
        protected: vec![own.path().into()],
        ..ExecutorConfig::default()
    };
    let tools = tools(config);
    let paths = [
        "/etc/passwd".to_owned(),
        "/*".into(),
        "/usr/bin/*".into(),
        "/tmp/../etc/*".into(),
        "relative/*".into(),
        "/".into(),
        format!("{}/*", own.path().display()),
        // Through a link that leads there.
        format!("{}/e/hostname", via.path().display()),
    ];
    for path in paths {
        let r = act(&tools, file(&path, FileOperation::Delete)).await;
        assert_eq!(r.status, StepStatus::Failed, "{path}: {r:?}");
        assert!(!r.message.is_empty());
    }
    assert!(own.path().join("raft.log").exists());
    // The walk goes around the node's own directory too.
    let above = own.path().parent().unwrap().join("*/raft.log");
    let r = act(&tools, file(&above, FileOperation::Stat)).await;
    assert_eq!(number(&r, "count"), 0, "{r:?}");
}

#[tokio::test]
async fn files_are_compressed_and_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let content = "the same line again and again\n".repeat(5000);
    fs::write(&path, &content).unwrap();
    let r = done(dir.path().join("*.log"), FileOperation::Compress).await;
    assert_eq!(r.status, StepStatus::Success, "{r:?}");
    assert!(!path.exists() && number(&r, "freed_bytes") > 100_000);
    let out = Command::new("gzip")
        .arg("-dc")
        .arg(dir.path().join("app.log.gz"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap(), content);
    // One that is there already is not overwritten.
    fs::write(&path, "new").unwrap();
    let r = done(&path, FileOperation::Compress).await;
    assert_eq!(r.status, StepStatus::Failed);
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
}

#[tokio::test]
async fn a_look_tells_sizes_and_the_room_that_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let r = done(dir.path().join("nothing"), FileOperation::Stat).await;
    assert_eq!(r.result["exists"], false);
    assert!(number(&r, "free_bytes") > 0 && r.result["used_percent"].as_f64().unwrap() > 0.0);
    fs::write(dir.path().join("a"), "12345").unwrap();
    let r = done(dir.path().join("a"), FileOperation::Stat).await;
    assert_eq!((number(&r, "count"), number(&r, "size_bytes")), (1, 5));
    let r = done("/no/such/directory/x", FileOperation::Stat).await;
    assert_eq!(
        (r.status, &r.result["exists"]),
        (StepStatus::Success, &false.into())
    );
}

#[tokio::test]
async fn only_lines_written_since_the_run_began_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    fs::write(&path, "ERROR old\nERROR older\n").unwrap();
    let tools = tools(ExecutorConfig::default());
    let context = context();
    context.offsets.lock().unwrap().remember(&path);
    let check = |min_count, max_count| Action::LogCheck {
        path: Some(text(&path.display().to_string())),
        pattern: "error".into(),
        max_count,
        min_count,
    };
    let r = act_in(&tools, &context, check(0, 0), env()).await;
    assert_eq!(r.status, StepStatus::Success, "{r:?}");
    let mut log = fs::File::options().append(true).open(&path).unwrap();
    log.write_all(b"ERROR new\nfine\n\xff\xfe error in bad bytes\n")
        .unwrap();
    log.write_all(&[b'x'; 2_000_000]).unwrap();
    let r = act_in(&tools, &context, check(0, 0), env()).await;
    assert_eq!(
        (r.status, number(&r, "count")),
        (StepStatus::Failed, 2),
        "{}",
        r.message
    );
    let r = act_in(&tools, &context, check(2, 5), env()).await;
    assert_eq!(r.status, StepStatus::Success);
    // Rotated: all that is in the new one is new.
    fs::rename(&path, dir.path().join("app.log.1")).unwrap();
    fs::write(&path, "ERROR after rotation\n").unwrap();
    let r = act_in(&tools, &context, check(0, 0), env()).await;
    assert_eq!(number(&r, "count"), 1);
    let mut text = String::new();
    fs::File::open(&path)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(r.message.contains(text.trim()), "{}", r.message);
}
