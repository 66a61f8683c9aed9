//! What goes wrong in the simulated world: hosts that die and come back, an operator who freezes.

use super::playbooks::setup;
use super::{Due, World};
use crate::event::What;
use hale_executor::journal::{self, Recovery};
use hale_executor::run::{Event, Run};
use hale_model::ExecutionId;
use hale_model::ledger::{Command, EntryKind, Signed};
use serde_json::json;

impl World {
    pub(super) fn crash(&mut self, host: usize) {
        if !self.hosts[host].up {
            return;
        }
        self.tell(What::Fault {
            fault: format!("host {host} crashed"),
        });
        // What was on its way to the disk may be lost: the last record of each run.
        let lose = self.rng.chance(500);
        let at = &mut self.hosts[host];
        at.up = false;
        for (execution, run) in std::mem::take(&mut at.runs) {
            let unconfirmed = run.running().doing == "writes its journal";
            if lose
                && unconfirmed
                && let Some(records) = at.journal.get_mut(execution.as_str())
            {
                records.pop();
            }
        }
        self.acted.retain(|(h, _, _), ()| *h != host);
    }

    pub(super) fn restart(&mut self, host: usize) {
        if self.hosts[host].up {
            return;
        }
        self.tell(What::Fault {
            fault: format!("host {host} restarted"),
        });
        let now_ms = self.now_ms;
        let at = &mut self.hosts[host];
        at.up = true;
        at.boot += 1;
        at.booted_ms = now_ms;
        let (boot, left) = (at.boot, at.journal.clone());
        for (name, records) in left {
            let Ok(execution) = ExecutionId::new(name.clone()) else {
                continue;
            };
            if self.hosts[host].outbox.contains_key(&execution) {
                continue;
            }
            match journal::recover(&records) {
                Recovery::HandOver(finished, _) => {
                    self.hosts[host].outbox.insert(execution, *finished);
                }
                Recovery::TakeUp(progressed) => {
                    let idempotent = progressed.intent.plan.idempotent;
                    let playbook = self.playbooks[usize::from(!idempotent)].clone();
                    let run =
                        Run::recovered(setup(progressed.intent.clone(), playbook), *progressed);
                    self.hosts[host].runs.insert(execution.clone(), run);
                    let lease = self
                        .ledger
                        .leases()
                        .find(|l| l.execution == execution)
                        .cloned();
                    let is_open = self.rng.chance(700);
                    self.step(host, &execution, Event::Frozen(self.frozen));
                    self.step(host, &execution, Event::Resume { lease, is_open });
                }
                Recovery::Lost => {
                    self.hosts[host].journal.remove(&name);
                }
            }
        }
        self.after(1, Due::HandOver { host, boot });
    }

    pub(super) fn freeze(&mut self, frozen: bool) {
        let body = hale_model::canonical::to_bytes(&json!({"at": self.now_ms, "frozen": frozen}));
        let Ok(body) = body else { return };
        let entry = Signed::new(EntryKind::Freeze, body, &self.hosts[0].key);
        let (by, reason) = ("operator".to_owned(), "simulated".to_owned());
        self.apply(Command::Freeze {
            frozen,
            by,
            reason,
            entry,
        });
        self.frozen = frozen;
        for host in 0..self.hosts.len() {
            let (boot, cut) = (self.hosts[host].boot, self.hosts[host].cut);
            let runs: Vec<_> = self.hosts[host].runs.keys().cloned().collect();
            for execution in runs.into_iter().filter(|_| !cut) {
                let ms = self.delay();
                self.reply(ms, host, boot, execution, Event::Frozen(frozen));
            }
        }
    }
}
