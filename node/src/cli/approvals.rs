//! `hale approve` and `hale deny`: a human's answer to a plan. An answer is bound to the digest of
//! the plan that was shown.

use super::client::part;
use super::out::{Look, Out, ago, until};
use super::{CliError, Client, who};
use clap::Args;
use hale_api::{AnswerRequest, ApprovalView};
use hale_model::Digest;
use std::process::ExitCode;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale approve                                      the plans that wait for you
  hale approve apr_20260212_112604_77c0a1ee
  hale approve apr_… --by ana --reason 'checked the replica first'
  hale approve apr_… --plan sha256:…                only if the plan is still this one

Exit code 4 if the plan changed, was answered before, or has expired.")]
pub(crate) struct ApproveArgs {
    /// Which; without it those that wait are listed
    #[arg(value_name = "APPROVAL")]
    id: Option<String>,
    #[command(flatten)]
    said: Said,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale deny apr_20260212_112604_77c0a1ee --reason 'a migration is running'")]
pub(crate) struct DenyArgs {
    /// Which
    #[arg(value_name = "APPROVAL")]
    id: String,
    #[command(flatten)]
    said: Said,
}

#[derive(Debug, Args)]
struct Said {
    /// Who answers [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why; it stands in the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// The digest of the plan that you have seen [default: that of the plan as it is now]
    #[arg(long, value_name = "DIGEST")]
    plan: Option<Digest>,
}

pub(super) async fn approve(
    args: ApproveArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    match args.id {
        Some(id) => answer(&id, "approve", args.said, client, out).await,
        None => list(client, out).await,
    }
}

pub(super) async fn deny(args: DenyArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    answer(&args.id, "deny", args.said, client, out).await
}

async fn waiting(client: &Client) -> Result<Vec<ApprovalView>, CliError> {
    client.list("/v1/approvals", "approvals").await
}

async fn list(client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let waiting = waiting(client).await?;
    out.value(&waiting)?;
    if waiting.is_empty() {
        out.line("Nothing waits for you.")?;
    }
    for a in &waiting {
        show(a, out)?;
        out.line(out.paint(
            Look::Dim,
            &format!("  hale approve {}   or   hale deny {}\n", a.id, a.id),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(a: &ApprovalView, out: &Out) -> Result<(), CliError> {
    let title = format!("{} {} on {}", a.playbook, a.version, a.host);
    out.line(format!(
        "{}  {}",
        out.paint(Look::Bold, &title),
        out.paint(Look::Dim, a.id.as_str())
    ))?;
    out.fact("incident", a.incident.as_str())?;
    out.fact("why", &out.paint(Look::Plain, &a.rationale))?;
    out.fact("confidence", &format!("{:.2}", a.confidence))?;
    if let Some(params) = a.plan.get("params").and_then(|p| p.as_object()) {
        for (name, value) in params {
            out.fact(
                "param",
                &out.paint(Look::Plain, &format!("{name} = {value}")),
            )?;
        }
    }
    out.fact("plan", &a.plan_digest.to_string())?;
    out.fact(
        "asked",
        &format!("{}, expires {}", ago(a.asked_at), until(a.expires_at)),
    )
}

async fn answer(
    id: &str,
    word: &str,
    said: Said,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let by = who(said.by);
    // What is agreed to is what is shown here, not what it may have become by the time the
    // answer arrives.
    let shown = waiting(client)
        .await?
        .into_iter()
        .find(|a| a.id.as_str() == id);
    if let Some(approval) = &shown {
        show(approval, out)?;
    }
    let plan_digest = said.plan.or(shown.map(|a| a.plan_digest));
    let request = AnswerRequest {
        by,
        plan_digest,
        reason: said.reason,
    };
    let path = format!("/v1/approvals/{}/{word}", part(id));
    let answered: ApprovalView = client.send(reqwest::Method::POST, &path, &request).await?;
    out.value(&answered)?;
    let (look, done) = if word == "approve" {
        (Look::Good, "approved")
    } else {
        (Look::Warn, "denied")
    };
    out.line(format!(
        "{} by {}",
        out.paint(look, done),
        out.paint(Look::Plain, &request.by)
    ))?;
    out.line(out.paint(
        Look::Dim,
        &format!("hale incidents {} shows how it goes on", answered.incident),
    ))?;
    Ok(ExitCode::SUCCESS)
}
