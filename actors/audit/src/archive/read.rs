//! Entries by number, from any segment, checked as they are read.

use super::format::{self, FRAME_HEADER};
use super::recover;
use crate::error::AuditError;
use hale_model::Digest;
use hale_model::chain::Entry;
use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// How much is read at once.
const WINDOW: usize = 256 << 10;

/// Where some entries are.
pub(super) enum Source {
    /// In a sealed file; its index is read when it is its turn.
    Sealed(Arc<Path>),
    /// In the file that is still written.
    Active {
        file: Arc<File>,
        path: Arc<Path>,
        offsets: Vec<u32>,
    },
}

/// Entries in order, each with its bytes checked and pointing at the one before it. It ends after
/// the first error. It keeps reading what was there when it was made.
pub struct Entries {
    sources: VecDeque<(u64, Source)>,
    range: Range<u64>,
    open: Option<Open>,
    previous: Option<Digest>,
}

struct Open {
    path: Arc<Path>,
    file: Arc<File>,
    first: u64,
    offsets: Vec<u32>,
    window: Vec<u8>,
    window_at: u64,
}

impl Entries {
    /// Over sources by the number of their first entry; `range` is within them.
    pub(super) fn new(sources: VecDeque<(u64, Source)>, range: Range<u64>) -> Self {
        Self {
            sources,
            range,
            open: None,
            previous: None,
        }
    }

    fn read(&mut self, index: u64) -> Result<Entry, AuditError> {
        while self
            .open
            .as_ref()
            .is_none_or(|o| index >= o.first + o.offsets.len() as u64)
        {
            let (first, source) = self.sources.pop_front().ok_or(AuditError::TooShort {
                asked: index + 1,
                have: index,
            })?;
            self.open = Some(Open::new(first, source)?);
        }
        let Some(open) = self.open.as_mut() else {
            return Err(AuditError::TooShort {
                asked: index + 1,
                have: index,
            });
        };
        let offset = u64::from(open.offsets[(index - open.first) as usize]);
        let head = open.bytes(offset, FRAME_HEADER)?.to_vec();
        let len = format::frame_len(&head);
        let len = len.ok_or_else(|| {
            AuditError::damaged(&open.path, offset, "an entry's length is impossible")
        })?;
        let path = open.path.clone();
        let bytes = open.bytes(offset + FRAME_HEADER as u64, len)?;
        let framed = format::read_frame(offset, &head, bytes)
            .map_err(|what| AuditError::damaged(&path, offset, what))?;
        let follows = self.previous.is_none_or(|p| p == framed.entry.previous);
        if framed.entry.index != index || !follows {
            let what = format!("entry {index} does not follow the one before it");
            return Err(AuditError::damaged(&path, offset, what));
        }
        self.previous = Some(framed.hash);
        Ok(framed.entry)
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, AuditError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.range.next()?;
        let read = self.read(index);
        if read.is_err() {
            self.range = 0..0;
        }
        Some(read)
    }
}

impl Open {
    fn new(first: u64, source: Source) -> Result<Self, AuditError> {
        let (path, file, offsets) = match source {
            Source::Active {
                file,
                path,
                offsets,
            } => (path, file, offsets),
            Source::Sealed(path) => {
                let file = File::open(&path).map_err(AuditError::io("opening", &path))?;
                let (footer, _) = recover::footer(&path, &file)?
                    .ok_or_else(|| AuditError::damaged(&path, 0, "its footer is gone"))?;
                (path, Arc::new(file), footer.offsets)
            }
        };
        Ok(Self {
            path,
            file,
            first,
            offsets,
            window: vec![],
            window_at: 0,
        })
    }

    /// `len` bytes at `at`, through the window.
    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], AuditError> {
        let within =
            at >= self.window_at && at + len as u64 <= self.window_at + self.window.len() as u64;
        if !within {
            self.fill(at, len)?;
        }
        let start = (at - self.window_at) as usize;
        let cut_short = || AuditError::damaged(&self.path, at, "the file is cut short");
        self.window.get(start..start + len).ok_or_else(cut_short)
    }

    fn fill(&mut self, at: u64, len: usize) -> Result<(), AuditError> {
        self.window.resize(len.max(WINDOW), 0);
        self.window_at = at;
        let mut filled = 0;
        while filled < self.window.len() {
            match self
                .file
                .read_at(&mut self.window[filled..], at + filled as u64)
            {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(AuditError::io("reading", &self.path)(e)),
            }
        }
        self.window.truncate(filled);
        Ok(())
    }
}
