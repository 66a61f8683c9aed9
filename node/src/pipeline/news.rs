//! What the ledger tells by itself, and what this node tells it unasked.

use super::{ASK_LATER, Line, OWN_ACTION};
use crate::telling::Subject;
use hale_consensus::News;
use hale_executor::actor as executor;
use hale_model::Stage;
use hale_model::ledger::{Answer, Command};
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

    /// Tells the ledger what this host runs, until it knows: budgets count it.
    pub(super) async fn tell_services(self: Arc<Self>) {
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
