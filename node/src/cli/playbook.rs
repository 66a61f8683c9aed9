//! `hale playbook`: list, show, check and run playbooks. Checking works without a node.

use super::client::part;
use super::out::{Look, Out, Table, plain};
use super::{CliError, Client, ok_unless, who};
use clap::{Args, Subcommand};
use hale_api::{PlaybookRow, PlaybookView, RunRequest, RunView};
use hale_model::Route;
use hale_model::ledger::History;
use hale_model::{HostName, IncidentId, ServiceName};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The largest file that is checked, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum PlaybookCommand {
    /// The playbooks that the node knows
    #[command(
        visible_alias = "list",
        after_help = "\
Examples:
  hale playbook ls
  hale playbook ls --json | jq -r '.[] | select(.idempotent) | .name'"
    )]
    Ls,
    /// One playbook as it is written
    #[command(after_help = "\
Examples:
  hale playbook show disk_log_cleanup
  hale playbook show disk_log_cleanup > ours.yaml     to begin one of your own with")]
    Show {
        /// Its name
        name: String,
    },
    /// What is wrong with playbooks, with line and what to write instead; needs no node
    Lint(LintArgs),
    /// The JSON Schema of the playbook language, for editors; needs no node
    #[command(after_help = "\
Examples:
  hale playbook schema > playbook.schema.json")]
    Schema,
    /// Start a playbook by hand, under the same lease, checks and record as always
    Run(RunArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale playbook lint playbooks/*.yaml
  hale playbook lint -                 from standard input

Exit code 1 if any has errors.")]
pub(crate) struct LintArgs {
    /// The files; - reads standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale playbook run disk_log_cleanup --dry-run
  hale playbook run postgres_connection_pool_reset --service postgresql --param idle_seconds=600
  hale playbook run service_restart --incident inc_20260212_112600_a8f3b2c1

A value is taken as JSON where it is JSON (600, true, [\"a\"]), as text elsewhere. Who starts
a playbook agrees to it; its checks, its lease and the record are as always, and while the cluster
is frozen it is refused.")]
pub(crate) struct RunArgs {
    /// Its name
    name: String,
    /// Only settle the plan and show it
    #[arg(long)]
    dry_run: bool,
    /// Where [default: the node's own host]
    #[arg(long, value_name = "NAME")]
    host: Option<HostName>,
    /// For which service
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// For which incident
    #[arg(long, value_name = "ID")]
    incident: Option<IncidentId>,
    /// A parameter, NAME=VALUE; may be given several times
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parameter)]
    params: Vec<(String, Value)>,
    /// Who starts it [default: your user name]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

fn parameter(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if name.is_empty() {
        return Err("the name is missing: write it as NAME=VALUE".into());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

impl PlaybookCommand {
    /// Whether it works without a node.
    pub(super) fn is_offline(&self) -> bool {
        matches!(self, Self::Lint(_) | Self::Schema)
    }
}

/// What works without a node.
pub(super) fn offline(command: PlaybookCommand, out: &Out) -> Result<ExitCode, CliError> {
    match command {
        PlaybookCommand::Lint(args) => lint(&args, out),
        _ => {
            let schema = hale_playbooks::schema();
            Out::new(true).value(&schema).map(|()| ExitCode::SUCCESS)
        }
    }
}

pub(super) async fn run(
    command: PlaybookCommand,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    match command {
        PlaybookCommand::Ls => list(client, out).await,
        PlaybookCommand::Show { name } => show(&name, client, out).await,
        PlaybookCommand::Run(args) => start(args, client, out).await,
        offline_command => offline(offline_command, out),
    }
}

async fn list(client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let playbooks: Vec<PlaybookRow> = client.list("/v1/playbooks", "playbooks").await?;
    out.value(&playbooks)?;
    let mut table = Table::new([
        "PLAYBOOK",
        "VERSION",
        "PROOF",
        "MAY",
        ">OK",
        ">FAILED",
        "SOURCE",
        "WHAT IT IS FOR",
    ]);
    for p in &playbooks {
        // What the playbook itself allows, and what it has earned.
        let at_most = match (p.max_route, p.idempotent, p.level.as_str()) {
            (Route::Escalate, ..) => "escalate",
            (Route::Ask, _, "auto") | (_, false, "auto") => "ask",
            (_, _, level) => level,
        };
        let failed = (
            p.history.failed.to_string(),
            if p.history.failed > 0 {
                Look::Warn
            } else {
                Look::Plain
            },
        );
        let first = p
            .description
            .split(['.', ':', '\n'])
            .next()
            .unwrap_or_default();
        table.row([
            plain(&p.name),
            plain(&p.version),
            plain(&p.proof),
            plain(at_most),
            plain(p.history.succeeded),
            failed,
            plain(&p.source),
            plain(first.trim()),
        ]);
    }
    table.print(out)?;
    Ok(ExitCode::SUCCESS)
}

/// How it did since its text is what it is.
fn lived(h: &History) -> String {
    format!(
        "# ran {} times with success, {} without, {} stopped by a check before; {} incidents went away \
         without it; in shadow right {} times, wrong {} times",
        h.succeeded, h.failed, h.aborted, h.went_away, h.agreed, h.disagreed
    )
}

async fn show(name: &str, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let view: PlaybookView = client.get(&format!("/v1/playbooks/{}", part(name))).await?;
    out.value(&view)?;
    let row = &view.row;
    for about in [
        format!(
            "# {} {} from {}, {}",
            row.name, row.version, row.source, row.digest
        ),
        format!("# {}; {}", row.proof, row.level_reason),
        lived(&row.history),
    ] {
        out.line(out.paint(Look::Dim, &about))?;
    }
    out.line(out.paint(Look::Plain, view.text.trim_end()))?;
    Ok(ExitCode::SUCCESS)
}

fn lint(args: &LintArgs, out: &Out) -> Result<ExitCode, CliError> {
    let mut findings = Vec::new();
    for path in &args.files {
        let (name, text) = read(path)?;
        findings.extend(hale_playbooks::lint(&name, &text));
    }
    let errors = findings.iter().filter(|f| f.is_error()).count();
    out.value(&json!({ "valid": errors == 0, "files": args.files.len(), "findings": findings }))?;
    for f in &findings {
        let (look, word) = if f.is_error() {
            (Look::Bad, "error")
        } else {
            (Look::Warn, "warning")
        };
        let place = format!("{}:{}:{}", f.file, f.line, f.column);
        let place = out.paint(Look::Bold, &place);
        out.line(format!(
            "{place}: {}: {}",
            out.paint(look, word),
            out.paint(Look::Plain, &f.message)
        ))?;
        out.line(format!(
            "  {} {}",
            out.paint(Look::Dim, "write instead:"),
            out.paint(Look::Plain, &f.instead)
        ))?;
    }
    let files = super::out::many(args.files.len() as u64, "playbook", "playbooks");
    match (errors, findings.len()) {
        (0, 0) => out.line(format!(
            "{files}, {}",
            out.paint(Look::Good, "nothing to complain about")
        ))?,
        (errors, all) => out.line(format!(
            "{files}, {errors} errors, {} warnings",
            all - errors
        ))?,
    }
    Ok(ok_unless(errors > 0))
}

fn read(path: &Path) -> Result<(String, String), CliError> {
    let failed = |source| CliError::File {
        done: "read",
        path: path.to_owned(),
        source,
    };
    let input: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    input
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(failed(io::Error::other(format!(
            "it is over the limit of {MAX_FILE_BYTES} bytes"
        ))));
    }
    let text = String::from_utf8(bytes).map_err(|e| failed(io::Error::other(e)))?;
    Ok((path.display().to_string(), text))
}

async fn start(args: RunArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let mut params = BTreeMap::new();
    for (name, value) in args.params {
        if params.insert(name.clone(), value).is_some() {
            let what = format!("the parameter `{name}` is given twice");
            return Err(CliError::Usage {
                what,
                next: "give it once".into(),
            });
        }
    }
    let request = RunRequest {
        host: args.host,
        service: args.service,
        incident: args.incident,
        params,
        dry_run: args.dry_run,
        by: who(args.by),
    };
    let path = format!("/v1/playbooks/{}/run", part(&args.name));
    let run: RunView = client.send(Method::POST, &path, &request).await?;
    out.value(&run)?;
    let p = &run.plan;
    let title = format!("{} {} on {}", p.playbook, p.version, p.scope);
    out.line(out.paint(Look::Bold, &title))?;
    for (name, value) in &p.params {
        out.fact(
            "param",
            &out.paint(Look::Plain, &format!("{name} = {value}")),
        )?;
    }
    out.fact("plan", &run.plan_digest.to_string())?;
    let mut table = Table::new(["  PHASE", "STEP", "TYPE", "WHAT IT DOES"]);
    for s in &run.steps {
        table.row([
            plain(format!("  {}", s.phase)),
            plain(&s.name),
            plain(&s.kind),
            plain(&s.does),
        ]);
    }
    table.print(out)?;
    match (&run.execution, &run.approval) {
        _ if run.dry_run => out.line(out.paint(Look::Warn, "dry run: nothing was done"))?,
        (_, Some(approval)) => out.line(format!(
            "{} for approval {approval}",
            out.paint(Look::Warn, "waits")
        ))?,
        (Some(execution), None) => out.line(format!(
            "{} as {execution}",
            out.paint(Look::Good, "started")
        ))?,
        (None, None) => {}
    }
    out.line(out.paint(Look::Dim, &run.next))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_json_where_it_is_and_text_elsewhere() {
        assert_eq!(parameter("n=600"), Ok(("n".into(), json!(600))));
        assert_eq!(parameter("on=true"), Ok(("on".into(), json!(true))));
        assert_eq!(parameter("list=[\"a\"]"), Ok(("list".into(), json!(["a"]))));
        assert_eq!(
            parameter("path=/var/log=x"),
            Ok(("path".into(), json!("/var/log=x")))
        );
        assert!(parameter("path").is_err() && parameter("=x").is_err());
    }
}
