//! Raft as the seats see it: who leads, who is heard, and changes of membership that take their time
//! and can be lost. The planner is the product's; the rest is a model of `hale-consensus`'s shell
//! around it, which begins nothing while something is under way.

use super::event::{Nodes, What};
use super::world::World;
use hale_consensus::seats::{self, Candidate, Change, Group};
use hale_model::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A follower that has not heard from a leader for so long has another elected, in milliseconds.
const ELECTION_MS: (u64, u64) = (500, 2_500);
/// What a half of a change takes at least, in milliseconds.
const HALF_MS: (u64, u64) = (0, 2_500);
/// A new learner's log takes so long, in milliseconds.
const CATCH_UP_MS: (u64, u64) = (500, 6_000);

/// A change that is not committed yet.
struct UnderWay {
    change: Change,
    /// It is committed from then on, as soon as the majorities have it.
    at_ms: u64,
}

/// The group.
#[derive(Default)]
pub(super) struct Raft {
    pub(super) leader: Option<usize>,
    term: u64,
    voters: Nodes,
    learners: Nodes,
    joint: Option<Nodes>,
    under_way: Option<UnderWay>,
    leads_since_ms: u64,
    elects_at_ms: Option<u64>,
    /// When each acknowledged last, to this leader.
    acknowledged: BTreeMap<usize, u64>,
    /// When each learner's log is close to the leader's.
    caught_up_at: BTreeMap<usize, u64>,
}

impl Raft {
    pub(super) fn found(&mut self, founder: usize) {
        self.leader = Some(founder);
        self.term = 1;
        self.voters = Nodes::from([founder]);
    }

    /// Whether a majority of each set that votes can decide something.
    fn has_majority(&self, world: &World, without: Option<usize>) -> bool {
        let counts = |n: &&usize| world.answers(**n) && Some(**n) != without;
        let sets = [Some(&self.voters), self.joint.as_ref()];
        let mut sets = sets.into_iter().flatten();
        sets.all(|set| set.iter().filter(counts).count() > set.len() / 2)
    }

    /// Who votes once what is under way is done, if that changes it: that counts as soon as it is in
    /// the leader's log, as in Raft.
    fn next_voters(&self, world: &World) -> Option<Nodes> {
        match &self.under_way.as_ref()?.change {
            Change::SetVoters(ids) | Change::FinishJoint(ids) => Some(world.places(ids)),
            _ => None,
        }
    }

    /// Whether what is under way can be decided, and what comes after it.
    pub(super) fn goes_on(&self, world: &World, without: Option<usize>) -> bool {
        let counts = |n: &&usize| world.answers(**n) && Some(**n) != without;
        let next = self.next_voters(world);
        let has_next = next.is_none_or(|next| next.iter().filter(counts).count() > next.len() / 2);
        has_next && self.has_majority(world, without)
    }

    /// Whether somebody leads who can have something written.
    pub(super) fn can_write(&self, world: &World) -> bool {
        let leads = self.leader.is_some_and(|l| world.is_reached(l));
        leads && self.has_majority(world, None)
    }

    /// Whether a majority is left without this one.
    pub(super) fn can_spare(&self, world: &World, n: usize) -> bool {
        let is_next = self
            .next_voters(world)
            .is_some_and(|next| next.contains(&n));
        let votes = is_next || self.all_voters().contains(&n);
        !votes || self.goes_on(world, Some(n))
    }

    /// Who votes, both halves of them while they change.
    pub(super) fn all_voters(&self) -> Nodes {
        let mut all = self.voters.clone();
        all.extend(self.joint.iter().flatten());
        all
    }
}

impl World {
    pub(super) fn tell_group(&mut self) {
        let (voters, learners) = (self.raft.voters.clone(), self.raft.learners.clone());
        self.tell(What::Group { voters, learners });
    }

    pub(super) fn step_raft(&mut self) {
        self.elect();
        let Some(leader) = self.raft.leader.filter(|l| self.is_reached(*l)) else {
            return;
        };
        let members: Vec<usize> = self
            .raft
            .all_voters()
            .union(&self.raft.learners)
            .copied()
            .collect();
        for n in members {
            if self.answers(n) {
                self.raft.acknowledged.insert(n, self.now_ms);
            }
        }
        if self.raft.under_way.is_some() {
            return self.carry_on();
        }
        let Some(change) = self.plan(leader) else {
            return;
        };
        let half = self.rng.within(HALF_MS.0, HALF_MS.1);
        let voters = match &change {
            Change::SetVoters(ids) | Change::FinishJoint(ids) => Some(self.places(ids)),
            _ => None,
        };
        self.tell(What::Begins {
            term: self.raft.term,
            change: change.to_string(),
            voters,
            finishes: matches!(change, Change::FinishJoint(_)),
        });
        self.raft.under_way = Some(UnderWay {
            change,
            at_ms: self.now_ms + half,
        });
    }

