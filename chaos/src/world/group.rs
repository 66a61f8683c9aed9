//! The group of the simulated world: a model of Raft (Ongaro, "Consensus: Bridging Theory and
//! Practice", 2014, chapter 3) with the real state machine and the real clock of what runs out.
//!
//! Replication goes over the simulated network and onto the simulated disks: a leader appends,
//! followers acknowledge what their disks have, what a majority has of the leader's term is
//! committed, applied and answered. What is not modelled is the exchange of votes: who misses a
//! leader is elected at once by those that it reaches and whose logs are no newer than its own, if
//! they are a majority, and these know the new term from then on. openraft itself runs on an async
//! runtime whose order of tasks no seed decides; its crashes are tested in `node/consensus/`.

use super::network::Message;
use super::registers::Confirming;
use super::{Due, World};
use crate::event::What;
use hale_consensus::expiry::{self, Effect, Expiry};
use hale_consensus::ledger::RULES;
use hale_consensus::{Ledger, News};
use hale_executor::run::Event;
use hale_model::Digest;
use hale_model::ledger::{Budget, BudgetLimit, Command, EntryKind, Lease, Signed};
use hale_model::planted::{self, Mistake};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So often followers hear of their leader.
const HEARTBEAT_MS: u64 = 1_000;
/// After so many applied entries a snapshot is put on the disk.
const SNAPSHOT_EVERY: usize = 32;
/// A follower that lacks more is sent the whole state.
const FAR_BEHIND: usize = 48;

/// An entry of the log; a new leader's first is empty.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    term: u64,
    command: Option<Arc<Command>>,
}

struct Snapshot {
    applied: usize,
    entries: usize,
    state: Vec<u8>,
}

/// One host's part in the group.
#[derive(Default)]
pub(super) struct Replica {
    log: Vec<Slot>,
    /// How much of it is on the disk.
    synced: usize,
    /// How often it was cut shorter.
    cuts: u32,
    pub(super) term: u64,
    pub(super) commit: usize,
    pub(super) applied: usize,
    pub(super) ledger: Ledger,
    /// The hashes of the chain's entries.
    pub(super) chain: Vec<Digest>,
    snapshot: Option<Snapshot>,
    /// How much of it is the leader's, as far as is known.
    matched: usize,
    /// Who leads, as far as is known.
    pub(super) leader: Option<usize>,
    pub(super) leads: bool,
    /// Of a leader: how far each follower's disk is, and what it is sent next.
    acked: Vec<usize>,
    next: Vec<usize>,
    expiry: Expiry,
    /// When the clock of what runs out is looked at next.
    expiry_at_ms: Option<u64>,
    /// Who waits for the answer to which entry.
    proposals: BTreeMap<usize, (usize, u64)>,
    /// Of a leader: who waits for others to confirm that it leads.
    pub(super) confirming: Confirming,
}

impl Replica {
    fn last(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |s| s.term), self.log.len())
    }

    /// How much of the log this host may vouch for.
    fn durable(&self) -> usize {
        match planted::is(Mistake::AckBeforeSync) {
            true => self.log.len(),
            false => self.synced,
        }
    }

    fn follow(&mut self, term: u64) {
        if term > self.term {
            self.term = term;
            self.matched = 0;
            self.leader = None;
        }
        self.leads = false;
        self.proposals.clear();
        self.confirming = Confirming::default();
        self.expiry = Expiry::default();
        self.expiry_at_ms = None;
    }

    /// What a crash leaves: what is on the disk, and any part of what was on its way there.
    pub(super) fn crash(&mut self, survives: usize) {
        self.log.truncate(survives);
        self.cuts += 1;
        self.synced = self.log.len();
        self.follow(self.term);
        (self.matched, self.leader) = (0, None);
        self.restore();
    }

    /// The state as the disk has it.
    fn restore(&mut self) {
        let usable = self.snapshot.take().filter(|s| s.applied <= self.log.len());
        let state = usable.as_ref().map(|s| Ledger::decode(&s.state));
        let (applied, entries) = usable.as_ref().map_or((0, 0), |s| (s.applied, s.entries));
        self.ledger = state.and_then(Result::ok).unwrap_or_default();
        self.applied = applied;
        self.commit = applied;
        self.chain.truncate(entries);
        self.snapshot = usable;
    }

    pub(super) fn unsynced(&self) -> (usize, usize) {
        (self.synced, self.log.len())
    }
}

