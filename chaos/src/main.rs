//! `hale-chaos`: lives simulated worlds, breaks real clusters, and judges both.

mod commands;

use clap::{Parser, Subcommand};
use commands::{real, scale, sim};
use std::io::Write;
use std::process::ExitCode;

/// Proves what must always hold, in a seeded world and on real processes.
#[derive(Parser)]
#[command(name = "hale-chaos", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs N simulated worlds from a seed on; exits with 1 if anything did not hold.
    #[command(after_help = "Examples:
  hale-chaos sim --seed 1 --runs 1000
  hale-chaos sim --seed 42 --runs 1 --log events.jsonl   what happened in one world
  hale-chaos sim --seed 42 --runs 1 --without 3,7        the same, without two of its faults
  hale-chaos sim --world seats --runs 1000               who joins, who votes, instead of runs")]
    Sim(sim::Sim),
    /// Makes a cluster of hale processes on this machine, breaks its hosts, disks, clocks and network
    /// while clients write and contend for leases, and judges it; exits with 1 if anything did not
    /// hold.
    #[command(after_help = real_help())]
    Real(real::Real),
    /// Measures what gossip and the leader have to do as a cluster grows, and what gives first.
    #[command(
        after_help = "Gossip is simulated with the product's own machines. The ledger's commands, its \
snapshots, QUIC and the disk are measured here and now; what follows from them for a size is arithmetic. \
Exits with 0 if it could be measured, else with 2.

Examples:
  hale-chaos scale                                       500, 5,000 and 50,000 nodes; some minutes
  hale-chaos scale --nodes 500 --incidents-per-hour 2    small and busy
  hale-chaos scale --dir /var/lib/hale --json            with the disk of a node's data, as JSON"
    )]
    Scale(scale::Scale),
}

fn real_help() -> String {
    format!(
        "Hosts are network namespaces where root can make some, else ports on loopback, where \
they can't be cut off. Each has an ext4 file system of its own where root can mount one. What a fault \
needs and is not installed (nft, strace, xfs_io, libfaketime) is told, and the fault left out.\n\n\
{}
Examples:
  hale-chaos real --minutes 10 --report report
  hale-chaos real --seed 7 --hosts 3 --loopback --hale ./hale
  hale-chaos real --scenario disks --dry-run             only the schedule
  hale-chaos real --from ./hale-1.4 --hale ./hale-1.5 --scenario operations
                                                         a rolling upgrade under load",
        real::scenarios()
    )
}

fn main() -> ExitCode {
    let held = match Cli::parse().command {
        Command::Sim(asked) => sim::run(&asked)
            .map(|failed| failed == 0)
            .map_err(Into::into),
        Command::Real(asked) => real::run(&asked),
        Command::Scale(asked) => scale::run(&asked),
    };
    match held {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "hale-chaos: {e}");
            ExitCode::from(2)
        }
    }
}
