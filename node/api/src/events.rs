//! What happens, live: a bounded ring that any number of followers read at their own pace. A slow
//! follower never holds up the node; it misses what the ring forgot and sees so by the gap in `seq`.

use hale_model::Happening;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How many happenings are remembered: an incident tells some fifteen.
pub(crate) const REMEMBERED: usize = 2048;

/// What happens, live. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ring: Mutex<VecDeque<Arc<Happening>>>,
    /// The number of the last one told.
    last: watch::Sender<u64>,
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}

impl Feed {
    /// A feed that nothing was told yet.
    pub fn new() -> Self {
        let ring = Mutex::new(VecDeque::with_capacity(64));
        Self(Arc::new(Inner {
            ring,
            last: watch::Sender::new(0),
        }))
    }

    /// Tells one. Its `seq` is given here, whatever it was before; returned as it was told.
    pub fn tell(&self, happening: Happening) -> Arc<Happening> {
        let mut ring = self.ring();
        let seq = *self.0.last.borrow() + 1;
        let told = Arc::new(Happening { seq, ..happening });
        if ring.len() == REMEMBERED {
            ring.pop_front();
        }
        ring.push_back(told.clone());
        self.0.last.send_replace(seq);
        told
    }

    /// The number of the last one told; 0 if none was.
    pub fn last(&self) -> u64 {
        *self.0.last.borrow()
    }

    /// At most `limit` of those remembered that came after number `seq`, oldest first.
    pub fn after(&self, seq: u64, limit: usize) -> Vec<Arc<Happening>> {
        let ring = self.ring();
        let start = ring.partition_point(|h| h.seq <= seq);
        ring.range(start..).take(limit).cloned().collect()
    }

    /// Waits for those that come after number `seq`: at least one, at most `limit`.
    pub async fn next(&self, seq: u64, limit: usize) -> Vec<Arc<Happening>> {
        let mut last = self.0.last.subscribe();
        loop {
            let found = self.after(seq, limit);
            if !found.is_empty() {
                return found;
            }
            // The sender lives in self: it can't be gone.
            last.wait_for(|last| *last > seq).await.ok();
        }
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Arc<Happening>>> {
        // A push or a read can't leave it half done: what a panicking thread left is whole.
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::{HostName, Stage, Timestamp};

    fn happening() -> Happening {
        Happening {
            seq: 0,
            at: Timestamp::from_secs(1),
            stage: Stage::Detected,
            incident: None,
            host: HostName::new("h").unwrap(),
            service: None,
            text: String::new(),
            detail: serde_json::Value::Null,
        }
    }

    #[test]
    fn numbers_have_no_gap_and_the_ring_has_a_bound() {
        let feed = Feed::new();
        for _ in 0..REMEMBERED + 10 {
            feed.tell(happening());
        }
        let all = feed.after(0, usize::MAX);
        assert_eq!(all.len(), REMEMBERED);
        assert!(all.windows(2).all(|w| w[1].seq == w[0].seq + 1));
        assert_eq!(all.last().unwrap().seq, feed.last());
        assert_eq!(feed.after(feed.last() - 3, 2).len(), 2);
    }

    #[tokio::test]
    async fn a_follower_is_woken_by_what_it_has_not_seen() {
        let feed = Feed::new();
        feed.tell(happening());
        let waiting = tokio::spawn({
            let feed = feed.clone();
            async move { feed.next(1, 10).await }
        });
        feed.tell(happening());
        assert_eq!(waiting.await.unwrap()[0].seq, 2);
    }
}
