//! One run of a playbook as a protocol machine: it is told what happened and answers what has to
//! be done. It holds no clock and does nothing itself, so a simulation can step it.
//!
//! What always holds: nothing is performed without a lease that this machine's own clock calls
//! live, and a journal record that was confirmed before; a run that began ends with exactly one
//! [`Effect::Finish`], which carries its grant, if it had one.

mod acting;
mod ending;
mod holding;
mod lease_holder;
mod leasing;
pub(crate) mod rollback;
#[cfg(test)]
mod tests;
mod words;

use crate::env;
use crate::journal::{Close, Ended, Finished, Intent, JournalRecord, Phase, Progressed};
use hale_model::planted::{self, Mistake};
use hale_model::{LogLine, OutcomeStatus, Stage, StepStatus, Timestamp};
use hale_playbooks::Env;
use hale_playbooks::language::{Playbook, Step};
use holding::Holding;
use lease_holder::{LeaseHolder, News};
use serde_json::Value;
use std::time::Duration;
pub use words::{ActionResult, Effect, Event, Limits, Perform, Progress, Running, Setup};

/// Where a run stands in its playbook.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cursor {
    phase: Phase,
    /// Which of the phase's steps; in a rollback, which of those that run.
    at: usize,
    /// Attempts begun.
    attempts: u32,
    /// Attempts that failed.
    failures: u32,
    /// When the first attempt began.
    since: Duration,
    /// The same by the wall clock.
    since_wall: Timestamp,
    /// Since when a verification has held without a break.
    holding: Option<Duration>,
    /// Since when it is waited for, where it is.
    waited: Duration,
}

#[derive(Debug, Clone)]
enum State {
    New,
    /// A record is on its way to the platter.
    Writing {
        seq: u64,
        then: Then,
    },
    /// The lease is asked for.
    Leasing {
        since: Duration,
    },
    /// An action runs.
    Acting {
        ticket: u64,
        cursor: Cursor,
        until: Duration,
        stopping: Option<Stopping>,
    },
    /// Between two attempts.
    Pausing {
        cursor: Cursor,
        until: Duration,
    },
    /// The lease was lost and is asked for again, to go on at the cursor.
    Regaining {
        since: Duration,
        cursor: Cursor,
        in_flight: bool,
    },
    Over,
}

#[derive(Debug, Clone)]
enum Then {
    Lease,
    Perform(Cursor),
    Finish(Box<Finished>),
}

/// Why a running action is being ended.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stopping {
    status: StepStatus,
    since: Duration,
    killed: bool,
}

#[derive(Debug, Clone, Default)]
struct Logs {
    pre_checks: Vec<LogLine>,
    steps: Vec<LogLine>,
    verification: Vec<LogLine>,
    rollback: Vec<LogLine>,
}

/// One run of a playbook.
#[derive(Debug, Clone)]
pub struct Run {
    setup: Setup,
    now: Duration,
    wall: Timestamp,
    out: Vec<Effect>,
    state: State,
    lease: LeaseHolder,
    /// When it began or was taken up: what its longest duration counts from.
    began: Duration,
    seq: u64,
    ticket: u64,
    logs: Logs,
    unwritten: Vec<Ended>,
    /// The steps that ran or may have, in order.
    ran: Vec<usize>,
    /// The rollback entries that run, in order.
    undo: Vec<usize>,
    /// The verifications that passed and have to go on doing so.
    holding: Holding,
    /// Why it is undone.
    why: String,
    /// Why something could not be undone.
    undo_failed: Option<String>,
    is_resolved: bool,
    is_frozen: bool,
    was_told: bool,
    recovered: Option<Box<Progressed>>,
}

impl Run {
    /// A run that has not begun: tell it [`Event::Begin`].
    pub fn new(setup: Setup) -> Self {
        let lease = LeaseHolder::new(setup.limits.lease_ttl);
        Self {
            setup,
            now: Duration::ZERO,
            wall: Timestamp::default(),
            out: vec![],
            state: State::New,
            lease,
            began: Duration::ZERO,
            seq: 0,
            ticket: 0,
            logs: Logs::default(),
            unwritten: vec![],
            ran: vec![],
            undo: vec![],
            holding: Holding::default(),
            why: String::new(),
            undo_failed: None,
            is_resolved: false,
            is_frozen: false,
            was_told: false,
            recovered: None,
        }
    }

