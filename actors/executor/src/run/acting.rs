//! Checks and steps: opened in the journal, performed, judged, tried again, or failed.

use super::ending::Next;
use super::{ActionResult, Cursor, Effect, Perform, Run, State, Stopping, Then};
use crate::env;
use crate::journal::{Ended, JournalRecord, Phase};
use hale_model::{LogLine, OutcomeStatus, Stage, StepStatus};
use hale_playbooks::FailAction;
use hale_playbooks::language::Step;
use serde_json::{Value, json};
use std::time::Duration;

/// The shortest time between two attempts.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// How long a stopped action has to end before its children are killed.
const GRACE: Duration = Duration::from_secs(3);
/// How long a killed one is waited for: beyond that it is in the kernel's hands.
const LAST_GRACE: Duration = Duration::from_secs(10);

/// When a running action next needs attention.
pub(super) fn wake(until: Duration, stopping: Option<Stopping>) -> Duration {
    match stopping {
        None => until,
        Some(s) if s.killed => s.since + LAST_GRACE,
        Some(s) => s.since + GRACE,
    }
}

impl Run {
    /// Goes to a check or step, or past the last of its phase to what follows. Nothing runs while
    /// this is called.
    pub(super) fn go(&mut self, cursor: Cursor) {
        let mut cursor = cursor;
        loop {
            if self.is_halted(cursor) {
                return;
            }
            if cursor.phase == Phase::Verification {
                self.holding.reached(cursor.at);
            }
            let Some(step) = self.step_at(&cursor) else {
                if cursor.phase == Phase::Verification
                    && let Some((cursor, until)) = self.holding.next(self.now)
                {
                    self.state = State::Pausing { cursor, until };
                    return;
                }
                match self.after(cursor.phase) {
                    Next::Phase(phase) => cursor = self.start_of(phase, 0),
                    Next::End(status, why) => return self.conclude(status, why),
                }
                continue;
            };
            let applies = match &step.when {
                Some(when) if cursor.attempts == 0 => when.holds(&self.setup.env),
                _ => Ok(true),
            };
            match applies {
                Ok(true) => return self.open(cursor),
                Ok(false) => {
                    let line = line_of(step, &cursor, self.now, StepStatus::Skipped, Value::Null);
                    let line = LogLine {
                        message: "it did not apply".into(),
                        ..line
                    };
                    self.log(cursor, line);
                    cursor = self.following(&cursor);
                }
                Err(e) => {
                    let failed = StepStatus::Failed;
                    let line = line_of(step, &cursor, self.now, failed, Value::Null);
                    return self.fail(
                        cursor,
                        LogLine {
                            message: e.to_string(),
                            ..line
                        },
                    );
                }
            }
        }
    }

    /// Writes down what is about to run. A check is written down once, a step at every attempt.
    fn open(&mut self, mut cursor: Cursor) {
        let is_check = matches!(cursor.phase, Phase::PreChecks | Phase::Verification);
        let fence = match self.lease.fence() {
            Some(fence) if self.lease.holds(self.now) => fence,
            _ => return self.regain(cursor, cursor.attempts > 0),
        };
        if cursor.attempts == 0 {
            cursor.since = self.now;
            cursor.waited = self.now;
            cursor.since_wall = self.wall;
        } else if is_check {
            return self.perform(cursor);
        }
        let record = JournalRecord::Started {
            phase: cursor.phase,
            index: self.index_of(&cursor),
            attempt: cursor.attempts + 1,
            at: self.wall,
            fence,
            why: self.why.clone(),
            ended: std::mem::take(&mut self.unwritten),
        };
        self.write(record, Then::Perform(cursor));
    }

    /// The journal knows of it: now it may run, if nothing has come between.
    pub(super) fn perform(&mut self, mut cursor: Cursor) {
        if self.is_halted(cursor) {
            return;
        }
        if !self.lease.holds(self.now) {
            return self.regain(cursor, cursor.attempts > 0);
        }
        let Some(step) = self.step_at(&cursor).cloned() else {
            return self.go(cursor);
        };
        if cursor.phase == Phase::Steps && !self.ran.contains(&cursor.at) {
            self.ran.push(cursor.at);
        }
        cursor.attempts += 1;
        self.ticket += 1;
        let timeout = match cursor.phase {
            Phase::Rollback => step.timeout,
            _ => step.timeout.min(self.deadline().saturating_sub(self.now)),
        };
        let ticket = self.ticket;
        self.state = State::Acting {
            ticket,
            cursor,
            until: self.now + timeout,
            stopping: None,
        };
        let env = self.setup.env.clone();
        let perform = Perform {
            ticket,
            phase: cursor.phase,
            step,
            env,
            timeout,
        };
        self.out.push(Effect::Perform(Box::new(perform)));
    }

