//! A member's identity in gossip: which node, where, and which of its lives.

use hale_model::NodeId;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

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
}

impl foca::Identity for Id {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            incarnation: self.incarnation.saturating_add(1),
            ..*self
        })
    }

    fn addr(&self) -> NodeId {
        self.contact.node
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.incarnation, self.contact.addr) > (other.incarnation, other.contact.addr)
    }
}
