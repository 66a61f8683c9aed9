//! A segment's bytes.
//!
//! ```text
//! segment  = header frame* zero*
//! header   = "HALEWAL1"  number: u64  crc: u32  0: u32
//! frame    = length: u32  crc: u32  number: u64  body  zero*      (to a multiple of 8 bytes)
//! body     = record*
//! record   = 1 state     = 1  vote?  committed?  purged?
//!          | 2 entry     = 2  id  length: u32  crc: u32  payload
//!          | 3 vote      = 3  term: u64  node: u64  is committed: u8
//!          | 4 committed = 4  id
//!          | 5 purged    = 5  id
//!          | 6 truncated = 6  index: u64       entries from there on are gone
//! id       = term: u64  node: u64  index: u64
//! x?       = 0: u8 | 1: u8  x
//! ```
//!
//! Numbers are little-endian, checksums are CRC-32 (IEEE 802.3). A frame's covers the segment's
//! number, its own number, its length and its body. Frames are numbered through all segments, and
//! one is written only once the one before is on the disk. So a frame that does not check is one
//! that a crash cut short if nothing valid comes after it, and damage if something does.

use crate::store::words::{WalId, WalVote};

const MAGIC: &[u8; 8] = b"HALEWAL1";
pub(super) const HEADER_BYTES: usize = 24;
pub(super) const FRAME_HEAD_BYTES: usize = 16;
/// Before an entry's payload.
const ENTRY_HEAD_BYTES: usize = 1 + 24 + 8;

/// What stands in a log, in the order in which it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// All that earlier segments said of these three.
    State(State),
    Entry(WalId, &'a [u8]),
    Vote(WalVote),
    Committed(WalId),
    Purged(WalId),
    Truncated(u64),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) vote: Option<WalVote>,
    pub(super) committed: Option<WalId>,
    pub(super) purged: Option<WalId>,
}

pub(super) fn header(segment: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&segment.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn put_id(body: &mut Vec<u8>, id: &WalId) {
    for n in [id.term, id.node, id.index] {
        body.extend_from_slice(&n.to_le_bytes());
    }
}

fn put_vote(body: &mut Vec<u8>, vote: &WalVote) {
    body.extend_from_slice(&vote.term.to_le_bytes());
    body.extend_from_slice(&vote.node.to_le_bytes());
    body.push(u8::from(vote.committed));
}

fn put_option<T>(body: &mut Vec<u8>, value: Option<&T>, put: impl Fn(&mut Vec<u8>, &T)) {
    body.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(body, value);
    }
}

/// Adds a record to a frame's body; an entry's payload then ends where the body does.
pub(super) fn put(body: &mut Vec<u8>, record: &Record<'_>) {
    match record {
        Record::State(state) => {
            body.push(1);
            put_option(body, state.vote.as_ref(), put_vote);
            put_option(body, state.committed.as_ref(), put_id);
            put_option(body, state.purged.as_ref(), put_id);
        }
        Record::Entry(id, payload) => {
            body.reserve(ENTRY_HEAD_BYTES + payload.len());
            body.push(2);
            put_id(body, id);
            let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            body.extend_from_slice(&len.to_le_bytes());
            body.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
            body.extend_from_slice(payload);
        }
        Record::Vote(vote) => {
            body.push(3);
            put_vote(body, vote);
        }
        Record::Committed(id) => {
            body.push(4);
            put_id(body, id);
        }
        Record::Purged(id) => {
            body.push(5);
            put_id(body, id);
        }
        Record::Truncated(index) => {
            body.push(6);
            body.extend_from_slice(&index.to_le_bytes());
        }
    }
}

fn checksum(segment: u64, number: u64, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&segment.to_le_bytes());
    crc.update(&number.to_le_bytes());
    crc.update(&(body.len() as u64).to_le_bytes());
    crc.update(body);
    crc.finalize()
}

