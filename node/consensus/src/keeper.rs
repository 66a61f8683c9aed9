//! The shell around [`crate::expiry`]: tells it when this node leads and what the ledger did, and
//! proposes what it says.

use crate::clock::Clock;
use crate::expiry::{self, Effect, Event, Expiry};
use crate::ledger::News;
use crate::shell::{Running, Shell};
use hale_audit::abandoned;
use hale_model::ledger::{ApprovalState, Command, Disposition, EntryKind, LedgerError, Signed};
use hale_model::{ApprovalId, Fence, OutcomeStatus, canonical};
use openraft::ServerState;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

const IDLE: Duration = Duration::from_secs(3600);

/// Runs for as long as the node does, over every restart of its Raft.
pub(crate) async fn run(shell: Arc<Shell>, mut news: broadcast::Receiver<News>) {
    let clock = Clock::start();
    let mut runs = shell.watch_running();
    loop {
        let running = runs.borrow_and_update().clone();
        if let Some(running) = running {
            keep(&shell, &running, &clock, &mut news).await;
        }
        if runs.changed().await.is_err() {
            return;
        }
    }
}

/// Until this Raft ends.
async fn keep(
    shell: &Arc<Shell>,
    running: &Running,
    clock: &Clock,
    news: &mut broadcast::Receiver<News>,
) {
    let mut server = running.raft.server_metrics();
    let mut expiry = Expiry::default();
    // The term in which this node leads.
    let mut leads_in = None;
    loop {
        let term = {
            let m = server.borrow_and_update();
            (m.state == ServerState::Leader).then_some(m.vote.leader_id.term)
        };
        if term != leads_in {
            leads_in = term;
            let event = match term {
                Some(_) => Event::Leading(expiry::open(&shell.ledger.read())),
                None => Event::Following,
            };
            expiry.on(clock.now(), event);
        }
        let wait = expiry
            .next_due()
            .map_or(IDLE, |due| due.saturating_sub(clock.now()));
        let events = tokio::select! {
            changed = server.changed() => match changed {
                Ok(()) => vec![],
                Err(_) => return,
            },
            one = news.recv() => match one {
                Ok(one) => expiry::events_of(&one),
                // Too much happened at once: begin anew from what is open.
                Err(RecvError::Lagged(_)) => {
                    leads_in = None;
                    vec![]
                }
                Err(RecvError::Closed) => return,
            },
            () = tokio::time::sleep(wait) => vec![Event::Tick],
        };
        let effects = events.into_iter().flat_map(|e| expiry.on(clock.now(), e));
        let effects: Vec<_> = effects.collect();
        for effect in effects {
            let shell = Arc::clone(shell);
            tokio::spawn(async move { perform(&shell, effect).await });
        }
    }
}

/// What is not taken now is proposed again by the machine.
async fn perform(shell: &Shell, effect: Effect) {
    let command = match &effect {
        Effect::Propose(command)
            if matches!(**command, Command::Rules { .. }) && !all_run_this_release(shell) =>
        {
            None
        }
        Effect::Propose(command) => Some(command.as_ref().clone()),
        Effect::CloseApproval(id) => closing(shell, id),
        Effect::CloseOrphan(fence) => abandoning(shell, *fence),
    };
    let Some(command) = command else {
        return;
    };
    let patience = shell.config.timeouts.write;
    match shell.queue.propose(command, patience).await {
        Ok(answer) => tracing::debug!(?effect, ?answer, "ran out"),
        Err(LedgerError::Stopping) => {}
        Err(error) => tracing::warn!(?effect, %error, "it ran out, but that can't be written yet"),
    }
}

/// Whether nobody who is alive runs another version than this node: who does not know the newer
/// rules can't go on after them.
fn all_run_this_release(shell: &Shell) -> bool {
    let alive = shell.asker.transport.alive().unwrap_or_default();
    alive.iter().all(|a| a.release == env!("CARGO_PKG_VERSION"))
}

fn closing(shell: &Shell, id: &ApprovalId) -> Option<Command> {
    let incident = shell.ledger.read().approval(id)?.incident.clone();
    let body = canonical::to_bytes(&serde_json::json!({
        "schema": "hale.approval.v1",
        "approval": id,
        "incident": incident,
        "state": ApprovalState::Expired,
        "at": crate::shell::wall_clock(),
    }));
    let entry = Signed::new(EntryKind::Approval, body.ok()?, &shell.config.key);
    Some(Command::CloseApproval {
        approval: id.clone(),
        state: ApprovalState::Expired,
        entry,
    })
}

/// The node can't say how it ended: this one says that it is not known.
fn abandoning(shell: &Shell, fence: Fence) -> Option<Command> {
    let lease = shell.ledger.read().lease(fence).cloned()?;
    let reason = "its node was removed from the cluster; how far it came is not known";
    let at = crate::shell::wall_clock();
    Some(Command::Close {
        fence,
        holder: lease.holder,
        disposition: Disposition::Abandoned,
        outcome: OutcomeStatus::Abandoned,
        entry: abandoned::sign(&lease, reason, at, &shell.config.key),
    })
}
