//! `hale baseline`: what a baseline makes of recorded history, and what is not to be learned.

use super::client::part;
use super::out::{Out, many};
use super::{CliError, Client, who};
use crate::replay::Options;
use clap::{Args, Subcommand};
use hale_api::{ExcludeRequest, Excluded};
use hale_baseline::{Profile, Sensitivity};
use hale_model::Timestamp;
use reqwest::Method;
use std::path::PathBuf;
use std::process::ExitCode;

/// What can be done with baselines.
#[derive(Debug, Subcommand)]
pub(crate) enum BaselineCommand {
    /// Run recorded series through a baseline
    Replay(ReplayArgs),
    /// Draw a recorded series with its band and its alerts
    Plot(PlotArgs),
    /// Keep a bad period from being learned as normal
    Exclude(ExcludeArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each IN/NAME.csv holds `timestamp,value` in UTC; IN/series.json may tell of each what a sensor knows:
  {\"NAME.csv\": {\"kind\": \"gauge\", \"min\": 0, \"max\": 100, \"tz\": \"Europe/Berlin\"}}
Each OUT/NAME.csv gets a row for each of its rows:
  anomaly_score  0 to 1, where a surprise enters a higher level than in the last 12 h; 0.5 is a warning
  alert          1 where an alert is told, with its severity
  sigma          spreads from what was expected, and the band that was normal

Examples:
  hale baseline replay recorded/ scored/
  hale baseline replay --profile novelty recorded/ scored/")]
pub(crate) struct ReplayArgs {
    /// The rows to run through it
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,
    /// Where scores and alerts are written
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    judged: JudgedArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale baseline plot recorded/cpu.csv cpu.svg
  hale baseline plot --last-days 3 recorded/cpu.csv cpu.svg

All rows are learned from; --last-days only limits what is drawn. A series.json beside the file is read.")]
pub(crate) struct PlotArgs {
    /// `timestamp,value` in UTC
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The picture, as SVG
    #[arg(value_name = "SVG")]
    pub(crate) output: PathBuf,
    /// Draw the last days only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=3660))]
    pub(crate) last_days: Option<u16>,
    #[command(flatten)]
    judged: JudgedArgs,
}

/// How it is judged.
#[derive(Debug, Args)]
struct JudgedArgs {
    /// From how many spreads on an alert is told: low 5σ, medium 3σ, high 2σ
    #[arg(long, value_enum, default_value_t = SensitivityArg::Medium)]
    sensitivity: SensitivityArg,
    /// What surprises: balanced for hosts and services, novelty where what was never seen counts most
    #[arg(long, value_enum, default_value_t = ProfileArg::Balanced)]
    profile: ProfileArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SensitivityArg {
    Low,
    Medium,
    High,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProfileArg {
    Balanced,
    Novelty,
}

impl JudgedArgs {
    fn options(&self) -> Options {
        Options {
            sensitivity: match self.sensitivity {
                SensitivityArg::Low => Sensitivity::Low,
                SensitivityArg::Medium => Sensitivity::Medium,
                SensitivityArg::High => Sensitivity::High,
            },
            profile: match self.profile {
                ProfileArg::Balanced => Profile::Balanced,
                ProfileArg::Novelty => Profile::Novelty,
            },
        }
    }
}

impl ReplayArgs {
    pub(crate) fn options(&self) -> Options {
        self.judged.options()
    }
}

impl PlotArgs {
    pub(crate) fn options(&self) -> Options {
        self.judged.options()
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale baseline exclude --from 2026-02-12T11:00:00Z --until 2026-02-12T12:30:00Z --reason 'load test'
  hale baseline exclude db-01 --series 'system.disk_*' --from … --until …

Samples are held back for up to two hours before they are learned, and what looks like trouble for
longer: of the period, what is still held back is forgotten, and what is still to come is judged and
not learned. It begins now at the latest, and ends within a day. What was learned before fades within
the baseline's window; where that takes too long, --forget lets the series begin anew, from what hosts
of the same role know where there are some.")]
pub(crate) struct ExcludeArgs {
    /// The host [default: the node's own]
    host: Option<String>,
    /// A pattern for the metric
    #[arg(long, value_name = "PATTERN")]
    series: Option<String>,
    /// A pattern for the service
    #[arg(long, value_name = "PATTERN")]
    service: Option<String>,
    /// From when on, like 2026-02-12T11:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Timestamp,
    /// Until when
    #[arg(long, value_name = "TIME")]
    until: Timestamp,
    /// Forget all that was learned of these series too: they begin anew
    #[arg(long, requires = "series")]
    forget: bool,
    /// Why; it stands in the node's log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who excludes it [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(super) async fn exclude(
    args: ExcludeArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let host = client.host(args.host).await?;
    let request = ExcludeRequest {
        series: args.series,
        service: args.service,
        from: args.from,
        until: args.until,
        forget: args.forget,
        by: who(args.by),
        reason: args.reason,
    };
    let path = format!("/v1/hosts/{}/baselines/exclude", part(&host));
    let excluded: Excluded = client.send(Method::POST, &path, &request).await?;
    out.value(&excluded)?;
    let (from, until) = (request.from, request.until);
    out.line(match excluded.series {
        0 => format!("No series of {host} fits; `hale metrics {host}` lists them."),
        n => format!(
            "{from} to {until} is not learned as normal for {} of {host}.{}",
            many(n, "series", "series"),
            if request.forget {
                " What was learned before is forgotten."
            } else {
                ""
            }
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}
