//! Which sessions there are, and whose.

use crate::ask::Ask;
use crate::gate::Flow;
use crate::halves::Plug;
use hale_model::{Digest, NodeId};
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// Sessions that one peer may have: one, and those that lose against it when both ends open at
/// once, or that have not noticed yet that they ended.
const PER_PEER: usize = 4;

/// How far a session has come.
#[derive(Clone)]
pub(crate) enum State {
    Opening,
    /// The peer's actor can be asked.
    Ready(ActorRef<Ask>),
    Ended,
}

/// One session with one peer.
pub(crate) struct Session {
    pub(crate) serial: u64,
    /// Proven by the transport.
    pub(crate) peer: NodeId,
    /// What its questions have to show: known to its two ends alone.
    pub(crate) ticket: Digest,
    pub(crate) flow: Arc<Flow>,
    pub(crate) plug: Arc<Plug>,
    pub(crate) state: watch::Sender<State>,
    /// Room for the peer's questions.
    pub(crate) room: Arc<Semaphore>,
    /// Questions of ours that wait for their answers.
    waiting: AtomicUsize,
    used: Mutex<Instant>,
}

impl Session {
    pub(crate) fn ready(&self) -> Option<ActorRef<Ask>> {
        match &*self.state.borrow() {
            State::Ready(actor) => Some(actor.clone()),
            State::Opening | State::Ended => None,
        }
    }

    fn is_opening(&self) -> bool {
        matches!(*self.state.borrow(), State::Opening)
    }

    /// Something was asked.
    pub(crate) fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nothing was asked.
    pub(crate) fn unused(&self) -> Duration {
        self.used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    fn is_idle(&self) -> bool {
        self.ready().is_some() && self.waiting.load(Ordering::Relaxed) == 0 && self.flow.owed() == 0
    }

    /// A question of ours waits, until this is dropped.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.touch();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }
}

/// A question of ours that waits for its answer.
pub(crate) struct Waiting<'a>(&'a Session);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

/// One peer that is asked.
pub(crate) struct Peer {
    /// One session is opened at a time; the others wait for it.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// Room for questions.
    pub(crate) room: Semaphore,
}

/// No session more.
#[derive(Debug)]
pub(crate) struct Full;

/// Why a session is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// Nothing was asked.
    Idle,
    /// It did not become ready, or takes nothing.
    Stuck,
}

/// All sessions of a node.
#[derive(Default)]
pub(crate) struct Table {
    next: u64,
    sessions: BTreeMap<u64, Arc<Session>>,
    peers: BTreeMap<NodeId, Arc<Peer>>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn get(&self, serial: u64) -> Option<Arc<Session>> {
        self.sessions.get(&serial).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.sessions.values().cloned().collect()
    }

    /// The newest ready session with a peer.
    pub(crate) fn ready(&self, peer: &NodeId) -> Option<Arc<Session>> {
        self.newest(peer, |s| s.ready().is_some())
    }

    /// The newest session with a peer that may become ready.
    pub(crate) fn opening(&self, peer: &NodeId) -> Option<Arc<Session>> {
        self.newest(peer, Session::is_opening)
    }

    fn newest(&self, peer: &NodeId, is_so: impl Fn(&Session) -> bool) -> Option<Arc<Session>> {
        let mut newest_first = self.sessions.values().rev();
        newest_first.find(|s| s.peer == *peer && is_so(s)).cloned()
    }

    /// Whose session has this ticket.
    pub(crate) fn by_ticket(&self, ticket: &[u8; 32]) -> Option<Arc<Session>> {
        let mut all = self.sessions.values();
        all.find(|s| s.ticket.as_bytes() == ticket).cloned()
    }

