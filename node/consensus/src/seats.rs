//! Who votes: from the group as it is and what is known of each node, the one next change, or none.
//! Pure; the leader asks again once a change is done, and carries out what is answered.
//!
//! Liveness is counted with care: a node counts as live only if gossip and Raft agree on it, and as
//! failed only if they agree on that. In between nothing is done on its account.

use hale_model::NodeId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Only nodes that are alive for so long are moved for balance alone.
const SETTLED: Duration = Duration::from_secs(60);

/// What is known of a node on the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who it is.
    pub node: NodeId,
    /// What fails together, as the operator named it.
    pub zone: String,
    /// For how long gossip has called it alive; nothing if it does not.
    pub alive_for: Option<Duration>,
    /// How long ago Raft itself last heard it acknowledge, counted from when this node began to
    /// lead if it has not since. Nothing: it is not in the group.
    pub silent_for: Option<Duration>,
    /// Whether its log ends close to the leader's.
    pub caught_up: bool,
    /// Whether its disk has room and its version fits.
    pub fit: bool,
}

/// The Raft group as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Who votes. While joint: the older half.
    pub voters: BTreeSet<NodeId>,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Who leads, and plans.
    pub leader: NodeId,
    /// Whether a change of voters is half done (Raft §6).
    pub is_joint: bool,
    /// The newer half, while joint.
    pub joint_target: BTreeSet<NodeId>,
}

/// What the group should look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// 3 or 5.
    pub max_voters: usize,
    /// Learners that stand by when all voters' seats are filled.
    pub learners: usize,
    /// A node is alive for so long before it gets a seat.
    pub stable_for: Duration,
    /// A member has failed once it is not alive and silent for so long.
    pub failed_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_voters: 5,
            learners: 2,
            stable_for: Duration::from_secs(5),
            failed_after: Duration::from_secs(10),
        }
    }
}

impl Policy {
    /// How many should vote when so many nodes are on the roster.
    pub fn target(&self, enrolled: usize) -> usize {
        match enrolled {
            0..=2 => 1,
            3..=4 => 3,
            _ if self.max_voters >= 5 => 5,
            _ => 3,
        }
    }
}

/// One change of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Replicate to a node that has no seat yet.
    AddLearner(NodeId),
    /// Stop replicating to a learner.
    RemoveLearner(NodeId),
    /// Make exactly these the voters; each is a voter or a learner now. A voter that is not named
    /// may leave the group or stay as a learner: the next plan makes either right.
    SetVoters(BTreeSet<NodeId>),
    /// Finish a change of voters that a leader before this one left half done.
    FinishJoint(BTreeSet<NodeId>),
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |nodes: &BTreeSet<NodeId>| {
            let names: Vec<_> = nodes.iter().map(NodeId::short).collect();
            names.join(", ")
        };
        match self {
            Self::AddLearner(node) => write!(f, "{} stands by", node.short()),
            Self::RemoveLearner(node) => write!(f, "{} stands by no more", node.short()),
            Self::SetVoters(voters) => write!(f, "{} vote", names(voters)),
            Self::FinishJoint(voters) => {
                write!(
                    f,
                    "a change left half done is finished: {} vote",
                    names(voters)
                )
            }
        }
    }
}

/// The next change, or nothing when the group is as it should be or can't be changed now. `roster`
/// holds every enrolled node, also those that are down.
pub fn plan(group: &Group, roster: &[Candidate], policy: &Policy) -> Option<Change> {
    let nodes = roster.iter().map(|c| (c.node, c)).collect();
    let view = View {
        group,
        nodes,
        policy,
    };
    if group.is_joint {
        return view.finish_joint();
    }
    if !view.has_live_quorum(&group.voters) {
        return None;
    }
    view.shrink_to_target()
        .or_else(|| view.replace(|node| view.has_left(node) && node != group.leader))
        .or_else(|| view.replace(|node| view.has_failed(node)))
        .or_else(|| view.shrink_for_want_of_nodes())
        .or_else(|| view.grow())
        .or_else(|| view.add_a_zone())
        .or_else(|| view.dismiss())
        .or_else(|| view.recruit())
        .or_else(|| view.let_the_leader_go())
}

struct View<'a> {
    group: &'a Group,
    nodes: BTreeMap<NodeId, &'a Candidate>,
    policy: &'a Policy,
}

