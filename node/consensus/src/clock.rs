//! The node's own monotonic clock. It decides when this leader proposes that something ran out; it
//! never enters the state machine.

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
