//! The chain in the audit archive's segment files, as the ledger's [`ChainStore`].

use crate::chain_store::ChainStore;
use hale_audit::archive::{Options, Segments};
use hale_model::Digest;
use hale_model::chain::Entry;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Segment files that are opened anew after a write failed.
pub struct SegmentChain {
    dir: PathBuf,
    options: Options,
    /// Empty only while they are opened anew, or could not be.
    segments: RwLock<Option<Arc<Segments>>>,
    failed: AtomicBool,
}

impl SegmentChain {
    /// Opens the chain in `dir`, or makes an empty one.
    ///
    /// # Errors
    /// If the directory can't be used, is in use, or holds a damaged chain; the cause tells which.
    pub fn open(dir: &Path, options: Options) -> io::Result<Self> {
        let segments = Segments::open(dir, options).map_err(io::Error::other)?;
        Ok(Self {
            dir: dir.to_owned(),
            options,
            segments: RwLock::new(Some(Arc::new(segments))),
            failed: AtomicBool::new(false),
        })
    }

    /// The segment files themselves: for checkpoints, publishing, sealing. Not to be kept: while
    /// anyone holds on to them they can't be opened anew after a failure.
    ///
    /// # Errors
    /// If they failed and were not opened again yet.
    pub fn segments(&self) -> io::Result<Arc<Segments>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments
            .clone()
            .ok_or_else(|| io::Error::other("the chain's files are closed"))
    }

    fn watched<T>(
        &self,
        result: Result<T, impl Into<Box<dyn std::error::Error + Send + Sync>>>,
    ) -> io::Result<T> {
        result.map_err(|e| {
            self.failed.store(true, Ordering::Relaxed);
            io::Error::other(e)
        })
    }
}

impl ChainStore for SegmentChain {
    fn append(&self, entries: &[Entry]) -> io::Result<()> {
        self.watched(self.segments()?.append(entries))
    }

    fn sync(&self) -> io::Result<()> {
        self.watched(self.segments()?.sync())
    }

    fn len(&self) -> u64 {
        self.segments().map_or(0, |s| s.len())
    }

    fn tip(&self) -> Digest {
        self.segments().map_or(Digest::ZERO, |s| s.tip())
    }

    fn read(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        let entries: Result<_, _> = self.segments()?.read(range).collect();
        entries.map_err(io::Error::other)
    }

    fn reopen(&self) -> io::Result<()> {
        if !self.failed.load(Ordering::Relaxed) && self.segments().is_ok() {
            return Ok(());
        }
        let mut segments = self
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *segments = None;
        let opened = Segments::open(&self.dir, self.options).map_err(io::Error::other)?;
        *segments = Some(Arc::new(opened));
        self.failed.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn truncate_to(&self, len: u64) -> io::Result<()> {
        self.watched(self.segments()?.truncate_to(len))
    }
}