    /// Makes a session, and gives the one that has to be ended to make room for it: the least
    /// recently used idle one. `room` is for how many questions of the peer at once.
    pub(crate) fn insert(
        &mut self,
        peer: NodeId,
        ticket: Digest,
        (limit, room): (usize, usize),
    ) -> Result<(Arc<Session>, Option<Arc<Session>>), Full> {
        let of_peer = self.sessions.values().filter(|s| s.peer == peer).count();
        if of_peer >= PER_PEER {
            return Err(Full);
        }
        let evicted = if self.len() < limit {
            None
        } else {
            let idle = self.sessions.values().filter(|s| s.is_idle());
            Some(idle.max_by_key(|s| s.unused()).cloned().ok_or(Full)?)
        };
        if let Some(old) = &evicted {
            self.sessions.remove(&old.serial);
        }
        self.next += 1;
        let session = Arc::new(Session {
            serial: self.next,
            peer,
            ticket,
            flow: Arc::default(),
            plug: Arc::default(),
            state: watch::Sender::new(State::Opening),
            room: Arc::new(Semaphore::new(room)),
            waiting: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
        });
        self.sessions.insert(session.serial, session.clone());
        Ok((session, evicted))
    }

    pub(crate) fn remove(&mut self, serial: u64) -> Option<Arc<Session>> {
        self.sessions.remove(&serial)
    }

    /// A peer to ask.
    pub(crate) fn peer(&mut self, node: NodeId, room: usize) -> Arc<Peer> {
        let fresh = || {
            Arc::new(Peer {
                turn: tokio::sync::Mutex::default(),
                room: Semaphore::new(room),
            })
        };
        self.peers.entry(node).or_insert_with(fresh).clone()
    }

    /// Drops peers that nobody asks at the moment.
    pub(crate) fn sweep_peers(&mut self) {
        self.peers.retain(|_, peer| Arc::strong_count(peer) > 1);
    }

    /// Sessions that are to be ended: idle, not ready in time, or stuck.
    pub(crate) fn stale(
        &self,
        idle: Duration,
        opening: Duration,
        unsent: u64,
    ) -> Vec<(Arc<Session>, Stale)> {
        let why = |s: &Session| {
            if s.is_opening() {
                (s.unused() >= opening).then_some(Stale::Stuck)
            } else if s.flow.unsent() > unsent {
                Some(Stale::Stuck)
            } else {
                // A peer that does not take what it asked for holds a session no longer either.
                let is_idle = s.is_idle() || s.flow.owed() > 0 && s.unused() >= 2 * idle;
                (is_idle && s.unused() >= idle).then_some(Stale::Idle)
            }
        };
        let all = self.sessions.values();
        all.filter_map(|s| why(s).map(|why| (s.clone(), why)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn ticket(n: u8) -> Digest {
        Digest::of(&[n])
    }

    #[test]
    fn a_peer_gets_only_so_many_sessions() {
        let mut table = Table::default();
        for n in 0..PER_PEER {
            assert!(table.insert(node(1), ticket(n as u8), (64, 1)).is_ok());
        }
        assert!(table.insert(node(1), ticket(99), (64, 1)).is_err());
        assert!(table.insert(node(2), ticket(100), (64, 1)).is_ok());
    }

    #[test]
    fn a_session_that_is_not_idle_makes_no_room() {
        let mut table = Table::default();
        let (first, _) = table.insert(node(1), ticket(1), (1, 1)).unwrap();
        assert!(table.insert(node(2), ticket(2), (1, 1)).is_err());
        table.remove(first.serial);
        assert!(table.insert(node(2), ticket(2), (1, 1)).is_ok());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_ticket_tells_its_session() {
        let mut table = Table::default();
        let (first, _) = table.insert(node(1), ticket(1), (64, 1)).unwrap();
        let (second, _) = table.insert(node(2), ticket(2), (64, 1)).unwrap();
        let found = |t: u8| table.by_ticket(ticket(t).as_bytes()).map(|s| s.serial);
        assert_eq!(
            (found(1), found(2), found(3)),
            (Some(first.serial), Some(second.serial), None)
        );
    }

    #[test]
    fn what_does_not_become_ready_is_stale() {
        let mut table = Table::default();
        table.insert(node(1), ticket(1), (64, 1)).unwrap();
        let (long, none) = (Duration::from_secs(3600), Duration::ZERO);
        assert!(table.stale(long, long, 128).is_empty());
        let stale = table.stale(long, none, 128);
        assert!(matches!(stale[..], [(_, Stale::Stuck)]));
    }
}
