//! Leases: granted, renewed, expired, and each closed exactly once.

use super::queue::Kept;
use super::roster::signature_of;
use super::{Applied, Ledger, News, Row, check, limits};
use hale_model::ledger::{
    Acquire, Answer, ApprovalState, Disposition, EntryKind, Lease, Refusal, Scope, Signed, WaitsFor,
};
use hale_model::planted::{self, Mistake};
use hale_model::{Fence, NodeId, OutcomeStatus};

impl Ledger {
    pub(super) fn acquire(&mut self, index: u64, ask: Acquire) -> Result<Applied, Refusal> {
        check::ttl(ask.ttl_ms, &limits::TTL_MS)?;
        if let Scope::Custom(name) = &ask.scope {
            check::text("the scope", name, limits::MAX_BY_BYTES)?;
        }
        if ask.entry.signer != ask.holder {
            return Err(Refusal::BadSignature);
        }
        self.check(&ask.entry, EntryKind::Intent)?;
        if let Some(answer) = self.asked_before(&ask)? {
            return Ok(Applied::done(answer));
        }
        if let Some(freeze) = &self.head.frozen {
            let (by, reason) = (freeze.by.clone(), freeze.reason.clone());
            return Err(Refusal::Frozen { by, reason });
        }
        self.check_approval(&ask)?;
        self.check_place(&ask)?;
        let needs = self.budgets_of(ask.service.as_ref());
        if let Some(kept) = self.kept_by_scope(&ask) {
            return self.wait(index, ask, kept);
        }
        self.check_room(&ask)?;
        if let Some(kept) = self.kept_by_budgets(&ask, &needs) {
            return self.wait(index, ask, kept);
        }
        Ok(self.grant(index, ask, &needs))
    }

    fn kept_by_scope(&self, ask: &Acquire) -> Option<Kept> {
        let conflicts = |l: &&Lease| self.excludes(l) && l.scope.conflicts(&ask.scope);
        let held = self.grants.values().find(conflicts).map(held);
        match held.or_else(|| self.kept_by_looks(ask)) {
            Some(why) => Some(Kept {
                waits_for: WaitsFor::Scope,
                why,
            }),
            None => self.behind_for_scope(ask),
        }
    }

    /// Whether others are kept from its scope. A node that was removed may not know that yet: its
    /// grants exclude others until they are closed, which is when it can't act any more.
    pub(super) fn excludes(&self, lease: &Lease) -> bool {
        lease.live || !self.is_enrolled(&lease.holder)
    }

    /// One run has one grant, however often it is asked for.
    fn asked_before(&self, ask: &Acquire) -> Result<Option<Answer>, Refusal> {
        if let Some(lease) = self.grants.values().find(|l| l.execution == ask.execution) {
            if lease.holder != ask.holder || lease.scope != ask.scope {
                return Err(held(lease));
            }
            if lease.plan_digest != ask.plan_digest {
                let (approved, asked) = (lease.plan_digest, ask.plan_digest);
                return Err(Refusal::PlanChanged { approved, asked });
            }
            if !lease.live {
                return Err(Refusal::StaleFence(lease.fence));
            }
            return Ok(Some(Answer::Granted {
                fence: lease.fence,
                ttl_ms: lease.ttl_ms,
            }));
        }
        let closed = |(fence, execution): &_| (*execution == ask.execution).then_some(*fence);
        match self
            .recent
            .values()
            .rev()
            .find_map(|r| r.closed.as_ref().and_then(closed))
        {
            Some(fence) => Err(Refusal::AlreadyClosed(fence)),
            None => Ok(None),
        }
    }

    fn check_approval(&self, ask: &Acquire) -> Result<(), Refusal> {
        let Some(id) = &ask.approval else {
            return Ok(());
        };
        let approval = self
            .approval(id)
            .ok_or_else(|| Refusal::UnknownApproval(id.clone()))?;
        if approval.state != ApprovalState::Approved {
            return Err(Refusal::NotWaiting {
                id: id.clone(),
                state: approval.state,
            });
        }
        if approval.plan_digest != ask.plan_digest {
            let (approved, asked) = (approval.plan_digest, ask.plan_digest);
            return Err(Refusal::PlanChanged { approved, asked });
        }
        if approval.node != ask.holder {
            return Err(Refusal::UnknownApproval(id.clone()));
        }
        Ok(())
    }

    fn check_room(&self, ask: &Acquire) -> Result<(), Refusal> {
        let full = |what: &str, limit: usize| {
            Err(Refusal::Full {
                what: what.into(),
                limit: limit as u64,
            })
        };
        if self.grants.len() >= limits::MAX_OPEN_GRANTS {
            return full("open grants in the cluster", limits::MAX_OPEN_GRANTS);
        }
        let own = self
            .grants
            .values()
            .filter(|l| l.holder == ask.holder)
            .count();
        if own >= limits::MAX_OPEN_GRANTS_PER_NODE {
            return full("open grants of one node", limits::MAX_OPEN_GRANTS_PER_NODE);
        }
        Ok(())
    }

    /// The fence is the log index; where several grants share one log entry, the next free number
    /// after the last fence. Either way it only rises.
    pub(super) fn next_fence(&mut self, index: u64) -> Fence {
        let fence = Fence(index.max(self.head.last_fence.0.saturating_add(1)));
        self.head.last_fence = fence;
        fence
    }

