//! Finding files by a path or glob, without ever following a symbolic link: each file is held by
//! its directory's handle and its name, so that what is found is what is touched.

use super::Stop;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat,
};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The most directory entries one walk looks at.
const MAX_ENTRIES: usize = 200_000;
/// How deep it goes.
const MAX_DEPTH: usize = 24;
/// The most files it keeps; the limit of a step is far below.
const MAX_FOUND: usize = 20_000;

/// Directories whose files belong to the system. Nothing in them is changed.
const SYSTEM: [&str; 14] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run/systemd",
    "/sbin",
    "/sys",
    "/usr",
];

/// A regular file.
pub(super) struct Found {
    pub(super) directory: Arc<OwnedFd>,
    pub(super) name: CString,
    pub(super) path: PathBuf,
    pub(super) stat: Stat,
}

/// What a walk found.
pub(super) struct Walked {
    /// Where it began: a directory without links in its path.
    pub(super) base: PathBuf,
    pub(super) base_fd: Option<Arc<OwnedFd>>,
    pub(super) files: Vec<Found>,
    /// Links and other things that matched and are left alone.
    pub(super) left_alone: usize,
}

/// Splits an absolute path or glob into the directory before its first wildcard and the rest.
///
/// # Errors
/// If it is relative, has `..` in it, or no name at its end.
pub(super) fn split(path: &str) -> Result<(PathBuf, String), String> {
    let parsed = Path::new(path);
    if !parsed.is_absolute() {
        return Err(format!("`{path}` is not an absolute path"));
    }
    if path.contains('\0') || path.split('/').any(|part| part == "..") {
        return Err(format!("`{path}` has `..` in it: write the path out"));
    }
    let parts: Vec<&str> = parsed
        .components()
        .filter_map(|c| match c {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    let Some(last) = parts.len().checked_sub(1) else {
        return Err("`/` is no file: name the files that are meant".into());
    };
    let wild = parts
        .iter()
        .position(|p| p.contains(['*', '?', '[', '{']))
        .unwrap_or(last);
    let base = parts[..wild]
        .iter()
        .fold(PathBuf::from("/"), |base, part| base.join(part));
    Ok((base, parts[wild..].join("/")))
}

/// Refuses what belongs to the system or to the node itself.
///
/// # Errors
/// If nothing under `base` may be changed.
pub(super) fn check(base: &Path, protected: &[PathBuf]) -> Result<(), String> {
    if base == Path::new("/") {
        return Err("files right under / are never touched: name a directory below".into());
    }
    let is_under = |top: &Path| base.starts_with(top);
    if SYSTEM.iter().any(|s| is_under(Path::new(s))) || protected.iter().any(|p| is_under(p)) {
        return Err(format!(
            "{} belongs to the system or to Hale: nothing in it is touched",
            base.display()
        ));
    }
    Ok(())
}

/// Finds the regular files that match. Blocks: for a thread of its own.
///
/// # Errors
/// If the directory can't be opened, or there is more in it than is looked at.
pub(super) fn walk(
    base: &Path,
    pattern: &str,
    protected: &[PathBuf],
    stop: &Stop,
) -> Result<Walked, String> {
    let mut walked = Walked {
        base: base.to_owned(),
        base_fd: None,
        files: vec![],
        left_alone: 0,
    };
    // Links that the host's operators put into the path are fine; what is opened is what they
    // lead to, and has none.
    let Ok(real) = std::fs::canonicalize(base) else {
        return Ok(walked);
    };
    walked.base.clone_from(&real);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = match openat2(CWD, &real, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // A kernel before 5.6, or a container that forbids the call.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
            openat(CWD, &real, flags | OFlags::NOFOLLOW, Mode::empty())
        }
        opened => opened,
    };
    let top = Arc::new(top.map_err(|e| format!("{} can't be opened: {e}", real.display()))?);
    walked.base_fd = Some(Arc::clone(&top));
    let mut looked_at = 0;
    let mut waiting = vec![(top, real.clone(), String::new(), 0usize)];
    while let Some((directory, path, relative, depth)) = waiting.pop() {
        let entries = Dir::read_from(&*directory)
            .map_err(|e| format!("{} can't be read: {e}", path.display()))?;
        for entry in entries {
            looked_at += 1;
            if looked_at > MAX_ENTRIES || walked.files.len() > MAX_FOUND {
                return Err(format!(
                    "more than {MAX_ENTRIES} entries under {}: narrow the path",
                    real.display()
                ));
            }
            if stop.is_asked() {
                return Err("it was stopped before anything was touched".into());
            }
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            let Ok(text) = name.to_str() else { continue };
            if matches!(text, "." | "..") {
                continue;
            }
            let here = if relative.is_empty() {
                text.to_owned()
            } else {
                format!("{relative}/{text}")
            };
            let Ok(stat) = statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let full = path.join(text);
            if kind == FileType::Directory {
                let is_open =
                    depth < MAX_DEPTH && may_hold(pattern, &here) && !protected.contains(&full);
                if is_open
                    && let Ok(fd) = openat(
                        directory.as_fd(),
                        name,
                        flags | OFlags::NOFOLLOW,
                        Mode::empty(),
                    )
                {
                    waiting.push((Arc::new(fd), full, here, depth + 1));
                }
            } else if fits(pattern, &here) {
                if kind != FileType::RegularFile {
                    walked.left_alone += 1;
                    continue;
                }
                let directory = Arc::clone(&directory);
                walked.files.push(Found {
                    directory,
                    name: name.to_owned(),
                    path: full,
                    stat,
                });
            }
        }
    }
    walked.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walked)
}

fn fits(pattern: &str, relative: &str) -> bool {
    pattern == relative || glob_match::glob_match(pattern, relative)
}

/// Whether files under a directory could match: as many of the pattern's parts as it has must fit.
fn may_hold(pattern: &str, directory: &str) -> bool {
    let mut parts = pattern.split('/');
    for name in directory.split('/') {
        match parts.next() {
            None => return false,
            // Braces may hold slashes, `**` any number of directories.
            Some(part) if part.contains("**") || pattern.contains('{') => return true,
            Some(part) if part == name || glob_match::glob_match(part, name) => {}
            Some(_) => return false,
        }
    }
    parts.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_without_parents() {
        assert_eq!(
            split("/var/log/*.log").unwrap(),
            ("/var/log".into(), "*.log".into())
        );
        assert_eq!(
            split("/var/log/a.log").unwrap(),
            ("/var/log".into(), "a.log".into())
        );
        assert_eq!(
            split("/var/*/x/b").unwrap(),
            ("/var".into(), "*/x/b".into())
        );
        for bad in ["var/log", "/", "", "/var/../etc/passwd", "/a\0b/.."] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_belongs_to_the_system_or_to_the_node_is_refused() {
        let own = [PathBuf::from("/var/lib/hale")];
        for bad in [
            "/",
            "/etc",
            "/etc/nginx",
            "/usr/share",
            "/proc/1",
            "/var/lib/hale/raft",
            "/boot",
        ] {
            assert!(check(Path::new(bad), &own).is_err(), "{bad}");
        }
        assert!(check(Path::new("/var/lib/haleness"), &own).is_ok());
    }

    #[test]
    fn only_directories_that_can_hold_a_match_are_entered() {
        assert!(may_hold("*/current/*.log", "app"));
        assert!(!may_hold("*/current/*.log", "app/old"));
        assert!(!may_hold("*.log", "app"));
        assert!(may_hold("**/*.log", "a/b/c"));
    }
}
