//! A node that is killed with SIGKILL, again and again, while it writes: nothing that it
//! acknowledged may be gone, and the chain must verify.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use hale_model::Fence;
use hale_model::chain::Entry;
use hale_model::ledger::{Answer, Command};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use support::*;

const CHILD: &str = "HALE_KILL_TEST_DIR";
const KILLS: usize = 12;

/// The child: not a test of its own, it runs only when the parent gave it a directory.
#[tokio::test]
async fn child_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else {
        return;
    };
    let node = node(Path::new(&dir)).await;
    let mut out = std::io::stdout().lock();
    for n in node.read_stale(|l| l.tip().entries).. {
        let run = format!("exe_{n}");
        let granted = node
            .propose(Command::Acquire(acquire(0, &run, &run)))
            .await
            .unwrap();
        let Answer::Granted { fence, .. } = granted else {
            panic!("{granted:?}")
        };
        writeln!(out, "\ngranted {fence} {run}").unwrap();
        let record = written(&node, close(0, fence, &run)).await;
        writeln!(out, "\nclosed {fence} {}", record.hash).unwrap();
        out.flush().unwrap();
    }
}

fn spawn(dir: &Path) -> Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["child_writes_until_it_is_killed", "--exact", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a child acknowledged until it was killed after `lines` of it.
fn kill_after(child: &mut Child, lines: usize, acknowledged: &mut Vec<String>) {
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut heard = 0;
    for line in out.lines().map_while(Result::ok) {
        if line.starts_with("granted") || line.starts_with("closed") {
            acknowledged.push(line);
            heard += 1;
            if heard == lines {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(
        heard >= lines,
        "the child ended by itself after {heard} lines"
    );
}

/// Checks that what was acknowledged is there, as it was acknowledged; gives the grants.
fn is_there(acknowledged: &[String], chain: &[Entry]) -> usize {
    let on_chain: BTreeMap<(u64, &str), _> = chain
        .iter()
        .map(|e| ((e.fence.0, e.kind.as_str()), e.hash()))
        .collect();
    let (mut last, mut granted) = (Fence(0), 0);
    for line in acknowledged {
        let words: Vec<_> = line.split(' ').collect();
        let fence: u64 = words[1].parse().unwrap();
        if words[0] == "granted" {
            assert!(Fence(fence) > last, "fences rise: {line}");
            assert!(on_chain.contains_key(&(fence, "intent")), "lost: {line}");
            (last, granted) = (Fence(fence), granted + 1);
        } else {
            let hash = on_chain[&(fence, "record")].to_string();
            assert_eq!(hash, words[2], "lost: {line}");
        }
    }
    granted
}

#[tokio::test]
async fn nothing_is_acknowledged_when_the_disk_fails_to_sync() {
    for nth in [30, 61, 100] {
        let dir = tempfile::tempdir().unwrap();
        let inject = format!("inject=fdatasync:error=EIO:when={nth}");
        let child = std::process::Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=fdatasync",
                "-e",
                &inject,
            ])
            .arg(std::env::current_exe().unwrap())
            .args(["child_writes_until_it_is_killed", "--exact", "--nocapture"])
            .env(CHILD, dir.path())
            .stderr(Stdio::null())
            .output();
        let Ok(child) = child else {
            eprintln!("SKIPPED: strace is not installed; it makes the disk fail");
            return;
        };
        assert!(!child.status.success(), "the failed write is told");
        let out = String::from_utf8(child.stdout).unwrap();
        let is_line = |l: &&str| l.starts_with("granted") || l.starts_with("closed");
        let acknowledged: Vec<_> = out.lines().filter(is_line).map(str::to_owned).collect();
        let node = node(dir.path()).await;
        let granted = is_there(&acknowledged, &node.entries(0..u64::MAX).unwrap());
        assert!(granted > 5, "{granted}");
        node.stop().await;
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = vec![];
    for round in 0..KILLS {
        // Odd numbers end between a grant and its close, large ones cross a checkpoint.
        kill_after(&mut spawn(dir.path()), 1 + round * 13, &mut acknowledged);
    }
    let node = node(dir.path()).await;
    let entries = node.entries(0..u64::MAX).unwrap();
    let granted = is_there(&acknowledged, &entries);
    let open = node.read(|l| l.leases().count()).await.unwrap();
    assert!(
        open <= KILLS && granted > 300,
        "{open} open, {granted} granted"
    );
    tokio::time::timeout(Duration::from_secs(5), node.stop())
        .await
        .unwrap();
    let bodies = verified(&chain(dir.path()));
    assert_eq!(bodies.len(), entries.len());
}
