//! The oracle of joins and seats: reads what happened and says what did not hold. It shares no code
//! with what it judges.

use super::event::{Happened, Nodes, What};
use std::collections::{BTreeMap, BTreeSet};

/// A node that has been down for less may still be taken for alive, in milliseconds: the time until
/// gossip and Raft agree that it has failed.
const NOTICED_MS: u64 = 20_000;
/// A node is alive for so long before it is moved for balance, in milliseconds, and what that takes.
const SETTLED_MS: u64 = 60_000;
/// In the end nothing has changed for so long, in milliseconds.
const REST_MS: u64 = 120_000;
/// From when it is quiet until it rests, no more changes than these.
const MAX_CHANGES: usize = 24;

/// Something that must always hold and did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A change was begun before the one before it had ended.
    #[error("at {at_ms} ms `{change}` was begun beside another change")]
    TwoAtOnce {
        /// When.
        at_ms: u64,
        /// The later one.
        change: String,
    },
    /// A change would leave, or has left, no majority of those who vote.
    #[error("at {at_ms} ms {up} of the voters {voters:?} could be counted on")]
    NoQuorum {
        /// When.
        at_ms: u64,
        /// Who would vote.
        voters: Nodes,
        /// How many of them live.
        up: usize,
    },
    /// More have a seat than the policy gives, or an even number votes.
    #[error("at {at_ms} ms {voters} vote and {learners} stand by")]
    Seats {
        /// When.
        at_ms: u64,
        /// How many vote.
        voters: usize,
        /// How many stand by.
        learners: usize,
    },
    /// Somebody has a seat who is not on the roster.
    #[error("at {at_ms} ms node {node} was given a seat and is not on the roster")]
    SeatedStranger {
        /// When.
        at_ms: u64,
        /// Who.
        node: usize,
    },
    /// In the end the seats are not those that the nodes that live could fill.
    #[error("in the end {voters:?} vote, of {wanted} that should, and {dead:?} of them are down")]
    NotConverged {
        /// Who votes.
        voters: Nodes,
        /// How many should.
        wanted: usize,
        /// Who of them is down or gone.
        dead: Nodes,
    },
    /// In the end the voters are in fewer zones than they could be.
    #[error("in the end the voters are in {zones} zones, and could be in {possible}")]
    NotSpread {
        /// In how many.
        zones: usize,
        /// In how many they could be.
        possible: usize,
    },
    /// The group does not come to rest though nothing happens.
    #[error("{changes} changes since it is quiet, the last {rest_ms} ms before the end")]
    Restless {
        /// How many.
        changes: usize,
        /// How long nothing changed in the end.
        rest_ms: u64,
    },
    /// A node that was removed is back.
    #[error("at {at_ms} ms node {node} is back, which was removed")]
    CameBack {
        /// When.
        at_ms: u64,
        /// Which.
        node: usize,
    },
    /// A token let in more than it may.
    #[error("at {at_ms} ms token {token} let in number {used}, {uses} are allowed")]
    TokenOverused {
        /// When.
        at_ms: u64,
        /// Which.
        token: String,
        /// How many it has let in.
        used: u32,
        /// How many it may.
        uses: u32,
    },
    /// A node was let in that had no right to come.
    #[error("at {at_ms} ms node {node} was let in, and nobody has invited it")]
    Uninvited {
        /// When.
        at_ms: u64,
        /// Which.
        node: usize,
    },
    /// Two nodes lead in one term.
    #[error("at {at_ms} ms node {node} leads in term {term}, which had a leader")]
    TwoLeaders {
        /// When.
        at_ms: u64,
        /// The later one.
        node: usize,
        /// In which term.
        term: u64,
    },
}

/// What did not hold, in the order it was found.
pub fn judge(log: &[Happened]) -> Vec<Violation> {
    let mut judge = Judge::default();
    for happened in log {
        judge.hear(happened.at_ms, &happened.what);
    }
    judge.wrong
}

