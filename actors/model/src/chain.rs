//! The hash chain: entries, their bytes, and what makes the next one follow the last.
//!
//! An entry's bytes are fixed, big-endian and versioned:
//! `"HALE" 0x01 kind(1) index(8) fence(8) previous(32) signer(32) signature(64) len(4) body(len)`.
//! Its hash is the SHA-256 of those bytes; the next entry carries it as `previous`. A Merkle leaf
//! is the same bytes under RFC 6962's leaf prefix.

use crate::crypto::{CryptoError, Digest, NodeId, Signature, all_hold};
use crate::id::Fence;
use crate::ledger::{EntryKind, MAX_BODY_BYTES, Signed};
use std::collections::{HashSet, VecDeque};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// The bytes before an entry's body.
pub const HEADER_BYTES: usize = 4 + 1 + 1 + 8 + 8 + 32 + 32 + 64 + 4;
const MAGIC: [u8; 5] = *b"HALE\x01";

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 0, without a gap.
    pub index: u64,
    /// What it tells.
    pub kind: EntryKind,
    /// The grant it belongs to; zero if none.
    pub fence: Fence,
    /// The hash of the entry before it; [`Digest::ZERO`] for the first.
    pub previous: Digest,
    /// Who says it.
    pub signer: NodeId,
    /// Over [`signing_bytes`].
    pub signature: Signature,
    /// Canonical JSON.
    pub body: Vec<u8>,
}

/// Why bytes are not an entry, or an entry does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Fewer bytes than an entry has, or more.
    #[error("an entry of {expected} bytes was expected, {found} are there")]
    Length {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// It does not begin with the magic, or has an unknown version or kind.
    #[error("these bytes are not an entry of a version this binary knows")]
    NotAnEntry,
    /// A body over the limit.
    #[error("a body of {0} bytes is over the limit of {MAX_BODY_BYTES}")]
    TooLarge(usize),
    /// It does not carry the number that comes next.
    #[error("entry {expected} was expected, number {found} is there")]
    Index {
        /// The number that comes next.
        expected: u64,
        /// The number it has.
        found: u64,
    },
    /// It does not point at the entry before it.
    #[error("entry {index} points at {found}, the entry before it is {expected}")]
    Broken {
        /// Which.
        index: u64,
        /// The hash of the entry before it.
        expected: Digest,
        /// What it points at.
        found: Digest,
    },
    /// Its signature does not hold.
    #[error("entry {index}: {source}")]
    Signature {
        /// Which.
        index: u64,
        /// Why.
        source: CryptoError,
    },
}

/// What a node signs: a domain, the kind, and the body as it is stored.
pub fn signing_bytes(kind: EntryKind, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 16);
    out.extend_from_slice(b"hale-entry-v1\0");
    out.push(kind.code());
    out.extend_from_slice(body);
    out
}

/// Fewer signatures than this are verified as quickly one by one, and more than the other not much
/// quicker.
const MIN_TOGETHER: usize = 3;
const MAX_TOGETHER: usize = 128;

/// How many signatures are remembered to hold.
const MAX_PROVEN: usize = 1024;