impl World {
    /// The first entries, which every host has: who belongs to the cluster, the rules, and in two of
    /// three worlds a budget that all runs share.
    pub(super) fn found(&mut self) {
        let first = &self.hosts[0].key;
        let mut commands: Vec<Command> = self
            .hosts
            .iter()
            .map(|h| Command::Enrol {
                node: h.key.node_id(),
                host: h.name.clone(),
                entry: hale_audit::enrolment::sign(h.key.node_id(), &h.name, first),
            })
            .collect();
        commands.push(Command::Rules { version: RULES });
        let at_most = self.rng.within(0, 3) as u32;
        let budget = Budget {
            name: "all".into(),
            service: None,
            limit: BudgetLimit::AtMost(at_most),
        };
        let body = hale_model::canonical::to_bytes(&json!({ "budget": budget }));
        if at_most > 0
            && let Ok(body) = body
        {
            let entry = Signed::new(EntryKind::Budget, body, first);
            let by = "operator".to_owned();
            commands.push(Command::SetBudget { budget, by, entry });
            self.tell(What::Budget { at_most });
        }
        let slots = commands.into_iter().map(|c| Slot {
            term: 0,
            command: Some(Arc::new(c)),
        });
        let slots: Vec<Slot> = slots.collect();
        for host in 0..self.hosts.len() {
            let replica = &mut self.hosts[host].replica;
            replica.log = slots.clone();
            (replica.synced, replica.commit) = (slots.len(), slots.len());
            self.apply(host);
        }
    }

    pub(super) fn majority(&self) -> usize {
        self.hosts.len() / 2 + 1
    }

    fn is_well(&self, host: usize) -> bool {
        self.hosts[host].up && !self.hosts[host].stopped
    }

    /// Those that a host hears and that hear it, itself among them.
    fn reached(&self, host: usize) -> Vec<usize> {
        let hears = |other: &usize| {
            self.is_well(*other)
                && self.gets_through(host, *other)
                && self.gets_through(*other, host)
        };
        (0..self.hosts.len()).filter(hears).collect()
    }

    /// The leader that can get something done, if there is one.
    pub(super) fn working_leader(&self) -> Option<usize> {
        let newest = (0..self.hosts.len())
            .filter(|h| self.hosts[*h].replica.leads)
            .max_by_key(|h| self.hosts[*h].replica.term)?;
        // Whoever knows a later term follows it no more, though nobody may lead in that one.
        let term = self.hosts[newest].replica.term;
        let mut followers = self.reached(newest);
        followers.retain(|h| self.hosts[*h].replica.term <= term);
        let works = self.is_well(newest)
            && !self.hosts[newest].disk_full
            && followers.len() >= self.majority();
        works.then_some(newest)
    }

    /// The leader whose copy of the ledger has all that was ever acknowledged: it has applied an
    /// entry of its own term.
    pub(super) fn reading_leader(&self) -> Option<usize> {
        let leader = self.working_leader()?;
        let replica = &self.hosts[leader].replica;
        let last = replica.applied.checked_sub(1).map(|i| replica.log[i].term);
        (last == Some(replica.term)).then_some(leader)
    }

    pub(super) fn elect(&mut self) {
        let ms = self.rng.within(200, 900);
        self.after(ms, Due::Elect);
        if self.working_leader().is_none() {
            self.elect_another();
        }
    }

    /// Elects one who can be, other than the one who leads.
    pub(super) fn elect_another(&mut self) {
        let leads = self.working_leader();
        let all = self.hosts.len();
        let first = self.any_host();
        let electable = (0..all).map(|n| (first + n) % all).find_map(|host| {
            if Some(host) == leads || !self.is_well(host) || self.hosts[host].disk_full {
                return None;
            }
            let last = self.hosts[host].replica.last();
            let mut votes = self.reached(host);
            votes.retain(|v| self.hosts[*v].replica.last() <= last);
            (votes.len() >= self.majority()).then_some((host, votes))
        });
        let Some((host, votes)) = electable else {
            return;
        };
        self.term += 1;
        let term = self.term;
        for voter in votes {
            self.hosts[voter].replica.follow(term);
        }
        self.tell(What::Leads { host, term });
        let (now, all) = (self.clock(host), self.hosts.len());
        let replica = &mut self.hosts[host].replica;
        replica.leads = true;
        replica.leader = Some(host);
        replica.acked = vec![0; all];
        replica.next = vec![replica.log.len(); all];
        let open = expiry::open(&replica.ledger);
        replica.expiry.on(now, expiry::Event::Leading(open));
        self.watch_expiry(host);
        let first = self.write(host, None);
        self.hosts[host].replica.confirming.first = first;
        self.after(HEARTBEAT_MS, Due::Heartbeat { host, term });
    }

