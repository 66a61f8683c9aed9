//! The simulated world: hosts with the real run machine, one ledger with the real state machine,
//! and between them a network and clocks that misbehave. The ledger's replication is not
//! simulated here: it is a totally ordered log that never forgets. One seed is one run.

mod faults;
mod ledger;
mod playbooks;

use crate::event::{Happened, What};
use crate::rng::Rng;
use hale_consensus::Ledger;
use hale_executor::journal::{Finished, Intent, JournalRecord};
use hale_executor::plan;
use hale_executor::run::{ActionResult, Effect, Event, Perform, Run};
use hale_model::execution::Mode;
use hale_model::ledger::{Acquire, Command, EntryKind, LedgerError, Signed};
use hale_model::{
    Digest, ExecutionId, Fence, HostName, Incident, IncidentId, IncidentState, Keypair, Severity,
    StepStatus, Timestamp,
};
use hale_playbooks::language::{Action, Playbook};
use playbooks::{playbook, setup};
use serde_json::json;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// Where the wall clock begins; nothing depends on it.
const EPOCH: Timestamp = Timestamp::from_secs(1_770_000_000);
const TTL_MS: u64 = 30_000;
/// A packet takes up to this long.
const MAX_DELAY_MS: u64 = 400;
/// An unanswered question is given up after this long.
const PATIENCE_MS: u64 = 5_000;
/// After the faults, everything has this long to end.
const QUIET_MS: u64 = 600_000;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// How many hosts.
    pub hosts: usize,
    /// For how long faults and incidents come, in virtual milliseconds.
    pub duration_ms: u64,
    /// How many incidents begin in that time.
    pub incidents: u64,
    /// How many faults.
    pub faults: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            hosts: 5,
            duration_ms: 600_000,
            incidents: 20,
            faults: 16,
        }
    }
}

/// One thing that is due.
#[derive(Debug)]
enum Due {
    Incident(usize),
    /// For a run on a host, unless the host has died since.
    ForRun {
        host: usize,
        boot: u32,
        execution: ExecutionId,
        event: Box<Event>,
    },
    Wake {
        host: usize,
        boot: u32,
        execution: ExecutionId,
    },
    /// A question that reached the ledger.
    Ask {
        host: usize,
        boot: u32,
        execution: ExecutionId,
        question: Question,
    },
    /// The leader's clock has run a lease's full ttl.
    Expire {
        fence: Fence,
        generation: u64,
        term: u32,
    },
    /// The leader's clock has run out for one that waits and has not asked again.
    ExpireWait {
        execution: ExecutionId,
        generation: u64,
        term: u32,
    },
    /// A host hands its ended runs over, again and again.
    HandOver {
        host: usize,
        boot: u32,
    },
    Crash(usize),
    Restart(usize),
    Cut(usize, bool),
    Freeze(bool),
    /// A new leader: all its clocks begin anew.
    Election,
}

#[derive(Debug, Clone)]
enum Question {
    Acquire { ask: u64 },
    Renew { ask: u64, fence: Fence },
}

struct Host {
    name: HostName,
    key: Keypair,
    up: bool,
    boot: u32,
    booted_ms: u64,
    cut: bool,
    /// How fast its clock runs, in parts per million too fast or too slow.
    drift_ppm: i64,
    /// What is on its disk.
    journal: BTreeMap<String, Vec<(u64, JournalRecord)>>,
    runs: BTreeMap<ExecutionId, Run>,
    /// Reports the ledger has not acknowledged; on disk.
    outbox: BTreeMap<ExecutionId, Finished>,
}

/// The world.
pub struct World {
    rng: Rng,
    now_ms: u64,
    seq: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    due: BTreeMap<u64, Due>,
    hosts: Vec<Host>,
    ledger: Ledger,
    index: u64,
    term: u32,
    frozen: bool,
    acted: BTreeMap<(usize, ExecutionId, u64), ()>,
    log: Vec<Happened>,
    end_ms: u64,
    playbooks: [Playbook; 2],
}

