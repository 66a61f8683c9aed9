//! The one home of bincode: what Hale's own bytes look like on the wire and in its stores.
//!
//! A frame is `"hale" version(1) kind(1) cluster(8) len(4) payload(len)`. Decoding has a limit,
//! rejects trailing bytes, never makes room for what is only said to come, and never makes more of
//! a few bytes than [`memory_limit`] says.

mod metered;

use metered::Meter;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most bytes one value may take, encoded or decoded.
pub const MAX_VALUE_BYTES: usize = 16 << 20;
/// The version of the frame.
pub const VERSION: u8 = 1;
/// The bytes before a frame's payload.
pub const FRAME_HEADER_BYTES: usize = 18;
const MAGIC: [u8; 4] = *b"hale";

/// Why bytes are not the value they should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The value can't be encoded, or is over the limit.
    #[error("the value can't be encoded")]
    Encode(#[source] bincode::error::EncodeError),
    /// The bytes are not such a value, or are over the limit.
    #[error("the bytes are not the value expected")]
    Decode(#[source] bincode::error::DecodeError),
    /// Bytes were left over.
    #[error("{0} bytes are left over after the value")]
    Trailing(usize),
    /// It does not begin with the magic.
    #[error("these bytes are not a frame of Hale")]
    NotAFrame,
    /// A frame of another version.
    #[error("a frame of version {0}; this binary speaks {VERSION}")]
    Version(u8),
    /// A frame of another cluster.
    #[error("a frame of another cluster, {0:016x}")]
    ForeignCluster(u64),
    /// A frame over the limit.
    #[error("a frame of {len} bytes is over the limit of {limit}")]
    TooLarge {
        /// What it says.
        len: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A frame cut short.
    #[error("a frame cut short")]
    Short,
}

/// The most bytes of memory that the items of a value of so many bytes may take. Commands and
/// answers of everyday take some ten times what they take encoded; a few may take more.
pub const fn memory_limit(encoded_bytes: usize) -> usize {
    (64 << 20) + 16 * encoded_bytes
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_VALUE_BYTES>()
}

/// Encodes a value.
///
/// # Errors
/// If its type can't be encoded or it is over [`MAX_VALUE_BYTES`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, WireError> {
    bincode::serde::encode_to_vec(value, config()).map_err(WireError::Encode)
}

/// Decodes a value from exactly these bytes.
///
/// # Errors
/// If they are not such a value, over the limit, too many, or if the value would take more memory
/// than [`memory_limit`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let meter = Meter::new(memory_limit(bytes.len().min(MAX_VALUE_BYTES)));
    let (value, used) = bincode::serde::seed_decode_from_slice(meter.seed(), bytes, config())
        .map_err(WireError::Decode)?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(WireError::Trailing(left)),
    }
}

/// A frame's header, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload is.
    pub kind: u8,
    /// How many bytes follow.
    pub len: usize,
}

/// Frames a payload for one cluster.
///
/// # Errors
/// If the payload is over [`MAX_VALUE_BYTES`].
pub fn frame(kind: u8, cluster: u64, payload: &[u8]) -> Result<Vec<u8>, WireError> {
    if payload.len() > MAX_VALUE_BYTES {
        return Err(WireError::TooLarge {
            len: payload.len(),
            limit: MAX_VALUE_BYTES,
        });
    }
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.push(kind);
    out.extend_from_slice(&cluster.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    Ok(out)
}

/// Checks a frame's header before its payload is read.
///
/// # Errors
/// If it is not a frame, or of another version or cluster, or longer than `limit`.
pub fn frame_header(bytes: &[u8], cluster: u64, limit: usize) -> Result<FrameHeader, WireError> {
    let head = bytes.get(..FRAME_HEADER_BYTES).ok_or(WireError::Short)?;
    if head[..4] != MAGIC {
        return Err(WireError::NotAFrame);
    }
    if head[4] != VERSION {
        return Err(WireError::Version(head[4]));
    }
    let be = |b: &[u8]| b.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let theirs = be(&head[6..14]);
    if theirs != cluster {
        return Err(WireError::ForeignCluster(theirs));
    }
    let len = be(&head[14..18]) as usize;
    if len > limit {
        return Err(WireError::TooLarge { len, limit });
    }
    Ok(FrameHeader { kind: head[5], len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Command, Scope};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode::<Command>(&bytes);
            let _ = frame_header(&bytes, 7, 1024);
        }
    }

    #[test]
    fn a_length_from_the_wire_does_not_allocate() {
        // A sequence that claims 2^60 elements.
        let mut bytes = vec![253];
        bytes.extend_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(decode::<Vec<Scope>>(&bytes).is_err());
    }

    /// Two bytes each encoded; some four hundred in memory.
    #[test]
    fn a_value_that_takes_far_more_memory_than_bytes_is_refused() {
        let small = Command::Rules { version: 1 };
        let bytes = encode(&vec![small.clone(); 2_000_000]).unwrap();
        assert!(size_of::<Command>() * 2_000_000 > 4 * memory_limit(bytes.len()));
        assert!(decode::<Vec<Command>>(&bytes).is_err());
        let some = vec![small; 10_000];
        assert_eq!(
            decode::<Vec<Command>>(&encode(&some).unwrap()).unwrap(),
            some
        );
    }

    #[test]
    fn foreign_clusters_versions_and_sizes_are_refused() {
        let f = frame(3, 7, b"hello").unwrap();
        assert_eq!(
            frame_header(&f, 7, 16).unwrap(),
            FrameHeader { kind: 3, len: 5 }
        );
        assert!(matches!(
            frame_header(&f, 8, 16),
            Err(WireError::ForeignCluster(7))
        ));
        assert!(matches!(
            frame_header(&f, 7, 4),
            Err(WireError::TooLarge { len: 5, limit: 4 })
        ));
        let mut other = f.clone();
        other[4] = 9;
        assert!(matches!(
            frame_header(&other, 7, 16),
            Err(WireError::Version(9))
        ));
        assert!(matches!(
            frame_header(&f[..10], 7, 16),
            Err(WireError::Short)
        ));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut b = encode(&Scope::Custom("x".into())).unwrap();
        b.push(0);
        assert!(matches!(decode::<Scope>(&b), Err(WireError::Trailing(1))));
    }
}
