//! What reads bytes from outside here, to be held against hostile ones.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::chain::Entry;
use crate::ledger::{EntryKind, Signed};
use crate::record::Record;
use crate::wire::{self, FRAME_HEADER_BYTES};
use crate::{Digest, Fence, HostName, Keypair, NodeId, SeriesKey, Timestamp, canonical};
use hale_hostile::Parser;

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "frame",
        seeds: || vec![wire::frame(3, CLUSTER, b"hello").unwrap()],
        feed: frame,
    },
    Parser {
        name: "entry",
        seeds: entries,
        feed: entry,
    },
    Parser {
        name: "canonical_json",
        seeds: || vec![br#"{"b":[1.0,4.5e-7,-0.0,1e27,true,null],"a":"\u20ac$\u000f\n"}"#.to_vec()],
        feed: canonical_json,
    },
    Parser {
        name: "words",
        seeds: words,
        feed: word,
    },
];

const CLUSTER: u64 = 7;
/// The most a frame may have here, in bytes.
const FRAME_LIMIT: usize = 1024;

fn frame(bytes: &[u8]) {
    if let Ok(header) = wire::frame_header(bytes, CLUSTER, FRAME_LIMIT) {
        assert!(header.len <= FRAME_LIMIT);
        if let Some(payload) = bytes.get(FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.len) {
            let again = wire::frame(header.kind, CLUSTER, payload).unwrap();
            assert_eq!(bytes[..again.len()], again);
        }
    }
}

fn entries() -> Vec<Vec<u8>> {
    let key = Keypair::from_seed(&[7; 32]);
    let body = br#"{"audit_metadata":{"node_id":"a"}}"#.to_vec();
    let signed = Signed::new(EntryKind::Record, body, &key);
    let entry = Entry::after(3, Digest::of(b"before"), Fence(9), signed);
    vec![entry.to_bytes()]
}

fn entry(bytes: &[u8]) {
    if let Ok(entry) = Entry::from_bytes(bytes) {
        assert_eq!(entry.to_bytes(), bytes);
        assert_eq!(entry.hash(), Digest::of(bytes));
        let _ = (entry.follows(3, entry.previous), Record::with_proof(&entry));
    }
}

/// One value has one text.
fn canonical_json(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return;
    };
    let once = canonical::to_bytes(&value).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&once).unwrap();
    assert_eq!(canonical::to_bytes(&read).unwrap(), once);
}

fn words() -> Vec<Vec<u8>> {
    let key = SeriesKey::new("system.disk")
        .with("mount", "/v\"a\\r")
        .with("x", "é");
    let texts = [
        key.to_string(),
        "2026-02-12T11:26:00.000Z".into(),
        Digest::of(b"x").to_string(),
        "prod-db-01.internal".into(),
    ];
    texts.map(String::into_bytes).into()
}

/// What is read is written as it is read again.
fn word(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(key) = SeriesKey::parse(text) {
        let _ = key.is_within_limits();
        // A name that holds what a series is written with is refused where it comes in.
        let is_plain = |s: &str| !s.contains(['{', '"', ',', '=']);
        if is_plain(&key.metric) && key.labels.keys().all(|k| is_plain(k)) {
            let again = SeriesKey::parse(&key.to_string());
            assert!(key.metric.is_empty() || again == Some(key));
        }
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        assert_eq!(at.to_string().parse(), Ok(at));
        let _ = at.compact();
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(node) = text.parse::<NodeId>() {
        assert_eq!(node.to_string(), text);
    }
    let _ = HostName::new(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_hostile::hold;

    #[test]
    fn frames_entries_json_and_words_may_be_anything() {
        PARSERS.iter().for_each(hold);
    }
}
