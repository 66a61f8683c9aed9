//! Which files a configured path names at the moment.

use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Directory entries looked at for one pattern.
const MAX_ENTRIES: usize = 20_000;
/// Rotated files that were compressed hold no lines any more.
const COMPRESSED: [&str; 4] = [".gz", ".xz", ".bz2", ".zst"];

/// What a file is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) id: FileId,
}

/// The regular files that match, by name, at most `max`.
pub(super) fn expand(pattern: &str, max: usize) -> Vec<Candidate> {
    let mut paths = vec![PathBuf::from("/")];
    let mut left = MAX_ENTRIES;
    for part in pattern.split('/').filter(|p| !p.is_empty()) {
        paths = paths
            .iter()
            .flat_map(|at| step(at, part, &mut left))
            .collect();
    }
    let file = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok().filter(Metadata::is_file)?;
        let name = path.to_string_lossy();
        let compressed = COMPRESSED.iter().any(|end| name.ends_with(end));
        (!compressed).then(|| Candidate {
            id: FileId::of(&meta),
            path,
        })
    };
    let mut found: Vec<Candidate> = paths.into_iter().filter_map(file).collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.truncate(max);
    found
}

fn step(at: &Path, part: &str, left: &mut usize) -> Vec<PathBuf> {
    if !part.contains(['*', '?', '[', '{']) {
        return vec![at.join(part)];
    }
    let Ok(entries) = std::fs::read_dir(at) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for entry in entries.flatten().take(*left) {
        *left = left.saturating_sub(1);
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let hidden = name.starts_with('.') && !part.starts_with('.');
        if !hidden && glob_match::glob_match(part, &name) {
            out.push(entry.path());
        }
    }
    out
}

/// The file with this identity in a directory, under whatever name.
pub(super) fn neighbour(directory: &Path, id: FileId) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory).ok()?;
    let same = |path: &PathBuf| {
        std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && FileId::of(&m) == id)
    };
    entries
        .flatten()
        .take(MAX_ENTRIES)
        .map(|e| e.path())
        .find(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_finds_plain_files_in_any_of_its_directories() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "a/x.log",
            "b/y.log",
            "b/y.log.1.gz",
            "b/.hidden.log",
            "b/z.txt",
        ] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::fs::create_dir(root.path().join("b/dir.log")).unwrap();
        let names = |pattern: &str, max| -> Vec<String> {
            expand(&format!("{}/{pattern}", root.path().display()), max)
                .iter()
                .map(|c| {
                    c.path
                        .strip_prefix(root.path())
                        .unwrap()
                        .display()
                        .to_string()
                })
                .collect()
        };
        assert_eq!(names("*/*.log", 9), ["a/x.log", "b/y.log"]);
        assert_eq!(names("*/*.log", 1), ["a/x.log"]);
        assert_eq!(names("b/y.log", 9), ["b/y.log"]);
        assert_eq!(names("b/y.log*", 9), ["b/y.log"]);
        assert_eq!(names("none/*", 9), Vec::<String>::new());
    }
}
