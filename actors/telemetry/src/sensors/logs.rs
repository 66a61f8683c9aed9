//! Log files, followed by what they are (device and inode), not by what they are called: through
//! rotation, truncation and restarts of this node.

mod find;
mod positions;
mod tail;

use super::{Found, blocking};
use crate::config::{LimitsConfig, LogConfig};
use crate::fold::{Folder, Origin};
use crate::limits::Drops;
use find::{Candidate, FileId};
use hale_model::Timestamp;
use positions::Positions;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tail::Tail;

/// Rounds for which a file that was renamed away or deleted is still read: whoever wrote it may
/// have it open until it is told to open the new one.
const FAREWELL_ROUNDS: u32 = 10;

/// All followed files.
#[derive(Debug)]
pub struct Logs {
    follower: Arc<Mutex<Follower>>,
}

#[derive(Debug)]
struct Follower {
    configs: Vec<LogConfig>,
    limits: LimitsConfig,
    folder: Folder,
    tails: BTreeMap<FileId, Followed>,
    /// Where to keep the positions, and what was kept there before this node started.
    kept_in: Option<PathBuf>,
    before: Positions,
    saved: Positions,
    started: bool,
}

#[derive(Debug)]
struct Followed {
    tail: Tail,
    origin: Origin,
    /// Rounds since it was last found under a configured path.
    gone: u32,
}

impl Logs {
    /// Follows what `configs` name. Positions are kept in the file `kept_in`; without one, a
    /// restarted node begins at the end of each file.
    pub fn new(configs: Vec<LogConfig>, limits: LimitsConfig, kept_in: Option<PathBuf>) -> Self {
        let before = kept_in.as_deref().map(Positions::load).unwrap_or_default();
        let folder = Folder::new(limits.templates, limits.events);
        let follower = Follower {
            configs,
            limits,
            folder,
            tails: BTreeMap::new(),
            kept_in,
            saved: before.clone(),
            before,
            started: false,
        };
        Self {
            follower: Arc::new(Mutex::new(follower)),
        }
    }

    /// What was written since the last round.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        blocking(&self.follower, move |f| f.read(at))
            .await
            .unwrap_or_default()
    }

    /// Keeps the positions up to which lines were handed on.
    pub async fn commit(&mut self) {
        let _ = blocking(&self.follower, Follower::commit).await;
    }
}

impl Follower {
    fn read(&mut self, at: Timestamp) -> Found {
        let mut drops = Drops::default();
        self.find(&mut drops);
        for followed in self.tails.values_mut() {
            let Followed { tail, origin, .. } = followed;
            let folder = &mut self.folder;
            folder.follow(origin);
            let read = tail.read(&self.limits, &mut drops, &mut |line| {
                folder.take(origin, line, at)
            });
            if let Err(e) = read {
                tracing::warn!(file = %origin.path, error = %e, "a log file can't be read");
            }
        }
        self.bid_farewell(at);
        let (samples, events, folded) = self.folder.flush();
        drops.merge(&folded);
        self.started = true;
        Found {
            samples,
            events,
            drops,
            jobs: self.folder.take_jobs(),
            ..Found::default()
        }
    }

    /// Looks which files there are now, and begins to follow the new ones.
    fn find(&mut self, drops: &mut Drops) {
        for followed in self.tails.values_mut() {
            followed.gone += 1;
        }
        for i in 0..self.configs.len() {
            let found = find::expand(&self.configs[i].path, self.limits.files);
            for candidate in found {
                if let Some(followed) = self.tails.get_mut(&candidate.id) {
                    followed.gone = 0;
                } else if self.tails.len() < self.limits.files {
                    self.begin(i, candidate);
                } else {
                    drops.add("log_files", 1);
                }
            }
        }
    }

    fn begin(&mut self, config: usize, candidate: Candidate) {
        let config = self.configs[config].clone();
        let path = candidate.path.to_string_lossy().into_owned();
        let origin = Origin {
            path: path.clone(),
            service: config.service.clone(),
            min_level: config.min_level,
        };
        let from_start = config.from_beginning || self.started || self.before.knows(&config.path);
        let known = self.before.of(candidate.id).cloned();
        if !self.started && known.is_none() {
            // It was rotated while this node was down: what its predecessor still had to say
            // lies in a neighbour.
            self.begin_predecessor(&path, &candidate.path, &origin);
        }
        match Tail::open(
            &candidate.path,
            known.as_ref(),
            from_start,
            self.limits.line_bytes,
        ) {
            Ok(tail) => {
                self.tails.insert(
                    candidate.id,
                    Followed {
                        tail,
                        origin,
                        gone: 0,
                    },
                );
            }
            Err(e) => tracing::warn!(file = %path, error = %e, "a log file can't be opened"),
        }
    }

    fn begin_predecessor(&mut self, path: &str, at: &Path, origin: &Origin) {
        let Some(known) = self.before.of_path(path).cloned() else {
            return;
        };
        let id = known.id();
        let (false, Some(directory)) = (self.tails.contains_key(&id), at.parent()) else {
            return;
        };
        let Some(neighbour) = find::neighbour(directory, id) else {
            return;
        };
        if let Ok(tail) = Tail::open(&neighbour, Some(&known), false, self.limits.line_bytes) {
            let origin = origin.clone();
            self.tails.insert(
                id,
                Followed {
                    tail,
                    origin,
                    gone: 1,
                },
            );
        }
    }

    /// Lets go of files that are gone for a while and say nothing more.
    fn bid_farewell(&mut self, at: Timestamp) {
        let folder = &mut self.folder;
        self.tails.retain(|_, followed| {
            let stays = followed.gone < FAREWELL_ROUNDS || !followed.tail.is_at_end();
            if !stays {
                let Followed { tail, origin, .. } = followed;
                tail.finish(&mut |line| folder.take(origin, line, at));
            }
            stays
        });
    }

    fn commit(&mut self) {
        let Some(path) = &self.kept_in else { return };
        let files = self
            .tails
            .iter()
            .map(|(id, f)| f.tail.position(*id, &f.origin.path));
        let patterns = self.configs.iter().map(|c| c.path.clone());
        let now = Positions::new(patterns.collect(), files.collect());
        if now == self.saved {
            return;
        }
        match now.save(path) {
            Ok(()) => self.saved = now,
            Err(e) => {
                tracing::warn!(error = %super::chain(&e), "after a restart, log lines may be read twice")
            }
        }
    }
}
