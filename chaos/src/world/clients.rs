//! What the hosts of the simulated world ask of the leader, and what the oracle is told of the
//! answers.

use super::network::Message;
use super::registers;
use super::{Due, LOOK_TTL_MS, PATIENCE_MS, TTL_MS, World};
use crate::event::{Operation, Outcome, What};
use hale_consensus::News;
use hale_executor::journal::{self, Intent};
use hale_executor::plan;
use hale_executor::run::Event;
use hale_model::ledger::{
    Acquire, Answer, Command, EntryKind, Lease, LedgerError, Look, Refusal, Scope, Signed, WaitsFor,
};
use hale_model::{ExecutionId, Fence};
use serde_json::json;

/// What a host waits for.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Acquire(ExecutionId, u64),
    Renew(ExecutionId, u64),
    /// The report of a run, and the grant that it closes.
    Close(ExecutionId, Fence),
    /// One that closes nothing.
    Record(ExecutionId),
    /// A share of a scope, to look at it.
    Look,
    /// A share is given back.
    EndLook,
    /// An operator freezes or thaws.
    Operator,
    /// A client writes a key.
    Write,
    /// A client reads this key.
    Read(usize),
}

impl World {
    /// Asks whoever this host takes for the leader.
    pub(super) fn ask(&mut self, host: usize, command: Command, ask: Ask) {
        let Some(leader) = self.hosts[host].replica.leader else {
            return;
        };
        self.asked += 1;
        let number = self.asked;
        if let Some(operation) = operation(&command, &ask) {
            self.tell(What::Asked {
                ask: number,
                host,
                operation,
            });
        }
        self.hosts[host].asks.insert(number, ask);
        let command = Box::new(command);
        let message = Message::Propose {
            ask: number,
            command,
        };
        self.send(host, leader, message);
    }

    pub(super) fn ask_for_lease(&mut self, host: usize, execution: ExecutionId, ask: u64) {
        if let Some(acquire) = self.acquire(host, &execution) {
            let what = Ask::Acquire(execution.clone(), ask);
            self.ask(host, Command::Acquire(acquire), what);
        }
        // The asker's own patience; the real answer may come before or after it.
        let answer = Err(LedgerError::NoLeader(PATIENCE_MS));
        let boot = self.hosts[host].boot;
        let event = Event::Leased { ask, answer };
        self.reply(PATIENCE_MS, host, boot, execution, event);
    }

    pub(super) fn ask_to_renew(
        &mut self,
        host: usize,
        execution: ExecutionId,
        ask: u64,
        fence: Fence,
    ) {
        let command = Command::Renew {
            fence,
            holder: self.hosts[host].key.node_id(),
            ttl_ms: TTL_MS,
        };
        self.ask(host, command, Ask::Renew(execution.clone(), ask));
        let answer = Err(LedgerError::NoLeader(PATIENCE_MS));
        let boot = self.hosts[host].boot;
        let event = Event::Renewed { ask, answer };
        self.reply(PATIENCE_MS, host, boot, execution, event);
    }

    pub(super) fn answered(&mut self, host: usize, ask: u64, answer: Option<Answer>) {
        let Some(asked) = self.hosts[host].asks.remove(&ask) else {
            return;
        };
        let is_told = !matches!(
            asked,
            Ask::Operator | Ask::Record(_) | Ask::Look | Ask::EndLook
        );
        let Some(answer) = answer else {
            if is_told {
                self.tell(What::Unanswered { ask });
            }
            return;
        };
        if is_told {
            let outcome = outcome(&asked, &answer);
            self.tell(What::Answered { ask, outcome });
        }
        match asked {
            Ask::Acquire(execution, ask) => {
                let answer = Ok(answer);
                self.step(host, &execution, Event::Leased { ask, answer });
            }
            Ask::Renew(execution, ask) => {
                let answer = Ok(answer);
                self.step(host, &execution, Event::Renewed { ask, answer });
            }
            Ask::Close(execution, fence) => self.recorded(host, &execution, Some(fence), answer),
            Ask::Record(execution) => self.recorded(host, &execution, None, answer),
            Ask::Operator | Ask::Look | Ask::EndLook | Ask::Write | Ask::Read(_) => {}
        }
    }

