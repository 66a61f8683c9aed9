//! A member's identity in gossip: which node, where, and which of its lives. The node signs it, so
//! that nobody can say of another where it is, or speak of a later life of it than it has begun.

use hale_model::{Keypair, NodeId, Signature};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// No life began before this, 2025-01-01, in milliseconds since the epoch: a clock that says less
/// was not set yet.
const FIRST_LIFE_MS: u64 = 1_735_689_600_000;
/// So far beyond a node's clock, in milliseconds, the lives of others may begin: ten years. It need
/// not be narrow, as each only numbers its own; it keeps the last number from being reached, after
/// which a node could never be believed again.
const MAX_AHEAD_MS: u64 = 10 * 365 * 24 * 3_600_000;

/// The latest life that is believed where the clock says `now_ms`; both in milliseconds since the
/// epoch.
pub const fn latest_life(now_ms: u64) -> u64 {
    let now_ms = if now_ms < FIRST_LIFE_MS {
        FIRST_LIFE_MS
    } else {
        now_ms
    };
    now_ms.saturating_add(MAX_AHEAD_MS)
}

/// A node and where it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Contact {
    /// Who.
    pub node: NodeId,
    /// Where.
    pub addr: SocketAddr,
}

/// A contact in one of its lives. The later life wins; it begins with the node's start time, so
/// a node that was restarted, or moved, is believed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Id {
    pub(crate) contact: Contact,
    pub(crate) incarnation: u64,
    signature: Signature,
}

fn signing_bytes(addr: SocketAddr, incarnation: u64) -> Vec<u8> {
    let mut bytes = b"hale-contact-v1\0".to_vec();
    bytes.extend(incarnation.to_be_bytes());
    bytes.extend(addr.port().to_be_bytes());
    match addr.ip() {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => bytes.extend(ip.octets()),
    }
    bytes
}

impl Id {
    /// The identity of the key's node.
    pub(crate) fn sign(addr: SocketAddr, incarnation: u64, key: &Keypair) -> Self {
        Self {
            contact: Contact {
                node: key.node_id(),
                addr,
            },
            incarnation,
            signature: key.sign(&signing_bytes(addr, incarnation)),
        }
    }

    /// Whom to speak to where it is not known which life it lives. It is never spoken of.
    pub(crate) const fn unknown_life(contact: Contact) -> Self {
        Self {
            contact,
            incarnation: 0,
            signature: Signature::from_bytes([0; 64]),
        }
    }

    /// Whether the node itself has said so.
    pub(crate) fn is_genuine(&self) -> bool {
        let said = signing_bytes(self.contact.addr, self.incarnation);
        self.contact.node.verify(&said, &self.signature).is_ok()
    }

    /// Whether this life replaces the other of the same node.
    pub(crate) fn is_after(&self, other: &Self) -> bool {
        // Of two that a node has numbered alike one has to win, everywhere the same.
        let rank = |id: &Self| (id.incarnation, id.contact.addr, *id.signature.as_bytes());
        rank(self) > rank(other)
    }
}

impl foca::Identity for Id {
    type Addr = NodeId;

    /// A new life has to be signed: [`crate::Membership`] begins it.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> NodeId {
        self.contact.node
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        self.is_after(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::wire;

    #[test]
    fn only_what_the_node_has_signed_is_genuine() {
        let key = Keypair::from_seed(&[1; 32]);
        for addr in ["10.0.0.1:7118", "[fd00::1]:7118"] {
            let id = Id::sign(addr.parse().unwrap(), 7, &key);
            let read: Id = wire::decode(&wire::encode(&id).unwrap()).unwrap();
            assert!(read.is_genuine() && read == id);
            let (mut moved, mut later, mut other) = (id, id, id);
            moved.contact.addr.set_port(7119);
            later.incarnation += 1;
            other.contact.node = Keypair::from_seed(&[2; 32]).node_id();
            for forged in [moved, later, other, Id::unknown_life(id.contact)] {
                assert!(!forged.is_genuine(), "{forged:?}");
            }
        }
    }

    #[test]
    fn the_last_number_is_never_believed_and_an_unset_clock_believes_the_others() {
        let year_2026 = 1_767_225_600_000;
        assert!(latest_life(0) > year_2026);
        assert!(latest_life(year_2026) < 2 * year_2026);
    }
}
