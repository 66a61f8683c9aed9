//! How grave a log line says it is, and the message within it: PostgreSQL, nginx, syslog,
//! Redis, JSON, logfmt and the many `LEVEL message` styles.

use hale_model::Level;
use serde_json::Value;
use std::borrow::Cow;

/// A line's level and its message, without time stamp, host, process and level.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<'a> {
    /// How grave.
    pub level: Level,
    /// What it says.
    pub message: Cow<'a, str>,
    /// Whether it goes on with the line before it: a stack trace, a detail, a statement.
    pub continues: bool,
}

/// Reads one line.
pub fn parse(line: &str) -> Parsed<'_> {
    let trimmed = line.trim_end();
    if trimmed.starts_with([' ', '\t']) {
        return Parsed {
            level: Level::Info,
            message: Cow::Borrowed(trimmed.trim_start()),
            continues: true,
        };
    }
    if let Some(parsed) = json(trimmed) {
        return parsed;
    }
    let (priority, rest) = syslog_priority(trimmed);
    if let Some((level, message)) = redis(rest).or_else(|| glog(rest)) {
        return found(level, message);
    }
    let stamped = strip_stamp(rest);
    let rest = stamped.unwrap_or(rest);
    if let Some(parsed) = postgres(rest) {
        return parsed;
    }
    let rest = if stamped.is_some() {
        strip_program(rest)
    } else {
        rest
    };
    match leading_level(rest).or_else(|| logfmt(rest)) {
        Some((level, message)) => found(level, message),
        None => found(priority.unwrap_or_else(|| by_words(rest)), rest),
    }
}

/// The level a name stands for, in whatever case.
pub fn level(name: &str) -> Option<Level> {
    Some(match name.to_ascii_lowercase().as_str() {
        "trace" | "debug" | "verbose" | "debug1" | "debug2" | "debug3" | "debug4" | "debug5" => {
            Level::Debug
        }
        "info" | "information" | "notice" | "log" => Level::Info,
        "warn" | "warning" => Level::Warning,
        "err" | "error" | "severe" => Level::Error,
        "crit" | "critical" | "fatal" | "alert" | "emerg" | "emergency" | "panic" => {
            Level::Critical
        }
        _ => return None,
    })
}

/// The level of a syslog severity number (RFC 5424 section 6.2.1), 0 the gravest.
pub fn syslog_level(severity: u32) -> Level {
    match severity & 7 {
        0..=2 => Level::Critical,
        3 => Level::Error,
        4 => Level::Warning,
        5 | 6 => Level::Info,
        _ => Level::Debug,
    }
}

fn found(level: Level, message: &str) -> Parsed<'_> {
    Parsed {
        level,
        message: Cow::Borrowed(message.trim()),
        continues: false,
    }
}

fn json(line: &str) -> Option<Parsed<'_>> {
    if !line.starts_with('{') {
        return None;
    }
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(line) else {
        return None;
    };
    let text = |names: &[&str]| names.iter().find_map(|n| object.get(*n)?.as_str());
    // bunyan and pino write numbers: 10 trace … 60 fatal.
    let numeric = object
        .get("level")
        .and_then(Value::as_u64)
        .map(|n| match n {
            0..=29 => Level::Debug,
            30..=39 => Level::Info,
            40..=49 => Level::Warning,
            50..=59 => Level::Error,
            _ => Level::Critical,
        });
    let named = text(&["level", "severity", "lvl", "log.level", "levelname"]).and_then(level);
    let message = text(&["msg", "message", "event", "error", "err", "MESSAGE"]);
    let level = named.or(numeric).or_else(|| Some(by_words(message?)));
    Some(Parsed {
        level: level.unwrap_or_default(),
        message: message.map_or(Cow::Borrowed(line), |m| Cow::Owned(m.to_owned())),
        continues: false,
    })
}

/// `<11>` before a line: facility times eight plus severity.
fn syslog_priority(line: &str) -> (Option<Level>, &str) {
    let parsed = line.strip_prefix('<').and_then(|rest| {
        let (number, rest) = rest.split_once('>')?;
        let number: u32 = number.parse().ok().filter(|n| *n < 192)?;
        Some((Some(syslog_level(number)), rest.trim_start_matches("1 ")))
    });
    parsed.unwrap_or((None, line))
}

/// `1234:M 12 Feb 2026 11:26:00.123 # message`
fn redis(line: &str) -> Option<(Level, &str)> {
    let (head, rest) = line.split_once(' ')?;
    let (pid, role) = head.split_once(':')?;
    if role.len() != 1 || pid.is_empty() || !pid.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut parts = rest.splitn(6, ' ');
    let sign = parts.nth(4)?;
    let level = match sign {
        "#" => Level::Warning,
        "*" => Level::Info,
        "-" | "." => Level::Debug,
        _ => return None,
    };
    Some((level, parts.next()?))
}

