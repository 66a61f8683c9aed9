//! `hale-chaos`: runs simulated worlds and judges them.

use clap::{Parser, Subcommand};
use hale_chaos::{Scenario, World, judge};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Proves what must always hold, in a seeded world.
#[derive(Parser)]
#[command(name = "hale-chaos", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs N simulated worlds from a seed on; exits with 1 if anything did not hold.
    #[command(
        after_help = "Example: hale-chaos sim --seed 1 --runs 1000\n         hale-chaos sim --seed 42 --runs 1 --log events.jsonl   (replays one run)"
    )]
    Sim {
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many worlds, each with the next seed.
        #[arg(long, default_value_t = 100)]
        runs: u64,
        /// Hosts in each.
        #[arg(long, default_value_t = 5)]
        hosts: usize,
        /// Writes every event as a JSON line.
        #[arg(long)]
        log: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Command::Sim {
        seed,
        runs,
        hosts,
        log,
    } = Cli::parse().command;
    match sim(seed, runs, hosts.max(1), log) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            let _ = writeln!(
                std::io::stderr(),
                "hale-chaos: the event log can't be written: {e}"
            );
            ExitCode::from(2)
        }
    }
}

fn sim(seed: u64, runs: u64, hosts: usize, log: Option<PathBuf>) -> std::io::Result<u64> {
    let mut out = std::io::stdout().lock();
    let mut file = log
        .map(std::fs::File::create)
        .transpose()?
        .map(std::io::BufWriter::new);
    let began = std::time::Instant::now();
    let (mut failed, mut events) = (0, 0);
    for seed in seed..seed.saturating_add(runs) {
        let happened = World::run(
            seed,
            Scenario {
                hosts,
                ..Scenario::default()
            },
        );
        events += happened.len();
        if let Some(file) = &mut file {
            for h in &happened {
                serde_json::to_writer(&mut *file, h)?;
                file.write_all(b"\n")?;
            }
        }
        let wrong = judge(&happened);
        if !wrong.is_empty() {
            failed += 1;
            writeln!(
                out,
                "seed {seed}: replay with `hale-chaos sim --seed {seed} --runs 1 --hosts {hosts} --log events.jsonl`"
            )?;
            for violation in wrong.iter().take(10) {
                writeln!(out, "  {violation}")?;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    writeln!(
        out,
        "{runs} worlds, {events} events, {failed} with violations, {:.0} worlds a minute",
        runs as f64 / seconds * 60.0
    )?;
    if let Some(mut file) = file {
        file.flush()?;
    }
    Ok(failed)
}
