//! What an enrolment entry says: which key may sign from now on, and for which host. The verifier
//! learns the roster from these.

use hale_model::ledger::{EntryKind, Signed};
use hale_model::{HostName, Keypair, NodeId};
use serde::Deserialize;
use serde_json::json;

/// The version of the body's shape.
pub const ENROLMENT_SCHEMA: &str = "hale.enrolment.v1";

/// Signs the enrolment of `node`: by itself where it founds the cluster, by a member otherwise.
pub fn sign(node: NodeId, host: &HostName, key: &Keypair) -> Signed {
    // Sorted keys and plain ASCII text: serde_json's own form is the canonical one.
    let body = json!({ "host": host, "node": node, "schema": ENROLMENT_SCHEMA });
    Signed::new(EntryKind::Enrolment, body.to_string().into_bytes(), key)
}

/// The key that the body of an enrolment, or of a removal, names.
pub fn node_of(body: &[u8]) -> Option<NodeId> {
    #[derive(Deserialize)]
    struct Body {
        node: NodeId,
    }
    serde_json::from_slice::<Body>(body).ok().map(|b| b.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enrolment_is_canonical_and_names_its_node() {
        let key = Keypair::from_seed(&[1; 32]);
        let signed = sign(key.node_id(), &HostName::new("db-1").unwrap(), &key);
        let value: serde_json::Value = serde_json::from_slice(&signed.body).unwrap();
        assert_eq!(
            hale_model::canonical::to_bytes(&value).unwrap(),
            signed.body
        );
        assert_eq!(node_of(&signed.body), Some(key.node_id()));
        assert_eq!(node_of(b"{}"), None);
    }
}
