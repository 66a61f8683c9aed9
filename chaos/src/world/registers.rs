//! Clients that write and read a few keys of the ledger at any host. A key is a budget of a service
//! that nobody runs. A read goes as in the product: the leader says up to where the log must be
//! applied, once a majority has confirmed that it still leads, and the host that was asked answers
//! from its own copy when it is so far (Ongaro, 2014, section 6.4).

use super::clients::Ask;
use super::network::Message;
use super::{Due, Scenario, World};
use crate::event::{Operation, Outcome, What};
use hale_model::ServiceName;
use hale_model::ledger::{Budget, BudgetLimit, Command, EntryKind, Signed};
use hale_model::planted::{self, Mistake};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const KEYS: u64 = 2;
/// So many follow on each other closely.
const AT_ONCE: u64 = 4;
/// Within so long.
const CLOSELY_MS: u64 = 3_000;

/// What a client will do.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) host: usize,
    key: usize,
    /// What it writes; nothing if it reads.
    writes: Option<u32>,
}

/// What a host answers once it has applied enough.
#[derive(Debug)]
pub(super) struct Read {
    ask: u64,
    key: usize,
    /// So much.
    place: usize,
}

/// What a leader is asked to read before it is known that it still leads.
#[derive(Debug, Default)]
pub(super) struct Confirming {
    /// The place of the first entry of its own: what is before may be more than it knows to be
    /// committed.
    pub(super) first: usize,
    rounds: BTreeMap<u64, Round>,
}

#[derive(Debug)]
struct Round {
    /// Who asked, with which number.
    asked: (usize, u64),
    place: usize,
    /// Who confirmed it.
    by: BTreeSet<usize>,
}

fn name_of(key: usize) -> String {
    format!("r{key}")
}

/// What it means that a client sets this.
pub(super) fn write_of(budget: &Budget) -> Option<Operation> {
    match budget.limit {
        BudgetLimit::AtMost(value) => Some(Operation::Write {
            key: budget.name.clone(),
            value: u64::from(value),
        }),
        _ => None,
    }
}

impl World {
    pub(super) fn plan_operations(&mut self, scenario: &Scenario) {
        let mut from = 0;
        for n in 0..scenario.operations {
            if n % AT_ONCE == 0 {
                from = self.rng.within(1_000, scenario.duration_ms);
            }
            let at = from + self.rng.within(0, CLOSELY_MS);
            let host = self.any_host();
            let key = self.rng.within(0, KEYS) as usize;
            let writes = self.rng.chance(400).then_some(n as u32 + 1);
            self.at(at, Due::Operation(Planned { host, key, writes }));
        }
    }

    pub(super) fn operation(&mut self, planned: Planned) {
        let Planned { host, key, writes } = planned;
        if !self.hosts[host].up {
            return;
        }
        match writes {
            Some(value) => self.write_key(host, key, value),
            None => self.read_key(host, key),
        }
    }

    fn write_key(&mut self, host: usize, key: usize, value: u32) {
        let Ok(nobody) = ServiceName::new("nothing") else {
            return;
        };
        let budget = Budget {
            name: name_of(key),
            service: Some(nobody),
            limit: BudgetLimit::AtMost(value),
        };
        let Ok(body) = hale_model::canonical::to_bytes(&json!({ "budget": budget })) else {
            return;
        };
        let entry = Signed::new(EntryKind::Budget, body, &self.hosts[host].key);
        let by = "client".to_owned();
        self.ask(host, Command::SetBudget { budget, by, entry }, Ask::Write);
    }

    fn read_key(&mut self, host: usize, key: usize) {
        let Some(leader) = self.hosts[host].replica.leader else {
            return;
        };
        self.asked += 1;
        let ask = self.asked;
        self.hosts[host].asks.insert(ask, Ask::Read(key));
        let key = name_of(key);
        let operation = Operation::Read { key };
        self.tell(What::Asked {
            ask,
            host,
            operation,
        });
        self.send(host, leader, Message::ReadIndex { ask });
    }

    /// A host asks this one up to where must be applied.
    pub(super) fn read_index(&mut self, from: usize, to: usize, ask: u64) {
        let alone = self.majority() == 1;
        let replica = &mut self.hosts[to].replica;
        if !replica.leads {
            return;
        }
        let (term, place) = (replica.term, replica.commit.max(replica.confirming.first));
        if alone || planted::is(Mistake::ReadUnconfirmed) {
            return self.send(to, from, Message::ReadAt { ask, place });
        }
        self.asked += 1;
        let round = self.asked;
        let (asked, by) = ((from, ask), [to].into());
        let waits = Round { asked, place, by };
        replica.confirming.rounds.insert(round, waits);
        for other in (0..self.hosts.len()).filter(|other| *other != to) {
            self.send(to, other, Message::Confirm { term, round });
        }
    }

    pub(super) fn confirm(&mut self, from: usize, to: usize, term: u64, round: u64) {
        if self.heard(from, to, term) {
            self.send(to, from, Message::Confirmed { term, round });
        }
    }

    pub(super) fn confirmed(&mut self, from: usize, to: usize, term: u64, round: u64) {
        let majority = self.majority();
        let replica = &mut self.hosts[to].replica;
        if !replica.leads || replica.term != term {
            return;
        }
        let rounds = &mut replica.confirming.rounds;
        let Some(waits) = rounds.get_mut(&round) else {
            return;
        };
        waits.by.insert(from);
        if waits.by.len() >= majority
            && let Some(Round { asked, place, .. }) = rounds.remove(&round)
        {
            let (asker, ask) = asked;
            self.send(to, asker, Message::ReadAt { ask, place });
        }
    }

    /// A host hears up to where it must have applied the log.
    pub(super) fn read_at(&mut self, host: usize, ask: u64, place: usize) {
        if let Some(Ask::Read(key)) = self.hosts[host].asks.remove(&ask) {
            self.hosts[host].reads.push(Read { ask, key, place });
            self.answer_reads(host);
        }
    }

    /// Answers what may be read by now.
    pub(super) fn answer_reads(&mut self, host: usize) {
        if self.hosts[host].reads.is_empty() {
            return;
        }
        let at = &mut self.hosts[host];
        let applied = at.replica.applied;
        let ready: Vec<Read> = at.reads.extract_if(.., |r| r.place <= applied).collect();
        for Read { ask, key, .. } in ready {
            let ledger = &self.hosts[host].replica.ledger;
            let budget = ledger.budget(&name_of(key));
            let value = budget.and_then(|b| match b.limit {
                BudgetLimit::AtMost(value) => Some(u64::from(value)),
                _ => None,
            });
            let outcome = Outcome::Value(value);
            self.tell(What::Answered { ask, outcome });
        }
    }
}