    /// A leader that no majority hears is followed by another that one does.
    fn elect(&mut self) {
        let leads = self.raft.leader.is_some_and(|l| self.is_reached(l));
        if leads && self.raft.has_majority(self, None) {
            self.raft.elects_at_ms = None;
            return;
        }
        let pause = self.rng.within(ELECTION_MS.0, ELECTION_MS.1);
        let at_ms = *self.raft.elects_at_ms.get_or_insert(self.now_ms + pause);
        if at_ms > self.now_ms || !self.raft.has_majority(self, None) {
            return;
        }
        // Whoever has the newer half may lead, and so may a voter that stays.
        let able = self.raft.joint.as_ref().unwrap_or(&self.raft.voters);
        let able: Vec<usize> = able.iter().copied().filter(|n| self.answers(*n)).collect();
        let next = able
            .get(self.rng.within(0, able.len() as u64) as usize)
            .copied();
        if let Some(next) = next {
            self.take_over(next);
        }
    }

    fn take_over(&mut self, next: usize) {
        let term = self.raft.term;
        // What was not committed under the leader before is committed by the next one, or lost.
        if let Some(UnderWay { change, .. }) = self.raft.under_way.take() {
            if self.rng.chance(500) {
                self.commit(&change);
            }
            self.raft.under_way = None;
            self.tell(What::Ends { term });
        }
        let raft = &mut self.raft;
        raft.term += 1;
        raft.leader = Some(next);
        raft.leads_since_ms = self.now_ms;
        raft.elects_at_ms = None;
        raft.acknowledged.clear();
        let term = raft.term;
        self.tell(What::Leads { node: next, term });
    }

    fn plan(&self, leader: usize) -> Option<Change> {
        let id = |n: &usize| self.nodes[*n].id;
        let ids = |set: &Nodes| -> BTreeSet<NodeId> { set.iter().map(id).collect() };
        let raft = &self.raft;
        let group = Group {
            voters: ids(&raft.voters),
            learners: ids(&raft.learners),
            leader: id(&leader),
            is_joint: raft.joint.is_some(),
            joint_target: raft.joint.as_ref().map(ids).unwrap_or_default(),
        };
        let roster = self.ledger.roster().filter_map(|(id, _)| self.place(id));
        let roster: Vec<Candidate> = roster.map(|n| self.candidate(n, leader)).collect();
        seats::plan(&group, &roster, &self.policy)
    }

    /// What the leader knows of a node.
    fn candidate(&self, n: usize, leader: usize) -> Candidate {
        let (node, raft) = (&self.nodes[n], &self.raft);
        let zone = format!("zone-{}", node.zone);
        if n == leader {
            return Candidate {
                node: node.id,
                zone,
                alive_for: Some(Duration::MAX),
                silent_for: Some(Duration::ZERO),
                caught_up: true,
                fit: true,
            };
        }
        let is_seated = raft.all_voters().contains(&n) || raft.learners.contains(&n);
        let leading_ms = self.now_ms - raft.leads_since_ms;
        let silent_ms = raft.acknowledged.get(&n).map(|at| self.now_ms - at);
        let silent_ms = silent_ms.unwrap_or(leading_ms).min(leading_ms);
        let is_close = raft
            .caught_up_at
            .get(&n)
            .is_none_or(|at| *at <= self.now_ms);
        Candidate {
            node: node.id,
            zone,
            alive_for: self.alive_for(n),
            silent_for: is_seated.then(|| Duration::from_millis(silent_ms)),
            caught_up: is_seated && is_close && node.lags_until_ms <= self.now_ms,
            fit: node.unfit_until_ms <= self.now_ms,
        }
    }

    fn places(&self, ids: &BTreeSet<NodeId>) -> Nodes {
        ids.iter().filter_map(|id| self.place(id)).collect()
    }

    /// What is under way is committed once majorities have it.
    fn carry_on(&mut self) {
        let can_commit = self.raft.goes_on(self, None);
        let Some(UnderWay { change, at_ms }) = self.raft.under_way.take() else {
            return;
        };
        if at_ms > self.now_ms || !can_commit {
            self.raft.under_way = Some(UnderWay { change, at_ms });
            return;
        }
        let term = self.raft.term;
        if let Some(rest) = self.commit(&change) {
            let at_ms = self.now_ms + self.rng.within(HALF_MS.0, HALF_MS.1);
            let change = rest;
            self.raft.under_way = Some(UnderWay { change, at_ms });
            return;
        }
        self.tell(What::Ends { term });
        // Who has no seat any more leads no more.
        let leader = self.raft.leader.filter(|l| self.raft.voters.contains(l));
        self.raft.leader = leader;
    }

    /// What is committed is so; a change of voters has another half.
    fn commit(&mut self, change: &Change) -> Option<Change> {
        match change {
            Change::AddLearner(id) => {
                let n = self.place(id)?;
                let after = self.rng.within(CATCH_UP_MS.0, CATCH_UP_MS.1);
                self.raft.learners.insert(n);
                self.raft.caught_up_at.insert(n, self.now_ms + after);
            }
            Change::RemoveLearner(id) => {
                let n = self.place(id)?;
                self.raft.learners.remove(&n);
            }
            Change::SetVoters(ids) if self.raft.joint.is_none() => {
                self.raft.joint = Some(self.places(ids));
                return Some(Change::FinishJoint(ids.clone()));
            }
            Change::SetVoters(ids) | Change::FinishJoint(ids) => {
                let new = self.places(ids);
                self.raft.learners.retain(|n| !new.contains(n));
                self.raft.voters = new;
                self.raft.joint = None;
            }
        }
        self.tell_group();
        None
    }
}
