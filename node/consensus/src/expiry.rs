//! When leases and approvals run out, as a pure machine: the leader runs the full ttl on its own
//! clock from the moment it applied the grant, anew after an election or a restart. So a lease
//! never ends early, whatever the clocks of others say.

use crate::ledger::{Ledger, News};
use hale_model::ledger::{ApprovalState, Command};
use hale_model::{ApprovalId, Fence};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is proposed is proposed again after this long, if the ledger has not said it happened.
const AGAIN: Duration = Duration::from_secs(1);

/// What can run out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Lease(Fence),
    Approval(ApprovalId),
}

/// Something that runs out `ttl` from now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) subject: Subject,
    /// Of a lease: how often it was renewed.
    pub(crate) generation: u64,
    pub(crate) ttl: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Propose that the lease ran out.
    Expire { fence: Fence, generation: u64 },
    /// Propose that nobody answered in time.
    CloseApproval(ApprovalId),
}

#[derive(Debug)]
struct Timer {
    generation: u64,
    due: Duration,
}

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    leading: bool,
    timers: BTreeMap<Subject, Timer>,
}

impl Expiry {
    pub(crate) fn on(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        match event {
            Event::Leading(open) => {
                self.leading = true;
                self.timers.clear();
                open.into_iter().for_each(|watch| self.arm(now, watch));
            }
            Event::Following => *self = Self::default(),
            Event::Began(watch) if self.leading => self.arm(now, watch),
            Event::Ended(subject) => drop(self.timers.remove(&subject)),
            Event::Tick => return self.due_by(now),
            Event::Began(_) => {}
        }
        vec![]
    }

    /// When the next thing runs out.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.timers.values().map(|t| t.due).min()
    }

    fn arm(&mut self, now: Duration, watch: Watch) {
        let timer = Timer {
            generation: watch.generation,
            due: now.saturating_add(watch.ttl),
        };
        self.timers.insert(watch.subject, timer);
    }

    fn due_by(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = vec![];
        for (subject, timer) in self.timers.iter_mut().filter(|(_, t)| t.due <= now) {
            timer.due = now.saturating_add(AGAIN);
            effects.push(match subject {
                Subject::Lease(fence) => Effect::Expire {
                    fence: *fence,
                    generation: timer.generation,
                },
                Subject::Approval(id) => Effect::CloseApproval(id.clone()),
            });
        }
        effects
    }
}

impl Effect {
    /// The command for a lease; an approval's needs an entry to be signed.
    pub(crate) fn command(&self) -> Option<Command> {
        match self {
            Self::Expire { fence, generation } => Some(Command::Expire {
                fence: *fence,
                generation: *generation,
            }),
            Self::CloseApproval(_) => None,
        }
    }
}

/// All that can run out in this ledger.
pub(crate) fn open(ledger: &Ledger) -> Vec<Watch> {
    let leases = ledger.leases().filter(|l| l.live).map(|l| Watch {
        subject: Subject::Lease(l.fence),
        generation: l.generation,
        ttl: Duration::from_millis(l.ttl_ms),
    });
    let is_open = |state| matches!(state, ApprovalState::Waiting | ApprovalState::Approved);
    let approvals = ledger
        .approvals()
        .filter(|a| is_open(a.state))
        .map(|a| Watch {
            subject: Subject::Approval(a.id.clone()),
            generation: 0,
            ttl: Duration::from_millis(a.ttl_ms),
        });
    leases.chain(approvals).collect()
}

/// What news of the ledger means here. An approval that was given waits once more, to be used.
pub(crate) fn event_of(news: &News) -> Option<Event> {
    match news {
        News::Granted(l) | News::Renewed(l) => Some(Event::Began(Watch {
            subject: Subject::Lease(l.fence),
            generation: l.generation,
            ttl: Duration::from_millis(l.ttl_ms),
        })),
        News::Expired(l) | News::Closed { lease: l, .. } => {
            Some(Event::Ended(Subject::Lease(l.fence)))
        }
        News::Approval {
            id, state, ttl_ms, ..
        } => Some(match state {
            ApprovalState::Waiting | ApprovalState::Approved => Event::Began(Watch {
                subject: Subject::Approval(id.clone()),
                generation: 0,
                ttl: Duration::from_millis(*ttl_ms),
            }),
            _ => Event::Ended(Subject::Approval(id.clone())),
        }),
        News::Enrolled { .. } | News::Frozen { .. } | News::Appended { .. } => None,
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

    fn expire(fence: u64, generation: u64) -> Vec<Effect> {
        vec![Effect::Expire {
            fence: Fence(fence),
            generation,
        }]
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
                    let Effect::Expire { fence, .. } = effect else { unreachable!() };
                    prop_assert!(leading && now >= lead_from + ttls[fence.0 as usize]);
                }
            }
        }
    }
}