/// What follows a time stamp: `2026-02-12T11:26:00.123Z `, `2026/02/12 11:26:00 `,
/// `Feb 12 11:26:00 `, `[Thu Feb 12 11:26:00 2026] `, `E0212 11:26:00.123 `.
fn strip_stamp(line: &str) -> Option<&str> {
    let line = line.strip_prefix('[').unwrap_or(line);
    let head: Vec<(usize, &str)> = words(line, 7);
    // The last word among the first that holds a time ends the stamp.
    let clock = head.iter().take(4).position(|(_, w)| has_clock(w))?;
    if !head[..=clock]
        .iter()
        .any(|(_, w)| w.bytes().any(|b| b.is_ascii_digit()))
    {
        return None;
    }
    let mut last = clock;
    // A year, a zone name or an offset may follow: `2026]`, `UTC`, `+0100`.
    while let Some((_, w)) = head.get(last + 1) {
        let w = w.trim_end_matches(']');
        let year = w.len() == 4 && w.bytes().all(|b| b.is_ascii_digit());
        let zone = matches!(w.len(), 3 | 4)
            && w.bytes().all(|b| b.is_ascii_uppercase())
            && level(w).is_none();
        let offset = w.len() >= 5
            && w.starts_with(['+', '-'])
            && w[1..].bytes().all(|b| b.is_ascii_digit() || b == b':');
        if !(year || zone || offset) || last >= clock + 2 {
            break;
        }
        last += 1;
    }
    let (at, w) = head.get(last)?;
    Some(line[at + w.len()..].trim_start_matches([' ', ']', '-', '|', ':', '\t']))
}

/// The first `n` words and where they begin.
fn words(text: &str, n: usize) -> Vec<(usize, &str)> {
    let base = text.as_ptr() as usize;
    text.split_whitespace()
        .take(n)
        .map(|w| (w.as_ptr() as usize - base, w))
        .collect()
}

/// Whether a word holds `dd:dd:dd`.
fn has_clock(word: &str) -> bool {
    let shape: Vec<u8> = word
        .bytes()
        .map(|b| if b.is_ascii_digit() { b'd' } else { b })
        .collect();
    shape.windows(8).any(|w| w == b"dd:dd:dd") && word.len() <= 40
}

/// `2026… [pid] user@db FATAL:  message`: the level is followed by a colon and two blanks.
fn postgres(rest: &str) -> Option<Parsed<'_>> {
    let at = rest.find(":  ").filter(|at| *at < 200)?;
    let name = rest[..at].rsplit([' ', ']', '[', ':']).next()?;
    let continues = matches!(
        name,
        "DETAIL" | "HINT" | "STATEMENT" | "CONTEXT" | "QUERY" | "LOCATION"
    );
    let upper = name
        .bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let level = if continues {
        Level::Info
    } else {
        level(name).filter(|_| upper)?
    };
    Some(Parsed {
        level,
        message: Cow::Borrowed(rest[at + 3..].trim()),
        continues,
    })
}

/// `host program[pid]: message`, as syslog writes after its stamp. nginx's `[error] 12#12: *3`
/// begins with a level and stays.
fn strip_program(rest: &str) -> &str {
    let head = words(rest, 2);
    for (at, word) in head {
        // `ERROR name: message`: a level is no host.
        let is_level = level(word).is_some() && word.bytes().all(|b| b.is_ascii_uppercase());
        if word.starts_with('[') || is_level {
            return rest;
        }
        if let Some(program) = word.strip_suffix(':') {
            let name = program.split('[').next().unwrap_or(program);
            let plain = name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_./()@".contains(&b));
            if plain && !name.is_empty() && level(name).is_none() {
                return rest[at + word.len()..].trim_start();
            }
            return rest;
        }
    }
    rest
}

/// A level among the first words: `[error] 12#12: *3 message`, `ERROR: message`,
/// `app - WARNING - message`, `[core:error] [pid 1] message`.
fn leading_level(rest: &str) -> Option<(Level, &str)> {
    for (at, word) in words(rest, 4) {
        let bare = word.trim_matches(|c: char| "[]():|<>-,".contains(c));
        let name = bare.rsplit(':').next().unwrap_or(bare);
        let marked = bare.len() != word.len() || name.bytes().all(|b| b.is_ascii_uppercase());
        let Some(level) = level(name).filter(|_| marked) else {
            continue;
        };
        let after = rest[at + word.len()..].trim_start_matches([' ', '-', ':', '|', '\t']);
        return Some((level, strip_ids(after)));
    }
    None
}

/// nginx's `12#12: *3 ` and Apache's `[pid 1:tid 2] [client 1.2.3.4:5] ` before the message.
fn strip_ids(mut text: &str) -> &str {
    while let Some(rest) = text.strip_prefix('[') {
        let Some((_, after)) = rest.split_once("] ") else {
            break;
        };
        text = after;
    }
    if let Some((ids, after)) = text.split_once(": ")
        && ids.contains('#')
        && ids.bytes().all(|b| b.is_ascii_digit() || b == b'#')
    {
        text = after;
        if let Some((connection, after)) = text.split_once(' ')
            && connection.starts_with('*')
        {
            text = after;
        }
    }
    text
}

