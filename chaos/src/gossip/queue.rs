//! What happens next: the earliest first, those of one moment in the order in which they came.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

/// What happens to a node.
pub(super) enum What {
    Packet {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
    },
    /// One end of an exchange.
    Everything { to: usize, bytes: Vec<u8> },
    /// A timer of its own.
    Wake(usize),
}

struct Due {
    at: Duration,
    number: u64,
    what: What,
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

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<Due>>,
    number: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Duration, what: What) {
        self.number += 1;
        let number = self.number;
        self.heap.push(Reverse(Due { at, number, what }));
    }

    /// The next before this moment.
    pub(super) fn pop_until(&mut self, end: Duration) -> Option<(Duration, What)> {
        let next = self.heap.peek().is_some_and(|Reverse(due)| due.at < end);
        let Reverse(due) = next.then(|| self.heap.pop())??;
        Some((due.at, due.what))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &What> {
        self.heap.iter().map(|Reverse(due)| &due.what)
    }
}
