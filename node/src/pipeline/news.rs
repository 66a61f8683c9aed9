//! What the ledger tells by itself, and what this node tells it unasked.

use super::unrun::Seen;
use super::{ASK_LATER, Line, OWN_ACTION};
use crate::levels;
use crate::telling::Subject;
use hale_consensus::News;
use hale_consensus::ledger::RULES_WITH_EDITIONS;
use hale_decision::autonomy::Level;
use hale_executor::actor as executor;
use hale_model::ledger::{Answer, Command, MAX_EDITIONS, Sighting};
use hale_model::{Decision, Digest, Incident, PlaybookName, Route, Stage};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Between two attempts to tell the ledger what runs here.
const TELL_AGAIN: Duration = Duration::from_secs(5);

impl Line {
    pub(super) async fn follow_ledger(self: Arc<Self>) {
        let mut news = self.parts.consensus.subscribe();
        loop {
            match news.recv().await {
                Ok(news) => self.hear(news),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "the ledger's news came faster than they were heard");
                    self.catch_up();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Tells the ledger what this host runs, and which texts its playbooks have.
    pub(super) async fn tell_what_runs(self: Arc<Self>) {
        self.tell_services().await;
        self.tell_editions().await;
    }

    /// Which texts the playbooks have here: what a playbook earned is of one text. Told once, so that
    /// two nodes with other texts do not take turns.
    async fn tell_editions(&self) {
        let mut left: Vec<(PlaybookName, Digest)> = self.parts.library.editions();
        while !left.is_empty() {
            let follows = self.parts.consensus.read_stale(|l| {
                left.retain(|(playbook, digest)| l.edition(playbook) != Some(*digest));
                l.rules() >= RULES_WITH_EDITIONS
            });
            if follows && !left.is_empty() {
                let now = left.len().min(MAX_EDITIONS);
                let command = Command::Editions {
                    node: self.parts.key.node_id(),
                    editions: left[..now].to_vec(),
                };
                match self.parts.consensus.propose(command).await {
                    Ok(Answer::Refused(refusal)) => {
                        tracing::warn!(%refusal, "the ledger does not take which playbooks there are");
                        return;
                    }
                    Ok(_) => {
                        left.drain(..now);
                        continue;
                    }
                    Err(_) => {}
                }
            }
            tokio::time::sleep(TELL_AGAIN).await;
        }
    }

    /// Tells the ledger what became of an incident whose playbook did not run. What is not told is
    /// not counted.
    pub(super) fn tell_seen(self: &Arc<Self>, seen: Vec<Seen>) {
        if self
            .parts
            .consensus
            .read_stale(hale_consensus::Ledger::rules)
            < RULES_WITH_EDITIONS
        {
            return;
        }
        for Seen {
            playbook,
            service,
            what,
        } in seen
        {
            let library = &self.parts.library;
            let is_of_another =
                |l: &hale_consensus::Ledger| levels::is_of_another_text(l, library, &playbook);
            if self.parts.consensus.read_stale(is_of_another) {
                continue;
            }
            let line = Arc::clone(self);
            tokio::spawn(async move {
                if let Sighting::Agreed | Sighting::Disagreed = what {
                    let was = if what == Sighting::Agreed {
                        "right"
                    } else {
                        "wrong"
                    };
                    tracing::info!(%playbook, "in shadow it was {was}");
                }
                let command = Command::Seen {
                    node: line.parts.key.node_id(),
                    playbook,
                    service,
                    what,
                };
                if let Err(e) = line.parts.consensus.propose(command).await {
                    tracing::debug!("what became of an incident is not counted: {e}");
                }
            });
        }
    }

    /// Remembers which playbook was chosen where it may not run alone.
    pub(super) fn note_unrun(&self, incident: &Incident, decision: &Decision) {
        let chosen = decision
            .chosen()
            .filter(|_| decision.route != Route::Execute);
        let Some(playbook) = chosen.map(|m| m.playbook.clone()) else {
            return self.unrun.forget(&incident.id);
        };
        let service = incident.service.clone();
        let library = &self.parts.library;
        let history =
            |l: &hale_consensus::Ledger| levels::history(l, library, &playbook, service.as_ref());
        let asked = levels::Asked {
            playbook: &playbook,
            service: service.as_ref(),
            history: self.parts.consensus.read_stale(history),
        };
        let (level, policy) = levels::of(&self.parts.config, &self.parts.library, &asked);
        // What merely came first of those that do not fit says nothing of it.
        if decision.confidence.total < policy.ask {
            return self.unrun.forget(&incident.id);
        }
        let is_shadow = level == Level::Shadow;
        self.unrun.chosen(incident, playbook, is_shadow);
    }

    /// Tells the ledger what this host runs, until it knows: budgets count it.
    async fn tell_services(&self) {
        let services = self.parts.config.services_here();
        let node = self.parts.key.node_id();
        let known = |l: &hale_consensus::Ledger| l.services(&node) == services;
        while !self.parts.consensus.read_stale(known) {
            let command = Command::Services {
                node,
                services: services.clone(),
            };
            if let Ok(Answer::Refused(refusal)) = self.parts.consensus.propose(command).await {
                tracing::warn!(%refusal, "the ledger does not take what runs here");
                return;
            }
            tokio::time::sleep(TELL_AGAIN).await;
        }
    }

    /// What was missed of the ledger's news and matters to a run: how approvals stand, and whether
    /// the cluster is frozen; and what this node holds.
    pub(super) fn catch_up(&self) {
        let me = self.parts.key.node_id();
        let (approvals, leases, frozen) = self.parts.consensus.read_stale(|l| {
            let mine: Vec<_> = l.approvals().filter(|a| a.node == me).cloned().collect();
            let held: Vec<_> = l.leases().filter(|l| l.holder == me).cloned().collect();
            (mine, held, l.frozen().is_some())
        });
        for lease in leases {
            let granted = executor::Message::Granted(Box::new(lease));
            self.slots.executor.tell(granted);
        }
        for approval in approvals {
            self.slots
                .executor
                .tell(executor::Message::ApprovalChanged(Box::new(approval)));
        }
        self.slots.executor.tell(executor::Message::Frozen(frozen));
    }

    fn hear(&self, news: News) {
        match news {
            // What changed in between is not told: as after news that were missed.
            News::Replaced => self.catch_up(),
            News::Granted(lease) if lease.holder == self.parts.key.node_id() => {
                let granted = executor::Message::Granted(Box::new(lease.clone()));
                self.slots.executor.tell(granted);
                let now = crate::answers::now();
                if let Some(service) = &lease.service {
                    let filter = hale_baseline::SeriesFilter {
                        series: None,
                        service: Some(service.to_string()),
                    };
                    let until = now.plus(OWN_ACTION);
                    self.slots
                        .baseline
                        .tell(hale_baseline::actor::Message::Exclude {
                            filter,
                            from: now,
                            until,
                            reply: None,
                        });
                }
            }
            News::Approval { id, node, .. } if node == self.parts.key.node_id() => {
                let found = self
                    .parts
                    .consensus
                    .read_stale(|l| l.approval(&id).cloned());
                if let Some(approval) = found {
                    self.tell_approval(&approval);
                    self.slots
                        .executor
                        .tell(executor::Message::ApprovalChanged(Box::new(approval)));
                }
            }
            News::Frozen { frozen, by, reason } => {
                let text = if frozen {
                    format!("frozen by {by}: {reason}")
                } else {
                    format!("thawed by {by}")
                };
                let subject = Subject {
                    incident: None,
                    host: self.parts.host.clone(),
                    service: None,
                };
                let detail = serde_json::json!({"frozen": frozen, "by": by, "reason": reason});
                self.parts.feed.tell(subject.says(
                    crate::answers::now(),
                    Stage::Frozen,
                    text,
                    detail,
                ));
                self.slots.executor.tell(executor::Message::Frozen(frozen));
            }
            _ => {}
        }
    }

    fn tell_approval(&self, approval: &hale_model::ledger::Approval) {
        use hale_model::ledger::ApprovalState as S;
        let service = serde_json::from_slice::<serde_json::Value>(&approval.plan)
            .ok()
            .and_then(|shown| serde_json::from_value(shown["plan"]["service"].clone()).ok())
            .flatten();
        let subject = Subject {
            incident: Some(approval.incident.clone()),
            host: approval.host.clone(),
            service,
        };
        let text = match approval.state {
            // The executor tells that it asks; here only those who are not looking are told.
            S::Waiting => return self.ask_by_webhook(approval),
            S::Used => return,
            state => {
                let by = approval.answered_by.as_deref().unwrap_or("nobody");
                format!("{} is {state:?} ({by})", approval.id)
            }
        };
        let detail = serde_json::json!({"approval": approval.id, "state": approval.state});
        self.parts
            .feed
            .tell(subject.says(crate::answers::now(), Stage::Answered, text, detail));
    }

    /// A question that the next rounds answer by themselves disturbs nobody.
    fn ask_by_webhook(&self, approval: &hale_model::ledger::Approval) {
        let (notifier, consensus, approval) = (
            self.notifier.clone(),
            Arc::clone(&self.parts.consensus),
            approval.clone(),
        );
        let later = self
            .parts
            .config
            .telemetry
            .interval
            .0
            .saturating_mul(2)
            .min(ASK_LATER);
        tokio::spawn(async move {
            tokio::time::sleep(later).await;
            let state = consensus.read_stale(|l| l.approval(&approval.id).map(|a| a.state));
            if state == Some(hale_model::ledger::ApprovalState::Waiting) {
                notifier.asked(&approval);
            }
        });
    }
}
