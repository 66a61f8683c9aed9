//! Before the first check and after a lost lease: what the ledger's answers mean for the run.

use super::{Cursor, Effect, Holding, News, Run, State, Stopping, Then};
use crate::journal::{Ended, Phase, Progressed};
use hale_model::ledger::{Lease, Refusal};
use hale_model::planted::{self, Mistake};
use hale_model::{Fence, LogLine, OutcomeStatus, Stage, StepStatus};
use serde_json::{Value, json};
use std::time::Duration;

impl Run {
    pub(super) fn heard(&mut self, news: Option<News>) {
        match news {
            None => {}
            Some(News::Held(fence)) => self.held(fence),
            Some(News::Refused(refusal)) => self.refused(refusal),
            Some(News::Gone(why)) => self.gone(&why),
            Some(News::Lost(why)) => self.lost(why),
        }
    }

    fn held(&mut self, fence: Fence) {
        let plan = &self.setup.intent.plan;
        let text = format!("{} is leased under fence {fence}", plan.scope);
        let ttl_ms = self.setup.limits.lease_ttl.as_millis() as u64;
        let detail = json!({"fence": fence, "scope": plan.scope.to_string(), "ttl_ms": ttl_ms});
        match self.state.clone() {
            State::Leasing { .. } => {
                self.tell(Stage::Leased, text, detail);
                self.began = self.now;
                let first = self.start_of(Phase::PreChecks, 0);
                self.go(first);
            }
            State::Regaining {
                cursor, in_flight, ..
            } => {
                self.tell(Stage::Leased, text, detail);
                self.take_up(cursor, in_flight);
            }
            _ => {}
        }
    }

    fn refused(&mut self, refusal: Refusal) {
        match &self.state {
            State::Regaining { .. } => self.abandon(&refusal.to_string()),
            // An older question may still become a grant: it has to be closed then.
            State::Leasing { .. } if !self.lease.is_settled() => {}
            State::Leasing { since } => match refusal {
                Refusal::Held { .. }
                | Refusal::Full { .. }
                | Refusal::Queued { .. }
                | Refusal::LookedAt { .. }
                | Refusal::BudgetSpent { .. } => self.refused_for_now(*since, &refusal),
                Refusal::Frozen { .. } => {
                    self.conclude(
                        OutcomeStatus::Escalated,
                        format!("nothing was run: {refusal}"),
                    );
                }
                _ => {
                    let why = format!("the ledger refused the lease: {refusal}");
                    self.conclude(OutcomeStatus::Escalated, why);
                }
            },
            _ => {}
        }
    }

    fn refused_for_now(&mut self, since: Duration, refusal: &Refusal) {
        let waited = self.now.saturating_sub(since);
        if waited < self.setup.limits.queue_wait {
            return self.reconsider();
        }
        let why = format!(
            "no lease within {} s: {refusal}; `hale leases` shows who holds it",
            waited.as_secs()
        );
        self.conclude(OutcomeStatus::Escalated, why);
    }

    fn gone(&mut self, why: &str) {
        match self.state {
            State::Leasing { .. } => {
                let why = format!("nothing was run: {why}; `hale status` shows the ledger's group");
                self.conclude(OutcomeStatus::Escalated, why);
            }
            State::Regaining { .. } => self.abandon(why),
            _ => {}
        }
    }

    /// At this moment nothing of this run may go on.
    fn lost(&mut self, why: String) {
        match self.state.clone() {
            State::Acting {
                ticket,
                cursor,
                until,
                stopping,
            } => {
                self.out.push(Effect::KillChildren);
                let status = StepStatus::Interrupted;
                let since = stopping.map_or(self.now, |s| s.since);
                let stopping = Some(Stopping {
                    status,
                    since,
                    killed: true,
                });
                self.state = State::Acting {
                    ticket,
                    cursor,
                    until,
                    stopping,
                };
            }
            State::Pausing { cursor, .. } => self.regain(cursor, cursor.attempts > 0),
            State::Writing {
                then: Then::Perform(cursor),
                ..
            } => {
                self.out.push(Effect::KillChildren);
                self.regain(cursor, cursor.attempts > 0);
            }
            _ => return,
        }
        let text = format!("the lease was lost: {why}");
        self.tell(Stage::Leased, text, json!({"lost": true}));
    }

    /// Asks again for a lost lease, to go on at the cursor.
    pub(super) fn regain(&mut self, cursor: Cursor, in_flight: bool) {
        self.state = State::Regaining {
            since: self.now,
            cursor,
            in_flight,
        };
        self.lease.want_again(self.now);
    }

    pub(super) fn mind_the_regaining(&mut self, since: Duration) {
        let wait = self.setup.limits.regain_wait;
        if self.now >= since + wait {
            self.abandon(&format!(
                "the ledger gave no lease again within {} s",
                wait.as_secs()
            ));
        }
    }

