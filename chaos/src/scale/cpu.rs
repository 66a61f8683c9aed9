//! CPU time, which a busy machine does not lengthen as it does the time of day.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

fn read(clock: ClockId) -> Duration {
    let at = clock_gettime(clock);
    // The kernel gives neither below zero.
    Duration::new(at.tv_sec.unsigned_abs(), at.tv_nsec as u32)
}

/// What this thread used since it began.
pub(super) fn of_this_thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// What all threads of this process used.
pub(super) fn of_this_process() -> Duration {
    read(ClockId::ProcessCPUTime)
}
