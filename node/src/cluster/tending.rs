//! What a node does for its cluster now and then: looks for the others while it knows nobody, tells
//! them how far its chain goes, remembers where they are, and shuts out who was removed.

use super::gossip::contact;
use super::{Shared, Telling};
use hale_consensus::News;
use hale_membership::{Contact, Event};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

/// Between two looks for others while there is nobody.
const LOOK: Duration = Duration::from_secs(2);
/// How many known nodes are tried at a time.
const TRIED: usize = 8;
/// What a node that was removed asked before is still answered, so that one that leaves hears that
/// it has: its connections are closed after this time. Nothing new of it is served.
const LAST_ANSWERS: Duration = Duration::from_millis(300);
/// How often the profile is renewed, and the book.
const RENEW: Duration = Duration::from_secs(5);

pub(super) fn spawn(on: &Handle, shared: &Arc<Shared>, telling: &Telling) {
    on.spawn(find_others(Arc::downgrade(shared)));
    on.spawn(keep_roster(Arc::downgrade(shared)));
    let telling = Telling {
        host: telling.host.clone(),
        zone: telling.zone.clone(),
        http: telling.http,
        tags: telling.tags.clone(),
    };
    on.spawn(renew(Arc::downgrade(shared), telling));
}

/// While nobody is known to live: asks nodes where they were last seen, and the seeds.
async fn find_others(shared: Weak<Shared>) {
    loop {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let me = shared.key.node_id();
        let has_others = shared
            .consensus
            .read_stale(|l| l.roster().any(|(n, _)| *n != me));
        if has_others && shared.members.others(&me).is_empty() {
            let contacts = known(&shared);
            if !contacts.is_empty() {
                shared.gossip.tell(Event::Join(contacts)).await;
            }
            ask_seeds(&shared).await;
        }
        drop(shared);
        tokio::time::sleep(LOOK.mul_f64(0.75 + jitter() / 2.0)).await;
    }
}

fn known(shared: &Shared) -> Vec<Contact> {
    let me = shared.key.node_id();
    let mut known: Vec<Contact> = shared
        .wires
        .book
        .all()
        .into_iter()
        .filter(|(node, _)| *node != me && shared.consensus.read_stale(|l| l.is_enrolled(node)))
        .map(|(node, addr)| contact(node, addr))
        .collect();
    while known.len() > TRIED {
        let gone = (jitter() * known.len() as f64) as usize;
        known.swap_remove(gone.min(known.len() - 1));
    }
    known
}

/// Joins through whoever answers at the seeds' addresses, if it is a member. All are dialed at
/// once: one that is down takes seconds to be given up.
async fn ask_seeds(shared: &Shared) {
    let mut dials = JoinSet::new();
    for seed in shared.settings.seeds.clone() {
        let (endpoint, own) = (shared.wires.endpoint.clone(), shared.advertised);
        dials.spawn(async move {
            let found = tokio::net::lookup_host(seed.as_str()).await;
            let others = found.into_iter().flatten().filter(|a| *a != own);
            let mut answered = vec![];
            for addr in others.collect::<Vec<SocketAddr>>() {
                // A dial without a name: whoever answers shows its key, and the roster tells.
                if let Ok(link) = endpoint.join(addr).await {
                    answered.push((link.peer(), addr));
                }
            }
            answered
        });
    }
    while let Some(answered) = dials.join_next().await {
        for (node, addr) in answered.unwrap_or_default() {
            let is_other = node != shared.key.node_id();
            if is_other && shared.consensus.read_stale(|l| l.is_enrolled(&node)) {
                shared.wires.book.note([(node, addr)], |_| true);
                let join = Event::Join(vec![contact(node, addr)]);
                shared.gossip.tell(join).await;
            }
        }
    }
}

/// Whoever is off the roster is shut out, and down for gossip.
async fn keep_roster(shared: Weak<Shared>) {
    let Some(mut news) = shared.upgrade().map(|s| s.consensus.subscribe()) else {
        return;
    };
    loop {
        let matters = match news.recv().await {
            Ok(News::Removed { .. } | News::Replaced) | Err(RecvError::Lagged(_)) => true,
            Ok(_) => false,
            Err(RecvError::Closed) => return,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if !matters {
            continue;
        }
        tokio::time::sleep(LAST_ANSWERS).await;
        shared.wires.endpoint.enforce_roster();
        for member in shared.members.all() {
            let node = member.contact.node;
            let stays = shared.consensus.read_stale(|l| l.is_enrolled(&node));
            if !stays && node != shared.key.node_id() {
                tracing::info!(node = %node.short(), "shut out: it is not on the roster any more");
                shared.gossip.tell(Event::Evict(node)).await;
            }
        }
    }
}

async fn renew(shared: Weak<Shared>, telling: Telling) {
    let mut last = None;
    loop {
        tokio::time::sleep(RENEW.mul_f64(0.75 + jitter() / 2.0)).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let profile = telling.profile(&shared.consensus);
        if last.as_ref() != Some(&profile) {
            shared.gossip.tell(Event::Profile(profile.clone())).await;
            last = Some(profile);
        }
        let seen = shared.members.others(&shared.key.node_id());
        let consensus = &shared.consensus;
        shared
            .wires
            .book
            .note(seen.into_iter().map(|c| (c.node, c.addr)), |node| {
                consensus.read_stale(|l| l.is_enrolled(node))
            });
    }
}

/// A number from 0 up to 1. A fresh `RandomState` is seeded from the system's randomness.
pub(super) fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    (RandomState::new().build_hasher().finish() % 1024) as f64 / 1024.0
}
