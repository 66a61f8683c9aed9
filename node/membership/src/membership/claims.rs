//! What others say of who a member is and where. A member of the cluster may lie: it is believed of
//! itself alone. Of another it hands on what that one has signed, or it is refused. That another is
//! down it may still say: that is refuted as SWIM does.

use super::{MAX_PACKET_BYTES, Membership};
use crate::codec;
use crate::identity::{Id, latest_life};
use hale_model::NodeId;
use std::collections::BTreeMap;

/// What somebody's word of who a member is and where is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// It is what is known, or news that the member itself has signed.
    True,
    /// The member has begun a later life since, or this was never said: it is not worth the finding
    /// out.
    Past,
    /// This node's own of a later life than it knows to have begun: its clock was put back, or its
    /// files.
    OwnLater,
    /// On no roster, or one too many.
    Stranger,
    /// Numbered beyond all clocks, whoever has said so.
    BeyondClocks,
    /// The member has not signed it.
    Forged,
}

impl Membership {
    /// The latest life that is believed now.
    pub(super) fn latest_life(&self) -> u64 {
        let since = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
        latest_life(self.settings.started_ms.saturating_add(since))
    }

    /// What an identity that somebody tells is worth.
    fn worth(&self, id: &Id) -> Worth {
        let node = id.contact.node;
        let mut others = self.foca.iter_membership_state();
        let known = others.find(|m| m.id().contact.node == node);
        self.worth_beside(id, known.map(|m| m.id()))
    }

    /// What it is worth beside what is known of the same node, which is not looked at for this node
    /// itself. Gossip repeats itself: a signature is looked at only where the identity differs from
    /// the one that is known, and is of a later life.
    fn worth_beside(&self, id: &Id, known: Option<&Id>) -> Worth {
        let (me, node) = (self.foca.identity(), id.contact.node);
        let members = self.foca.iter_membership_state().len();
        let has_room = members < self.settings.tuning.max_members;
        let known = match node == me.contact.node {
            true => Some(me),
            false => known,
        };
        match known {
            None if !has_room => Worth::Stranger,
            _ if !(self.settings.admit)(&node) => Worth::Stranger,
            Some(known) if known == id => Worth::True,
            Some(known) if known.is_after(id) => Worth::Past,
            _ if id.incarnation > self.latest_life() => Worth::BeyondClocks,
            _ if !id.is_genuine() => Worth::Forged,
            _ if node == me.contact.node => Worth::OwnLater,
            _ => Worth::True,
        }
    }

    /// Counts what is refused of an identity, and remembers what it tells of this node itself.
    fn note(&mut self, worth: Worth, id: &Id) {
        match worth {
            Worth::True | Worth::Past => {}
            Worth::OwnLater => self.on_record = self.on_record.max(id.incarnation),
            Worth::Stranger => self.counts.refused_members += 1,
            Worth::BeyondClocks | Worth::Forged => self.counts.refused_identities += 1,
        }
    }

    /// A packet without the members of whom nobody may speak; nothing if it is not from whom it
    /// says, or tells what a member has not said.
    pub(super) fn honest(&mut self, from: NodeId, bytes: &[u8]) -> Option<Vec<u8>> {
        if bytes.len() > MAX_PACKET_BYTES {
            return None;
        }
        let header = codec::header(bytes).ok()?;
        let me = self.foca.identity().contact.node;
        if header.src.contact.node != from || header.dst.contact.node != me {
            return None;
        }
        let named = [Some(&header.src), codec::third(&header.message)];
        if !named.into_iter().flatten().all(|id| self.may_answer(id)) {
            return None;
        }
        let mut seen: Vec<(Worth, Id)> = vec![];
        let is_forged = |seen: &[(Worth, Id)]| seen.last().is_some_and(|s| s.0 == Worth::Forged);
        let kept = codec::filter(bytes, |id| {
            // Behind a forged one nothing is looked at: each costs a signature.
            if is_forged(&seen) {
                return false;
            }
            seen.push((self.worth(id), *id));
            seen.last().is_some_and(|s| s.0 == Worth::True)
        });
        for (worth, id) in &seen {
            self.note(*worth, id);
        }
        kept.ok().filter(|_| !is_forged(&seen))
    }

    /// Whether packets may be sent to where an identity says.
    fn may_answer(&mut self, id: &Id) -> bool {
        match self.worth(id) {
            Worth::True => true,
            // A node whose clock was put back is told that it is in the past.
            Worth::Past if id.is_genuine() => true,
            Worth::Past | Worth::Forged | Worth::BeyondClocks => {
                self.counts.refused_identities += 1;
                false
            }
            Worth::OwnLater | Worth::Stranger => false,
        }
    }

    /// Of the members that may be spoken of those that are news, in what they say or in how they are;
    /// nothing if one of them is not what it has said itself: who tells that is not listened to.
    pub(super) fn vouched(
        &mut self,
        members: impl Iterator<Item = foca::Member<Id>>,
    ) -> Option<Vec<foca::Member<Id>>> {
        // Looked up once: each of thousands would search thousands, here and in foca.
        let known: BTreeMap<NodeId, foca::Member<Id>> = self
            .foca
            .iter_membership_state()
            .map(|m| (m.id().contact.node, m.clone()))
            .collect();
        let mut news = vec![];
        for member in members {
            let before = known.get(&member.id().contact.node);
            let worth = self.worth_beside(member.id(), before.map(foca::Member::id));
            self.note(worth, member.id());
            match worth {
                Worth::True if before == Some(&member) => {}
                Worth::True => news.push(member),
                Worth::Forged => return None,
                _ => {}
            }
        }
        Some(news)
    }
}
