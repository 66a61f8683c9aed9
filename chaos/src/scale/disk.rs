//! What this disk takes to have a pack: an append and fdatasync, one after the other, as the log
//! does.

use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// So many are measured, for no longer than this.
const SYNCS: usize = 400;
const PATIENCE: Duration = Duration::from_secs(20);
/// About what a pack of a few commands has.
const BYTES: usize = 4_096;

/// How long an append takes until the disk has it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Disk {
    /// In the median, in microseconds.
    pub sync_p50_us: f64,
    /// Of a hundred the slowest, in microseconds.
    pub sync_p99_us: f64,
    /// How many a second, one after the other.
    pub syncs_per_second: f64,
}

/// Measures the disk of this directory, with a file of its own that is removed.
///
/// # Errors
/// If it can't be written.
pub fn measure(dir: &Path) -> io::Result<Disk> {
    let path = dir.join(format!("hale-chaos-sync-{}", std::process::id()));
    let measured = appends(&path);
    let removed = fs::remove_file(&path);
    let mut took = measured?;
    removed?;
    took.sort();
    let at = |percent: usize| took.get((took.len() * percent / 100).min(took.len() - 1));
    let us = |percent| at(percent).map_or(0.0, |d| d.as_secs_f64() * 1e6);
    let all: Duration = took.iter().sum();
    Ok(Disk {
        sync_p50_us: us(50),
        sync_p99_us: us(99),
        syncs_per_second: took.len() as f64 / all.as_secs_f64().max(f64::MIN_POSITIVE),
    })
}

fn appends(path: &Path) -> io::Result<Vec<Duration>> {
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(path)?;
    let began = Instant::now();
    let mut took = vec![];
    while took.len() < SYNCS && (took.is_empty() || began.elapsed() < PATIENCE) {
        let one = Instant::now();
        file.write_all(&[7; BYTES])?;
        file.sync_data()?;
        took.push(one.elapsed());
    }
    Ok(took)
}