impl World {
    /// Lives one seed's world to its end and returns what happened.
    pub fn run(seed: u64, scenario: Scenario) -> Vec<Happened> {
        let mut world = Self::new(seed, scenario);
        while let Some(Reverse((at, seq))) = world.queue.pop() {
            if at > world.end_ms + QUIET_MS {
                break;
            }
            world.now_ms = at;
            if let Some(due) = world.due.remove(&seq) {
                world.happen(due);
            }
        }
        world.tell(What::Quiet);
        world.log
    }

    fn new(seed: u64, scenario: Scenario) -> Self {
        let mut rng = Rng::new(seed);
        let hosts = (0..scenario.hosts).filter_map(|n| {
            let mut secret = [0; 32];
            secret[..8].copy_from_slice(&(n as u64 + 1).to_be_bytes());
            Some(Host {
                name: HostName::new(format!("host-{n}")).ok()?,
                key: Keypair::from_seed(&secret),
                up: true,
                boot: 0,
                booted_ms: 0,
                cut: false,
                drift_ppm: rng.within(0, 2000) as i64 - 1000,
                journal: BTreeMap::new(),
                runs: BTreeMap::new(),
                outbox: BTreeMap::new(),
            })
        });
        let hosts: Vec<Host> = hosts.collect();
        let mut world = Self {
            now_ms: 0,
            seq: 0,
            queue: BinaryHeap::new(),
            due: BTreeMap::new(),
            hosts,
            ledger: Ledger::default(),
            index: 0,
            term: 0,
            frozen: false,
            acted: BTreeMap::new(),
            log: Vec::new(),
            end_ms: scenario.duration_ms,
            playbooks: [playbook(true), playbook(false)],
            rng,
        };
        world.enrol_all();
        world.set_policy();
        for _ in 0..scenario.incidents {
            let (at, host) = (world.rng.within(0, scenario.duration_ms), world.any_host());
            world.at(at, Due::Incident(host));
        }
        for _ in 0..scenario.faults {
            world.plan_a_fault(scenario.duration_ms);
        }
        world
    }

    fn any_host(&mut self) -> usize {
        self.rng.within(0, self.hosts.len() as u64) as usize
    }

    fn plan_a_fault(&mut self, duration_ms: u64) {
        let from = self.rng.within(0, duration_ms);
        let until = (from + self.rng.within(100, 90_000)).min(duration_ms);
        let host = self.any_host();
        match self.rng.within(0, 8) {
            0..=3 => {
                self.at(from, Due::Crash(host));
                self.at(until, Due::Restart(host));
            }
            4..=5 => {
                self.at(from, Due::Cut(host, true));
                self.at(until, Due::Cut(host, false));
            }
            6 => self.at(from, Due::Election),
            _ => {
                self.at(from, Due::Freeze(true));
                self.at(until, Due::Freeze(false));
            }
        }
    }

    fn at(&mut self, at_ms: u64, due: Due) {
        self.seq += 1;
        self.due.insert(self.seq, due);
        self.queue.push(Reverse((at_ms.max(self.now_ms), self.seq)));
    }

    fn after(&mut self, ms: u64, due: Due) {
        self.at(self.now_ms + ms, due);
    }

    fn tell(&mut self, what: What) {
        self.log.push(Happened {
            at_ms: self.now_ms,
            what,
        });
    }

    fn wall(&self) -> Timestamp {
        EPOCH.plus(Duration::from_millis(self.now_ms))
    }

    /// A host's monotonic clock since it booted.
    fn clock(&self, host: usize) -> Duration {
        let host = &self.hosts[host];
        let ms = (self.now_ms - host.booted_ms) as i64;
        Duration::from_millis((ms + ms * host.drift_ppm / 1_000_000).max(0) as u64)
    }

