//! `hale backtest`: what Hale would have seen, decided and done in recorded history.

use super::CliError;
use super::out::{Look, Out, Table, many, number, plain, span};
use crate::backtest::{self, Asked, Report, Settings, Source};
use clap::{ArgGroup, Args};
use hale_baseline::BaselineConfig;
use hale_decision::catalogue::Entry;
use hale_model::{Severity, Timestamp};
use indicatif::ProgressBar;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("source").required(true),
    after_help = "\
A folder holds `timestamp,value` files in UTC; each folder is a host. Its series.json may say more of
a file than its name does:
  {\"db-01/disk.csv\": {\"series\": \"system.disk_usage_percent\", \"min\": 0, \"max\": 100, \"harm\": \"high\"}}

Nothing is run and no node is asked: the history goes through the baselines, the correlation and the
decision that a node has. Logs and events are not in it, and no playbook has a history yet, so a node
decides no worse.

Examples:
  hale backtest recorded/
  hale backtest --prometheus http://prometheus:9090 --query 'node_load1' \\
      --query 'node_filesystem_avail_bytes' --from 2026-02-01T00:00:00Z --until 2026-03-01T00:00:00Z
  hale backtest --otlp metrics.jsonl --learn-days 3
  hale --json backtest recorded/ | jq .counts"
)]
pub(crate) struct BacktestArgs {
    /// A folder of `timestamp,value` files
    #[arg(value_name = "DIR", group = "source")]
    dir: Option<PathBuf>,
    /// Metrics as OTLP/JSON: one export request a line, or one in the file
    #[arg(long, value_name = "FILE", group = "source")]
    otlp: Option<PathBuf>,
    /// A Prometheus server, asked by its range API
    #[arg(long, value_name = "URL", group = "source", requires_all = ["query", "from", "until"])]
    prometheus: Option<String>,
    /// A PromQL expression; each series of its result is one
    #[arg(long, value_name = "PROMQL", requires = "prometheus")]
    query: Vec<String>,
    /// From when on, like 2026-02-01T00:00:00Z
    #[arg(long, value_name = "TIME", requires = "prometheus")]
    from: Option<Timestamp>,
    /// Until when
    #[arg(long, value_name = "TIME", requires = "prometheus")]
    until: Option<Timestamp>,
    /// Seconds between two values
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "prometheus",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    step: u64,
    /// Whose nights are nights: a name of the IANA database; `tz` in series.json wins
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    timezone: String,
    /// So many days are only learned from: what is told in them is not counted
    #[arg(long, value_name = "DAYS", default_value_t = 7.0)]
    learn_days: f64,
    /// How many incidents are listed
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

impl BacktestArgs {
    fn source(&self) -> Source {
        match (
            &self.dir,
            &self.otlp,
            &self.prometheus,
            self.from,
            self.until,
        ) {
            (_, _, Some(url), Some(from), Some(until)) => Source::Prometheus(Asked {
                url: url.clone(),
                queries: self.query.clone(),
                from,
                until,
                step: Duration::from_secs(self.step),
            }),
            (_, Some(file), ..) => Source::Otlp(file.clone()),
            (dir, ..) => Source::Csv(dir.clone().unwrap_or_default()),
        }
    }
}

pub(super) async fn run(args: BacktestArgs, out: &Out) -> Result<ExitCode, CliError> {
    let settings = Settings {
        baseline: BaselineConfig {
            timezone: args.timezone.clone(),
            ..BaselineConfig::default()
        },
        learn_days: args.learn_days.clamp(0.0, 3650.0),
        ..Settings::default()
    };
    let (library, _) = crate::library::Library::load(&crate::config::PlaybooksConfig::default());
    let entries = library.playbooks().iter().map(Entry::from).collect();
    let bar = if out.shows_progress() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let report = backtest::run(&args.source(), settings, entries, &bar)
        .await
        .map_err(|e| CliError::offline(e, "hale backtest --help shows what a history may be"))?;
    bar.finish_and_clear();
    out.value(&report)?;
    tell(&report, args.limit, out)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(report: &Report, limit: usize, out: &Out) -> Result<(), CliError> {
    let samples: usize = report.hosts.iter().map(|h| h.samples).sum();
    let series: usize = report.hosts.iter().map(|h| h.series).sum();
    let c = &report.counts;
    out.line(format!(
        "{} of {}, {}: {} series-weeks after the days that are only learned from",
        many(series as u64, "series", "series"),
        many(report.hosts.len() as u64, "host", "hosts"),
        many(samples as u64, "value", "values"),
        number(c.series_weeks)
    ))?;
    let count = |of: &std::collections::BTreeMap<String, usize>, name: &str| {
        of.get(name).copied().unwrap_or_default()
    };
    out.line(format!(
        "  alerts      {} critical, {} warning: {} a series and week",
        count(&c.alerts, "critical"),
        count(&c.alerts, "warning"),
        number(c.alerts_per_series_week)
    ))?;
    out.line(format!(
        "  incidents   {} acted on alone, {} asked about, {} escalated",
        count(&c.incidents, "acted"),
        count(&c.incidents, "asked"),
        count(&c.incidents, "escalated")
    ))?;
    out.line(format!(
        "  people      {} interruptions a host and week, {} minutes",
        number(c.interruptions_per_host_week),
        number(c.minutes_per_host_week)
    ))?;
    if c.series_weeks <= 0.0 {
        out.line(
            "All of it is only learned from: give a longer history, or a smaller --learn-days.",
        )?;
    }
    let told: Vec<_> = report.incidents.iter().filter(|i| !i.learning).collect();
    if told.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new([
        "OPENED",
        "LASTED",
        "HOST",
        "WHAT",
        "OUTCOME",
        "PLAYBOOK",
        ">CONFIDENCE",
    ]);
    for i in told.iter().take(limit) {
        let look = match i.severity {
            Severity::Critical => Look::Bad,
            Severity::Warning => Look::Warn,
            Severity::Info => Look::Plain,
        };
        let lasted = i.resolved_at.map(|end| span(end.since(i.opened_at)));
        table.row([
            plain(i.opened_at),
            plain(lasted.unwrap_or_else(|| "open".into())),
            plain(&i.host),
            (i.title.clone(), look),
            plain(i.outcome.as_str()),
            plain(i.playbook.clone().unwrap_or_default()),
            plain(format!("{:.2}", i.confidence)),
        ]);
    }
    table.print(out)?;
    if told.len() > limit {
        out.line(format!(
            "and {} more; --limit says how many are listed",
            told.len() - limit
        ))?;
    }
    Ok(())
}
