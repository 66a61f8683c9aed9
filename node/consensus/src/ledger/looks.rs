//! Shared leases: whoever looks at a scope keeps others from acting on it for some seconds, and is kept
//! from looking while somebody acts there or waits to. Nothing of it is on the chain, and none of it
//! gives a right to change anything.

use super::{Applied, Ledger, News, RULES_WITH_LOOKS, Row, check, limits};
use hale_model::ledger::{Acquire, Answer, Look, Refusal, Scope, SharedLease, Waiting, WaitsFor};
use hale_model::planted::{self, Mistake};
use hale_model::{ExecutionId, Fence, NodeId};

impl Ledger {
    /// Shares that are held, by fence.
    pub fn looks(&self) -> impl Iterator<Item = &SharedLease> {
        self.looks.values()
    }

    pub(super) fn look(&mut self, index: u64, look: Look) -> Result<Applied, Refusal> {
        if self.rules() < RULES_WITH_LOOKS {
            return Err(super::too_early());
        }
        check::ttl(look.ttl_ms, &limits::LOOK_TTL_MS)?;
        if let Scope::Custom(name) = &look.scope {
            check::text("the scope", name, limits::MAX_BY_BYTES)?;
        }
        if !self.is_enrolled(&look.node) {
            return Err(Refusal::UnknownNode(look.node));
        }
        if let Some(known) = self.looks.values().find(|l| l.look.id == look.id) {
            return if known.look == look {
                Ok(granted(known))
            } else {
                Err(Refusal::BadEntry(format!(
                    "{} looks at something else",
                    look.id
                )))
            };
        }
        if let Some(why) = self.acted_on(&look.scope) {
            return Err(why);
        }
        self.check_room_to_look(&look.node)?;
        let fence = self.next_fence(index);
        let share = SharedLease { fence, look };
        let mut out = granted(&share);
        self.touched.extend([Row::Head, Row::Look(fence)]);
        out.news.push(News::Looks(share.clone()));
        self.looks.insert(fence, share);
        Ok(out)
    }

    /// Who acts on the scope, or waits to.
    fn acted_on(&self, scope: &Scope) -> Option<Refusal> {
        let mut acting = self.grants.values();
        if let Some(lease) = acting.find(|l| self.excludes(l) && l.scope.conflicts(scope)) {
            return Some(super::grants::held(lease));
        }
        // Who waits for a budget alone acts on nothing soon; refused because of a look, it waits for
        // the scope from then on, with the place that it has.
        let waits_for_it =
            |w: &&Waiting| w.waits_for == WaitsFor::Scope && w.scope.conflicts(scope);
        let ahead: Vec<_> = self.waiting.values().filter(waits_for_it).collect();
        Some(Refusal::Queued {
            scope: scope.clone(),
            position: u32::try_from(ahead.len() + 1).unwrap_or(u32::MAX),
            ahead: ahead.first()?.execution.clone(),
        })
    }

    /// Who looks at what somebody wants to act on.
    pub(super) fn kept_by_looks(&self, ask: &Acquire) -> Option<Refusal> {
        let mut looks = self.looks.values();
        let keeps = |l: &&SharedLease| {
            l.look.scope.conflicts(&ask.scope) && !planted::is(Mistake::LookIgnored)
        };
        let share = looks.find(keeps)?;
        Some(Refusal::LookedAt {
            scope: share.look.scope.clone(),
            fence: share.fence,
            node: share.look.node,
        })
    }

    fn check_room_to_look(&self, node: &NodeId) -> Result<(), Refusal> {
        let own = self.looks.values().filter(|l| l.look.node == *node).count();
        let (what, limit) = if self.looks.len() >= limits::MAX_LOOKS {
            ("shared leases in the cluster", limits::MAX_LOOKS)
        } else if own >= limits::MAX_LOOKS_PER_NODE {
            ("shared leases of one node", limits::MAX_LOOKS_PER_NODE)
        } else {
            return Ok(());
        };
        Err(Refusal::Full {
            what: what.into(),
            limit: limit as u64,
        })
    }

    /// Its holder gives it back. One that has ended is as good as given back.
    pub(super) fn end_look(&mut self, node: &NodeId, id: &ExecutionId) -> Result<Applied, Refusal> {
        let mut out = Applied::nothing();
        let share = self.looks.values().find(|l| l.look.id == *id);
        match share.map(|l| (l.fence, l.look.node)) {
            Some((fence, holder)) if holder != *node => return Err(Refusal::StaleFence(fence)),
            Some((fence, _)) => self.forget_look(fence, &mut out),
            None => {}
        }
        Ok(out)
    }

    pub(super) fn expire_look(&mut self, fence: Fence) -> Result<Applied, Refusal> {
        let mut out = Applied::nothing();
        if self.looks.contains_key(&fence) {
            self.forget_look(fence, &mut out);
        }
        Ok(out)
    }

    /// All that a node looks at.
    pub(super) fn end_looks_of(&mut self, node: &NodeId, out: &mut Applied) {
        let own = self.looks.values().filter(|l| l.look.node == *node);
        let own: Vec<Fence> = own.map(|l| l.fence).collect();
        own.into_iter()
            .for_each(|fence| self.forget_look(fence, out));
    }

    fn forget_look(&mut self, fence: Fence, out: &mut Applied) {
        self.looks.remove(&fence);
        self.touched.insert(Row::Look(fence));
        out.news.push(News::LookEnded(fence));
    }
}

fn granted(share: &SharedLease) -> Applied {
    Applied::done(Answer::Granted {
        fence: share.fence,
        ttl_ms: share.look.ttl_ms,
    })
}
