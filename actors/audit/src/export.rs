//! The chain as text: one JSON object a line. A header, every entry in order, a signed
//! checkpoint. A line has exactly one form, so that any flipped byte of a file shows.

use crate::checkpoint::Checkpoint;
use crate::error::AuditError;
use hale_model::chain::Entry;
use hale_model::ledger::{EntryKind, MAX_BODY_BYTES};
use hale_model::{Digest, Fence, NodeId, Signature};
use serde::{Deserialize, Serialize};

/// The format's name, in the header.
pub const FORMAT: &str = "hale.audit.export";
/// Its version.
pub const VERSION: u32 = 1;
/// The longest line: a body of control characters alone grows sixfold as a JSON string.
pub const MAX_LINE_BYTES: usize = MAX_BODY_BYTES * 6 + 1024;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`].
    pub version: u32,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
        }
    }
}

/// An entry as a line, or as a part of a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryLine {
    /// Its number.
    pub index: u64,
    /// What it tells.
    pub kind: EntryKind,
    /// The grant it belongs to; zero if none.
    pub fence: u64,
    /// The hash of the entry before it.
    pub previous_hash: Digest,
    /// Its own.
    pub hash: Digest,
    /// Who says it.
    pub signer: NodeId,
    /// The signer's, over kind and body.
    pub signature: Signature,
    /// The canonical bytes that were signed, as text.
    pub body: String,
}

impl TryFrom<&Entry> for EntryLine {
    type Error = AuditError;

    fn try_from(e: &Entry) -> Result<Self, AuditError> {
        let body = String::from_utf8(e.body.clone()).map_err(|_| AuditError::NotText(e.index))?;
        Ok(Self {
            index: e.index,
            kind: e.kind,
            fence: e.fence.0,
            previous_hash: e.previous,
            hash: e.hash(),
            signer: e.signer,
            signature: e.signature,
            body,
        })
    }
}

impl From<&EntryLine> for Entry {
    fn from(line: &EntryLine) -> Self {
        Self {
            index: line.index,
            kind: line.kind,
            fence: Fence(line.fence),
            previous: line.previous_hash,
            signer: line.signer,
            signature: line.signature,
            body: line.body.clone().into_bytes(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine {
    checkpoint: Checkpoint,
}

/// The line that comes first, with its line feed.
pub fn header_line() -> String {
    line(&Header::default())
}

/// An entry's line, with its line feed.
///
/// # Errors
/// If its body is not UTF-8.
pub fn entry_line(entry: &Entry) -> Result<String, AuditError> {
    EntryLine::try_from(entry).map(|l| line(&l))
}

/// The line that comes last, with its line feed.
pub fn checkpoint_line(checkpoint: &Checkpoint) -> String {
    line(&CheckpointLine {
        checkpoint: checkpoint.clone(),
    })
}

/// All lines of an export, one after the other. `entries` are those of the checkpoint.
///
/// # Errors
/// Those of `entries`; if a body is not UTF-8; if there are more or fewer entries than the
/// checkpoint says.
pub fn lines<I>(
    entries: I,
    checkpoint: &Checkpoint,
) -> impl Iterator<Item = Result<String, AuditError>> + use<I>
where
    I: IntoIterator<Item = Result<Entry, AuditError>>,
{
    let (size, last) = (checkpoint.size, checkpoint_line(checkpoint));
    let mut found = 0;
    let mut entries = entries.into_iter();
    let mut last = Some(last);
    let body = std::iter::from_fn(move || match entries.next() {
        Some(entry) => {
            found += 1;
            Some(entry.and_then(|e| entry_line(&e)))
        }
        None => last.take().map(|l| {
            if found == size {
                Ok(l)
            } else {
                Err(AuditError::Moved { size, found })
            }
        }),
    });
    std::iter::once(Ok(header_line())).chain(body)
}

/// A line has one form: the fields in their order, no spaces, the shortest escapes.
fn line<T: Serialize>(value: &T) -> String {
    // These types have no maps and no floats: nothing in them can fail to be written.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

/// A line that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The first.
    Header(Header),
    /// An entry.
    Entry(EntryLine),
    /// The last.
    Checkpoint(Checkpoint),
}

/// Why a line is none, and at which of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// From 0, in the line.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

/// Reads a line without its line feed, strictly.
///
/// # Errors
/// If it is not exactly what would be written for what it says.
pub fn read_line(bytes: &[u8]) -> Result<Line, BadLine> {
    let bad = |column: usize, what: String| BadLine { column, what };
    let text = std::str::from_utf8(bytes)
        .map_err(|e| bad(e.valid_up_to(), "a byte that is not UTF-8".into()))?;
    let not_json = |e: serde_json::Error| bad(e.column().saturating_sub(1), e.to_string());
    let (read, again) = if text.starts_with("{\"checkpoint\"") {
        let l: CheckpointLine = serde_json::from_str(text).map_err(not_json)?;
        (Line::Checkpoint(l.checkpoint.clone()), line(&l))
    } else if text.starts_with("{\"format\"") {
        let l: Header = serde_json::from_str(text).map_err(not_json)?;
        (Line::Header(l.clone()), line(&l))
    } else {
        let l: EntryLine = serde_json::from_str(text).map_err(not_json)?;
        (Line::Entry(l.clone()), line(&l))
    };
    let again = again.trim_end_matches('\n').as_bytes();
    if again == bytes {
        return Ok(read);
    }
    let column = again.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    Err(bad(
        column,
        "it is not written in the one form that a line may have".into(),
    ))
}
