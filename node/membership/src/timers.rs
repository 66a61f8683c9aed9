//! What is to be done later. Every timer comes, however late; those that are late together come
//! in foca's own order.

use crate::identity::{Contact, Id};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

/// What a timer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Alarm {
    Foca(foca::Timer<Id>),
    /// Ask the seeds again, while there is nobody else.
    Seeds,
    /// Exchange everything with somebody.
    Exchange,
    /// Tell a profile that has changed.
    Profile,
    /// Say hello to a member that is said to be down.
    Greet(Contact),
    /// Say hello to some, while nobody has answered since this node's last life began.
    Rejoin,
}

#[derive(Debug, PartialEq, Eq)]
struct Due {
    at: Duration,
    /// Those of one moment keep the order in which they were set.
    number: u64,
    alarm: Alarm,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Due>>,
    number: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Duration, alarm: Alarm) {
        self.number += 1;
        self.heap.push(Reverse(Due {
            at,
            number: self.number,
            alarm,
        }));
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }

    /// All that is due at `now`.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Alarm> {
        let mut due = vec![];
        while self.next().is_some_and(|at| at <= now) {
            due.extend(self.heap.pop().map(|Reverse(d)| d.alarm));
        }
        due.sort_by(|a, b| match (a, b) {
            (Alarm::Foca(a), Alarm::Foca(b)) => a.cmp(b),
            _ => Ordering::Equal,
        });
        due
    }
}
