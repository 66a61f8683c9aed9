//! Which appends the disk has not answered yet, and who must wait for it.
//!
//! A leader replicates what its own disk is still writing, so that the group's disks work at the
//! same time (Ongaro's thesis §10.2.1). What that must not lead to is kept out here: nothing is
//! counted, told or applied as committed before the disk has it ([`Syncs::reached`]).

use super::locked;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The syncs of one log. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Syncs {
    owed: Arc<Mutex<Owed>>,
    changed: Arc<watch::Sender<()>>,
    /// The index of the entry that was written last.
    newest: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Owed {
    last: u64,
    /// When it was asked for, and the index of the first entry it is for.
    pending: BTreeMap<u64, (Instant, u64)>,
    /// Once one failed nobody knows what is on the disk.
    failed: Option<(io::ErrorKind, String)>,
}

impl Default for Syncs {
    fn default() -> Self {
        Self {
            owed: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
            newest: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Syncs {
    /// Entries from one index up to another, if there are any, are on their way to the disk.
    pub(super) fn begin(&self, first: u64, last: Option<u64>) -> InFlight {
        if let Some(last) = last {
            self.newest.send_replace(last);
        }
        let mut owed = locked(&self.owed);
        owed.last += 1;
        let number = owed.last;
        owed.pending.insert(number, (Instant::now(), first));
        InFlight {
            syncs: self.clone(),
            number,
            is_answered: false,
        }
    }

    /// For how long the disk has not answered the oldest, if one waits.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let owed = locked(&self.owed);
        let oldest = owed.pending.first_key_value();
        oldest.map(|(_, (at, _))| at.elapsed())
    }

    /// Returns when the disk has all entries up to this index.
    ///
    /// # Errors
    /// If it failed.
    pub(crate) async fn reached(&self, index: u64) -> io::Result<()> {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let owed = locked(&self.owed);
                if let Some((kind, why)) = &owed.failed {
                    return Err(io::Error::new(*kind, why.clone()));
                }
                if owed.pending.values().all(|(_, first)| *first > index) {
                    return Ok(());
                }
            }
            changed.changed().await.map_err(io::Error::other)?;
        }
    }

    /// Whether an entry beyond this index is written within so long.
    pub(crate) async fn written_beyond(&self, index: u64, within: Duration) -> bool {
        let mut newest = self.newest.subscribe();
        let beyond = newest.wait_for(|newest| *newest > index);
        tokio::time::timeout(within, beyond).await.is_ok()
    }

    /// Returns why the disk failed, when it did.
    pub(crate) async fn failed(&self) -> String {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some((_, why)) = &locked(&self.owed).failed {
                return why.clone();
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn answered(&self, number: u64, failed: Option<(io::ErrorKind, String)>) {
        let mut owed = locked(&self.owed);
        owed.pending.remove(&number);
        if owed.failed.is_none() {
            owed.failed = failed;
        }
        drop(owed);
        self.changed.send_replace(());
    }
}

/// One of them, until the disk answers. Dropping it without an answer is a failure.
pub(super) struct InFlight {
    syncs: Syncs,
    number: u64,
    is_answered: bool,
}

impl InFlight {
    pub(super) fn done(mut self, result: &io::Result<()>) {
        self.is_answered = true;
        let failed = result.as_ref().err().map(|e| (e.kind(), e.to_string()));
        self.syncs.answered(self.number, failed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.is_answered {
            let why = "the log's writer stopped".to_owned();
            self.syncs
                .answered(self.number, Some((io::ErrorKind::Other, why)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn an_index_is_reached_when_all_up_to_it_is_on_the_disk() {
        let syncs = Syncs::default();
        let (first, second) = (syncs.begin(5, Some(6)), syncs.begin(7, Some(7)));
        syncs.reached(4).await.unwrap();
        assert!(timeout(SOON, syncs.reached(5)).await.is_err());
        first.done(&Ok(()));
        syncs.reached(6).await.unwrap();
        assert!(timeout(SOON, syncs.reached(7)).await.is_err());
        second.done(&Ok(()));
        syncs.reached(u64::MAX).await.unwrap();
        assert_eq!(syncs.oldest(), None);
    }

    #[tokio::test]
    async fn an_end_that_is_written_again_is_waited_for_again() {
        let syncs = Syncs::default();
        syncs.begin(5, Some(5)).done(&Ok(()));
        let again = syncs.begin(5, Some(5));
        assert!(timeout(SOON, syncs.reached(5)).await.is_err());
        again.done(&Ok(()));
        syncs.reached(5).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_written_is_noticed_at_once_and_not_waited_for_any_longer() {
        let syncs = Syncs::default();
        let _kept = syncs.begin(4, Some(5));
        assert!(syncs.written_beyond(4, Duration::ZERO).await);
        assert!(!syncs.written_beyond(5, SOON).await);
        let waits = tokio::spawn({
            let syncs = syncs.clone();
            async move { syncs.written_beyond(5, Duration::from_secs(60)).await }
        });
        let _more = syncs.begin(6, Some(6));
        assert!(waits.await.unwrap());
        // An end that was cut off and written again is no longer than what is there now.
        let _again = syncs.begin(3, Some(3));
        assert!(!syncs.written_beyond(5, SOON).await);
    }

    #[tokio::test]
    async fn after_a_failure_nothing_is_reached_any_more() {
        let syncs = Syncs::default();
        let (lost, kept) = (syncs.begin(5, Some(5)), syncs.begin(6, Some(6)));
        let waits = tokio::spawn({
            let syncs = syncs.clone();
            async move { syncs.reached(6).await }
        });
        lost.done(&Err(io::ErrorKind::StorageFull.into()));
        kept.done(&Ok(()));
        let why = waits.await.unwrap().unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::StorageFull);
        assert!(syncs.reached(1).await.is_err());
        assert!(!syncs.failed().await.is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_a_failure() {
        let syncs = Syncs::default();
        drop(syncs.begin(1, Some(1)));
        assert!(syncs.reached(1).await.is_err());
    }
}