/// `E0212 11:26:00.123456  12 file.go:1] message`
fn glog(rest: &str) -> Option<(Level, &str)> {
    let (first, digits) = rest.split_at_checked(1)?;
    let level = match first {
        "I" => Level::Info,
        "W" => Level::Warning,
        "E" => Level::Error,
        "F" => Level::Critical,
        _ => return None,
    };
    let date = digits.get(..4)?;
    let (head, message) = digits.split_once("] ")?;
    (date.bytes().all(|b| b.is_ascii_digit()) && has_clock(head.split_whitespace().nth(1)?))
        .then_some((level, message))
}

/// `level=error msg="…"`
fn logfmt(rest: &str) -> Option<(Level, &str)> {
    let field = |name: &str| {
        let at = rest
            .find(name)
            .filter(|at| *at == 0 || rest[..*at].ends_with(' '))?;
        let value = &rest[at + name.len()..];
        Some(match value.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap_or(quoted),
            None => value.split(' ').next().unwrap_or(value),
        })
    };
    let level = level(field("level=").or_else(|| field("lvl="))?)?;
    Some((
        level,
        field("msg=").or_else(|| field("message=")).unwrap_or(rest),
    ))
}

/// No level anywhere: what the words say.
fn by_words(message: &str) -> Level {
    let mut head: String = message.chars().take(200).collect();
    head.make_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|w| head.contains(w));
    if any(&[
        "panic",
        "out of memory",
        "oom-kill",
        "segfault",
        "kernel bug",
    ]) {
        Level::Critical
    } else if any(&["error", "exception", "traceback", "fatal", "no space left"]) {
        // "0 errors" and "error_log" tell of none.
        if any(&["no error", " 0 error", "error_log", "without error"]) {
            Level::Info
        } else {
            Level::Error
        }
    } else if any(&["warning", "failed", "failure", "refused", "timed out"]) {
        Level::Warning
    } else {
        Level::Info
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_levels_of_many_houses_are_recognised() {
        use Level::{Critical, Debug, Error, Info, Warning};
        for (line, level, message) in [
            (
                "2026-02-12 11:26:00.123 UTC [1234] app@shop FATAL:  sorry, too many clients already",
                Critical,
                "sorry, too many clients already",
            ),
            (
                "2026-02-12 11:26:00 UTC [9]: [1-1] user=,db= LOG:  checkpoint starting: time",
                Info,
                "checkpoint starting: time",
            ),
            (
                "2026/02/12 11:26:00 [error] 123#123: *1 connect() failed (111: Connection refused)",
                Error,
                "connect() failed (111: Connection refused)",
            ),
            (
                "Feb 12 11:26:00 web-1 sshd[99]: Failed password for root",
                Warning,
                "Failed password for root",
            ),
            (
                "2026-02-12T11:26:00.123456+00:00 web-1 cron[1]: (root) CMD (true)",
                Info,
                "(root) CMD (true)",
            ),
            ("<11>Feb 12 11:26:00 web app: it broke", Error, "it broke"),
            (
                "2026-02-12 11:26:00,123 ERROR worker: it broke",
                Error,
                "worker: it broke",
            ),
            (
                r#"{"level":"warn","ts":1,"msg":"slow query"}"#,
                Warning,
                "slow query",
            ),
            (r#"{"level":50,"msg":"boom"}"#, Error, "boom"),
            (
                r#"time=2026-02-12T11:26:00Z level=error msg="no route" x=1"#,
                Error,
                "no route",
            ),
            (
                "2026-02-12 11:26:00,123 - app.db - ERROR - lost the pool",
                Error,
                "lost the pool",
            ),
            (
                "[Thu Feb 12 11:26:00.12 2026] [core:error] [pid 1:tid 2] [client 1.2.3.4:5] AH1: no file",
                Error,
                "AH1: no file",
            ),
            ("E0212 11:26:00.123456   12 pool.go:17] lost", Error, "lost"),
            (
                "1234:M 12 Feb 2026 11:26:00.123 # Can't save in background: fork",
                Warning,
                "Can't save in background: fork",
            ),
            ("DEBUG: hello", Debug, "hello"),
            (
                "kernel: Out of memory: Killed process 1",
                Critical,
                "kernel: Out of memory: Killed process 1",
            ),
            ("all is well", Info, "all is well"),
            ("finished with 0 errors", Info, "finished with 0 errors"),
        ] {
            let parsed = parse(line);
            assert_eq!((parsed.level, &*parsed.message), (level, message), "{line}");
        }
    }

    #[test]
    fn stack_traces_and_details_go_on_with_the_line_before() {
        assert!(parse("\tat com.example.Main(Main.java:3)").continues);
        assert!(parse("2026-02-12 11:26:00 UTC [1] DETAIL:  Key (id)=(1)").continues);
        assert!(!parse("ERROR: x").continues);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC{0,200}") {
            let _ = parse(&line);
        }

        #[test]
        fn nothing_that_looks_like_a_log_makes_it_panic(
            line in "(<1>|\\[|\\{|E0212 )?(2026-02-12[ T]11:26:00|Feb 12 11:26:00)?[ :\\]\\[#*a-zäE=\"]{0,40}(: {0,2})[ -~]{0,20}"
        ) {
            let _ = parse(&line);
        }
    }
}
