//! When leases, approvals and all else that is counted in time run out, as a pure machine: the
//! leader runs the full ttl on its own clock from the moment it applied the grant, anew after an
//! election or a restart. So nothing ever ends early, whatever the clocks of others say.

use crate::ledger::{Ledger, News, RULES, limits};
use hale_model::ledger::{ApprovalState, Command, Lease, SharedLease, Waiting};
use hale_model::{ApprovalId, ExecutionId, Fence, TokenId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is proposed is proposed again after this long, if the ledger has not said it happened.
const AGAIN: Duration = Duration::from_secs(1);
/// As many are proposed at once, so that they fit the queue of commands beside those of others.
const AT_ONCE: usize = 256;

/// What can run out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A lease.
    Lease(Fence),
    /// A question to a human, or an answer that was not used.
    Approval(ApprovalId),
    /// A join token.
    Token(TokenId),
    /// A place in the line for a lease.
    Wait(ExecutionId),
    /// A mark on an hourly budget.
    Mark(String, Fence),
    /// The grant of a node that was removed: after its ttl the node can't act under it any more.
    Orphan(Fence),
    /// A shared lease.
    Look(Fence),
    /// The rules of an older binary.
    Rules,
}

/// Something that runs out `ttl` from now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// What.
    pub subject: Subject,
    /// Of a lease: how often it was renewed. Of a place in the line: its last question.
    pub generation: u64,
    /// In how long.
    pub ttl: Duration,
}

/// What the machine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This node leads from now on; all this is open.
    Leading(Vec<Watch>),
    /// It does not lead any more.
    Following,
    /// Granted, renewed, asked, or answered: the full ttl from now.
    Began(Watch),
    /// Closed, run out, used.
    Ended(Subject),
    /// Time passed.
    Tick,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Propose that it ran out.
    Propose(Box<Command>),
    /// Propose that nobody answered in time.
    CloseApproval(ApprovalId),
    /// Propose to close the grant of a node that was removed.
    CloseOrphan(Fence),
}

#[derive(Debug)]
struct Timer {
    generation: u64,
    due: Duration,
}

/// The machine.
#[derive(Debug, Default)]
pub struct Expiry {
    leading: bool,
    timers: BTreeMap<Subject, Timer>,
    /// The same, by when they are due.
    by_due: BTreeSet<(Duration, Subject)>,
}

impl Expiry {
    /// Tells it what happened at a moment of the leader's monotonic clock.
    pub fn on(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        match event {
            Event::Leading(open) => {
                *self = Self::default();
                self.leading = true;
                open.into_iter().for_each(|watch| self.arm(now, watch));
            }
            Event::Following => *self = Self::default(),
            Event::Began(watch) if self.leading => self.arm(now, watch),
            Event::Ended(subject) => self.disarm(&subject),
            Event::Tick => return self.due_by(now),
            Event::Began(_) => {}
        }
        vec![]
    }

    /// When the next thing runs out.
    pub fn next_due(&self) -> Option<Duration> {
        self.by_due.first().map(|(due, _)| *due)
    }

    fn arm(&mut self, now: Duration, watch: Watch) {
        let due = now.saturating_add(watch.ttl);
        self.set(watch.subject, watch.generation, due);
    }

    fn set(&mut self, subject: Subject, generation: u64, due: Duration) {
        self.disarm(&subject);
        self.by_due.insert((due, subject.clone()));
        self.timers.insert(subject, Timer { generation, due });
    }

    fn disarm(&mut self, subject: &Subject) {
        if let Some(timer) = self.timers.remove(subject) {
            self.by_due.remove(&(timer.due, subject.clone()));
        }
    }

    fn due_by(&mut self, now: Duration) -> Vec<Effect> {
        let due = self.by_due.iter().take_while(|(due, _)| *due <= now);
        let due: Vec<_> = due.take(AT_ONCE).map(|(_, s)| s.clone()).collect();
        let mut effects = vec![];
        for subject in due {
            let generation = self.timers.get(&subject).map_or(0, |t| t.generation);
            effects.push(effect_of(&subject, generation));
            self.set(subject, generation, now.saturating_add(AGAIN));
        }
        effects
    }
}

fn effect_of(subject: &Subject, generation: u64) -> Effect {
    Effect::Propose(Box::new(match subject.clone() {
        Subject::Lease(fence) => Command::Expire { fence, generation },
        Subject::Token(id) => Command::ExpireToken { id },
        Subject::Wait(execution) => Command::ExpireWait {
            execution,
            generation,
        },
        Subject::Mark(budget, fence) => Command::Refill { budget, fence },
        Subject::Look(fence) => Command::ExpireLook { fence },
        Subject::Rules => Command::Rules { version: RULES },
        Subject::Approval(id) => return Effect::CloseApproval(id),
        Subject::Orphan(fence) => return Effect::CloseOrphan(fence),
    }))
}

