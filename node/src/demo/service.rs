//! A small real service for the demo to break and heal: one process, one port, one health check.

use crate::demo::DemoError;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where the service's process id stands.
pub(super) fn pid_file(dir: &Path) -> PathBuf {
    dir.join("shop.pid")
}

/// Serves `200 ok` on loopback until it is told to end. The body of `hale demo-service run`.
pub(crate) async fn run(dir: &Path, port: u16) -> Result<(), DemoError> {
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|source| DemoError::Io {
            what: format!("listen on 127.0.0.1:{port}"),
            source,
        })?;
    write(&pid_file(dir), &std::process::id().to_string())?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(async move {
            // A client that says nothing is not waited for.
            tokio::time::timeout(Duration::from_secs(2), answer(stream))
                .await
                .ok();
        });
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 2048];
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    let response = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n";
    stream.write_all(response.as_bytes()).await
}

/// Ends the running service, whatever state it is in, starts a new one and waits until it is
/// healthy. The body of `hale demo-service restart`: what an init script would do.
pub(crate) async fn restart(dir: &Path, port: u16) -> Result<(), DemoError> {
    stop(dir);
    start(dir, port)?;
    wait_until_healthy(port, Duration::from_secs(8)).await
}

/// Starts the service in the background, in a process group of its own.
pub(super) fn start(dir: &Path, port: u16) -> Result<(), DemoError> {
    let io = |source| DemoError::Io {
        what: "start the demo's service".into(),
        source,
    };
    let program = std::env::current_exe().map_err(io)?;
    let mut command = std::process::Command::new(program);
    command
        .args(["demo-service", "run", "--port", &port.to_string(), "--dir"])
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map(drop).map_err(io)
}

/// The process that the pid file names, if it is one of ours: a pid may have been reused.
pub(super) fn pid(dir: &Path) -> Option<rustix::process::Pid> {
    let raw: i32 = fs::read_to_string(pid_file(dir))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let command = fs::read(format!("/proc/{raw}/cmdline")).ok()?;
    let ours = String::from_utf8_lossy(&command).contains("demo-service");
    rustix::process::Pid::from_raw(raw).filter(|_| ours)
}

/// Ends the service if it runs. `KILL`, since a stopped process takes no other signal.
pub(super) fn stop(dir: &Path) {
    if let Some(pid) = pid(dir) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
    fs::remove_file(pid_file(dir)).ok();
}

/// Ends the service and whatever would start it again: a playbook that broke off may have left a
/// restart behind, which knows no better than to finish.
pub(super) fn sweep(dir: &Path) {
    let ours = dir.to_string_lossy();
    let is_ours = |pid: &rustix::process::Pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&command);
        let mut args = args.split('\0').skip(1);
        args.next() == Some("demo-service") && args.any(|a| a == ours)
    };
    let all = || {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
        pids.filter_map(rustix::process::Pid::from_raw)
    };
    // The second look finds what the first had just started.
    for _ in 0..2 {
        for pid in all().filter(is_ours) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

/// Hangs the service: it keeps its port and answers nothing.
pub(super) fn hang(dir: &Path) -> Result<(), DemoError> {
    let pid =
        pid(dir).ok_or_else(|| DemoError::Failed("the demo's service is not running".into()))?;
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).map_err(|e| DemoError::Io {
        what: "stop the demo's service".into(),
        source: e.into(),
    })
}

/// Waits until the service answers.
pub(super) async fn wait_until_healthy(port: u16, at_most: Duration) -> Result<(), DemoError> {
    let deadline = tokio::time::Instant::now() + at_most;
    while tokio::time::Instant::now() < deadline {
        let asked = tokio::time::timeout(Duration::from_millis(500), is_healthy(port)).await;
        if asked.is_ok_and(|answer| answer) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(DemoError::Failed(format!(
        "the demo's service did not become healthy on port {port}"
    )))
}

async fn is_healthy(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    let mut answer = Vec::new();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n")
        .await
        .is_ok()
        && stream.read_to_end(&mut answer).await.is_ok()
        && answer.starts_with(b"HTTP/1.1 200")
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), DemoError> {
    fs::write(path, text).map_err(|source| DemoError::Io {
        what: format!("write {}", path.display()),
        source,
    })
}
