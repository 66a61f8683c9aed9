//! `hale-chaos`: lives simulated worlds, breaks real clusters, and judges both.

mod commands;

use clap::{Parser, Subcommand};
use commands::{real, sim};
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
  hale-chaos sim --seed 42 --runs 1 --without 3,7        the same, without two of its faults")]
    Sim(sim::Sim),
    /// Makes a cluster of hale processes on this machine, kills, stops and parts its hosts while
    /// clients write and contend for leases, and judges it; exits with 1 if anything did not hold.
    #[command(
        after_help = "Hosts are network namespaces where root can make some, else ports on \
loopback, where hosts can be killed and stopped but not cut off.

Examples:
  hale-chaos real --minutes 10 --report report
  hale-chaos real --seed 7 --hosts 3 --loopback --hale ./hale
  hale-chaos real --dry-run                              only the schedule"
    )]
    Real(real::Real),
}

fn main() -> ExitCode {
    let held = match Cli::parse().command {
        Command::Sim(asked) => sim::run(&asked)
            .map(|failed| failed == 0)
            .map_err(Into::into),
        Command::Real(asked) => real::run(&asked),
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
