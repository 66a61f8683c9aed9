//! A backup is made: piece by piece, as fast as it is taken.

use super::signed_bytes;
use super::{END, ENTRY, HEADER, Header, MAGIC, STATE, STATE_PIECE, VERSION, WriteError};
use hale_audit::archive::Segments;
use hale_consensus::Copy;
use hale_model::{Hasher, HostName, Keypair, Timestamp};

/// So much is handed on at once.
const PIECE: usize = 256 << 10;

/// Hands on a backup of this copy and the chain that it stands on.
///
/// # Errors
/// If the chain can't be read, or whoever takes the pieces says that it has gone.
pub(crate) fn write(
    copy: &Copy,
    chain: &Segments,
    cluster: u64,
    (key, host): (&Keypair, &HostName),
    at: Timestamp,
    take: impl FnMut(Vec<u8>) -> bool,
) -> Result<(), WriteError> {
    let tip = copy.ledger()?.tip();
    if chain.len() < tip.entries {
        return Err(WriteError::Behind {
            have: chain.len(),
            wanted: tip.entries,
        });
    }
    let header = Header {
        cluster: format!("{cluster:016x}"),
        node: key.node_id(),
        host: host.clone(),
        release: env!("CARGO_PKG_VERSION").into(),
        at,
        applied: copy.applied,
        state_bytes: copy.state.len() as u64,
        group: copy.group.clone(),
        entries: tip.entries,
        tip: tip.hash,
    };
    let header = serde_json::to_vec(&header).map_err(WriteError::Header)?;
    let mut pieces = Pieces {
        hasher: Hasher::default(),
        waiting: Vec::with_capacity(PIECE * 2),
        take,
    };
    pieces.put(&MAGIC)?;
    pieces.put(&[VERSION])?;
    pieces.frame(HEADER, &header)?;
    for piece in copy.state.chunks(STATE_PIECE) {
        pieces.frame(STATE, piece)?;
    }
    for entry in chain.read(0..tip.entries) {
        pieces.frame(ENTRY, &entry?.to_bytes())?;
    }
    pieces.end(key)
}

struct Pieces<F> {
    hasher: Hasher,
    waiting: Vec<u8>,
    take: F,
}

impl<F: FnMut(Vec<u8>) -> bool> Pieces<F> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.hasher.update(bytes);
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE {
            return self.hand_on();
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), WriteError> {
        self.put(&[kind])?;
        self.put(&(payload.len() as u32).to_be_bytes())?;
        self.put(payload)
    }

    fn end(mut self, key: &Keypair) -> Result<(), WriteError> {
        let digest = std::mem::take(&mut self.hasher).finish();
        let signature = key.sign(&signed_bytes(&digest));
        let end = [&digest.as_bytes()[..], signature.as_bytes()].concat();
        self.frame(END, &end)?;
        self.hand_on()
    }

    fn hand_on(&mut self) -> Result<(), WriteError> {
        // A frame of the transport holds 16 MiB, so one piece with one entry in it fits.
        let piece = std::mem::replace(&mut self.waiting, Vec::with_capacity(PIECE * 2));
        if piece.is_empty() || (self.take)(piece) {
            return Ok(());
        }
        Err(WriteError::Gone)
    }
}
