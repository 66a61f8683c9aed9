//! The simulated world: hosts with the real run machine, each with a copy of the ledger that the
//! real state machine keeps, and between them a network, disks and clocks that misbehave. Elections
//! and replication are a model ([`group`]). One seed is one run.

mod clients;
mod faults;
mod group;
mod network;
mod playbooks;
mod registers;
mod runs;

pub use faults::{Fault, FaultKind};

use crate::event::{Happened, What};
use crate::rng::Rng;
use clients::Ask;
use group::Replica;
use hale_executor::grants::Grants;
use hale_executor::journal::{Finished, JournalRecord};
use hale_executor::run::{Event, Run};
use hale_model::{ExecutionId, HostName, Keypair, Timestamp};
use hale_playbooks::language::Playbook;
use network::Message;
use playbooks::playbook;
use registers::{Planned, Read};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

/// Where the wall clock begins; nothing depends on it.
const EPOCH: Timestamp = Timestamp::from_secs(1_770_000_000);
const TTL_MS: u64 = 10_000;
/// An unanswered question is given up after this long.
const PATIENCE_MS: u64 = 5_000;
/// How long a host may look before it acts.
const LOOK_TTL_MS: u64 = 3_000;
/// After the faults, everything has this long to end.
const QUIET_MS: u64 = 600_000;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// How many hosts; all of them vote.
    pub hosts: usize,
    /// For how long faults and incidents come, in virtual milliseconds.
    pub duration_ms: u64,
    /// How many incidents begin in that time.
    pub incidents: u64,
    /// How many faults.
    pub faults: u64,
    /// How many writes and reads of a few keys of the ledger.
    pub operations: u64,
    /// The numbers of faults that are left out: how a schedule is shrunk.
    pub without: BTreeSet<usize>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            hosts: 5,
            duration_ms: 600_000,
            incidents: 20,
            faults: 24,
            operations: 36,
            without: BTreeSet::new(),
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
    /// A message reaches a host.
    Message {
        from: usize,
        to: usize,
        message: Message,
    },
    /// A host's disk has its log up to here, if it was not cut shorter meanwhile.
    Synced {
        host: usize,
        boot: u32,
        cuts: u32,
        upto: usize,
    },
    /// A leader tells its followers how far it is, news or not.
    Heartbeat {
        host: usize,
        term: u64,
    },
    /// A leader's clock reaches what runs out next.
    Expiry {
        host: usize,
        boot: u32,
    },
    /// A host hands its ended runs over, again and again.
    HandOver {
        host: usize,
        boot: u32,
    },
    /// A host that started looks for runs that it did not end.
    TakeUp {
        host: usize,
        boot: u32,
    },
    /// A host has looked at what it looked at.
    Looked {
        host: usize,
        boot: u32,
        id: ExecutionId,
    },
    /// A client writes or reads a key at a host.
    Operation(Planned),
    /// Who misses a leader stands for election.
    Elect,
    Begins(usize),
    Ends(usize),
}

struct Host {
    name: HostName,
    key: Keypair,
    up: bool,
    boot: u32,
    booted_ms: u64,
    /// Stopped, as by SIGSTOP: its clock goes on, it does nothing.
    stopped: bool,
    /// What happens to it once it goes on.
    held: VecDeque<Due>,
    disk_full: bool,
    disk_slow: bool,
    /// How fast its clock runs, in parts per million too fast or too slow.
    drift_ppm: i64,
    /// By how much its wall clock is wrong, in milliseconds.
    wall_ms: i64,
    /// What is on its disk.
    journal: BTreeMap<String, Vec<(u64, JournalRecord)>>,
    runs: BTreeMap<ExecutionId, Run>,
    /// When each run is woken next.
    wakes: BTreeMap<ExecutionId, u64>,
    grants: Grants,
    /// Reports the ledger has not acknowledged; on disk.
    outbox: BTreeMap<ExecutionId, Finished>,
    replica: Replica,
    /// What it asked the leader and waits for, by number.
    asks: BTreeMap<u64, Ask>,
    /// What it may answer once it has applied as much of the log.
    reads: Vec<Read>,
}

/// The world.
pub struct World {
    rng: Rng,
    now_ms: u64,
    seq: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    due: BTreeMap<u64, Due>,
    hosts: Vec<Host>,
    /// Which way nothing gets through.
    cuts: BTreeSet<(usize, usize)>,
    /// How many packets of a thousand are lost.
    loss: u64,
    /// The highest term there was.
    term: u64,
    /// How far the oracle was told what the ledger did.
    told: usize,
    /// Whether the ledger, as the oracle was told, is frozen.
    is_frozen: bool,
    asked: u64,
    faults: Vec<Fault>,
    /// Which of them are going on.
    active: BTreeSet<usize>,
    without: BTreeSet<usize>,
    log: Vec<Happened>,
    end_ms: u64,
    playbooks: [Playbook; 2],
}

impl World {
    /// Lives one seed's world to its end and returns what happened.
    pub fn run(seed: u64, scenario: &Scenario) -> Vec<Happened> {
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
        world.end();
        world.log
    }

    /// The faults of a seed's world, by number, whether or not they are left out.
    pub fn faults(seed: u64, scenario: &Scenario) -> Vec<Fault> {
        Self::new(seed, scenario).faults
    }

