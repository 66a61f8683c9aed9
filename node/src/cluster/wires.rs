//! How the ledger's words travel: over the one QUIC port, to wherever a node is now.

use super::book::Book;
use super::members::Members;
use hale_consensus::{Alive, Lane, Peer, PeerTransport, TransportError};
use hale_model::NodeId;
use hale_model::port::Later;
use hale_transport::{Endpoint, TransportError as Lost};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The way to the other nodes. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Wires {
    pub(crate) endpoint: Endpoint,
    pub(crate) members: Arc<Members>,
    pub(crate) book: Arc<Book>,
}

impl Wires {
    /// Where a node is: as gossip says of one that is alive, from where it has a connection open,
    /// as it was last seen, or as `hint` says.
    pub(crate) fn find(&self, node: NodeId, hint: &str) -> Option<hale_transport::Peer> {
        let addr = self
            .members
            .living(&node)
            .or_else(|| self.endpoint.linked_at(node))
            .or_else(|| self.members.addr_of(&node))
            .or_else(|| self.book.addr_of(&node))
            .or_else(|| hint.parse::<SocketAddr>().ok())?;
        Some(hale_transport::Peer { node, addr })
    }
}

impl PeerTransport for Wires {
    fn ask(
        &self,
        to: Peer,
        lane: Lane,
        frame: Vec<u8>,
        timeout: Duration,
    ) -> Later<Result<Vec<u8>, TransportError>> {
        let this = self.clone();
        Box::pin(async move {
            let unreachable = |why: String| TransportError::Unreachable {
                peer: to.node.short(),
                why,
            };
            let peer = this
                .find(to.node, &to.addr)
                .ok_or_else(|| unreachable("nobody knows where it is".into()))?;
            let lane = match lane {
                Lane::Urgent => hale_transport::Lane::Main,
                Lane::Bulk => hale_transport::Lane::Bulk,
            };
            let asked = this.endpoint.ask(peer, lane, &frame, timeout).await;
            asked.map_err(|e| match e {
                Lost::TimedOut(_) => TransportError::TimedOut,
                Lost::Unreachable { .. } | Lost::Pausing { .. } => unreachable(e.to_string()),
                e => TransportError::Lost {
                    peer: to.node.short(),
                    why: e.to_string(),
                },
            })
        })
    }

    fn alive(&self) -> Option<Vec<Alive>> {
        Some(self.members.alive(&self.endpoint.node()))
    }
}
