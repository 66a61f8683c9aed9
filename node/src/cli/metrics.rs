//! `hale metrics`: what a host's sensors see, held against what is normal.

use super::client::part;
use super::out::{Look, Out, Table, maybe, number, plain, span};
use super::{CliError, Client};
use clap::Args;
use hale_api::HostView;
use hale_model::{Reading, Severity};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale metrics                                 this node's host
  hale metrics --hosts                         the hosts it knows
  hale metrics db-01 disk                      series whose name holds `disk`
  hale metrics db-01 system.load_average_1m            one series: its last values, drawn, and why
  hale metrics db-01 'database.connections_*'
  hale --json metrics db-01 system.load_average_1m --history
  hale metrics --sort sigma                    the least normal first
  hale metrics --snapshot                      the latest values as one JSON object")]
pub(crate) struct MetricsArgs {
    /// The host [default: the node's own]
    host: Option<String>,
    /// A part of the series' name, or a glob with *
    series: Option<String>,
    /// All of one series: its last values, the band that was normal, and why; drawn, or as JSON
    #[arg(long, requires = "series")]
    history: bool,
    /// The latest values as one JSON object, grouped
    #[arg(long, conflicts_with = "series")]
    snapshot: bool,
    /// The hosts that the node knows
    #[arg(long, conflicts_with_all = ["host", "series", "snapshot"])]
    hosts: bool,
    /// In which order
    #[arg(long, value_enum, default_value_t = Sort::Series)]
    sort: Sort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    Series,
    Sigma,
}

pub(super) async fn run(
    args: MetricsArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    if args.hosts {
        return hosts(client, out).await;
    }
    let host = client.host(args.host).await?;
    if args.snapshot {
        let snapshot: Value = client
            .get(&format!("/v1/hosts/{}/telemetry", part(&host)))
            .await?;
        return Out::new(true).value(&snapshot).map(|()| ExitCode::SUCCESS);
    }
    let asked_for_one = args.series.is_some();
    let series = args
        .series
        .map(|s| format!("&series={}", part(&s)))
        .unwrap_or_default();
    let path = format!("/v1/hosts/{}/baselines?limit=10000{series}", part(&host));
    let mut readings: Vec<Reading> = client.list(&path, "baselines").await?;
    if args.sort == Sort::Sigma {
        readings.sort_by(|a, b| b.sigma.abs().total_cmp(&a.sigma.abs()));
    }
    let whole_of = |r: &Reading| {
        let series = part(&r.series.to_string());
        format!("/v1/hosts/{}/series/{series}", part(&host))
    };
    if args.history {
        let [only] = readings.as_slice() else {
            return Err(CliError::Usage {
                what: format!("{} series fit, and --history is of one", readings.len()),
                next: format!("hale metrics {host} lists them; name one in full"),
            });
        };
        if out.json {
            let whole: Value = client.get(&whole_of(only)).await?;
            return out.value(&whole).map(|()| ExitCode::SUCCESS);
        }
    }
    out.value(&readings)?;
    if readings.is_empty() {
        out.line(format!(
            "No series of {host} is known by that name yet; `hale metrics` lists all."
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["SERIES", ">VALUE", ">NORMAL", ">σ", ">PER HOUR", "LIMIT"]);
    for r in &readings {
        let look = match Severity::of_sigma(r.sigma) {
            Some(Severity::Critical) => Look::Bad,
            Some(Severity::Warning) => Look::Warn,
            _ => Look::Plain,
        };
        let limit = r.seconds_to_limit.filter(|s| s.is_finite() && *s >= 0.0);
        let limit = limit.and_then(|s| Duration::try_from_secs_f64(s).ok());
        table.row([
            plain(&r.series),
            plain(number(r.value)),
            plain(format!(
                "{} ± {}",
                number(r.baseline.expected),
                number(r.baseline.spread)
            )),
            (format!("{:+.1}", r.sigma), look),
            plain(number(r.trend_per_hour)),
            limit.map_or_else(|| plain(""), |d| (format!("in {}", span(d)), Look::Warn)),
        ]);
    }
    table.print(out)?;
    if let [only] = readings.as_slice()
        && asked_for_one
    {
        super::chart::draw(&client.get(&whole_of(only)).await?, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn hosts(client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let hosts: Vec<HostView> = client.list("/v1/hosts", "hosts").await?;
    out.value(&hosts)?;
    let mut table = Table::new(["HOST", "STATE", "ENVIRONMENT", ">INCIDENTS", "TAGS"]);
    for h in &hosts {
        let look = if h.state == "alive" {
            Look::Good
        } else {
            Look::Bad
        };
        let tags: Vec<String> = h.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
        table.row([
            plain(&h.host),
            (h.state.clone(), look),
            plain(&h.environment),
            maybe(h.incidents_open.as_ref()),
            plain(tags.join(" ")),
        ]);
    }
    table.print(out)?;
    Ok(ExitCode::SUCCESS)
}
