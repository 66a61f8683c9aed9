//! `hale token`: the secrets that let other hosts join.

use super::client::part;
use super::out::{Look, Out, Table, ago, many, plain, until};
use super::{CliError, Client, who};
use clap::{Args, Subcommand};
use hale_api::{ByRequest, CreateTokenRequest, MAX_TOKEN_USES, NewToken, TokenState, TokenView};
use hale_telemetry::Span;
use reqwest::Method;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make one, and say what to type on the new host
    Create(CreateArgs),
    /// Those that were made, without their secrets
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  hale token ls
  hale token ls --json | jq '.[] | select(.state == \"valid\")'"
    )]
    Ls,
    /// Take one back: it lets nobody in any more
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale token create                     one host, within the hour
  hale token create --ttl 1d --uses 20  a rack
  hale token create --json | jq -r .join

The secret is shown this once: the ledger keeps a hash of it. Who has it can join until it is used
up, expires or is revoked.")]
pub(crate) struct CreateArgs {
    /// For how long it lets others in: 10m, 1h, 7d; at most 30d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = ttl)]
    ttl: Span,
    /// How many hosts it lets in
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_TOKEN_USES))]
    uses: u64,
    /// Who makes it [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale token revoke tok_5b1e9d20        its id stands in `hale token ls`")]
pub(crate) struct RevokeArgs {
    /// Which
    #[arg(value_name = "ID")]
    id: String,
    /// Who takes it back [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// Whole seconds, from one to a month.
fn ttl(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|e| format!("{e}"))?;
    let most = Span::secs(hale_api::MAX_TOKEN_SECONDS);
    let fits = (Span::secs(1)..=most).contains(&span);
    if fits {
        Ok(span)
    } else {
        Err(format!("it has to be from 1s to {most}"))
    }
}

pub(super) async fn run(
    command: TokenCommand,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    match command {
        TokenCommand::Create(args) => create(args, client, out).await,
        TokenCommand::Ls => list(client, out).await,
        TokenCommand::Revoke(args) => revoke(args, client, out).await,
    }
}

async fn create(args: CreateArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let request = CreateTokenRequest {
        ttl_seconds: args.ttl.0.as_secs(),
        uses: args.uses,
        by: who(args.by),
    };
    let new: NewToken = client.send(Method::POST, "/v1/tokens", &request).await?;
    out.value(&new)?;
    let good = Duration::from_secs(request.ttl_seconds);
    out.line(format!(
        "{} lets {} in, for {}",
        out.paint(Look::Bold, &new.view.id),
        many(new.view.uses_left, "host", "hosts"),
        Span(good)
    ))?;
    out.fact("token", &out.paint(Look::Plain, &new.token))?;
    let once = "shown this once; type on the new host:";
    out.line(out.paint(Look::Dim, &format!("  {once}")))?;
    out.line(format!("  {}", out.paint(Look::Good, &new.join)))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let tokens: Vec<TokenView> = client.list("/v1/tokens", "tokens").await?;
    out.value(&tokens)?;
    if tokens.is_empty() {
        out.line("There is none; `hale token create` makes one.")?;
        return Ok(ExitCode::SUCCESS);
    }
    table(&tokens).print(out)?;
    Ok(ExitCode::SUCCESS)
}

fn table(tokens: &[TokenView]) -> Table {
    let mut table = Table::new(["TOKEN", "STATE", ">LEFT", ">OF", "EXPIRES", "BY"]);
    for t in tokens {
        let (state, when) = match t.state {
            TokenState::Valid => (("valid".into(), Look::Good), until(t.expires_at)),
            TokenState::UsedUp => (("used up".into(), Look::Dim), until(t.expires_at)),
            TokenState::Expired => (("expired".into(), Look::Dim), ago(t.expires_at)),
        };
        table.row([
            plain(&t.id),
            state,
            plain(t.uses_left),
            plain(t.uses),
            plain(when),
            plain(&t.by),
        ]);
    }
    table
}

async fn revoke(args: RevokeArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let request = ByRequest { by: who(args.by) };
    let path = format!("/v1/tokens/{}", part(&args.id));
    let token: TokenView = client.send(Method::DELETE, &path, &request).await?;
    out.value(&token)?;
    out.line(format!(
        "{}: {} lets nobody in any more",
        out.paint(Look::Warn, "revoked"),
        out.paint(Look::Plain, &token.id)
    ))?;
    Ok(ExitCode::SUCCESS)
}
