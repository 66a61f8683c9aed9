//! What stops a run, and how it ends.

use super::leasing::resolved_alone;
use super::rollback;
use super::{Close, Cursor, Effect, Finished, JournalRecord, Run, State, Stopping, Then};
use crate::journal::Phase;
use crate::plan;
use hale_model::execution::Mode;
use hale_model::ledger::Disposition;
use hale_model::{ExecutionReport, Outcome, OutcomeStatus, Stage, StepStatus};
use serde_json::json;

/// The longest reason in a report, in bytes.
const MAX_REASON_BYTES: usize = 2048;

/// What follows the last step of a phase.
pub(super) enum Next {
    Phase(Phase),
    End(OutcomeStatus, String),
}

impl Run {
    /// Whether something forbids the next check or step; if so, the run is on its way to its end.
    pub(super) fn is_halted(&mut self, cursor: Cursor) -> bool {
        if self.is_frozen {
            let left = match (self.has_touched(), cursor.phase) {
                (false, _) => "nothing had been changed",
                (true, Phase::Rollback) => "what was not undone yet was left as it is",
                (true, _) => "what was done was left as it is, neither verified nor undone",
            };
            let name = self.step_at(&cursor).map_or("the end", |s| s.name.as_str());
            let why = format!(
                "the cluster was frozen before `{name}`; {left}. `hale thaw` lifts the freeze"
            );
            self.conclude(OutcomeStatus::Escalated, why);
            return true;
        }
        if self.is_resolved && !self.has_touched() && cursor.phase <= Phase::Steps {
            self.conclude(OutcomeStatus::SelfResolved, resolved_alone());
            return true;
        }
        if cursor.phase != Phase::Rollback && self.now >= self.deadline() {
            let most = self.setup.playbook.max_duration.as_secs();
            let why = format!("the run took longer than the {most} s its playbook allows");
            self.roll_back(why);
            return true;
        }
        false
    }

    /// Something was said that may end a run which is waiting.
    pub(super) fn reconsider(&mut self) {
        let is_wanted = !self.is_frozen && (!self.is_resolved || self.has_touched());
        if is_wanted {
            return;
        }
        match self.state.clone() {
            State::Leasing { .. } if self.lease.is_settled() && self.lease.fence().is_none() => {
                let first = self.start_of(Phase::PreChecks, 0);
                self.is_halted(first);
            }
            State::Pausing { cursor, .. } => {
                self.is_halted(cursor);
            }
            // A check that has nothing to check any more; a freeze lets it end.
            State::Acting {
                ticket,
                cursor,
                until,
                stopping: None,
            } if !self.is_frozen && cursor.phase <= Phase::Steps => {
                self.out.push(Effect::Stop { ticket });
                let status = StepStatus::Interrupted;
                let stopping = Some(Stopping {
                    status,
                    since: self.now,
                    killed: false,
                });
                self.state = State::Acting {
                    ticket,
                    cursor,
                    until,
                    stopping,
                };
            }
            _ => {}
        }
    }

    /// What follows the last step of a phase.
    pub(super) fn after(&self, phase: Phase) -> Next {
        match phase {
            Phase::PreChecks => Next::Phase(Phase::Steps),
            Phase::Steps => Next::Phase(Phase::Verification),
            Phase::Verification => {
                Next::End(OutcomeStatus::Success, "every verification passed".into())
            }
            Phase::Rollback => self.end_of_rollback(),
        }
    }

    fn end_of_rollback(&self) -> Next {
        let why = &self.why;
        match &self.undo_failed {
            None => Next::End(
                OutcomeStatus::RolledBack,
                format!("{why}; what was done was undone"),
            ),
            Some(failed) => Next::End(
                OutcomeStatus::Failed,
                format!("{why}; not everything could be undone: {failed}"),
            ),
        }
    }

    pub(super) fn conclude_rollback(&mut self) {
        if let Next::End(status, why) = self.end_of_rollback() {
            self.conclude(status, why);
        }
    }

    /// Undoes what was done, if anything was.
    pub(super) fn roll_back(&mut self, why: String) {
        if !self.has_touched() {
            return self.conclude(
                OutcomeStatus::Aborted,
                format!("{why}; nothing had been changed"),
            );
        }
        self.undo = rollback::order(&self.setup.playbook, &self.ran);
        if self.undo.is_empty() {
            let reason = self.setup.playbook.no_rollback_reason.as_deref();
            let reason = reason.unwrap_or("the playbook has no rollback for what was done");
            return self.conclude(
                OutcomeStatus::Failed,
                format!("{why}; not undone: {reason}"),
            );
        }
        self.why = why;
        self.go(self.start_of(Phase::Rollback, 0));
    }

    /// The run is over: its report is written down, then handed over.
    pub(super) fn conclude(&mut self, status: OutcomeStatus, reason: String) {
        if status == OutcomeStatus::Escalated {
            self.tell(Stage::Escalated, reason.clone(), json!({"status": status}));
        }
        let close = self.lease.fence().map(|fence| Close {
            fence,
            disposition: self.disposition(status),
        });
        self.lease.rest();
        let report = plan::settled(self.report(status, reason));
        let finished = Box::new(Finished { report, close });
        self.write(
            JournalRecord::Finished(finished.clone()),
            Then::Finish(finished),
        );
    }

    fn disposition(&self, status: OutcomeStatus) -> Disposition {
        match status {
            OutcomeStatus::Success => Disposition::Done,
            _ if !self.has_touched() => Disposition::Released,
            OutcomeStatus::RolledBack => Disposition::RolledBack,
            OutcomeStatus::Abandoned => Disposition::Abandoned,
            _ => Disposition::Done,
        }
    }

    fn report(&mut self, status: OutcomeStatus, reason: String) -> ExecutionReport {
        let intent = self.setup.intent.clone();
        let logs = std::mem::take(&mut self.logs);
        let is_fine = matches!(status, OutcomeStatus::Success | OutcomeStatus::SelfResolved);
        let resolution = self.wall.since(intent.incident.opened_at);
        let outcome = Outcome {
            status,
            resolution_time_seconds: resolution.as_millis() as f64 / 1000.0,
            verification_passed: status == OutcomeStatus::Success
                && !self.setup.playbook.verification.is_empty(),
            rollback_triggered: !logs.rollback.is_empty(),
            human_intervention_required: !is_fine || intent.mode != Mode::Autonomous,
            reason: plan::cut(&reason, MAX_REASON_BYTES),
        };
        ExecutionReport {
            incident: intent.incident,
            decision: intent.decision,
            plan: Some(intent.plan),
            mode: intent.mode,
            fence: self.lease.fence(),
            started_at: intent.started_at,
            ended_at: self.wall,
            pre_check_log: logs.pre_checks,
            execution_log: logs.steps,
            verification_log: logs.verification,
            rollback_log: logs.rollback,
            outcome,
        }
    }
}