    fn grant(&mut self, index: u64, ask: Acquire, budgets: &[String]) -> Applied {
        let fence = self.next_fence(index);
        let mut out = Applied::done(Answer::Granted {
            fence,
            ttl_ms: ask.ttl_ms,
        });
        if let Some(id) = &ask.approval {
            self.settle(index, id, ApprovalState::Used, &mut out);
        }
        self.end_wait(&ask.execution, &mut out);
        self.mark(budgets, fence, &mut out);
        let lease = Lease {
            fence,
            scope: ask.scope,
            holder: ask.holder,
            ttl_ms: ask.ttl_ms,
            generation: 0,
            execution: ask.execution,
            plan_digest: ask.plan_digest,
            playbook: ask.playbook,
            service: ask.service,
            live: true,
        };
        self.grants.insert(fence, lease.clone());
        self.touched.insert(Row::Grant(fence));
        out.news.push(News::Granted(lease));
        self.write(fence, ask.entry, &mut out);
        out
    }

    pub(super) fn renew(
        &mut self,
        fence: Fence,
        holder: NodeId,
        ttl_ms: u64,
    ) -> Result<Applied, Refusal> {
        check::ttl(ttl_ms, &limits::TTL_MS)?;
        let lease = self
            .grants
            .get_mut(&fence)
            .filter(|l| l.live || planted::is(Mistake::RenewedAfterExpiry))
            .filter(|l| l.holder == holder)
            .ok_or(Refusal::StaleFence(fence))?;
        lease.live = true;
        lease.generation += 1;
        lease.ttl_ms = ttl_ms;
        let mut out = Applied::done(Answer::Renewed {
            generation: lease.generation,
        });
        out.news.push(News::Renewed(lease.clone()));
        self.touched.insert(Row::Grant(fence));
        Ok(out)
    }

    pub(super) fn expire(&mut self, fence: Fence, generation: u64) -> Result<Applied, Refusal> {
        let lease = self
            .grants
            .get_mut(&fence)
            .filter(|l| l.live && l.generation == generation)
            .ok_or(Refusal::StaleFence(fence))?;
        lease.live = false;
        let mut out = Applied::done(Answer::Done { entry: None });
        out.news.push(News::Expired(lease.clone()));
        self.touched.insert(Row::Grant(fence));
        Ok(out)
    }

    /// The holder closes its grant. Once the lease ran out, any member may report it abandoned:
    /// a node that never comes back can't say so itself.
    pub(super) fn close(
        &mut self,
        fence: Fence,
        holder: NodeId,
        disposition: Disposition,
        outcome: OutcomeStatus,
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        self.check(&entry, EntryKind::Record)?;
        let Some(lease) = self.grants.get(&fence) else {
            return self.closed_before(fence, &entry);
        };
        if lease.holder != holder {
            return Err(Refusal::StaleFence(fence));
        }
        let reported = disposition == Disposition::Abandoned && !lease.live;
        if entry.signer != holder && !reported {
            return Err(Refusal::BadSignature);
        }
        if outcome == OutcomeStatus::Success && disposition != Disposition::Done {
            return Err(Refusal::BadEntry("a success is closed as done".into()));
        }
        let stays = planted::is(Mistake::ClosedTwice);
        if self.written_before(&entry).is_some() && !stays {
            return Err(Refusal::BadEntry("this record was written before".into()));
        }
        let lease = lease.clone();
        if !stays {
            self.grants.remove(&fence);
        }
        self.touched.insert(Row::Grant(fence));
        self.count(&lease, outcome);
        let mut out = Applied::nothing();
        self.end_wait(&lease.execution, &mut out);
        let signature = signature_of(&entry);
        let place = self.write(fence, entry, &mut out);
        self.remember(
            signature,
            place.clone(),
            Some((fence, lease.execution.clone())),
        );
        out.news.push(News::Closed {
            lease,
            disposition,
            outcome,
        });
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    /// The grants of a node that was removed: it holds them no longer.
    pub(super) fn orphan_grants_of(&mut self, node: &NodeId, out: &mut Applied) {
        for lease in self.grants.values_mut().filter(|l| l.holder == *node) {
            if lease.live {
                lease.live = false;
                self.touched.insert(Row::Grant(lease.fence));
                out.news.push(News::Expired(lease.clone()));
            }
            out.news.push(News::Orphaned(lease.clone()));
        }
    }

    /// The same close again is answered as the first time; another one is refused.
    fn closed_before(&self, fence: Fence, entry: &Signed) -> Result<Applied, Refusal> {
        let was = |r: &&super::Recent| r.closed.as_ref().is_some_and(|(f, _)| *f == fence);
        let recent = self
            .recent
            .values()
            .rev()
            .find(was)
            .ok_or(Refusal::StaleFence(fence))?;
        if recent.signature != signature_of(entry) {
            return Err(Refusal::AlreadyClosed(fence));
        }
        Ok(Applied::done(Answer::Done {
            entry: Some(recent.entry.clone()),
        }))
    }
}

pub(super) fn held(lease: &Lease) -> Refusal {
    Refusal::Held {
        scope: lease.scope.clone(),
        fence: lease.fence,
        holder: lease.holder,
        playbook: lease.playbook.clone(),
    }
}
