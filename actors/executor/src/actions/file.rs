//! `file`: looks at, cuts, deletes or compresses files. Links are never followed; what belongs to
//! the system or to the node is refused; too many matches are an error before any is touched.

use super::command;
use super::walk::{self, Found, Walked};
use super::{Stop, Tried};
use crate::run::ActionResult;
use hale_model::StepStatus;
use hale_playbooks::language::FileOperation;
use rustix::fs::{
    AtFlags, Mode, OFlags, StatVfsMountFlags, fstat, fstatvfs, openat, statat, unlinkat,
};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// How many bytes are moved at a time when a file is cut.
const CHUNK_BYTES: usize = 1 << 20;
/// The most paths that are told.
const MAX_TOLD: usize = 50;

/// What to do, with its texts rendered.
pub(super) struct Wanted {
    pub(super) path: String,
    pub(super) operation: FileOperation,
    pub(super) older_than: Option<Duration>,
    pub(super) min_bytes: Option<u64>,
    pub(super) limit: u32,
}

/// What was done to the files.
#[derive(Default)]
struct Done {
    touched: Vec<PathBuf>,
    freed_bytes: u64,
    failed: Vec<String>,
}

pub(super) async fn run(wanted: Wanted, protected: &[PathBuf], stop: Stop) -> Tried {
    let (base, pattern) = walk::split(&wanted.path)?;
    let is_look = wanted.operation == FileOperation::Stat;
    let real = std::fs::canonicalize(&base).unwrap_or(base);
    if !is_look {
        walk::check(&real, protected)?;
    }
    let (own, asked) = (protected.to_vec(), stop.clone());
    let walked = tokio::task::spawn_blocking(move || walk::walk(&real, &pattern, &own, &asked));
    let mut walked = walked
        .await
        .map_err(|e| format!("the walk broke off: {e}"))??;
    let now = super::now().as_millis() / 1000;
    walked.files.retain(|f| {
        let age = now.saturating_sub(f.stat.st_mtime).max(0) as u64;
        wanted.older_than.is_none_or(|t| age >= t.as_secs())
            && wanted.min_bytes.is_none_or(|m| size(f) >= m)
    });
    if is_look {
        return Ok(stat(&walked, now));
    }
    if walked.files.len() > wanted.limit as usize {
        return Ok(ActionResult::failed(
            json!({"count": walked.files.len()}),
            format!(
                "{} files match, {} may be touched: nothing was done; narrow the path or raise its `limit`",
                walked.files.len(),
                wanted.limit
            ),
        ));
    }
    let left_alone = walked.left_alone;
    let done = match wanted.operation {
        FileOperation::Compress => compress(walked.files, &stop).await,
        operation => {
            let asked = stop.clone();
            let work = tokio::task::spawn_blocking(move || each(walked.files, &operation, &asked));
            work.await.map_err(|e| format!("it broke off: {e}"))?
        }
    };
    Ok(tell(done, left_alone, stop.is_asked()))
}

fn size(f: &Found) -> u64 {
    f.stat.st_size.max(0) as u64
}

fn stat(walked: &Walked, now: i64) -> ActionResult {
    let bytes: u64 = walked.files.iter().map(size).sum();
    let newest = walked.files.iter().map(|f| f.stat.st_mtime).max();
    let fs = walked
        .base_fd
        .as_ref()
        .and_then(|fd| fstatvfs(fd.as_fd()).ok());
    let free = fs.as_ref().map(|s| s.f_bavail.saturating_mul(s.f_frsize));
    let used = fs.as_ref().filter(|s| s.f_blocks > 0).map(|s| {
        // As df(1): what is used of what an unprivileged user can have.
        let used = s.f_blocks.saturating_sub(s.f_bfree) as f64;
        100.0 * used / (used + s.f_bavail as f64).max(1.0)
    });
    let result = json!({
        "exists": !walked.files.is_empty(),
        "count": walked.files.len(),
        "size_bytes": bytes,
        "age_seconds": newest.map(|t| now.saturating_sub(t).max(0)),
        "free_bytes": free,
        "used_percent": used,
        "read_only": fs.is_some_and(|s| s.f_flag.contains(StatVfsMountFlags::RDONLY)),
    });
    let message = format!(
        "{} files, {bytes} bytes, in {}",
        walked.files.len(),
        walked.base.display()
    );
    ActionResult::success(result, message)
}

fn tell(done: Done, left_alone: usize, was_stopped: bool) -> ActionResult {
    let told: Vec<&PathBuf> = done.touched.iter().take(MAX_TOLD).collect();
    let result = json!({
        "count": done.touched.len(),
        "paths": told,
        "freed_bytes": done.freed_bytes,
        "failed": done.failed.iter().take(MAX_TOLD).collect::<Vec<_>>(),
        "left_alone": left_alone,
    });
    let message = format!(
        "{} files, {} bytes freed",
        done.touched.len(),
        done.freed_bytes
    );
    match (was_stopped, done.failed.first()) {
        (true, _) => ActionResult {
            status: StepStatus::Interrupted,
            result,
            message,
        },
        (_, Some(why)) => ActionResult::failed(result, format!("{message}; {why}")),
        _ => ActionResult::success(result, message),
    }
}

