//! What the real parts cost on this machine: commands of real signed entries applied to a real
//! ledger, their bytes, and the ledger's whole state.

use super::workload::{Run, Workload};
use super::{ScaleError, cpu};
use hale_consensus::Ledger;
use hale_consensus::ledger::RULES;
use hale_model::ledger::{Answer, Command};
use hale_model::{Fence, HostName, Keypair, wire};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// Runs that are measured. More than twice as many as signatures that a node remembers to hold
/// (1,024): each is verified as if it came from afar.
const RUNS: usize = 2_560;
/// How many are open at once, few and many: what a grant costs grows with them.
const FEW_OPEN: usize = 16;
const MANY_OPEN: usize = 512;

/// One command.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cost {
    /// The CPU time of applying it, with the verification of its signature, in microseconds.
    pub apply_us: f64,
    /// Its bytes on the wire.
    pub bytes: f64,
}

/// What a ledger costs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LedgerCosts {
    /// A lease is granted, with its intent; few are open.
    pub acquire: Cost,
    /// It is run for another full ttl.
    pub renew: Cost,
    /// It is closed, with its record.
    pub close: Cost,
    /// What each open grant adds to an acquisition, in microseconds.
    pub acquire_us_per_open: f64,
}

/// The whole state of a ledger with so many nodes on its roster.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StateCosts {
    /// How many nodes.
    pub nodes: usize,
    /// The bytes of a snapshot, with the statistics and the memory of a busy ledger.
    pub bytes: f64,
    /// The CPU time of writing it, in milliseconds.
    pub encode_ms: f64,
    /// The CPU time of reading it, in milliseconds.
    pub decode_ms: f64,
    /// The bytes of each node on the roster.
    pub bytes_per_node: f64,
}

fn key(n: usize) -> Keypair {
    let mut seed = [3; 32];
    seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
    Keypair::from_seed(&seed)
}

/// A ledger with so many nodes, and their keys.
struct Fleet {
    ledger: Ledger,
    index: u64,
    nodes: Vec<(Keypair, HostName)>,
}

impl Fleet {
    fn new(nodes: usize, tell: impl Fn(f64)) -> Result<Self, ScaleError> {
        let host = |n| HostName::new(format!("host-{n:05}.example.org"));
        let wrong = |_| ScaleError::Input("a host's name");
        let mut fleet = Self {
            ledger: Ledger::default(),
            index: 0,
            nodes: vec![],
        };
        for n in 0..nodes {
            fleet.nodes.push((key(n), host(n).map_err(wrong)?));
        }
        fleet.apply(Command::Rules { version: RULES })?;
        for n in 0..nodes {
            let (key, host) = &fleet.nodes[n];
            let by = &fleet.nodes[0].0;
            let enrolment = Command::Enrol {
                node: key.node_id(),
                host: host.clone(),
                entry: hale_audit::enrolment::sign(key.node_id(), host, by),
            };
            fleet.apply(enrolment)?;
            tell(n as f64 / nodes as f64);
        }
        Ok(fleet)
    }

    /// Applies it, and says how much CPU time that took.
    fn apply(&mut self, command: Command) -> Result<Duration, ScaleError> {
        self.index += 1;
        let began = cpu::of_this_thread();
        let applied = self.ledger.apply(self.index, command);
        let took = cpu::of_this_thread().saturating_sub(began);
        match applied.answer {
            Answer::Refused(refusal) => Err(ScaleError::Refused(refusal)),
            _ => Ok(took),
        }
    }

    /// So many runs, of which so many are open at a time: what each kind of command takes.
    fn live(&mut self, workload: &Workload, open: usize) -> Result<[Cost; 3], ScaleError> {
        let mut commands = self.sign(workload, open)?;
        let mut costs = [Sum::default(), Sum::default(), Sum::default()];
        let (mut done, all) = (0, commands.len());
        while let Some((kind, command)) = commands.pop_front() {
            let bytes = wire::encode(&command)?.len();
            let took = self.apply(command)?;
            // Until so many are open, and while the last of them close, is another case.
            if done > 3 * open && done < all - 3 * open {
                costs[kind].add(took, bytes);
            }
            done += 1;
        }
        Ok(costs.map(Sum::mean))
    }

