//! `hale-chaos sim`.

use hale_chaos::sim::{self, Lived};
use hale_chaos::{Fault, Scenario, World, shrink};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Which world.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Runs under leases, and the ledger that grants them.
    Runs,
    /// Nodes that join, fail and are removed, and the seats of the group. Each world draws its own
    /// hosts; --incidents, --without and --no-shrink are not for it.
    Seats,
}

#[derive(clap::Args)]
pub(crate) struct Sim {
    /// What is simulated.
    #[arg(long, value_enum, default_value_t = Kind::Runs)]
    world: Kind,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// How many worlds, each with the next seed.
    #[arg(long, default_value_t = 100)]
    pub(super) runs: u64,
    /// Hosts in each; all of them vote.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=15))]
    hosts: u64,
    /// Virtual minutes in which incidents and faults begin; ten more follow in which all may end.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
    pub(super) minutes: u64,
    /// Faults in each.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pub(super) faults: u64,
    /// Incidents in each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    incidents: u64,
    /// Writes and reads of a few keys in each.
    #[arg(long, default_value_t = 36, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    operations: u64,
    /// Leaves out faults, by number.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    without: Vec<usize>,
    /// Writes every event as a JSON line.
    #[arg(long)]
    pub(super) log: Option<PathBuf>,
    /// Does not make the schedule of a failing world shorter.
    #[arg(long)]
    no_shrink: bool,
    /// Prints one JSON object in the end.
    #[arg(long)]
    pub(super) json: bool,
    /// Puts a classic mistake into every world, which then should fail.
    #[cfg(feature = "planted")]
    #[arg(long, value_parser = mistake)]
    plant: Option<hale_model::planted::Mistake>,
}

#[cfg(feature = "planted")]
fn mistake(name: &str) -> Result<hale_model::planted::Mistake, String> {
    let all = hale_model::planted::Mistake::ALL;
    let found = all
        .into_iter()
        .find(|m| format!("{m:?}").eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("one of {all:?} was expected"))
}

impl Sim {
    fn scenario(&self) -> Scenario {
        Scenario {
            hosts: self.hosts as usize,
            duration_ms: self.minutes * 60_000,
            incidents: self.incidents,
            faults: self.faults,
            operations: self.operations,
            without: self.without.iter().copied().collect(),
        }
    }

    fn mistake(&self) -> Option<hale_model::planted::Mistake> {
        #[cfg(feature = "planted")]
        return self.plant;
        #[cfg(not(feature = "planted"))]
        None
    }

    /// The command that lives this world again.
    fn replay(&self, seed: u64, without: &BTreeSet<usize>) -> String {
        let mut line = format!("hale-chaos sim --seed {seed} --runs 1 --no-shrink");
        let defaults = Scenario::default();
        let mut add = |name: &str, value: u64, default: u64| {
            if value != default {
                line += &format!(" --{name} {value}");
            }
        };
        add("hosts", self.hosts, defaults.hosts as u64);
        add("minutes", self.minutes, defaults.duration_ms / 60_000);
        add("faults", self.faults, defaults.faults);
        add("operations", self.operations, defaults.operations);
        add("incidents", self.incidents, defaults.incidents);
        if let Some(mistake) = self.mistake() {
            line += &format!(" --plant {mistake:?}");
        }
        if !without.is_empty() {
            let numbers: Vec<String> = without.iter().map(ToString::to_string).collect();
            line += &format!(" --without {}", numbers.join(","));
        }
        line + " --log events.jsonl"
    }
}

/// How many worlds failed that are shown in full; of the others only the seed.
pub(super) const SHOWN: usize = 5;

