//! `hale status`: the node at a glance.

use super::out::{Look, Out, ago, count, many, span};
use super::{CliError, Client, ok_unless};
use clap::Args;
use hale_api::{Code, LedgerStatus, Seat, Status};
use hale_model::NodeId;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale status
  hale status --json | jq .ledger.role

Exit code 1 if the node is not ready or an incident is open.")]
pub(crate) struct StatusArgs {
    /// What this node knows, without asking the group: works without a leader
    #[arg(long)]
    stale: bool,
}

pub(super) async fn run(
    args: StatusArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let stale = "/v1/status?consistency=stale";
    let unavailable = Code::Unavailable.status().as_u16();
    let s: Status = match args.stale {
        true => client.get(stale).await?,
        // Without a leader it is what the node knows, and that it is not well.
        false => match client.get("/v1/status").await {
            Err(CliError::Said { status, .. }) if status == unavailable => {
                client.get(stale).await?
            }
            answer => answer?,
        },
    };
    let wrong = !s.ready || !s.problems.is_empty() || s.incidents_open > 0;
    out.value(&s)?;
    let (look, word) = match () {
        () if !s.ready || !s.problems.is_empty() => (Look::Bad, "not well"),
        () if s.freeze.frozen => (Look::Warn, "frozen"),
        () if s.incidents_open > 0 => (Look::Warn, "incidents open"),
        () => (Look::Good, "healthy"),
    };
    out.line(format!(
        "{} ({})  {}",
        out.paint(Look::Bold, s.host.as_str()),
        out.paint(Look::Plain, &s.environment),
        out.paint(look, word)
    ))?;
    for problem in &s.problems {
        out.line(format!(
            "  {} {}",
            out.paint(Look::Bad, "!"),
            out.paint(Look::Plain, problem)
        ))?;
    }
    facts(&s, out)?;
    Ok(ok_unless(wrong))
}

fn facts(s: &Status, out: &Out) -> Result<(), CliError> {
    let hint = |n: u64, text: &str| {
        if n > 0 {
            out.paint(Look::Dim, text)
        } else {
            String::new()
        }
    };
    let up = span(Duration::from_secs(s.uptime_seconds));
    out.fact(
        "node",
        &format!("{}, hale {}, up {up}", s.node.short(), s.version),
    )?;
    let read = s.last_round_at.map_or_else(
        || "not read yet".into(),
        |at| format!("last read {}", ago(at)),
    );
    let every = span(Duration::from_millis(s.interval_ms));
    out.fact("sensors", &format!("every {every}, {read}"))?;
    let dropped = match s.dropped {
        0 => String::new(),
        n => format!(", {} dropped by limits", count(n)),
    };
    out.fact(
        "learned",
        &format!(
            "{}, {} samples{dropped}",
            many(s.series, "series", "series"),
            count(s.samples)
        ),
    )?;
    out.fact(
        "incidents",
        &format!(
            "{} open  {}",
            count(s.incidents_open),
            hint(s.incidents_open, "hale incidents")
        ),
    )?;
    let n = s.approvals_waiting;
    out.fact(
        "approvals",
        &format!("{} waiting  {}", count(n), hint(n, "hale approve")),
    )?;
    let n = s.executions_running;
    out.fact(
        "running",
        &format!(
            "{}  {}",
            many(n, "playbook", "playbooks"),
            hint(n, "hale leases")
        ),
    )?;
    out.fact("playbooks", &format!("{} known", count(s.playbooks)))?;
    let l = &s.ledger;
    if l.members_known > 0 {
        out.fact("members", &members(l, s.node, out))?;
    }
    let leader = match &l.leader {
        Some(leader) if *leader == s.node => "this node leads".into(),
        Some(leader) => format!("{} leads", leader.short()),
        None => out.paint(Look::Bad, "nobody leads"),
    };
    let voters = many(l.voters.len() as u64, "voter", "voters");
    out.fact("ledger", &format!("{leader}, term {}, {voters}", l.term))?;
    out.fact(
        "chain",
        &format!("{}, tip {}", many(l.entries, "entry", "entries"), l.tip),
    )?;
    if s.freeze.frozen {
        let by = s.freeze.by.as_deref().unwrap_or("somebody");
        let why = s
            .freeze
            .reason
            .as_deref()
            .filter(|r| !r.is_empty())
            .map_or_else(String::new, |r| format!(": {r}"));
        let text = out.paint(Look::Warn, &format!("frozen by {by}{why}"));
        out.fact(
            "execution",
            &format!("{text}  {}", out.paint(Look::Dim, "hale thaw")),
        )?;
    }
    Ok(())
}

/// Those alive of those known, this node's seat, and where it stands.
pub(super) fn members(l: &LedgerStatus, me: NodeId, out: &Out) -> String {
    let alive = format!(
        "{} of {} alive",
        count(l.members_alive),
        count(l.members_known)
    );
    let alive = match l.members_alive < l.members_known {
        true => out.paint(Look::Warn, &alive),
        false => alive,
    };
    let seat = match () {
        () if l.leader == Some(me) => Seat::Leader,
        () if l.voters.contains(&me) => Seat::Voter,
        () if l.learners.contains(&me) => Seat::Learner,
        () => Seat::None,
    };
    let zone = l.zone.as_ref().map_or_else(String::new, |zone| {
        format!(", zone {}", out.paint(Look::Plain, zone))
    });
    let hint = match l.members_known {
        1 => String::new(),
        _ => format!("  {}", out.paint(Look::Dim, "hale members")),
    };
    format!("{alive}, seat {seat}{zone}{hint}")
}