    /// A host looks before it acts, and says when it is done, whether or not it was answered; now and
    /// then it forgets to.
    pub(super) fn look(&mut self, host: usize, id: &ExecutionId) {
        let forgets = self.rng.chance(100);
        let for_ms = match forgets {
            true => 10 * LOOK_TTL_MS,
            false => self.rng.within(1, LOOK_TTL_MS),
        };
        let look = Look {
            scope: Scope::Host(self.hosts[host].name.clone()),
            node: self.hosts[host].key.node_id(),
            ttl_ms: LOOK_TTL_MS,
            id: id.clone(),
        };
        self.ask(host, Command::Look(look), Ask::Look);
        let (boot, id) = (self.hosts[host].boot, id.clone());
        self.after(for_ms, Due::Looked { host, boot, id });
    }

    pub(super) fn looked(&mut self, host: usize, boot: u32, id: ExecutionId) {
        if !self.is_alive(host, boot) {
            return;
        }
        self.tell(What::GivesBack { id: id.clone() });
        let node = self.hosts[host].key.node_id();
        self.ask(host, Command::EndLook { node, id }, Ask::EndLook);
    }

    fn recorded(
        &mut self,
        host: usize,
        execution: &ExecutionId,
        closes: Option<Fence>,
        answer: Answer,
    ) {
        match answer {
            Answer::Done { entry: Some(e) } => self.tell(What::Acknowledged {
                index: e.index,
                hash: e.hash,
            }),
            Answer::Done { entry: None } | Answer::Refused(Refusal::AlreadyClosed(_)) => {}
            _ => return,
        }
        let at = &mut self.hosts[host];
        // A late answer may be to a report that was asked for before, or to none that waits.
        let waits = at.outbox.get(execution).map(|f| f.close.map(|c| c.fence));
        if waits != Some(closes) {
            return self.lose_power();
        }
        at.outbox.remove(execution);
        at.journal.remove(execution.as_str());
        if let Some(lease) = at.grants.ended(execution, closes.is_some()) {
            self.close_orphan(host, lease);
        }
        self.lose_power();
    }

    /// A grant that no run of the host knows of is closed as abandoned.
    pub(super) fn close_orphan(&mut self, host: usize, lease: Lease) {
        let wall = self.wall(host);
        let at = &mut self.hosts[host];
        let finished = journal::orphan(&lease, "simulated", &at.name, wall);
        at.outbox.insert(lease.execution, finished);
        let boot = at.boot;
        self.after(1, Due::HandOver { host, boot });
    }

    pub(super) fn hand_over(&mut self, host: usize, boot: u32) {
        if !self.is_alive(host, boot) || self.hosts[host].outbox.is_empty() {
            return;
        }
        let waiting: Vec<_> = self.hosts[host].outbox.clone().into_iter().collect();
        for (execution, finished) in waiting {
            let key = &self.hosts[host].key;
            let fence = finished.close.map(|c| c.fence);
            let record = hale_audit::record::of(&finished.report, key.node_id(), fence);
            let entry = hale_audit::record::sign(&record, key);
            let (command, ask) = match finished.close {
                Some(c) => {
                    let close = Command::Close {
                        fence: c.fence,
                        holder: key.node_id(),
                        disposition: c.disposition,
                        outcome: finished.report.outcome.status,
                        entry,
                    };
                    (close, Ask::Close(execution, c.fence))
                }
                None => (Command::Append { entry }, Ask::Record(execution)),
            };
            self.ask(host, command, ask);
        }
        self.after(2_000, Due::HandOver { host, boot });
    }

    fn acquire(&self, host: usize, execution: &ExecutionId) -> Option<Acquire> {
        let host = &self.hosts[host];
        let run = host.runs.get(execution)?;
        let Intent {
            plan,
            decision,
            mode,
            started_at,
            ..
        } = run.intent();
        let body = plan::intent(plan, run.playbook(), decision.as_ref(), mode, *started_at).ok()?;
        Some(Acquire {
            scope: plan.scope.clone(),
            holder: host.key.node_id(),
            ttl_ms: TTL_MS,
            execution: plan.execution.clone(),
            plan_digest: plan.digest().ok()?,
            playbook: plan.playbook.clone(),
            service: None,
            approval: None,
            entry: Signed::new(EntryKind::Intent, body, &host.key),
        })
    }

