//! The bytes of a segment file.
//!
//! ```text
//! file    "\xffHALESG\x01" first(8) previous(32) sum(8)            then batches, then a footer
//! batch   "\xffHB\x01" count(4) bytes(4) first(8) synced(8) sum(8)  then count × frame
//! frame   len(4) sum(8) entry(len)
//! footer  "\xffHF\x01" count(4) peaks(4) first(8) tip(32) peak(32)… offset(4)…
//!         sum(8) len(4) "\xffEND"
//! ```
//! All numbers are big-endian; a sum is the first eight bytes of a SHA-256. A frame's is the
//! entry's own hash, so checking it costs nothing extra. A batch's covers its header and the
//! head of each frame. `synced` is how far the file was on the platter when the batch was
//! written: it tells a torn tail from damage. The first byte occurs in no UTF-8 text, so no body
//! can pretend to be a batch.

use crate::merkle::{self, Frontier};
use hale_model::Digest;
use hale_model::chain::{Entry, HEADER_BYTES};
use hale_model::ledger::MAX_BODY_BYTES;

pub(super) const FILE_HEADER: usize = 56;
pub(super) const BATCH_HEADER: usize = 36;
pub(super) const FRAME_HEADER: usize = 12;
pub(super) const MAX_ENTRY: usize = HEADER_BYTES + MAX_BODY_BYTES;
const TRAILER: usize = 8;
const FOOTER_FIXED: usize = 52;

const FILE_MAGIC: [u8; 8] = *b"\xffHALESG\x01";
pub(super) const BATCH_MAGIC: [u8; 4] = *b"\xffHB\x01";
const FOOTER_MAGIC: [u8; 4] = *b"\xffHF\x01";
const END_MAGIC: [u8; 4] = *b"\xffEND";

fn sum(parts: &[&[u8]]) -> [u8; 8] {
    first_eight(&Digest::of_parts(parts))
}

fn first_eight(digest: &Digest) -> [u8; 8] {
    let mut out = [0; 8];
    out.copy_from_slice(&digest.as_bytes()[..8]);
    out
}

/// Reads fixed-size fields from the front of some bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self, n: usize) -> Option<u64> {
        Some(self.bytes(n)?.iter().fold(0, |v, b| v << 8 | u64::from(*b)))
    }

    fn digest(&mut self) -> Option<Digest> {
        Some(Digest::from_bytes(self.bytes(32)?.try_into().ok()?))
    }
}

/// What a segment file begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) first: u64,
    pub(super) previous: Digest,
}

impl FileHeader {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = FILE_MAGIC.to_vec();
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(self.previous.as_bytes());
        let sum = sum(&[&out]);
        out.extend_from_slice(&sum);
        out
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FILE_HEADER)?;
        let (body, checksum) = bytes.split_at(FILE_HEADER - 8);
        let mut f = Fields(body);
        let right = f.bytes(8)? == FILE_MAGIC && sum(&[body]) == checksum;
        right.then_some(Self {
            first: f.number(8)?,
            previous: f.digest()?,
        })
    }
}

/// An entry with all that is derived from its bytes.
pub(super) struct Framed {
    /// Where its frame begins in the file.
    pub(super) offset: u64,
    pub(super) entry: Entry,
    pub(super) hash: Digest,
    pub(super) leaf: Digest,
}

/// A batch ready to be written at some offset, and what it does to the chain.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) offsets: Vec<u32>,
    pub(super) leaves: Vec<Digest>,
    pub(super) tip: Digest,
}

/// Frames entries for writing at `at`, of a file whose first `synced` bytes are on the platter.
pub(super) fn batch(entries: &[Entry], at: u64, synced: u64) -> Batch {
    let mut out = Batch {
        bytes: vec![0; BATCH_HEADER],
        offsets: vec![],
        leaves: vec![],
        tip: Digest::ZERO,
    };
    let mut heads = Vec::with_capacity(entries.len() * FRAME_HEADER);
    for entry in entries {
        let bytes = entry.to_bytes();
        out.tip = Digest::of(&bytes);
        out.leaves.push(merkle::leaf(&bytes));
        out.offsets.push((at + out.bytes.len() as u64) as u32);
        let mut head = (bytes.len() as u32).to_be_bytes().to_vec();
        head.extend_from_slice(&first_eight(&out.tip));
        heads.extend_from_slice(&head);
        out.bytes.extend_from_slice(&head);
        out.bytes.extend_from_slice(&bytes);
    }
    let mut header = BATCH_MAGIC.to_vec();
    header.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    header.extend_from_slice(&((out.bytes.len() - BATCH_HEADER) as u32).to_be_bytes());
    header.extend_from_slice(&entries.first().map_or(0, |e| e.index).to_be_bytes());
    header.extend_from_slice(&synced.to_be_bytes());
    let sum = sum(&[&header, &heads]);
    header.extend_from_slice(&sum);
    out.bytes[..BATCH_HEADER].copy_from_slice(&header);
    out
}

/// A batch that was read, whole and right.
pub(super) struct ReadBatch {
    pub(super) first: u64,
    pub(super) synced: u64,
    pub(super) entries: Vec<Framed>,
    /// Where it ends in the file.
    pub(super) end: u64,
}

