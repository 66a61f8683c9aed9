//! What is wrong in a playbook: where, and what to write instead.

use serde::Serialize;
use std::fmt;

/// Whether a playbook with it can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingSeverity {
    /// It can't.
    Error,
    /// It can, but should be better.
    Warning,
}

/// A place in a text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The character in the line.
    pub column: u32,
}

impl Place {
    /// The beginning of a text.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One thing that is wrong in a playbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, as it was named to the parser.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
    /// Whether the playbook can be loaded all the same.
    pub severity: FindingSeverity,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub instead: String,
}

impl Finding {
    /// Whether the playbook can't be loaded because of it.
    pub fn is_error(&self) -> bool {
        self.severity == FindingSeverity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            FindingSeverity::Error => "error",
            FindingSeverity::Warning => "warning",
        };
        let Self {
            file,
            line,
            column,
            message,
            instead,
            ..
        } = self;
        write!(
            f,
            "{file}:{line}:{column}: {severity}: {message}\n    {instead}"
        )
    }
}

/// The findings of one file while it is looked through.
#[derive(Debug)]
pub(crate) struct Findings {
    file: String,
    found: Vec<Finding>,
}

/// More than this of one file is noise.
const MAX_FINDINGS: usize = 100;

impl Findings {
    pub(crate) fn of(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            found: vec![],
        }
    }

    pub(crate) fn error(
        &mut self,
        at: Place,
        message: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.add(FindingSeverity::Error, at, message.into(), instead.into());
    }

    pub(crate) fn warning(
        &mut self,
        at: Place,
        message: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.add(FindingSeverity::Warning, at, message.into(), instead.into());
    }

    fn add(&mut self, severity: FindingSeverity, at: Place, message: String, instead: String) {
        if self.found.len() < MAX_FINDINGS {
            let Place { line, column } = at;
            let file = self.file.clone();
            self.found.push(Finding {
                file,
                line,
                column,
                severity,
                message,
                instead,
            });
        }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(Finding::is_error)
    }

    /// All of them, in the order of the text.
    pub(crate) fn sorted(mut self) -> Vec<Finding> {
        self.found.sort_by_key(|f| (f.line, f.column));
        self.found
    }
}

/// The name most like `name` among those known, if it is like enough to be a slip of the pen.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = |n: &str| distance(name, n) <= 1 + n.len().min(name.len()) / 4;
    let near = known.into_iter().filter(|n| close(n));
    near.min_by_key(|n| distance(name, n))
}

/// The Levenshtein distance, by characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(128).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let changed = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
