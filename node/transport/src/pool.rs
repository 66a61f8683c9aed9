//! Which connections are open, bounded, and how soon a dial that failed is tried again. Pure: it
//! keeps values, whatever they are.

use std::collections::BTreeMap;
use std::time::Duration;

/// What the pool asks of a connection.
pub(crate) trait Pooled: Clone {
    /// Whether it has ended.
    fn is_closed(&self) -> bool;
    /// Whether a stream is open on it.
    fn is_busy(&self) -> bool;
}

/// Which keys share a part of the pool, and how much of it.
pub(crate) type Share<'a, K> = (&'a dyn Fn(&K) -> bool, usize);

/// Open connections by key, at most `limit` of them.
pub(crate) struct Pool<K, C> {
    limit: usize,
    /// Counts uses: what was used last has the largest number.
    uses: u64,
    /// Of each key in the order in which they were put in.
    open: BTreeMap<K, Vec<(u64, C)>>,
}

impl<K: Ord + Copy, C: Pooled> Pool<K, C> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            uses: 0,
            open: BTreeMap::new(),
        }
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.open.values().map(Vec::len).sum()
    }

    /// The connection that fits, now used.
    pub(crate) fn find(&mut self, key: K, fits: impl Fn(&C) -> bool) -> Option<C> {
        self.uses += 1;
        let found = self
            .open
            .get_mut(&key)?
            .iter_mut()
            .find(|(_, c)| !c.is_closed() && fits(c))?;
        found.0 = self.uses;
        Some(found.1.clone())
    }

    /// The one that was put in last. It is not used by that.
    pub(crate) fn newest(&self, key: K) -> Option<C> {
        let mut open = self.open.get(&key)?.iter().rev();
        open.find(|(_, c)| !c.is_closed()).map(|(_, c)| c.clone())
    }

    /// Puts one in, and gives those that have to be closed to make room: the least recently used,
    /// idle ones first. Within each of its `shares` there are only so many: whoever uses up a share
    /// makes room with its own.
    pub(crate) fn insert(&mut self, key: K, connection: C, shares: &[Share<'_, K>]) -> Vec<C> {
        self.sweep();
        let mut evicted = vec![];
        for (is_in, most) in shares {
            while self.count(is_in) >= (*most).max(1) {
                evicted.extend(self.evict(is_in));
            }
        }
        while self.len() >= self.limit {
            evicted.extend(self.evict(&|_| true));
        }
        self.uses += 1;
        self.open
            .entry(key)
            .or_default()
            .push((self.uses, connection));
        evicted
    }

    /// Takes out all that are chosen.
    pub(crate) fn take_if(&mut self, chosen: impl Fn(&K, &C) -> bool) -> Vec<C> {
        let mut taken = vec![];
        self.open.retain(|key, connections| {
            connections.retain(|(_, c)| {
                let take = chosen(key, c);
                if take {
                    taken.push(c.clone());
                }
                !take
            });
            !connections.is_empty()
        });
        taken
    }

    /// Those of the chosen keys.
    pub(crate) fn filtered(&self, chosen: impl Fn(&K) -> bool) -> Vec<C> {
        let all = self.open.iter().filter(|(key, _)| chosen(key));
        all.flat_map(|(_, connections)| connections.iter().map(|(_, c)| c.clone()))
            .collect()
    }

    /// Drops those that have ended.
    pub(crate) fn sweep(&mut self) {
        self.take_if(|_, c| c.is_closed());
    }

    fn count(&self, is_in: &dyn Fn(&K) -> bool) -> usize {
        let all = self.open.iter().filter(|(key, _)| is_in(key));
        all.map(|(_, connections)| connections.len()).sum()
    }

    fn evict(&mut self, is_in: &dyn Fn(&K) -> bool) -> Option<C> {
        let all = self
            .open
            .iter()
            .filter(|(key, _)| is_in(key))
            .flat_map(|(k, cs)| cs.iter().map(|(used, c)| (c.is_busy(), *used, *k)));
        let (_, oldest, key) = all.min()?;
        let connections = self.open.get_mut(&key)?;
        let at = connections.iter().position(|(used, _)| *used == oldest)?;
        let (_, connection) = connections.remove(at);
        if connections.is_empty() {
            self.open.remove(&key);
        }
        Some(connection)
    }
}

/// When a dial that failed may be tried again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    failures: u32,
    until: Duration,
}

