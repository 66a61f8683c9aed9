//! How a leader gives up the lead in good order. openraft 0.9 has no leadership transfer: the
//! leader takes no more writes, waits until its successor has all of the log, falls silent, and
//! has the successor stand for election once the others' leases have run out.

use crate::network::{Lane, Reply, Request};
use crate::shell::{Running, Shell};
use crate::store::locked;
use crate::types::Peer;
use hale_model::NodeId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the successor may take to have all of the log.
const CATCH_UP: Duration = Duration::from_secs(2);
/// How long it may take to be elected.
const ELECTED: Duration = Duration::from_secs(4);
/// Who acknowledged something within this time is fit to succeed.
const RECENT: Duration = Duration::from_secs(1);
/// A sync of the log that takes longer than this is a stuck disk.
pub(crate) const STUCK: Duration = Duration::from_secs(2);
/// How often the disk is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Why the lead was not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandoverError {
    /// This node does not lead.
    #[error("this node does not lead; `hale leader` tells who does")]
    NotLeading,
    /// Nobody could take over.
    #[error("no other node of the group is in touch; `hale voters` shows it")]
    Nobody,
    /// The one that was asked for can't.
    #[error("node {} is no voter that is in touch; `hale voters` shows the group", .0.short())]
    Unfit(NodeId),
    /// Another handover goes on.
    #[error("the lead is being handed over already")]
    GoesOn,
    /// It was not elected in time: this node leads on, or a third one does.
    #[error("node {} was not elected; `hale leader` tells who leads, try again", .0.short())]
    NotElected(NodeId),
}

/// Hands the lead over, to a given voter or to the one that is best caught up.
pub(crate) async fn transfer(
    shell: &Arc<Shell>,
    to: Option<NodeId>,
) -> Result<NodeId, HandoverError> {
    let running = shell.running().map_err(|_| HandoverError::NotLeading)?;
    if !shell.leads() {
        return Err(HandoverError::NotLeading);
    }
    if running.group().voters.len() == 1 {
        return give_the_vote(shell, &running, to).await;
    }
    let successor = successor(shell, &running, to)?;
    if shell.standing.yields.swap(true, Ordering::Relaxed) {
        return Err(HandoverError::GoesOn);
    }
    let handed = hand_over(shell, &running, &successor).await;
    running.raft.runtime_config().heartbeat(true);
    shell.standing.yields.store(false, Ordering::Relaxed);
    handed.map(|()| successor.node)
}

/// The only voter can't be outvoted: it gives its vote to one that stands by, which then leads.
async fn give_the_vote(
    shell: &Shell,
    running: &Running,
    to: Option<NodeId>,
) -> Result<NodeId, HandoverError> {
    let acks = locked(&shell.asker.acks).clone();
    let in_touch = |p: &&Peer| acks.get(&p.node).is_some_and(|at| at.elapsed() < RECENT);
    let learners = running.group().learners;
    let mut fit = learners.iter().filter(in_touch);
    let next = match to {
        Some(node) => fit
            .find(|p| p.node == node)
            .ok_or(HandoverError::Unfit(node))?,
        None => fit.next().ok_or(HandoverError::Nobody)?,
    };
    let not_elected = HandoverError::NotElected(next.node);
    let voters = BTreeSet::from([next.node.raft_id()]);
    let changed = running.raft.change_membership(voters, false);
    let changed = tokio::time::timeout(ELECTED, changed).await;
    if !matches!(changed, Ok(Ok(_))) {
        return Err(not_elected);
    }
    let began = Instant::now();
    while shell.group().leader != Some(next.node) {
        if began.elapsed() > ELECTED {
            return Err(not_elected);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(next.node)
}

fn successor(shell: &Shell, running: &Running, to: Option<NodeId>) -> Result<Peer, HandoverError> {
    let acks = locked(&shell.asker.acks).clone();
    let group = running.group();
    let metrics = running.raft.metrics().borrow().clone();
    let matched = |p: &Peer| {
        let replication = metrics.replication.as_ref();
        replication.and_then(|r| r.get(&p.node.raft_id()).copied().flatten())
    };
    let in_touch = |p: &&Peer| {
        p.node != shell.me.node && acks.get(&p.node).is_some_and(|at| at.elapsed() < RECENT)
    };
    let mut fit = group.voters.iter().filter(in_touch);
    match to {
        Some(node) => fit
            .rfind(|p| p.node == node)
            .cloned()
            .ok_or(HandoverError::Unfit(node)),
        None => fit
            .max_by_key(|p| matched(p))
            .cloned()
            .ok_or(HandoverError::Nobody),
    }
}

async fn hand_over(
    shell: &Shell,
    running: &Running,
    successor: &Peer,
) -> Result<(), HandoverError> {
    let id = successor.node.raft_id();
    let began = Instant::now();
    let caught_up = || {
        let metrics = running.raft.metrics();
        let m = metrics.borrow();
        let matched = m
            .replication
            .as_ref()
            .and_then(|r| r.get(&id).copied().flatten());
        matched.map(|l| l.index) >= m.last_log_index
    };
    while !caught_up() && began.elapsed() < CATCH_UP {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.raft.runtime_config().heartbeat(false);
    let patience = shell.config.timeouts.forward;
    let asked = shell
        .asker
        .ask(successor, Lane::Urgent, &Request::TakeOver, patience)
        .await;
    if !matches!(asked, Ok(Reply::Taken)) {
        return Err(HandoverError::NotElected(successor.node));
    }
    let began = Instant::now();
    while began.elapsed() < ELECTED {
        match running.group().leader {
            Some(node) if node == successor.node => return Ok(()),
            // Another voter may have stood first.
            Some(node) if node != shell.me.node => break,
            Some(_) | None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    Err(HandoverError::NotElected(successor.node))
}

/// A leader whose disk is full or stuck falls silent, so that another is elected, until its disk
/// takes writes again.
pub(crate) async fn watch_the_disk(shell: Arc<Shell>) {
    let mut silent = false;
    while !shell.is_stopping() {
        tokio::time::sleep(LOOK).await;
        let Ok(running) = shell.running() else {
            continue;
        };
        let stuck = running.log.syncs().oldest().filter(|t| *t > STUCK);
        let trouble = match (stuck, shell.has_room()) {
            (Some(t), _) => Some(format!("the log's disk has not answered for {t:?}")),
            (None, Err(e)) => Some(e.to_string()),
            (None, Ok(())) => None,
        };
        let others = running.group().voters.len() > 1;
        match trouble {
            Some(why) if others && !silent && shell.leads() => {
                tracing::error!(why, "this node gives up the lead: another shall be elected");
                silent = true;
                shell.standing.yields.store(true, Ordering::Relaxed);
                running.raft.runtime_config().heartbeat(false);
            }
            None if silent => {
                tracing::info!("the log's disk takes writes again");
                silent = false;
                shell.standing.yields.store(false, Ordering::Relaxed);
                running.raft.runtime_config().heartbeat(true);
            }
            _ => {}
        }
    }
}