/// What is known of one node.
impl View<'_> {
    fn is_alive_for(&self, node: NodeId, least: Duration) -> bool {
        let known = self.nodes.get(&node).and_then(|c| c.alive_for);
        known.is_some_and(|alive| alive >= least)
    }

    fn is_silent(&self, node: NodeId) -> Option<bool> {
        let silent = self.nodes.get(&node)?.silent_for?;
        Some(silent >= self.policy.failed_after)
    }

    fn is_fit(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|c| c.fit)
    }

    /// No longer on the roster: it is shut out everywhere.
    fn has_left(&self, node: NodeId) -> bool {
        !self.nodes.contains_key(&node)
    }

    /// It can be counted on to acknowledge the change itself.
    fn is_live(&self, node: NodeId) -> bool {
        let is_heard = self.is_silent(node) == Some(false);
        node == self.group.leader || is_heard && self.is_alive_for(node, Duration::ZERO)
    }

    /// Never on gossip alone, never on silence alone.
    fn has_failed(&self, node: NodeId) -> bool {
        let is_dead = !self.is_alive_for(node, Duration::ZERO);
        node != self.group.leader && is_dead && self.is_silent(node) == Some(true)
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.group.voters.contains(&node) || self.group.learners.contains(&node)
    }

    /// A learner that may vote right away.
    fn is_ready(&self, node: NodeId) -> bool {
        let is_caught_up = self.nodes.get(&node).is_some_and(|c| c.caught_up);
        let is_stable = self.is_alive_for(node, self.policy.stable_for);
        is_caught_up && is_stable && self.is_fit(node) && self.is_live(node)
    }

    fn ready(&self) -> impl Iterator<Item = NodeId> {
        let learners = self.group.learners.difference(&self.group.voters);
        learners.copied().filter(|l| self.is_ready(*l))
    }

    /// How many of `set` share the node's zone, itself included if it is one of them. Who left the
    /// roster has no zone.
    fn crowd(&self, set: &BTreeSet<NodeId>, node: NodeId) -> usize {
        let zone = |n: &NodeId| self.nodes.get(n).map(|c| &c.zone);
        let mine = zone(&node);
        let same = |n: &&NodeId| mine.is_some() && zone(n) == mine;
        set.iter().filter(same).count()
    }

    /// Larger is better: more zones, then fewer voters in the fullest.
    fn spread(&self, set: &BTreeSet<NodeId>) -> (usize, Reverse<usize>) {
        let mut zones = BTreeMap::<&str, usize>::new();
        for node in set.iter().filter_map(|n| self.nodes.get(n)) {
            *zones.entry(&node.zone).or_default() += 1;
        }
        let fullest = zones.values().max().copied().unwrap_or(0);
        (zones.len(), Reverse(fullest))
    }
}

/// The voters.
impl View<'_> {
    fn target(&self) -> usize {
        self.policy.target(self.nodes.len())
    }

    fn has_live_quorum(&self, voters: &BTreeSet<NodeId>) -> bool {
        let live = voters.iter().filter(|v| self.is_live(**v)).count();
        live > voters.len() / 2
    }

    /// The one door to a new set: never even, never without a live quorum.
    fn set_voters(&self, voters: BTreeSet<NodeId>) -> Option<Change> {
        let is_odd = voters.len() % 2 == 1;
        let is_safe = is_odd && self.has_live_quorum(&voters) && voters != self.group.voters;
        is_safe.then_some(Change::SetVoters(voters))
    }

    /// No other change can be made before, and going back needs the newer half's quorum too.
    fn finish_joint(&self) -> Option<Change> {
        let target = &self.group.joint_target;
        self.has_live_quorum(target)
            .then(|| Change::FinishJoint(target.clone()))
    }

    fn shrink_to_target(&self) -> Option<Change> {
        let is_over = self.group.voters.len() > self.target();
        is_over.then(|| self.shrink())?
    }

    /// To the next odd number below: who left goes first, then who failed, then who may not be
    /// live, then who shares a zone with most. An enrolled leader stays.
    fn shrink(&self) -> Option<Change> {
        let mut voters = self.group.voters.clone();
        let odd = voters.len().checked_sub(1)?.saturating_sub(1) | 1;
        while voters.len() > odd {
            let rank = |node: &NodeId| {
                let node = *node;
                let leads = node == self.group.leader;
                let is_down = (self.has_failed(node), !self.is_live(node));
                let crowd = self.crowd(&voters, node);
                (self.has_left(node), !leads, is_down, crowd, node)
            };
            let may_go = |v: &NodeId| *v != self.group.leader || self.has_left(*v);
            let gone = voters.iter().copied().filter(may_go).max_by_key(rank)?;
            voters.remove(&gone);
        }
        self.set_voters(voters)
    }

    /// Swaps one such voter for a ready learner: of all pairs, the one that spreads best.
    fn replace(&self, is_out: impl Fn(NodeId) -> bool) -> Option<Change> {
        let voters = &self.group.voters;
        let out = voters.iter().copied().filter(|v| is_out(*v));
        let pairs = out.flat_map(|out| self.ready().map(move |r| (out, r)));
        let best = pairs.max_by_key(|pair| {
            let spread = self.spread(&self.swapped(*pair));
            (spread, Reverse(*pair))
        });
        self.set_voters(self.swapped(best?))
    }

    fn swapped(&self, (out, into): (NodeId, NodeId)) -> BTreeSet<NodeId> {
        let mut voters = self.group.voters.clone();
        voters.remove(&out);
        voters.insert(into);
        voters
    }

    /// A voter left, or the number is even, and nobody is on the way to fill the seat.
    fn shrink_for_want_of_nodes(&self) -> Option<Change> {
        let voters = &self.group.voters;
        let has_left = |v: &NodeId| self.has_left(*v) && *v != self.group.leader;
        let is_uneasy = voters.len().is_multiple_of(2) || voters.iter().any(has_left);
        (is_uneasy && !self.is_help_on_the_way()).then(|| self.shrink())?
    }

    /// Whether a node without a vote is alive, fit, and reached by Raft if it is a learner: it will
    /// be ready soon.
    fn is_help_on_the_way(&self) -> bool {
        let is_coming = |node: &NodeId| {
            let is_reached = self.is_silent(*node) != Some(true);
            let is_up = self.is_alive_for(*node, Duration::ZERO);
            !self.group.voters.contains(node) && is_up && is_reached && self.is_fit(*node)
        };
        self.nodes.keys().any(is_coming)
    }

    /// To the next odd number above, once there are learners for all its seats: the least crowded
    /// zone first.
    fn grow(&self) -> Option<Change> {
        let mut voters = self.group.voters.clone();
        if voters.len() >= self.target() {
            return None;
        }
        let odd = (voters.len() + 1) | 1;
        while voters.len() < odd {
            let free = self.ready().filter(|r| !voters.contains(r));
            let next = free.min_by_key(|r| (self.crowd(&voters, *r), *r))?;
            voters.insert(next);
        }
        self.set_voters(voters)
    }

    /// A learner in a zone that no voter is in takes the seat of one whose zone has more.
    fn add_a_zone(&self) -> Option<Change> {
        let voters = &self.group.voters;
        let is_settled = |node: &NodeId| self.is_alive_for(*node, SETTLED);
        let is_new = |node: &NodeId| self.crowd(voters, *node) == 0;
        let into = self.ready().filter(is_settled).find(is_new)?;
        let is_spare = |v: &NodeId| *v != self.group.leader && self.crowd(voters, *v) > 1;
        let spare = voters.iter().copied().filter(is_settled).filter(is_spare);
        let out = spare.max_by_key(|v| (self.crowd(voters, *v), *v))?;
        self.set_voters(self.swapped((out, into)))
    }

    /// A leader that left the roster hands its seat on when nothing else is to be done.
    fn let_the_leader_go(&self) -> Option<Change> {
        let leader = self.group.leader;
        if !self.has_left(leader) || !self.group.voters.contains(&leader) {
            return None;
        }
        self.replace(|node| node == leader)
            .or_else(|| (!self.is_help_on_the_way()).then(|| self.shrink())?)
    }
}

