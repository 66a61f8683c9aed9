//! The newest snapshot, one file: `"HSNP" version(1) sha256(32) meta-length(4) meta state`. It is
//! what a node that lags behind the purged log is given.

use super::{StoreError, write_file};
use crate::types::SnapshotMeta;
use hale_model::{Digest, wire};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"HSNP";
const VERSION: u8 = 1;
pub(crate) const HEADER_BYTES: usize = 4 + 1 + 32;

/// The file that the newest snapshot is in.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile(PathBuf);

impl SnapshotFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Puts a snapshot in the place of the last one.
    pub(crate) fn write(&self, meta: &SnapshotMeta, state: &[u8]) -> io::Result<()> {
        write_file(&self.0, &bytes(meta, state)?)
    }

    /// The snapshot, if there is one.
    pub(crate) fn read(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, StoreError> {
        let bytes = match fs::read(&self.0) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io(&self.0)(e)),
        };
        parse(&self.0, &bytes).map(Some)
    }
}

/// The file of a snapshot.
pub(crate) fn bytes(meta: &SnapshotMeta, state: &[u8]) -> io::Result<Vec<u8>> {
    let meta = wire::encode(meta).map_err(io::Error::other)?;
    let len = (meta.len() as u32).to_be_bytes();
    let sum = Digest::of_parts(&[&len, &meta, state]);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 4 + meta.len() + state.len());
    for part in [&MAGIC[..], &[VERSION], sum.as_bytes(), &len, &meta, state] {
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// What such a file holds.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<(SnapshotMeta, Vec<u8>), StoreError> {
    let short = || StoreError::damaged(path, "it is cut short");
    let (head, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(short)?;
    if head[..4] != MAGIC {
        return Err(StoreError::damaged(path, "it is no snapshot"));
    }
    if head[4] != VERSION {
        let found = format!("snapshot {}", head[4]);
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    if Digest::of(rest).as_bytes() != &head[5..] {
        return Err(StoreError::damaged(path, "it does not match its checksum"));
    }
    let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let len = u32::from_be_bytes(*len) as usize;
    let (meta, state) = rest.split_at_checked(len).ok_or_else(short)?;
    let meta = wire::decode(meta).map_err(|e| StoreError::damaged(path, e))?;
    Ok((meta, state.to_vec()))
}
