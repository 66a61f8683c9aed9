//! Where this node stands: in the group or outside, who leads, how fresh what it knows is.

use crate::network::Followed;
use crate::shell::{Running, Shell};
use crate::store::locked;
use crate::types::{Group, Peer};
use crate::{Copy, StateError};
use hale_model::NodeId;
use hale_model::ledger::LedgerError;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A node of the group that heard no leader for so long asks others what happens: it may have lost
/// its seat without being told.
const SILENCE: Duration = Duration::from_secs(3);
/// How soon it is noticed that another leads.
const LEADER_LOOK: Duration = Duration::from_millis(20);

/// What this node heard of leaders.
pub(crate) struct Standing {
    started: Instant,
    heard: Mutex<Option<Instant>>,
    /// Told that a leader hands over to this node.
    pub(crate) take_over: watch::Sender<u64>,
    /// This node is giving up the lead: it takes no more writes and sends no heartbeats.
    pub(crate) yields: AtomicBool,
    /// It must not stand for election: it leaves, or its disk takes nothing.
    pub(crate) unable: AtomicBool,
    /// Somebody spoke as a leader or a candidate who is no voter that is known: who is in the group
    /// is to be asked.
    pub(crate) doubted: AtomicBool,
    /// What the planner of seats would do next, for people to read.
    pub(crate) plan: Mutex<Option<String>>,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            heard: Mutex::default(),
            take_over: watch::Sender::new(0),
            yields: AtomicBool::new(false),
            unable: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            plan: Mutex::default(),
        }
    }
}

impl Standing {
    /// A valid leader was answered just now.
    pub(crate) fn heard_leader(&self) {
        *locked(&self.heard) = Some(Instant::now());
    }

    /// When a leader was last answered.
    pub(crate) fn heard_at(&self) -> Option<Instant> {
        *locked(&self.heard)
    }

    /// For how long no leader was heard.
    pub(crate) fn silence(&self) -> Duration {
        self.heard_at().unwrap_or(self.started).elapsed()
    }
}

impl Running {
    /// Raft's term.
    pub(crate) fn term(&self) -> u64 {
        self.raft.metrics().borrow().current_term
    }

    /// Who leads by this node's own log.
    pub(crate) fn leader(&self) -> Option<Peer> {
        let metrics = self.raft.metrics();
        let m = metrics.borrow();
        let membership = m.membership_config.membership();
        membership.get_node(&m.current_leader?).cloned()
    }

    /// Whether a node leads by this node's own log.
    pub(crate) fn leads(&self, node: &NodeId) -> bool {
        let leader = self.raft.metrics().borrow().current_leader;
        leader == Some(node.raft_id())
    }

    /// Whether a node votes by this node's own log; nothing if it is not of the group.
    pub(crate) fn seat(&self, node: &NodeId) -> Option<bool> {
        let metrics = self.raft.metrics();
        let m = metrics.borrow();
        let (id, membership) = (node.raft_id(), m.membership_config.membership());
        let peer = membership.get_node(&id)?;
        (peer.node == *node).then(|| membership.voter_ids().any(|v| v == id))
    }

    /// Who is in the group by this node's own log.
    pub(crate) fn group(&self) -> Group {
        let metrics = self.raft.metrics();
        let m = metrics.borrow();
        let membership = m.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let mut group = Group {
            term: m.current_term,
            ..Group::default()
        };
        for (id, peer) in membership.nodes() {
            if m.current_leader == Some(*id) {
                group.leader = Some(peer.node);
            }
            let seats = if voters.contains(id) {
                &mut group.voters
            } else {
                &mut group.learners
            };
            seats.push(peer.clone());
        }
        group
    }
}

/// Beside the threads that answer heartbeats: it may be the whole state.
async fn since(running: &Running, after: u64) -> std::io::Result<Followed> {
    let machine = running.machine.clone();
    let told = tokio::task::spawn_blocking(move || machine.since(after)).await;
    told.map_err(std::io::Error::other)?
}

impl Shell {
    /// Whether this node is of the group and in touch with it: its own log is what counts.
    pub(crate) fn is_seated(&self) -> bool {
        let Ok(running) = self.running() else {
            return false;
        };
        let Some(votes) = running.seat(&self.me.node) else {
            return false;
        };
        running.leads(&self.me.node)
            || self.standing.silence() < SILENCE
            || votes && running.group().voters.len() == 1
    }

    /// Who is in the group, as far as is known.
    pub(crate) fn group(&self) -> Group {
        let told = self.mirror.group();
        match self.running().map(|r| r.group()) {
            Ok(own) if self.is_seated() || own.term >= told.term && !own.voters.is_empty() => own,
            _ => told,
        }
    }

