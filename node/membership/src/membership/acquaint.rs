//! A cluster that is formed already, for simulations: forming one of thousands by gossip would verify
//! the square of its size in signatures. Nothing is believed of anybody here: each identity is taken
//! from the value that has signed it.

use super::Membership;

/// So many are met at once: what a node is told of each takes room that it keeps.
const AT_ONCE: usize = 64;

impl Membership {
    /// Makes the values of one process know each other, as if they had met long ago: all are alive,
    /// and each has told its profile and said all else that it had to say. What the others say of
    /// themselves is not handed over: it comes with [`super::Effect::Exchange`]. The order of time
    /// is each node's own: none of them may have been given an event yet.
    pub fn acquaint(nodes: &mut [Self]) {
        let all: Vec<_> = nodes
            .iter()
            .map(|n| foca::Member::alive(*n.foca.identity()))
            .collect();
        for node in nodes {
            let me = node.contact().node;
            // What it wants done for it was done long ago.
            let mut done = vec![];
            for some in all.chunks(AT_ONCE) {
                let others = some.iter().filter(|m| m.id().contact.node != me).cloned();
                node.drive(&mut done, |f, r| f.apply_many(others, false, r));
                done.clear();
            }
            // Each round tells it to some: it is told often enough after a bounded number of them.
            while node.foca.custom_broadcast_backlog() > 0 && node.foca.num_members() > 0 {
                node.drive(&mut done, |f, r| f.gossip(r));
            }
            node.counts = super::Counts::default();
        }
    }
}