    /// An operator freezes or thaws the cluster, at some host.
    pub(super) fn operate(&mut self, frozen: bool) {
        let host = self.any_host();
        let at = json!({"at": self.now_ms, "frozen": frozen});
        let Ok(body) = hale_model::canonical::to_bytes(&at) else {
            return;
        };
        if !self.hosts[host].up {
            return;
        }
        let entry = Signed::new(EntryKind::Freeze, body, &self.hosts[host].key);
        let (by, reason) = ("operator".to_owned(), "simulated".to_owned());
        let command = Command::Freeze {
            frozen,
            by,
            reason,
            entry,
        };
        self.ask(host, command, Ask::Operator);
    }

    pub(super) fn tell_oracle(&mut self, news: &News) {
        match news {
            News::Granted(lease) => {
                let holder = |h: &super::Host| h.key.node_id() == lease.holder;
                let host = self.hosts.iter().position(holder).unwrap_or(0);
                self.tell(What::Granted {
                    fence: lease.fence,
                    scope: lease.scope.clone(),
                    host,
                    execution: lease.execution.clone(),
                });
            }
            News::Looks(share) => self.tell(What::Looks {
                fence: share.fence,
                scope: share.look.scope.clone(),
                ttl_ms: share.look.ttl_ms,
                id: share.look.id.clone(),
            }),
            News::LookEnded(fence) => self.tell(What::LookEnded { fence: *fence }),
            News::Renewed(lease) => self.tell(What::Renewed { fence: lease.fence }),
            News::Expired(lease) => self.tell(What::Expired { fence: lease.fence }),
            News::Closed {
                lease, disposition, ..
            } => self.tell(What::Closed {
                fence: lease.fence,
                disposition: *disposition,
            }),
            News::Frozen { frozen, .. } => {
                self.is_frozen = *frozen;
                self.tell(What::Frozen { frozen: *frozen });
            }
            News::Waits(waiting) => self.tell(What::Waits {
                execution: waiting.execution.clone(),
                place: waiting.place,
                scope: match waiting.waits_for {
                    WaitsFor::Scope => Some(waiting.scope.clone()),
                    WaitsFor::Budgets(_) => None,
                },
            }),
            News::WaitEnded(execution) => {
                let execution = execution.clone();
                self.tell(What::WaitEnded { execution });
            }
            _ => {}
        }
    }
}

/// What the oracle is told of a question.
fn operation(command: &Command, ask: &Ask) -> Option<Operation> {
    Some(match (command, ask) {
        (Command::Acquire(acquire), _) => Operation::Acquire {
            scope: acquire.scope.clone(),
            execution: acquire.execution.clone(),
        },
        (Command::Renew { fence, .. }, Ask::Renew(execution, _)) => Operation::Renew {
            execution: execution.clone(),
            fence: *fence,
        },
        (Command::Close { fence, .. }, Ask::Close(execution, _)) => Operation::Close {
            execution: execution.clone(),
            fence: *fence,
        },
        (Command::SetBudget { budget, .. }, _) => registers::write_of(budget)?,
        _ => return None,
    })
}

fn outcome(asked: &Ask, answer: &Answer) -> Outcome {
    match (asked, answer) {
        (Ask::Acquire(..), Answer::Granted { fence, .. }) => Outcome::Granted(*fence),
        (Ask::Acquire(..), Answer::Refused(Refusal::Held { fence, .. })) => Outcome::Held(*fence),
        (Ask::Renew(..), Answer::Renewed { .. }) => Outcome::Renewed,
        (Ask::Close(..), Answer::Done { .. } | Answer::Refused(Refusal::AlreadyClosed(_))) => {
            Outcome::Closed
        }
        (Ask::Write, Answer::Done { .. }) => Outcome::Written,
        _ => Outcome::Other,
    }
}
