//! Questions to humans: put, answered, withdrawn.

use super::shared::{Shared, entropy, wall};
use super::{Message, State};
use crate::journal::{Asked, JournalRecord, JournalWrite, question_key, without_run};
use crate::plan;
use crate::run::Setup;
use hale_model::execution::Mode;
use hale_model::ledger::{Answer, Approval, ApprovalState, Command, EntryKind, Refusal};
use hale_model::{ApprovalId, Decision, OutcomeStatus, Stage};
use ractor::ActorRef;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The pause before a question is put again that got no answer from the ledger.
const PAUSE: Duration = Duration::from_secs(1);

impl State {
    /// Puts a plan before a human.
    pub(super) fn ask(&mut self, myself: &ActorRef<Message>, setup: Setup, decision: Decision) {
        let incident = setup.intent.incident.clone();
        let asked = match question(&self.shared, setup, decision.clone()) {
            Ok(asked) => asked,
            Err(e) => return self.escalate(incident, decision, e.to_string()),
        };
        self.questions
            .insert(asked.approval.id.clone(), asked.clone());
        put(Arc::clone(&self.shared), myself.clone(), asked);
    }

    pub(super) fn question_put(&mut self, id: &ApprovalId, put: Result<(), Refusal>) {
        let Some(asked) = self.questions.get(id).cloned() else {
            return;
        };
        match put {
            Ok(()) => {
                let plan = &asked.plan;
                let text = format!(
                    "`{}` waits for a human: `hale approve {id}` or `hale deny {id}`",
                    plan.playbook
                );
                let detail = json!({
                    "approval": id, "playbook": plan.playbook, "params": plan.params,
                    "plan_digest": asked.approval.plan_digest, "ttl_ms": asked.approval.ttl_ms,
                });
                self.shared
                    .tell_of(&asked.incident, Stage::Asked, text, detail);
            }
            Err(refusal) => {
                self.questions.remove(id);
                let why = format!("a human could not be asked: {refusal}");
                self.close(&asked, OutcomeStatus::Escalated, why, Mode::Autonomous);
            }
        }
    }

    pub(super) fn approval_changed(&mut self, myself: &ActorRef<Message>, approval: Approval) {
        let Some(asked) = self.questions.get(&approval.id).cloned() else {
            return;
        };
        let by = approval
            .answered_by
            .clone()
            .unwrap_or_else(|| "someone".into());
        match approval.state {
            ApprovalState::Waiting | ApprovalState::Used => {}
            ApprovalState::Approved => {
                self.questions.remove(&approval.id);
                let text = format!("{by} agreed to `{}`", asked.plan.playbook);
                let detail = json!({"approval": approval.id, "by": by});
                self.shared
                    .tell_of(&asked.incident, Stage::Answered, text, detail);
                self.plan_again(myself, asked, by);
            }
            ApprovalState::Denied => {
                self.questions.remove(&approval.id);
                let why = format!("{by} said no");
                self.close(&asked, OutcomeStatus::Denied, why, Mode::Autonomous);
            }
            ApprovalState::Expired => {
                self.questions.remove(&approval.id);
                let minutes = asked.approval.ttl_ms as f64 / 60_000.0;
                let why = format!("nobody answered within {minutes} minutes");
                self.close(&asked, OutcomeStatus::Expired, why, Mode::Autonomous);
            }
            ApprovalState::Superseded => {
                self.questions.remove(&approval.id);
                let why = "the question was withdrawn".to_owned();
                self.close(&asked, OutcomeStatus::Escalated, why, Mode::Autonomous);
            }
        }
    }

    /// What was agreed to must still be what would be run, with the incident as it is now.
    fn plan_again(&self, myself: &ActorRef<Message>, asked: Asked, by: String) {
        let playbook = self.playbooks.get(&asked.plan.playbook).cloned();
        let (shared, myself) = (Arc::clone(&self.shared), myself.clone());
        tokio::spawn(async move {
            let setup = again(&shared, &asked, playbook, by).await;
            let _ = myself.cast(Message::Approved(Box::new(asked), setup.map(Box::new)));
        });
    }

    pub(super) fn approved(
        &mut self,
        myself: &ActorRef<Message>,
        asked: Asked,
        setup: Result<Box<Setup>, String>,
    ) {
        match setup {
            // Another decision came first.
            Ok(_) if self.is_underway(&asked.plan.incident) => {
                self.withdraw(&asked, "it is being worked on already");
            }
            Ok(setup) => {
                if let Err(waiting) = self.begin(myself, *setup) {
                    let why = crate::Error::Busy(waiting).to_string();
                    self.withdraw(&asked, &why);
                    self.close(&asked, OutcomeStatus::Escalated, why, Mode::Autonomous);
                }
            }
            Err(why) => {
                self.withdraw(&asked, &why);
                let why = format!("{why}; what was agreed to was not run");
                self.close(&asked, OutcomeStatus::Escalated, why, Mode::Autonomous);
            }
        }
    }

    /// Reports how a question ended, and forgets it.
    pub(super) fn close(&self, asked: &Asked, status: OutcomeStatus, why: String, mode: Mode) {
        let (incident, decision) = (asked.incident.clone(), Some(asked.decision.clone()));
        let plan = Some(asked.plan.clone());
        let finished = without_run(incident, decision, plan, mode, status, why, wall());
        self.shared
            .report(finished, vec![question_key(&asked.approval.id)]);
    }

