//! What was applied not long ago, for nodes outside the group that follow it: bounded in number
//! and in bytes. Who asks for more is given the whole state.

use crate::proposer::bytes_of;
use crate::types::Pack;
use std::collections::VecDeque;

/// Packs and bytes that are kept.
const MAX_PACKS: usize = 1024;
const MAX_BYTES: usize = 8 << 20;
/// About how many bytes one answer holds.
const ANSWER_BYTES: usize = 4 << 20;

/// The last packs in the order they were applied.
pub(crate) struct RecentPacks {
    packs: VecDeque<(u64, Pack, usize)>,
    bytes: usize,
    /// All that was applied after this index is kept.
    after: u64,
    applied: u64,
}

impl RecentPacks {
    /// Nothing is kept yet of what was applied after this index.
    pub(crate) fn after(index: u64) -> Self {
        Self {
            packs: VecDeque::new(),
            bytes: 0,
            after: index,
            applied: index,
        }
    }

    pub(crate) fn push(&mut self, index: u64, pack: &Pack) {
        let bytes = pack.0.iter().map(bytes_of).sum();
        self.packs.push_back((index, pack.clone(), bytes));
        self.bytes += bytes;
        while self.packs.len() > MAX_PACKS || self.bytes > MAX_BYTES {
            let Some((gone, _, bytes)) = self.packs.pop_front() else {
                return;
            };
            self.bytes -= bytes;
            self.after = gone;
        }
    }

    /// All up to this index was applied, also what held no command.
    pub(crate) fn reached(&mut self, index: u64) {
        self.applied = index;
    }

    /// What was applied after an index, as much as fits one answer, and up to where that is;
    /// nothing if it is not kept, or lies ahead of what was applied here.
    pub(crate) fn since(&self, after: u64) -> Option<(Vec<(u64, Pack)>, u64)> {
        if after < self.after || after > self.applied {
            return None;
        }
        let (mut out, mut bytes) = (vec![], 0);
        for (index, pack, size) in self.packs.iter().filter(|(i, ..)| *i > after) {
            if bytes + size > ANSWER_BYTES && !out.is_empty() {
                return Some((out, index - 1));
            }
            bytes += size;
            out.push((*index, pack.clone()));
        }
        Some((out, self.applied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::ledger::Command;
    use hale_model::{Fence, Keypair};
    use proptest::prelude::*;

    fn pack(n: usize) -> Pack {
        let holder = Keypair::from_seed(&[1; 32]).node_id();
        let renew = Command::Renew {
            fence: Fence(1),
            holder,
            ttl_ms: 1_000,
        };
        Pack(vec![renew; n])
    }

    proptest! {
        #[test]
        fn whoever_follows_sees_each_pack_once_or_is_given_the_state(
            sizes in proptest::collection::vec(0usize..400, 1..3000),
            start in 0u64..5,
        ) {
            let mut kept = RecentPacks::after(start);
            let mut seen = start;
            for (i, size) in sizes.iter().enumerate() {
                let index = start + 1 + i as u64;
                // An entry without commands moves the index alone.
                if *size > 0 {
                    kept.push(index, &pack(*size));
                }
                kept.reached(index);
                prop_assert!(kept.packs.len() <= MAX_PACKS && kept.bytes <= MAX_BYTES);
                if i % 37 == 0 {
                    match kept.since(seen) {
                        None => seen = index,
                        Some((packs, up_to)) => {
                            let mut last = seen;
                            for (n, _) in &packs {
                                prop_assert!(*n > last);
                                let missed = sizes[(last - start) as usize..(n - start - 1) as usize].iter().filter(|s| **s > 0).count();
                                prop_assert_eq!(missed, 0);
                                last = *n;
                            }
                            prop_assert!(up_to >= last);
                            seen = up_to;
                        }
                    }
                }
            }
            prop_assert!(kept.since(seen + 100_000).is_none());
        }
    }
}
