//! What costs this node more than the peer that asks: the ledger's whole state, stretches of the
//! chain. It is read and encoded beside the threads that answer heartbeats, and each peer has a few
//! such questions under way: one that asks without end waits for itself.

use crate::chain_store::ChainStore;
use crate::network::{MAX_FRAME_BYTES, Reply};
use crate::shell::Shell;
use crate::store::locked;
use hale_model::NodeId;
use hale_model::chain::Entry;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

/// One answer holds so much of the chain, in entries and in bytes.
pub(crate) const MAX_ENTRIES: u64 = 512;
const MAX_ENTRIES_BYTES: usize = MAX_FRAME_BYTES / 2;
/// The chain is read in stretches of so many entries, until the answer is full.
const READ_AT_ONCE: u64 = 64;
/// A peer's stretches that are read at a time; more wait.
const READS: usize = 2;
/// A node that follows asks one question at a time; those that it gave up may wait here a little
/// longer. More are refused, since each waits for news by itself.
const MAX_FOLLOWS: usize = 4;
/// The longest that a node outside the group may have us wait for news.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What each peer has under way here. Nobody is kept who has nothing.
#[derive(Default)]
pub(crate) struct Turns {
    follows: Mutex<BTreeMap<NodeId, Arc<Semaphore>>>,
    reads: Mutex<BTreeMap<NodeId, Arc<Semaphore>>>,
}

fn turns_of(
    all: &Mutex<BTreeMap<NodeId, Arc<Semaphore>>>,
    node: NodeId,
    most: usize,
) -> Arc<Semaphore> {
    let mut all = locked(all);
    all.retain(|_, turns| Arc::strong_count(turns) > 1);
    let turns = all
        .entry(node)
        .or_insert_with(|| Arc::new(Semaphore::new(most)));
    Arc::clone(turns)
}

impl Turns {
    fn follow(&self, node: NodeId) -> Option<OwnedSemaphorePermit> {
        let turns = turns_of(&self.follows, node, MAX_FOLLOWS);
        turns.try_acquire_owned().ok()
    }

    async fn read(&self, node: NodeId) -> Option<OwnedSemaphorePermit> {
        let turns = turns_of(&self.reads, node, READS);
        turns.acquire_owned().await.ok()
    }
}

impl Shell {
    /// What a node outside the group is told of the ledger.
    pub(crate) async fn tell_news(&self, to: NodeId, after: u64, wait_ms: u32) -> Reply {
        let Some(_turn) = self.turns.follow(to) else {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            return Reply::Unable("refused: it asks for news too often at once".into());
        };
        let wait = Duration::from_millis(u64::from(wait_ms)).min(MAX_WAIT);
        match self.tell_follower(after, wait).await {
            Ok(Some(told)) => Reply::Followed(Box::new(told)),
            Ok(None) => Reply::Group(self.group()),
            Err(e) => Reply::Unable(e.to_string()),
        }
    }

    /// A stretch of the chain.
    pub(crate) async fn tell_entries(&self, to: NodeId, first: u64, end: u64) -> Reply {
        let _turn = self.turns.read(to).await;
        let chain = Arc::clone(&self.chain);
        let read = spawn_blocking(move || stretch(chain.as_ref(), first, end)).await;
        match read {
            Ok(Ok(entries)) => Reply::Entries(entries),
            Ok(Err(e)) => Reply::Unable(e.to_string()),
            Err(e) => Reply::Unable(e.to_string()),
        }
    }
}

fn stretch(chain: &dyn ChainStore, first: u64, end: u64) -> std::io::Result<Vec<Vec<u8>>> {
    let end = end.min(first.saturating_add(MAX_ENTRIES));
    let (mut out, mut bytes, mut next) = (vec![], 0, first);
    while next < end {
        let until = end.min(next.saturating_add(READ_AT_ONCE));
        let entries = chain.read(next..until)?;
        let is_end = entries.len() < (until - next) as usize;
        for entry in entries.iter().map(Entry::to_bytes) {
            bytes += entry.len();
            if bytes > MAX_ENTRIES_BYTES && !out.is_empty() {
                return Ok(out);
            }
            out.push(entry);
        }
        if is_end {
            break;
        }
        next = until;
    }
    Ok(out)
}
