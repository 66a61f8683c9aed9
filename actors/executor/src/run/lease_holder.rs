//! Holding a lease: asked for, confirmed, renewed, and given up by the holder's own clock before
//! the leader's can run out.

use hale_model::Fence;
use hale_model::ledger::{Answer, LedgerError, Refusal};
use hale_model::planted::{self, Mistake};
use std::collections::BTreeSet;
use std::time::Duration;

/// Questions that may be given up on before no more are asked.
const MAX_GIVEN_UP: usize = 8;
/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause before the ledger is asked again after it gave no answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What the holder wants to be sent to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Acquire { ask: u64 },
    Renew { ask: u64, fence: Fence },
}

/// What became of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// It is held from now on.
    Held(Fence),
    /// There is no grant for this run.
    Refused(Refusal),
    /// There was a grant for this run, and it can't be held any more. It waits to be closed by
    /// this node, unless another has closed it.
    Gone(String),
    /// It was held until now; whatever runs under it has to end at once.
    Lost(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is wanted.
    Idle,
    /// Wanted; the next question goes out at `next`.
    Asking { next: Duration },
    /// Granted at an unknown time: only a renewal tells for how long it is safe.
    Confirming { next: Duration },
    /// Held until `until` by this holder's clock.
    Held { until: Duration, next: Duration },
    /// It ran out.
    Lost,
}

/// One run's lease. All times are monotonic, since the node started.
#[derive(Debug, Clone)]
pub(super) struct LeaseHolder {
    ttl: Duration,
    margin: Duration,
    state: State,
    /// The question that waits for its answer, and when it was asked.
    outstanding: Option<(u64, Duration)>,
    asks: u64,
    /// Questions that were given up on: one may still be answered by a grant.
    given_up: BTreeSet<u64>,
    /// A question went without an answer once: a grant may be older than the last question.
    was_unanswered: bool,
    /// Whether there may be a grant of which nothing is known yet.
    in_doubt: bool,
    fence: Option<Fence>,
}

impl LeaseHolder {
    /// A holder of a lease of `ttl`. It gives up a tenth of that (100 ms to 5 s) before the
    /// leader could: the time to kill its children, and for two clocks to differ.
    pub(super) fn new(ttl: Duration) -> Self {
        let margin = (ttl / 10).clamp(Duration::from_millis(100), Duration::from_secs(5));
        Self {
            ttl,
            margin,
            state: State::Idle,
            outstanding: None,
            asks: 0,
            given_up: BTreeSet::new(),
            was_unanswered: false,
            in_doubt: false,
            fence: None,
        }
    }

    /// The grant's number, once there is one.
    pub(super) fn fence(&self) -> Option<Fence> {
        self.fence
    }

    /// Whether anything may be done under it.
    pub(super) fn holds(&self, now: Duration) -> bool {
        matches!(self.state, State::Held { until, .. } if now < until)
    }

    /// Whether it is known if there is a grant.
    pub(super) fn is_settled(&self) -> bool {
        let is_waiting = self.outstanding.is_some() || !self.given_up.is_empty();
        self.fence.is_some() || (!is_waiting && !self.in_doubt)
    }

    /// From now on the lease is wanted.
    pub(super) fn want(&mut self, now: Duration) {
        self.state = State::Asking { next: now };
    }

    /// As [`LeaseHolder::want`], when it may have been asked for before: by a node that died, or
    /// by this one, before it lost it.
    pub(super) fn want_again(&mut self, now: Duration) {
        self.was_unanswered = true;
        self.outstanding = None;
        self.want(now);
    }

    /// There is a grant, found in the ledger: of unknown age.
    pub(super) fn adopt(&mut self, now: Duration, fence: Fence) {
        self.fence = Some(fence);
        self.outstanding = None;
        self.state = State::Confirming { next: now };
    }

    /// There is a grant, found in the ledger or the journal, that is not to be held any more.
    pub(super) fn know(&mut self, fence: Fence) {
        self.fence = Some(fence);
        self.state = State::Lost;
    }

    /// Nothing is wanted any more.
    pub(super) fn rest(&mut self) {
        self.state = State::Idle;
        self.outstanding = None;
    }

    /// When it next has something to do.
    pub(super) fn next_wake(&self) -> Option<Duration> {
        let asked = self.outstanding.map(|(_, at)| at);
        let is_patient = self.given_up.len() >= MAX_GIVEN_UP && asked.is_none();
        match self.state {
            State::Idle | State::Lost => None,
            State::Asking { .. } if is_patient => None,
            State::Asking { next } | State::Confirming { next } => {
                Some(asked.map_or(next, |at| at + PATIENCE))
            }
            State::Held { until, next } => {
                Some(until.min(asked.map_or(next, |at| at + self.ttl / 3)))
            }
        }
    }

