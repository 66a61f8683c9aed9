//! Whose word counts in Raft: the members of the cluster are many, the voters few, and only a voter
//! may lead.
//!
//! Raft's own rule is to hear everyone and to follow whoever has the higher term (§5.1), since a
//! node whose membership is old must be able to take in the newer one. But here every member of
//! the cluster can open a connection, and nearly all of them are outside the group: one `Vote` with
//! a huge term would depose any leader, one `Append` would write anything into the ledger. So what
//! only a leader or a candidate says is heard from voters alone, by the newest membership that this
//! node has, committed or not:
//!
//! - While a leader is heard, its membership is this node's own log's. Nobody else could be elected
//!   in that time: a majority gives no vote within the leader's lease.
//! - Without a leader this node may have missed a change. It then also goes by the group as it was
//!   told ([`crate::mirror`]); outside the group and freshly told, by that alone. Who is refused
//!   raises a doubt, and a doubt has the members that are known asked who is in the group now. They
//!   are asked by this node, over connections of its choice; the one that was refused can't answer
//!   for them.
//! - A node that knows no group at all hears everyone: it has nothing that could be spoiled.
//!
//! No election is lost by this. A candidate whose membership a voter lacks either wins without that
//! voter, and the voter is told; or it does not, and then another voter, known to both and with all
//! that was committed, wins in its place: of two memberships that follow each other each majority
//! of the one shares a node with each of the other (§6). If that one is gone too, the doubt ends
//! the wait after a lease and [`crate::mirror`]'s next look.
//!
//! A voter that lies is beyond Raft, which trusts its voters. It still can't stop a node: terms that
//! no election reaches and entries out of order are refused.

use crate::shell::{Running, Shell};
use crate::types::{Group, Types, Vote};
use hale_model::NodeId;
use openraft::raft::AppendEntriesRequest;
use std::sync::atomic::Ordering;

/// A term so far beyond the known one comes from no election: at ten a second it takes 13 years.
/// Without a bound the last term could be claimed, after which nobody could be elected.
const MAX_TERMS_AHEAD: u64 = 1 << 32;

impl Shell {
    /// Whether this peer may lead, or stand to lead, as far as this node knows. Who may not is
    /// inquired about.
    pub(crate) fn may_lead(&self, running: &Running, peer: &NodeId) -> bool {
        let is_inside = running.seat(&self.me.node).is_some();
        let is_led = self.standing.silence() < self.config.timeouts.election_max;
        let may = if is_inside && is_led {
            running.seat(peer) == Some(true)
        } else {
            let (own, told) = (running.group(), self.mirror.group());
            let is_told = self.mirror.is_fresh() && told.term >= own.term;
            voices(&own, &told, !is_inside && is_told).any(|v| v == *peer)
                || own.voters.is_empty() && told.voters.is_empty()
        };
        if !may {
            self.standing.doubted.store(true, Ordering::Relaxed);
        }
        may
    }
}

/// Who may lead where no leader is heard.
fn voices<'a>(
    own: &'a Group,
    told: &'a Group,
    told_alone: bool,
) -> impl Iterator<Item = NodeId> + 'a {
    let own_counts = !told_alone;
    let told_counts = told_alone || told.term >= own.term;
    let own = own.voters.iter().filter(move |_| own_counts);
    let told = told.voters.iter().filter(move |_| told_counts);
    own.chain(told).map(|p| p.node)
}

/// Whether an election may have led from one term to the other.
pub(crate) fn is_near(known_term: u64, vote: &Vote) -> bool {
    vote.leader_id.term <= known_term.saturating_add(MAX_TERMS_AHEAD)
}

/// Whether the entries follow each other, and none is of a later term than its leader: openraft
/// takes that for granted.
pub(crate) fn is_in_order(rpc: &AppendEntriesRequest<Types>) -> bool {
    let mut last = rpc.prev_log_id;
    rpc.entries.iter().all(|entry| {
        let id = entry.log_id;
        let follows = last.map_or(id.index == 0, |l| {
            l.index.checked_add(1) == Some(id.index) && l.leader_id <= id.leader_id
        });
        last = Some(id);
        follows && id.leader_id <= rpc.vote.leader_id
    })
}