    /// A run that a dead node left: tell it [`Event::Resume`]. The setup's intent is the
    /// journal's.
    pub fn recovered(setup: Setup, progressed: Progressed) -> Self {
        let mut run = Self::new(setup);
        run.seq = progressed.next_seq;
        run.ran = progressed.ran();
        run.why.clone_from(&progressed.why);
        if !run.why.is_empty() {
            run.undo = rollback::order(&run.setup.playbook, &run.ran);
        }
        for ended in &progressed.ended {
            let is_check = ended.phase == Phase::PreChecks;
            env::remember(
                &mut run.setup.env,
                &ended.line.step,
                is_check,
                &ended.line.result,
            );
            run.log_of(ended.phase).push(ended.line.clone());
        }
        run.recovered = Some(Box::new(progressed));
        run
    }

    /// Takes in what happened `now` (monotonic, since the node started; `wall` labels it) and
    /// answers what has to be done, in this order.
    pub fn on(&mut self, now: Duration, wall: Timestamp, event: Event) -> Vec<Effect> {
        let now = match planted::is(Mistake::WallClockExpiry) {
            true => wall.since(self.setup.intent.started_at),
            false => now,
        };
        // Time never runs backwards here, whatever the caller's clock does.
        self.now = self.now.max(now);
        self.wall = wall;
        match event {
            Event::Begin => self.begin(),
            Event::Resume { lease, is_open } => self.resume(lease, is_open),
            Event::Journaled { seq, result } => self.journaled(seq, result),
            Event::Leased { ask, answer } => {
                let news = self.lease.answered(self.now, ask, answer);
                self.heard(news);
            }
            Event::Renewed { ask, answer } => {
                let news = self.lease.renewed(self.now, ask, answer);
                self.heard(news);
            }
            Event::Performed { ticket, result } => self.performed(ticket, result),
            Event::IncidentResolved => {
                self.is_resolved = true;
                self.reconsider();
            }
            Event::Frozen(frozen) => {
                self.is_frozen = frozen;
                self.reconsider();
            }
            Event::Tick => {}
        }
        self.mind_the_clock();
        std::mem::take(&mut self.out)
    }

    /// When to tell [`Event::Tick`] at the latest; none if nothing depends on time.
    pub fn next_wake(&self) -> Option<Duration> {
        let own = match &self.state {
            State::New | State::Over | State::Writing { .. } => None,
            State::Leasing { since } => {
                Some(*since + self.setup.limits.queue_wait).filter(|_| !self.was_told)
            }
            State::Acting {
                until, stopping, ..
            } => Some(acting::wake(*until, *stopping)),
            State::Pausing { until, .. } => Some(*until),
            State::Regaining { since, .. } => Some(*since + self.setup.limits.regain_wait),
        };
        let is_over = matches!(self.state, State::Over);
        let lease = self.lease.next_wake().filter(|_| !is_over);
        own.into_iter().chain(lease).min()
    }

    /// Whether it is over: nothing it is told has an effect any more.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What the ledger is asked for: the run's intent.
    pub fn intent(&self) -> &Intent {
        &self.setup.intent
    }

    /// Its playbook.
    pub fn playbook(&self) -> &Playbook {
        &self.setup.playbook
    }

    /// What its expressions see by now.
    pub fn env(&self) -> &Env {
        &self.setup.env
    }

    /// The number of journal records it has written or is writing.
    pub fn records(&self) -> u64 {
        self.seq
    }

    /// How it stands.
    pub fn running(&self) -> Running {
        let (doing, cursor) = match &self.state {
            State::New => ("begins", None),
            State::Writing {
                then: Then::Lease, ..
            } => ("writes its journal", None),
            State::Writing {
                then: Then::Perform(c),
                ..
            } => ("writes its journal", Some(c)),
            State::Writing {
                then: Then::Finish(_),
                ..
            }
            | State::Over => ("has ended", None),
            State::Leasing { .. } => ("waits for its lease", None),
            State::Acting {
                cursor,
                stopping: None,
                ..
            } => ("runs", Some(cursor)),
            State::Acting { cursor, .. } => ("is being stopped", Some(cursor)),
            State::Pausing { cursor, .. } => ("waits for the next attempt", Some(cursor)),
            State::Regaining { cursor, .. } => ("has lost its lease and asks again", Some(cursor)),
        };
        let plan = &self.setup.intent.plan;
        Running {
            execution: plan.execution.clone(),
            incident: plan.incident.clone(),
            playbook: plan.playbook.clone(),
            mode: self.setup.intent.mode.clone(),
            scope: plan.scope.clone(),
            fence: self.lease.fence(),
            started_at: self.setup.intent.started_at,
            doing: doing.into(),
            phase: cursor.map(|c| c.phase),
            step: cursor.and_then(|c| self.step_at(c)).map(|s| s.name.clone()),
            ended: self.logs.pre_checks.len()
                + self.logs.steps.len()
                + self.logs.verification.len()
                + self.logs.rollback.len(),
        }
    }