    /// The node that leads, as far as is known.
    pub(crate) fn leader(&self) -> Option<Peer> {
        match self.running() {
            Ok(running) if self.is_seated() => running.leader(),
            _ => self.group().leading().cloned(),
        }
    }

    /// Returns once another leads, or nobody does, as far as is known.
    pub(crate) async fn leader_is_not(&self, node: &NodeId) {
        while self.leader().is_some_and(|l| l.node == *node) {
            tokio::time::sleep(LEADER_LOOK).await;
        }
    }

    /// Whether this node leads.
    pub(crate) fn leads(&self) -> bool {
        self.running().is_ok_and(|r| r.leads(&self.me.node))
    }

    /// Whether a leader was confirmed by a quorum, heard, or told of not long ago.
    pub(crate) fn is_led(&self) -> bool {
        let alone = self.running().is_ok_and(|r| r.group().voters.len() == 1) && self.leads();
        alone || self.age().is_some_and(|age| age < SILENCE)
    }

    /// See [`crate::Consensus::age`].
    pub(crate) fn age(&self) -> Option<Duration> {
        let own = match self.running() {
            Ok(running) if self.leads() => self.since_quorum(&running),
            Ok(_) if self.is_seated() => self.standing.heard_at().map(|at| at.elapsed()),
            _ => None,
        };
        match (own, self.mirror.age()) {
            (Some(own), Some(told)) => Some(own.min(told)),
            (own, told) => own.or(told),
        }
    }

    /// How long ago a quorum had acknowledged this leader. openraft's own measure stands still while
    /// nothing changes, as on a leader that is cut off.
    fn since_quorum(&self, running: &Running) -> Option<Duration> {
        let voters = running.group().voters;
        let acks = locked(&self.asker.acks);
        let others = voters.iter().filter(|p| p.node != self.me.node);
        let mut ago: Vec<Duration> = others
            .filter_map(|p| acks.get(&p.node).map(Instant::elapsed))
            .collect();
        ago.sort_unstable();
        // With this node's own voice so many more make a majority.
        match voters.len() / 2 {
            0 => Some(Duration::ZERO),
            more => ago.get(more - 1).copied(),
        }
    }

    /// Waits until a log index was applied here, one way or the other.
    pub(crate) async fn reached(&self, index: u64) -> Result<(), LedgerError> {
        let (mut own, mut told) = (
            self.ledger.watch_applied(),
            self.mirror.ledger.watch_applied(),
        );
        let reached = async {
            tokio::select! {
                _ = own.wait_for(|i| *i >= index) => {}
                _ = told.wait_for(|i| *i >= index) => {}
            }
        };
        let patience = self.config.timeouts.write;
        let reached = tokio::time::timeout(patience, reached).await;
        reached.map_err(|_| self.no_leader())
    }

    /// The ledger as this node knows it best, as bytes.
    pub(crate) fn copy(&self) -> Result<Copy, StateError> {
        if self.mirror.ledger.applied() > self.ledger.applied() {
            return self.mirror.copy();
        }
        let running = self.running().ok();
        let group = self.group();
        let (applied, state) = match running {
            Some(running) => running.machine.state_now()?,
            None => (self.ledger.applied(), self.ledger.read().encode()?),
        };
        Ok(Copy {
            applied,
            state,
            group,
        })
    }

    /// What a node outside the group is told, once there is news or the wait is over; nothing if
    /// this node is not of the group itself.
    pub(crate) async fn tell_follower(
        &self,
        after: u64,
        wait: Duration,
    ) -> std::io::Result<Option<Followed>> {
        let by = tokio::time::Instant::now() + wait;
        let mut applied = self.ledger.watch_applied();
        loop {
            let running = self.running().map_err(std::io::Error::other)?;
            let group = running.group();
            if !group.members().any(|p| p.node == self.me.node) {
                return Ok(None);
            }
            let age = self.age().unwrap_or(Duration::from_secs(3600));
            let now = *applied.borrow_and_update();
            let is_over = tokio::time::Instant::now() >= by || self.is_stopping();
            if now != after || is_over || age > SILENCE {
                let mut told = since(&running, after).await?;
                told.group = group;
                told.age_ms = age.as_millis() as u64;
                return Ok(Some(told));
            }
            // A change of the leader is news too, and shows within this time.
            let look = by.min(tokio::time::Instant::now() + Duration::from_millis(500));
            let _ = tokio::time::timeout_at(look, applied.changed()).await;
            if running.group() != group {
                let mut told = since(&running, after).await?;
                told.group = running.group();
                told.age_ms = self.age().unwrap_or_default().as_millis() as u64;
                return Ok(Some(told));
            }
        }
    }

    /// Whether it may stand for election.
    pub(crate) fn is_able(&self) -> bool {
        !self.standing.unable.load(Ordering::Relaxed)
            && !self.standing.yields.load(Ordering::Relaxed)
            && self.has_room().is_ok()
    }
}
