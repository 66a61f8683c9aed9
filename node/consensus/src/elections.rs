//! The shell around [`crate::campaign`]: feeds it what this node hears of leaders, asks the others
//! whether they would vote, and has openraft stand for election.

use crate::campaign::{Campaign, Effect, Event, Settings};
use crate::network::{Lane, Reply, Request};
use crate::shell::{Running, Shell};
use crate::types::LogId;
use hale_model::NodeId;
use openraft::ServerState;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Nothing is looked at for longer than this.
const LOOK: Duration = Duration::from_secs(1);
/// Answers that wait to be heard.
const ANSWERS: usize = 64;

/// A round, who answered, and whether it would vote for this node.
type PreVoted = (u64, NodeId, bool);

/// Runs for as long as the node does, over every restart of its Raft.
pub(crate) async fn run(shell: Arc<Shell>) {
    let mut runs = shell.watch_running();
    loop {
        let running = runs.borrow_and_update().clone();
        if let Some(running) = running {
            stand(&shell, &running).await;
        }
        if runs.changed().await.is_err() {
            return;
        }
    }
}

/// Until this Raft ends.
async fn stand(shell: &Arc<Shell>, running: &Running) {
    let began = Instant::now();
    let timeouts = &shell.config.timeouts;
    let settings = Settings {
        lease: timeouts.election_max,
        spread: timeouts.spread,
        retry: timeouts.spread,
    };
    let seed = (crate::clock::jitter() * 1e9) as u64 ^ shell.me.node.raft_id();
    let mut campaign = Campaign::new(settings, seed);
    let mut server = running.raft.server_metrics();
    let mut take_over = shell.standing.take_over.subscribe();
    take_over.mark_unchanged();
    let (send, mut answers) = mpsc::channel::<PreVoted>(ANSWERS);
    let (mut heard, mut leads, mut able) = (None, None, None);
    let mut voters = BTreeSet::new();
    loop {
        let mut events = vec![];
        {
            let m = server.borrow_and_update();
            let now_leads = m.state == ServerState::Leader;
            if leads != Some(now_leads) {
                leads = Some(now_leads);
                events.push(if now_leads {
                    Event::Leading
                } else {
                    Event::Following
                });
            }
            let membership = m.membership_config.membership();
            let now_voters: BTreeSet<NodeId> = membership
                .voter_ids()
                .filter_map(|id| membership.get_node(&id).map(|p| p.node))
                .collect();
            if now_voters != voters {
                voters.clone_from(&now_voters);
                let me = shell.me.node;
                events.push(Event::Group {
                    voters: now_voters,
                    me,
                });
            }
        }
        let now_able = shell.is_able();
        if able != Some(now_able) {
            able = Some(now_able);
            events.push(Event::Able(now_able));
        }
        let mut effects = vec![];
        let last_heard = shell.standing.heard_at().filter(|at| *at >= began);
        if last_heard != heard
            && let Some(at) = last_heard
        {
            heard = last_heard;
            effects.extend(campaign.on(at.duration_since(began), Event::HeardLeader));
        }
        for event in events {
            effects.extend(campaign.on(began.elapsed(), event));
        }
        effects.extend(campaign.on(began.elapsed(), Event::Tick));
        for effect in effects {
            perform(shell, running, effect, &send).await;
        }
        let wait = campaign
            .next_due()
            .map_or(LOOK, |due| due.saturating_sub(began.elapsed()).min(LOOK));
        tokio::select! {
            changed = server.changed() => if changed.is_err() { return },
            Some((round, from, granted)) = answers.recv() => {
                let event = Event::PreVoted { round, from, granted };
                for effect in campaign.on(began.elapsed(), event) {
                    perform(shell, running, effect, &send).await;
                }
            }
            Ok(()) = take_over.changed() => {
                for effect in campaign.on(began.elapsed(), Event::TakeOver) {
                    perform(shell, running, effect, &send).await;
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn perform(
    shell: &Arc<Shell>,
    running: &Running,
    effect: Effect,
    answers: &mpsc::Sender<PreVoted>,
) {
    match effect {
        Effect::Elect => {
            tracing::info!(
                "no leader is heard and a majority agrees: this node stands for election"
            );
            if let Err(error) = running.raft.trigger().elect().await {
                tracing::warn!(%error, "this node can't stand for election");
            }
        }
        Effect::AskPreVotes { round, of } => {
            let last = running.log.last();
            let group = running.group();
            for node in of {
                let Some(peer) = group.voters.iter().find(|p| p.node == node).cloned() else {
                    continue;
                };
                let (shell, answers) = (Arc::clone(shell), answers.clone());
                tokio::spawn(async move {
                    let patience = shell.config.timeouts.election_max;
                    let request = Request::PreVote(last);
                    let asked = shell
                        .asker
                        .ask(&peer, Lane::Urgent, &request, patience)
                        .await;
                    if let Ok(Reply::PreVoted(granted)) = asked {
                        // Nobody waits for it once this Raft has ended.
                        let _ = answers.try_send((round, node, granted));
                    }
                });
            }
        }
    }
}

impl Shell {
    /// Whether this node would vote for one whose log ends at `last`: it does not lead, no leader
    /// was heard within the lease, and its own log is no longer (Raft §5.4.1, §9.6).
    pub(crate) fn would_vote(&self, running: &Running, last: Option<LogId>) -> bool {
        let lease = self.config.timeouts.election_max;
        // A leader that lost its quorum is none any more.
        let leads = self.leads() && self.age().is_some_and(|age| age < lease);
        !leads && self.standing.silence() >= lease && last >= running.log.last()
    }
}
