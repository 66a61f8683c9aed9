//! `hale audit`: verify, export and follow the record of all that was done. Verification runs
//! here, over the exported bytes: the node is not asked whether it is honest.

use super::client::{Lines, part};
use super::out::{Look, Out, ago, clean, count, many};
use super::{CliError, Client, ok_unless};
use clap::{Args, Subcommand};
use hale_api::{ChainProblem, EntryView, Status, Verification};
use hale_audit::recovery::Cause;
use hale_audit::verify::{Check, ExportVerifier, RecoveryNote, Report, Trust};
use hale_model::{Happening, NodeId};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check every link, signature, grant and the checkpoint: of the node, or of a file offline
    Verify(VerifyArgs),
    /// Write the whole chain to a file, one JSON line an entry
    Export(ExportArgs),
    /// The newest entries; with -f what happens, as it happens
    Tail(TailArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale audit verify                            the node's chain, checked here
  hale audit verify audit.jsonl                a file, offline
  hale audit verify audit.jsonl --key 3f9a…    believing this founder's key only

Exit code 1 if anything does not hold; each fault is located by line, entry and byte.")]
pub(crate) struct VerifyArgs {
    /// An exported file; without it the node's chain
    pub(super) file: Option<PathBuf>,
    /// A key that you trust from elsewhere; may be given several times [default: the key that
    /// enrols itself in the first entry]
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<NodeId>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale audit export audit.jsonl
  hale audit export - | gzip > audit.jsonl.gz")]
pub(crate) struct ExportArgs {
    /// The file; - writes to standard output
    #[arg(default_value = "-")]
    file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale audit tail
  hale audit tail -n 50 --incident inc_20260212_112600_a8f3b2c1
  hale audit tail -f --json | jq -r .text")]
pub(crate) struct TailArgs {
    /// How many entries
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    lines: u16,
    /// Go on with what happens, as it happens
    #[arg(short, long)]
    follow: bool,
    /// Of one incident only
    #[arg(long, value_name = "ID")]
    incident: Option<String>,
}

pub(super) async fn run(
    command: AuditCommand,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    match command {
        AuditCommand::Verify(args) => verify_node(&args, client, out).await,
        AuditCommand::Export(args) => export(&args.file, client, out).await,
        AuditCommand::Tail(args) => tail(&args, client, out).await,
    }
}

/// What a report says, in the API's shape.
fn told(report: &Report) -> Verification {
    let of = |check: Check| {
        let found = report.faults.iter().filter(|f| f.check == check);
        found
            .filter_map(|f| f.place.entry)
            .collect::<BTreeSet<_>>()
            .len() as u64
    };
    Verification {
        valid: report.is_sound(),
        entries: report.entries,
        chain: report.entries.saturating_sub(of(Check::Chain)),
        signatures: report.signatures,
        tip: report.tip,
        root: report.root,
        problems: report
            .faults
            .iter()
            .map(|f| ChainProblem {
                index: f.place.entry,
                what: f.to_string(),
            })
            .collect(),
    }
}

fn trust(keys: &[NodeId]) -> Trust {
    if keys.is_empty() {
        Trust::FirstEnrolment
    } else {
        Trust::Keys(keys.iter().copied().collect())
    }
}

/// A bar on standard error, where somebody sees it; it is gone when the work is done.
fn bar(length: u64, unit: &str, out: &Out) -> ProgressBar {
    if !out.shows_progress() {
        return ProgressBar::hidden();
    }
    let template =
        format!("verifying {{bar:32}} {{human_pos}} of {{human_len}} {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&template);
    let bar = ProgressBar::new(length);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Checks a file without a node.
pub(super) fn verify_file(args: &VerifyArgs, out: &Out) -> Result<ExitCode, CliError> {
    let path = args.file.clone().unwrap_or_default();
    let failed = |source| CliError::File {
        done: "read",
        path: path.clone(),
        source,
    };
    let mut file = File::open(&path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let bar = bar(length, "bytes", out);
    let mut verifier = ExportVerifier::new(trust(&args.keys));
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => break,
            n => {
                verifier.feed(&piece[..n]);
                bar.inc(n as u64);
            }
        }
    }
    bar.finish_and_clear();
    say(&verifier.finish(), &path.display().to_string(), out)
}

async fn verify_node(args: &VerifyArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let status: Status = client.get("/v1/status?consistency=stale").await?;
    let bar = bar(status.ledger.entries, "entries", out);
    let mut verifier = ExportVerifier::new(trust(&args.keys));
    let mut stream = client.stream("/v1/audit/export").await?;
    while let Some(piece) = stream.next().await? {
        verifier.feed(&piece);
        bar.set_position(verifier.progress().1);
    }
    bar.finish_and_clear();
    say(
        &verifier.finish(),
        &format!("the chain of {}", status.host),
        out,
    )
}

fn say(report: &Report, what: &str, out: &Out) -> Result<ExitCode, CliError> {
    let verification = told(report);
    let mut json = serde_json::to_value(&verification).unwrap_or_default();
    json["kinds"] = json!(report.kinds);
    json["roster"] = json!(report.roster);
    json["open_grants"] = json!(report.open_grants);
    json["recoveries"] = json!(report.recoveries);
    json["checkpoint"] = json!(report.checkpoint);
    json["fault_count"] = json!(report.fault_count);
    json["faults"] = json!(report.faults);
    out.value(&json)?;
    out.line(format!(
        "{} in {}",
        many(report.entries, "entry", "entries"),
        out.paint(Look::Bold, what)
    ))?;
    let n = count(report.entries);
    for (check, label, says) in [
        (
            Check::Form,
            "form",
            "every line is written in its one form".to_owned(),
        ),
        (
            Check::Chain,
            "chain",
            format!("{} of {n} follow the one before", count(verification.chain)),
        ),
        (
            Check::Signature,
            "signatures",
            format!("{} of {n} hold", count(report.signatures)),
        ),
        (
            Check::Roster,
            "roster",
            format!(
                "{} enrolled, nobody else signs",
                many(report.roster.len() as u64, "key", "keys")
            ),
        ),
        (
            Check::Grants,
            "grants",
            format!("closed once each, {} open", report.open_grants.len()),
        ),
        (Check::Checkpoint, "checkpoint", checkpoint(report)),
    ] {
        // Without a checkpoint there is nothing to check, and that is the fault.
        let passed =
            report.passes(check) && (check != Check::Checkpoint || report.checkpoint.is_some());
        let mark = if passed {
            out.paint(Look::Good, "PASS")
        } else {
            out.paint(Look::Bad, "FAIL")
        };
        out.line(format!("  {mark}  {label:<10}  {says}"))?;
    }
    for note in &report.recoveries {
        out.line(format!(
            "  {}  {}",
            out.paint(Look::Warn, "NOTE"),
            recovery(note)
        ))?;
    }
    out.fact("root", &report.root.to_string())?;
    out.fact("tip", &report.tip.to_string())?;
    for fault in &report.faults {
        out.line(format!(
            "  {} {}",
            out.paint(Look::Bad, "✗"),
            out.paint(Look::Plain, &fault.to_string())
        ))?;
    }
    let more = report
        .fault_count
        .saturating_sub(report.faults.len() as u64);
    if more > 0 {
        out.line(format!("  and {} more", count(more)))?;
    }
    let verdict = if report.is_sound() {
        out.paint(Look::Good, "nothing was changed, left out or added")
    } else {
        out.paint(
            Look::Bad,
            "this is not what was recorded: keep this copy, compare it with another node's",
        )
    };
    out.line(verdict)?;
    Ok(ok_unless(!report.is_sound()))
}

/// What an auditor is to ask about.
fn recovery(note: &RecoveryNote) -> String {
    let how = match (note.cause, note.vouched) {
        (Cause::QuorumLost, _) => "its quorum was lost, and it went on from the copy of",
        (Cause::Restored, true) => "it was restored from a backup as",
        (Cause::Restored, false) => {
            "it was restored from a backup by a key that nobody vouched for:"
        }
    };
    format!(
        "entry {}: {how} {} ({}), {}; {} shut out, and what others acknowledged and that copy \
         lacked is not here",
        note.entry,
        note.node,
        note.host,
        note.at,
        many(note.lost, "key", "keys"),
    )
}

fn checkpoint(report: &Report) -> String {
    match &report.checkpoint {
        Some(c) => format!(
            "over {} entries, signed by {}",
            count(c.size),
            c.signer.short()
        ),
        None => "there is none: the end may be cut off".into(),
    }
}

async fn export(file: &Path, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    let mut stream = client.stream("/v1/audit/export").await?;
    if file.as_os_str() == "-" {
        while let Some(piece) = stream.next().await? {
            out.bytes(&piece)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Under another name until it is whole: half a file would look like a cut chain.
    let mut partial = file.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = write_all(&mut stream, file, &partial).await;
    if written.is_err() {
        std::fs::remove_file(&partial).ok();
    }
    let bytes = written?;
    out.value(&json!({ "file": file, "bytes": bytes }))?;
    out.line(format!("{} bytes in {}", count(bytes), file.display()))?;
    out.line(out.paint(
        Look::Dim,
        &format!(
            "hale audit verify {} checks it, with or without a node",
            file.display()
        ),
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn write_all(
    stream: &mut super::client::Stream,
    file: &Path,
    partial: &Path,
) -> Result<u64, CliError> {
    let failed = |source: io::Error| CliError::File {
        done: "written",
        path: file.to_owned(),
        source,
    };
    let mut written = File::create(partial).map_err(failed)?;
    let mut bytes = 0;
    while let Some(piece) = stream.next().await? {
        written.write_all(&piece).map_err(failed)?;
        bytes += piece.len() as u64;
    }
    written.sync_all().map_err(failed)?;
    std::fs::rename(partial, file).map_err(failed)?;
    Ok(bytes)
}

#[derive(Deserialize)]
struct Page {
    entries: Vec<EntryView>,
}

async fn tail(args: &TailArgs, client: &Client, out: &Out) -> Result<ExitCode, CliError> {
    // Asked for first, so that nothing falls between the entries and what follows.
    let follow = if args.follow {
        Some(client.stream("/v1/events?follow=true").await?)
    } else {
        None
    };
    let incident = args
        .incident
        .as_deref()
        .map(|i| format!("&incident={}", part(i)))
        .unwrap_or_default();
    let page: Page = client
        .get(&format!("/v1/audit/entries?limit={}{incident}", args.lines))
        .await?;
    for entry in &page.entries {
        out.item(entry)?;
        let hash = out.paint(Look::Dim, &entry.hash.short());
        out.line(format!(
            "{:>6}  {hash}  {:<9}  {}",
            entry.index,
            entry.kind.as_str(),
            gist(&entry.body)
        ))?;
    }
    let Some(mut stream) = follow else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut lines = Lines::default();
    while let Some(piece) = stream.next().await? {
        for line in lines.feed(&piece) {
            let Ok(h) = serde_json::from_slice::<Happening>(&line) else {
                continue;
            };
            let of_other = |id: &str| h.incident.as_ref().is_none_or(|i| i.as_str() != id);
            if args.incident.as_deref().is_some_and(of_other) {
                continue;
            }
            out.item(&h)?;
            let text = h.text.lines().next().unwrap_or_default();
            let incident = h.incident.as_ref().map_or("-", |i| i.as_str());
            let stage = out.paint(Look::Bold, &format!("{:<10}", h.stage.as_str()));
            let when = out.paint(Look::Dim, &format!("{}  {incident}", h.at));
            out.line(format!("{when}  {stage} {}", out.paint(Look::Plain, text)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// An entry's body in a line.
fn gist(body: &Value) -> String {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(clean);
    let when = text("/timestamp_end")
        .or_else(|| text("/at"))
        .and_then(|t| t.parse().ok())
        .map(ago);
    let parts = [
        text("/outcome/status"),
        text("/decision/playbook_selected").or_else(|| text("/playbook")),
        text("/incident_id").or_else(|| text("/incident")),
        text("/incident_context/host").or_else(|| text("/host")),
        text("/by").map(|by| format!("by {by}")),
        text("/reason"),
        when,
    ];
    parts
        .into_iter()
        .flatten()
        .filter(|p| !p.is_empty())
        .collect::<Vec<_>>()
        .join("  ")
}
