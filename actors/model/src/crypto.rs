//! Keys, signatures and digests. A node's Ed25519 public key is its identity everywhere.

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// Why bytes are not a key, a digest or a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The text is not lower-case hexadecimal of the right length.
    #[error("`{text}` is not {bytes} bytes in lower-case hexadecimal")]
    NotHex {
        /// The text, cut to 80 characters.
        text: String,
        /// How many bytes were wanted.
        bytes: usize,
    },
    /// The 32 bytes are not a point of the curve.
    #[error("these 32 bytes are not an Ed25519 public key")]
    NotAKey,
    /// The signature is not the key's over these bytes.
    #[error("the signature does not belong to this key and these bytes")]
    BadSignature,
    /// The system has no randomness to give.
    #[error("the system gave no randomness: {0}")]
    NoEntropy(String),
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut s = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        s.push(DIGITS[usize::from(b >> 4)] as char);
        s.push(DIGITS[usize::from(b & 15)] as char);
    }
    s
}

/// Strict: lower case only, so that one value has one text.
fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], CryptoError> {
    let err = || CryptoError::NotHex {
        text: text.chars().take(80).collect(),
        bytes: N,
    };
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let raw = text.as_bytes();
    if raw.len() != 2 * N {
        return Err(err());
    }
    let mut out = [0; N];
    for (o, pair) in out.iter_mut().zip(raw.chunks_exact(2)) {
        *o = digit(pair[0])
            .zip(digit(pair[1]))
            .map(|(h, l)| h << 4 | l)
            .ok_or_else(err)?;
    }
    Ok(out)
}

macro_rules! bytes_type {
    ($type:ident, $n:literal, $prefix:literal) => {
        impl $type {
            /// From its bytes.
            pub const fn from_bytes(bytes: [u8; $n]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $n] {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, to_hex(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = CryptoError;
            fn from_str(text: &str) -> Result<Self, CryptoError> {
                let hex = text.strip_prefix($prefix).unwrap_or("");
                from_hex(hex).map(Self).map_err(|e| match e {
                    CryptoError::NotHex { bytes, .. } => CryptoError::NotHex {
                        text: text.chars().take(80).collect(),
                        bytes,
                    },
                    e => e,
                })
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() {
                    s.collect_str(self)
                } else {
                    s.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?
                        .parse()
                        .map_err(serde::de::Error::custom)
                } else {
                    let bytes = <Vec<u8>>::deserialize(d)?;
                    <[u8; $n]>::try_from(bytes)
                        .map(Self)
                        .map_err(|_| serde::de::Error::custom(concat!("expected ", $n, " bytes")))
                }
            }
        }
    };
}

/// A SHA-256, shown as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);
bytes_type!(Digest, 32, "sha256:");

impl Digest {
    /// The digest before the first: what the first entry of a chain points at.
    pub const ZERO: Self = Self([0; 32]);

    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// SHA-256 of several parts, one after the other.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut h = Sha256::new();
        for p in parts {
            h.update(p);
        }
        Self(h.finalize().into())
    }

    /// HMAC-SHA-256 (RFC 2104) of several parts, one after the other, under a key of 32 bytes.
    pub fn keyed(key: &[u8; 32], parts: &[&[u8]]) -> Self {
        let (mut inner, mut outer) = ([0x36; 64], [0x5c; 64]);
        for (i, k) in key.iter().enumerate() {
            inner[i] ^= k;
            outer[i] ^= k;
        }
        let all: Vec<&[u8]> = [&inner[..]]
            .into_iter()
            .chain(parts.iter().copied())
            .collect();
        let inner = Self::of_parts(&all);
        Self::of_parts(&[&outer, inner.as_bytes()])
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub fn same_as(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        pairs.fold(0, |d, (a, b)| d | (a ^ b)) == 0
    }

    /// The first eight digits, for people.
    pub fn short(&self) -> String {
        to_hex(&self.0[..4])
    }
}

/// A SHA-256 over bytes that come in pieces.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// A node: its Ed25519 public key, shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);
bytes_type!(NodeId, 32, "");

impl NodeId {
    /// Checks that `signature` is this node's over `bytes`, strictly (no malleable or small-order
    /// keys: `verify_strict` of ed25519-dalek).
    ///
    /// # Errors
    /// If this id is no valid key or the signature does not hold.
    pub fn verify(&self, bytes: &[u8], signature: &Signature) -> Result<(), CryptoError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| CryptoError::NotAKey)?;
        let sig = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(bytes, &sig)
            .map_err(|_| CryptoError::BadSignature)
    }

    /// The first eight digits, for people.
    pub fn short(&self) -> String {
        to_hex(&self.0[..4])
    }

    /// The node's number in the Raft group: the first eight bytes of its key.
    pub fn raft_id(&self) -> u64 {
        let mut b = [0; 8];
        b.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(b)
    }
}

/// An Ed25519 signature, shown as 128 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);
bytes_type!(Signature, 64, "");

/// A node's secret: it signs its records and proves its identity in TLS.
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl Keypair {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// If the system has none.
    pub fn generate() -> Result<Self, CryptoError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| CryptoError::NoEntropy(e.to_string()))?;
        Ok(Self::from_seed(&seed))
    }

    /// The key that a 32-byte seed stands for (RFC 8032 section 5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be stored where only this node can read it.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half: who this node is.
    pub fn node_id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes.
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes).to_bytes())
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({})", self.node_id().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyed_digest_is_the_hmac_of_the_rfc() {
        // RFC 4231 test case 1, its 20-byte key filled up with zeros as HMAC itself does.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let mac = Digest::keyed(&key, &[b"Hi ", b"There"]);
        let hex = "sha256:b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(mac.to_string(), hex);
        assert!(mac.same_as(&mac) && !mac.same_as(&Digest::ZERO));
    }

    #[test]
    fn a_signature_holds_for_its_bytes_and_key_alone() {
        let (a, b) = (Keypair::from_seed(&[1; 32]), Keypair::from_seed(&[2; 32]));
        let sig = a.sign(b"grant 7");
        assert_eq!(a.node_id().verify(b"grant 7", &sig), Ok(()));
        assert!(a.node_id().verify(b"grant 8", &sig).is_err());
        assert!(b.node_id().verify(b"grant 7", &sig).is_err());
    }

    #[test]
    fn one_digest_has_one_text() {
        let d = Digest::of(b"abc");
        let text = d.to_string();
        // FIPS 180-4, example "abc".
        assert!(text.starts_with("sha256:ba7816bf8f01cfea"));
        assert_eq!(text.parse::<Digest>(), Ok(d));
        assert!(text.to_uppercase().parse::<Digest>().is_err());
        assert!(
            text.replace("sha256:b", "sha256:B")
                .parse::<Digest>()
                .is_err()
        );
    }
}
