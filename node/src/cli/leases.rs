//! `hale leases`: who may act on what, who looks at what, and what runs now.

use super::out::{Look, Out, Table, ago, maybe, plain};
use super::{CliError, Client};
use clap::Args;
use hale_api::{ExecutionView, LeaseView, SharedLeaseView, WaitView};
use serde::Deserialize;
use serde_json::json;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale leases
  hale leases --json | jq '.leases[] | select(.live)'")]
pub(crate) struct LeasesArgs {}

#[derive(Deserialize)]
struct Leases {
    leases: Vec<LeaseView>,
    #[serde(default)]
    waiting: Vec<WaitView>,
    #[serde(default)]
    shared: Vec<SharedLeaseView>,
}

pub(super) async fn run(_: LeasesArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let Leases {
        leases,
        waiting,
        shared,
    } = client.get("/v1/leases").await?;
    let executions: Vec<ExecutionView> = client.list("/v1/executions", "executions").await?;
    out.value(&json!({
        "leases": leases, "shared": shared, "waiting": waiting, "executions": executions
    }))?;
    if leases.is_empty() && shared.is_empty() && waiting.is_empty() && executions.is_empty() {
        out.line("Nothing is leased, nothing waits, nothing runs.")?;
    }
    if !leases.is_empty() {
        let mut table = Table::new([">FENCE", "SCOPE", "PLAYBOOK", "HOLDER", ">RENEWED", "STATE"]);
        for l in &leases {
            let state = if l.live {
                ("live".into(), Look::Good)
            } else {
                ("to be closed".into(), Look::Warn)
            };
            let renewed = plain(l.renewals);
            table.row([
                plain(l.fence),
                plain(&l.scope),
                plain(&l.playbook),
                plain(l.holder.short()),
                renewed,
                state,
            ]);
        }
        table.print(out)?;
    }
    if !shared.is_empty() {
        let mut table = Table::new([">FENCE", "LOOKED AT", "BY"]);
        for l in &shared {
            table.row([plain(l.fence), plain(&l.scope), plain(l.holder.short())]);
        }
        table.print(out)?;
    }
    if !waiting.is_empty() {
        waits(&waiting).print(out)?;
    }
    if !executions.is_empty() {
        let mut table = Table::new(["RUNNING", "PLAYBOOK", "HOST", "PHASE", "STEP", "PLANNED"]);
        for e in &executions {
            table.row([
                plain(&e.id),
                plain(&e.playbook),
                plain(&e.host),
                plain(&e.phase),
                maybe(e.step.as_ref()),
                plain(ago(e.started_at)),
            ]);
        }
        table.print(out)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn waits(waiting: &[WaitView]) -> Table {
    let mut table = Table::new([">WAITS", "ON", "FOR", "NODE", "EXECUTION"]);
    for w in waiting {
        table.row([
            plain(w.position),
            plain(&w.scope),
            plain(&w.waits_for),
            plain(w.holder.short()),
            plain(&w.execution),
        ]);
    }
    table
}
