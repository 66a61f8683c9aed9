//! `hale why-not`: why nothing was done about a host at a time, and the least that would have been
//! needed for it.

use super::client::part;
use super::out::{Look, Out, Table, number, plain};
use super::{CliError, Client};
use clap::Args;
use hale_api::{IncidentRow, IncidentView, SeriesView, Why};
use hale_model::decision::Decision;
use hale_model::{Gate, Harm, Reading, Route, Timestamp};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// An incident that opened so long after the time asked for is still about it.
const SOON: Duration = Duration::from_secs(120);
/// Series that are told where none is named.
const TOLD: usize = 5;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale why-not db-01                                      now
  hale why-not db-01 --series database.connections_total
  hale why-not db-01 --series system.disk_percent --at 2026-02-12T11:26:00Z
  hale why-not db-01 --at 10m                             ten minutes ago

Shows the gates in the order they were asked, with what was seen and what was needed, and the smallest
change that would have let Hale act alone.")]
pub(crate) struct WhyNotArgs {
    /// The host
    host: String,
    /// A part of the series' name, or a glob with *
    #[arg(long, value_name = "SERIES")]
    series: Option<String>,
    /// When: a time, or how long ago [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Timestamp>,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = text.parse::<hale_telemetry::span::Span>() {
        let now = hale_telemetry::sensors::now().as_millis();
        let ago = i64::try_from(ago.0.as_millis()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_millis(now.saturating_sub(ago)));
    }
    let wrong = |_| "write 2026-02-12T11:26:00Z, or how long ago: 10m, 2h".to_owned();
    text.parse().map_err(wrong)
}

/// Why nothing was done.
#[derive(Debug, Serialize)]
struct Answer {
    host: String,
    at: Timestamp,
    /// The incident that was about it, if there was one.
    incident: Option<Why>,
    /// The series that were looked at, where there was none.
    series: Vec<Seen>,
    /// The smallest change that would have led to an unattended run.
    smallest_change: Vec<String>,
}

/// A series as it was then.
#[derive(Debug, Serialize)]
struct Seen {
    series: String,
    value: f64,
    expected: f64,
    sigma: f64,
    gates: Vec<Gate>,
}