/// Makes a frame of a buffer that has room for the head before the body.
pub(super) fn seal(segment: u64, number: u64, frame: &mut Vec<u8>) {
    let body = &frame[FRAME_HEAD_BYTES..];
    let crc = checksum(segment, number, body);
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&len.to_le_bytes());
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame[8..16].copy_from_slice(&number.to_le_bytes());
    frame.resize(frame.len().next_multiple_of(8), 0);
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// The frame that begins there: its number, and where its body is.
fn frame_at(bytes: &[u8], segment: u64, at: usize) -> Option<(u64, std::ops::Range<usize>)> {
    let len = u32_at(bytes, at)? as usize;
    let (crc, number) = (u32_at(bytes, at + 4)?, u64_at(bytes, at + 8)?);
    let body = at + FRAME_HEAD_BYTES..(at + FRAME_HEAD_BYTES).checked_add(len)?;
    let is_valid = len > 0 && checksum(segment, number, bytes.get(body.clone())?) == crc;
    is_valid.then_some((number, body))
}

/// What a segment's bytes hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Where the bodies of the valid frames are.
    pub(super) frames: Vec<std::ops::Range<usize>>,
    /// The number of the first frame.
    pub(super) first: Option<u64>,
    /// Where what is valid ends.
    pub(super) end: usize,
    /// What comes after that is zeros.
    pub(super) ends_clean: bool,
}

/// Frames further on than this are not looked for behind one that does not check.
const MOST_AHEAD: u64 = 1 << 32;

/// Reads the frames of a segment, of which the first has this number, if it is known.
///
/// # Errors
/// What is damaged: there is something valid behind something that is not.
pub(super) fn scan(bytes: &[u8], segment: u64, first: Option<u64>) -> Result<Scan, String> {
    let mut scan = Scan {
        frames: vec![],
        first: None,
        end: 0,
        ends_clean: true,
    };
    let mut next = first;
    let has_header = bytes.get(..HEADER_BYTES) == Some(&header(segment)[..]);
    if has_header {
        scan.end = HEADER_BYTES;
        while let Some((number, body)) = frame_at(bytes, segment, scan.end) {
            if next.is_some_and(|next| next != number) {
                let next = next.unwrap_or_default();
                return Err(format!("frame {number} is where frame {next} should be"));
            }
            scan.first.get_or_insert(number);
            next = Some(number + 1);
            scan.end = body.end.next_multiple_of(8).min(bytes.len());
            scan.frames.push(body);
        }
    }
    let from = scan.end.max(if has_header { 0 } else { HEADER_BYTES });
    let rest = bytes.get(scan.end..).unwrap_or_default();
    scan.ends_clean = rest.iter().all(|b| *b == 0);
    if scan.ends_clean {
        return Ok(scan);
    }
    let least = next.unwrap_or(0);
    let mut at = from;
    while at + FRAME_HEAD_BYTES <= bytes.len() {
        let number = u64_at(bytes, at + 8).unwrap_or(0);
        let may_be = number >= least && number - least < MOST_AHEAD;
        // The one that should come next stands where the scan stopped, if anywhere.
        if may_be && (at > scan.end || !has_header) && frame_at(bytes, segment, at).is_some() {
            return Err(format!(
                "the bytes at {} are not what was written, and what comes after them at {at} is",
                scan.end
            ));
        }
        at += 8;
    }
    Ok(scan)
}

/// Reads the records of a frame's body, each with where its payload, if it has one, begins.
///
/// # Errors
/// What can't be read.
pub(super) fn records(body: &[u8]) -> Result<Vec<(Record<'_>, usize)>, String> {
    let mut reader = Reader { body, at: 0 };
    let mut found = vec![];
    while reader.at < body.len() {
        let begins = reader.at;
        let record = reader.record();
        let record =
            record.ok_or_else(|| format!("no record can be read at {begins} of a frame"))?;
        let payload = match &record {
            Record::Entry(_, payload) => reader.at - payload.len(),
            _ => begins,
        };
        found.push((record, payload));
    }
    Ok(found)
}