impl Backoff {
    /// How long to wait still, at `now`.
    pub(crate) fn left(&self, now: Duration) -> Option<Duration> {
        self.until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// A dial failed at `now`. `jitter` is between 0 and 1.
    pub(crate) fn failed(
        &mut self,
        now: Duration,
        first: Duration,
        longest: Duration,
        jitter: f64,
    ) {
        let doubled = first
            .saturating_mul(1 << self.failures.min(16))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        // Between half of it and all of it: peers do not come back all at once.
        self.until = now + doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Fake {
        id: u32,
        busy: bool,
        closed: bool,
    }

    impl Pooled for Fake {
        fn is_closed(&self) -> bool {
            self.closed
        }
        fn is_busy(&self) -> bool {
            self.busy
        }
    }

    fn fake(id: u32) -> Fake {
        Fake {
            id,
            busy: false,
            closed: false,
        }
    }

    #[test]
    fn the_least_recently_used_idle_connection_makes_room() {
        let mut pool = Pool::new(3);
        pool.insert(
            1,
            Fake {
                busy: true,
                ..fake(1)
            },
            &[],
        );
        pool.insert(2, fake(2), &[]);
        pool.insert(3, fake(3), &[]);
        assert_eq!(pool.find(2, |_| true), Some(fake(2)));
        assert_eq!(pool.insert(4, fake(4), &[]), [fake(3)]);
        assert_eq!(pool.find(3, |_| true), None);
    }

    #[test]
    fn whoever_uses_up_its_share_makes_room_with_its_own() {
        let mut pool = Pool::new(10);
        pool.insert(1, fake(0), &[]);
        let of = |key: u8| move |k: &u8| *k == key;
        let strangers = |k: &u8| *k >= 100;
        let made: Vec<_> = (1..=3)
            .flat_map(|id| pool.insert(2, fake(id), &[(&of(2), 2)]))
            .collect();
        assert_eq!(made, [fake(1)]);
        let made: Vec<_> = (100..106u8)
            .map(|k| pool.insert(k, fake(k.into()), &[(&of(k), 2), (&strangers, 3)]))
            .map(|evicted| evicted.len())
            .collect();
        assert_eq!(made, [0, 0, 0, 1, 1, 1]);
        assert_eq!(pool.find(1, |_| true), Some(fake(0)));
    }

    #[test]
    fn a_closed_connection_is_not_found_and_takes_no_room() {
        let mut pool = Pool::new(1);
        pool.insert(
            1,
            Fake {
                closed: true,
                ..fake(1)
            },
            &[],
        );
        assert_eq!(pool.find(1, |_| true), None);
        assert_eq!(pool.insert(2, fake(2), &[]), []);
    }

    #[test]
    fn the_newest_is_the_one_put_in_last_whichever_was_used() {
        let mut pool = Pool::new(4);
        for id in 1..=3 {
            pool.insert(1, fake(id), &[]);
        }
        assert!(pool.find(1, |c| c.id == 1).is_some());
        assert_eq!(pool.newest(1), Some(fake(3)));
        pool.take_if(|_, c| c.id == 3);
        assert_eq!(pool.newest(1), Some(fake(2)));
        assert_eq!(pool.newest(2), None);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_success() {
        let (ms, mut b) = (Duration::from_millis, Backoff::default());
        let mut pauses = vec![];
        for _ in 0..6 {
            b.failed(ms(1000), ms(25), ms(300), 1.0);
            pauses.push(b.left(ms(1000)).unwrap());
        }
        assert_eq!(pauses, [25, 50, 100, 200, 300, 300].map(ms));
        assert_eq!(b.left(ms(1300)), None);
        b.succeeded();
        assert_eq!(b.left(ms(0)), None);
    }

    proptest! {
        #[test]
        fn a_pool_never_holds_more_than_its_limit(limit in 1usize..6, keys in proptest::collection::vec(0u8..8, 0..60)) {
            let mut pool = Pool::new(limit);
            let mut out = 0;
            for (i, key) in keys.iter().enumerate() {
                out += pool.insert(*key, fake(i as u32), &[]).len();
                prop_assert!(pool.len() <= limit);
                prop_assert!(pool.find(*key, |c| c.id == i as u32).is_some());
            }
            prop_assert_eq!(pool.len() + out, keys.len());
        }
    }
}