impl Watch {
    fn new(subject: Subject, ttl: Duration) -> Self {
        Self {
            subject,
            generation: 0,
            ttl,
        }
    }

    fn lease(l: &Lease) -> Self {
        Self {
            generation: l.generation,
            ..Self::new(Subject::Lease(l.fence), Duration::from_millis(l.ttl_ms))
        }
    }

    fn orphan(l: &Lease) -> Self {
        Self::new(Subject::Orphan(l.fence), Duration::from_millis(l.ttl_ms))
    }

    fn approval(id: &ApprovalId, ttl_ms: u64) -> Self {
        let subject = Subject::Approval(id.clone());
        Self::new(subject, Duration::from_millis(ttl_ms))
    }

    fn token(id: &TokenId, ttl_ms: u64) -> Self {
        Self::new(Subject::Token(id.clone()), Duration::from_millis(ttl_ms))
    }

    fn wait(w: &Waiting) -> Self {
        Self {
            generation: w.generation,
            ..Self::new(Subject::Wait(w.execution.clone()), limits::WAIT_TTL)
        }
    }

    fn look(l: &SharedLease) -> Self {
        Self::new(Subject::Look(l.fence), Duration::from_millis(l.look.ttl_ms))
    }

    fn mark(budget: &str, fence: Fence) -> Self {
        let subject = Subject::Mark(budget.to_owned(), fence);
        Self::new(subject, limits::REFILL_AFTER)
    }
}

/// An approval that was given waits once more, to be used.
fn is_open(state: ApprovalState) -> bool {
    matches!(state, ApprovalState::Waiting | ApprovalState::Approved)
}

/// All that can run out in this ledger.
pub fn open(ledger: &Ledger) -> Vec<Watch> {
    let mut open = vec![];
    open.extend(ledger.leases().filter(|l| l.live).map(Watch::lease));
    let orphans = ledger.leases().filter(|l| !ledger.is_enrolled(&l.holder));
    open.extend(orphans.map(Watch::orphan));
    let approvals = ledger.approvals().filter(|a| is_open(a.state));
    open.extend(approvals.map(|a| Watch::approval(&a.id, a.ttl_ms)));
    let tokens = ledger.tokens().filter(|t| t.live);
    open.extend(tokens.map(|t| Watch::token(&t.id, t.ttl_ms)));
    open.extend(ledger.waiting().map(Watch::wait));
    open.extend(ledger.looks().map(Watch::look));
    open.extend(ledger.marks().map(|(b, f)| Watch::mark(b, f)));
    if ledger.rules() < RULES {
        open.push(Watch::new(Subject::Rules, Duration::ZERO));
    }
    open
}

