//! The chain in a few bytes: how many entries, their Merkle root, the last one's hash, and who
//! says so. It carries no time, so that several nodes can sign the same one.

use crate::merkle::Frontier;
use hale_model::crypto::CryptoError;
use hale_model::{Digest, Keypair, NodeId, Signature};
use serde::{Deserialize, Serialize};

/// The size and root of the chain, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// How many entries.
    pub size: u64,
    /// The root of their Merkle tree.
    pub root: Digest,
    /// The hash of the last one; zero if there is none.
    pub tip: Digest,
    /// Who says so.
    pub signer: NodeId,
    /// Over the other three.
    pub signature: Signature,
}

fn signing_bytes(size: u64, root: &Digest, tip: &Digest) -> Vec<u8> {
    let mut out = b"hale-checkpoint-v1\0".to_vec();
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(root.as_bytes());
    out.extend_from_slice(tip.as_bytes());
    out
}

impl Checkpoint {
    /// Signs what the chain is now.
    pub fn sign(frontier: &Frontier, tip: Digest, key: &Keypair) -> Self {
        let (size, root) = (frontier.size(), frontier.root());
        let signature = key.sign(&signing_bytes(size, &root, &tip));
        Self {
            size,
            root,
            tip,
            signer: key.node_id(),
            signature,
        }
    }

    /// Whether the signature is the signer's.
    ///
    /// # Errors
    /// If it is not.
    pub fn verify(&self) -> Result<(), CryptoError> {
        self.signer.verify(
            &signing_bytes(self.size, &self.root, &self.tip),
            &self.signature,
        )
    }
}
