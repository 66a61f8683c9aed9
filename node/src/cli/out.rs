//! Where commands say what they found: lines, tables, colours where a person looks, JSON where a
//! program does. What a node sent can't steer the terminal.

use super::CliError;
use hale_model::Timestamp;
use serde::Serialize;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Look {
    #[default]
    Plain,
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Look {
    /// SGR parameters (ECMA-48 section 8.3.117).
    fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        }
    }
}

/// Standard output, as the user wants it.
#[derive(Debug)]
pub(super) struct Out {
    /// JSON and nothing else.
    pub(super) json: bool,
    colour: bool,
}

impl Out {
    pub(super) fn new(json: bool) -> Self {
        // https://no-color.org: any value but the empty one.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self {
            json,
            colour: !json && !no_colour && io::stdout().is_terminal(),
        }
    }

    /// For people, without colours.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self {
            json: false,
            colour: false,
        }
    }

    /// Whether a progress bar would be seen.
    pub(super) fn shows_progress(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Text in a look.
    pub(super) fn paint(&self, look: Look, text: &str) -> String {
        let text = clean(text);
        if self.colour && look != Look::Plain {
            format!("\x1b[{}m{text}\x1b[0m", look.sgr())
        } else {
            text
        }
    }

    /// One line for people. Says nothing where JSON is wanted.
    pub(super) fn line(&self, line: impl AsRef<str>) -> Result<(), CliError> {
        if self.json {
            Ok(())
        } else {
            raw(line.as_ref().trim_end(), true)
        }
    }

    /// Bytes as they are.
    pub(super) fn bytes(&self, bytes: &[u8]) -> Result<(), CliError> {
        io::stdout().lock().write_all(bytes).map_err(closed)
    }

    /// A value as JSON, over several lines. Says nothing where people read.
    pub(super) fn value(&self, value: &impl Serialize) -> Result<(), CliError> {
        if !self.json {
            return Ok(());
        }
        raw(
            &serde_json::to_string_pretty(value).unwrap_or_default(),
            true,
        )
    }

    /// A value as one line of JSON: a stream's item.
    pub(super) fn item(&self, value: &impl Serialize) -> Result<(), CliError> {
        if !self.json {
            return Ok(());
        }
        raw(&serde_json::to_string(value).unwrap_or_default(), true)
    }

    /// A label with what it says.
    pub(super) fn fact(&self, label: &str, says: &str) -> Result<(), CliError> {
        self.line(format!(
            "  {}  {says}",
            self.paint(Look::Dim, &format!("{label:<10}"))
        ))
    }

    /// Why it failed: each cause on its own line, and what to type next.
    pub(super) fn failed(&self, error: &dyn Error, next: &str, code: u8) {
        if self.json {
            let error = serde_json::json!({
                "error": { "message": told(error), "next": next, "exit_code": code },
            });
            self.value(&error).ok();
            return;
        }
        let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (red, end) = if colour {
            ("\x1b[31m", "\x1b[0m")
        } else {
            ("", "")
        };
        let mut text = format!("{red}error:{end} {}\n", clean(&error.to_string()));
        let mut cause = error.source();
        while let Some(inner) = cause {
            let _ = writeln!(text, "  because {}", clean(&inner.to_string()));
            cause = inner.source();
        }
        if !next.is_empty() {
            let _ = writeln!(text, "  next: {}", clean(next));
        }
        io::stderr().lock().write_all(text.as_bytes()).ok();
    }
}

fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

fn raw(text: &str, end: bool) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if end { out.write_all(b"\n") } else { Ok(()) });
    written.and_then(|()| out.flush()).map_err(closed)
}

/// `hale … | head` has seen enough; a full disk has not.
fn closed(source: io::Error) -> CliError {
    match source.kind() {
        io::ErrorKind::BrokenPipe => CliError::Closed,
        _ => CliError::File {
            done: "written",
            path: "standard output".into(),
            source,
        },
    }
}

/// Text without what steers a terminal: a log line may hold escape sequences.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Rows under headings, each column as wide as its widest cell.
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<(String, Look)>>,
}

impl Table {
    /// With these headings; a heading that starts with `>` is a column of numbers, set right.
    pub(super) fn new<const N: usize>(head: [&'static str; N]) -> Self {
        Self {
            head: head.into(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [(String, Look); N]) {
        let one_line =
            |(text, look): (String, Look)| (clean(&text).replace(['\n', '\t'], " "), look);
        self.rows.push(cells.map(one_line).into());
    }

    pub(super) fn print(&self, out: &Out) -> Result<(), CliError> {
        self.lines(out).iter().try_for_each(|line| out.line(line))
    }

    /// The headings' line, then one for each row.
    pub(super) fn lines(&self, out: &Out) -> Vec<String> {
        let heads: Vec<&str> = self
            .head
            .iter()
            .map(|h| h.trim_start_matches('>'))
            .collect();
        let width = |i: usize| {
            let cells = self
                .rows
                .iter()
                .filter_map(|r| r.get(i))
                .map(|(t, _)| t.chars().count());
            cells.chain([heads[i].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let line = |cells: &[(String, Look)]| {
            let mut line = String::new();
            for (i, (text, look)) in cells.iter().enumerate() {
                let gap = " ".repeat(widths[i].saturating_sub(text.chars().count()));
                let right = self.head[i].starts_with('>');
                let last = i + 1 == cells.len();
                let painted = out.paint(*look, text);
                line += &match (right, last) {
                    (true, _) => format!("{gap}{painted}"),
                    (false, true) => painted,
                    (false, false) => format!("{painted}{gap}"),
                };
                if !last {
                    line += "  ";
                }
            }
            line
        };
        let heads: Vec<_> = heads.iter().map(|h| ((*h).to_owned(), Look::Dim)).collect();
        let rows = self.rows.iter().map(|row| line(row));
        std::iter::once(line(&heads)).chain(rows).collect()
    }
}

/// A cell in no special look.
pub(super) fn plain(text: impl ToString) -> (String, Look) {
    (text.to_string(), Look::Plain)
}

/// A cell that may be empty.
pub(super) fn maybe<T: ToString>(text: Option<T>) -> (String, Look) {
    text.map_or_else(|| ("-".into(), Look::Dim), plain)
}

/// A count with its thousands apart.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count with its noun.
pub(super) fn many(n: u64, one: &str, several: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { several })
}

/// A value for people: four significant digits or so.
pub(super) fn number(v: f64) -> String {
    let a = v.abs();
    match a {
        _ if !v.is_finite() => "-".into(),
        _ if a >= 1e12 => format!("{:.2}T", v / 1e12),
        _ if a >= 1e9 => format!("{:.2}G", v / 1e9),
        _ if a >= 1e6 => format!("{:.2}M", v / 1e6),
        _ if a >= 1e4 => format!("{:.1}k", v / 1e3),
        _ if v.fract() == 0.0 => format!("{v:.0}"),
        _ if a >= 100.0 => format!("{v:.1}"),
        _ if a >= 1.0 => format!("{v:.2}"),
        _ => format!("{v:.4}"),
    }
}

/// A duration for people.
pub(super) fn span(d: Duration) -> String {
    match d.as_secs() {
        0 => format!("{} ms", d.as_millis()),
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

/// How long ago a time was.
pub(super) fn ago(at: Timestamp) -> String {
    let past = now().since(at);
    if past < Duration::from_secs(1) {
        "just now".into()
    } else {
        format!("{} ago", span(past))
    }
}

/// In how long a time will be.
pub(super) fn until(at: Timestamp) -> String {
    match at.since(now()) {
        Duration::ZERO => "about now".into(),
        left => format!("in {}", span(left)),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