    /// When the whole run has to be over, unless it is being undone.
    pub(super) fn deadline(&self) -> Duration {
        self.began + self.setup.playbook.max_duration
    }

    pub(super) fn mind_the_action(
        &mut self,
        ticket: u64,
        cursor: Cursor,
        until: Duration,
        stopping: Option<Stopping>,
    ) {
        if self.now < wake(until, stopping) {
            return;
        }
        let stopping = match stopping {
            None => {
                self.out.push(Effect::Stop { ticket });
                let status = StepStatus::TimedOut;
                Stopping {
                    status,
                    since: self.now,
                    killed: false,
                }
            }
            Some(s) if !s.killed => {
                self.out.push(Effect::KillChildren);
                Stopping { killed: true, ..s }
            }
            Some(s) => {
                let message = "it was killed and has not ended: it may hang in the kernel".into();
                let result = ActionResult {
                    status: s.status,
                    result: Value::Null,
                    message,
                };
                return self.performed(ticket, result);
            }
        };
        self.state = State::Acting {
            ticket,
            cursor,
            until,
            stopping: Some(stopping),
        };
    }

    pub(super) fn performed(&mut self, ticket: u64, result: ActionResult) {
        let State::Acting {
            ticket: waited_for,
            mut cursor,
            stopping,
            ..
        } = self.state
        else {
            return;
        };
        if waited_for != ticket {
            return;
        }
        let Some(step) = self.step_at(&cursor).cloned() else {
            return;
        };
        let result = self.judge(&step, result, stopping);
        let is_check = matches!(cursor.phase, Phase::PreChecks | Phase::Verification);
        env::remember(&mut self.setup.env, &step.name, is_check, &result.result);
        let line = LogLine {
            message: result.message,
            ..line_of(&step, &cursor, self.now, result.status, result.result)
        };
        match result.status {
            StepStatus::Success => {
                match self.still_holding(&mut cursor, &step) {
                    Some(until) => self.holding.keep(cursor, until, step.hold, self.now),
                    None => self.log(cursor, line),
                }
                self.go(self.following(&cursor));
            }
            StepStatus::Interrupted => {
                self.log(cursor, line);
                if self.lease.holds(self.now) {
                    self.go(cursor);
                } else {
                    self.regain(cursor, true);
                }
            }
            _ => self.failed(cursor, &step, line),
        }
    }

    /// What was stopped counts as why it was stopped; what succeeded must also be as expected.
    fn judge(&self, step: &Step, result: ActionResult, stopping: Option<Stopping>) -> ActionResult {
        if let Some(Stopping { status, .. }) = stopping {
            let said = if result.message.is_empty() {
                "it was stopped"
            } else {
                &result.message
            };
            let message = match status {
                StepStatus::TimedOut => {
                    format!(
                        "it took longer than {} s: {said}",
                        step.timeout.as_secs_f64()
                    )
                }
                _ => format!("it was stopped: {said}"),
            };
            return ActionResult {
                status,
                message,
                ..result
            };
        }
        let Some(expect) = step
            .expect
            .as_ref()
            .filter(|_| result.status == StepStatus::Success)
        else {
            return result;
        };
        let message = match expect.holds(&env::with_result(&self.setup.env, &result.result)) {
            Ok(true) => return result,
            Ok(false) => format!("`{}` does not hold of its result", expect.as_str()),
            Err(e) => e.to_string(),
        };
        ActionResult {
            status: StepStatus::Failed,
            message,
            ..result
        }
    }

    /// What comes after a check or step that is done with, for now or for good. Verifications that
    /// have to hold are done with for now until all have passed.
    fn following(&self, cursor: &Cursor) -> Cursor {
        let at = match cursor.phase {
            Phase::Verification => self.holding.after(cursor.at),
            _ => cursor.at + 1,
        };
        self.start_of(cursor.phase, at)
    }