#[derive(Default)]
struct Judge {
    wrong: Vec<Violation>,
    max_voters: usize,
    max_learners: usize,
    zones: BTreeMap<usize, usize>,
    invited: Nodes,
    enrolled: Nodes,
    removed: BTreeMap<usize, u64>,
    up_since: BTreeMap<usize, u64>,
    down_since: BTreeMap<usize, u64>,
    tokens: BTreeMap<String, (u32, u32)>,
    voters: Nodes,
    learners: Nodes,
    terms: BTreeSet<u64>,
    /// Terms in which a change is under way.
    changing: BTreeSet<u64>,
    quiet: bool,
    changes: usize,
    changed_ms: u64,
}

impl Judge {
    fn hear(&mut self, at_ms: u64, what: &What) {
        match what {
            What::Policy { voters, learners } => {
                (self.max_voters, self.max_learners) = (*voters, *learners);
            }
            What::Comes {
                node,
                zone,
                invited,
            } => {
                self.zones.insert(*node, *zone);
                if *invited {
                    self.invited.insert(*node);
                }
            }
            What::Token { token, uses } => {
                self.tokens.insert(token.clone(), (0, *uses));
            }
            What::Enrolled { node, token } => self.enrolled(at_ms, *node, token.as_ref()),
            What::Removed { node } => {
                self.enrolled.remove(node);
                self.removed.insert(*node, at_ms);
            }
            What::Up { node } => {
                self.down_since.remove(node);
                self.up_since.entry(*node).or_insert(at_ms);
            }
            What::Down { node } => {
                self.up_since.remove(node);
                self.down_since.entry(*node).or_insert(at_ms);
            }
            What::Leads { node, term } => {
                if !self.terms.insert(*term) {
                    let (node, term) = (*node, *term);
                    self.wrong.push(Violation::TwoLeaders { at_ms, node, term });
                }
            }
            What::Begins {
                term,
                change,
                voters,
                finishes,
            } => {
                self.begins(at_ms, *term, change);
                // Those who vote now have to take the decision, those who vote then to keep it.
                let deciding = (!finishes).then(|| self.voters.clone());
                for voters in deciding.iter().chain(voters) {
                    self.counted_on(at_ms, voters);
                }
            }
            What::Ends { term } => {
                self.changing.remove(term);
            }
            What::Group { voters, learners } => self.group(at_ms, voters, learners),
            What::Fault { .. } => {}
            What::Quiet => {
                self.quiet = true;
                self.changed_ms = at_ms;
            }
            What::Over => self.over(at_ms),
        }
    }

    fn enrolled(&mut self, at_ms: u64, node: usize, token: Option<&String>) {
        if self.removed.contains_key(&node) {
            self.wrong.push(Violation::CameBack { at_ms, node });
        }
        if !self.invited.contains(&node) {
            self.wrong.push(Violation::Uninvited { at_ms, node });
        }
        self.enrolled.insert(node);
        let Some(token) = token else { return };
        let (used, uses) = self.tokens.entry(token.clone()).or_default();
        *used += 1;
        if used > uses {
            let (token, used, uses) = (token.clone(), *used, *uses);
            self.wrong.push(Violation::TokenOverused {
                at_ms,
                token,
                used,
                uses,
            });
        }
    }

    fn begins(&mut self, at_ms: u64, term: u64, change: &str) {
        if !self.changing.insert(term) {
            let change = change.to_owned();
            self.wrong.push(Violation::TwoAtOnce { at_ms, change });
        }
    }

    /// Whether a majority of these could be taken for alive: who died a moment ago can't be known to
    /// be dead.
    fn counted_on(&mut self, at_ms: u64, voters: &Nodes) {
        let counts = |n: &&usize| {
            let down = self.down_since.get(n);
            down.is_none_or(|since| at_ms - since < NOTICED_MS)
        };
        let up = voters.iter().filter(counts).count();
        self.quorum(at_ms, voters, up);
    }

