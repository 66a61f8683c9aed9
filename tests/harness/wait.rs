//! Waiting for a condition with a bound, and saying what was not tested.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until a condition holds. Returns how long that took.
///
/// # Panics
/// If it does not hold within `bound`.
#[track_caller]
pub fn wait_until(what: &str, bound: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    wait_for(what, bound, || holds().then_some(()));
    began.elapsed()
}

/// Waits until there is something, and returns it.
///
/// # Panics
/// If there is nothing within `bound`.
#[track_caller]
pub fn wait_for<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < bound,
            "waited {bound:?} in vain until {what}"
        );
        std::thread::park_timeout(LOOK);
    }
}

/// Lets time pass where the passing itself is what is tested: a load that lasts, a bound that must
/// not be reached. Never a way to wait for something.
pub fn pause(duration: Duration) {
    let until = Instant::now() + duration;
    while let left = until.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        std::thread::park_timeout(left);
    }
}

/// Says that a test did not run, past the capture of a passing test's output.
pub fn skipped(test: &str, why: &str) {
    // The test's name may stand in this line already, without its end.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {why}");
}

/// Held by a test that must not share the machine with others of its file.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