    pub(super) fn mind_the_queue(&mut self, since: Duration) {
        let wait = self.setup.limits.queue_wait;
        if self.now < since + wait {
            return;
        }
        if self.lease.is_settled() {
            let why = format!(
                "the ledger gave no lease within {} s; `hale leases` shows who holds what",
                wait.as_secs()
            );
            self.conclude(OutcomeStatus::Escalated, why);
        } else if !self.was_told {
            // There may be a grant: until that is known, the run can't end, or nobody closes it.
            self.was_told = true;
            let text = format!(
                "no answer from the ledger within {} s: nothing is run until it answers; \
                 `hale status` shows its group",
                wait.as_secs()
            );
            self.tell(Stage::Escalated, text, Value::Null);
        }
    }

    fn abandon(&mut self, why: &str) {
        let left = if self.has_touched() {
            "what was done was left as it is: look at the host before anything else is run there"
        } else {
            "nothing had been changed"
        };
        self.conclude(OutcomeStatus::Abandoned, format!("{why}; {left}"));
    }

    pub(super) fn resume(&mut self, lease: Option<Lease>, is_open: bool) {
        let Some(progressed) = self.recovered.take() else {
            return;
        };
        self.began = self.now;
        self.is_resolved = !is_open;
        let cursor = self.close_the_gap(&progressed);
        match lease {
            Some(lease) if lease.live || planted::is(Mistake::FenceNotChecked) => {
                self.state = State::Regaining {
                    since: self.now,
                    cursor,
                    in_flight: progressed.in_flight.is_some(),
                };
                self.lease.adopt(self.now, lease.fence);
            }
            Some(lease) => {
                self.lease.know(lease.fence);
                self.state = State::Leasing { since: self.now };
                self.abandon("the node stopped in the middle of the run and its lease ran out");
            }
            None if progressed.in_flight.is_some() => {
                self.state = State::Leasing { since: self.now };
                self.abandon("the node stopped in the middle of the run and its grant was closed");
            }
            None if is_open => {
                self.state = State::Leasing { since: self.now };
                self.lease.want_again(self.now);
            }
            None => {
                self.state = State::Leasing { since: self.now };
                self.conclude(OutcomeStatus::SelfResolved, resolved_alone());
            }
        }
    }

    /// What was in flight gets its line in the log. Gives back where it was.
    fn close_the_gap(&mut self, progressed: &Progressed) -> Cursor {
        let Some(f) = &progressed.in_flight else {
            return self.start_of(Phase::PreChecks, 0);
        };
        let at = match f.phase {
            Phase::Rollback => self.undo.iter().position(|i| *i == f.index).unwrap_or(0),
            _ => f.index,
        };
        let mut cursor = self.start_of(f.phase, at);
        cursor.since_wall = f.at;
        if let Some(step) = self.step_at(&cursor) {
            let line = LogLine {
                step: step.name.clone(),
                kind: step.action.kind().into(),
                at: f.at,
                duration_ms: self.wall.since(f.at).as_millis() as u64,
                status: StepStatus::Interrupted,
                result: Value::Null,
                message: "the node stopped while it ran".into(),
                attempts: f.attempt,
            };
            // Written with the next record: that it ran must outlast another death of the node.
            self.unwritten.push(Ended {
                phase: f.phase,
                index: f.index,
                line: line.clone(),
            });
            self.log_of(f.phase).push(line);
        }
        cursor
    }

    /// The lease is held again. What was begun goes on only where that can't do harm.
    fn take_up(&mut self, cursor: Cursor, in_flight: bool) {
        // Whatever is verified is verified from its beginning.
        self.holding = Holding::default();
        if !self.has_touched() {
            self.go(self.start_of(Phase::PreChecks, 0));
            return;
        }
        let is_idempotent = self.setup.playbook.idempotent;
        match cursor.phase {
            Phase::PreChecks => self.go(self.start_of(Phase::PreChecks, 0)),
            Phase::Steps if is_idempotent && !self.is_resolved => {
                self.go(self.start_of(Phase::Steps, cursor.at));
            }
            Phase::Steps => {
                let why = if is_idempotent {
                    "its incident was over"
                } else {
                    "it is not idempotent"
                };
                self.roll_back(format!(
                    "the run was interrupted and could not go on: {why}"
                ));
            }
            Phase::Verification => self.go(self.start_of(Phase::Verification, 0)),
            Phase::Rollback if in_flight && !is_idempotent => {
                let name = self
                    .step_at(&cursor)
                    .map_or("an entry", |s| s.name.as_str())
                    .to_owned();
                self.undo_failed = Some(format!("`{name}` was interrupted and not run again"));
                self.go(self.start_of(Phase::Rollback, cursor.at + 1));
            }
            Phase::Rollback => self.go(self.start_of(Phase::Rollback, cursor.at)),
        }
    }
}

pub(super) fn resolved_alone() -> String {
    "the signals were normal again before anything was done".into()
}
