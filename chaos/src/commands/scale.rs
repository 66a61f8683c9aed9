//! `hale-chaos scale`.

use hale_chaos::scale::{self, Asked};
use std::cell::RefCell;
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Scale {
    /// How many nodes, each a line of the table.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "500,5000,50000",
          value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    nodes: Vec<u64>,
    /// The seed of the simulated gossip.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Incidents of each host in an hour; each leads to a run under a lease.
    #[arg(long, value_name = "N", default_value_t = 0.1)]
    incidents_per_hour: f64,
    /// For how many seconds a run holds its lease.
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    run_seconds: f64,
    /// Larger clusters are not simulated; 5,000 nodes take 4 GB of memory and some nine minutes of a
    /// core.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(10..=8_000))]
    simulate_up_to: u64,
    /// The directory whose disk is measured; it should be that of a node's data.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Prints the report as JSON, of schema hale.chaos.scale.v1.
    #[arg(long)]
    json: bool,
}

/// Nothing in it can fail to hold: it is true whenever the study could be made.
pub(crate) fn run(asked: &Scale) -> Result<bool, Box<dyn Error>> {
    for (name, value) in [
        ("--incidents-per-hour", asked.incidents_per_hour),
        ("--run-seconds", asked.run_seconds),
    ] {
        if !(value.is_finite() && value > 0.0) {
            return Err(format!("{name} has to be more than zero").into());
        }
    }
    let bar = progress();
    let doing = RefCell::new(String::new());
    let report = scale::study(
        &Asked {
            nodes: asked.nodes.iter().map(|n| *n as usize).collect(),
            seed: asked.seed,
            incidents_per_hour: asked.incidents_per_hour,
            run_seconds: asked.run_seconds,
            simulate_up_to: asked.simulate_up_to as usize,
            dir: asked.dir.clone(),
        },
        |what, part| {
            if *doing.borrow() != what {
                bar.set_message(what.to_owned());
                what.clone_into(&mut doing.borrow_mut());
            }
            bar.set_position((part * 1_000.0) as u64);
        },
    );
    bar.finish_and_clear();
    let report = report.map_err(|e| told(&e))?;
    let mut out = std::io::stdout().lock();
    match asked.json {
        true => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        false => write!(out, "{}", scale::markdown(&report))?,
    }
    Ok(true)
}

/// An error with its causes, on one line.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let next = source.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = source.source();
    }
    text
}

fn progress() -> indicatif::ProgressBar {
    if !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template("{bar:40} {percent} %  {msg}, {elapsed}");
    let bar = indicatif::ProgressBar::new(1_000);
    bar.with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
}
