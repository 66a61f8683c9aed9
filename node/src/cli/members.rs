//! `hale members`, `hale remove` and `hale leave`: who belongs to the cluster, and who does not
//! any more.

use super::client::part;
use super::out::{Look, Out, Table, clean, count, maybe, plain};
use super::{CliError, Client, ok_unless, who};
use clap::Args;
use hale_api::{Code, MemberName, MemberState, MemberView, Problem, RemoveRequest, Seat};
use reqwest::Method;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale members
  hale members --all                                    those that were removed too
  hale members --json | jq -r '.[] | select(.state == \"down\") | .host'

Who belongs to the cluster is on the ledger's roster; how each is, gossip tells. Where nobody leads
it is what this node knows. Exit code 1 if a member is down.")]
pub(crate) struct MembersArgs {
    /// Those that were removed too
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale remove db-03 --reason 'the machine is scrapped'
  hale remove 1a2b3c4d                  a node by the first 8 digits of its key, or more
  hale remove db-03 --yes               without being asked, in a script

The node is shut out everywhere at once, and its key never comes back: to let the host in again,
give it an empty data directory and a token. What it has written stays in the chain.")]
pub(crate) struct RemoveArgs {
    /// Its host, or 8 digits of its key or more
    #[arg(value_name = "NODE|HOST")]
    member: MemberName,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Who removes it [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale leave
  hale leave --reason 'the host is retired'

This node hands on its seat, is taken off the roster and does nothing any more. Where the others
could decide nothing without its vote, it waits up to 20 s for another to take its seat. Another
node that is gone already is taken out with `hale remove`.")]
pub(crate) struct LeaveArgs {
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who says so [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(super) async fn run(
    args: MembersArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let (mut members, confirmed) = members(client).await?;
    members.retain(|m| args.all || !m.removed);
    out.value(&members)?;
    table(&members).print(out)?;
    if !confirmed {
        let text = "nobody leads: this is what this node knows; hale voters shows who is silent";
        out.line(out.paint(Look::Warn, text))?;
    }
    let down = |m: &MemberView| !m.removed && m.state == MemberState::Down;
    Ok(ok_unless(members.iter().any(down)))
}

/// The members, and whether the group has confirmed who they are: without a leader they are what
/// the node knows.
async fn members(client: &Client) -> Result<(Vec<MemberView>, bool), CliError> {
    let unavailable = Code::Unavailable.status().as_u16();
    match client.list("/v1/members", "members").await {
        Err(CliError::Said { status, .. }) if status == unavailable => {
            let path = "/v1/members?consistency=stale";
            Ok((client.list(path, "members").await?, false))
        }
        members => Ok((members?, true)),
    }
}

pub(super) fn table(members: &[MemberView]) -> Table {
    let mut table = Table::new([
        "HOST", "NODE", "STATE", "SEAT", "ZONE", "VERSION", ">CHAIN", "ADDRESS",
    ]);
    for m in members {
        let state = match m.state {
            _ if m.removed => ("removed".into(), Look::Dim),
            MemberState::Alive => ("alive".into(), Look::Good),
            MemberState::Suspect => ("suspect".into(), Look::Warn),
            MemberState::Down => ("down".into(), Look::Bad),
            MemberState::Unknown => ("unknown".into(), Look::Dim),
        };
        let host = match m.is_self {
            true => format!("{} (this)", m.host),
            false => m.host.to_string(),
        };
        table.row([
            plain(host),
            plain(m.node.short()),
            state,
            maybe((m.seat != Seat::None).then_some(m.seat)),
            maybe(m.zone.as_ref()),
            maybe(m.version.as_ref()),
            maybe(m.chain_entries.map(count)),
            maybe(m.addr.as_ref()),
        ]);
    }
    table
}

pub(super) async fn remove(
    args: RemoveArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let (members, _) = members(client).await?;
    let found = args.member.among(&members).map_err(said)?;
    let shown = format!("{} ({})", found.host, found.node.short());
    if !args.yes && !agreed(&format!("Remove {shown} from the cluster?"))? {
        out.line("Nothing was done.")?;
        return Ok(ExitCode::FAILURE);
    }
    let request = RemoveRequest {
        by: who(args.by),
        reason: args.reason,
    };
    // By its whole key: what is removed is what was shown.
    let path = format!("/v1/members/{}/remove", part(&found.node.to_string()));
    let removed: MemberView = client.send(Method::POST, &path, &request).await?;
    out.value(&removed)?;
    out.line(format!(
        "{}: {} is shut out",
        out.paint(Look::Warn, "removed"),
        out.paint(Look::Plain, &shown)
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn leave(
    args: LeaveArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let request = RemoveRequest {
        by: who(args.by),
        reason: args.reason,
    };
    let left: MemberView = client.send(Method::POST, "/v1/leave", &request).await?;
    out.value(&left)?;
    let shown = format!("{} ({})", left.host, left.node.short());
    out.line(format!(
        "{}: {} belongs to no cluster any more",
        out.paint(Look::Warn, "left"),
        out.paint(Look::Plain, &shown)
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A problem found here, told as if the node had.
fn said(problem: Problem) -> CliError {
    CliError::Said {
        status: problem.code.status().as_u16(),
        error: hale_api::ErrorView {
            code: problem.code.as_str().into(),
            message: problem.message,
            next: problem.next,
        },
    }
}

/// Asks whoever sits at the terminal.
fn agreed(question: &str) -> Result<bool, CliError> {
    let failed = |source| CliError::File {
        done: "read",
        path: "standard input".into(),
        source,
    };
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage {
            what: "nobody is there to be asked: standard input is not a terminal".into(),
            next: "add --yes if it is meant".into(),
        });
    }
    let mut to = io::stderr().lock();
    to.write_all(format!("{} [y/N] ", clean(question)).as_bytes())
        .and_then(|()| to.flush())
        .map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}
