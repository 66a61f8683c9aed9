//! `hale backup`: the ledger's state and the chain in one file.

use super::client::Stream;
use super::out::{Out, count};
use super::{CliError, Client};
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

The file is complete or not there: it is written as FILE.part and renamed at the end. Only its
owner can read it.")]
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
    free(&file, args.force)?;
    part.finish(&file)?;
    out.value(&json!({ "file": file, "bytes": bytes }))?;
    out.line(format!("{} bytes in {}", count(bytes), file.display()))?;
    Ok(ExitCode::SUCCESS)
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
