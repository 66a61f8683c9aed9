//! `hale-chaos real`.

use hale_chaos::real::{self, Plan, Scenario};
use serde_json::json;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Real {
    /// The schedule's seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hosts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(3..=15))]
    hosts: u64,
    /// Which faults: see below.
    #[arg(long, default_value = "mixed", value_parser = scenario)]
    scenario: Scenario,
    /// For how many minutes faults come; what it takes to begin and to end is not counted.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Between the end of one fault and the next, in seconds, on average.
    #[arg(long, default_value_t = 6.0)]
    pause: f64,
    /// The `hale` to run.
    #[arg(long, env = "HALE_BIN", value_name = "FILE")]
    hale: Option<PathBuf>,
    /// The hosts begin with this older `hale`, and the first rolling restart upgrades them.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Where the hosts keep everything; removed in the end if all held.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Hosts on loopback, also where network namespaces can be made.
    #[arg(long)]
    loopback: bool,
    /// Writes report.md, report.json, timeline.svg and events.jsonl into this directory.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Only shows the schedule.
    #[arg(long)]
    dry_run: bool,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let found = Scenario::ALL.iter().find(|(_, n, _)| *n == name);
    let names = Scenario::ALL.map(|(_, n, _)| n).join(", ");
    found
        .map(|(s, ..)| *s)
        .ok_or_else(|| format!("one of {names} was expected"))
}

/// What the help says of the scenarios.
pub(crate) fn scenarios() -> String {
    let mut out = String::from("Scenarios:\n");
    for (_, name, what) in Scenario::ALL {
        out += &format!("  {name:<11} {what}\n");
    }
    out
}

/// Whether everything held.
pub(crate) fn run(asked: &Real) -> Result<bool, Box<dyn Error>> {
    let seconds = |s: f64| {
        Duration::try_from_secs_f64(s).map_err(|_| format!("{s} is no time that can be waited"))
    };
    let (time, pause) = (seconds(asked.minutes * 60.0)?, seconds(asked.pause)?);
    if asked.dry_run {
        return show_schedule(asked, time, pause).map(|()| true);
    }
    let hale = match &asked.hale {
        Some(path) => path.clone(),
        None => beside_this_program()?,
    };
    let name = format!("hale-chaos-{}", std::process::id());
    let plan = Plan {
        seed: asked.seed,
        hosts: asked.hosts as usize,
        scenario: asked.scenario,
        time,
        pause,
        hale: program(&hale)?,
        from: asked.from.as_deref().map(program).transpose()?,
        dir: asked
            .dir
            .clone()
            .unwrap_or_else(|| std::env::temp_dir().join(name)),
        loopback: asked.loopback,
    };
    // What a client needs to be made, though nothing here speaks TLS.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (report, log) = runtime.block_on(async {
        let told = |told: &str| {
            let _ = writeln!(std::io::stderr(), "{told}");
        };
        tokio::select! {
            done = real::run(&plan, told) => Ok(done?),
            // Hosts and network are taken down as they are dropped.
            _ = tokio::signal::ctrl_c() => Err::<_, Box<dyn Error>>("interrupted".into()),
        }
    })?;
    if let Some(dir) = &asked.report {
        fs::create_dir_all(dir)?;
        let put = |name: &str, text: &str| write(&dir.join(name), text);
        put("report.md", &real::markdown(&report))?;
        put("report.json", &serde_json::to_string_pretty(&report)?)?;
        put("timeline.svg", &real::timeline(&report))?;
        let lines: Result<Vec<String>, _> = log.iter().map(serde_json::to_string).collect();
        put("events.jsonl", &(lines?.join("\n") + "\n"))?;
    }
    let mut out = std::io::stdout().lock();
    match asked.json {
        true => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        false => write!(out, "{}", real::markdown(&report))?,
    }
    if !report.wrong.is_empty() {
        let _ = writeln!(
            std::io::stderr(),
            "hale-chaos: {} things did not hold; the hosts' files are in {}",
            report.wrong.len(),
            plan.dir.display()
        );
    }
    Ok(report.wrong.is_empty())
}

fn show_schedule(asked: &Real, time: Duration, pause: Duration) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    let mut at = Duration::ZERO;
    for step in real::plan(asked.seed, asked.hosts as usize, pause, asked.scenario) {
        at += step.after;
        if at >= time {
            break;
        }
        let (from, lasts) = (at.as_secs_f64(), step.lasts.as_secs_f64());
        match asked.json {
            true => writeln!(
                out,
                "{}",
                json!({"from_s": from, "lasts_s": lasts, "fault": step.fault})
            )?,
            false => writeln!(out, "{from:>7.1} s, for {lasts:.1} s: {:?}", step.fault)?,
        }
        at += step.lasts;
    }
    Ok(())
}

fn program(path: &Path) -> Result<PathBuf, String> {
    fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{} can't be written: {e}", path.display()))
}

fn beside_this_program() -> Result<PathBuf, Box<dyn Error>> {
    let path = std::env::current_exe()?.with_file_name("hale");
    match path.exists() {
        true => Ok(path),
        false => Err(format!(
            "there is no {}: build it (cargo build --release) or name one with --hale",
            path.display()
        )
        .into()),
    }
}
