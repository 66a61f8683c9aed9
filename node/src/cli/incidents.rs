//! `hale incidents` and `hale why`: what is wrong, what was done, and why.

use super::client::part;
use super::out::{Look, Out, Table, ago, maybe, number, plain};
use super::{CliError, Client, ok_unless};
use clap::{Args, ValueEnum};
use hale_api::{IncidentRow, IncidentView, Why};
use hale_model::decision::Decision;
use hale_model::{IncidentState, OutcomeStatus, Severity};
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale incidents                              those that are open
  hale incidents --state all --service nginx
  hale incidents inc_20260212_112600_a8f3b2c1 one with its evidence
  hale incidents --json | jq -r '.[].id'

Exit code 1 if any that is shown is open.")]
pub(crate) struct IncidentsArgs {
    /// One incident with its evidence
    id: Option<String>,
    /// Which to list
    #[arg(long, value_enum, default_value_t = Standing::Open)]
    state: Standing,
    /// Of one service only
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Standing {
    Open,
    Resolved,
    All,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale why inc_20260212_112600_a8f3b2c1

Shows the text that was searched with, the best matches, the parts of the confidence, every gate
with the change that would have flipped it, and the story as it went.")]
pub(crate) struct WhyArgs {
    /// The incident
    #[arg(value_name = "INCIDENT")]
    id: String,
}

pub(super) async fn run(
    args: IncidentsArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    if let Some(id) = &args.id {
        return one(id, client, out).await;
    }
    let state = match args.state {
        Standing::Open => "open",
        Standing::Resolved => "resolved",
        Standing::All => "all",
    };
    let service = args
        .service
        .map(|s| format!("&service={}", part(&s)))
        .unwrap_or_default();
    let path = format!("/v1/incidents?state={state}&limit={}{service}", args.limit);
    let rows: Vec<IncidentRow> = client.list(&path, "incidents").await?;
    out.value(&rows)?;
    if rows.is_empty() {
        out.line(if state == "all" {
            "No incidents.".into()
        } else {
            format!("No {state} incidents.")
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new([
        "INCIDENT", "SEVERITY", "STATE", "OPENED", "SERVICE", "PLAYBOOK", "OUTCOME", "TITLE",
    ]);
    for row in &rows {
        table.row([
            plain(&row.id),
            (row.severity.as_str().into(), severity(row.severity)),
            standing(row.state),
            plain(ago(row.opened_at)),
            maybe(row.service.as_ref()),
            maybe(row.playbook.as_ref()),
            row.outcome
                .map_or_else(|| maybe(None::<&str>), |o| (o.as_str().into(), outcome(o))),
            plain(&row.title),
        ]);
    }
    table.print(out)?;
    out.line(out.paint(
        Look::Dim,
        "hale why INCIDENT tells why it was treated as it was",
    ))?;
    Ok(ok_unless(
        rows.iter().any(|r| r.state == IncidentState::Open),
    ))
}

async fn one(id: &str, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let view: IncidentView = client.get(&format!("/v1/incidents/{}", part(id))).await?;
    out.value(&view)?;
    let i = &view.incident;
    let (state, look) = standing(i.state);
    out.line(format!(
        "{}  {}",
        out.paint(Look::Bold, &i.title),
        out.paint(look, &state)
    ))?;
    out.fact("incident", i.id.as_str())?;
    let service = i
        .service
        .as_ref()
        .map(|s| format!(", service {s}"))
        .unwrap_or_default();
    out.fact(
        "where",
        &format!(
            "{} ({}){service}",
            i.host,
            out.paint(Look::Plain, &i.environment)
        ),
    )?;
    out.fact(
        "severity",
        &out.paint(severity(i.severity), i.severity.as_str()),
    )?;
    out.fact("opened", &format!("{} ({})", i.opened_at, ago(i.opened_at)))?;
    if let Some(at) = i.resolved_at {
        out.fact("resolved", &format!("{at} ({})", ago(at)))?;
    }
    if i.recurrence_30d > 0 {
        out.fact(
            "recurrence",
            &format!("{} like it in the 30 days before", i.recurrence_30d),
        )?;
    }
    for a in &i.anomalies {
        let r = &a.reading;
        let text = format!(
            "{} is {} where {} is normal, {:+.1}σ, {:+.3}/h",
            r.series,
            number(r.value),
            number(r.baseline.expected),
            r.sigma,
            r.trend_per_hour
        );
        out.fact("value", &out.paint(severity(a.severity), &text))?;
    }
    for e in &i.events {
        out.fact(
            "event",
            &out.paint(Look::Plain, &format!("{}× {}", e.count, e.message)),
        )?;
    }
    for c in &i.top_consumers {
        out.fact("consumer", &out.paint(Look::Plain, &c.text))?;
    }
    ending(&view, out)?;
    out.line(out.paint(Look::Dim, &format!("hale why {} tells why", i.id)))?;
    Ok(ok_unless(i.state == IncidentState::Open))
}

fn ending(view: &IncidentView, out: &Out) -> Result<(), CliError> {
    if let Some(m) = view.decision.as_ref().and_then(Decision::chosen) {
        let total = view.decision.as_ref().map_or(0.0, |d| d.confidence.total);
        out.fact(
            "playbook",
            &format!(
                "{} {} at {total:.2}",
                m.playbook,
                out.paint(Look::Plain, &m.version)
            ),
        )?;
    }
    if let Some(e) = &view.execution {
        let step = e.step.as_deref().unwrap_or("-");
        out.fact(
            "running",
            &out.paint(Look::Plain, &format!("{}: {} {step}", e.id, e.phase)),
        )?;
    }
    if let Some(a) = view
        .approval
        .as_ref()
        .filter(|a| a.state == hale_model::ledger::ApprovalState::Waiting)
    {
        out.fact("waits", &format!("for you: hale approve {}", a.id))?;
    }
    if let Some(o) = &view.outcome {
        let text = format!("{}: {}", o.status.as_str(), o.reason);
        out.fact("outcome", &out.paint(outcome(o.status), &text))?;
    }
    if let Some(e) = &view.entry {
        out.fact("record", &format!("entry {} {}", e.index, e.hash))?;
    }
    Ok(())
}

pub(super) async fn why(args: WhyArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let why: Why = client
        .get(&format!("/v1/incidents/{}/why", part(&args.id)))
        .await?;
    out.value(&why)?;
    told(&why, out)?;
    Ok(ExitCode::SUCCESS)
}

/// All of why an incident was treated as it was.
pub(super) fn told(why: &Why, out: &Out) -> Result<(), CliError> {
    let (state, look) = standing(why.incident.state);
    out.line(format!(
        "{}  {}",
        out.paint(Look::Bold, &why.incident.title),
        out.paint(look, &state)
    ))?;
    match &why.decision {
        Some(decision) => decided(decision, out)?,
        None => out.line("  nothing was decided yet: its signals are still being gathered")?,
    }
    if !why.story.is_empty() {
        heading(out, "what happened")?;
        let begun = why.incident.opened_at;
        for h in &why.story {
            let seconds = h.at.since(begun).as_secs_f64();
            let first = h.text.lines().next().unwrap_or_default();
            let stage = out.paint(
                Look::Dim,
                &format!("{seconds:>7.1} s  {:<10}", h.stage.as_str()),
            );
            out.line(format!("  {stage} {}", out.paint(Look::Plain, first)))?;
        }
    }
    if let Some(o) = &why.outcome {
        heading(out, "how it ended")?;
        let after = format!("after {:.1} s: {}", o.resolution_time_seconds, o.reason);
        out.line(format!(
            "  {} {}",
            out.paint(outcome(o.status), o.status.as_str()),
            out.paint(Look::Plain, &after)
        ))?;
    }
    if let Some(e) = &why.entry {
        out.line(format!("  recorded as entry {} {}", e.index, e.hash))?;
    }
    Ok(())
}

fn heading(out: &Out, text: &str) -> Result<(), CliError> {
    out.line(format!("\n{}", out.paint(Look::Dim, text)))
}

fn decided(d: &Decision, out: &Out) -> Result<(), CliError> {
    heading(out, "understood as")?;
    for line in d.text.lines() {
        out.line(format!("  {}", out.paint(Look::Plain, line)))?;
    }
    heading(out, "what fits")?;
    for (i, m) in d.matches.iter().enumerate() {
        let look = if i == 0 { Look::Bold } else { Look::Plain };
        let parts: Vec<String> = m
            .features
            .iter()
            .map(|(k, v)| format!("{k} {}", number(*v)))
            .collect();
        let parts = out.paint(Look::Dim, &parts.join(", "));
        out.line(format!(
            "  {:.2}  {}  {parts}",
            m.similarity,
            out.paint(look, m.playbook.as_str())
        ))?;
    }
    for (m, f) in d
        .matches
        .iter()
        .flat_map(|m| m.findings.iter().map(move |f| (m, f)))
    {
        let (mark, look) = match f.found {
            Some(true) => ("found", Look::Good),
            Some(false) => ("not so", Look::Bad),
            None => ("unknown", Look::Dim),
        };
        let strong = if f.is_strong { "" } else { ", weak" };
        out.line(format!(
            "        {} {} of {}{strong}: {}",
            out.paint(look, &format!("{mark:<8}")),
            f.probe,
            m.playbook,
            out.paint(Look::Dim, &f.saw)
        ))?;
    }
    heading(out, "how sure")?;
    let c = &d.confidence;
    out.line(format!(
        "  {:.2} = similarity {:.2} {:+.2} history {:+.2} recurrence",
        c.total, c.similarity, c.history, c.recurrence
    ))?;
    heading(out, "gates")?;
    gates(&d.gates, out)?;
    let took = d.took_us as f64 / 1000.0;
    out.line(format!(
        "\n→ {}: {} ({took:.1} ms)",
        d.route.as_str(),
        out.paint(Look::Plain, &d.rationale)
    ))
}

/// Gates in the order they were asked.
pub(super) fn gates(gates: &[hale_model::Gate], out: &Out) -> Result<(), CliError> {
    let mut table = Table::new(["  ", "GATE", "VALUE", "NEEDED", "WHAT WOULD FLIP IT"]);
    for g in gates {
        let mark = if g.passed {
            ("  ✓".into(), Look::Good)
        } else {
            ("  ✗".into(), Look::Bad)
        };
        table.row([
            mark,
            plain(&g.name),
            plain(&g.value),
            plain(&g.needed),
            plain(&g.flip),
        ]);
    }
    table.print(out)
}

fn severity(s: Severity) -> Look {
    match s {
        Severity::Info => Look::Dim,
        Severity::Warning => Look::Warn,
        Severity::Critical => Look::Bad,
    }
}

fn standing(s: IncidentState) -> (String, Look) {
    match s {
        IncidentState::Open => ("open".into(), Look::Warn),
        IncidentState::Resolved => ("resolved".into(), Look::Good),
    }
}

fn outcome(o: OutcomeStatus) -> Look {
    match o {
        OutcomeStatus::Success | OutcomeStatus::SelfResolved => Look::Good,
        OutcomeStatus::Failed | OutcomeStatus::Abandoned => Look::Bad,
        _ => Look::Warn,
    }
}
