//! The shell around [`crate::seats`]: on the leader, looks at who is alive and caught up, asks the
//! plan for the next change of seats, and has openraft make it. One change at a time.

use crate::network::Alive;
use crate::seats::{self, Candidate, Change};
use crate::shell::{Running, Shell};
use crate::store::locked;
use crate::types::Peer;
use hale_model::NodeId;
use openraft::ChangeMembers;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the seats are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// A change that takes longer is asked for again.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many entries behind the leader is caught up.
const CAUGHT_UP: u64 = 200;

/// Runs for as long as the node does.
pub(crate) async fn run(shell: Arc<Shell>) {
    let mut leads_since = None;
    while !shell.is_stopping() {
        tokio::time::sleep(LOOK).await;
        let Ok(running) = shell.running() else {
            leads_since = None;
            continue;
        };
        if !shell.leads() {
            leads_since = None;
            *locked(&shell.standing.plan) = None;
            continue;
        }
        let since: Instant = *leads_since.get_or_insert_with(Instant::now);
        let Some(alive) = shell.asker.transport.alive() else {
            return;
        };
        let alive: BTreeMap<NodeId, Alive> = alive.into_iter().map(|a| (a.peer.node, a)).collect();
        let next = next(&shell, &running, &alive, since.elapsed());
        *locked(&shell.standing.plan) = next.as_ref().map(ToString::to_string);
        let Some(change) = next else { continue };
        tracing::info!(%change, "the seats of the group change");
        match tokio::time::timeout(PATIENCE, make(&running, &change, &alive)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%change, error, "the seats could not be changed yet"),
            Err(_) => tracing::warn!(%change, "the seats were not changed within {PATIENCE:?}"),
        }
    }
}

fn next(
    shell: &Shell,
    running: &Running,
    alive: &BTreeMap<NodeId, Alive>,
    leading_for: Duration,
) -> Option<Change> {
    let group = running.group();
    let metrics = running.raft.metrics().borrow().clone();
    let membership = metrics.membership_config.membership();
    let node_of = |id: &u64| membership.get_node(id).map(|p| p.node);
    let joint = membership.get_joint_config();
    let newer: BTreeSet<NodeId> = joint
        .last()
        .map(|half| half.iter().filter_map(node_of).collect())
        .unwrap_or_default();
    // What is not committed yet is not changed again.
    if metrics.membership_config.log_id().map(|id| id.index)
        > metrics.last_applied.map(|id| id.index)
    {
        return None;
    }
    let matched: BTreeMap<NodeId, u64> = metrics
        .replication
        .iter()
        .flatten()
        .filter_map(|(id, log)| Some((node_of(id)?, log.map_or(0, |l| l.index))))
        .collect();
    let last = metrics.last_log_index.unwrap_or(0);
    let acks = locked(&shell.asker.acks).clone();
    let seated: BTreeSet<NodeId> = group.members().map(|p| p.node).collect();
    let candidate = |node: NodeId| {
        if node == shell.me.node {
            return Candidate {
                node,
                zone: shell.config.zone.clone(),
                alive_for: Some(Duration::MAX),
                silent_for: Some(Duration::ZERO),
                caught_up: true,
                fit: true,
            };
        }
        let known = alive.get(&node);
        let acknowledged = acks.get(&node).map(Instant::elapsed);
        let silent_for = seated
            .contains(&node)
            .then(|| acknowledged.unwrap_or(leading_for).min(leading_for));
        Candidate {
            node,
            zone: known.map(|a| a.zone.clone()).unwrap_or_default(),
            alive_for: known.map(|a| a.since),
            silent_for,
            caught_up: matched.get(&node).is_some_and(|m| m + CAUGHT_UP >= last),
            fit: true,
        }
    };
    let roster: Vec<Candidate> = {
        let ledger = shell.ledger.read();
        ledger.roster().map(|(node, _)| candidate(*node)).collect()
    };
    let group = seats::Group {
        voters: group.voters.iter().map(|p| p.node).collect(),
        learners: group.learners.iter().map(|p| p.node).collect(),
        leader: shell.me.node,
        is_joint: joint.len() > 1,
        joint_target: newer,
    };
    seats::plan(&group, &roster, &shell.config.seats)
}

async fn make(
    running: &Running,
    change: &Change,
    alive: &BTreeMap<NodeId, Alive>,
) -> Result<(), String> {
    let text = |e: &dyn std::error::Error| e.to_string();
    match change {
        Change::AddLearner(node) => {
            let peer = alive.get(node).map(|a| a.peer.clone());
            let peer: Peer = peer.ok_or("it is not alive any more")?;
            let added = running.raft.add_learner(node.raft_id(), peer, false).await;
            added.map(drop).map_err(|e| text(&e))
        }
        Change::RemoveLearner(node) => {
            let gone = ChangeMembers::RemoveNodes(BTreeSet::from([node.raft_id()]));
            let changed = running.raft.change_membership(gone, false).await;
            changed.map(drop).map_err(|e| text(&e))
        }
        Change::SetVoters(voters) | Change::FinishJoint(voters) => {
            let ids: BTreeSet<u64> = voters.iter().map(NodeId::raft_id).collect();
            let changed = running.raft.change_membership(ids, false).await;
            changed.map(drop).map_err(|e| text(&e))
        }
    }
}
