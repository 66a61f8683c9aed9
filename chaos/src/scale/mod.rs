//! How a cluster grows: what gossip does in it, what its leader has to do, and what gives first. What
//! things cost is measured on this machine, in this run; what follows from it is arithmetic.

pub mod costs;
mod cpu;
pub mod disk;
pub mod gossip;
pub mod leader;
mod limits;
pub mod quic;
mod table;
mod workload;

pub use limits::Limit;
pub use table::markdown;

use gossip::Gossip;
use hale_executor::ExecutorConfig;
use leader::{Assumed, Leader};
use serde::Serialize;
use std::path::PathBuf;

/// The sizes that a simulation has to have, so that a larger one follows from it.
const BASE: [usize; 2] = [500, 5_000];

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// A made-up input is not what a product's part takes.
    #[error("the study's own input is wrong: {0}")]
    Input(&'static str),
    /// A ledger refused a command.
    #[error("the ledger refused a command that it should take")]
    Refused(#[source] hale_model::ledger::Refusal),
    /// A ledger's state.
    #[error(transparent)]
    State(#[from] hale_consensus::StateError),
    /// A value can't be encoded.
    #[error(transparent)]
    Wire(#[from] hale_model::wire::WireError),
    /// A node of the simulation.
    #[error(transparent)]
    Gossip(#[from] hale_membership::MembershipError),
    /// The port.
    #[error("QUIC on loopback could not be measured")]
    Quic(#[from] hale_transport::TransportError),
    /// The disk, or the system.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How many nodes, each a line of the table.
    pub nodes: Vec<usize>,
    /// The simulation's seed.
    pub seed: u64,
    /// Incidents of each host in an hour.
    pub incidents_per_hour: f64,
    /// For how long a run holds its lease, in seconds.
    pub run_seconds: f64,
    /// Larger clusters are not simulated: what gossip does in them follows from two smaller ones.
    pub simulate_up_to: usize,
    /// On whose disk syncs are measured.
    pub dir: PathBuf,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The report's shape.
    pub schema: &'static str,
    /// The simulation's seed.
    pub seed: u64,
    /// Cores of this machine.
    pub cores: usize,
    /// What was assumed.
    pub assumed: Assumed,
    /// The simulated clusters.
    pub gossip: Vec<Gossip>,
    /// What commands cost.
    pub ledger: costs::LedgerCosts,
    /// What states cost.
    pub states: Vec<costs::StateCosts>,
    /// What the disk takes.
    pub disk: disk::Disk,
    /// What the port takes.
    pub quic: quic::Quic,
    /// The leader of each size.
    pub leaders: Vec<Leader>,
    /// What gives, at this rate of incidents: the first comes first.
    pub limits: Vec<Limit>,
}

/// Measures, simulates and reckons. `tell` hears what is being done, and how far it is, from 0 to 1.
///
/// # Errors
/// If something can't be measured.
pub fn study(asked: &Asked, tell: impl Fn(&str, f64)) -> Result<Report, ScaleError> {
    tell("the disk", 0.0);
    let disk = disk::measure(&asked.dir)?;
    tell("QUIC", 0.0);
    let quic = quic::measure()?;
    let lease = ExecutorConfig::default().lease_ttl;
    let simulated = simulated(asked);
    let (ledger, states) = costs::measure(&simulated, lease.as_millis() as u64, |part| {
        tell("the ledger", part);
    })?;
    let mut clusters = vec![];
    for nodes in &simulated {
        let doing = format!("gossip of {nodes} nodes");
        clusters.push(gossip::study(*nodes, asked.seed, |part| {
            tell(&doing, part)
        })?);
    }
    let assumed = Assumed::new(asked, lease);
    let measured = leader::Measured {
        assumed: &assumed,
        gossip: &clusters,
        ledger: &ledger,
        states: &states,
        disk: &disk,
        quic: &quic,
    };
    let leaders = asked.nodes.iter().map(|n| measured.leader(*n)).collect();
    let limits = limits::all(&measured);
    Ok(Report {
        schema: "hale.chaos.scale.v1",
        seed: asked.seed,
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        leaders,
        limits,
        assumed,
        gossip: clusters,
        ledger,
        states,
        disk,
        quic,
    })
}

/// Which clusters are simulated: those that are asked for as far as they can be, and two from which
/// the others follow.
fn simulated(asked: &Asked) -> Vec<usize> {
    let most = asked.simulate_up_to;
    let mut sizes: Vec<usize> = asked.nodes.iter().copied().filter(|n| *n <= most).collect();
    if sizes.len() < 2 && sizes.len() < asked.nodes.len() {
        sizes.extend(BASE.map(|n| n.min(most)));
    }
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}