fn each(files: Vec<Found>, operation: &FileOperation, stop: &Stop) -> Done {
    let mut done = Done::default();
    for file in files {
        if stop.is_asked() {
            break;
        }
        let freed = match operation {
            FileOperation::Delete => delete(&file),
            FileOperation::Truncate { keep_bytes } => truncate(&file, *keep_bytes),
            FileOperation::Stat | FileOperation::Compress => Ok(0),
        };
        done.note(file.path, freed);
    }
    done
}

impl Done {
    fn note(&mut self, path: PathBuf, freed: io::Result<u64>) {
        match freed {
            Ok(bytes) => {
                self.freed_bytes += bytes;
                self.touched.push(path);
            }
            Err(e) => self.failed.push(format!("{}: {e}", path.display())),
        }
    }
}

fn delete(file: &Found) -> io::Result<u64> {
    let now = statat(
        file.directory.as_fd(),
        &file.name,
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if (now.st_dev, now.st_ino) != (file.stat.st_dev, file.stat.st_ino) {
        return Err(io::Error::other("it was replaced meanwhile and left alone"));
    }
    unlinkat(file.directory.as_fd(), &file.name, AtFlags::empty())?;
    // The room of a file with other names, or held open by a process, is not free yet.
    Ok(if now.st_nlink == 1 { size(file) } else { 0 })
}

/// Opens exactly the file that was found.
fn open(file: &Found, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = openat(file.directory.as_fd(), &file.name, flags, Mode::empty())?;
    let now = fstat(&fd)?;
    if (now.st_dev, now.st_ino) != (file.stat.st_dev, file.stat.st_ino) {
        return Err(io::Error::other("it was replaced meanwhile and left alone"));
    }
    if now.st_nlink != 1 {
        return Err(io::Error::other(
            "it has further names (hard links) and was left alone",
        ));
    }
    Ok(File::from(fd))
}

/// Moves the end of the file to its beginning and cuts the rest off. Writers keep their handle;
/// one that appends goes on at the new end. The end begins with a whole line.
fn truncate(file: &Found, keep_bytes: u64) -> io::Result<u64> {
    let handle = open(file, OFlags::RDWR)?;
    let len = handle.metadata()?.len();
    if len <= keep_bytes {
        return Ok(0);
    }
    let mut from = len - keep_bytes;
    let mut chunk = vec![0; CHUNK_BYTES];
    if keep_bytes > 0 {
        let n = handle.read_at(&mut chunk, from)?;
        let line = chunk[..n].iter().position(|b| *b == b'\n');
        from += line.map_or(0, |at| at as u64 + 1);
    }
    let mut to = 0;
    loop {
        let n = handle.read_at(&mut chunk, from)?;
        if n == 0 {
            break;
        }
        handle.write_all_at(&chunk[..n], to)?;
        from += n as u64;
        to += n as u64;
    }
    handle.set_len(to)?;
    handle.sync_data()?;
    Ok(len - to)
}

async fn compress(files: Vec<Found>, stop: &Stop) -> Done {
    let mut done = Done::default();
    for file in files {
        if stop.is_asked() {
            break;
        }
        if Path::new(&file.path).extension().is_some_and(|e| e == "gz") {
            continue;
        }
        let freed = gzip(&file, stop.clone()).await;
        done.note(file.path, freed);
    }
    done
}

/// Compresses to a new name beside the file, then deletes the file; a half-made one is removed.
async fn gzip(file: &Found, stop: Stop) -> io::Result<u64> {
    let source = open(file, OFlags::RDONLY)?;
    let mut name = file.name.as_bytes().to_vec();
    name.extend_from_slice(b".gz");
    let name = std::ffi::CString::new(name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(file.stat.st_mode & 0o777);
    let target = File::from(openat(file.directory.as_fd(), &name, flags, mode)?);
    let made = pipe_through_gzip(source, target.try_clone()?, stop)
        .await
        .and_then(|()| {
            target.sync_all()?;
            let mut head = [0; 2];
            let again = openat(
                file.directory.as_fd(),
                &name,
                OFlags::RDONLY | OFlags::NOFOLLOW,
                Mode::empty(),
            )?;
            File::from(again).read_exact(&mut head)?;
            // The magic of RFC 1952 section 2.3.1: what is there is what was meant to be.
            if head == [0x1f, 0x8b] {
                Ok(())
            } else {
                Err(io::Error::other("gzip wrote no gzip"))
            }
        });
    if let Err(e) = made {
        let _ = unlinkat(file.directory.as_fd(), &name, AtFlags::empty());
        return Err(e);
    }
    let compressed = target.metadata()?.len();
    delete(file)?;
    Ok(size(file).saturating_sub(compressed))
}

async fn pipe_through_gzip(source: File, target: File, mut stop: Stop) -> io::Result<()> {
    let mut child = tokio::process::Command::new("gzip")
        .args(["-n", "-c"])
        .env_clear()
        .env("PATH", command::PATH)
        .stdin(source)
        .stdout(target)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    tokio::select! {
        ended = child.wait() => match ended?.success() {
            true => Ok(()),
            false => Err(io::Error::other("gzip failed")),
        },
        () = stop.asked() => {
            child.kill().await?;
            Err(io::Error::other("it was stopped; the file is as it was"))
        }
    }
}
