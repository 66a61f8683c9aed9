//! A Redis server, asked for `INFO` over TCP (RESP, the protocol's inline form).

use super::{Found, event};
use crate::config::RedisConfig;
use hale_model::{EventSource, Harm, Level, Sample, SeriesKey, Timestamp};
use std::collections::HashMap;
use std::io;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest answer read; a real one has some 6 kB.
const MAX_INFO_BYTES: usize = 256 << 10;

/// One server.
#[derive(Debug)]
pub struct Redis {
    config: RedisConfig,
    origin: String,
}

impl Redis {
    /// A sensor of the server that `config` describes.
    pub fn new(config: RedisConfig) -> Self {
        let origin = config
            .name
            .clone()
            .unwrap_or_else(|| format!("redis at {}", config.address));
        Self { config, origin }
    }

    /// Asks once, on a connection of its own.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        let asked = timeout(self.config.timeout.0, info(&self.config)).await;
        let problem = match asked {
            Ok(Ok(text)) => return self.tell(&parse(&text)),
            Ok(Err(e)) => format!("redis can't be read: {e}"),
            Err(_) => format!("redis did not answer within {}", self.config.timeout),
        };
        let service = self.config.service.as_ref();
        Found {
            samples: vec![self.sample("up", 0.0).up_to(1.0).harm(Harm::Low)],
            events: vec![event(
                at,
                EventSource::Sensor,
                service,
                Level::Critical,
                &problem,
                &self.origin,
            )],
            ..Found::default()
        }
    }

    fn sample(&self, name: &str, value: f64) -> Sample {
        let series = SeriesKey::new(format!("redis.{name}"));
        let sample = Sample::gauge(
            match &self.config.name {
                Some(name) => series.with("instance", name.as_str()),
                None => series,
            },
            value,
        );
        match &self.config.service {
            Some(service) => sample.of(service),
            None => sample,
        }
    }

    fn tell(&self, info: &HashMap<&str, f64>) -> Found {
        let mut samples = vec![self.sample("up", 1.0).up_to(1.0).harm(Harm::Low)];
        for (field, name, harm) in [
            ("used_memory", "used_memory_bytes", Harm::High),
            ("maxmemory", "max_memory_bytes", Harm::Neither),
            ("connected_clients", "connected_clients", Harm::High),
            ("blocked_clients", "blocked_clients", Harm::High),
            ("mem_fragmentation_ratio", "fragmentation_ratio", Harm::High),
            (
                "instantaneous_ops_per_sec",
                "operations_per_second",
                Harm::Both,
            ),
        ] {
            samples.extend(info.get(field).map(|v| self.sample(name, *v).harm(harm)));
        }
        for (field, name) in [
            ("evicted_keys", "evicted_keys"),
            ("rejected_connections", "rejected_connections"),
        ] {
            let counter = |v: &f64| Sample {
                kind: hale_model::SeriesKind::Counter,
                ..self.sample(name, *v).harm(Harm::High)
            };
            samples.extend(info.get(field).map(counter));
        }
        if let (Some(used), Some(max)) = (info.get("used_memory"), info.get("maxmemory"))
            && *max > 0.0
        {
            samples.push(
                self.sample("memory_percent", 100.0 * used / max)
                    .up_to(100.0)
                    .harm(Harm::High),
            );
        }
        Found {
            samples,
            ..Found::default()
        }
    }
}

/// The lines `field:number` of an answer; others are left out.
pub(crate) fn parse(text: &str) -> HashMap<&str, f64> {
    let number = |line: &'_ str| -> Option<(usize, f64)> {
        let at = line.find(':')?;
        Some((
            at,
            line[at + 1..]
                .trim()
                .parse()
                .ok()
                .filter(|v: &f64| v.is_finite())?,
        ))
    };
    text.lines()
        .filter_map(|line| number(line).map(|(at, v)| (&line[..at], v)))
        .collect()
}

async fn info(config: &RedisConfig) -> io::Result<String> {
    let mut stream = BufReader::new(TcpStream::connect(&config.address).await?);
    let password = super::password(
        config.password_env.as_deref(),
        config.password_file.as_deref(),
    );
    if let Some(password) = password.map_err(io::Error::other)? {
        let command = format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len());
        stream.write_all(command.as_bytes()).await?;
        let answer = line(&mut stream).await?;
        if !answer.starts_with('+') {
            return Err(io::Error::other(answer));
        }
    }
    stream.write_all(b"INFO\r\n").await?;
    let head = line(&mut stream).await?;
    let length = head.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
    let length = length
        .filter(|n| *n <= MAX_INFO_BYTES)
        .ok_or_else(|| io::Error::other(head))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// One line of at most 512 bytes.
async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.take(512).read_until(b'\n', &mut bytes).await?;
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
