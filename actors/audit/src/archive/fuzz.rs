//! Segment files as a bad disk, or a liar who knows how sums are made, might leave them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::active::SUFFIX;
use super::format::{self, BATCH_HEADER, BATCH_MAGIC, FILE_HEADER, FRAME_HEADER, Footer};
use super::{Options, Segments, check_segment};
use crate::tests_support::chain;
use hale_hostile::Parser;
use hale_model::Digest;
use std::fs;
use std::path::PathBuf;

/// A segment's file, as it is and with sums that fit.
pub const FILE: Parser = Parser {
    name: "segment_file",
    seeds: || vec![written(false), written(true)],
    feed: file,
};

/// What a sealed segment ends with, under a sum that fits.
pub const FOOTER: Parser = Parser {
    name: "segment_footer",
    seeds: || vec![footer_of(&written(true))],
    feed: footer,
};

const OPTIONS: Options = Options {
    segment_bytes: 1 << 20,
    preallocate_bytes: 300,
    check_bytes: u64::MAX,
};

fn name(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join(format!("{:020}.{SUFFIX}", 0))
}

/// The file of a short chain, in three batches.
fn written(sealed: bool) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let segments = Segments::open(dir.path(), OPTIONS).unwrap();
    for entries in chain(3).chunks(3) {
        segments.append(entries).unwrap();
        segments.sync().unwrap();
    }
    if sealed {
        segments.seal().unwrap();
    }
    drop(segments);
    fs::read(name(&dir)).unwrap()
}

fn file(bytes: &[u8]) {
    open(bytes);
    let mut bytes = bytes.to_vec();
    sum_up(&mut bytes);
    open(&bytes);
}

/// What opens is read to its end or to an error, is gone on from, and opens again as it was.
fn open(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(name(&dir), bytes).unwrap();
    let _ = check_segment(&name(&dir));
    let Ok(segments) = Segments::open(dir.path(), OPTIONS) else {
        return;
    };
    let (len, tip) = (segments.len(), segments.tip());
    let _ = segments.read(0..u64::MAX).take_while(Result::is_ok).count();
    let _ = segments.seal();
    drop(segments);
    let again = Segments::open(dir.path(), OPTIONS).unwrap();
    assert_eq!((again.len(), again.tip()), (len, tip));
}

fn first_eight(parts: &[&[u8]]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&Digest::of_parts(parts).as_bytes()[..8]);
    sum
}

/// Makes the sums of header, batches, frames and footer fit what they stand over.
fn sum_up(bytes: &mut [u8]) {
    let number = |b: &[u8]| b.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
    if bytes.len() < FILE_HEADER {
        return;
    }
    let sum = first_eight(&[&bytes[..FILE_HEADER - 8]]);
    bytes[FILE_HEADER - 8..FILE_HEADER].copy_from_slice(&sum);
    let mut at = FILE_HEADER;
    while bytes.len() >= at + BATCH_HEADER && bytes[at..at + 4] == BATCH_MAGIC {
        let end = at + BATCH_HEADER + number(&bytes[at + 8..at + 12]);
        let Some(body) = bytes.get_mut(at + BATCH_HEADER..end) else {
            break;
        };
        let (mut heads, mut rest) = (vec![], body);
        while rest.len() >= FRAME_HEADER {
            let (head, after) = rest.split_at_mut(FRAME_HEADER);
            let len = number(&head[..4]).min(after.len());
            let (entry, after) = after.split_at_mut(len);
            head[4..].copy_from_slice(&first_eight(&[entry]));
            heads.extend_from_slice(head);
            rest = after;
        }
        let sum = first_eight(&[&bytes[at..at + BATCH_HEADER - 8], &heads]);
        bytes[at + BATCH_HEADER - 8..at + BATCH_HEADER].copy_from_slice(&sum);
        at = end;
    }
    sum_up_footer(&mut bytes[at..]);
}

fn sum_up_footer(footer: &mut [u8]) {
    if let Some(body) = footer.len().checked_sub(Footer::TRAILER + 8) {
        let sum = first_eight(&[&footer[..body]]);
        footer[body..body + 8].copy_from_slice(&sum);
    }
}

fn footer_of(file: &[u8]) -> Vec<u8> {
    let trailer = &file[file.len() - Footer::TRAILER..];
    let len = Footer::len_from(trailer).unwrap() as usize;
    file[file.len() - len..].to_vec()
}

fn footer(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    sum_up_footer(&mut bytes);
    if let Some(footer) = Footer::read(&bytes) {
        // The trailer is read before, where the file ends.
        let written = footer.to_bytes();
        assert_eq!(written[..written.len() - 8], bytes[..bytes.len() - 8]);
    }
    for at in 0..bytes.len().min(8) {
        let _ = format::read_batch(&bytes, at);
    }
}