    /// Until when to pause before a verification is looked at again, if it has to hold longer.
    fn still_holding(&self, cursor: &mut Cursor, step: &Step) -> Option<Duration> {
        if cursor.phase != Phase::Verification || step.hold.is_zero() {
            return None;
        }
        let since = *cursor.holding.get_or_insert(self.now);
        let left = (since + step.hold).saturating_sub(self.now);
        (!left.is_zero()).then(|| self.now + left.min(step.retry_delay.max(MIN_PAUSE)))
    }

    fn failed(&mut self, mut cursor: Cursor, step: &Step, line: LogLine) {
        cursor.failures += 1;
        if cursor.holding.take().is_some() {
            cursor.waited = self.now;
        }
        // The others are not looked at while this one is tried again.
        self.holding.interrupted();
        let pause = step.retry_delay.max(MIN_PAUSE);
        let is_again = match step.fail_action {
            FailAction::Wait => self.now + pause < cursor.waited + step.max_wait,
            _ => cursor.failures <= step.retries,
        };
        let is_out_of_time = cursor.phase != Phase::Rollback && self.now >= self.deadline();
        if is_again && !is_out_of_time && !self.is_frozen {
            self.state = State::Pausing {
                cursor,
                until: self.now + pause,
            };
        } else {
            self.fail(cursor, line);
        }
    }

    /// It failed for good.
    pub(super) fn fail(&mut self, cursor: Cursor, mut line: LogLine) {
        let Some(action) = self.step_at(&cursor).map(|s| s.fail_action) else {
            return;
        };
        if action == FailAction::Warn {
            line.status = StepStatus::Warned;
            self.log(cursor, line);
            return self.go(self.following(&cursor));
        }
        let why = format!("`{}` failed: {}", line.step, line.message);
        self.log(cursor, line);
        // An end decided by the failure itself stands, but nothing new begins when frozen.
        match (cursor.phase, action) {
            (Phase::Rollback, FailAction::Rollback) => {
                self.undo_failed = Some(why);
                self.go(self.start_of(cursor.phase, cursor.at + 1));
            }
            (Phase::Rollback, _) => {
                self.undo_failed = Some(why);
                self.conclude_rollback();
            }
            (_, FailAction::Escalate) => self.conclude(OutcomeStatus::Escalated, why),
            (Phase::PreChecks, _) => self.conclude(OutcomeStatus::Aborted, why),
            (_, FailAction::Rollback) => self.roll_back(why),
            _ if self.has_touched() => self.conclude(OutcomeStatus::Failed, why),
            _ => self.conclude(OutcomeStatus::Aborted, why),
        }
    }

    /// Puts a line into the log, and tells who watches.
    pub(super) fn log(&mut self, cursor: Cursor, line: LogLine) {
        let stage = match cursor.phase {
            Phase::PreChecks => Stage::Checked,
            Phase::Steps => Stage::Acted,
            Phase::Verification => Stage::Verified,
            Phase::Rollback => Stage::Undone,
        };
        let text = match line.message.as_str() {
            "" => format!("{}: {}", line.step, status_text(line.status)),
            message => format!("{}: {}: {message}", line.step, status_text(line.status)),
        };
        let detail = json!({
            "step": line.step, "type": line.kind, "status": line.status,
            "duration_ms": line.duration_ms, "attempts": line.attempts,
        });
        self.tell(stage, text, detail);
        let index = self.index_of(&cursor);
        self.unwritten.push(Ended {
            phase: cursor.phase,
            index,
            line: line.clone(),
        });
        self.log_of(cursor.phase).push(line);
    }
}

fn status_text(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Success => "done",
        StepStatus::Failed => "failed",
        StepStatus::TimedOut => "timed out",
        StepStatus::Skipped => "skipped",
        StepStatus::Warned => "warning",
        StepStatus::Interrupted => "interrupted",
    }
}

fn line_of(
    step: &Step,
    cursor: &Cursor,
    now: Duration,
    status: StepStatus,
    result: Value,
) -> LogLine {
    LogLine {
        step: step.name.clone(),
        kind: step.action.kind().into(),
        at: cursor.since_wall,
        duration_ms: now.saturating_sub(cursor.since).as_millis() as u64,
        status,
        result,
        message: String::new(),
        attempts: cursor.attempts,
    }
}
