//! A walk through a directory tree within a budget: what is in it, and where most of it lies.

use crate::consumers::Directory;
use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Directories deeper than this are counted to the one above at this depth.
const MAX_DEPTH: usize = 12;
/// st_blocks counts units of 512 bytes, whatever the file system's own are.
const BLOCK_BYTES: u64 = 512;

/// How much a walk may cost.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// The most entries looked at.
    pub entries: usize,
    /// The longest it may take.
    pub time: Duration,
}

/// What a walk saw.
#[derive(Debug, Default)]
pub struct Walk {
    /// Bytes that files take on the disk.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// Each directory by itself.
    pub directories: Vec<Directory>,
    /// Whether it saw everything.
    pub complete: bool,
}

/// Walks each root in turn, breadth first, without following links or leaving a root's file
/// system. A directory reached from two roots is counted once.
pub fn walk(roots: &[PathBuf], budget: Budget) -> Walk {
    let mut out = Walk {
        complete: true,
        ..Walk::default()
    };
    let deadline = Instant::now() + budget.time;
    let mut left = budget.entries;
    let mut seen = HashMap::new();
    for root in roots {
        let Ok(meta) = std::fs::symlink_metadata(root) else {
            continue;
        };
        let mut queue = VecDeque::from([(root.clone(), 0, None)]);
        while let Some((path, depth, above)) = queue.pop_front() {
            if left == 0 || Instant::now() >= deadline {
                out.complete = false;
                return out;
            }
            if seen.insert(path.clone(), ()).is_none() {
                let at = above.unwrap_or_else(|| out.begin(&path));
                let inherits = (depth >= MAX_DEPTH).then_some(at);
                out.enter(&path, at, meta.dev(), &mut left, |child| {
                    queue.push_back((child, depth + 1, inherits));
                });
            }
        }
    }
    out
}

impl Walk {
    fn begin(&mut self, path: &Path) -> usize {
        self.directories.push(Directory {
            path: path.to_string_lossy().into_owned(),
            bytes: 0,
            files: 0,
            largest: None,
        });
        self.directories.len() - 1
    }

    fn enter(
        &mut self,
        path: &Path,
        at: usize,
        device: u64,
        left: &mut usize,
        mut found: impl FnMut(PathBuf),
    ) {
        let Ok(entries) = std::fs::read_dir(path) else {
            return;
        };
        for entry in entries.flatten() {
            if *left == 0 {
                self.complete = false;
                return;
            }
            *left -= 1;
            // Of the entry itself, not of what a link points at.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                if meta.dev() == device {
                    found(entry.path());
                }
                continue;
            }
            let bytes = meta.blocks() * BLOCK_BYTES;
            self.bytes += bytes;
            self.files += 1;
            let Some(directory) = self.directories.get_mut(at) else {
                continue;
            };
            directory.bytes += bytes;
            directory.files += 1;
            if directory
                .largest
                .as_ref()
                .is_none_or(|(_, most)| bytes > *most)
            {
                let name = entry.file_name().to_string_lossy().into_owned();
                directory.largest = Some((name, bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: Budget = Budget {
        entries: 10_000,
        time: Duration::from_secs(10),
    };

    #[test]
    fn a_walk_finds_where_most_of_it_lies_and_follows_no_link() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/pg_wal");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("0001"), vec![1; 300_000]).unwrap();
        std::fs::write(root.path().join("small"), vec![1; 10_000]).unwrap();
        std::os::unix::fs::symlink("/", root.path().join("loop")).unwrap();
        let walked = walk(&[root.path().to_owned(), deep.clone()], PLENTY);
        assert!(
            walked.complete && walked.bytes >= 310_000 && walked.files == 3,
            "{walked:?}"
        );
        let top = crate::consumers::of_directories(walked.directories, 1);
        assert_eq!(top[0].name, deep.to_string_lossy());
        assert!(top[0].text.starts_with("WAL files "));
    }

    #[test]
    fn a_walk_stops_at_its_budget_and_says_so() {
        let root = tempfile::tempdir().unwrap();
        for i in 0..50 {
            std::fs::write(root.path().join(i.to_string()), "x").unwrap();
        }
        let walked = walk(
            &[root.path().to_owned()],
            Budget {
                entries: 10,
                ..PLENTY
            },
        );
        assert!(!walked.complete && walked.files == 10);
    }
}
