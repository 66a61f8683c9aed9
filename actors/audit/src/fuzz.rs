//! What reads bytes from outside here, to be held against hostile ones: exports, proofs, segments.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::archive::fuzz as segments;
use crate::checkpoint::Checkpoint;
use crate::merkle::{self, Frontier, MAX_PATH, Tree};
use crate::prove::{Proof, prove};
use crate::tests_support::{chain, key};
use crate::verify::{ExportVerifier, Trust};
use crate::{enrolment, export, recovery::Recovery, removal};
use hale_hostile::Parser;
use hale_model::chain::Entry;
use hale_model::{Digest, IncidentId};

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "audit_export",
        seeds: || vec![exported()],
        feed: verify_export,
    },
    Parser {
        name: "audit_proof",
        seeds: || vec![proven()],
        feed: verify_proof,
    },
    Parser {
        name: "merkle_path",
        seeds: || vec![[&[0; 7][..], &[3, 0, 0, 0, 0, 0, 0, 0, 9], &[7; 128]].concat()],
        feed: merkle_path,
    },
    segments::FILE,
    segments::FOOTER,
];

fn checkpoint(chain: &[Entry]) -> Checkpoint {
    let mut frontier = Frontier::default();
    chain
        .iter()
        .for_each(|e| frontier.push(merkle::leaf(&e.to_bytes())));
    Checkpoint::sign(&frontier, chain.last().unwrap().hash(), &key(1))
}

fn exported() -> Vec<u8> {
    let chain = chain(4);
    let lines = export::lines(chain.iter().cloned().map(Ok), &checkpoint(&chain));
    lines.collect::<Result<String, _>>().unwrap().into_bytes()
}

/// Whatever pieces it comes in, the same is found; and nothing but what was written is sound.
fn verify_export(bytes: &[u8]) {
    let mut whole = ExportVerifier::new(Trust::FirstEnrolment);
    whole.feed(bytes);
    let mut pieces = ExportVerifier::new(Trust::FirstEnrolment);
    bytes.chunks(37).for_each(|piece| pieces.feed(piece));
    let (whole, pieces) = (whole.finish(), pieces.finish());
    assert_eq!(whole.fault_count, pieces.fault_count);
    assert_eq!(whole.tip, pieces.tip);
    assert!(!whole.is_sound() || bytes == exported());
    for line in bytes.split(|b| *b == b'\n') {
        let _ = export::read_line(line);
        let _ = (
            enrolment::node_of(line),
            removal::node_of(line),
            Recovery::of(line),
        );
    }
}

fn proven() -> Vec<u8> {
    let chain = chain(9);
    let incident = IncidentId::new("inc_3").unwrap();
    let proof = prove(
        &incident,
        || chain.iter().cloned().map(Ok),
        &checkpoint(&chain),
    );
    proof.unwrap().to_text().into_bytes()
}

fn verify_proof(bytes: &[u8]) {
    if let Ok(proof) = Proof::from_text(bytes) {
        assert_eq!(proof.to_text().into_bytes(), bytes);
        let holds = proof.verify(&Trust::FirstEnrolment).is_ok();
        assert!(!holds || bytes == proven());
    }
}

/// Two numbers and hashes: as a proof of inclusion, and as one that a tree grew.
fn merkle_path(bytes: &[u8]) {
    let number = |at: usize| {
        bytes
            .get(at..at + 8)?
            .try_into()
            .ok()
            .map(u64::from_be_bytes)
    };
    let (Some(a), Some(b)) = (number(0), number(8)) else {
        return;
    };
    let hashes = bytes[16..].chunks_exact(32).take(MAX_PATH);
    let path: Vec<_> = hashes
        .map(|h| Digest::from_bytes(h.try_into().unwrap()))
        .collect();
    let root = Digest::of(b"root");
    assert!(!merkle::includes(merkle::leaf(b"x"), a, b, &path, &root));
    let (old, new) = (
        Tree { size: a, root },
        Tree {
            size: b,
            root: Digest::of(b"new"),
        },
    );
    assert!(!merkle::extends(old, new, &path));
    if let Some(mut frontier) = Frontier::from_parts(a, path) {
        frontier.push(root);
        let _ = frontier.root();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_hostile::{hold, hold_for};

    #[test]
    fn an_export_may_be_anything_and_only_what_was_written_is_sound() {
        hold_for(&PARSERS[0], 96);
    }

    #[test]
    fn a_proof_may_be_anything_and_only_what_was_written_holds() {
        hold(&PARSERS[1]);
    }

    #[test]
    fn a_path_may_be_anything() {
        hold(&PARSERS[2]);
    }

    #[test]
    fn a_segment_on_the_disk_may_be_anything() {
        hold_for(&segments::FILE, 48);
        hold(&segments::FOOTER);
    }
}
