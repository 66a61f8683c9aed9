//! The sizes of the directories that the configuration names.

use super::walk::{Budget, walk};
use super::{Found, blocking};
use crate::config::DirectoryConfig;
use hale_model::{Harm, Sample, SeriesKey};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BUDGET: Budget = Budget {
    entries: 100_000,
    time: Duration::from_secs(2),
};

/// A directory that grows by less has not changed: a block or a short log is no trouble.
const LEAST_BYTES: f64 = 4_194_304.0;
/// The same in files.
const LEAST_FILES: f64 = 100.0;
/// A walk that took a second is not done again for this many: at most 2 % of a core are spent.
const REST: u32 = 50;

/// The watched directories.
#[derive(Debug)]
pub struct Directories {
    all: Arc<Mutex<Vec<Watched>>>,
}

#[derive(Debug)]
struct Watched {
    config: DirectoryConfig,
    next: Option<Instant>,
    /// The last sizes, told again while a large tree rests.
    last: Option<(u64, u64)>,
}

impl Directories {
    /// Watches these.
    pub fn new(configs: &[DirectoryConfig]) -> Self {
        let watched = |config: &DirectoryConfig| Watched {
            config: config.clone(),
            next: None,
            last: None,
        };
        Self {
            all: Arc::new(Mutex::new(configs.iter().map(watched).collect())),
        }
    }

    /// Their sizes.
    pub async fn read(&mut self) -> Found {
        let read = |all: &mut Vec<Watched>| {
            let mut found = Found::default();
            for watched in all {
                watched.read(&mut found);
            }
            found
        };
        blocking(&self.all, read).await.unwrap_or_default()
    }
}

impl Watched {
    fn read(&mut self, found: &mut Found) {
        let began = Instant::now();
        if self.next.is_none_or(|next| began >= next) {
            let walked = walk(&[PathBuf::from(&self.config.path)], BUDGET);
            self.next = Some(Instant::now() + began.elapsed() * REST);
            // Half of a tree is no size.
            self.last = walked.complete.then_some((walked.bytes, walked.files));
            if !walked.complete {
                found.drops.add("directory_too_large", 1);
            }
        }
        let Some((bytes, files)) = self.last else {
            return;
        };
        let path = self.config.path.to_string_lossy();
        for (name, value, grain) in [
            ("disk.directory_bytes", bytes, LEAST_BYTES),
            ("disk.directory_files", files, LEAST_FILES),
        ] {
            let series = SeriesKey::new(name).with("path", path.as_ref());
            let sample = Sample::gauge(series, value as f64)
                .harm(Harm::High)
                .grained(grain);
            found.samples.push(match &self.config.service {
                Some(service) => sample.of(service),
                None => sample,
            });
        }
    }
}
