//! What ractor_cluster tells of its sessions.

use crate::ask::Ask;
use crate::gateway::Inner;
use crate::sessions::State;
use ractor::{ActorId, ActorRef, pg};
use ractor_cluster::NodeEventSubscription;
use ractor_cluster::node::NodeServerSessionInformation as Information;
use std::sync::Weak;

/// Where gateways find each other's actors.
pub(crate) const SCOPE: &str = "hale";
pub(crate) const GROUP: &str = "gateway";

pub(crate) struct Events(pub(crate) Weak<Inner>);

impl Events {
    /// The number that the session's stream was given.
    fn serial(about: &Information) -> Option<u64> {
        about.peer_addr.parse().ok()
    }
}

impl NodeEventSubscription for Events {
    fn node_session_opened(&self, _: Information) {}

    fn node_session_authenticated(&self, _: Information) {}

    fn node_session_ready(&self, about: Information) {
        let (Some(inner), Some(serial)) = (self.0.upgrade(), Self::serial(&about)) else {
            return;
        };
        let Some(session) = inner.table().get(serial) else {
            return;
        };
        match remote_of(about.node_id) {
            Some(actor) => {
                tracing::debug!(peer = %session.peer.short(), "a session for questions is ready");
                session.state.send_if_modified(|state| {
                    let is_new = matches!(state, State::Opening);
                    if is_new {
                        *state = State::Ready(actor);
                    }
                    is_new
                });
            }
            // It has no gateway's actor: nothing to ask.
            None => inner.end(&session),
        }
    }

    fn node_session_disconnected(&self, about: Information) {
        if let (Some(inner), Some(serial)) = (self.0.upgrade(), Self::serial(&about)) {
            inner.ended(serial, None);
        }
    }
}

/// The peer's actor. Remote actors bear the number of the session that they came by, so whatever
/// a peer names its actors, they are its own.
fn remote_of(session: ractor_cluster::NodeId) -> Option<ActorRef<Ask>> {
    let is_of = |id: ActorId| matches!(id, ActorId::Remote { node_id, .. } if node_id == session);
    pg::get_scoped_members(&SCOPE.to_owned(), &GROUP.to_owned())
        .into_iter()
        .find(|actor| is_of(actor.get_id()))
        .map(ActorRef::from)
}
