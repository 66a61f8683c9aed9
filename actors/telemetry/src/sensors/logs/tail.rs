//! One file that grows: what was added since the last look, as lines.

use super::find::FileId;
use super::positions::Position;
use crate::config::LimitsConfig;
use crate::limits::Drops;
use crate::lines::Splitter;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// How many of its first bytes tell a file from another in its place.
const HEAD_BYTES: usize = 128;
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    offset: u64,
    splitter: Splitter,
    head: Vec<u8>,
    /// Length and time of change when it was last looked at.
    seen: (u64, i64, i64),
}

impl Tail {
    /// Opens a file: where it was left, or at its beginning, or at its end.
    pub(super) fn open(
        path: &Path,
        known: Option<&Position>,
        from_start: bool,
        max_line: usize,
    ) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let offset = match known {
            // The same file, grown: go on. The same inode with other contents: another file.
            Some(p) if p.offset <= length && starts_with(&file, &p.head) => p.offset,
            Some(_) => 0,
            None if from_start => 0,
            None => end_of_last_line(&file, length),
        };
        let mut tail = Self {
            file,
            offset,
            splitter: Splitter::new(max_line),
            head: Vec::new(),
            seen: (u64::MAX, 0, 0),
        };
        tail.remember_head();
        Ok(tail)
    }

    /// Gives each line that was added, at most as many bytes as one round may read.
    pub(super) fn read(
        &mut self,
        limits: &LimitsConfig,
        drops: &mut Drops,
        sink: &mut impl FnMut(&str),
    ) -> io::Result<()> {
        let meta = self.file.metadata()?;
        let seen = (meta.len(), meta.mtime(), meta.mtime_nsec());
        if seen == self.seen && meta.len() == self.offset {
            return Ok(());
        }
        self.seen = seen;
        if meta.len() < self.offset || !starts_with(&self.file, &self.head) {
            // Truncated (copytruncate, `> file`): what is there now is all new.
            self.splitter = Splitter::new(limits.line_bytes);
            self.offset = 0;
            self.head.clear();
        }
        self.skip_backlog(meta.len(), limits, drops);
        self.read_chunks(limits.read_bytes, sink)?;
        drops.add("log_line_cut", self.splitter.take_cut());
        self.remember_head();
        Ok(())
    }

    fn read_chunks(&mut self, most: u64, sink: &mut impl FnMut(&str)) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let stop = self.offset.saturating_add(most);
        while self.offset < stop {
            let n = self.file.read_at(&mut buffer, self.offset)?;
            if n == 0 {
                break;
            }
            self.splitter.feed(&buffer[..n], sink);
            self.offset += n as u64;
        }
        Ok(())
    }

    /// A file that grows faster than it can be read would take ever more time: what is too old
    /// is left out, and counted.
    fn skip_backlog(&mut self, length: u64, limits: &LimitsConfig, drops: &mut Drops) {
        if length.saturating_sub(self.offset) > limits.backlog_bytes {
            drops.add("log_backlog", 1);
            self.splitter = Splitter::new(limits.line_bytes);
            self.offset = length.saturating_sub(limits.read_bytes);
        }
    }

    /// Whether all of it was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.file
            .metadata()
            .map_or(true, |m| m.len() <= self.offset)
    }

    /// Ends the last line, though no newline came.
    pub(super) fn finish(&mut self, sink: &mut impl FnMut(&str)) {
        self.splitter.finish(sink);
    }

    pub(super) fn position(&self, id: FileId, path: &str) -> Position {
        Position {
            path: path.to_owned(),
            device: id.device,
            inode: id.inode,
            offset: self.offset.saturating_sub(self.splitter.unfinished()),
            head: self.head.clone(),
        }
    }

    /// Bytes before the offset don't change any more, unless the file is another.
    fn remember_head(&mut self) {
        let want = usize::try_from(self.offset)
            .unwrap_or(HEAD_BYTES)
            .min(HEAD_BYTES);
        if self.head.len() < want {
            let mut head = vec![0; want];
            if self.file.read_exact_at(&mut head, 0).is_ok() {
                self.head = head;
            }
        }
    }
}

/// A file first met at its end may end within a line: that line is read when it is whole.
fn end_of_last_line(file: &File, length: u64) -> u64 {
    let mut buffer = vec![0; CHUNK_BYTES];
    let from = length.saturating_sub(CHUNK_BYTES as u64);
    let n = file.read_at(&mut buffer, from).unwrap_or(0);
    match buffer[..n].iter().rposition(|b| *b == b'\n') {
        Some(at) => from + at as u64 + 1,
        None if from == 0 => 0,
        None => length,
    }
}

fn starts_with(file: &File, head: &[u8]) -> bool {
    let mut there = vec![0; head.len()];
    head.is_empty() || (file.read_exact_at(&mut there, 0).is_ok() && there == head)
}
