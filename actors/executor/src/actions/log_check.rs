//! `log_check`: counts the lines that match, of those written since the run began.

use super::{Context, Tried, lock};
use crate::run::ActionResult;
use hale_playbooks::Env;
use regex::bytes::RegexBuilder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most that is read of a log, in bytes: its end.
const MAX_READ_BYTES: u64 = 16 << 20;
/// The longest line that is matched, in bytes; a longer one is matched piece by piece.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// The largest compiled pattern, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;
/// How many logs one run remembers.
const MAX_LOGS: usize = 64;

/// How long the logs were when the run began.
#[derive(Debug, Default)]
pub struct Offsets(BTreeMap<PathBuf, Mark>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    file: (u64, u64),
    len: u64,
}

fn mark(of: &Metadata) -> Mark {
    Mark {
        file: (of.dev(), of.ino()),
        len: of.len(),
    }
}

impl Offsets {
    /// Remembers where a log ends now, unless it is remembered already.
    pub fn remember(&mut self, path: &Path) {
        if self.0.len() >= MAX_LOGS || self.0.contains_key(path) {
            return;
        }
        let nothing = Mark {
            file: (0, 0),
            len: 0,
        };
        let mark = std::fs::metadata(path).map_or(nothing, |m| mark(&m));
        self.0.insert(path.to_owned(), mark);
    }
}

/// The log meant by a check: the one it names, or the service's.
pub(super) fn path_of(named: Option<String>, env: &Env) -> Result<PathBuf, String> {
    let known = env
        .get("service")
        .and_then(|s| s.get("log_path"))
        .and_then(Value::as_str);
    let path = named.or_else(|| known.map(str::to_owned)).ok_or(
        "the service has no `log_path`: add it to `[services.NAME]`, or name a `path` in the check",
    )?;
    match Path::new(&path).is_absolute() {
        true => Ok(path.into()),
        false => Err(format!("`{path}` is not an absolute path")),
    }
}

pub(super) async fn run(
    path: PathBuf,
    context: &Context,
    pattern: &str,
    min: u64,
    max: u64,
) -> Tried {
    let pattern = RegexBuilder::new(pattern)
        .case_insensitive(true)
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|e| format!("`{pattern}` is no regular expression: {e}"))?;
    let since = {
        let mut offsets = lock(&context.offsets);
        offsets.remember(&path);
        offsets.0.get(&path).copied()
    };
    let from = path.clone();
    let counted = tokio::task::spawn_blocking(move || count(&from, since, &pattern)).await;
    let counted = counted.map_err(|e| format!("reading {} broke off: {e}", path.display()))?;
    let (count, example) = counted.map_err(|e| format!("{} can't be read: {e}", path.display()))?;
    let result = json!({"count": count, "example": example, "path": path});
    Ok(match count {
        n if n < min => ActionResult::failed(result, format!("{n} lines match, {min} are needed")),
        n if n > max => {
            let example = example.unwrap_or_default();
            ActionResult::failed(
                result,
                format!("{n} lines match, {max} are allowed: {example}"),
            )
        }
        n => ActionResult::success(result, format!("{n} lines match")),
    })
}

fn count(
    path: &Path,
    since: Option<Mark>,
    pattern: &regex::bytes::Regex,
) -> std::io::Result<(u64, Option<String>)> {
    let mut file = File::open(path)?;
    let now = mark(&file.metadata()?);
    // Rotated or cut: all that is there now is new.
    let start = since
        .filter(|m| m.file == now.file && m.len <= now.len)
        .map_or(0, |m| m.len);
    file.seek(SeekFrom::Start(
        start.max(now.len.saturating_sub(MAX_READ_BYTES)),
    ))?;
    let mut reader = BufReader::new(file.take(MAX_READ_BYTES));
    let (mut count, mut example, mut line) = (0, None, vec![]);
    loop {
        line.clear();
        if (&mut reader)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok((count, example));
        }
        if pattern.is_match(&line) {
            count += 1;
            let text = String::from_utf8_lossy(&line);
            example.get_or_insert_with(|| crate::plan::cut(text.trim_end(), 300));
        }
    }
}