    /// Whether so many are a majority of these.
    fn quorum(&mut self, at_ms: u64, voters: &Nodes, up: usize) {
        if up <= voters.len() / 2 {
            let voters = voters.clone();
            self.wrong.push(Violation::NoQuorum { at_ms, voters, up });
        }
    }

    fn group(&mut self, at_ms: u64, voters: &Nodes, learners: &Nodes) {
        if self.quiet {
            self.changes += 1;
            self.changed_ms = at_ms;
        }
        let is_new = *voters != self.voters;
        // A group that took a decision had a majority to take it.
        if is_new && !self.voters.is_empty() {
            let is_up = |n: &&usize| self.up_since.contains_key(n);
            let up = voters.iter().filter(is_up).count();
            self.quorum(at_ms, voters, up);
        }
        // For each seat that is still to be filled one more may stand by; and one while it takes the
        // place of another that stands by.
        let to_come = self.max_voters.saturating_sub(voters.len()) + 1;
        let is_odd = voters.len() % 2 == 1;
        if !is_odd || voters.len() > self.max_voters || learners.len() > self.max_learners + to_come
        {
            let (voters, learners) = (voters.len(), learners.len());
            self.wrong.push(Violation::Seats {
                at_ms,
                voters,
                learners,
            });
        }
        let before = &self.voters | &self.learners;
        self.seated(at_ms, &(&(voters | learners) - &before), NOTICED_MS);
        (self.voters, self.learners) = (voters.clone(), learners.clone());
    }

    /// Whether all of these are on the roster, or were not long ago: a change takes its time.
    fn seated(&mut self, at_ms: u64, nodes: &Nodes, long_ms: u64) {
        for node in nodes - &self.enrolled {
            let removed = self.removed.get(&node);
            if removed.is_none_or(|since| at_ms - since > long_ms) {
                self.wrong.push(Violation::SeatedStranger { at_ms, node });
            }
        }
    }

    /// How many should vote of so many on the roster.
    fn wanted(&self) -> usize {
        match self.enrolled.len() {
            0..=2 => 1,
            3..=4 => 3,
            _ => self.max_voters,
        }
    }

    fn over(&mut self, at_ms: u64) {
        let rest_ms = at_ms - self.changed_ms;
        let changes = self.changes;
        if rest_ms < REST_MS || changes > MAX_CHANGES {
            self.wrong.push(Violation::Restless { changes, rest_ms });
        }
        let standing_by = self.learners.clone();
        self.seated(at_ms, &standing_by, 0);
        let lives = |n: &usize| self.enrolled.contains(n) && self.up_since.contains_key(n);
        let alive: Nodes = self.zones.keys().copied().filter(lives).collect();
        let wanted = self.wanted();
        if alive.len() < wanted {
            return;
        }
        let voters = self.voters.clone();
        let dead: Nodes = &voters - &alive;
        if voters.len() != wanted || !dead.is_empty() {
            self.wrong.push(Violation::NotConverged {
                voters,
                wanted,
                dead,
            });
            return;
        }
        if self.learners.len() > self.max_learners {
            self.wrong.push(Violation::Seats {
                at_ms,
                voters: voters.len(),
                learners: self.learners.len(),
            });
        }
        let settled = |n: &&usize| {
            let since = self.up_since.get(n);
            since.is_some_and(|since| at_ms - since > SETTLED_MS + REST_MS)
        };
        let zones = |nodes: &mut dyn Iterator<Item = &usize>| {
            let zones = nodes.filter_map(|n| self.zones.get(n));
            zones.collect::<BTreeSet<_>>().len()
        };
        let possible = zones(&mut alive.iter().filter(settled)).min(wanted);
        let zones = zones(&mut voters.iter());
        if zones < possible {
            self.wrong.push(Violation::NotSpread { zones, possible });
        }
    }
}

#[cfg(test)]
mod tests;
