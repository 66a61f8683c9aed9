//! `hale voters`, `hale leader` and `hale transfer-leadership`: the Raft group.

use super::out::{Look, Out, Table, count, maybe, plain, span};
use super::{CliError, Client, ok_unless, who};
use clap::Args;
use hale_api::{LeaderView, Seat, TransferRequest, VoterView, VotersView};
use reqwest::Method;
use std::process::ExitCode;
use std::time::Duration;

/// A voter that the leader has not heard for this long is worth a colour.
const SILENT: Duration = Duration::from_secs(2);
/// From this age on the answer says how old it is.
const OLD: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale voters
  hale voters --json | jq '.voters[] | select(.lag > 0)'

It answers without a leader too, with what this node knows. Exit code 1 if nobody leads.")]
pub(crate) struct VotersArgs {}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale leader
  hale leader --json | jq -r .host

Exit code 1 if nobody leads, as far as this node knows.")]
pub(crate) struct LeaderArgs {}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale transfer-leadership              to the voter that lacks least
  hale transfer-leadership db-02
  hale transfer-leadership 1a2b3c4d     a node by the first 8 digits of its key, or more")]
pub(crate) struct TransferArgs {
    /// To whom [default: the voter that lacks least]
    #[arg(value_name = "NODE|HOST")]
    to: Option<String>,
    /// Who says so [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(super) async fn run(_: VotersArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let v: VotersView = client.get("/v1/voters").await?;
    out.value(&v)?;
    let leads = match v.voters.iter().find(|p| Some(p.node) == v.leader) {
        Some(leader) => out.paint(Look::Good, &format!("{} leads", name(leader))),
        None => out.paint(Look::Bad, "nobody leads"),
    };
    out.line(format!("{leads}, {}", numbers(&v)))?;
    table(&v.voters).print(out)?;
    let age = Duration::from_millis(v.age_ms);
    if age >= OLD {
        let text = format!("the group was last heard {} ago", span(age));
        out.line(out.paint(Look::Warn, &text))?;
    }
    if let Some(plan) = &v.plan {
        out.line(format!(
            "{} {}",
            out.paint(Look::Dim, "next:"),
            out.paint(Look::Plain, plan)
        ))?;
    }
    Ok(ok_unless(v.leader.is_none()))
}

pub(super) fn numbers(v: &VotersView) -> String {
    let votes = v.voters.iter().filter(|p| p.seat != Seat::Learner).count();
    format!(
        "term {}, log {} of {} committed, {} of {votes} have to agree",
        v.term,
        count(v.commit),
        count(v.last_log),
        v.quorum
    )
}

pub(super) fn table(voters: &[VoterView]) -> Table {
    let mut table = Table::new([
        "HOST", "NODE", "SEAT", "ZONE", ">HAS", ">LACKS", ">SILENT", "ADDRESS",
    ]);
    for v in voters {
        let silent = v.silent_ms.map(Duration::from_millis);
        let lag = match v.lag {
            Some(0) | None => Look::Plain,
            Some(_) => Look::Warn,
        };
        table.row([
            maybe(v.host.as_ref()),
            plain(v.node.short()),
            match v.seat {
                Seat::Leader => (v.seat.to_string(), Look::Good),
                _ => plain(v.seat),
            },
            maybe(v.zone.as_ref()),
            maybe(v.matched.map(count)),
            v.lag
                .map_or_else(|| maybe(None::<u64>), |n| (count(n), lag)),
            match silent {
                None => maybe(None::<u64>),
                Some(d) if d >= SILENT => (span(d), Look::Bad),
                Some(d) => plain(span(d)),
            },
            maybe(Some(&v.addr).filter(|a| !a.is_empty())),
        ]);
    }
    table
}

fn name(v: &VoterView) -> String {
    match &v.host {
        Some(host) => format!("{host} ({})", v.node.short()),
        None => v.node.short(),
    }
}

pub(super) async fn leader(
    _: LeaderArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let leader: LeaderView = client.get("/v1/leader").await?;
    show(&leader, out)
}

pub(super) async fn transfer(
    args: TransferArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let request = TransferRequest {
        to: args.to,
        by: who(args.by),
    };
    let path = "/v1/leader/transfer";
    let leader: LeaderView = client.send(Method::POST, path, &request).await?;
    show(&leader, out)
}

fn show(l: &LeaderView, out: &Out) -> Result<ExitCode, CliError> {
    out.value(l)?;
    let Some(node) = l.leader else {
        out.line(format!(
            "{}, term {}  {}",
            out.paint(Look::Bad, "nobody leads"),
            l.term,
            out.paint(Look::Dim, "hale voters")
        ))?;
        return Ok(ExitCode::FAILURE);
    };
    let host = l.host.as_ref().map_or("-", |h| h.as_str());
    let here = if l.is_self { ", this node" } else { "" };
    let http = l
        .http
        .as_ref()
        .map_or_else(String::new, |a| format!(", answers at {a}"));
    out.line(format!(
        "{} ({}){here} leads, term {}{}",
        out.paint(Look::Bold, host),
        node.short(),
        l.term,
        out.paint(Look::Plain, &http)
    ))?;
    Ok(ExitCode::SUCCESS)
}
