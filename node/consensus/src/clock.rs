//! The node's own monotonic clock. It decides when this leader proposes that something ran out; it
//! never enters the state machine.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

/// Time since the node started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A number from 0 up to 1, so that nodes do not act in step. A fresh `RandomState` is seeded from
/// the system's randomness.
pub(crate) fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random % 1024) as f64 / 1024.0
}