/// How many worlds failed.
pub(crate) fn run(asked: &Sim) -> std::io::Result<usize> {
    if asked.world == Kind::Seats {
        return super::seats::run(asked);
    }
    let scenario = asked.scenario();
    let mut log = event_log(asked)?;
    let mut out = std::io::stdout().lock();
    let bar = progress(asked.runs);
    let began = Instant::now();
    let (mut events, mut failed) = (0, vec![]);
    let seeds = asked.seed..asked.seed.saturating_add(asked.runs);
    sim::live(seeds, &scenario, asked.mistake(), |lived: Lived| {
        events += lived.log.len();
        if let Some(log) = &mut log {
            for happened in &lived.log {
                serde_json::to_writer(&mut *log, happened)?;
                log.write_all(b"\n")?;
            }
        }
        bar.inc(1);
        if !lived.wrong.is_empty() {
            failed.push(lived.seed);
            if failed.len() <= SHOWN && !asked.json {
                bar.suspend(|| show(&mut out, asked, &scenario, &lived))?;
            }
        }
        Ok::<_, std::io::Error>(true)
    })?;
    bar.finish_and_clear();
    if let (Some(log), Some(path)) = (&mut log, &asked.log) {
        log.flush().map_err(|e| with_path(&e, path))?;
    }
    summarise(&mut out, asked, "runs", events, &failed, began.elapsed())?;
    Ok(failed.len())
}

/// The last line of a run, or its JSON.
pub(super) fn summarise(
    out: &mut impl Write,
    asked: &Sim,
    world: &str,
    events: usize,
    failed: &[u64],
    took: Duration,
) -> std::io::Result<()> {
    let per_minute = asked.runs as f64 / took.as_secs_f64() * 60.0;
    if asked.json {
        let summary = json!({
            "schema": "hale.chaos.sim.v1",
            "world": world,
            "commit": commit(),
            "seed": asked.seed,
            "runs": asked.runs,
            "hosts": asked.hosts,
            "events": events,
            "failed_seeds": failed,
            "worlds_per_minute": per_minute.round(),
        });
        return writeln!(out, "{summary}");
    }
    if failed.len() > SHOWN {
        writeln!(out, "failed too: seeds {:?}", &failed[SHOWN..])?;
    }
    writeln!(
        out,
        "{} worlds of {world}, {events} events, {} with violations, {per_minute:.0} worlds a minute",
        asked.runs,
        failed.len(),
    )
}

fn with_path(e: &std::io::Error, path: &Path) -> std::io::Error {
    let why = format!("the event log {} can't be written: {e}", path.display());
    std::io::Error::new(e.kind(), why)
}

/// The file that every event is written to, if one was asked for.
pub(super) fn event_log(asked: &Sim) -> std::io::Result<Option<BufWriter<File>>> {
    let Some(path) = &asked.log else {
        return Ok(None);
    };
    let file = File::create(path).map_err(|e| with_path(&e, path))?;
    Ok(Some(BufWriter::new(file)))
}

pub(super) fn progress(runs: u64) -> indicatif::ProgressBar {
    if runs < 2 || !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let style = "{bar:40} {pos}/{len} worlds, {per_sec}, {eta} left";
    let style = indicatif::ProgressStyle::with_template(style);
    let bar = indicatif::ProgressBar::new(runs);
    bar.with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
}

fn show(
    out: &mut impl Write,
    asked: &Sim,
    scenario: &Scenario,
    lived: &Lived,
) -> std::io::Result<()> {
    let seed = lived.seed;
    writeln!(out, "seed {seed}, commit {}:", commit())?;
    for violation in lived.wrong.iter().take(10) {
        writeln!(out, "  {violation}")?;
    }
    let mut shortest = scenario.clone();
    if !asked.no_shrink {
        sim::plant(asked.mistake());
        shortest = shrink(seed, scenario);
        sim::plant(None);
    }
    writeln!(out, "  faults that it takes:")?;
    for (number, fault) in World::faults(seed, scenario).iter().enumerate() {
        if !shortest.without.contains(&number) {
            let Fault {
                from_ms,
                until_ms,
                kind,
            } = fault;
            writeln!(out, "    {number}: {from_ms} to {until_ms} ms, {kind:?}")?;
        }
    }
    writeln!(out, "  replay: {}", asked.replay(seed, &shortest.without))
}

/// The commit of the working copy that this is run in, if it is one.
pub(super) fn commit() -> String {
    let asked = std::process::Command::new("git")
        .args([
            "-C",
            env!("CARGO_MANIFEST_DIR"),
            "rev-parse",
            "--short",
            "HEAD",
        ])
        .output();
    let said = asked.ok().filter(|o| o.status.success());
    said.map_or_else(
        || "unknown".to_owned(),
        |o| String::from_utf8_lossy(&o.stdout).trim().to_owned(),
    )
}