    /// What the clock asks for.
    pub(super) fn tick(&mut self, now: Duration) -> (Option<Want>, Option<News>) {
        if let State::Held { until, .. } = self.state
            && now >= until
        {
            self.state = State::Lost;
            self.outstanding = None;
            return (
                None,
                Some(News::Lost("it could not be renewed in time".into())),
            );
        }
        let patience = match self.state {
            State::Held { .. } => self.ttl / 3,
            _ => PATIENCE,
        };
        if self.outstanding.is_some_and(|(_, at)| now >= at + patience) {
            self.unanswered();
        }
        let next = match self.state {
            State::Asking { next } | State::Confirming { next } | State::Held { next, .. } => next,
            State::Idle | State::Lost => return (None, None),
        };
        let is_patient = self.given_up.len() >= MAX_GIVEN_UP;
        if self.outstanding.is_some() || now < next || is_patient {
            return (None, None);
        }
        self.asks += 1;
        let ask = self.asks;
        self.outstanding = Some((ask, now));
        let want = match (self.state, self.fence) {
            (State::Confirming { .. } | State::Held { .. }, Some(fence)) => {
                Want::Renew { ask, fence }
            }
            _ => Want::Acquire { ask },
        };
        (Some(want), None)
    }

    fn unanswered(&mut self) {
        let given_up = self.outstanding.take();
        if matches!(self.state, State::Asking { .. }) {
            self.given_up.extend(given_up.map(|(ask, _)| ask));
            self.was_unanswered = true;
            self.in_doubt = true;
        }
    }

    /// The answer to [`Want::Acquire`].
    pub(super) fn answered(
        &mut self,
        now: Duration,
        ask: u64,
        answer: Result<Answer, LedgerError>,
    ) -> Option<News> {
        self.given_up.remove(&ask);
        if !matches!(self.state, State::Asking { .. }) {
            return None;
        }
        let asked = self
            .outstanding
            .filter(|(id, _)| *id == ask)
            .map(|(_, at)| at);
        if let Ok(Answer::Granted { fence, .. }) = answer {
            self.fence = Some(fence);
            self.outstanding = None;
            self.in_doubt = false;
            return match asked.filter(|_| !self.was_unanswered) {
                Some(at) => self.hold(now, at, fence),
                None => {
                    self.state = State::Confirming { next: now };
                    None
                }
            };
        }
        // A late answer to an older question says nothing about now.
        asked?;
        self.outstanding = None;
        match answer {
            Ok(Answer::Refused(Refusal::StaleFence(fence))) => {
                self.know(fence);
                Some(News::Gone(format!("the lease under fence {fence} ran out")))
            }
            Ok(Answer::Refused(Refusal::AlreadyClosed(fence))) => {
                self.fence = None;
                self.in_doubt = false;
                self.state = State::Lost;
                Some(News::Gone(format!(
                    "the grant under fence {fence} was closed by another"
                )))
            }
            Ok(Answer::Refused(refusal)) => {
                self.in_doubt = false;
                self.state = State::Asking { next: now + PAUSE };
                Some(News::Refused(refusal))
            }
            Ok(_) | Err(_) => {
                self.was_unanswered = true;
                self.in_doubt = true;
                self.state = State::Asking { next: now + PAUSE };
                None
            }
        }
    }

    /// The answer to [`Want::Renew`].
    pub(super) fn renewed(
        &mut self,
        now: Duration,
        ask: u64,
        answer: Result<Answer, LedgerError>,
    ) -> Option<News> {
        let at = self
            .outstanding
            .filter(|(id, _)| *id == ask)
            .map(|(_, at)| at)?;
        let fence = self.fence?;
        self.outstanding = None;
        match (answer, self.state) {
            (Ok(Answer::Refused(_)), State::Held { .. } | State::Confirming { .. })
                if planted::is(Mistake::FenceNotChecked) =>
            {
                self.hold(now, at, fence)
            }
            (Ok(Answer::Renewed { .. }), State::Held { .. } | State::Confirming { .. }) => {
                self.hold(now, at, fence)
            }
            (Ok(Answer::Refused(why)), State::Held { .. }) => {
                self.state = State::Lost;
                Some(News::Lost(why.to_string()))
            }
            (Ok(Answer::Refused(why)), State::Confirming { .. }) => {
                self.state = State::Lost;
                Some(News::Gone(why.to_string()))
            }
            (_, State::Held { until, .. }) => {
                let pause = (self.ttl / 12).max(Duration::from_millis(250));
                self.state = State::Held {
                    until,
                    next: now + pause,
                };
                None
            }
            (_, State::Confirming { .. }) => {
                self.state = State::Confirming { next: now + PAUSE };
                None
            }
            _ => None,
        }
    }

