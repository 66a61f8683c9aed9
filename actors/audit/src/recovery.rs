//! What a recovery entry says: that the ledger goes on from one node's copy, why, and which keys
//! may not sign any more. The verifier takes those off the roster, and tells of each recovery: what
//! was acknowledged elsewhere and is not in this copy is gone.

use hale_model::ledger::{EntryKind, Signed};
use hale_model::{Digest, HostName, Keypair, NodeId, Timestamp, canonical};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The version of the body's shape.
pub const RECOVERY_SCHEMA: &str = "hale.recovery.v1";

/// Why there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A majority of the voters was gone; one of the others went on alone.
    QuorumLost,
    /// All nodes were gone; a new directory was made from a backup.
    Restored,
}

/// What is told of a recovery. Everything in it is settled before it happens, so that telling it
/// twice gives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Whose copy the ledger goes on from.
    pub node: NodeId,
    /// Its host.
    pub host: HostName,
    /// The cluster, as 16 hexadecimal digits.
    pub cluster: String,
    /// Why.
    pub cause: Cause,
    /// Who is off the roster from here on.
    pub lost: BTreeSet<NodeId>,
    /// The log's end in that copy: its term.
    pub term: u64,
    /// The log's end in that copy: its index.
    pub index: u64,
    /// Log entries at its end of which that node did not know that they were committed.
    pub unconfirmed: u64,
    /// The backup's digest, where there was one.
    pub backup: Option<Digest>,
    /// When, by the clock of whoever did it.
    pub at: Timestamp,
}

impl Recovery {
    /// Signs it for the chain.
    pub fn sign(&self, key: &Keypair) -> Signed {
        let mut body = serde_json::to_value(self).unwrap_or_default();
        body["schema"] = RECOVERY_SCHEMA.into();
        // Texts and whole numbers: nothing in it can fail to be written.
        let body = canonical::to_bytes(&body).unwrap_or_default();
        Signed::new(EntryKind::Recovery, body, key)
    }

    /// What a body says; none if it is no recovery's.
    pub fn of(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_is_canonical_and_read_back_as_it_was_told() {
        let key = Keypair::from_seed(&[1; 32]);
        let told = Recovery {
            node: key.node_id(),
            host: HostName::new("db-1").unwrap(),
            cluster: format!("{:016x}", 7),
            cause: Cause::QuorumLost,
            lost: [Keypair::from_seed(&[2; 32]).node_id()].into(),
            term: 3,
            index: 300,
            unconfirmed: 1,
            backup: None,
            at: Timestamp::from_millis(1_000),
        };
        let signed = told.sign(&key);
        let value: serde_json::Value = serde_json::from_slice(&signed.body).unwrap();
        assert_eq!(canonical::to_bytes(&value).unwrap(), signed.body);
        assert_eq!(value["schema"], RECOVERY_SCHEMA);
        assert_eq!(Recovery::of(&signed.body), Some(told));
        assert_eq!(Recovery::of(b"{}"), None);
    }
}
