//! The ledger's side of the simulated world: what it is told, and its leader's clock.

use super::{Due, World};
use crate::event::What;
use hale_consensus::News;
use hale_consensus::ledger::{RULES, limits};
use hale_model::ledger::{
    Answer, Budget, BudgetLimit, Command, EntryKind, Lease, Refusal, Signed, Waiting, WaitsFor,
};
use serde_json::json;

impl World {
    pub(super) fn hand_over(&mut self, host: usize, boot: u32) {
        if !self.hosts[host].up
            || self.hosts[host].boot != boot
            || self.hosts[host].outbox.is_empty()
        {
            return;
        }
        let waiting: Vec<_> = self.hosts[host].outbox.clone().into_iter().collect();
        for (execution, finished) in waiting {
            if self.hosts[host].cut || self.rng.chance(30) {
                continue;
            }
            let key = &self.hosts[host].key;
            let fence = finished.close.map(|c| c.fence);
            let record = hale_audit::record::of(&finished.report, key.node_id(), fence);
            let entry = hale_audit::record::sign(&record, key);
            let holder = key.node_id();
            let outcome = finished.report.outcome.status;
            let command = match finished.close {
                Some(c) => Command::Close {
                    fence: c.fence,
                    holder,
                    disposition: c.disposition,
                    outcome,
                    entry,
                },
                None => Command::Append { entry },
            };
            let answer = self.apply(command);
            // The answer may be lost: then it is handed over again.
            if self.rng.chance(30) {
                continue;
            }
            let done = match answer {
                Answer::Done { entry } => {
                    if let Some(e) = entry {
                        self.tell(What::Acknowledged {
                            index: e.index,
                            hash: e.hash,
                        });
                    }
                    true
                }
                Answer::Refused(Refusal::AlreadyClosed(_)) => true,
                _ => false,
            };
            if done {
                self.hosts[host].outbox.remove(&execution);
                self.hosts[host].journal.remove(execution.as_str());
            }
        }
        if !self.hosts[host].outbox.is_empty() {
            self.after(700, Due::HandOver { host, boot });
        }
    }

    pub(super) fn enrol_all(&mut self) {
        for n in 0..self.hosts.len() {
            let (node, host) = (self.hosts[n].key.node_id(), self.hosts[n].name.clone());
            let entry = hale_audit::enrolment::sign(node, &host, &self.hosts[0].key);
            self.apply(Command::Enrol { node, host, entry });
        }
    }

    pub(super) fn apply(&mut self, command: Command) -> Answer {
        self.index += 1;
        let applied = self.ledger.apply(self.index, command);
        for entry in &applied.entries {
            let (index, hash, previous) = (entry.index, entry.hash(), entry.previous);
            self.tell(What::Appended {
                index,
                hash,
                previous,
            });
        }
        for news in applied.news {
            self.hear(news);
        }
        applied.answer
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Granted(lease) => {
                let host = self
                    .hosts
                    .iter()
                    .position(|h| h.key.node_id() == lease.holder)
                    .unwrap_or(0);
                let (fence, scope, execution) =
                    (lease.fence, lease.scope.clone(), lease.execution.clone());
                self.tell(What::Granted {
                    fence,
                    scope,
                    host,
                    execution,
                });
                self.arm(&lease);
            }
            News::Renewed(lease) => self.arm(&lease),
            News::Expired(lease) => self.tell(What::Expired { fence: lease.fence }),
            News::Closed {
                lease, disposition, ..
            } => {
                self.tell(What::Closed {
                    fence: lease.fence,
                    disposition,
                });
            }
            News::Frozen { frozen, .. } => self.tell(What::Frozen { frozen }),
            News::Waits(waiting) => {
                self.tell(What::Waits {
                    execution: waiting.execution.clone(),
                    place: waiting.place,
                    scope: match waiting.waits_for {
                        WaitsFor::Scope => Some(waiting.scope.clone()),
                        WaitsFor::Budgets(_) => None,
                    },
                });
                self.arm_wait(&waiting);
            }
            News::WaitEnded(execution) => self.tell(What::WaitEnded { execution }),
            _ => {}
        }
    }

    pub(super) fn arm(&mut self, lease: &Lease) {
        let due = Due::Expire {
            fence: lease.fence,
            generation: lease.generation,
            term: self.term,
        };
        self.after(lease.ttl_ms, due);
    }

    fn arm_wait(&mut self, waiting: &Waiting) {
        let due = Due::ExpireWait {
            execution: waiting.execution.clone(),
            generation: waiting.generation,
            term: self.term,
        };
        self.after(limits::WAIT_TTL.as_millis() as u64, due);
    }

    /// The rules of this binary, and in two of three worlds a budget that all runs share.
    pub(super) fn set_policy(&mut self) {
        self.apply(Command::Rules { version: RULES });
        let at_most = self.rng.within(0, 3) as u32;
        if at_most == 0 {
            return;
        }
        let budget = Budget {
            name: "all".into(),
            service: None,
            limit: BudgetLimit::AtMost(at_most),
        };
        let body = hale_model::canonical::to_bytes(&json!({ "budget": budget }));
        let Ok(body) = body else { return };
        let entry = Signed::new(EntryKind::Budget, body, &self.hosts[0].key);
        let by = "operator".to_owned();
        self.apply(Command::SetBudget { budget, by, entry });
        self.tell(What::Budget { at_most });
    }

    pub(super) fn election(&mut self) {
        self.tell(What::Fault {
            fault: "a new leader".into(),
        });
        self.term += 1;
        let leases: Vec<Lease> = self.ledger.leases().filter(|l| l.live).cloned().collect();
        for lease in leases {
            self.arm(&lease);
        }
        let waiting: Vec<Waiting> = self.ledger.waiting().cloned().collect();
        for one in waiting {
            self.arm_wait(&one);
        }
    }
}
