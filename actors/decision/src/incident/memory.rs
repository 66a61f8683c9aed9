//! What outlives an incident: when the like of it ended, for the cooldown and for how often it
//! comes back. Bounded, and saved with the open incidents.

use super::Open;
use hale_model::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// How far back recurrences are counted.
const HORIZON: Duration = Duration::from_secs(30 * 86_400);
/// The most endings that are remembered: over a hundred a day.
const MAX_PAST: usize = 4096;

/// An incident that ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    signature: Digest,
    opened_at: Timestamp,
    ended_at: Timestamp,
}

/// Endings, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(VecDeque<Remembered>);

impl Memory {
    pub(super) fn ended(&mut self, signature: Digest, opened_at: Timestamp, now: Timestamp) {
        if self.0.len() == MAX_PAST {
            self.0.pop_front();
        }
        self.0.push_back(Remembered {
            signature,
            opened_at,
            ended_at: now,
        });
        self.0.retain(|r| now.since(r.opened_at) <= HORIZON);
    }

    pub(super) fn ended_within(
        &self,
        signature: &Digest,
        now: Timestamp,
        cooldown: Duration,
    ) -> bool {
        // An ending in the future is a clock that was set back: it must not silence anything.
        let cools = |r: &Remembered| r.ended_at <= now && now.since(r.ended_at) < cooldown;
        self.0
            .iter()
            .rev()
            .any(|r| r.signature == *signature && cools(r))
    }

    pub(super) fn count_before(&self, signature: &Digest, now: Timestamp) -> u32 {
        let like = self
            .0
            .iter()
            .filter(|r| r.signature == *signature && now.since(r.opened_at) <= HORIZON);
        u32::try_from(like.count()).unwrap_or(u32::MAX)
    }
}

/// What a restart must not forget.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    open: Vec<Open>,
    past: Vec<Remembered>,
}

impl Saved {
    pub(super) fn of(open: &[Open], memory: &Memory) -> Self {
        Self {
            open: open.to_vec(),
            past: memory.0.iter().copied().collect(),
        }
    }

    pub(super) fn into_parts(mut self, max_open: usize) -> (Vec<Open>, Memory) {
        self.open.truncate(max_open);
        let start = self.past.len().saturating_sub(MAX_PAST);
        (self.open, Memory(self.past.split_off(start).into()))
    }
}
