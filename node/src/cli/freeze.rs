//! `hale freeze` and `hale thaw`: stop all execution, allow it again.

use super::out::{Look, Out};
use super::{CliError, Client, who};
use clap::Args;
use hale_api::{FreezeRequest, FreezeState};
use reqwest::Method;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale freeze --reason 'release 4.2 rolls out'
  hale thaw

Diagnosis goes on, nothing new is started anywhere; what runs already runs to its end. Both stand
in the chain.")]
pub(crate) struct FreezeArgs {
    /// Why; it stands in the record and in every refusal
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who freezes [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale thaw
  hale thaw --reason 'release 4.2 is out'")]
pub(crate) struct ThawArgs {
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who thaws [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(super) async fn freeze(
    args: FreezeArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let request = FreezeRequest {
        by: who(args.by),
        reason: args.reason,
    };
    let state: FreezeState = client.send(Method::POST, "/v1/freeze", &request).await?;
    out.value(&state)?;
    out.line(format!(
        "{}: nothing new is started until `hale thaw`",
        out.paint(Look::Warn, "frozen")
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn thaw(args: ThawArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let request = FreezeRequest {
        by: who(args.by),
        reason: args.reason,
    };
    let state: FreezeState = client.send(Method::DELETE, "/v1/freeze", &request).await?;
    out.value(&state)?;
    out.line(format!(
        "{}: execution is allowed again",
        out.paint(Look::Good, "thawed")
    ))?;
    Ok(ExitCode::SUCCESS)
}
