//! What reads bytes from outside here, to be held against hostile ones: datagrams, log lines, what
//! servers and the kernel say.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::config::ServiceConfig;
use crate::fold::{Folder, MAX_MESSAGE_BYTES, Origin};
use crate::lines::Splitter;
use crate::sensors::{health, kernel, redis};
use crate::template::MAX_TEMPLATE_BYTES;
use crate::{Span, mask, severity, snapshot, statsd};
use hale_hostile::Parser;
use hale_model::{HostName, Level, ServiceName, Timestamp};

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "statsd",
        seeds: || {
            vec![
                b"api.hits:3|c|@0.1|#code:500,canary\ntemp:-4|g\nusers:joe:x|s\nt:1:2.5:1e308|ms|c:abc|T165"
                    .to_vec(),
            ]
        },
        feed: datagrams,
    },
    Parser {
        name: "log_lines",
        seeds: lines,
        feed: log,
    },
    Parser {
        name: "sensor_answers",
        seeds: || {
            vec![
                b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n".to_vec(),
                b"used_memory:1024\r\nmaxmemory:0\r\nrole:master\r\n".to_vec(),
                b"3,812,5140900,-;Out of memory: Killed process 4711 (postgres) total\n X=y"
                    .to_vec(),
                b"1d2h3m4s5ms".to_vec(),
            ]
        },
        feed: answers,
    },
];

/// The most series here.
const MAX_SERIES: usize = 64;
/// The longest line here, in bytes.
const MAX_LINE_BYTES: usize = 4096;

fn datagrams(bytes: &[u8]) {
    for metric in statsd::datagram(bytes).flatten() {
        assert!(metric.name.len() <= statsd::MAX_NAME_BYTES && !metric.values.is_empty());
        assert!(metric.tags.len() <= statsd::MAX_TAGS);
        assert!(metric.rate > 0.0 && metric.rate <= 1.0);
    }
    let mut aggregate = statsd::Aggregate::new(MAX_SERIES);
    for _ in 0..2 {
        aggregate.datagram(bytes);
        let (samples, _) = aggregate.flush();
        for sample in &samples {
            assert!(
                sample.value.is_finite() && sample.series.is_within_limits(),
                "{sample:?}"
            );
        }
        let host = HostName::new("h").unwrap();
        let _ = snapshot::build(&host, "test", &[].into(), samples.iter(), vec![]);
    }
}

fn lines() -> Vec<Vec<u8>> {
    [
        "2026-02-12 11:26:00.123 UTC [4711] app@shop FATAL:  sorry, too many clients already",
        "2026/02/12 11:26:00 [error] 12#12: *3 connect() failed (111: refused), client: 10.0.0.1",
        "<11>1 Feb 12 11:26:00 db-1 kernel[1]: EXT4-fs error (device sda1): it's \"gone\"",
        "1234:M 12 Feb 2026 11:26:00.123 # WARNING overcommit_memory is set to 0!",
        r#"{"level":50,"msg":"password=\"hunter2\" for 550e8400-e29b-41d4-a716-446655440000"}"#,
        "E0212 11:26:00.123456  12 file.go:1] dial tcp 10.0.0.1:443: i/o timeout",
        "level=error ts=1 msg=\"postgres://u:p@h/db is down\" token: ghp_0123456789abcdef",
        "[Thu Feb 12 11:26:00.1 2026] [core:error] [pid 1:tid 2] [client ::1:5] AH00037: x",
        "\tat com.shop.Cart.add(Cart.java:42)",
    ]
    .map(|line| format!("{line}\n").into_bytes())
    .into()
}

/// However the bytes are cut apart, they become the same lines; each becomes an event in bounds.
fn log(bytes: &[u8]) {
    let mut whole = vec![];
    let mut splitter = Splitter::new(MAX_LINE_BYTES);
    let mut take = |line: &str| whole.push(line.to_owned());
    splitter.feed(bytes, &mut take);
    splitter.finish(&mut take);
    let mut pieces = vec![];
    let mut splitter = Splitter::new(MAX_LINE_BYTES);
    let mut take = |line: &str| pieces.push(line.to_owned());
    bytes
        .chunks(7)
        .for_each(|piece| splitter.feed(piece, &mut take));
    splitter.finish(&mut take);
    assert_eq!(whole, pieces);
    let origin = Origin {
        path: "/var/log/x".into(),
        service: None,
        min_level: Level::Debug,
    };
    let mut folder = Folder::new(16, 16);
    for line in &whole {
        let parsed = severity::parse(line);
        let masked = mask::mask(&parsed.message);
        // What was masked once has nothing left to mask.
        assert!(mask::mask(&masked).len() <= masked.len() + mask::MASK.len());
        folder.take(&origin, line, Timestamp::from_secs(1));
    }
    let (_, events, _) = folder.flush();
    assert!(events.len() <= 16);
    for event in events {
        assert!(event.template.len() <= MAX_TEMPLATE_BYTES);
        assert!(event.message.len() <= MAX_MESSAGE_BYTES);
    }
}

fn answers(bytes: &[u8]) {
    if let Some(status) = health::status(bytes) {
        assert!((100..600).contains(&status));
    }
    let text = String::from_utf8_lossy(bytes);
    assert!(redis::parse(&text).values().all(|v| v.is_finite()));
    if let Some((_, message)) = kernel::record(&text) {
        let services = [ServiceConfig {
            name: ServiceName::new("postgresql").unwrap(),
            processes: vec!["postgres".into()],
            unit: None,
        }];
        let _ = kernel::victim(&message, &services);
    }
    if let Ok(span) = text.parse::<Span>() {
        assert_eq!(span.to_string().parse(), Ok(span));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_hostile::hold;

    #[test]
    fn a_datagram_may_be_anything() {
        hold(&PARSERS[0]);
    }

    #[test]
    fn a_log_may_hold_anything() {
        hold(&PARSERS[1]);
    }

    #[test]
    fn what_a_server_or_the_kernel_says_may_be_anything() {
        hold(&PARSERS[2]);
    }
}