    fn begin(&mut self) {
        if !matches!(self.state, State::New) || self.recovered.is_some() {
            return;
        }
        self.began = self.now;
        self.setup.intent.started_at = self.wall;
        let intent = JournalRecord::Intent(Box::new(self.setup.intent.clone()));
        self.write(intent, Then::Lease);
    }

    fn write(&mut self, record: JournalRecord, then: Then) {
        let seq = self.seq;
        self.seq += 1;
        self.state = State::Writing { seq, then };
        self.out.push(Effect::Journal { seq, record });
    }

    fn journaled(&mut self, seq: u64, result: Result<(), String>) {
        let State::Writing {
            seq: waited_for,
            then,
        } = &self.state
        else {
            return;
        };
        if *waited_for != seq {
            return;
        }
        let then = then.clone();
        match (then, result) {
            // Whether its end is in the journal or not, the report is handed over: the sink keeps
            // it until the ledger has it.
            (Then::Finish(finished), _) => {
                self.state = State::Over;
                self.out.push(Effect::Finish(finished));
            }
            (Then::Lease, Ok(())) => {
                self.state = State::Leasing { since: self.now };
                let first = self.start_of(Phase::PreChecks, 0);
                if !self.is_halted(first) {
                    self.lease.want(self.now);
                }
            }
            (Then::Perform(cursor), Ok(())) => self.perform(cursor),
            (Then::Lease | Then::Perform(_), Err(why)) => {
                let why = format!(
                    "the journal can't be written, so nothing more was started: {why}; check the \
                     disk that holds the node's data directory"
                );
                self.conclude(OutcomeStatus::Escalated, why);
            }
        }
    }

    fn mind_the_clock(&mut self) {
        self.mind_the_state();
        if matches!(self.state, State::Over) {
            return;
        }
        let (want, news) = self.lease.tick(self.now);
        match want {
            Some(lease_holder::Want::Acquire { ask }) => self.out.push(Effect::Acquire { ask }),
            Some(lease_holder::Want::Renew { ask, fence }) => {
                self.out.push(Effect::Renew { ask, fence });
            }
            None => {}
        }
        if news.is_some() {
            self.heard(news);
            // A lost lease is asked for again at once.
            let (want, _) = self.lease.tick(self.now);
            if let Some(lease_holder::Want::Acquire { ask }) = want {
                self.out.push(Effect::Acquire { ask });
            }
        }
    }

    fn mind_the_state(&mut self) {
        match self.state.clone() {
            State::Acting {
                ticket,
                cursor,
                until,
                stopping,
            } => {
                self.mind_the_action(ticket, cursor, until, stopping);
            }
            State::Pausing { cursor, until } if self.now >= until => self.go(cursor),
            State::Leasing { since } => self.mind_the_queue(since),
            State::Regaining { since, .. } => self.mind_the_regaining(since),
            _ => {}
        }
    }

    /// The steps of a phase; a rollback's are those that run, in order.
    fn step_at(&self, cursor: &Cursor) -> Option<&Step> {
        let playbook = &self.setup.playbook;
        match cursor.phase {
            Phase::PreChecks => playbook.pre_execution_checks.get(cursor.at),
            Phase::Steps => playbook.steps.get(cursor.at),
            Phase::Verification => playbook.verification.get(cursor.at),
            Phase::Rollback => self
                .undo
                .get(cursor.at)
                .and_then(|i| playbook.rollback.get(*i)),
        }
    }

    /// Its number in the playbook.
    fn index_of(&self, cursor: &Cursor) -> usize {
        match cursor.phase {
            Phase::Rollback => self.undo.get(cursor.at).copied().unwrap_or(cursor.at),
            _ => cursor.at,
        }
    }

    fn start_of(&self, phase: Phase, at: usize) -> Cursor {
        Cursor {
            phase,
            at,
            attempts: 0,
            failures: 0,
            since: self.now,
            since_wall: self.wall,
            holding: None,
            waited: self.now,
        }
    }

    fn log_of(&mut self, phase: Phase) -> &mut Vec<LogLine> {
        match phase {
            Phase::PreChecks => &mut self.logs.pre_checks,
            Phase::Steps => &mut self.logs.steps,
            Phase::Verification => &mut self.logs.verification,
            Phase::Rollback => &mut self.logs.rollback,
        }
    }

    /// Whether anything may have been changed.
    fn has_touched(&self) -> bool {
        rollback::has_touched(&self.setup.playbook, &self.ran)
    }

    fn tell(&mut self, stage: Stage, text: String, detail: Value) {
        let plan = &self.setup.intent.plan;
        self.out.push(Effect::Progress(Progress {
            at: self.wall,
            stage,
            incident: plan.incident.clone(),
            execution: Some(plan.execution.clone()),
            host: plan.host.clone(),
            service: plan.service.clone(),
            text,
            detail,
        }));
    }
}