/// Reads the batch at `at` of a file's bytes.
pub(super) fn read_batch(file: &[u8], at: usize) -> Result<ReadBatch, &'static str> {
    let header = file
        .get(at..at + BATCH_HEADER)
        .ok_or("a batch header is cut short")?;
    let mut f = Fields(header);
    if f.bytes(4) != Some(&BATCH_MAGIC) {
        return Err("no batch begins here");
    }
    let short = "a batch is cut short";
    let count = f.number(4).ok_or(short)?;
    let len = f.number(4).ok_or(short)? as usize;
    let first = f.number(8).ok_or(short)?;
    let synced = f.number(8).ok_or(short)?;
    let start = at + BATCH_HEADER;
    let body = file.get(start..start + len).ok_or(short)?;
    let mut heads = vec![];
    let mut frames = Fields(body);
    let mut found = vec![];
    for _ in 0..count {
        let offset = (start + body.len() - frames.0.len()) as u64;
        let head = frames.bytes(FRAME_HEADER).ok_or("a frame is cut short")?;
        heads.extend_from_slice(head);
        let len = frame_len(head).ok_or("an entry's length is impossible")?;
        let bytes = frames
            .bytes(len)
            .ok_or("a frame is longer than its batch")?;
        found.push((offset, head, bytes));
    }
    if !frames.0.is_empty()
        || sum(&[&header[..BATCH_HEADER - 8], &heads]) != header[BATCH_HEADER - 8..]
    {
        return Err("a batch does not match its checksum");
    }
    let entries = found
        .into_iter()
        .map(|(offset, head, bytes)| read_frame(offset, head, bytes))
        .collect::<Result<_, _>>()?;
    Ok(ReadBatch {
        first,
        synced,
        entries,
        end: (start + len) as u64,
    })
}

/// Reads one entry's frame.
pub(super) fn read_frame(offset: u64, head: &[u8], bytes: &[u8]) -> Result<Framed, &'static str> {
    let hash = Digest::of(bytes);
    if head.get(4..FRAME_HEADER) != Some(&first_eight(&hash)) {
        return Err("an entry does not match its checksum");
    }
    let entry =
        Entry::from_bytes(bytes).map_err(|_| "an entry has a form this binary does not know")?;
    Ok(Framed {
        offset,
        entry,
        hash,
        leaf: merkle::leaf(bytes),
    })
}

/// The length that a frame's head names, if it is one an entry can have.
pub(super) fn frame_len(head: &[u8]) -> Option<usize> {
    let len = Fields(head).number(4)? as usize;
    (HEADER_BYTES..=MAX_ENTRY).contains(&len).then_some(len)
}

/// What a sealed segment ends with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) first: u64,
    pub(super) tip: Digest,
    /// Of the whole chain up to this segment's end.
    pub(super) frontier: Frontier,
    /// Where each entry's frame begins.
    pub(super) offsets: Vec<u32>,
}

impl Footer {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let peaks = self.frontier.peaks();
        let mut out = FOOTER_MAGIC.to_vec();
        out.extend_from_slice(&(self.offsets.len() as u32).to_be_bytes());
        out.extend_from_slice(&(peaks.len() as u32).to_be_bytes());
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(self.tip.as_bytes());
        peaks
            .iter()
            .for_each(|p| out.extend_from_slice(p.as_bytes()));
        self.offsets
            .iter()
            .for_each(|o| out.extend_from_slice(&o.to_be_bytes()));
        let sum = sum(&[&out]);
        out.extend_from_slice(&sum);
        let len = out.len() as u32 + TRAILER as u32;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&END_MAGIC);
        out
    }

    /// The length of the whole footer, from the file's last [`Footer::TRAILER`] bytes.
    pub(super) fn len_from(trailer: &[u8]) -> Option<u64> {
        let mut f = Fields(trailer);
        let len = f.number(4)?;
        (f.bytes(4)? == END_MAGIC).then_some(len)
    }

    pub(super) const TRAILER: usize = TRAILER;

    /// Reads a whole footer.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let body = bytes.get(..bytes.len().checked_sub(TRAILER + 8)?)?;
        let checksum = &bytes[body.len()..body.len() + 8];
        if body.len() < FOOTER_FIXED || sum(&[body]) != checksum {
            return None;
        }
        let mut f = Fields(body);
        if f.bytes(4)? != FOOTER_MAGIC {
            return None;
        }
        let count = f.number(4)?;
        let peaks = f.number(4)?;
        let first = f.number(8)?;
        let tip = f.digest()?;
        let peaks = (0..peaks).map(|_| f.digest()).collect::<Option<Vec<_>>>()?;
        let offsets = (0..count)
            .map(|_| f.number(4).map(|o| o as u32))
            .collect::<Option<Vec<_>>>()?;
        let frontier = Frontier::from_parts(first.checked_add(count)?, peaks)?;
        f.0.is_empty().then_some(Self {
            first,
            tip,
            frontier,
            offsets,
        })
    }
}