    /// A leader puts an entry at the end of its log, and gives its place.
    fn write(&mut self, host: usize, command: Option<Command>) -> usize {
        let replica = &mut self.hosts[host].replica;
        let command = command.map(Arc::new);
        replica.log.push(Slot {
            term: replica.term,
            command,
        });
        let place = replica.log.len();
        self.sync(host);
        self.replicate(host);
        place
    }

    fn sync(&mut self, host: usize) {
        let at = &self.hosts[host];
        let (boot, cuts, upto) = (at.boot, at.replica.cuts, at.replica.log.len());
        let ms = match at.disk_slow {
            true => self.rng.within(500, 4_000),
            false => self.rng.within(1, 15),
        };
        self.after(
            ms,
            Due::Synced {
                host,
                boot,
                cuts,
                upto,
            },
        );
        if planted::is(Mistake::AckBeforeSync) {
            self.vouch(host);
        }
    }

    pub(super) fn synced(&mut self, host: usize, boot: u32, cuts: u32, upto: usize) {
        if !self.is_alive(host, boot) || self.hosts[host].replica.cuts != cuts {
            return;
        }
        let replica = &mut self.hosts[host].replica;
        replica.synced = replica.synced.max(upto);
        // A stopped process does not see it before it goes on; its leader asks again.
        if !self.hosts[host].stopped {
            self.vouch(host);
        }
    }

    /// Goes by what is on this host's disk now.
    fn vouch(&mut self, host: usize) {
        if self.hosts[host].replica.leads {
            self.commit(host);
        } else {
            self.acknowledge(host);
        }
        self.apply(host);
    }

    fn acknowledge(&mut self, host: usize) {
        let replica = &self.hosts[host].replica;
        let (term, len) = (replica.term, replica.matched.min(replica.durable()));
        let appended = Message::Appended {
            term,
            fits: true,
            len,
        };
        if let Some(leader) = replica.leader {
            self.send(host, leader, appended);
        }
    }

    fn replicate(&mut self, host: usize) {
        for to in (0..self.hosts.len()).filter(|to| *to != host) {
            self.send_log(host, to);
        }
    }

    fn send_log(&mut self, host: usize, to: usize) {
        let replica = &self.hosts[host].replica;
        let (term, next) = (replica.term, replica.next[to].min(replica.log.len()));
        if replica.applied > next + FAR_BEHIND
            && let Ok(state) = replica.ledger.encode()
        {
            let (log, chain) = (
                replica.log[..replica.applied].to_vec(),
                replica.chain.clone(),
            );
            let whole = Message::Install {
                term,
                log,
                state,
                chain,
            };
            return self.send(host, to, whole);
        }
        let before = (next, next.checked_sub(1).map_or(0, |i| replica.log[i].term));
        let message = Message::Append {
            term,
            before,
            slots: replica.log[next..].to_vec(),
            commit: replica.commit,
        };
        self.send(host, to, message);
    }

    pub(super) fn heartbeat(&mut self, host: usize, term: u64) {
        let at = &self.hosts[host];
        if at.up && at.replica.leads && at.replica.term == term {
            self.replicate(host);
            self.after(HEARTBEAT_MS, Due::Heartbeat { host, term });
        }
    }

    /// Whether what a leader of this term says counts here.
    pub(super) fn heard(&mut self, from: usize, to: usize, term: u64) -> bool {
        let replica = &mut self.hosts[to].replica;
        if term < replica.term {
            let term = replica.term;
            let older = Message::Appended {
                term,
                fits: false,
                len: 0,
            };
            self.send(to, from, older);
            return false;
        }
        if term > replica.term || replica.leads {
            replica.follow(term);
        }
        replica.leader = Some(from);
        // A disk that takes nothing acknowledges nothing.
        !self.hosts[to].disk_full
    }