/// What news of the ledger means here.
pub fn events_of(news: &News) -> Vec<Event> {
    use Event::{Began, Ended};
    match news {
        News::Granted(l) | News::Renewed(l) => vec![Began(Watch::lease(l))],
        News::Expired(l) => vec![Ended(Subject::Lease(l.fence))],
        News::Orphaned(l) => vec![Began(Watch::orphan(l))],
        News::Closed { lease: l, .. } => vec![
            Ended(Subject::Lease(l.fence)),
            Ended(Subject::Orphan(l.fence)),
        ],
        News::Approval {
            id, state, ttl_ms, ..
        } if is_open(*state) => vec![Began(Watch::approval(id, *ttl_ms))],
        News::Approval { id, .. } => vec![Ended(Subject::Approval(id.clone()))],
        News::Token {
            id,
            made_for_ms: Some(ttl_ms),
            ..
        } => vec![Began(Watch::token(id, *ttl_ms))],
        News::Token {
            id, live: false, ..
        } => vec![Ended(Subject::Token(id.clone()))],
        News::Waits(w) => vec![Began(Watch::wait(w))],
        News::WaitEnded(execution) => vec![Ended(Subject::Wait(execution.clone()))],
        News::Looks(share) => vec![Began(Watch::look(share))],
        News::LookEnded(fence) => vec![Ended(Subject::Look(*fence))],
        News::Marked { budget, fence } => vec![Began(Watch::mark(budget, *fence))],
        News::Refilled { budget, fence } => {
            vec![Ended(Subject::Mark(budget.clone(), *fence))]
        }
        News::Rules(_) => vec![Ended(Subject::Rules)],
        News::Token { live: true, .. }
        | News::Enrolled { .. }
        | News::Removed { .. }
        | News::Budget { .. }
        | News::Frozen { .. }
        | News::Appended { .. }
        | News::Replaced => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lease(fence: u64, generation: u64, ttl_ms: u64) -> Watch {
        let ttl = Duration::from_millis(ttl_ms);
        Watch {
            subject: Subject::Lease(Fence(fence)),
            generation,
            ttl,
        }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn proposed(command: Command) -> Effect {
        Effect::Propose(Box::new(command))
    }

    fn expire(fence: u64, generation: u64) -> Vec<Effect> {
        vec![proposed(Command::Expire {
            fence: Fence(fence),
            generation,
        })]
    }

    #[test]
    fn an_election_runs_the_full_ttl_anew() {
        let mut e = Expiry::default();
        e.on(at(0), Event::Leading(vec![lease(1, 0, 100)]));
        e.on(at(90), Event::Following);
        assert!(e.on(at(200), Event::Tick).is_empty());
        e.on(at(200), Event::Leading(vec![lease(1, 0, 100)]));
        assert!(e.on(at(299), Event::Tick).is_empty());
        assert_eq!(e.on(at(300), Event::Tick), expire(1, 0));
    }

    #[test]
    fn a_renewal_runs_the_full_ttl_anew_and_an_end_stops_it() {
        let mut e = Expiry::default();
        e.on(at(0), Event::Leading(vec![]));
        e.on(at(0), Event::Began(lease(1, 0, 100)));
        e.on(at(99), Event::Began(lease(1, 1, 100)));
        assert!(e.on(at(198), Event::Tick).is_empty());
        assert_eq!(e.on(at(199), Event::Tick), expire(1, 1));
        assert!(
            e.on(at(200), Event::Tick).is_empty(),
            "asked once, not at every tick"
        );
        assert_eq!(
            e.on(at(1199), Event::Tick),
            expire(1, 1),
            "asked again if nothing came of it"
        );
        e.on(at(1200), Event::Ended(Subject::Lease(Fence(1))));
        assert_eq!(e.next_due(), None);
    }

    #[test]
    fn each_thing_that_runs_out_is_proposed_in_its_own_words() {
        let mut e = Expiry::default();
        let token = TokenId::new("tok_1").unwrap();
        let execution = ExecutionId::new("exe_1").unwrap();
        let wait = Watch {
            generation: 7,
            ..Watch::new(Subject::Wait(execution.clone()), limits::WAIT_TTL)
        };
        let open = vec![
            Watch::token(&token, 60_000),
            wait,
            Watch::mark("b", Fence(3)),
            Watch::new(Subject::Orphan(Fence(4)), at(30_000)),
            Watch::new(Subject::Rules, Duration::ZERO),
        ];
        e.on(at(0), Event::Leading(open));
        let rules = Command::Rules { version: RULES };
        assert_eq!(e.on(at(0), Event::Tick), [proposed(rules)]);
        e.on(at(0), Event::Ended(Subject::Rules));
        assert!(e.on(at(4_999), Event::Tick).is_empty());
        let gone = Command::ExpireWait {
            execution: execution.clone(),
            generation: 7,
        };
        assert_eq!(e.on(at(5_000), Event::Tick), [proposed(gone)]);
        e.on(at(5_000), Event::Ended(Subject::Wait(execution)));
        assert_eq!(
            e.on(at(30_000), Event::Tick),
            [Effect::CloseOrphan(Fence(4))]
        );
        e.on(at(30_000), Event::Ended(Subject::Orphan(Fence(4))));
        let gone = Command::ExpireToken { id: token.clone() };
        assert_eq!(e.on(at(60_000), Event::Tick), [proposed(gone)]);
        e.on(at(60_000), Event::Ended(Subject::Token(token)));
        assert!(e.on(at(3_599_999), Event::Tick).is_empty());
        let refill = Command::Refill {
            budget: "b".into(),
            fence: Fence(3),
        };
        assert_eq!(e.on(at(3_600_000), Event::Tick), [proposed(refill)]);
    }

    proptest! {
        #[test]
        fn nothing_runs_out_before_its_ttl_or_while_following(
            ttls in proptest::collection::vec(1u64..500, 1..20),
            ticks in proptest::collection::vec(0u64..50, 1..60),
            lead_from in 0u64..300,
        ) {
            let mut e = Expiry::default();
            let (mut now, mut leading) = (0, false);
            let open: Vec<_> = ttls.iter().enumerate().map(|(i, t)| lease(i as u64, 0, *t)).collect();
            for step in ticks {
                now += step;
                if !leading && now >= lead_from {
                    leading = true;
                    e.on(at(now), Event::Leading(open.clone()));
                }
                for effect in e.on(at(now), Event::Tick) {
                    let Effect::Propose(command) = effect else { unreachable!() };
                    let Command::Expire { fence, .. } = *command else { unreachable!() };
                    prop_assert!(leading && now >= lead_from + ttls[fence.0 as usize]);
                }
            }
        }
    }
}