/// The signatures that were made or verified here last, each by the digest of all that it was made
/// of: a node does not verify what it has just signed, nor the same thing twice.
static PROVEN: LazyLock<Mutex<Proven>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Proven {
    known: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl Proven {
    fn insert(&mut self, proof: Digest) {
        if !self.known.insert(proof) {
            return;
        }
        self.order.push_back(proof);
        if self.order.len() > MAX_PROVEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Signed {
    /// Signs a body.
    pub fn new(kind: EntryKind, body: Vec<u8>, key: &crate::Keypair) -> Self {
        let bytes = signing_bytes(kind, &body);
        let signed = Self {
            kind,
            body,
            signer: key.node_id(),
            signature: key.sign(&bytes),
        };
        proven().insert(signed.proof(&bytes));
        signed
    }

    /// Whether the signature is the signer's over these bytes. Quick for the last ones that were
    /// signed or verified in this process.
    ///
    /// # Errors
    /// If it is not.
    pub fn verify(&self) -> Result<(), CryptoError> {
        let bytes = signing_bytes(self.kind, &self.body);
        let proof = self.proof(&bytes);
        if proven().known.contains(&proof) {
            return Ok(());
        }
        self.signer.verify(&bytes, &self.signature)?;
        proven().insert(proof);
        Ok(())
    }

    /// As [`Signed::verify`], without the cofactor, and each time anew.
    ///
    /// # Errors
    /// If it is not.
    pub fn verify_strictly(&self) -> Result<(), CryptoError> {
        let bytes = signing_bytes(self.kind, &self.body);
        self.signer.verify_strictly(&bytes, &self.signature)
    }

    /// Verifies many at once, so that [`Signed::verify`] of each is quick. Where one does not hold,
    /// little is gained.
    pub fn verify_together<'a>(signed: impl Iterator<Item = &'a Self>) {
        let mut new = vec![];
        for signed in signed {
            let bytes = signing_bytes(signed.kind, &signed.body);
            let proof = signed.proof(&bytes);
            if !proven().known.contains(&proof) {
                new.push((signed, bytes, proof));
            }
        }
        for some in new.chunks(MAX_TOGETHER) {
            if some.len() < MIN_TOGETHER {
                for (signed, bytes, proof) in some {
                    if signed.signer.verify(bytes, &signed.signature).is_ok() {
                        proven().insert(*proof);
                    }
                }
                continue;
            }
            let claims: Vec<_> = some
                .iter()
                .map(|(s, bytes, _)| (s.signer, &bytes[..], &s.signature))
                .collect();
            if all_hold(&claims) {
                let mut proven = proven();
                for (_, _, proof) in some {
                    proven.insert(*proof);
                }
            }
        }
    }

    /// Stands for the key, the bytes and the signature together.
    fn proof(&self, bytes: &[u8]) -> Digest {
        Digest::of_parts(&[self.signer.as_bytes(), self.signature.as_bytes(), bytes])
    }
}

fn proven() -> MutexGuard<'static, Proven> {
    PROVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    /// The entry that comes after `previous` at `index`.
    pub fn after(index: u64, previous: Digest, fence: Fence, signed: Signed) -> Self {
        let Signed {
            kind,
            body,
            signer,
            signature,
        } = signed;
        Self {
            index,
            kind,
            fence,
            previous,
            signer,
            signature,
            body,
        }
    }

    /// Its bytes: what is stored, hashed and exported.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.body.len());
        out.extend_from_slice(&MAGIC);
        out.push(self.kind.code());
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.fence.0.to_be_bytes());
        out.extend_from_slice(self.previous.as_bytes());
        out.extend_from_slice(self.signer.as_bytes());
        out.extend_from_slice(self.signature.as_bytes());
        out.extend_from_slice(&(self.body.len() as u32).to_be_bytes());
        out.extend_from_slice(&self.body);
        out
    }

    /// Reads what [`Entry::to_bytes`] wrote, exactly.
    ///
    /// # Errors
    /// If the bytes are short, long, of an unknown version, or over the limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChainError> {
        let short = ChainError::Length {
            expected: HEADER_BYTES,
            found: bytes.len(),
        };
        let (head, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(short)?;
        let mut at = 0;
        let mut take = |n: usize| {
            let part = &head[at..at + n];
            at += n;
            part
        };
        if take(5) != MAGIC {
            return Err(ChainError::NotAnEntry);
        }
        let kind = EntryKind::from_code(take(1)[0]).ok_or(ChainError::NotAnEntry)?;
        let u64_of = |b: &[u8]| b.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        let index = u64_of(take(8));
        let fence = Fence(u64_of(take(8)));
        let mut previous = [0; 32];
        previous.copy_from_slice(take(32));
        let mut signer = [0; 32];
        signer.copy_from_slice(take(32));
        let mut signature = [0; 64];
        signature.copy_from_slice(take(64));
        let len = u64_of(take(4)) as usize;
        if len > MAX_BODY_BYTES {
            return Err(ChainError::TooLarge(len));
        }
        if body.len() != len {
            return Err(ChainError::Length {
                expected: HEADER_BYTES + len,
                found: bytes.len(),
            });
        }
        Ok(Self {
            index,
            kind,
            fence,
            previous: Digest::from_bytes(previous),
            signer: NodeId::from_bytes(signer),
            signature: Signature::from_bytes(signature),
            body: body.to_vec(),
        })
    }

    /// SHA-256 over [`Entry::to_bytes`].
    pub fn hash(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Whether it follows an entry with hash `previous` as number `index`, and its signature
    /// holds.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn follows(&self, index: u64, previous: Digest) -> Result<(), ChainError> {
        if self.index != index {
            return Err(ChainError::Index {
                expected: index,
                found: self.index,
            });
        }
        if self.previous != previous {
            return Err(ChainError::Broken {
                index,
                expected: previous,
                found: self.previous,
            });
        }
        self.signer
            .verify(&signing_bytes(self.kind, &self.body), &self.signature)
            .map_err(|source| ChainError::Signature { index, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;
    use proptest::prelude::*;

    fn entry(body: &[u8]) -> Entry {
        let key = Keypair::from_seed(&[7; 32]);
        let signed = Signed::new(EntryKind::Record, body.to_vec(), &key);
        Entry::after(3, Digest::of(b"before"), Fence(9), signed)
    }

    proptest! {
        #[test]
        fn an_entry_is_read_back_as_it_was_written(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let e = entry(&body);
            prop_assert_eq!(Entry::from_bytes(&e.to_bytes()), Ok(e));
        }

        #[test]
        fn any_flipped_bit_is_found(at in 0usize..(HEADER_BYTES + 11), bit in 0u8..8) {
            let e = entry(b"{\"a\":\"bc\"}!");
            let mut bytes = e.to_bytes();
            let next = Digest::of(&bytes);
            bytes[at] ^= 1 << bit;
            // Either it is no entry any more, or its hash is not what the next one points at.
            prop_assert!(Entry::from_bytes(&bytes).map_or(true, |f| f.hash() != next));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Entry::from_bytes(&bytes);
        }
    }

    #[test]
    fn what_was_proven_proves_nothing_else() {
        let (key, other) = (Keypair::from_seed(&[7; 32]), Keypair::from_seed(&[8; 32]));
        let signed = Signed::new(EntryKind::Record, b"{}".to_vec(), &key);
        assert_eq!((signed.verify(), signed.verify()), (Ok(()), Ok(())));
        let with = |change: fn(&mut Signed, &Keypair)| {
            let mut changed = signed.clone();
            change(&mut changed, &other);
            changed
        };
        let forged = [
            with(|s, _| s.body = b"[]".to_vec()),
            with(|s, _| s.kind = EntryKind::Intent),
            with(|s, other| s.signer = other.node_id()),
            with(|s, other| s.signature = other.sign(&signing_bytes(s.kind, &s.body))),
        ];
        for forged in forged {
            // Asked twice: that it does not hold must not be taken for proven either.
            assert!(
                forged.verify().is_err() && forged.verify().is_err(),
                "{forged:?}"
            );
        }
    }

    #[test]
    fn what_is_verified_together_proves_each_and_no_other() {
        let keys = [1, 2].map(|n| crate::Keypair::from_seed(&[n; 32]));
        let mut all: Vec<Signed> = (0..9u8)
            .map(|n| Signed::new(EntryKind::Record, vec![n; 4], &keys[usize::from(n % 2)]))
            .collect();
        let known = |signed: &Signed| {
            let bytes = signing_bytes(signed.kind, &signed.body);
            proven().known.contains(&signed.proof(&bytes))
        };
        let forget = |all: &[Signed]| {
            for signed in all {
                let bytes = signing_bytes(signed.kind, &signed.body);
                proven().known.remove(&signed.proof(&bytes));
            }
        };
        forget(&all);
        Signed::verify_together(all.iter());
        assert!(all.iter().all(known));
        forget(&all);
        let other = all[0].signer;
        all[4].signer = if all[4].signer == other {
            all[1].signer
        } else {
            other
        };
        Signed::verify_together(all.iter());
        assert!(!all.iter().any(known));
        assert_eq!(all.iter().filter(|s| s.verify().is_ok()).count(), 8);
    }

    #[test]
    fn a_signature_that_was_forgotten_is_verified_again() {
        let mut proven = Proven::default();
        for n in 0..2 * MAX_PROVEN as u64 {
            proven.insert(Digest::of(&n.to_be_bytes()));
            proven.insert(Digest::of(&n.to_be_bytes()));
        }
        assert_eq!(
            (proven.known.len(), proven.order.len()),
            (MAX_PROVEN, MAX_PROVEN)
        );
        assert!(!proven.known.contains(&Digest::of(&0u64.to_be_bytes())));
    }

    #[test]
    fn an_entry_follows_only_the_one_it_points_at() {
        let e = entry(b"{}");
        assert_eq!(e.follows(3, Digest::of(b"before")), Ok(()));
        assert!(matches!(
            e.follows(4, Digest::of(b"before")),
            Err(ChainError::Index { .. })
        ));
        assert!(matches!(
            e.follows(3, Digest::ZERO),
            Err(ChainError::Broken { .. })
        ));
        let forged = Entry {
            body: b"[]".to_vec(),
            ..e
        };
        let refused = forged.follows(3, Digest::of(b"before"));
        assert!(matches!(refused, Err(ChainError::Signature { .. })));
    }
}