    /// Tells the ledger that a question no longer waits.
    pub(super) fn withdraw(&mut self, asked: &Asked, why: &str) {
        let id = asked.approval.id.clone();
        self.questions.remove(&id);
        let (shared, playbook, why) = (
            Arc::clone(&self.shared),
            asked.plan.playbook.clone(),
            why.to_owned(),
        );
        tokio::spawn(async move {
            let Ok(body) = plan::withdrawal(&id, &playbook, &why, wall()) else {
                return;
            };
            let entry = shared.sign(EntryKind::Approval, body);
            let state = ApprovalState::Superseded;
            let approval = id.clone();
            let answer = shared
                .ledger(Command::CloseApproval {
                    approval,
                    state,
                    entry,
                })
                .await;
            if let Err(e) = answer {
                tracing::warn!(approval = %id, "it could not be withdrawn and runs out by itself: {e}");
            }
            forget(&shared, &id).await;
        });
    }

    /// Removes a question from the journal.
    pub(super) fn forget(&self, id: &ApprovalId) {
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        tokio::spawn(async move { forget(&shared, &id).await });
    }
}

async fn forget(shared: &Shared, id: &ApprovalId) {
    let write = JournalWrite {
        put: vec![],
        remove: vec![question_key(id)],
    };
    if let Err(why) = (shared.ports.journal)(write).await {
        tracing::warn!(approval = %id, "the journal can't forget it: {why}");
    }
}

fn question(shared: &Shared, setup: Setup, decision: Decision) -> Result<Asked, crate::Error> {
    let at = wall();
    let id = ApprovalId::at(at, entropy());
    let plan = setup.intent.plan;
    let entry = plan::question(&id, &plan, &decision, at)?;
    let approval = Approval {
        incident: plan.incident.clone(),
        host: plan.host.clone(),
        node: shared.node(),
        playbook: plan.playbook.clone(),
        version: plan.version.clone(),
        plan_digest: plan::digest(&plan)?,
        plan: plan::shown(&plan, &setup.playbook)?,
        rationale: plan::rationale(&decision),
        confidence_ppm: plan::confidence_ppm(&decision),
        ttl_ms: shared.config.approval_ttl.as_millis() as u64,
        asked_at_ms: at.as_millis(),
        state: ApprovalState::Waiting,
        answered_by: None,
        entry: shared.sign(EntryKind::Approval, entry),
        id,
    };
    Ok(Asked {
        approval,
        incident: setup.intent.incident,
        decision,
        plan,
    })
}

/// Writes the question down and puts it to the ledger until it answers.
pub(super) fn put(shared: Arc<Shared>, myself: ActorRef<Message>, asked: Asked) {
    tokio::spawn(async move {
        let id = asked.approval.id.clone();
        let approval = asked.approval.clone();
        let ends = wall().plus(Duration::from_millis(approval.ttl_ms));
        let record = JournalRecord::Asked(Box::new(asked));
        let put = serde_json::to_vec(&record).map(|bytes| vec![(question_key(&id), bytes)]);
        let write = JournalWrite {
            put: put.unwrap_or_default(),
            remove: vec![],
        };
        if let Err(why) = (shared.ports.journal)(write).await {
            tracing::warn!(approval = %id, "the question can't be journaled: {why}");
        }
        let answer = loop {
            match shared.ledger(Command::AskApproval(approval.clone())).await {
                Ok(Answer::Refused(refusal)) => break Err(refusal),
                Ok(_) => break Ok(()),
                Err(e) if wall() < ends => {
                    tracing::warn!(approval = %id, "a human can't be asked yet: {e}");
                    sleep(PAUSE).await;
                }
                Err(e) => break Err(Refusal::BadEntry(e.to_string())),
            }
        };
        let _ = myself.cast(Message::QuestionPut(id, answer));
    });
}

async fn again(
    shared: &Shared,
    asked: &Asked,
    playbook: Option<hale_playbooks::Playbook>,
    by: String,
) -> Result<Setup, String> {
    let name = &asked.plan.playbook;
    let playbook = playbook.ok_or_else(|| format!("there is no playbook `{name}` any more"))?;
    let now = (shared.ports.incident)(asked.plan.incident.clone()).await;
    let incident = now.unwrap_or_else(|| asked.incident.clone());
    let approval = Some(asked.approval.id.clone());
    let decision = Some(asked.decision.clone());
    let mode = Mode::Approved { by };
    let none = BTreeMap::new();
    let mut setup = shared
        .setup(incident, decision, &playbook, &none, mode, approval)
        .await
        .map_err(|e| e.to_string())?;
    let digest = plan::digest(&setup.intent.plan).map_err(|e| e.to_string())?;
    if digest != asked.approval.plan_digest {
        let (agreed, now) = (asked.approval.plan_digest.short(), digest.short());
        return Err(format!(
            "the plan changed since it was shown: {agreed} was agreed to, {now} would be run now"
        ));
    }
    // The run keeps the id that the question's plan had.
    setup.intent.plan.execution = asked.plan.execution.clone();
    Ok(setup)
}