    pub(super) fn append(
        &mut self,
        from: usize,
        to: usize,
        term: u64,
        before: (usize, u64),
        slots: Vec<Slot>,
        commit: usize,
    ) {
        if !self.heard(from, to, term) {
            return;
        }
        let replica = &mut self.hosts[to].replica;
        let (at, of_term) = before;
        let fits = at == 0 || replica.log.get(at - 1).is_some_and(|s| s.term == of_term);
        if !fits {
            // Back to before the first entry of the term that does not fit.
            let last = replica.log.len().min(at).saturating_sub(1);
            let odd = replica.log.get(last).map_or(0, |s| s.term);
            let len = replica.log.iter().position(|s| s.term == odd).unwrap_or(0);
            let short = replica.log.len() < at;
            let len = if short { replica.log.len() } else { len };
            let misfit = Message::Appended {
                term,
                fits: false,
                len,
            };
            return self.send(to, from, misfit);
        }
        let mut place = at;
        let mut is_news = false;
        for slot in slots {
            let known = replica.log.get(place).map(|s| s.term);
            if known.is_some_and(|t| t != slot.term) {
                replica.log.truncate(place);
                replica.cuts += 1;
                replica.synced = replica.synced.min(place);
                if replica.applied > place {
                    // What was committed is replaced: the oracle will see another chain.
                    replica.restore();
                }
            }
            if known != Some(slot.term) {
                replica.log.push(slot);
                is_news = true;
            }
            place += 1;
        }
        replica.matched = replica.matched.max(place);
        replica.commit = replica.commit.max(commit.min(replica.matched));
        match is_news {
            true => self.sync(to),
            false => self.acknowledge(to),
        }
        self.apply(to);
    }

    pub(super) fn install(
        &mut self,
        from: usize,
        to: usize,
        term: u64,
        log: Vec<Slot>,
        state: &[u8],
        chain: Vec<Digest>,
    ) {
        if !self.heard(from, to, term) {
            return;
        }
        let replica = &mut self.hosts[to].replica;
        let len = log.len();
        if len > replica.applied
            && let Ok(ledger) = Ledger::decode(state)
        {
            // A snapshot that comes late takes nothing of what follows it in the same log (Ongaro,
            // "Consensus: bridging theory and practice", 2014, figure 5.3, step 6).
            let last = log.last().map(|s| s.term);
            let is_same = replica.log.get(len - 1).map(|s| s.term) == last;
            if is_same && replica.log.len() > len {
                let tail = replica.log.split_off(len);
                replica.log = log;
                replica.log.extend(tail);
                replica.synced = replica.synced.max(len);
            } else {
                replica.log = log;
                replica.cuts += 1;
                replica.synced = len;
            }
            (replica.ledger, replica.chain) = (ledger, chain);
            (replica.applied, replica.commit) = (len, replica.commit.max(len));
            replica.snapshot = Some(Snapshot {
                applied: len,
                entries: replica.chain.len(),
                state: state.to_vec(),
            });
            let (frozen, last) = (replica.ledger.frozen().is_some(), replica.chain.last());
            if let (Some(hash), Some(index)) = (last.copied(), replica.chain.len().checked_sub(1)) {
                let index = index as u64;
                self.tell(What::Copied {
                    host: to,
                    index,
                    hash,
                });
            }
            self.tell_runs(to, frozen);
            // What changed in between is not told: what it holds may be news to it.
            let held: Vec<Lease> = self.hosts[to].replica.ledger.leases().cloned().collect();
            for lease in held {
                self.granted(to, &lease);
            }
            self.answer_reads(to);
        }
        let replica = &mut self.hosts[to].replica;
        replica.matched = replica.matched.max(len);
        self.acknowledge(to);
    }

    pub(super) fn appended(&mut self, from: usize, to: usize, term: u64, fits: bool, len: usize) {
        let replica = &mut self.hosts[to].replica;
        if term > replica.term {
            return replica.follow(term);
        }
        if !replica.leads || term < replica.term {
            return;
        }
        if !fits {
            replica.next[from] = replica.next[from].min(len);
            return self.send_log(to, from);
        }
        replica.acked[from] = replica.acked[from].max(len.min(replica.log.len()));
        replica.next[from] = replica.next[from].max(replica.acked[from]);
        self.commit(to);
        self.apply(to);
    }

    fn commit(&mut self, host: usize) {
        let majority = self.majority();
        let replica = &mut self.hosts[host].replica;
        let mut disks = replica.acked.clone();
        disks[host] = replica.durable();
        disks.sort_unstable_by(|a, b| b.cmp(a));
        let reached = disks[majority - 1];
        let is_own = |len: usize| replica.log.get(len - 1).map(|s| s.term) == Some(replica.term);
        if reached > replica.commit && is_own(reached) {
            replica.commit = reached;
        }
    }

