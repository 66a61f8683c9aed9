//! A bad line between a host and the others: two TAP devices in the switch's namespace, between
//! which every frame is handed on late, at odds, or not at all.

use super::tool::run;
use crate::rng::Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tappers::{Interface, Tap};

/// The longest Ethernet frame here, with room to spare.
const FRAME: usize = 2048;
/// What waits at once; what comes then is lost, as on a real line.
const WAITING: usize = 4096;

/// How bad it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quality {
    /// Each frame is this late, each way.
    pub(super) delay: Duration,
    /// And up to so much later, so that frames overtake each other.
    pub(super) jitter: Duration,
    /// So many of a thousand are lost.
    pub(super) lost_per_mille: u64,
}

/// A line, until it is dropped.
pub(super) struct Line {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

struct Waiting {
    frames: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    came: u64,
}

impl Line {
    /// Makes the two devices, named so, puts them into a namespace and begins to hand frames on.
    pub(super) fn lay(names: [&str; 2], into: &str, quality: Quality) -> Result<Self, String> {
        let stop = Arc::<AtomicBool>::default();
        let one = Arc::new(tap(names[0], into)?);
        let other = Arc::new(tap(names[1], into)?);
        let mut threads = vec![];
        for (seed, from, to) in [(1, &one, &other), (2, &other, &one)] {
            let queue = Arc::new((
                Mutex::new(Waiting {
                    frames: BinaryHeap::new(),
                    came: 0,
                }),
                Condvar::new(),
            ));
            let (from, halt, wait) = (Arc::clone(from), Arc::clone(&stop), Arc::clone(&queue));
            let rng = Rng::new(seed);
            threads.push(std::thread::spawn(move || {
                take_in(&from, quality, rng, &wait, &halt);
            }));
            let (to, halt) = (Arc::clone(to), Arc::clone(&stop));
            threads.push(std::thread::spawn(move || hand_on(&to, &queue, &halt)));
        }
        Ok(Self { stop, threads })
    }
}

fn tap(name: &str, into: &str) -> Result<Tap, String> {
    let told = |e: std::io::Error| format!("no TAP device {name}: {e}");
    let interface = Interface::new(name).map_err(told)?;
    let mut tap = Tap::new_named(interface).map_err(told)?;
    tap.set_nonblocking(true).map_err(told)?;
    run("ip", &["link", "set", name, "netns", into])?;
    Ok(tap)
}

#[allow(clippy::disallowed_methods, reason = "it runs on a thread of its own")]
fn take_in(
    from: &Tap,
    quality: Quality,
    mut rng: Rng,
    queue: &(Mutex<Waiting>, Condvar),
    stop: &AtomicBool,
) {
    let mut frame = [0; FRAME];
    let jitter = quality.jitter.as_micros() as u64;
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = from.recv(&mut frame) else {
            // Nothing has come.
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        if rng.within(0, 1000) < quality.lost_per_mille {
            continue;
        }
        let late = Duration::from_micros(rng.within(0, jitter.max(1)));
        let at = Instant::now() + quality.delay + late;
        let mut waiting = queue.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.frames.len() < WAITING {
            waiting.came += 1;
            let number = waiting.came;
            waiting
                .frames
                .push(Reverse((at, number, frame[..length].to_vec())));
            queue.1.notify_one();
        }
    }
}

fn hand_on(to: &Tap, queue: &(Mutex<Waiting>, Condvar), stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut waiting = queue.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = waiting
            .frames
            .peek()
            .map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
        match left {
            Some(Duration::ZERO) => {
                let due = waiting.frames.pop();
                drop(waiting);
                if let Some(Reverse((.., frame))) = due {
                    // A device that is going takes nothing.
                    let _ = to.send(&frame);
                }
            }
            left => {
                let left = left.unwrap_or(Duration::from_millis(50));
                // Woken early or late, it looks again.
                drop(
                    queue
                        .1
                        .wait_timeout(waiting, left.min(Duration::from_millis(50))),
                );
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
