//! What goes wrong in the simulated world. All of it is planned from the seed before the world
//! begins to live, so that a schedule can be made shorter without changing the rest of it.

use super::playbooks::setup;
use super::{Due, PATIENCE_MS, Scenario, World};
use crate::event::What;
use hale_executor::grants::Grants;
use hale_executor::journal::{self, Recovery};
use hale_executor::run::{Event, Run};
use hale_model::ExecutionId;
use hale_model::ledger::Lease;
use serde::Serialize;
use std::collections::BTreeSet;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A host dies and loses what was on its way to the disk.
    Crash(usize),
    /// A host is stopped, as by SIGSTOP, and goes on later.
    Stop(usize),
    /// Nothing gets to a host or from it.
    CutOff(usize),
    /// Nothing gets from the one to the other.
    OneWay(usize, usize),
    /// Nothing gets between these hosts and the others.
    Partition(Vec<usize>),
    /// Many packets are lost: so many of a thousand.
    Loss(u64),
    /// A host's disk takes nothing.
    DiskFull(usize),
    /// A host's disk takes seconds.
    DiskSlow(usize),
    /// A host's wall clock jumps by so many milliseconds, and back.
    ClockJump(usize, i64),
    /// Another one is elected though nothing is wrong.
    Election,
    /// An operator freezes the cluster.
    Freeze,
    /// All hosts lose their power at the moment a host is told that its record is written.
    PowerLoss,
}

/// A fault, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// It begins, in milliseconds since the world began.
    pub from_ms: u64,
    /// It is over.
    pub until_ms: u64,
    /// What it is.
    pub kind: FaultKind,
}

impl World {
    pub(super) fn plan_faults(&mut self, scenario: &Scenario) {
        for number in 0..scenario.faults as usize {
            let fault = self.plan_a_fault(scenario.duration_ms);
            if !self.without.contains(&number) {
                self.at(fault.from_ms, Due::Begins(number));
                self.at(fault.until_ms, Due::Ends(number));
            }
            self.faults.push(fault);
        }
    }

    fn plan_a_fault(&mut self, duration_ms: u64) -> Fault {
        let from_ms = self.rng.within(0, duration_ms);
        let long = self.rng.within(100, 90_000);
        let (host, other) = (self.any_host(), self.any_host());
        let kind = match self.rng.within(0, 17) {
            0..=4 => FaultKind::Crash(host),
            5 => FaultKind::Stop(host),
            6 => FaultKind::CutOff(host),
            7 => FaultKind::OneWay(host, other),
            8..=9 => {
                let some = (0..self.hosts.len()).filter(|_| self.rng.chance(500));
                FaultKind::Partition(some.collect())
            }
            10 => FaultKind::Loss(self.rng.within(100, 600)),
            11 => FaultKind::DiskFull(host),
            12 => FaultKind::DiskSlow(host),
            13 => FaultKind::ClockJump(host, self.rng.within(0, 1_200_000) as i64 - 900_000),
            14 => FaultKind::Election,
            15 => FaultKind::Freeze,
            _ => FaultKind::PowerLoss,
        };
        let until_ms = (from_ms + long).min(duration_ms);
        Fault {
            from_ms,
            until_ms,
            kind,
        }
    }

    pub(super) fn begins(&mut self, number: usize) {
        let kind = self.faults[number].kind.clone();
        self.tell(What::Fault {
            fault: format!("{number} begins: {kind:?}"),
        });
        self.active.insert(number);
        match kind {
            FaultKind::Crash(host) => self.crash(host),
            FaultKind::ClockJump(host, ms) => self.hosts[host].wall_ms += ms,
            FaultKind::Election => self.elect_another(),
            FaultKind::Freeze => self.operate(true),
            // See `lose_power`.
            FaultKind::PowerLoss => {}
            _ => self.settle(),
        }
    }

    pub(super) fn ends(&mut self, number: usize) {
        let kind = self.faults[number].kind.clone();
        if self.active.remove(&number) {
            self.tell(What::Fault {
                fault: format!("{number} ends: {kind:?}"),
            });
        }
        match kind {
            FaultKind::Crash(host) => {
                if !self.is_any(|k| *k == FaultKind::Crash(host)) {
                    self.restart(host);
                }
            }
            FaultKind::ClockJump(host, ms) => self.hosts[host].wall_ms -= ms,
            FaultKind::PowerLoss => {
                for host in 0..self.hosts.len() {
                    if !self.is_any(|k| *k == FaultKind::Crash(host)) {
                        self.restart(host);
                    }
                }
            }
            FaultKind::Election => {}
            FaultKind::Freeze => {
                if self.is_any(|k| *k == FaultKind::Freeze) {
                    return;
                }
                // Until it is heard.
                if self.is_frozen || self.now_ms < self.end_ms + PATIENCE_MS {
                    self.operate(false);
                    self.after(PATIENCE_MS, Due::Ends(number));
                }
            }
            _ => self.settle(),
        }
    }

