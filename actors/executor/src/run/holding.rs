//! Verifications that have to hold over time do so together: each is passed once, in their order, and
//! then all of them are looked at in turn until every one has held for as long as it has to.

use super::Cursor;
use std::time::Duration;

/// What passed and is looked at again.
#[derive(Debug, Clone, Copy)]
struct Held {
    cursor: Cursor,
    /// When it is looked at again.
    until: Duration,
    /// For how long it has to hold.
    hold: Duration,
    /// When it was seen to hold last.
    seen: Duration,
}

/// The verifications that passed and have to go on doing so.
#[derive(Debug, Clone, Default)]
pub(super) struct Holding {
    held: Vec<Held>,
    /// How many verifications were begun.
    begun: usize,
    /// Whether they are looked at in turn, and none is waited for.
    is_round: bool,
}

impl Holding {
    /// A verification, or the end of them, is come to.
    pub(super) fn reached(&mut self, at: usize) {
        self.begun = self.begun.max(at.saturating_add(1));
    }

    /// Which comes after this one: one that was not begun yet, or the end.
    pub(super) fn after(&self, at: usize) -> usize {
        self.begun.max(at + 1)
    }

    /// This one has to hold on, and is looked at again then.
    pub(super) fn keep(&mut self, cursor: Cursor, until: Duration, hold: Duration, now: Duration) {
        self.held.push(Held {
            cursor,
            until,
            hold,
            seen: now,
        });
    }

    /// One failed and is tried again.
    pub(super) fn interrupted(&mut self) {
        self.is_round = false;
    }

    /// Which is looked at next, and when; none if all have held.
    pub(super) fn next(&mut self, now: Duration) -> Option<(Cursor, Duration)> {
        if !std::mem::replace(&mut self.is_round, true) {
            for held in &mut self.held {
                // Nobody looked at it while the others were waited for: it begins anew.
                if now.saturating_sub(held.seen) > held.hold {
                    held.cursor.holding = None;
                    held.until = now;
                }
            }
        }
        let first = (0..self.held.len()).min_by_key(|i| self.held[*i].until)?;
        let held = self.held.remove(first);
        Some((held.cursor, held.until.max(now)))
    }
}