pub(super) async fn run(
    args: WhyNotArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let at = args.at.unwrap_or_else(hale_telemetry::sensors::now);
    let incident = incident_at(&args, at, client).await?;
    let series = match &incident {
        Some(_) => vec![],
        None => series_at(&args, at, client).await?,
    };
    let smallest_change = match &incident {
        Some(why) => why.decision.as_ref().map(changes).unwrap_or_default(),
        None => series.first().map(|s| flips(&s.gates)).unwrap_or_default(),
    };
    let answer = Answer {
        host: args.host,
        at,
        incident,
        series,
        smallest_change,
    };
    out.value(&answer)?;
    if let Some(why) = &answer.incident {
        of_incident(why, out)?;
    } else {
        of_series(&answer, out)?;
    }
    if !answer.smallest_change.is_empty() {
        out.line(format!(
            "\n{}",
            out.paint(
                Look::Dim,
                "the smallest change that would have made it act alone"
            )
        ))?;
        for change in &answer.smallest_change {
            out.line(format!("  {}", out.paint(Look::Plain, change)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The incident of the host that was open then, or opened soon after; the last if there were several.
async fn incident_at(
    args: &WhyNotArgs,
    at: Timestamp,
    client: &Client,
) -> Result<Option<Why>, CliError> {
    let path = "/v1/incidents?state=all&limit=1000";
    let rows: Vec<IncidentRow> = client.list(path, "incidents").await?;
    let is_then = |row: &&IncidentRow| {
        row.host.as_str() == args.host
            && row.opened_at <= at.plus(SOON)
            && row.resolved_at.is_none_or(|r| r >= at)
    };
    for row in rows.iter().filter(is_then) {
        let id = part(row.id.as_str());
        if let Some(wanted) = &args.series {
            let view: IncidentView = client.get(&format!("/v1/incidents/{id}")).await?;
            let moved = view.incident.anomalies.iter();
            let mut moved = moved.map(|a| a.reading.series.to_string());
            if !moved.any(|series| fits(wanted, &series)) {
                continue;
            }
        }
        let why = client.get(&format!("/v1/incidents/{id}/why")).await?;
        return Ok(Some(why));
    }
    Ok(None)
}

/// A part of a name, or a glob over it.
fn fits(wanted: &str, series: &str) -> bool {
    if wanted.contains('*') {
        glob_match::glob_match(wanted, series)
            || glob_match::glob_match(wanted, series.split('{').next().unwrap_or(series))
    } else {
        series.contains(wanted)
    }
}

async fn series_at(
    args: &WhyNotArgs,
    at: Timestamp,
    client: &Client,
) -> Result<Vec<Seen>, CliError> {
    let host = part(&args.host);
    let named = args
        .series
        .as_deref()
        .map(|s| format!("&series={}", part(s)));
    let path = format!(
        "/v1/hosts/{host}/baselines?limit=10000{}",
        named.unwrap_or_default()
    );
    let mut readings: Vec<Reading> = client.list(&path, "baselines").await?;
    readings.sort_by(|a, b| b.sigma.abs().total_cmp(&a.sigma.abs()));
    let mut seen = vec![];
    for reading in readings.iter().take(TOLD) {
        let series = part(&reading.series.to_string());
        let path = format!("/v1/hosts/{host}/series/{series}");
        let view: SeriesView = client.get(&path).await?;
        seen.extend(seen_at(&view, at));
    }
    seen.sort_by(|a, b| b.sigma.abs().total_cmp(&a.sigma.abs()));
    Ok(seen)
}

/// The series at the reading nearest to the time; none if there is none near it.
fn seen_at(view: &SeriesView, at: Timestamp) -> Option<Seen> {
    let away = |t: Timestamp| t.as_millis().abs_diff(at.as_millis());
    let point = view.points.iter().min_by_key(|p| away(p.at))?;
    let spread = if point.sigma == 0.0 {
        view.reading.baseline.spread
    } else {
        ((point.value - point.expected) / point.sigma).abs()
    };
    let reading = &view.reading;
    let needed = match view.sensitivity.as_deref() {
        Some("low") => 5.0,
        Some("high") => 2.0,
        _ => 3.0,
    };
    let toward = match reading.harm {
        Harm::High => point.sigma,
        Harm::Low => -point.sigma,
        Harm::Both => point.sigma.abs(),
        Harm::Neither => 0.0,
    };
    let least = match reading.harm {
        Harm::Low => format!("at most {}", number(point.expected - needed * spread)),
        _ => format!("at least {}", number(point.expected + needed * spread)),
    };
    let late_s = away(point.at) / 1000;
    let step_s = view.step_seconds.max(1.0);
    let gate = |name: &str, passed, value: String, needed: String, flip: String| Gate {
        name: name.into(),
        passed,
        value,
        needed,
        flip,
    };
    let gates = vec![
        gate(
            "sampled",
            late_s as f64 <= 3.0 * step_s,
            format!("the nearest reading is {late_s} s away"),
            format!("within {} s", number(3.0 * step_s)),
            "a time that is still remembered, or a sensor that answers".into(),
        ),
        gate(
            "judged",
            view.sensitivity.is_some(),
            view.sensitivity.clone().unwrap_or_else(|| "ignored".into()),
            "a sensitivity".into(),
            "take `ignore = true` out of `[[baseline.overrides]]`".into(),
        ),
        gate(
            "harmful",
            reading.harm != Harm::Neither,
            format!("{:?}", reading.harm).to_lowercase(),
            "a side on which it hurts".into(),
            "nothing: this series is told and never alarms".into(),
        ),
        gate(
            "far_enough",
            toward >= needed,
            format!(
                "{} is {:+.1}σ from {}",
                number(point.value),
                point.sigma,
                number(point.expected)
            ),
            format!("{needed}σ where it hurts"),
            format!("a value of {least}, in two of three readings"),
        ),
        gate(
            "persistent",
            view.anomalies
                .iter()
                .any(|a| a.from <= at.plus(SOON) && a.until.is_none_or(|u| u >= at)),
            "not for long enough, or no second metric of the host was surprised".into(),
            "two of three readings over the threshold; one of 5σ".into(),
            "a further reading like it, or another metric that moves with it".into(),
        ),
    ];
    Some(Seen {
        series: reading.series.to_string(),
        value: point.value,
        expected: point.expected,
        sigma: point.sigma,
        gates,
    })
}

/// What has to change, gate by gate, for a decision to run unattended.
fn changes(decision: &Decision) -> Vec<String> {
    if decision.route == Route::Execute {
        return vec![];
    }
    flips(&decision.gates)
}

fn flips(gates: &[Gate]) -> Vec<String> {
    let failed = gates.iter().filter(|g| !g.passed);
    failed.map(|g| format!("{}: {}", g.name, g.flip)).collect()
}

fn of_incident(why: &Why, out: &Out) -> Result<(), CliError> {
    let acted = why
        .decision
        .as_ref()
        .is_some_and(|d| d.route == Route::Execute);
    if acted {
        let told = why.outcome.as_ref().map(|o| o.status.as_str());
        out.line(format!(
            "Hale acted on {}: {}",
            why.incident.id,
            told.unwrap_or("it is under way")
        ))?;
    }
    super::incidents::told(why, out)
}

fn of_series(answer: &Answer, out: &Out) -> Result<(), CliError> {
    let Some(first) = answer.series.first() else {
        out.line(format!(
            "{} has no such series, and no incident then; `hale metrics {}` lists them",
            answer.host, answer.host
        ))?;
        return Ok(());
    };
    out.line(format!(
        "No incident was open on {} at {}: no series was out of the ordinary for long enough.",
        answer.host, answer.at
    ))?;
    let mut table = Table::new(["SERIES", ">VALUE", ">EXPECTED", ">σ"]);
    for seen in &answer.series {
        table.row([
            plain(&seen.series),
            plain(number(seen.value)),
            plain(number(seen.expected)),
            plain(format!("{:+.1}", seen.sigma)),
        ]);
    }
    table.print(out)?;
    out.line(format!(
        "\n{}",
        out.paint(Look::Dim, &format!("gates of {}", first.series))
    ))?;
    super::incidents::gates(&first.gates, out)
}