    fn new(seed: u64, scenario: &Scenario) -> Self {
        let mut rng = Rng::new(seed);
        let hosts = (0..scenario.hosts.max(1)).filter_map(|n| {
            let mut secret = [0; 32];
            secret[..8].copy_from_slice(&(n as u64 + 1).to_be_bytes());
            Some(Host {
                name: HostName::new(format!("host-{n}")).ok()?,
                key: Keypair::from_seed(&secret),
                up: true,
                boot: 0,
                booted_ms: 0,
                stopped: false,
                held: VecDeque::new(),
                disk_full: false,
                disk_slow: false,
                drift_ppm: rng.within(0, 2000) as i64 - 1000,
                wall_ms: 0,
                journal: BTreeMap::new(),
                runs: BTreeMap::new(),
                wakes: BTreeMap::new(),
                grants: Grants::default(),
                outbox: BTreeMap::new(),
                replica: Replica::default(),
                asks: BTreeMap::new(),
                reads: vec![],
            })
        });
        let hosts: Vec<Host> = hosts.collect();
        let mut world = Self {
            now_ms: 0,
            seq: 0,
            queue: BinaryHeap::new(),
            due: BTreeMap::new(),
            hosts,
            cuts: BTreeSet::new(),
            loss: 30,
            term: 0,
            told: 0,
            is_frozen: false,
            asked: 0,
            faults: vec![],
            active: BTreeSet::new(),
            without: scenario.without.clone(),
            log: Vec::new(),
            end_ms: scenario.duration_ms,
            playbooks: [playbook(true), playbook(false)],
            rng,
        };
        world.plan_faults(scenario);
        world.found();
        for _ in 0..scenario.incidents {
            let at = world.rng.within(1_000, scenario.duration_ms);
            let host = world.any_host();
            world.at(at, Due::Incident(host));
        }
        world.plan_operations(scenario);
        world.at(1, Due::Elect);
        world
    }

    fn any_host(&mut self) -> usize {
        self.rng.within(0, self.hosts.len() as u64) as usize
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

    /// A host's wall clock.
    fn wall(&self, host: usize) -> Timestamp {
        let ms = self.now_ms as i64 + self.hosts[host].wall_ms;
        let by = Duration::from_millis(ms.unsigned_abs());
        if ms < 0 {
            EPOCH.minus(by)
        } else {
            EPOCH.plus(by)
        }
    }

    /// A host's monotonic clock since it booted.
    fn clock(&self, host: usize) -> Duration {
        let host = &self.hosts[host];
        let ms = (self.now_ms - host.booted_ms) as i64;
        Duration::from_millis((ms + ms * host.drift_ppm / 1_000_000).max(0) as u64)
    }

    /// How long it takes until a host's clock, which may run slow, has run this long.
    fn until(&self, host: usize, when: Duration) -> u64 {
        let left = when.saturating_sub(self.clock(host)).as_millis() as u64;
        left + left / 500 + 2
    }

    fn happen(&mut self, due: Due) {
        let on = match &due {
            Due::Incident(host)
            | Due::ForRun { host, .. }
            | Due::Heartbeat { host, .. }
            | Due::Expiry { host, .. }
            | Due::TakeUp { host, .. }
            | Due::HandOver { host, .. }
            | Due::Looked { host, .. } => Some(*host),
            Due::Operation(planned) => Some(planned.host),
            Due::Message { to, .. } => Some(*to),
            // The kernel ends what a stopped process asked of it.
            Due::Synced { .. } | Due::Elect | Due::Begins(_) | Due::Ends(_) => None,
        };
        if let Some(host) = on.filter(|h| self.hosts[*h].stopped) {
            self.hosts[host].held.push_back(due);
            return;
        }
        match due {
            Due::Incident(host) => self.incident(host),
            Due::ForRun {
                host,
                boot,
                execution,
                event,
            } => {
                if self.is_alive(host, boot) {
                    self.step(host, &execution, *event);
                }
            }
            Due::Message { from, to, message } => self.receive(from, to, message),
            Due::Synced {
                host,
                boot,
                cuts,
                upto,
            } => self.synced(host, boot, cuts, upto),
            Due::Heartbeat { host, term } => self.heartbeat(host, term),
            Due::Expiry { host, boot } => {
                if self.is_alive(host, boot) {
                    self.run_out(host);
                }
            }
            Due::HandOver { host, boot } => self.hand_over(host, boot),
            Due::TakeUp { host, boot } => self.take_up(host, boot),
            Due::Looked { host, boot, id } => self.looked(host, boot, id),
            Due::Operation(planned) => self.operation(planned),
            Due::Elect => self.elect(),
            Due::Begins(fault) => self.begins(fault),
            Due::Ends(fault) => self.ends(fault),
        }
    }

    fn is_alive(&self, host: usize, boot: u32) -> bool {
        self.hosts[host].up && self.hosts[host].boot == boot
    }

    /// What is left when the faults are over and everything had time to end.
    fn end(&mut self) {
        self.tell(What::Quiet);
        for host in 0..self.hosts.len() {
            let entries = self.hosts[host].replica.chain.len() as u64;
            self.tell(What::Ends { host, entries });
        }
    }
}