    /// Held for a ttl from when it was *asked* for, less the margin: the leader counts from later.
    fn hold(&mut self, now: Duration, asked: Duration, fence: Fence) -> Option<News> {
        let was_held = matches!(self.state, State::Held { .. });
        let until = asked + self.ttl - self.margin;
        if now >= until && !was_held {
            // The answer took so long that only another renewal makes it safe.
            self.state = State::Confirming { next: now };
            return None;
        }
        let until = match self.state {
            State::Held { until: before, .. } => until.max(before),
            _ => until,
        };
        self.state = State::Held {
            until,
            next: asked + self.ttl / 3,
        };
        (!was_held).then_some(News::Held(fence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);
    const FENCE: Fence = Fence(7);

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn granted() -> Result<Answer, LedgerError> {
        Ok(Answer::Granted {
            fence: FENCE,
            ttl_ms: 30_000,
        })
    }

    fn renewed() -> Result<Answer, LedgerError> {
        Ok(Answer::Renewed { generation: 1 })
    }

    fn asked(at: Duration) -> LeaseHolder {
        let mut h = LeaseHolder::new(TTL);
        h.want(at);
        assert_eq!(h.tick(at).0, Some(Want::Acquire { ask: 1 }));
        h
    }

    #[test]
    fn a_lease_is_counted_from_before_it_was_asked_for() {
        let mut h = asked(secs(100));
        assert_eq!(h.answered(secs(110), 1, granted()), Some(News::Held(FENCE)));
        assert!(h.holds(secs(126)));
        assert!(!h.holds(secs(127)), "a tenth of the ttl is the margin");
        assert_eq!(
            h.tick(secs(110)).0,
            Some(Want::Renew {
                ask: 2,
                fence: FENCE
            })
        );
    }

    #[test]
    fn a_grant_after_an_unanswered_question_is_renewed_before_it_is_trusted() {
        let mut h = asked(secs(0));
        assert_eq!(h.answered(secs(5), 1, Err(LedgerError::NoLeader(5))), None);
        assert!(!h.is_settled());
        assert_eq!(h.tick(secs(6)).0, Some(Want::Acquire { ask: 2 }));
        assert_eq!(h.answered(secs(7), 2, granted()), None);
        assert!(!h.holds(secs(7)));
        assert_eq!(
            h.tick(secs(7)).0,
            Some(Want::Renew {
                ask: 3,
                fence: FENCE
            })
        );
        assert_eq!(h.renewed(secs(8), 3, renewed()), Some(News::Held(FENCE)));
        assert!(h.holds(secs(33)) && !h.holds(secs(34)));
    }

    #[test]
    fn an_answer_that_took_longer_than_the_lease_is_not_trusted() {
        let mut h = asked(secs(0));
        assert_eq!(h.answered(secs(14), 1, granted()), Some(News::Held(FENCE)));
        let mut h = LeaseHolder::new(secs(5));
        h.want(secs(0));
        h.tick(secs(0));
        assert_eq!(h.answered(secs(14), 1, granted()), None);
        assert!(!h.holds(secs(14)));
    }

    #[test]
    fn a_holder_that_can_not_renew_gives_up_by_its_own_clock() {
        let mut h = asked(secs(0));
        h.answered(secs(0), 1, granted());
        let mut now = secs(0);
        let mut lost = None;
        while lost.is_none() {
            now = h.next_wake().unwrap().max(now + Duration::from_millis(1));
            let (want, news) = h.tick(now);
            if let Some(Want::Renew { ask, .. }) = want {
                assert_eq!(h.renewed(now, ask, Err(LedgerError::Busy)), None);
            }
            lost = news;
        }
        assert!(matches!(lost, Some(News::Lost(_))));
        assert_eq!(now, secs(27));
        assert!(!h.holds(now));
    }

    #[test]
    fn a_late_answer_to_an_older_question_changes_nothing() {
        let mut h = asked(secs(0));
        h.answered(secs(0), 1, granted());
        h.tick(secs(10));
        h.renewed(secs(10), 2, Err(LedgerError::Busy));
        h.tick(secs(13));
        assert_eq!(h.renewed(secs(26), 2, renewed()), None);
        assert!(!h.holds(secs(27)), "the renewal of before does not count");
    }
}