    /// All commands, signed before the first is applied. A fence is the index at which it is
    /// granted, and so known.
    fn sign(
        &self,
        workload: &Workload,
        open: usize,
    ) -> Result<VecDeque<(usize, Command)>, ScaleError> {
        let mut waiting: VecDeque<(Run<'_>, Fence)> = VecDeque::new();
        let mut commands = VecDeque::new();
        for n in 0..RUNS {
            let (key, host) = &self.nodes[n % self.nodes.len()];
            let run = workload.run(key, host, self.index as u32 + n as u32);
            let fence = Fence(self.index + commands.len() as u64 + 1);
            commands.push_back((0, workload.acquire(&run)?));
            commands.push_back((1, workload.renew(&run, fence)));
            waiting.push_back((run, fence));
            // Hosts come round again once their scope is free.
            if waiting.len() >= open.min(self.nodes.len())
                && let Some((run, fence)) = waiting.pop_front()
            {
                commands.push_back((2, workload.close(run, fence)));
            }
        }
        for (run, fence) in waiting {
            commands.push_back((2, workload.close(run, fence)));
        }
        Ok(commands)
    }

    fn state(&self, nodes: usize) -> Result<StateCosts, ScaleError> {
        let began = cpu::of_this_thread();
        let bytes = self.ledger.encode()?;
        let wrote = cpu::of_this_thread();
        let read = Ledger::decode(&bytes)?;
        let decoded = cpu::of_this_thread();
        let one = read
            .roster()
            .next()
            .map(|one| wire::encode(&one))
            .transpose()?;
        let ms = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64() * 1e3;
        Ok(StateCosts {
            nodes,
            bytes: bytes.len() as f64,
            encode_ms: ms(began, wrote),
            decode_ms: ms(wrote, decoded),
            bytes_per_node: one.map_or(0, |o| o.len()) as f64,
        })
    }
}

#[derive(Default)]
struct Sum {
    count: u32,
    took: Duration,
    bytes: usize,
}

impl Sum {
    fn add(&mut self, took: Duration, bytes: usize) {
        self.count += 1;
        self.took += took;
        self.bytes += bytes;
    }

    fn mean(self) -> Cost {
        let count = f64::from(self.count.max(1));
        Cost {
            apply_us: self.took.as_secs_f64() * 1e6 / count,
            bytes: self.bytes as f64 / count,
        }
    }
}

/// Measures a ledger whose roster grows to each of these sizes, at most the ledger's own limit.
/// `tell` hears how far it is, from 0 to 1.
///
/// # Errors
/// If a ledger refuses what it should not.
pub fn measure(
    sizes: &[usize],
    ttl_ms: u64,
    tell: impl Fn(f64),
) -> Result<(LedgerCosts, Vec<StateCosts>), ScaleError> {
    let workload = Workload::new(ttl_ms)?;
    let all: usize = sizes.iter().sum();
    let (mut done, mut states, mut last) = (0, vec![], None);
    for size in sizes {
        let mut fleet = Fleet::new(*size, |part| {
            tell((done as f64 + part * *size as f64) / all.max(1) as f64);
        })?;
        last = Some(fleet.live(&workload, FEW_OPEN)?);
        states.push(fleet.state(*size)?);
        done += size;
    }
    let fleet = Fleet::new(MANY_OPEN * 2, |_| {});
    let [many, ..] = fleet?.live(&workload, MANY_OPEN)?;
    let [acquire, renew, close] = last.ok_or(ScaleError::Input("no size to measure"))?;
    let slope = (many.apply_us - acquire.apply_us) / (MANY_OPEN - FEW_OPEN) as f64;
    let costs = LedgerCosts {
        acquire,
        renew,
        close,
        acquire_us_per_open: slope.max(0.0),
    };
    Ok((costs, states))
}