/// The payload's checksum stands right before it.
pub(super) fn payload_is_whole(crc_and_payload: &[u8]) -> bool {
    let crc = u32_at(crc_and_payload, 0);
    crc_and_payload
        .get(4..)
        .is_some_and(|payload| Some(crc32fast::hash(payload)) == crc)
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.body.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn u64(&mut self) -> Option<u64> {
        let n = u64_at(self.body, self.at)?;
        self.at += 8;
        Some(n)
    }

    fn id(&mut self) -> Option<WalId> {
        Some(WalId {
            term: self.u64()?,
            node: self.u64()?,
            index: self.u64()?,
        })
    }

    fn vote(&mut self) -> Option<WalVote> {
        Some(WalVote {
            term: self.u64()?,
            node: self.u64()?,
            committed: self.flag()?,
        })
    }

    /// `None` if nothing can be read, `Some(None)` if there is none.
    fn option<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? {
            Some(Some(read(self)?))
        } else {
            Some(None)
        }
    }

    fn record(&mut self) -> Option<Record<'a>> {
        Some(match self.byte()? {
            1 => Record::State(State {
                vote: self.option(Self::vote)?,
                committed: self.option(Self::id)?,
                purged: self.option(Self::id)?,
            }),
            2 => {
                let id = self.id()?;
                let len = u32_at(self.body, self.at)? as usize;
                let begins = self.at + 8;
                let payload = self.body.get(begins..begins.checked_add(len)?)?;
                if !payload_is_whole(&self.body[self.at + 4..begins + len]) {
                    return None;
                }
                self.at = begins + len;
                Record::Entry(id, payload)
            }
            3 => Record::Vote(self.vote()?),
            4 => Record::Committed(self.id()?),
            5 => Record::Purged(self.id()?),
            6 => Record::Truncated(self.u64()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> WalId {
        WalId {
            term: 3,
            node: 7,
            index,
        }
    }

    fn segment(frames: &[&[Record<'_>]]) -> Vec<u8> {
        let mut bytes = header(5).to_vec();
        for (n, records) in (40..).zip(frames) {
            let mut frame = vec![0; FRAME_HEAD_BYTES];
            for record in *records {
                put(&mut frame, record);
            }
            seal(5, n, &mut frame);
            bytes.extend(frame);
        }
        bytes
    }

    fn three() -> Vec<u8> {
        let vote = WalVote {
            term: 3,
            node: 7,
            committed: true,
        };
        let state = State {
            vote: Some(vote),
            committed: None,
            purged: Some(id(8)),
        };
        segment(&[
            &[Record::State(state), Record::Entry(id(9), b"nine")],
            &[Record::Vote(vote), Record::Committed(id(9))],
            &[Record::Truncated(9), Record::Purged(id(8))],
        ])
    }

    #[test]
    fn what_is_put_is_read() {
        let bytes = three();
        let scan = scan(&bytes, 5, Some(40)).unwrap();
        assert_eq!((scan.frames.len(), scan.end), (3, bytes.len()));
        let all: Vec<_> = scan
            .frames
            .iter()
            .flat_map(|body| records(&bytes[body.clone()]).unwrap())
            .collect();
        assert_eq!(all.len(), 6);
        assert_eq!(all[1].0, Record::Entry(id(9), b"nine"));
        let at = scan.frames[0].start + all[1].1;
        assert_eq!(&bytes[at..at + 4], b"nine");
        assert!(payload_is_whole(&bytes[at - 4..at + 4]));
        assert!(!payload_is_whole(&bytes[at - 4..at + 3]));
        assert_eq!(all[4].0, Record::Truncated(9));
    }

    #[test]
    fn a_last_frame_that_was_cut_short_is_dropped_and_any_other_is_damage() {
        let whole = three();
        let ends: Vec<_> = scan(&whole, 5, None).unwrap().frames;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            let found = scan(&bytes, 5, Some(40));
            if at >= ends[1].end.next_multiple_of(8) {
                // Behind the last frame's end is padding that nobody reads.
                let found = found.unwrap();
                assert!(found.frames.len() >= 2, "{at}");
                continue;
            }
            let is_padding = (ends[0].end..ends[0].end.next_multiple_of(8)).contains(&at)
                || (ends[1].end..ends[1].end.next_multiple_of(8)).contains(&at)
                || (20..24).contains(&at);
            if !is_padding {
                assert!(found.is_err(), "{at}: {found:?}");
            }
        }
        for at in 0..whole.len() {
            let found = scan(&whole[..at], 5, Some(40)).unwrap();
            let before = ends.iter().filter(|e| e.end <= at).count();
            assert_eq!(found.frames.len(), before, "cut at {at}");
        }
    }

    #[test]
    fn a_frame_elsewhere_is_none() {
        let bytes = three();
        assert!(scan(&bytes, 6, None).unwrap().frames.is_empty());
        assert!(scan(&bytes, 5, Some(41)).is_err());
    }
}
