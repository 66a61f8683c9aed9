//! What the leader does not write: the removal of a voter without whom no majority could decide
//! anything. Who is off the roster is shut out at once, but its vote counts until another has taken
//! its seat.

use crate::shell::Shell;
use crate::store::locked;
use crate::types::{Pack, Raft};
use hale_model::NodeId;
use hale_model::ledger::{Answer, Command, Refusal};
use openraft::error::{ClientWriteError, RaftError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

type WriteError = RaftError<u64, ClientWriteError<u64, crate::types::Peer>>;

/// Whom this node's removals, on their way to the log, take away: the next one is judged by what
/// they leave. One whose fate is not known counts until the term ends.
#[derive(Default)]
pub(crate) struct UnderWay(Mutex<(u64, BTreeSet<NodeId>)>);

/// Who votes, and who of them can be counted on.
struct Votes {
    /// The voters; both halves while they change.
    sets: Vec<BTreeSet<NodeId>>,
    /// Enrolled and alive.
    live: BTreeSet<NodeId>,
}

impl Votes {
    /// Whether a majority of each set is left without these; else how many of how many are.
    fn without(&self, gone: &BTreeSet<NodeId>) -> Result<(), (u64, u64)> {
        for set in &self.sets {
            let left = set
                .iter()
                .filter(|n| self.live.contains(n) && !gone.contains(n));
            let (left, all) = (left.count(), set.len());
            if left <= all / 2 {
                return Err((left as u64, all as u64));
            }
        }
        Ok(())
    }

    fn has(&self, node: &NodeId) -> bool {
        self.sets.iter().any(|set| set.contains(node))
    }
}

/// Splits a pack into what may be written and the refusals, by their place.
fn judge(
    pack: Pack,
    votes: &Votes,
    gone: &mut BTreeSet<NodeId>,
) -> (Pack, BTreeMap<usize, Refusal>) {
    let mut refused = BTreeMap::new();
    let mut allowed = vec![];
    for (place, command) in pack.0.into_iter().enumerate() {
        if let Command::Remove { node, .. } = &command
            && votes.has(node)
        {
            let mut then = gone.clone();
            then.insert(*node);
            if let Err((left, voters)) = votes.without(&then) {
                refused.insert(place, Refusal::NoMajority { left, voters });
                continue;
            }
            *gone = then;
        }
        allowed.push(command);
    }
    (Pack(allowed), refused)
}

/// Puts each refusal back at its place among the answers.
fn answered(written: Vec<Answer>, refused: BTreeMap<usize, Refusal>) -> Vec<Answer> {
    let mut answers = written;
    for (place, refusal) in refused {
        answers.insert(place.min(answers.len()), Answer::Refused(refusal));
    }
    answers
}

/// Writes a pack, if this node leads, but for removals that leave no majority: those are refused.
pub(crate) async fn write(
    shell: &Shell,
    raft: &Raft,
    pack: Pack,
) -> Result<Vec<Answer>, WriteError> {
    let removed: Vec<NodeId> = pack.0.iter().filter_map(removal_of).collect();
    if removed.is_empty() || !shell.leads() {
        return raft.client_write(pack).await.map(|written| written.data);
    }
    let (allowed, refused) = shell.judge(raft, pack);
    if allowed.0.is_empty() {
        return Ok(answered(vec![], refused));
    }
    let written = raft.client_write(allowed).await?;
    // From here on the roster tells.
    locked(&shell.removals.0).1.retain(|n| !removed.contains(n));
    Ok(answered(written.data, refused))
}

fn removal_of(command: &Command) -> Option<NodeId> {
    match command {
        Command::Remove { node, .. } => Some(*node),
        _ => None,
    }
}

impl Shell {
    fn judge(&self, raft: &Raft, pack: Pack) -> (Pack, BTreeMap<usize, Refusal>) {
        // Held before the roster is read: what is taken out of it meanwhile the roster tells.
        let mut under_way = locked(&self.removals.0);
        let metrics = raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let node_of = |id: &u64| membership.get_node(id).map(|p| p.node);
        let sets = membership.get_joint_config().iter();
        let sets: Vec<BTreeSet<NodeId>> = sets
            .map(|half| half.iter().filter_map(node_of).collect())
            .collect();
        let alive = self.asker.transport.alive();
        let is_alive = |node: &NodeId| {
            let known = alive.as_ref();
            *node == self.me.node || known.is_none_or(|a| a.iter().any(|a| a.peer.node == *node))
        };
        let live = {
            let ledger = self.ledger.read();
            let voters = sets.iter().flatten();
            let live = voters.filter(|n| ledger.is_enrolled(n) && is_alive(n));
            live.copied().collect()
        };
        let votes = Votes { sets, live };
        if under_way.0 != metrics.current_term {
            *under_way = (metrics.current_term, BTreeSet::new());
        }
        judge(pack, &votes, &mut under_way.1)
    }
}

#[cfg(test)]
mod tests;
