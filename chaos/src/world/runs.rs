//! What the hosts of the simulated world do: an incident begins, a run is fed and does what the
//! product's machine says.

use super::playbooks::setup;
use super::{Due, World};
use crate::event::What;
use hale_executor::journal::Intent;
use hale_executor::plan;
use hale_executor::run::{ActionResult, Effect, Event, Perform, Run};
use hale_model::execution::Mode;
use hale_model::{Digest, ExecutionId, Incident, IncidentId, IncidentState, Severity, StepStatus};
use hale_playbooks::language::Action;
use serde_json::json;
use std::collections::BTreeMap;

impl World {
    pub(super) fn incident(&mut self, host: usize) {
        if !self.hosts[host].up || self.hosts[host].disk_full {
            return;
        }
        let entropy = self.rng.bits() as u32;
        let playbook = self.playbooks[usize::from(self.rng.chance(300))].clone();
        let incident = self.open_incident(host, entropy);
        let wall = self.wall(host);
        let execution = ExecutionId::at(wall, entropy);
        self.look(host, &ExecutionId::at(wall, !entropy));
        let plan = plan::of(&incident, &playbook, BTreeMap::new(), execution.clone());
        let intent = Intent {
            plan,
            incident,
            decision: None,
            mode: Mode::Autonomous,
            approval: None,
            started_at: wall,
        };
        let mut run = Run::new(setup(intent, playbook));
        let frozen = self.hosts[host].replica.ledger.frozen().is_some();
        let effects = run.on(self.clock(host), wall, Event::Frozen(frozen));
        self.hosts[host].runs.insert(execution.clone(), run);
        self.perform(host, &execution, effects);
        self.step(host, &execution, Event::Begin);
    }

    fn open_incident(&self, host: usize, entropy: u32) -> Incident {
        let wall = self.wall(host);
        Incident {
            id: IncidentId::at(wall, entropy),
            host: self.hosts[host].name.clone(),
            environment: "simulated".into(),
            service: None,
            tags: BTreeMap::new(),
            opened_at: wall,
            updated_at: wall,
            resolved_at: None,
            state: IncidentState::Open,
            severity: Severity::Critical,
            title: "simulated".into(),
            anomalies: vec![],
            events: vec![],
            top_consumers: vec![],
            signature: Digest::ZERO,
            recurrence_30d: 0,
        }
    }

    pub(super) fn step(&mut self, host: usize, execution: &ExecutionId, event: Event) {
        let (clock, wall) = (self.clock(host), self.wall(host));
        let Some(run) = self.hosts[host].runs.get_mut(execution) else {
            return;
        };
        let effects = run.on(clock, wall, event);
        self.perform(host, execution, effects);
        let Some(run) = self.hosts[host].runs.get(execution) else {
            return;
        };
        if let Some(wake) = run.next_wake() {
            let ms = self.until(host, wake);
            let (now, at, boot) = (self.now_ms, self.now_ms + ms, self.hosts[host].boot);
            let woken = &mut self.hosts[host].wakes;
            let next = woken.entry(execution.clone()).or_insert(0);
            if *next <= now || at < *next {
                *next = at;
                self.reply(ms, host, boot, execution.clone(), Event::Tick);
            }
        }
    }

    fn perform(&mut self, host: usize, execution: &ExecutionId, effects: Vec<Effect>) {
        let boot = self.hosts[host].boot;
        for effect in effects {
            let execution = execution.clone();
            match effect {
                Effect::Journal { seq, record } => {
                    let at = &mut self.hosts[host];
                    let mut result = Err("no space left on device".to_owned());
                    if !at.disk_full {
                        // The crash may come before the write, or after it and before the answer.
                        let records = at.journal.entry(execution.to_string()).or_default();
                        records.push((seq, record));
                        result = Ok(());
                    }
                    let ms = match at.disk_slow {
                        true => self.rng.within(500, 4_000),
                        false => self.rng.within(1, 20),
                    };
                    let event = Event::Journaled { seq, result };
                    self.reply(ms, host, boot, execution, event);
                }
                Effect::Acquire { ask } => self.ask_for_lease(host, execution, ask),
                Effect::Renew { ask, fence } => self.ask_to_renew(host, execution, ask, fence),
                Effect::Perform(perform) => self.act(host, boot, execution, &perform),
                Effect::Stop { ticket } => self.ended(host, boot, execution, ticket),
                Effect::KillChildren | Effect::Progress(_) => {}
                Effect::Finish(finished) => {
                    self.hosts[host].outbox.insert(execution.clone(), *finished);
                    self.hosts[host].runs.remove(&execution);
                    self.after(1, Due::HandOver { host, boot });
                }
            }
        }
    }

    pub(super) fn reply(
        &mut self,
        ms: u64,
        host: usize,
        boot: u32,
        execution: ExecutionId,
        event: Event,
    ) {
        let event = Box::new(event);
        self.after(
            ms,
            Due::ForRun {
                host,
                boot,
                execution,
                event,
            },
        );
    }

    fn act(&mut self, host: usize, boot: u32, execution: ExecutionId, perform: &Perform) {
        let Perform { ticket, step, .. } = perform;
        if let Action::Command { .. } = step.action {
            let run = self.hosts[host].runs.get(&execution);
            let idempotent = run.is_none_or(|r| r.playbook().idempotent);
            self.tell(What::Acted {
                host,
                execution: execution.clone(),
                step: step.name.clone(),
                idempotent,
            });
        }
        let status = if self.rng.chance(120) {
            StepStatus::Failed
        } else {
            StepStatus::Success
        };
        let ms = self.rng.within(5, 8_000);
        let (ticket, message) = (*ticket, String::new());
        let result = ActionResult {
            status,
            result: json!({}),
            message,
        };
        let event = Event::Performed { ticket, result };
        self.reply(ms, host, boot, execution, event);
    }

    fn ended(&mut self, host: usize, boot: u32, execution: ExecutionId, ticket: u64) {
        let result = ActionResult {
            status: StepStatus::Interrupted,
            result: json!({}),
            message: "stopped".into(),
        };
        let event = Event::Performed { ticket, result };
        self.reply(2, host, boot, execution, event);
    }
}
