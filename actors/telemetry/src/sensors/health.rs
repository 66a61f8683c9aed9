//! Health checks of the host's services: HTTP, TCP, Unix sockets, processes.

use super::{Found, event};
use crate::config::{HealthConfig, Probe};
use crate::error::Error;
use hale_model::{EventSource, Harm, Level, Sample, SeriesKey, ServiceName, Timestamp};
use procfs::FromRead;
use procfs::process::Stat;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

/// A status line and the first headers; more is not read.
const MAX_ANSWER_BYTES: usize = 1_024;

/// Less of a difference, in seconds, is the machine and not the service.
const LATENCY_GRAIN_S: f64 = 0.005;

/// All checks of the host.
#[derive(Debug)]
pub struct Health {
    checks: Vec<Check>,
}

#[derive(Debug, Clone)]
struct Check {
    label: String,
    service: ServiceName,
    probe: Probe,
    expect_status: Option<u16>,
    timeout: Duration,
    failures_to_tell: u32,
    failures: u32,
}

impl Health {
    /// The configured checks.
    ///
    /// # Errors
    /// If a check makes no sense.
    pub fn new(configs: &[HealthConfig]) -> Result<Self, Error> {
        let check = |(i, config): (usize, &HealthConfig)| {
            let probe = config.probe(i)?;
            Ok(Check {
                label: config.label(&probe),
                service: config.service.clone(),
                probe,
                expect_status: config.expect_status,
                timeout: config.timeout.0,
                failures_to_tell: config.failures.max(1),
                failures: 0,
            })
        };
        let checks = configs
            .iter()
            .enumerate()
            .map(check)
            .collect::<Result<_, Error>>()?;
        Ok(Self { checks })
    }

    /// Runs all checks at once.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        let mut running = JoinSet::new();
        for (i, check) in self.checks.iter().enumerate() {
            let check = check.clone();
            running.spawn(async move { (i, check.run().await) });
        }
        let mut found = Found::default();
        while let Some(done) = running.join_next().await {
            if let Ok((i, (result, took))) = done
                && let Some(check) = self.checks.get_mut(i)
            {
                check.tell(at, result, took, &mut found);
            }
        }
        found.samples.sort_by(|a, b| a.series.cmp(&b.series));
        found
    }
}

impl Check {
    async fn run(&self) -> (Result<(), String>, Duration) {
        let began = Instant::now();
        let asked = tokio::time::timeout(self.timeout, ask(&self.probe, self.expect_status)).await;
        let result = match asked {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {}", crate::Span(self.timeout))),
        };
        (result, began.elapsed())
    }

    fn tell(
        &mut self,
        at: Timestamp,
        result: Result<(), String>,
        took: Duration,
        found: &mut Found,
    ) {
        let series = |name: &str| SeriesKey::new(name).with("check", self.label.as_str());
        let up = f64::from(u8::from(result.is_ok()));
        let up = Sample::gauge(series("health.up"), up)
            .up_to(1.0)
            .harm(Harm::Low);
        let latency = Sample::gauge(series("health.latency_seconds"), took.as_secs_f64())
            .harm(Harm::High)
            .grained(LATENCY_GRAIN_S);
        found
            .samples
            .extend([up.of(&self.service), latency.of(&self.service)]);
        match result {
            Ok(()) => self.failures = 0,
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.failures_to_tell {
                    let message = format!(
                        "health check {} of {} fails: {why}",
                        self.label, self.service
                    );
                    found.events.push(event(
                        at,
                        EventSource::Health,
                        Some(&self.service),
                        Level::Error,
                        &message,
                        &self.label,
                    ));
                }
            }
        }
    }
}

async fn ask(probe: &Probe, expect_status: Option<u16>) -> Result<(), String> {
    match probe {
        Probe::Http {
            address,
            host,
            path,
        } => {
            let status = http(address, host, path).await.map_err(plain)?;
            let fine = expect_status.map_or((200..400).contains(&status), |s| s == status);
            if fine {
                Ok(())
            } else {
                Err(format!("it answers with HTTP status {status}"))
            }
        }
        Probe::Tcp(address) => TcpStream::connect(address).await.map(drop).map_err(plain),
        Probe::Unix(path) => UnixStream::connect(path).await.map(drop).map_err(plain),
        Probe::PidFile(path) => {
            let path = path.clone();
            let asked = tokio::task::spawn_blocking(move || process_of(&path)).await;
            asked.map_err(|e| e.to_string())?
        }
    }
}

/// The kinds of failure that have names are told by them: `connection refused` reads the same
/// on every host.
fn plain(e: io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        _ => e.to_string(),
    }
}

async fn http(address: &str, host: &str, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: hale\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(MAX_ANSWER_BYTES);
    while answer.len() < MAX_ANSWER_BYTES && !answer.contains(&b'\n') {
        let mut chunk = [0; 256];
        match stream.read(&mut chunk).await? {
            0 => break,
            n => answer.extend_from_slice(&chunk[..n]),
        }
    }
    status(&answer).ok_or_else(|| io::Error::other("it does not answer in HTTP"))
}

/// The status of `HTTP/1.1 200 OK`.
pub(crate) fn status(answer: &[u8]) -> Option<u16> {
    let head = String::from_utf8_lossy(answer);
    let mut words = head.lines().next()?.split(' ');
    words.next().filter(|v| v.starts_with("HTTP/1."))?;
    words
        .next()?
        .parse()
        .ok()
        .filter(|s| (100..600).contains(s))
}

fn process_of(path: &std::path::Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => "its pid file is not there".to_owned(),
        _ => format!("its pid file can't be read: {e}"),
    })?;
    let first = text.split_whitespace().next().unwrap_or_default();
    let pid: u32 = first
        .parse()
        .map_err(|_| "its pid file holds no process id".to_owned())?;
    match Stat::from_file(format!("/proc/{pid}/stat")).map(|s| s.state) {
        Err(_) => Err("its process is gone".to_owned()),
        Ok('Z' | 'X' | 'x') => Err("its process is a zombie".to_owned()),
        Ok('T' | 't') => Err("its process is stopped".to_owned()),
        Ok(_) => Ok(()),
    }
}
