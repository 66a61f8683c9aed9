//! What a removal entry says: which key may not sign any more, and why. The verifier takes it off
//! the roster.

/// A removal names its key as an enrolment does.
pub use crate::enrolment::node_of;
use hale_model::ledger::{EntryKind, Signed};
use hale_model::{HostName, Keypair, NodeId, Timestamp, canonical};
use serde_json::json;

/// The version of the body's shape.
pub const REMOVAL_SCHEMA: &str = "hale.removal.v1";

/// Signs the removal of `node`: by itself where it leaves, by another member otherwise.
pub fn sign(
    node: NodeId,
    host: &HostName,
    by: &str,
    reason: &str,
    at: Timestamp,
    key: &Keypair,
) -> Signed {
    let body = json!({
        "schema": REMOVAL_SCHEMA,
        "node": node,
        "host": host,
        "by": by,
        "reason": reason,
        "at": at,
    });
    // Only texts: nothing in it can fail to be written.
    let body = canonical::to_bytes(&body).unwrap_or_default();
    Signed::new(EntryKind::Removal, body, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_canonical_and_names_its_node() {
        let key = Keypair::from_seed(&[1; 32]);
        let (host, at) = (
            HostName::new("db-1").unwrap(),
            Timestamp::from_millis(1_000),
        );
        let signed = sign(key.node_id(), &host, "ada", "\u{e9}teint \n", at, &key);
        let value: serde_json::Value = serde_json::from_slice(&signed.body).unwrap();
        assert_eq!(canonical::to_bytes(&value).unwrap(), signed.body);
        assert_eq!(value["schema"], REMOVAL_SCHEMA);
        assert_eq!(node_of(&signed.body), Some(key.node_id()));
        assert_eq!(node_of(b"{}"), None);
    }
}
