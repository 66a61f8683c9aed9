//! The world around a run, and the checker that watches every effect.

use crate::journal::{self, Finished, Intent, JournalRecord, Phase};
use crate::run::{ActionResult, Effect, Event, Limits, Run, Setup, rollback};
use crate::tests::samples;
use crate::{env, plan};
use hale_model::execution::Mode;
use hale_model::ledger::{Answer, Lease, LedgerError, Refusal};
use hale_model::{ExecutionId, Fence, Keypair, StepStatus, Timestamp};
use hale_playbooks::language::Playbook;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) const TTL: Duration = Duration::from_secs(30);

pub(super) fn setup(playbook: Playbook) -> Setup {
    let incident = samples::incident();
    let execution = ExecutionId::at(samples::OPENED, 1);
    let plan = plan::of(&incident, &playbook, BTreeMap::new(), execution);
    let env = env::base(&incident, &plan.params, &incident.tags, None);
    let second = Duration::from_secs(1);
    Setup {
        intent: Intent {
            plan,
            incident,
            decision: None,
            mode: Mode::Autonomous,
            approval: None,
            started_at: samples::OPENED,
        },
        playbook,
        env,
        limits: Limits {
            lease_ttl: TTL,
            queue_wait: 60 * second,
            regain_wait: 60 * second,
        },
    }
}

/// The ledger, as far as one run can see it.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    pub(super) fence: Fence,
    /// Whether there is a grant, and until when it is live by the leader's clock.
    pub(super) grant: Option<Duration>,
    pub(super) held_by_another_until: Option<Duration>,
    /// Questions do not arrive.
    pub(super) is_cut_off: bool,
    /// Questions arrive, answers do not.
    pub(super) is_mute: bool,
}

impl Ledger {
    pub(super) fn is_live(&self, now: Duration) -> bool {
        self.grant.is_some_and(|until| now < until)
    }

    pub(super) fn acquire(&mut self, now: Duration) -> Answer {
        match self.grant {
            Some(until) if now >= until => Answer::Refused(Refusal::StaleFence(self.fence)),
            Some(_) => Answer::Granted {
                fence: self.fence,
                ttl_ms: TTL.as_millis() as u64,
            },
            None if self.held_by_another_until.is_some_and(|t| now < t) => {
                let plan = setup(samples::playbook()).intent.plan;
                Answer::Refused(Refusal::Held {
                    scope: plan.scope,
                    fence: Fence(3),
                    holder: Keypair::from_seed(&[9; 32]).node_id(),
                    playbook: plan.playbook,
                })
            }
            None => {
                self.grant = Some(now + TTL);
                Answer::Granted {
                    fence: self.fence,
                    ttl_ms: TTL.as_millis() as u64,
                }
            }
        }
    }

    pub(super) fn renew(&mut self, now: Duration) -> Answer {
        if !self.is_live(now) {
            return Answer::Refused(Refusal::StaleFence(self.fence));
        }
        self.grant = Some(now + TTL);
        Answer::Renewed { generation: 1 }
    }
}

/// What the run asked for and has no answer to yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Pending {
    Journal {
        seq: u64,
        record: JournalRecord,
    },
    Acquire {
        ask: u64,
    },
    Renew {
        ask: u64,
    },
    Action {
        ticket: u64,
        phase: Phase,
        name: String,
    },
}

