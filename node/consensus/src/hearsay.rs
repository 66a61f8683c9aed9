//! Who is in the group by the word of nodes that are not of it, as far as is known.
//!
//! A node outside the group believes the nodes of the group that it knows, and nobody else. It has
//! to, since it can't check by itself what it is told: each entry of the chain is signed and holds
//! the hash of the one before, but who wrote a command into the log, that none was left out before
//! it, and the state as a whole are signed by nobody.
//!
//! Only where none of them answers, others are asked who is in the group now. Any one of them may
//! lie. So a group is believed where two tell of the same voters, in a later term than the known
//! one's:
//!
//! - One liar tells of its own group alone. Nor does it raise the term, after which the group's own
//!   word would seem old: of all that tell of the same voters the second highest term counts, which
//!   one that does not lie has reached.
//! - A later term is no loss. Where none of the known voters is left, the leader is another than the
//!   one that was known, and so was elected since. Where one is left, it says itself who is in the
//!   group.
//! - Who does not lie tells what it believes by these same rules, so a lie is not handed on.
//!
//! What can't be told from a lie is not believed: a group that a single node knows of. It takes an
//! operator: a backup that was restored with the key of a node outside the group, and then followed
//! by nobody.

use crate::types::Group;
use hale_model::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// For so long a word counts.
const HOLDS: Duration = Duration::from_secs(60);
/// A group is a handful of nodes; larger ones are not listened to.
const MAX_VOTERS: usize = 32;

/// What was told, by whom.
#[derive(Debug, Default)]
pub(crate) struct Hearsay(BTreeMap<NodeId, (Instant, Group)>);

fn names(group: &Group) -> BTreeSet<NodeId> {
    group.voters.iter().map(|p| p.node).collect()
}

/// Whether it is another group than the known one, and may have come after it.
fn is_later(told: &Group, known: &Group) -> bool {
    told.term > known.term && !told.voters.is_empty() && names(told) != names(known)
}

impl Hearsay {
    /// Takes one's word; says whether it is listened to.
    pub(crate) fn hear(&mut self, now: Instant, from: NodeId, group: Group) -> bool {
        self.0
            .retain(|_, (at, _)| now.saturating_duration_since(*at) < HOLDS);
        let is_small = group.members().count() <= MAX_VOTERS;
        if is_small {
            self.0.insert(from, (now, group));
        }
        is_small
    }

    /// The group that is to be believed instead of the known one, if any: its voters alone, and its
    /// term. Who leads, it tells itself.
    pub(crate) fn agreed(&self, now: Instant, known: &Group) -> Option<Group> {
        let mut told: BTreeMap<BTreeSet<NodeId>, Vec<&Group>> = BTreeMap::new();
        for (at, group) in self.0.values() {
            if now.saturating_duration_since(*at) < HOLDS && is_later(group, known) {
                told.entry(names(group)).or_default().push(group);
            }
        }
        let second = told.into_values().filter_map(|mut alike| {
            alike.sort_by_key(|g| std::cmp::Reverse(g.term));
            alike.get(1).copied()
        });
        let group = second.max_by_key(|g| g.term)?;
        Some(Group {
            term: group.term,
            voters: group.voters.clone(),
            ..Group::default()
        })
    }

    /// Whether anybody tells of a later group.
    pub(crate) fn is_doubtful(&self, known: &Group) -> bool {
        self.0.values().any(|(_, told)| is_later(told, known))
    }

    /// Forgets all, since the known group has spoken; says how many told of a later one.
    pub(crate) fn forget(&mut self, known: &Group) -> u64 {
        let told = std::mem::take(&mut self.0);
        let later = told.values().filter(|(_, told)| is_later(told, known));
        later.count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Peer;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn group(term: u64, voters: &[u8]) -> Group {
        let peer = |n: &u8| Peer {
            node: node(*n),
            addr: String::new(),
        };
        Group {
            term,
            leader: voters.first().map(|n| node(*n)),
            voters: voters.iter().map(peer).collect(),
            learners: vec![],
        }
    }

    /// What is believed by a node that knows 1, 2 and 3 of term 5, of what others tell.
    fn believed(told: &[(u8, u64, &[u8])]) -> Option<(u64, Vec<u8>)> {
        let (mut hearsay, now) = (Hearsay::default(), Instant::now());
        for (from, term, voters) in told {
            hearsay.hear(now, node(*from), group(*term, voters));
        }
        let agreed = hearsay.agreed(now, &group(5, &[1, 2, 3]))?;
        let voters = agreed.voters.iter().map(|p| p.node.as_bytes()[0]);
        Some((agreed.term, voters.collect()))
    }

    #[test]
    fn two_that_tell_alike_are_believed() {
        let new: &[u8] = &[4, 5, 6];
        assert_eq!(
            believed(&[(4, 9, new), (5, 9, new)]),
            Some((9, new.to_vec()))
        );
        assert_eq!(
            believed(&[(4, 9, new), (8, 7, &[6, 5, 4])]),
            Some((7, vec![6, 5, 4]))
        );
        // Also where one tells something else.
        let lie: &[u8] = &[9];
        let told = [(9, u64::MAX, lie), (4, 9, new), (5, 9, new)];
        assert_eq!(believed(&told), Some((9, new.to_vec())));
    }

    #[test]
    fn one_alone_is_never_believed() {
        assert_eq!(believed(&[(9, 6, &[9])]), None);
        assert_eq!(believed(&[(9, u64::MAX, &[9]), (9, 6, &[9])]), None);
        assert_eq!(believed(&[(9, 6, &[9, 4, 5]), (4, 6, &[4, 5, 6])]), None);
    }

    #[test]
    fn one_alone_does_not_raise_the_term() {
        let new: &[u8] = &[4, 5, 6];
        let told = [(4, 8, new), (9, u64::MAX, new), (5, 9, new)];
        assert_eq!(believed(&told), Some((9, new.to_vec())));
    }

    #[test]
    fn what_is_of_the_past_or_known_is_no_news() {
        for (term, voters) in [(5, [4, 5, 6]), (4, [4, 5, 6]), (9, [3, 2, 1])] {
            assert_eq!(believed(&[(4, term, &voters), (5, term, &voters)]), None);
        }
        assert_eq!(believed(&[(4, 9, &[]), (5, 9, &[])]), None);
    }

    #[test]
    fn words_grow_old_and_absurd_ones_are_not_kept() {
        let (mut hearsay, now) = (Hearsay::default(), Instant::now());
        let known = group(5, &[1, 2, 3]);
        let all: Vec<u8> = (0..=MAX_VOTERS as u8).collect();
        assert!(!hearsay.hear(now, node(9), group(9, &all)));
        assert!(!hearsay.is_doubtful(&known));
        assert!(hearsay.hear(now, node(4), group(9, &[4])));
        let later = now + HOLDS;
        assert!(hearsay.hear(later, node(5), group(9, &[4])));
        assert_eq!(hearsay.agreed(later, &known), None);
        assert!(hearsay.is_doubtful(&known));
        assert_eq!(hearsay.forget(&known), 1);
        assert_eq!(hearsay.forget(&known), 0);
    }
}
