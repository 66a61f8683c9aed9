//! What an enrolment entry says: which key may sign from now on, and for which host. The verifier
//! learns the roster from these.

use hale_model::ledger::{EntryKind, Signed};
use hale_model::{HostName, Keypair, NodeId, Timestamp, canonical};
use serde::{Deserialize, Serialize};

/// The version of the body's shape.
pub const ENROLMENT_SCHEMA: &str = "hale.enrolment.v1";

/// What an enrolment says. The verifier needs `node`; the rest is for who reads the chain.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "schema", rename = "hale.enrolment.v1")]
pub struct Enrolment<'a> {
    /// Who may sign from now on.
    pub node: NodeId,
    /// For which host.
    pub host: &'a HostName,
    /// The cluster's number, 16 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// By which token it was let in; a founder comes without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    /// The release that it ran then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'a str>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl<'a> Enrolment<'a> {
    /// Of a key, for a host, and no more.
    pub fn of(node: NodeId, host: &'a HostName) -> Self {
        Self {
            node,
            host,
            cluster: None,
            token: None,
            version: None,
            at: None,
        }
    }

    /// Signed: by the node itself where it founds the cluster, by a member otherwise.
    pub fn sign(&self, key: &Keypair) -> Signed {
        // Only texts: nothing in it can fail to be written.
        let body = canonical::to_bytes(self).unwrap_or_default();
        Signed::new(EntryKind::Enrolment, body, key)
    }
}

/// Signs the enrolment of `node` for a host, with no more in it.
pub fn sign(node: NodeId, host: &HostName, key: &Keypair) -> Signed {
    Enrolment::of(node, host).sign(key)
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
        let (node, host) = (key.node_id(), HostName::new("db-1").unwrap());
        let whole = Enrolment {
            cluster: Some("00000000000000ff".into()),
            token: Some("tok_1"),
            version: Some("0.1.0"),
            at: Some(Timestamp::from_millis(1_000)),
            ..Enrolment::of(node, &host)
        };
        for (signed, says) in [(sign(node, &host, &key), 3), (whole.sign(&key), 7)] {
            let value: serde_json::Value = serde_json::from_slice(&signed.body).unwrap();
            assert_eq!(canonical::to_bytes(&value).unwrap(), signed.body);
            assert_eq!(value["schema"], ENROLMENT_SCHEMA);
            assert_eq!(value.as_object().unwrap().len(), says);
            assert_eq!(node_of(&signed.body), Some(node));
        }
        assert_eq!(node_of(b"{}"), None);
    }
}