/// The learners.
impl View<'_> {
    /// One for each seat that is still to come, and the stand-bys: at least as many as there are
    /// voters to replace.
    fn wanted_learners(&self) -> usize {
        let voters = &self.group.voters;
        let is_open = |v: &&NodeId| self.has_left(**v) || self.has_failed(**v);
        let open = voters.iter().filter(is_open).count();
        let to_come = self.target().saturating_sub(voters.len());
        to_come + open.max(self.policy.learners)
    }

    /// Those who hold a seat now and can keep it.
    fn seated(&self) -> BTreeSet<NodeId> {
        let members = self.group.voters.union(&self.group.learners);
        members.copied().filter(|m| !self.has_failed(*m)).collect()
    }

    /// Learners that left or failed; then those beyond what is wanted: the unfit first, then who
    /// shares its zone with another member.
    fn dismiss(&self) -> Option<Change> {
        let learners = || self.group.learners.iter().copied();
        let is_gone = |l: &NodeId| self.has_left(*l) || self.has_failed(*l);
        if let Some(gone) = learners().find(is_gone) {
            return Some(Change::RemoveLearner(gone));
        }
        if self.group.learners.len() <= self.wanted_learners() {
            return None;
        }
        let seated = self.seated();
        let rank = |l: &NodeId| {
            let crowd = self.crowd(&seated, *l);
            (!self.is_fit(*l), crowd > 1, !self.is_live(*l), crowd, *l)
        };
        learners().max_by_key(rank).map(Change::RemoveLearner)
    }

    /// As many useful learners as are wanted, the least crowded zone first. When there are enough,
    /// still one from a zone that nobody is in, if another learner can be spared for it.
    fn recruit(&self) -> Option<Change> {
        let seated = self.seated();
        let learners = &self.group.learners;
        let useful = learners.iter().filter(|l| self.is_fit(**l)).count();
        let has_room = useful < self.wanted_learners();
        let can_spare = learners.iter().any(|l| self.crowd(&seated, *l) > 1);
        let may_join = |node: &NodeId| {
            let opens_a_zone = self.crowd(&seated, *node) == 0;
            let is_worth_it = opens_a_zone && can_spare && self.is_alive_for(*node, SETTLED);
            let is_stable = self.is_alive_for(*node, self.policy.stable_for);
            !self.is_member(*node) && self.is_fit(*node) && is_stable && (has_room || is_worth_it)
        };
        let able = self.nodes.keys().copied().filter(may_join);
        able.min_by_key(|node| (self.crowd(&seated, *node), *node))
            .map(Change::AddLearner)
    }
}

#[cfg(test)]
mod tests;
