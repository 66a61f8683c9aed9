//! Waiting that ends early when somebody asks the gallery to stop.

use hale_tests::pause;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);

static ASKED: AtomicBool = AtomicBool::new(false);

/// Listens for SIGINT and SIGTERM from now on.
pub(crate) fn listen() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let mut term =
                tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
        });
        ASKED.store(true, Ordering::Relaxed);
    });
}

/// Whether it has to stop.
pub(crate) fn is_asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Waits until there is something. An error if there is nothing within `bound`.
pub(crate) fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, String> {
    let until = Instant::now() + bound;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if is_asked() {
            return Err("it was stopped".into());
        }
        if Instant::now() > until {
            return Err(format!("waited {} s in vain until {what}", bound.as_secs()));
        }
        pause(LOOK);
    }
}

/// Lets time pass.
pub(crate) fn pass(time: Duration) -> Result<(), String> {
    let until = Instant::now() + time;
    wait_for("time has passed", time + LOOK * 2, || {
        (Instant::now() >= until).then_some(())
    })
}
