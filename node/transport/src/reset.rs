//! The key for stateless resets (RFC 9000 section 10.3), made from the node's key: a node that
//! was restarted can tell its peers at once that it knows nothing of their old connections.

use hale_model::{Digest, Keypair};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectionId, ConnectionIdGenerator};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Connection ids without a mark of this process: quinn's own can tell another process's ids from
/// its own, and so never resets what its predecessor left behind.
pub(crate) struct PlainIds;

impl ConnectionIdGenerator for PlainIds {
    fn generate_cid(&mut self) -> ConnectionId {
        // A fresh `RandomState` is keyed from the system's randomness.
        ConnectionId::new(&RandomState::new().build_hasher().finish().to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// HMAC-SHA-256 under one key.
pub(crate) struct ResetKey([u8; 32]);

impl ResetKey {
    pub(crate) fn of(key: &Keypair) -> Self {
        Self(*Digest::of_parts(&[b"hale-reset-v1\0", &key.seed()]).as_bytes())
    }

    fn mac(&self, data: &[u8]) -> Digest {
        Digest::keyed(&self.0, &[data])
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        let mac = self.mac(data);
        let n = out.len().min(32);
        out[..n].copy_from_slice(&mac.as_bytes()[..n]);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let signature = <[u8; 32]>::try_from(signature).map_err(|_| CryptoError)?;
        if self.mac(data).same_as(&Digest::from_bytes(signature)) {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_signature_verifies() {
        let key = ResetKey::of(&Keypair::from_seed(&[1; 32]));
        let mut out = [0; 32];
        key.sign(b"cid", &mut out);
        assert!(key.verify(b"cid", &out).is_ok());
        assert!(key.verify(b"cie", &out).is_err() && key.verify(b"cid", &out[..31]).is_err());
    }
}
