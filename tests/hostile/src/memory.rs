//! A bound on the memory of the process, so that a length that was believed ends the test.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::Once;

/// So much more address space than at the first call. Threads and their heaps take some of it
/// without using it.
const MORE_BYTES: u64 = 4 << 30;
/// No page is larger where this matters, and a smaller one makes the bound a looser one.
const PAGE_BYTES: u64 = 4096;

/// From now on a request for memory far beyond what any input justifies aborts the process.
pub(crate) fn bound() {
    static BOUND: Once = Once::new();
    BOUND.call_once(|| {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = pages.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        let now = pages.unwrap_or(0) * PAGE_BYTES;
        let limits = Rlimit {
            current: Some(now + MORE_BYTES),
            ..getrlimit(Resource::As)
        };
        // Where the system does not allow it, the fuzz targets' own limit remains.
        let _ = setrlimit(Resource::As, limits);
    });
}
