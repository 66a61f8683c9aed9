//! What is in the log and where.

use super::frame::{self, Record};
use crate::store::words::WalId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Payloads of the newest entries that stay in memory, for followers that lag a little.
const CACHE_BYTES: usize = 8 << 20;

/// An entry.
pub(super) struct Slot {
    pub(super) id: WalId,
    pub(super) segment: u64,
    /// Where in the segment its payload begins.
    pub(super) at: u64,
    pub(super) len: u32,
    /// The payload, as long as it is not written, and a while longer.
    pub(super) payload: Option<Arc<Vec<u8>>>,
}

#[derive(Default)]
pub(super) struct Index {
    pub(super) said: frame::State,
    slots: VecDeque<Slot>,
    /// How many of the oldest slots have no payload.
    without: usize,
    cached: usize,
    /// The segments that are no longer written to, with their bytes.
    closed: BTreeMap<u64, u64>,
    /// The highest index that a segment has, or had, an entry of.
    highest: BTreeMap<u64, u64>,
}

impl Index {
    pub(super) fn last(&self) -> Option<WalId> {
        self.slots.back().map(|s| s.id).or(self.said.purged)
    }

    pub(super) fn closed_bytes(&self) -> u64 {
        self.closed.values().sum()
    }

    /// Whether an entry may come next.
    pub(super) fn follows(&self, id: &WalId) -> Result<(), String> {
        match self.last() {
            Some(last) if last.index.checked_add(1) != Some(id.index) || last.term > id.term => {
                Err(format!("entry {id:?} can't follow {last:?}"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn push(&mut self, id: WalId, segment: u64, at: u64, payload: Vec<u8>) {
        let slot = Slot {
            id,
            segment,
            at,
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload: Some(Arc::new(payload)),
        };
        self.cached += slot.len as usize;
        self.place(slot);
    }

    fn place(&mut self, slot: Slot) {
        let highest = self.highest.entry(slot.segment).or_default();
        *highest = slot.id.index.max(*highest);
        self.slots.push_back(slot);
    }

    /// How many slots have an index below this one.
    fn below(&self, index: u64) -> usize {
        let Some(first) = self.slots.front() else {
            return 0;
        };
        let n = index.saturating_sub(first.id.index);
        usize::try_from(n)
            .unwrap_or(usize::MAX)
            .min(self.slots.len())
    }

    pub(super) fn slots(&self, from: u64, to: u64) -> impl Iterator<Item = &Slot> {
        let from = self.below(from);
        let to = self.below(to).max(from);
        self.slots.range(from..to)
    }

    /// Drops the entries from an index on, and says whether there were any.
    pub(super) fn truncate(&mut self, index: u64) -> bool {
        let keep = self.below(index);
        let gone = self.slots.drain(keep..);
        let (mut count, mut bytes) = (0, 0);
        for slot in gone {
            count += 1;
            bytes += slot.payload.map_or(0, |p| p.len());
        }
        self.cached -= bytes;
        self.without = self.without.min(self.slots.len());
        count > 0
    }

    /// Drops the entries up to one, and says whether that is news.
    pub(super) fn purge(&mut self, upto: WalId) -> bool {
        if self
            .said
            .purged
            .is_some_and(|purged| purged.index >= upto.index)
        {
            return false;
        }
        self.said.purged = Some(upto);
        let gone = self.below(upto.index.saturating_add(1));
        let bytes = self.slots.drain(..gone);
        let bytes: usize = bytes.filter_map(|s| s.payload).map(|p| p.len()).sum();
        self.cached -= bytes;
        self.without = self.without.saturating_sub(gone);
        true
    }

    /// The newest segment that is whole.
    pub(super) fn newest_closed(&self) -> Option<u64> {
        self.closed.last_key_value().map(|(segment, _)| *segment)
    }

    /// A segment is whole; the next one is written to.
    pub(super) fn close(&mut self, segment: u64, bytes: u64) {
        self.closed.insert(segment, bytes);
    }

    /// Takes the oldest segments, below one that the disk has, of which all entries are purged up to
    /// an index.
    pub(super) fn take_purged(&mut self, upto: u64, below: u64) -> Vec<u64> {
        let mut gone = vec![];
        while let Some((segment, _)) = self.closed.first_key_value() {
            let segment = *segment;
            if segment >= below {
                break;
            }
            if self
                .highest
                .get(&segment)
                .is_some_and(|highest| *highest > upto)
            {
                break;
            }
            self.closed.remove(&segment);
            self.highest.remove(&segment);
            gone.push(segment);
        }
        gone
    }

    /// Lets go of the oldest payloads, of what is written to before this place.
    pub(super) fn shrink(&mut self, written: (u64, u64)) {
        while self.cached > CACHE_BYTES {
            let Some(slot) = self.slots.get_mut(self.without) else {
                return;
            };
            if (slot.segment, slot.at) >= written {
                return;
            }
            self.cached -= slot.payload.take().map_or(0, |p| p.len());
            self.without += 1;
        }
    }

    /// Applies what a segment says; `payload` is where in the segment a payload begins.
    ///
    /// # Errors
    /// If it can't follow what was said before.
    pub(super) fn replay(
        &mut self,
        record: &Record<'_>,
        segment: u64,
        payload: u64,
    ) -> Result<(), String> {
        match record {
            Record::State(state) => self.said = *state,
            Record::Entry(id, bytes) => {
                // The segments before the first that is left held what was purged.
                if !self.slots.is_empty() {
                    self.follows(id)?;
                }
                self.place(Slot {
                    id: *id,
                    segment,
                    at: payload,
                    len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                    payload: None,
                });
                self.without = self.slots.len();
            }
            Record::Vote(vote) => self.said.vote = Some(*vote),
            Record::Committed(id) => self.said.committed = Some(*id),
            Record::Purged(id) => {
                self.purge(*id);
            }
            Record::Truncated(index) => {
                self.truncate(*index);
            }
        }
        Ok(())
    }

    /// Whether what was replayed is a log without a gap.
    pub(super) fn is_whole(&self) -> Result<(), String> {
        let purged = self.said.purged;
        let first = self.slots.front().map(|s| s.id);
        let begins = purged.map_or(0, |p| p.index.saturating_add(1));
        match first {
            Some(first) if first.index != begins => Err(format!(
                "the first entry is {}, and should be {begins}",
                first.index
            )),
            _ => Ok(()),
        }
    }
}
