//! `hale budget`: how much may be done at once, or within an hour.

use super::client::part;
use super::out::{Look, Out, Table, count, maybe, plain};
use super::{CliError, Client, who};
use clap::{Args, Subcommand};
use hale_api::{BudgetView, ByRequest, MAX_BUDGET, SetBudgetRequest};
use hale_model::ServiceName;
use reqwest::Method;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    /// The budgets, and how much of each is spent
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  hale budget ls
  hale budget ls --json | jq '.[] | select(.used >= .allowed)'"
    )]
    Ls,
    /// Set one, in place of one of the same name
    Set(SetArgs),
    /// Take one away
    Rm(RmArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale budget set web --service nginx --at-most 2     two nginx at once in the whole cluster
  hale budget set web --service nginx --percent 20    a fifth of them
  hale budget set calm --per-hour 10                  ten executions within an hour, of any kind

The ledger counts them, so a partition can't spend one twice. An execution that would go over a
budget waits or is refused.")]
pub(crate) struct SetArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// For which service [default: every execution]
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    #[command(flatten)]
    limit: Limit,
    /// Who sets it [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Limit {
    /// Executions at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_BUDGET))]
    at_most: Option<u64>,
    /// Executions at once, in percent of the hosts
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u64).range(1..=100))]
    percent: Option<u64>,
    /// Executions begun within an hour
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_BUDGET))]
    per_hour: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale budget rm web")]
pub(crate) struct RmArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Who takes it away [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(super) async fn run(
    command: BudgetCommand,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    match command {
        BudgetCommand::Ls => list(client, out).await,
        BudgetCommand::Set(args) => set(args, client, out).await,
        BudgetCommand::Rm(args) => remove(args, client, out).await,
    }
}

async fn list(client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let budgets: Vec<BudgetView> = client.list("/v1/budgets", "budgets").await?;
    out.value(&budgets)?;
    if budgets.is_empty() {
        out.line("There is none; `hale budget set NAME --at-most N` sets one.")?;
        return Ok(ExitCode::SUCCESS);
    }
    table(&budgets).print(out)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn table(budgets: &[BudgetView]) -> Table {
    let mut table = Table::new(["BUDGET", "SERVICE", "LIMIT", ">USED", ">ALLOWED"]);
    for b in budgets {
        let used = match b.used >= b.allowed {
            true => Look::Warn,
            false => Look::Plain,
        };
        table.row([
            plain(&b.name),
            maybe(b.service.as_ref()),
            plain(b.limit),
            (count(b.used), used),
            plain(count(b.allowed)),
        ]);
    }
    table
}

async fn set(args: SetArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let request = SetBudgetRequest {
        name: args.name,
        service: args.service,
        at_most: args.limit.at_most,
        percent: args.limit.percent,
        per_hour: args.limit.per_hour,
        by: who(args.by),
    };
    let budget: BudgetView = client.send(Method::POST, "/v1/budgets", &request).await?;
    out.value(&budget)?;
    let of = match &budget.service {
        Some(service) => format!(" for {service}"),
        None => String::new(),
    };
    out.line(format!(
        "{} allows {}{of}; {} of {} used",
        out.paint(Look::Good, &budget.name),
        budget.limit,
        count(budget.used),
        count(budget.allowed)
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn remove(args: RmArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let request = ByRequest { by: who(args.by) };
    let path = format!("/v1/budgets/{}", part(&args.name));
    let budget: BudgetView = client.send(Method::DELETE, &path, &request).await?;
    out.value(&budget)?;
    out.line(format!(
        "{}: {} limits nothing any more",
        out.paint(Look::Warn, "removed"),
        out.paint(Look::Plain, &budget.name)
    ))?;
    Ok(ExitCode::SUCCESS)
}
