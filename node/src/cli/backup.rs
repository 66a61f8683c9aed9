//! `hale backup`: the ledger's state and the chain in one file.

use super::client::Stream;
use super::out::{Look, Out, ago, count, many};
use super::{CliError, Client};
use crate::backup::Backup;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Only its owner reads it: it holds all that the cluster knows.
const MODE: u32 = 0o600;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hale backup hale.backup
  hale backup /mnt/backups/hale-$(date +%F) --force

The file is complete or not there: it is written as FILE.part, verified whole (digest, signature,
every link and signature of the chain, and that the state is what the chain leads to), and renamed.
Only its owner can read it. No private key is in it. `hale restore` makes a node of it.

Exit code 1 if what came does not hold.")]
pub(crate) struct BackupArgs {
    /// Where to
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Overwrite the file if it is there
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(
    args: BackupArgs,
    client: &Client,
    out: &Out,
) -> Result<ExitCode, CliError> {
    let file = args.file;
    free(&file, args.force)?;
    let mut stream = client.stream("/v1/backup").await?;
    let bar = bar(out);
    let part = Part::of(&file)?;
    let filled = fill(&part, &mut stream, &bar).await;
    bar.finish_and_clear();
    let bytes = filled?;
    let found = part.verified()?;
    free(&file, args.force)?;
    part.finish(&file)?;
    let (header, report) = (&found.header, &found.report);
    out.value(&json!({
        "file": file,
        "bytes": bytes,
        "digest": found.digest,
        "cluster": header.cluster,
        "node": header.node,
        "host": header.host,
        "at": header.at,
        "entries": report.entries,
        "kinds": report.kinds,
        "tip": report.tip,
        "root": report.root,
        "signatures": report.signatures,
        "nodes": found.ledger.roster().count(),
        "open_grants": report.open_grants.len(),
        "recoveries": report.recoveries,
    }))?;
    say(&found, &file, out)?;
    Ok(ExitCode::SUCCESS)
}

/// What is in a backup that holds.
pub(super) fn say(found: &Backup, file: &Path, out: &Out) -> Result<(), CliError> {
    let (header, report) = (&found.header, &found.report);
    let (name, bytes) = (file.display().to_string(), count(found.bytes));
    out.line(format!(
        "{} bytes in {}, verified: nothing was changed, left out or added",
        bytes,
        out.paint(Look::Bold, &name)
    ))?;
    out.fact("cluster", &header.cluster)?;
    out.fact(
        "made by",
        &format!(
            "{} ({}), {} ({})",
            header.host,
            header.node.short(),
            ago(header.at),
            header.at
        ),
    )?;
    let hosts: Vec<_> = found.ledger.roster().map(|(_, h)| h.to_string()).collect();
    let nodes = many(hosts.len() as u64, "node", "nodes");
    let some = hosts.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    let more = if hosts.len() > 8 { ", …" } else { "" };
    out.fact("roster", &format!("{nodes}: {some}{more}"))?;
    out.fact(
        "chain",
        &format!(
            "{}, {} signatures hold, {} open",
            many(report.entries, "entry", "entries"),
            count(report.signatures),
            many(report.open_grants.len() as u64, "grant", "grants"),
        ),
    )?;
    out.fact("tip", &report.tip.to_string())?;
    out.fact(
        "state",
        &format!(
            "{} bytes, of log index {}",
            count(header.state_bytes),
            header.applied
        ),
    )
}

/// Nothing is overwritten unasked.
fn free(file: &Path, force: bool) -> Result<(), CliError> {
    if force || file.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(CliError::Usage {
        what: format!("{} is there already", file.display()),
        next: "take another name, or overwrite it with --force".into(),
    })
}

/// Bytes so far: how many there will be, nobody knows.
fn bar(out: &Out) -> ProgressBar {
    if !out.shows_progress() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("backing up {spinner} {bytes}, {bytes_per_sec}");
    let bar = ProgressBar::no_length();
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}

async fn fill(part: &Part, stream: &mut Stream, bar: &ProgressBar) -> Result<u64, CliError> {
    let mut bytes = 0;
    while let Some(piece) = stream.next().await? {
        (&part.file)
            .write_all(&piece)
            .map_err(|e| failed(&part.path, e))?;
        bytes += piece.len() as u64;
        bar.set_position(bytes);
    }
    Ok(bytes)
}

fn failed(path: &Path, source: io::Error) -> CliError {
    CliError::File {
        done: "written",
        path: path.to_owned(),
        source,
    }
}

/// A file under another name until it is whole; gone if it never is.
struct Part {
    path: PathBuf,
    file: File,
    whole: bool,
}

impl Part {
    /// `FILE.part`, new: what another run left there goes.
    fn of(file: &Path) -> Result<Self, CliError> {
        let mut path = file.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&path, e)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(MODE).open(&path);
        Ok(Self {
            file: opened.map_err(|e| failed(&path, e))?,
            path,
            whole: false,
        })
    }

    /// What is in it, if all of it holds.
    fn verified(&self) -> Result<Backup, CliError> {
        let unread = |e| failed(&self.path, e);
        let file = File::open(&self.path).map_err(unread)?;
        let read = crate::backup::read(io::BufReader::with_capacity(1 << 20, file), |_| Ok(()));
        read.map_err(|e| {
            CliError::offline(e, "hale backup again, or of another member with --addr")
        })
    }

    /// Gives it its name, once it is on the disk.
    fn finish(mut self, file: &Path) -> Result<(), CliError> {
        self.file.sync_all().map_err(|e| failed(&self.path, e))?;
        std::fs::rename(&self.path, file).map_err(|e| failed(file, e))?;
        self.whole = true;
        let dir = file.parent().filter(|d| !d.as_os_str().is_empty());
        let dir = File::open(dir.unwrap_or(Path::new(".")));
        dir.and_then(|d| d.sync_all()).map_err(|e| failed(file, e))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.whole {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_backup_has_its_name_once_it_is_whole_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("b");
        let left = dir.path().join("b.part");
        std::fs::write(&left, "what another run left").unwrap();
        let part = Part::of(&file).unwrap();
        (&part.file).write_all(b"whole").unwrap();
        assert!(!file.exists());
        part.finish(&file).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"whole");
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert!(!left.exists());
        // One that is given up leaves nothing, and what was there stays.
        drop(Part::of(&file).unwrap());
        assert!(!left.exists() && file.exists());
    }

    #[test]
    fn what_is_there_is_not_overwritten_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("b");
        assert!(free(&file, false).is_ok());
        std::fs::write(&file, "").unwrap();
        assert_eq!(free(&file, false).unwrap_err().code(), 2);
        assert!(free(&file, true).is_ok());
    }
}
