//! Who is known and where, for all of the node to read. Gossip writes it; it decides nothing.

use hale_consensus::{Alive, Peer};
use hale_membership::{Contact, Counts, Member, State};
use hale_model::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

#[derive(Default)]
struct Inner {
    members: Vec<Member>,
    /// Since when each is alive.
    since: BTreeMap<NodeId, Instant>,
    counts: Counts,
}

/// The members as gossip last saw them.
#[derive(Default)]
pub(crate) struct Members(RwLock<Inner>);

impl Members {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What gossip sees now.
    pub(crate) fn set(&self, members: Vec<Member>, counts: Counts) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let alive: BTreeMap<NodeId, Instant> = members
            .iter()
            .filter(|m| m.state != State::Down)
            .map(|m| {
                let node = m.contact.node;
                (node, inner.since.get(&node).copied().unwrap_or(now))
            })
            .collect();
        inner.since = alive;
        inner.members = members;
        inner.counts = counts;
    }

    /// Where a node is reached.
    pub(crate) fn addr_of(&self, node: &NodeId) -> Option<SocketAddr> {
        let inner = self.read();
        let found = inner.members.iter().find(|m| m.contact.node == *node);
        found.map(|m| m.contact.addr)
    }

    /// Where a node is that is alive, or only suspected not to be.
    pub(crate) fn living(&self, node: &NodeId) -> Option<SocketAddr> {
        let inner = self.read();
        let alive = |m: &&Member| m.contact.node == *node && m.state != State::Down;
        inner.members.iter().find(alive).map(|m| m.contact.addr)
    }

    /// Everybody known, this node too.
    pub(crate) fn all(&self) -> Vec<Member> {
        self.read().members.clone()
    }

    /// How many are alive, this node among them.
    pub(crate) fn alive_count(&self) -> usize {
        self.read().since.len()
    }

    /// Who is alive besides `me`.
    pub(crate) fn others(&self, me: &NodeId) -> Vec<Contact> {
        let inner = self.read();
        let alive = inner.members.iter().filter(|m| m.state != State::Down);
        alive.map(|m| m.contact).filter(|c| c.node != *me).collect()
    }

    /// Who is alive besides `me`, for the ledger's group.
    pub(crate) fn alive(&self, me: &NodeId) -> Vec<Alive> {
        let inner = self.read();
        let alive = |m: &&Member| m.state == State::Alive && m.contact.node != *me;
        inner
            .members
            .iter()
            .filter(alive)
            .map(|m| Alive {
                peer: Peer {
                    node: m.contact.node,
                    addr: m.contact.addr.to_string(),
                },
                zone: m
                    .profile
                    .as_ref()
                    .map(|p| p.zone.clone())
                    .unwrap_or_default(),
                since: inner
                    .since
                    .get(&m.contact.node)
                    .map(Instant::elapsed)
                    .unwrap_or_default(),
                release: m
                    .profile
                    .as_ref()
                    .map(|p| p.version.clone())
                    .unwrap_or_default(),
            })
            .collect()
    }

    /// What gossip counted.
    pub(crate) fn counts(&self) -> Counts {
        self.read().counts
    }
}