    fn apply(&mut self, host: usize) {
        loop {
            let replica = &mut self.hosts[host].replica;
            let place = replica.applied;
            if place >= replica.commit.min(replica.durable()) {
                return self.answer_reads(host);
            }
            replica.applied += 1;
            let command = replica.log[place].command.clone();
            let Some(command) = command else {
                self.told = self.told.max(place + 1);
                continue;
            };
            let applied = replica.ledger.apply(place as u64 + 1, (*command).clone());
            replica
                .chain
                .extend(applied.entries.iter().map(|e| e.hash()));
            let is_first = place >= self.told;
            for entry in &applied.entries {
                let (index, hash, previous) = (entry.index, entry.hash(), entry.previous);
                self.tell(match is_first {
                    true => What::Appended {
                        index,
                        hash,
                        previous,
                    },
                    false => What::Copied { host, index, hash },
                });
            }
            self.told = self.told.max(place + 1);
            for news in &applied.news {
                if is_first {
                    self.tell_oracle(news);
                }
                self.hear(host, news);
            }
            let replica = &mut self.hosts[host].replica;
            if replica.applied.is_multiple_of(SNAPSHOT_EVERY)
                && let Ok(state) = replica.ledger.encode()
            {
                replica.snapshot = Some(Snapshot {
                    applied: replica.applied,
                    entries: replica.chain.len(),
                    state,
                });
            }
            if let Some((to, ask)) = replica.proposals.remove(&(place + 1)) {
                let answer = Some(applied.answer);
                self.send(host, to, Message::Answered { ask, answer });
            }
        }
    }

    /// What a host makes of what its own copy of the ledger did.
    fn hear(&mut self, host: usize, news: &News) {
        match news {
            News::Frozen { frozen, .. } => self.tell_runs(host, *frozen),
            News::Granted(lease) => self.granted(host, lease),
            _ => {}
        }
        let now = self.clock(host);
        let replica = &mut self.hosts[host].replica;
        if replica.leads {
            for event in expiry::events_of(news) {
                replica.expiry.on(now, event);
            }
            self.watch_expiry(host);
        }
    }

    /// The ledger granted a lease, or a snapshot says that it did.
    fn granted(&mut self, host: usize, lease: &Lease) {
        let at = &mut self.hosts[host];
        if lease.holder != at.key.node_id() {
            return;
        }
        let runs = at.runs.contains_key(&lease.execution)
            || at.journal.contains_key(lease.execution.as_str());
        if let Some(lease) = at.grants.granted(lease.clone(), runs) {
            self.close_orphan(host, lease);
        }
    }

    fn tell_runs(&mut self, host: usize, frozen: bool) {
        let boot = self.hosts[host].boot;
        let runs: Vec<_> = self.hosts[host].runs.keys().cloned().collect();
        for execution in runs {
            self.reply(1, host, boot, execution, Event::Frozen(frozen));
        }
    }

    fn watch_expiry(&mut self, host: usize) {
        let Some(due) = self.hosts[host].replica.expiry.next_due() else {
            return;
        };
        let at = self.now_ms + self.until(host, due);
        let boot = self.hosts[host].boot;
        let watched = &mut self.hosts[host].replica.expiry_at_ms;
        if watched.is_none_or(|w| at < w || w < self.now_ms) {
            *watched = Some(at);
            self.at(at, Due::Expiry { host, boot });
        }
    }

    pub(super) fn run_out(&mut self, host: usize) {
        let now = self.clock(host);
        let at = &mut self.hosts[host];
        at.replica.expiry_at_ms = None;
        if !at.replica.leads {
            return;
        }
        let effects = at.replica.expiry.on(now, expiry::Event::Tick);
        let takes = !at.disk_full;
        for effect in effects {
            if let Effect::Propose(command) = effect
                && takes
            {
                self.write(host, Some(*command));
            }
        }
        self.watch_expiry(host);
    }

    /// A host asks this one to write a command.
    pub(super) fn propose(&mut self, from: usize, to: usize, ask: u64, command: Command) {
        if !self.hosts[to].replica.leads || self.hosts[to].disk_full {
            return self.send(to, from, Message::Answered { ask, answer: None });
        }
        // The place is known before the entry can be applied: a group of one applies it at once.
        let place = self.hosts[to].replica.log.len() + 1;
        self.hosts[to].replica.proposals.insert(place, (from, ask));
        self.write(to, Some(command));
    }
}
