//! Bytes in serde's own form for them. Without it a `Vec<u8>` is written and read one element at
//! a time. The binary encoding is the same; a text format writes a list of numbers either way.

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;

/// For `#[serde(with = "…")]` on a field of type `Vec<u8>`.
pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_bytes(bytes)
}

/// For `#[serde(with = "…")]` on a field of type `Vec<u8>`.
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    d.deserialize_byte_buf(Any)
}

/// Exactly `N` bytes.
pub(crate) fn array<'de, D: Deserializer<'de>, const N: usize>(d: D) -> Result<[u8; N], D::Error> {
    d.deserialize_bytes(Exactly::<N>)
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
        // What a sequence says of its own length is no reason to make room for it.
        let mut bytes = vec![];
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

struct Exactly<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for Exactly<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<[u8; N], E> {
        bytes
            .try_into()
            .map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<[u8; N], A::Error> {
        self.visit_bytes(&Any.visit_seq(seq)?)
    }
}

#[cfg(test)]
mod tests {
    use crate::wire;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Quick {
        #[serde(with = "super")]
        bytes: Vec<u8>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Slow {
        bytes: Vec<u8>,
    }

    #[test]
    fn both_ways_of_writing_bytes_give_the_same() {
        for len in [0, 1, 250, 251, 70_000] {
            let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let (quick, slow) = (
                Quick {
                    bytes: bytes.clone(),
                },
                Slow { bytes },
            );
            let encoded = wire::encode(&quick).unwrap();
            assert_eq!(encoded, wire::encode(&slow).unwrap());
            assert_eq!(wire::decode::<Quick>(&encoded).unwrap(), quick);
            assert_eq!(wire::decode::<Slow>(&encoded).unwrap(), slow);
            assert!(wire::decode::<Quick>(&encoded[..encoded.len() - 1]).is_err());
            let text = serde_json::to_string(&quick).unwrap();
            assert_eq!(text, serde_json::to_string(&slow).unwrap());
            assert_eq!(serde_json::from_str::<Quick>(&text).unwrap(), quick);
        }
    }

    #[test]
    fn a_length_that_no_bytes_follow_makes_no_room() {
        // A varint that says 2^24 - 1 bytes come.
        let lie = [252, 0xff, 0xff, 0xff, 0];
        assert!(wire::decode::<Quick>(&lie).is_err());
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused() {
        let short = wire::encode(&Quick { bytes: vec![1; 31] });
        let long = wire::encode(&Quick { bytes: vec![1; 33] });
        for bytes in [short, long] {
            assert!(wire::decode::<crate::NodeId>(&bytes.unwrap()).is_err());
        }
    }
}