pub(super) struct World {
    pub(super) run: Run,
    pub(super) now: Duration,
    pub(super) ledger: Ledger,
    pub(super) pending: Vec<Pending>,
    /// The journal's rows that are on the platter.
    pub(super) journal: BTreeMap<String, Vec<u8>>,
    pub(super) journal_fails: bool,
    pub(super) performed: Vec<(Phase, String)>,
    pub(super) finished: Option<Box<Finished>>,
    pub(super) kills: usize,
    failures: BTreeMap<String, (usize, usize)>,
    hanging: BTreeSet<String>,
    /// Tickets whose processes are dead though the run has not been told yet.
    killed: BTreeSet<u64>,
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        Self::around(Run::new(setup))
    }

    pub(super) fn around(run: Run) -> Self {
        let ledger = Ledger {
            fence: Fence(42),
            grant: None,
            held_by_another_until: None,
            is_cut_off: false,
            is_mute: false,
        };
        Self {
            run,
            now: Duration::ZERO,
            ledger,
            pending: vec![],
            journal: BTreeMap::new(),
            journal_fails: false,
            performed: vec![],
            finished: None,
            kills: 0,
            failures: BTreeMap::new(),
            hanging: BTreeSet::new(),
            killed: BTreeSet::new(),
        }
    }

    pub(super) fn fail(&mut self, name: &str) {
        self.failures.insert(name.into(), (0, usize::MAX));
    }

    pub(super) fn fail_times(&mut self, name: &str, times: usize) {
        self.fail_times_after(name, 0, times);
    }

    pub(super) fn fail_times_after(&mut self, name: &str, fine: usize, times: usize) {
        self.failures.insert(name.into(), (fine, times));
    }

    pub(super) fn hang(&mut self, name: &str) {
        self.hanging.insert(name.into());
    }

    pub(super) fn unhang(&mut self) {
        self.hanging.clear();
    }

    pub(super) fn wall(&self) -> Timestamp {
        samples::OPENED.plus(self.now)
    }

    pub(super) fn begin(&mut self) {
        self.tell(Event::Begin);
    }

    pub(super) fn tell(&mut self, event: Event) {
        let wall = self.wall();
        let effects = self.run.on(self.now, wall, event);
        for effect in effects {
            self.take(effect);
        }
    }

    fn take(&mut self, effect: Effect) {
        assert!(self.finished.is_none(), "after the end came {effect:?}");
        match effect {
            Effect::Journal { seq, record } => self.pending.push(Pending::Journal { seq, record }),
            Effect::Acquire { ask } => self.pending.push(Pending::Acquire { ask }),
            Effect::Renew { ask, fence } => {
                assert_eq!(fence, self.ledger.fence);
                self.pending.push(Pending::Renew { ask });
            }
            Effect::Perform(p) => self.check_perform(p.phase, &p.step.name, p.ticket),
            Effect::Stop { ticket } => {
                self.killed.insert(ticket);
            }
            Effect::KillChildren => {
                self.kills += 1;
                self.killed
                    .extend(self.pending.iter().filter_map(|p| match p {
                        Pending::Action { ticket, .. } => Some(*ticket),
                        _ => None,
                    }));
            }
            Effect::Progress(_) => {}
            Effect::Finish(finished) => {
                assert!(!self.is_acting(), "an action outlives its run");
                // Every grant is closed, and none that is not there.
                let fence = finished.close.map(|c| c.fence);
                assert_eq!(fence, self.ledger.grant.map(|_| self.ledger.fence));
                self.finished = Some(finished);
            }
        }
    }

    /// What must hold whenever anything is performed.
    fn check_perform(&mut self, phase: Phase, name: &str, ticket: u64) {
        assert!(
            self.ledger.is_live(self.now),
            "{name} runs without a live lease"
        );
        assert!(!self.is_acting(), "{name} runs beside another");
        let playbook = self.run.playbook().clone();
        let steps = match phase {
            Phase::PreChecks => &playbook.pre_execution_checks,
            Phase::Steps => &playbook.steps,
            Phase::Verification => &playbook.verification,
            Phase::Rollback => &playbook.rollback,
        };
        let last = self
            .journal
            .values()
            .next_back()
            .expect("something is in the journal");
        match serde_json::from_slice(last).unwrap() {
            // Verifications that hold are looked at in turn: the record of the last one begun covers
            // those before it.
            JournalRecord::Started {
                phase: Phase::Verification,
                index,
                ..
            } if phase == Phase::Verification => {
                let known = steps[..=index].iter().any(|s| s.name == name);
                assert!(known, "the journal does not know of {name}");
            }
            JournalRecord::Started {
                phase: p, index, ..
            } => {
                assert_eq!(
                    (p, steps[index].name.as_str()),
                    (phase, name),
                    "the journal's last"
                );
            }
            other => panic!("{name} runs after {other:?}"),
        }
        if phase == Phase::Rollback {
            self.check_order(&playbook, name);
        }
        self.performed.push((phase, name.into()));
        let name = name.into();
        self.pending.push(Pending::Action {
            ticket,
            phase,
            name,
        });
    }

    /// What is undone comes in the reverse order of what was done.
    fn check_order(&self, playbook: &Playbook, name: &str) {
        let mut ran: Vec<usize> = vec![];
        for (_, done) in self.performed.iter().filter(|(p, _)| *p == Phase::Steps) {
            let at = playbook.steps.iter().position(|s| s.name == *done).unwrap();
            if !ran.contains(&at) {
                ran.push(at);
            }
        }
        let order = rollback::order(playbook, &ran);
        let place = |n: &str| order.iter().position(|i| playbook.rollback[*i].name == n);
        let here = place(name).expect("only what was done is undone");
        for (_, before) in self.performed.iter().filter(|(p, _)| *p == Phase::Rollback) {
            assert!(
                place(before) <= Some(here),
                "{before} was undone before {name}"
            );
        }
    }

    /// Whether a process of the run is alive.
    fn is_acting(&self) -> bool {
        self.pending
            .iter()
            .any(|p| matches!(p, Pending::Action { ticket, .. } if !self.killed.contains(ticket)))
    }

    /// Lets time pass, with a shell that is never late: the run is woken when it asked to be.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(wake) = self.run.next_wake().filter(|w| *w <= end) {
            self.now = wake.max(self.now);
            self.check_lease();
            let before = self.run.next_wake();
            self.tell(Event::Tick);
            assert_ne!(
                self.run.next_wake(),
                before,
                "it wants to be woken for nothing"
            );
        }
        self.now = end;
        self.check_lease();
    }

    /// Nothing runs under a lease that the leader may have given to another.
    fn check_lease(&self) {
        assert!(
            !self.is_acting() || self.ledger.is_live(self.now),
            "it acts without a lease"
        );
    }

    /// Answers one of what is pending; `how` 0 is well.
    pub(super) fn answer(&mut self, at: usize, how: u8) {
        if at >= self.pending.len() {
            return;
        }
        match self.pending.remove(at) {
            Pending::Journal { seq, record } => {
                let execution = &self.run.intent().plan.execution;
                let key = journal::key(execution, seq);
                let result = match how == 1 || self.journal_fails {
                    true => Err("no space left on device".into()),
                    false => {
                        self.journal
                            .insert(key, serde_json::to_vec(&record).unwrap());
                        Ok(())
                    }
                };
                self.tell(Event::Journaled { seq, result });
            }
            Pending::Acquire { ask } => {
                let answer = self.ask(how, Ledger::acquire);
                self.tell(Event::Leased { ask, answer });
            }
            Pending::Renew { ask } => {
                let answer = self.ask(how, Ledger::renew);
                self.tell(Event::Renewed { ask, answer });
            }
            Pending::Action {
                ticket,
                name,
                phase,
            } => {
                let is_dead = self.killed.remove(&ticket);
                if self.hanging.contains(&name) && !is_dead {
                    return self.pending.push(Pending::Action {
                        ticket,
                        phase,
                        name,
                    });
                }
                let result = self.result_of(&name, is_dead, how);
                self.tell(Event::Performed { ticket, result });
            }
        }
    }

    fn result_of(&mut self, name: &str, is_dead: bool, how: u8) -> ActionResult {
        let is_bad = match self.failures.get_mut(name) {
            Some((fine @ 1.., _)) => {
                *fine -= 1;
                false
            }
            Some((_, left @ 1..)) => {
                *left = left.saturating_sub(1);
                true
            }
            _ => how == 1,
        };
        let (status, message) = match (is_dead, is_bad) {
            (true, _) => (StepStatus::Interrupted, "killed"),
            (_, true) => (StepStatus::Failed, "it did not work"),
            _ => (StepStatus::Success, ""),
        };
        ActionResult {
            status,
            result: json!({"n": 7}),
            message: message.into(),
        }
    }

    fn ask(
        &mut self,
        how: u8,
        question: fn(&mut Ledger, Duration) -> Answer,
    ) -> Result<Answer, LedgerError> {
        let lost = Err(LedgerError::NoLeader(1000));
        if self.ledger.is_cut_off || how == 1 {
            return lost;
        }
        let answer = question(&mut self.ledger, self.now);
        if self.ledger.is_mute || how == 2 {
            lost
        } else {
            Ok(answer)
        }
    }

    /// Answers everything well, in order, and lets time pass when nothing is pending.
    pub(super) fn until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..10_000 {
            if done(self) || self.run.is_over() {
                return;
            }
            let at = self.pending.iter().position(|p| match p {
                Pending::Action { name, ticket, .. } => {
                    !self.hanging.contains(name) || self.killed.contains(ticket)
                }
                _ => true,
            });
            match at {
                Some(at) => self.answer(at, 0),
                None => {
                    let wake = self.run.next_wake().expect("it waits for something");
                    self.pass(wake.saturating_sub(self.now));
                }
            }
        }
        panic!("it does not end: {:?}", self.run.running());
    }

    pub(super) fn until_performing(&mut self, name: &str) {
        self.until(|w| {
            w.pending
                .iter()
                .any(|p| matches!(p, Pending::Action { name: n, .. } if n == name))
        });
    }

    pub(super) fn settle(&mut self) {
        self.until(|w| w.run.is_over());
        assert!(self.finished.is_some());
    }

    /// The grant as a restarted node finds it.
    pub(super) fn lease(&self) -> Option<Lease> {
        let plan = &self.run.intent().plan;
        self.ledger.grant.map(|until| Lease {
            fence: self.ledger.fence,
            scope: plan.scope.clone(),
            holder: Keypair::from_seed(&[1; 32]).node_id(),
            ttl_ms: TTL.as_millis() as u64,
            generation: 0,
            execution: plan.execution.clone(),
            plan_digest: plan::digest(plan).unwrap(),
            playbook: plan.playbook.clone(),
            service: plan.service.clone(),
            live: self.now < until,
        })
    }
}
