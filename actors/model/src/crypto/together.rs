//! Many signatures verified at once.
//!
//! What is checked of each is RFC 8032 §5.1.7 as it stands there, with the cofactor:
//! `[8][S]B = [8]R + [8][k]A`. That equation can be checked of many by one random linear combination
//! (Bernstein et al., "High-speed high-security signatures", 2012, section 5), and gives the same
//! answer as one by one, which the plain equation does not (Chalkias, Garillot and Nikolaenko,
//! "Taming the Many EdDSAs", 2020). Beyond the RFC, `A` and `R` have to be canonical and not of small
//! order.

use super::{NodeId, SMALL_ORDER, Signature};
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use sha2::{Digest as _, Sha512};

/// What is verified: whose it should be, over which bytes.
pub type Claim<'a> = (NodeId, &'a [u8], &'a Signature);

/// `R` as it has to be: canonical (RFC 8032 §5.1.3), and not of small order.
fn commitment(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    // Not below 2^255 - 19.
    let is_reduced =
        bytes[0] < 0xed || bytes[31] & 0x7f != 0x7f || bytes[1..31].iter().any(|b| *b != 0xff);
    // The sign of an `x` that is zero.
    let mut unsigned = *bytes;
    unsigned[31] &= 0x7f;
    let is_small = |b: &[u8; 32]| SMALL_ORDER.contains(b);
    if !is_reduced || is_small(bytes) || is_small(&unsigned) {
        return None;
    }
    CompressedEdwardsY(*bytes).decompress()
}

/// A point for each key, and how often it counts.
#[derive(Default)]
struct Keys(Vec<(NodeId, EdwardsPoint, Scalar)>);

impl Keys {
    fn add(&mut self, node: &NodeId, times: Scalar) -> Option<()> {
        if let Some((_, _, sum)) = self.0.iter_mut().find(|(n, _, _)| n == node) {
            *sum += times;
            return Some(());
        }
        let point = node.point()?.to_edwards();
        self.0.push((*node, point, times));
        Some(())
    }
}

/// Whether all of these signatures hold; if not, it does not tell which. The coefficients come from
/// a hash over all that is claimed: nobody can choose a signature to fit them, and every node gets
/// the same answer.
pub fn all_hold(claims: &[Claim<'_>]) -> bool {
    check(claims).is_some_and(|sum| sum.mul_by_cofactor().is_identity())
}

fn check(claims: &[Claim<'_>]) -> Option<EdwardsPoint> {
    let mut transcript = Sha512::new();
    let mut parts = Vec::with_capacity(claims.len());
    for (node, bytes, signature) in claims {
        let (r, s) = signature.0.split_at(32);
        let (r, s): ([u8; 32], [u8; 32]) = (r.try_into().ok()?, s.try_into().ok()?);
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s))?;
        let mut k = Sha512::new();
        k.update(r);
        k.update(node.0);
        k.update(bytes);
        let k: [u8; 64] = k.finalize().into();
        transcript.update(signature.0);
        transcript.update(k);
        parts.push((commitment(&r)?, s, Scalar::from_bytes_mod_order_wide(&k)));
    }
    let transcript: [u8; 64] = transcript.finalize().into();
    let (mut base, mut keys) = (Scalar::ZERO, Keys::default());
    let (mut scalars, mut points) = (vec![], vec![]);
    for (n, ((node, ..), (r, s, k))) in (0u64..).zip(claims.iter().zip(parts)) {
        let z = coefficient(&transcript, n);
        base += z * s;
        keys.add(node, z * k)?;
        scalars.push(z);
        points.push(r);
    }
    for (_, point, sum) in keys.0 {
        scalars.push(sum);
        points.push(point);
    }
    scalars.push(-base);
    points.push(ED25519_BASEPOINT_POINT);
    Some(EdwardsPoint::vartime_multiscalar_mul(scalars, points))
}

