//! Checks an export as its bytes come in, line by line.

use super::{Check, Place, Report, Trust, Verifier};
use crate::export::{self, EntryLine, Line, MAX_LINE_BYTES};
use hale_model::chain::Entry;

/// Checks an export's bytes, in pieces of any size.
#[derive(Debug)]
pub struct ExportVerifier {
    inner: Verifier,
    /// The line that is not whole yet.
    pub(super) partial: Vec<u8>,
    line: u64,
    /// Where that line begins.
    offset: u64,
    /// A line over the limit is skipped to its end.
    skipping: bool,
    ended: bool,
}

impl ExportVerifier {
    /// With nothing read yet.
    pub fn new(trust: Trust) -> Self {
        Self {
            inner: Verifier::new(trust),
            partial: vec![],
            line: 1,
            offset: 0,
            skipping: false,
            ended: false,
        }
    }

    /// The next bytes of the file. What was found so far is seen with
    /// [`ExportVerifier::progress`].
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.more(&bytes[..end]);
            self.end_of_line();
            bytes = &bytes[end + 1..];
        }
        self.more(bytes);
    }

    /// Bytes in whole lines, entries, and faults so far.
    pub fn progress(&self) -> (u64, u64, u64) {
        (self.offset, self.inner.entries(), self.inner.faults())
    }

    /// What was found, now that the file has ended.
    pub fn finish(mut self) -> Report {
        if !self.partial.is_empty() || self.skipping {
            self.fault(self.partial.len(), "the file ends within a line".into());
        } else if !self.ended {
            self.fault(
                0,
                "the file ends without a checkpoint: its end was cut off".into(),
            );
        }
        self.inner.finish()
    }

    fn more(&mut self, bytes: &[u8]) {
        if self.skipping {
            self.offset += bytes.len() as u64;
        } else if self.partial.len() + bytes.len() > MAX_LINE_BYTES {
            self.fault(
                MAX_LINE_BYTES,
                "the line is longer than any line may be".into(),
            );
            self.offset += (self.partial.len() + bytes.len()) as u64;
            self.partial.clear();
            self.skipping = true;
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    fn end_of_line(&mut self) {
        let line = std::mem::take(&mut self.partial);
        if !std::mem::take(&mut self.skipping) {
            self.take(&line);
        }
        self.offset += line.len() as u64 + 1;
        self.line += 1;
        // Its room is used again.
        self.partial = line;
        self.partial.clear();
    }

    fn take(&mut self, line: &[u8]) {
        if self.ended {
            return self.fault(0, "there is a line after the checkpoint".into());
        }
        match export::read_line(line) {
            Err(bad) => self.fault(bad.column, bad.what),
            Ok(Line::Header(h)) if self.line != 1 || h != export::Header::default() => {
                self.fault(
                    0,
                    "it is not a header that this binary knows, in the first line".into(),
                );
            }
            Ok(Line::Header(_)) => {}
            Ok(_) if self.line == 1 => self.fault(0, "the first line is not a header".into()),
            Ok(Line::Entry(entry)) => self.entry(&entry),
            Ok(Line::Checkpoint(c)) => {
                self.ended = true;
                let place = Place {
                    entry: None,
                    ..self.place(0)
                };
                self.inner.checkpoint_at(&c, place);
            }
        }
    }

    fn entry(&mut self, line: &EntryLine) {
        let entry = Entry::from(line);
        let place = self.place(0);
        if entry.hash() != line.hash {
            let what = format!(
                "its bytes have the hash {}, it says {}",
                entry.hash(),
                line.hash
            );
            self.inner.fault(place, Check::Chain, what);
        }
        self.inner.entry_at(&entry, place);
    }

    fn place(&self, column: usize) -> Place {
        Place {
            line: Some(self.line),
            offset: Some(self.offset + column as u64),
            // The second line holds the first entry.
            entry: self.line.checked_sub(2),
        }
    }

    fn fault(&mut self, column: usize, what: String) {
        let place = self.place(column);
        self.inner.fault(place, Check::Form, what);
    }
}
