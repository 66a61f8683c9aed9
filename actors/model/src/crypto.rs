//! Keys, signatures and digests. A node's Ed25519 public key is its identity everywhere.

mod together;

pub use together::{Claim, all_hold};

use crate::bytes;
use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::VecDeque;
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
                    bytes::array(d).map(Self)
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

/// The canonical encodings of the eight points whose order divides the cofactor (Ed25519's curve
/// has no others of small order).
const SMALL_ORDER: [[u8; 32]; 8] = {
    /// Of order 8; the other three are its negatives, in `x`, in `y` and in both.
    const Y: [u8; 32] = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    const MINUS_Y: [u8; 32] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    const ZERO: [u8; 32] = [0; 32];
    const fn with(mut bytes: [u8; 32], first: u8, last: u8) -> [u8; 32] {
        bytes[0] = first;
        bytes[31] |= last;
        bytes
    }
    const MINUS_ONE: [u8; 32] = {
        let mut bytes = [0xff; 32];
        bytes[0] = 0xec;
        bytes[31] = 0x7f;
        bytes
    };
    [
        with(ZERO, 1, 0),
        MINUS_ONE,
        ZERO,
        with(ZERO, 0, 0x80),
        Y,
        with(Y, Y[0], 0x80),
        MINUS_Y,
        with(MINUS_Y, MINUS_Y[0], 0x80),
    ]
};

/// Each thread keeps so many points, a good 200 bytes each.
const MAX_KNOWN_POINTS: usize = 64;

thread_local! {
    static KNOWN_POINTS: RefCell<VecDeque<(NodeId, VerifyingKey)>> =
        const { RefCell::new(VecDeque::new()) };
}

impl NodeId {
    /// Checks that `signature` is this node's over `bytes` (RFC 8032 §5.1.7, with the cofactor): no
    /// malleable signature, no key and no `R` of small order. [`all_hold`] gives the same answer
    /// for many at once.
    ///
    /// # Errors
    /// If this id is no valid key or the signature does not hold.
    pub fn verify(&self, bytes: &[u8], signature: &Signature) -> Result<(), CryptoError> {
        match self.verify_strictly(bytes, signature) {
            // What holds without the cofactor holds with it.
            Err(CryptoError::BadSignature) if all_hold(&[(*self, bytes, signature)]) => Ok(()),
            result => result,
        }
    }

    /// As [`NodeId::verify`], without the cofactor: what `verify_strict` of ed25519-dalek accepts.
    /// It need not decompress `R`: the plain check compares `R` with the canonical encoding of a
    /// point, so that it is of small order only if it is one of eight encodings.
    ///
    /// # Errors
    /// If this id is no valid key or the signature does not hold.
    pub fn verify_strictly(&self, bytes: &[u8], signature: &Signature) -> Result<(), CryptoError> {
        let key = self.point().ok_or(CryptoError::NotAKey)?;
        let (r, _) = signature.0.split_at(32);
        if SMALL_ORDER.iter().any(|small| small == r) {
            return Err(CryptoError::BadSignature);
        }
        let sig = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify(bytes, &sig)
            .map_err(|_| CryptoError::BadSignature)
    }

    /// The point of the curve that the key stands for, if it is not of small order. The last ones
    /// are kept: the same few nodes sign most of what there is to verify.
    fn point(&self) -> Option<VerifyingKey> {
        KNOWN_POINTS.with_borrow_mut(|known| {
            if let Some(at) = known.iter().position(|(node, _)| node == self) {
                return Some(known[at].1);
            }
            let point = VerifyingKey::from_bytes(&self.0).ok()?;
            if point.is_weak() {
                return None;
            }
            if known.len() == MAX_KNOWN_POINTS {
                known.pop_front();
            }
            known.push_back((*self, point));
            Some(point)
        })
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
    fn what_is_of_small_order_is_refused_as_the_strict_check_does() {
        let distinct: std::collections::BTreeSet<_> = SMALL_ORDER.into_iter().collect();
        assert_eq!(distinct.len(), 8);
        for small in SMALL_ORDER {
            let weak = VerifyingKey::from_bytes(&small).unwrap();
            assert!(weak.is_weak());
            // With a key of small order, `R` = identity and `s` = 0, half of all messages verify
            // where nobody looks at the order.
            for r in SMALL_ORDER {
                let mut forged = [0; 64];
                forged[..32].copy_from_slice(&r);
                let sig = ed25519_dalek::Signature::from_bytes(&forged);
                for message in 0..16u8 {
                    let strict = weak.verify_strict(&[message], &sig);
                    let ours = NodeId(small).verify(&[message], &Signature(forged));
                    assert!(strict.is_err() && ours.is_err());
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn it_accepts_what_the_strict_check_accepts(
            seed: [u8; 32],
            message: Vec<u8>,
            flip in proptest::option::of((0usize..64, 0u8..8)),
            r in proptest::option::of(0usize..8),
        ) {
            let key = Keypair::from_seed(&seed);
            let mut signature = key.sign(&message);
            if let Some((byte, bit)) = flip {
                signature.0[byte] ^= 1 << bit;
            }
            if let Some(r) = r {
                signature.0[..32].copy_from_slice(&SMALL_ORDER[r]);
            }
            let dalek = VerifyingKey::from_bytes(&key.node_id().0).unwrap();
            let sig = ed25519_dalek::Signature::from_bytes(&signature.0);
            let strict = dalek.verify_strict(&message, &sig);
            let ours = key.node_id().verify_strictly(&message, &signature);
            proptest::prop_assert_eq!(ours.is_ok(), strict.is_ok());
        }
    }

    #[test]
    fn more_keys_than_are_kept_verify_as_well() {
        let keys: Vec<_> = (0..=2 * MAX_KNOWN_POINTS as u8)
            .map(|n| Keypair::from_seed(&[n; 32]))
            .collect();
        for _ in 0..2 {
            for key in &keys {
                assert_eq!(key.node_id().verify(b"a", &key.sign(b"a")), Ok(()));
                assert!(key.node_id().verify(b"b", &key.sign(b"a")).is_err());
            }
            assert!(KNOWN_POINTS.with_borrow(|known| known.len() <= MAX_KNOWN_POINTS));
        }
        let no_key = NodeId::from_bytes([2; 32]);
        assert!(no_key.verify(b"a", &keys[0].sign(b"a")).is_err());
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