/// 128 bits for each claim.
fn coefficient(transcript: &[u8; 64], n: u64) -> Scalar {
    let mut hash = Sha512::new();
    hash.update(b"hale-batch-v1\0");
    hash.update(transcript);
    hash.update(n.to_le_bytes());
    let hash = hash.finalize();
    let mut z = [0; 32];
    z[..16].copy_from_slice(&hash[..16]);
    Scalar::from_bytes_mod_order(z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;
    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::*;

    /// A signature whose `R` has a part of small order: by the plain equation it does not hold.
    fn with_torsion(seed: &[u8; 32], message: &[u8], torsion: usize) -> (NodeId, Signature) {
        let node = Keypair::from_seed(seed).node_id();
        let expanded: [u8; 64] = Sha512::digest(seed).into();
        let mut secret: [u8; 32] = expanded[..32].try_into().unwrap();
        secret[0] &= 248;
        secret[31] = secret[31] & 127 | 64;
        let secret = Scalar::from_bytes_mod_order(secret);
        let nonce = Scalar::from_bytes_mod_order(expanded[32..].try_into().unwrap());
        let r = EdwardsPoint::mul_base(&nonce) + EIGHT_TORSION[torsion];
        let r = r.compress().0;
        let mut k = Sha512::new();
        k.update(r);
        k.update(node.0);
        k.update(message);
        let k = Scalar::from_bytes_mod_order_wide(&k.finalize().into());
        let s = nonce + k * secret;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(s.as_bytes());
        (node, Signature(signature))
    }

    #[test]
    fn what_differs_by_small_order_holds_alone_and_together_but_not_strictly() {
        for torsion in 0..8 {
            let (node, signature) = with_torsion(&[7; 32], b"message", torsion);
            assert_eq!(node.verify(b"message", &signature), Ok(()));
            assert!(node.verify(b"massage", &signature).is_err());
            assert!(all_hold(&[(node, b"message", &signature)]));
            let strictly = node.verify_strictly(b"message", &signature);
            assert_eq!(strictly.is_ok(), torsion == 0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn together_they_hold_if_each_holds(
            signed in prop::collection::vec((0u8..4, prop::collection::vec(any::<u8>(), 0..40), 0usize..8), 1..40),
            spoilt in prop::option::of((0usize..40, 0usize..64, 0u8..8)),
            small in prop::option::of((0usize..40, 0usize..8)),
        ) {
            let mut all: Vec<(NodeId, Vec<u8>, Signature)> = signed
                .into_iter()
                .map(|(seed, message, torsion)| {
                    let (node, signature) = with_torsion(&[seed; 32], &message, torsion);
                    (node, message, signature)
                })
                .collect();
            if let Some((at, byte, bit)) = spoilt && let Some((_, _, s)) = all.get_mut(at) {
                s.0[byte] ^= 1 << bit;
            }
            if let Some((at, small)) = small && let Some((_, _, s)) = all.get_mut(at) {
                s.0[..32].copy_from_slice(&SMALL_ORDER[small]);
            }
            let each = all.iter().all(|(n, m, s)| n.verify(m, s).is_ok());
            let claims: Vec<_> = all.iter().map(|(n, m, s)| (*n, &m[..], s)).collect();
            prop_assert_eq!(all_hold(&claims), each);
        }
    }

    #[test]
    fn an_r_that_is_not_canonical_is_refused() {
        // y = 2^255 - 19 + 3, which is 3 mod p.
        let mut bytes = [0xff; 32];
        bytes[0] = 0xf0;
        bytes[31] = 0x7f;
        assert!(CompressedEdwardsY(bytes).decompress().is_some());
        assert!(commitment(&bytes).is_none());
        // y = 1 and y = -1 with a sign.
        for small in SMALL_ORDER {
            let mut signed = small;
            signed[31] |= 0x80;
            assert!(commitment(&small).is_none() && commitment(&signed).is_none());
        }
    }

    #[test]
    fn a_key_that_is_none_holds_for_nothing() {
        let signature = Keypair::from_seed(&[1; 32]).sign(b"a");
        assert!(!all_hold(&[(NodeId(SMALL_ORDER[0]), b"a", &signature)]));
        assert!(all_hold(&[]));
    }
}
