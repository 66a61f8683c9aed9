//! Who waits for a lease: first come, first served among those that can't go at once. Whoever
//! waits asks again and again; one that stops asking loses its place by the leader's clock.

use super::{Applied, Ledger, News, RULES_WITH_QUEUE, Row, limits};
use hale_model::ledger::{Acquire, Answer, Refusal, Waiting, WaitsFor};
use hale_model::{ExecutionId, NodeId};

/// Why an execution can't go now.
pub(super) struct Kept {
    pub(super) waits_for: WaitsFor,
    pub(super) why: Refusal,
}

impl Ledger {
    /// Executions that wait for a lease, in the order in which they asked.
    pub fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
    }

    /// The place of an execution in the line.
    pub(super) fn place_of(&self, execution: &ExecutionId) -> Option<u64> {
        self.places.get(execution).copied()
    }

    /// Nobody else goes on with the place of a node's execution.
    pub(super) fn check_place(&self, ask: &Acquire) -> Result<(), Refusal> {
        let place = self.place_of(&ask.execution);
        match place.and_then(|p| self.waiting.get(&p)) {
            Some(w) if w.holder != ask.holder => Err(Refusal::BadEntry(format!(
                "execution {} is waited for by node {}",
                w.execution,
                w.holder.short()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether one that waits for the same scope asked before.
    pub(super) fn behind_for_scope(&self, ask: &Acquire) -> Option<Kept> {
        let before = self.before(ask);
        let why = queued(
            ask,
            before.filter(|w| w.waits_for == WaitsFor::Scope && w.scope.conflicts(&ask.scope)),
        )?;
        let waits_for = WaitsFor::Scope;
        Some(Kept { waits_for, why })
    }

    /// Whether one of these budgets is spent, or one that waits for it asked before.
    pub(super) fn kept_by_budgets(&self, ask: &Acquire, needs: &[String]) -> Option<Kept> {
        let (mut names, why) = match self.spent(needs) {
            Some((names, why)) => (names, Some(why)),
            None => (vec![], None),
        };
        let shared = |w: &Waiting| match &w.waits_for {
            WaitsFor::Scope => vec![],
            WaitsFor::Budgets(theirs) => {
                let shared = theirs.iter().filter(|n| needs.contains(n));
                shared.cloned().collect::<Vec<_>>()
            }
        };
        let behind = queued(ask, self.before(ask).filter(|w| !shared(w).is_empty()));
        names.extend(self.before(ask).flat_map(shared));
        names.sort();
        names.dedup();
        let why = why.or(behind)?;
        let waits_for = WaitsFor::Budgets(names);
        Some(Kept { waits_for, why })
    }

    /// Those who asked before.
    fn before(&self, ask: &Acquire) -> impl Iterator<Item = &Waiting> {
        let until = self.place_of(&ask.execution).unwrap_or(u64::MAX);
        self.waiting.range(..until).map(|(_, w)| w)
    }

    /// Puts an execution that can't go now in the line, or keeps its place there.
    pub(super) fn wait(
        &mut self,
        index: u64,
        ask: Acquire,
        kept: Kept,
    ) -> Result<Applied, Refusal> {
        if self.rules() < RULES_WITH_QUEUE {
            return Err(kept.why);
        }
        let mut out = Applied::done(Answer::Refused(kept.why));
        let known = self.place_of(&ask.execution);
        // A place is for one scope and one service: whoever asks for another begins anew.
        let keeps = known
            .and_then(|p| self.waiting.get(&p))
            .is_some_and(|w| w.scope == ask.scope && w.service == ask.service);
        if known.is_some() && !keeps {
            self.end_wait(&ask.execution, &mut out);
        }
        let place = match known.filter(|_| keeps) {
            Some(place) => place,
            None => {
                self.check_room_to_wait(&ask.holder)?;
                let last = self.waiting.last_key_value();
                last.map_or(0, |(place, _)| place.saturating_add(1))
            }
        };
        let waiting = Waiting {
            place,
            execution: ask.execution,
            holder: ask.holder,
            scope: ask.scope,
            service: ask.service,
            generation: index,
            waits_for: kept.waits_for,
        };
        self.places.insert(waiting.execution.clone(), place);
        self.touched.insert(Row::Wait(place));
        out.news.push(News::Waits(waiting.clone()));
        self.waiting.insert(place, waiting);
        Ok(out)
    }

    fn check_room_to_wait(&self, holder: &NodeId) -> Result<(), Refusal> {
        let full = |what: &str, limit: usize| {
            Err(Refusal::Full {
                what: what.into(),
                limit: limit as u64,
            })
        };
        if self.waiting.len() >= limits::MAX_WAITING {
            return full("executions that wait for a lease", limits::MAX_WAITING);
        }
        let own = self
            .waiting
            .values()
            .filter(|w| w.holder == *holder)
            .count();
        if own >= limits::MAX_WAITING_PER_NODE {
            return full(
                "executions of one node that wait for a lease",
                limits::MAX_WAITING_PER_NODE,
            );
        }
        Ok(())
    }

    pub(super) fn end_wait(&mut self, execution: &ExecutionId, out: &mut Applied) {
        if let Some(place) = self.places.remove(execution) {
            self.waiting.remove(&place);
            self.touched.insert(Row::Wait(place));
            out.news.push(News::WaitEnded(execution.clone()));
        }
    }

    /// All that this node waits for.
    pub(super) fn end_waits_of(&mut self, node: &NodeId, out: &mut Applied) {
        let own = self.waiting.values().filter(|w| w.holder == *node);
        let own: Vec<_> = own.map(|w| w.execution.clone()).collect();
        own.iter()
            .for_each(|execution| self.end_wait(execution, out));
    }

    pub(super) fn expire_wait(
        &mut self,
        execution: &ExecutionId,
        generation: u64,
    ) -> Result<Applied, Refusal> {
        let mut out = Applied::nothing();
        let place = self.place_of(execution);
        let seen = place
            .and_then(|p| self.waiting.get(&p))
            .is_some_and(|w| w.generation == generation);
        if seen {
            self.end_wait(execution, &mut out);
        }
        Ok(out)
    }
}

/// Its place behind those.
fn queued<'a>(ask: &Acquire, mut before: impl Iterator<Item = &'a Waiting>) -> Option<Refusal> {
    let first = before.next()?;
    Some(Refusal::Queued {
        scope: ask.scope.clone(),
        position: u32::try_from(before.count() + 2).unwrap_or(u32::MAX),
        ahead: first.execution.clone(),
    })
}