    /// The power fails if it is about to.
    pub(super) fn lose_power(&mut self) {
        let armed = |n: &&usize| self.faults[**n].kind == FaultKind::PowerLoss;
        let Some(number) = self.active.iter().find(armed).copied() else {
            return;
        };
        self.active.remove(&number);
        self.tell(What::Fault {
            fault: format!("{number}: all hosts lose their power"),
        });
        for host in 0..self.hosts.len() {
            self.crash(host);
        }
    }

    fn is_any(&self, is: impl Fn(&FaultKind) -> bool) -> bool {
        self.active.iter().any(|n| is(&self.faults[*n].kind))
    }

    /// Makes the network, the disks and who is stopped what the faults at this moment say.
    fn settle(&mut self) {
        let all: Vec<usize> = (0..self.hosts.len()).collect();
        let mut cuts = BTreeSet::new();
        let mut loss = 30;
        for number in &self.active {
            let inside: &[usize] = match &self.faults[*number].kind {
                FaultKind::CutOff(host) => std::slice::from_ref(host),
                FaultKind::Partition(hosts) => hosts,
                FaultKind::OneWay(from, to) => {
                    cuts.insert((*from, *to));
                    continue;
                }
                FaultKind::Loss(of_thousand) => {
                    loss = loss.max(*of_thousand);
                    continue;
                }
                _ => continue,
            };
            for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))) {
                if inside.contains(&a) != inside.contains(&b) {
                    cuts.insert((a, b));
                }
            }
        }
        (self.cuts, self.loss) = (cuts, loss);
        for host in all {
            self.hosts[host].disk_full = self.is_any(|k| *k == FaultKind::DiskFull(host));
            self.hosts[host].disk_slow = self.is_any(|k| *k == FaultKind::DiskSlow(host));
            let was_stopped = self.hosts[host].stopped;
            self.hosts[host].stopped = self.is_any(|k| *k == FaultKind::Stop(host));
            if was_stopped && !self.hosts[host].stopped {
                for due in std::mem::take(&mut self.hosts[host].held) {
                    self.after(0, due);
                }
            }
        }
    }

    fn crash(&mut self, host: usize) {
        if !self.hosts[host].up {
            return;
        }
        // What was on its way to the disk may be lost: the end of the log, the last record of each
        // run.
        let (least, most) = self.hosts[host].replica.unsynced();
        let survives = self.rng.within(least as u64, most as u64 + 1) as usize;
        let lose = self.rng.chance(500);
        let at = &mut self.hosts[host];
        at.up = false;
        at.held.clear();
        at.asks.clear();
        at.reads.clear();
        at.wakes.clear();
        at.grants = Grants::default();
        at.replica.crash(survives);
        for (execution, run) in std::mem::take(&mut at.runs) {
            let unconfirmed = run.running().doing == "writes its journal";
            if lose
                && unconfirmed
                && let Some(records) = at.journal.get_mut(execution.as_str())
            {
                records.pop();
            }
        }
    }

    fn restart(&mut self, host: usize) {
        if self.hosts[host].up {
            return;
        }
        let now_ms = self.now_ms;
        let at = &mut self.hosts[host];
        at.up = true;
        at.boot += 1;
        at.booted_ms = now_ms;
        let boot = at.boot;
        self.after(100, Due::TakeUp { host, boot });
        self.after(1, Due::HandOver { host, boot });
    }

    /// Runs that the host's journals tell of are taken up, once a leader says what the ledger knows
    /// of their leases.
    pub(super) fn take_up(&mut self, host: usize, boot: u32) {
        if !self.is_alive(host, boot) {
            return;
        }
        let leader = self.reading_leader();
        let Some(leader) = leader.filter(|l| {
            let (to, back) = (self.gets_through(host, *l), self.gets_through(*l, host));
            to && back && self.hosts[host].replica.leader.is_some()
        }) else {
            return self.after(1_000, Due::TakeUp { host, boot });
        };
        let node = self.hosts[host].key.node_id();
        let own = |l: &&Lease| l.holder == node;
        let ledger = &self.hosts[leader].replica.ledger;
        let own: Vec<Lease> = ledger.leases().filter(own).cloned().collect();
        for lease in own {
            let at = &mut self.hosts[host];
            let is_known = at.journal.contains_key(lease.execution.as_str())
                || at.outbox.contains_key(&lease.execution);
            if !is_known {
                at.grants.ended(&lease.execution, true);
                self.close_orphan(host, lease);
            }
        }
        for (name, records) in self.hosts[host].journal.clone() {
            let Ok(execution) = ExecutionId::new(name.clone()) else {
                continue;
            };
            let at = &self.hosts[host];
            if at.outbox.contains_key(&execution) || at.runs.contains_key(&execution) {
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
                    let ledger = &self.hosts[leader].replica.ledger;
                    let frozen = ledger.frozen().is_some();
                    let of_it = |l: &&Lease| l.execution == execution;
                    let lease = ledger.leases().find(of_it).cloned();
                    let is_open = self.rng.chance(700);
                    self.step(host, &execution, Event::Frozen(frozen));
                    self.step(host, &execution, Event::Resume { lease, is_open });
                }
                Recovery::Lost => {
                    self.hosts[host].journal.remove(&name);
                }
            }
        }
        self.after(1, Due::HandOver { host, boot });
    }
}
