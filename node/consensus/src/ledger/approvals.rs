//! Questions to humans: asked, answered, run out, used by a grant.

use super::{Applied, Asked, Ledger, News, Row, check, limits};
use hale_model::ledger::{Answer, Approval, ApprovalState, EntryKind, Refusal, Signed};
use hale_model::{ApprovalId, Digest, Fence, NodeId};

/// Whether it still stands for something: it waits, or was given and not used yet.
fn is_open(state: ApprovalState) -> bool {
    matches!(state, ApprovalState::Waiting | ApprovalState::Approved)
}

impl Ledger {
    pub(super) fn ask(&mut self, index: u64, mut ask: Approval) -> Result<Applied, Refusal> {
        check::ttl(ask.ttl_ms, &limits::APPROVAL_TTL_MS)?;
        check::text("the rationale", &ask.rationale, limits::MAX_TEXT_BYTES)?;
        check::text("the version", &ask.version, limits::MAX_BY_BYTES)?;
        if ask.plan.len() > limits::MAX_PLAN_BYTES {
            let (len, limit) = (ask.plan.len(), limits::MAX_PLAN_BYTES);
            return Err(Refusal::BadEntry(format!(
                "a plan of {len} bytes, {limit} are allowed"
            )));
        }
        if ask.state != ApprovalState::Waiting || ask.answered_by.is_some() {
            return Err(Refusal::BadEntry("a question is asked unanswered".into()));
        }
        if ask.entry.signer != ask.node {
            return Err(Refusal::BadSignature);
        }
        check::canonical("the plan", &ask.plan)?;
        self.check(&ask.entry, EntryKind::Approval)?;
        let mut out = Applied::done(Answer::Done { entry: None });
        if let Some(known) = self.approval(&ask.id) {
            let (id, state) = (ask.id.clone(), known.state);
            let same = known.plan_digest == ask.plan_digest && known.node == ask.node;
            return match state {
                ApprovalState::Waiting if same => Ok(out),
                _ => Err(Refusal::NotWaiting { id, state }),
            };
        }
        self.check_room_to_ask(&ask)?;
        let body = std::mem::take(&mut ask.entry.body);
        let entry = Signed {
            body,
            ..ask.entry.clone()
        };
        let id = ask.id.clone();
        self.approvals.insert(
            id.clone(),
            Asked {
                approval: ask,
                since: index,
            },
        );
        self.tell(&id, &mut out);
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    fn check_room_to_ask(&self, ask: &Approval) -> Result<(), Refusal> {
        let full = |what: &str, limit: usize| {
            Err(Refusal::Full {
                what: what.into(),
                limit: limit as u64,
            })
        };
        let open = || self.approvals().filter(|a| is_open(a.state));
        if open().count() >= limits::MAX_OPEN_APPROVALS {
            return full("open approvals in the cluster", limits::MAX_OPEN_APPROVALS);
        }
        if open().filter(|a| a.node == ask.node).count() >= limits::MAX_OPEN_APPROVALS_PER_NODE {
            return full(
                "open approvals of one node",
                limits::MAX_OPEN_APPROVALS_PER_NODE,
            );
        }
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        index: u64,
        id: &ApprovalId,
        plan_digest: Digest,
        approve: bool,
        by: String,
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        check::text("the name", &by, limits::MAX_BY_BYTES)?;
        self.check(&entry, EntryKind::Approval)?;
        let known = self
            .approval(id)
            .ok_or_else(|| Refusal::UnknownApproval(id.clone()))?;
        if known.plan_digest != plan_digest {
            let (approved, asked) = (known.plan_digest, plan_digest);
            return Err(Refusal::PlanChanged { approved, asked });
        }
        let state = if approve {
            ApprovalState::Approved
        } else {
            ApprovalState::Denied
        };
        let mut out = Applied::done(Answer::Done { entry: None });
        if known.state != ApprovalState::Waiting {
            // The same answer by the same person again, because the first reply got lost.
            if known.state == state && known.answered_by.as_deref() == Some(by.as_str()) {
                return Ok(out);
            }
            return Err(Refusal::NotWaiting {
                id: id.clone(),
                state: known.state,
            });
        }
        if let Some(asked) = self.approvals.get_mut(id) {
            asked.approval.answered_by = Some(by);
        }
        self.settle(index, id, state, &mut out);
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    pub(super) fn close_approval(
        &mut self,
        index: u64,
        id: &ApprovalId,
        state: ApprovalState,
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        if !matches!(state, ApprovalState::Expired | ApprovalState::Superseded) {
            return Err(Refusal::BadEntry(
                "an approval is closed as expired or superseded".into(),
            ));
        }
        self.check(&entry, EntryKind::Approval)?;
        let known = self
            .approval(id)
            .ok_or_else(|| Refusal::UnknownApproval(id.clone()))?;
        if !is_open(known.state) {
            return Err(Refusal::NotWaiting {
                id: id.clone(),
                state: known.state,
            });
        }
        let mut out = Applied::done(Answer::Done { entry: None });
        self.settle(index, id, state, &mut out);
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    /// Moves an approval on; one that ended is kept without its plan, the oldest are forgotten.
    pub(super) fn settle(
        &mut self,
        index: u64,
        id: &ApprovalId,
        state: ApprovalState,
        out: &mut Applied,
    ) {
        let Some(asked) = self.approvals.get_mut(id) else {
            return;
        };
        asked.approval.state = state;
        asked.since = index;
        if !is_open(state) {
            asked.approval.plan.clear();
        }
        self.tell(id, out);
        let ended = |a: &&Asked| !is_open(a.approval.state);
        while self.approvals.values().filter(ended).count() > limits::MAX_ENDED_APPROVALS {
            let oldest = self
                .approvals
                .values()
                .filter(ended)
                .min_by_key(|a| (a.since, &a.approval.id))
                .map(|a| a.approval.id.clone());
            let Some(oldest) = oldest else { return };
            self.approvals.remove(&oldest);
            self.touched.insert(Row::Approval(oldest));
        }
    }

    /// What a node asked and won't do any more.
    pub(super) fn end_approvals_of(&mut self, index: u64, node: &NodeId, out: &mut Applied) {
        let own = self
            .approvals()
            .filter(|a| a.node == *node && is_open(a.state));
        let own: Vec<_> = own.map(|a| a.id.clone()).collect();
        for id in own {
            self.settle(index, &id, ApprovalState::Superseded, out);
        }
    }

    fn tell(&mut self, id: &ApprovalId, out: &mut Applied) {
        let Some(approval) = self.approval(id) else {
            return;
        };
        let news = News::Approval {
            id: id.clone(),
            incident: approval.incident.clone(),
            node: approval.node,
            state: approval.state,
            by: approval.answered_by.clone(),
            ttl_ms: approval.ttl_ms,
        };
        self.touched.insert(Row::Approval(id.clone()));
        out.news.push(news);
    }
}