    fn delay(&mut self) -> u64 {
        self.rng.within(1, MAX_DELAY_MS)
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Incident(host) => self.incident(host),
            Due::ForRun {
                host,
                boot,
                execution,
                event,
            } => {
                if self.hosts[host].up && self.hosts[host].boot == boot {
                    self.step(host, &execution, *event);
                }
            }
            Due::Wake {
                host,
                boot,
                execution,
            } => {
                if self.hosts[host].up && self.hosts[host].boot == boot {
                    self.step(host, &execution, Event::Tick);
                }
            }
            Due::Ask {
                host,
                boot,
                execution,
                question,
            } => self.ask(host, boot, execution, question),
            Due::Expire {
                fence,
                generation,
                term,
            } if term == self.term => {
                self.apply(Command::Expire { fence, generation });
            }
            Due::ExpireWait {
                execution,
                generation,
                term,
            } if term == self.term => {
                self.apply(Command::ExpireWait {
                    execution,
                    generation,
                });
            }
            Due::Expire { .. } | Due::ExpireWait { .. } => {}
            Due::HandOver { host, boot } => self.hand_over(host, boot),
            Due::Crash(host) => self.crash(host),
            Due::Restart(host) => self.restart(host),
            Due::Cut(host, cut) => {
                self.tell(What::Fault {
                    fault: format!("host {host} {}", if cut { "cut off" } else { "back" }),
                });
                self.hosts[host].cut = cut;
            }
            Due::Freeze(frozen) => self.freeze(frozen),
            Due::Election => self.election(),
        }
    }

    // what the hosts do

    fn incident(&mut self, host: usize) {
        if !self.hosts[host].up {
            return;
        }
        let entropy = self.rng.bits() as u32;
        let playbook = self.playbooks[usize::from(self.rng.chance(300))].clone();
        let incident = self.open_incident(host, entropy);
        let execution = ExecutionId::at(self.wall(), entropy);
        let plan = plan::of(&incident, &playbook, BTreeMap::new(), execution.clone());
        let intent = Intent {
            plan,
            incident,
            decision: None,
            mode: Mode::Autonomous,
            approval: None,
            started_at: self.wall(),
        };
        let mut run = Run::new(setup(intent, playbook));
        let effects = run.on(self.clock(host), self.wall(), Event::Frozen(self.frozen));
        self.hosts[host].runs.insert(execution.clone(), run);
        self.perform(host, &execution, effects);
        self.step(host, &execution, Event::Begin);
    }

    fn open_incident(&self, host: usize, entropy: u32) -> Incident {
        Incident {
            id: IncidentId::at(self.wall(), entropy),
            host: self.hosts[host].name.clone(),
            environment: "simulated".into(),
            service: None,
            tags: BTreeMap::new(),
            opened_at: self.wall(),
            updated_at: self.wall(),
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

    fn step(&mut self, host: usize, execution: &ExecutionId, event: Event) {
        let (clock, wall) = (self.clock(host), self.wall());
        let Some(run) = self.hosts[host].runs.get_mut(execution) else {
            return;
        };
        let effects = run.on(clock, wall, event);
        self.perform(host, execution, effects);
        let Some(run) = self.hosts[host].runs.get(execution) else {
            return;
        };
        if let Some(wake) = run.next_wake() {
            // The host's clock may run slow: wake a little later rather than spin.
            let left = wake.saturating_sub(self.clock(host)).as_millis() as u64;
            let boot = self.hosts[host].boot;
            self.after(
                left + left / 500 + 2,
                Due::Wake {
                    host,
                    boot,
                    execution: execution.clone(),
                },
            );
        }
    }

    fn perform(&mut self, host: usize, execution: &ExecutionId, effects: Vec<Effect>) {
        let boot = self.hosts[host].boot;
        for effect in effects {
            let execution = execution.clone();
            match effect {
                Effect::Journal { seq, record } => {
                    // The crash may come before the write, or after it and before the answer.
                    let records = self.hosts[host]
                        .journal
                        .entry(execution.to_string())
                        .or_default();
                    records.push((seq, record));
                    let ms = self.rng.within(1, 20);
                    self.reply(
                        ms,
                        host,
                        boot,
                        execution,
                        Event::Journaled {
                            seq,
                            result: Ok(()),
                        },
                    );
                }
                Effect::Acquire { ask } => {
                    self.send(host, boot, execution, Question::Acquire { ask })
                }
                Effect::Renew { ask, fence } => {
                    self.send(host, boot, execution, Question::Renew { ask, fence });
                }
                Effect::Perform(perform) => self.act(host, boot, execution, &perform),
                Effect::Stop { ticket } => self.stopped(host, boot, execution, ticket),
                Effect::KillChildren => {
                    self.acted
                        .retain(|(h, e, _), ()| *h != host || *e != execution);
                }
                Effect::Progress(_) => {}
                Effect::Finish(finished) => {
                    self.hosts[host].outbox.insert(execution.clone(), *finished);
                    self.hosts[host].runs.remove(&execution);
                    self.after(1, Due::HandOver { host, boot });
                }
            }
        }
    }

    fn reply(&mut self, ms: u64, host: usize, boot: u32, execution: ExecutionId, event: Event) {
        self.after(
            ms,
            Due::ForRun {
                host,
                boot,
                execution,
                event: Box::new(event),
            },
        );
    }

    fn act(&mut self, host: usize, boot: u32, execution: ExecutionId, perform: &Perform) {
        let Perform { ticket, step, .. } = perform;
        if let Action::Command { .. } = step.action {
            let idempotent = self.hosts[host]
                .runs
                .get(&execution)
                .is_none_or(|r| r.playbook().idempotent);
            self.tell(What::Acted {
                host,
                execution: execution.clone(),
                step: step.name.clone(),
                idempotent,
            });
        }
        self.acted.insert((host, execution.clone(), *ticket), ());
        let status = if self.rng.chance(120) {
            StepStatus::Failed
        } else {
            StepStatus::Success
        };
        let ms = self.rng.within(5, 8_000);
        let result = ActionResult {
            status,
            result: json!({}),
            message: String::new(),
        };
        self.reply(
            ms,
            host,
            boot,
            execution,
            Event::Performed {
                ticket: *ticket,
                result,
            },
        );
    }

    fn stopped(&mut self, host: usize, boot: u32, execution: ExecutionId, ticket: u64) {
        let result = ActionResult {
            status: StepStatus::Interrupted,
            result: json!({}),
            message: "stopped".into(),
        };
        self.reply(
            2,
            host,
            boot,
            execution,
            Event::Performed { ticket, result },
        );
    }

    // what the network does

    fn send(&mut self, host: usize, boot: u32, execution: ExecutionId, question: Question) {
        let lost = self.hosts[host].cut || self.rng.chance(30);
        if !lost {
            let copies = if self.rng.chance(30) { 2 } else { 1 };
            for _ in 0..copies {
                let ms = self.delay();
                let question = question.clone();
                self.after(
                    ms,
                    Due::Ask {
                        host,
                        boot,
                        execution: execution.clone(),
                        question,
                    },
                );
            }
        }
        // The asker's own patience; the real answer may come before or after it.
        let answer = Err(LedgerError::NoLeader(PATIENCE_MS));
        let event = match question {
            Question::Acquire { ask } => Event::Leased { ask, answer },
            Question::Renew { ask, .. } => Event::Renewed { ask, answer },
        };
        self.reply(PATIENCE_MS, host, boot, execution, event);
    }

    fn ask(&mut self, host: usize, boot: u32, execution: ExecutionId, question: Question) {
        let holder = self.hosts[host].key.node_id();
        let command = match &question {
            Question::Acquire { .. } => match self.acquire(host, &execution) {
                Some(acquire) => Command::Acquire(acquire),
                None => return,
            },
            Question::Renew { fence, .. } => Command::Renew {
                fence: *fence,
                holder,
                ttl_ms: TTL_MS,
            },
        };
        let answer = Ok(self.apply(command));
        if self.hosts[host].cut || self.rng.chance(30) {
            return;
        }
        let event = match question {
            Question::Acquire { ask } => Event::Leased { ask, answer },
            Question::Renew { ask, .. } => Event::Renewed { ask, answer },
        };
        let ms = self.delay();
        self.reply(ms, host, boot, execution, event);
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
}
