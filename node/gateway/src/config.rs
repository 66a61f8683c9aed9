//! Bounds, and counts of what they kept out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds. All nodes of a cluster are given the same.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest question, in bytes.
    pub question_bytes: usize,
    /// The largest answer, in bytes.
    pub answer_bytes: usize,
    /// Questions in flight with one peer, each way.
    pub per_peer: usize,
    /// Questions in flight in all, each way.
    pub in_all: usize,
    /// Bytes of answers that wait until one peer takes them.
    pub waiting_bytes: usize,
    /// Sessions at a time; the least recently used idle one makes room.
    pub sessions: usize,
    /// A session without questions for this long is ended.
    pub idle: Duration,
    /// How long a session may take until it is ready.
    pub opening: Duration,
    /// How long a question of a peer is worked on; less if the peer waits less.
    pub answering: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            question_bytes: 256 << 10,
            answer_bytes: 8 << 20,
            per_peer: 64,
            in_all: 256,
            waiting_bytes: 32 << 20,
            sessions: 64,
            idle: Duration::from_secs(60),
            opening: Duration::from_secs(5),
            answering: Duration::from_secs(30),
        }
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts since the gateway was started.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn counts(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Questions that we asked and that were answered.
    answers_got,
    /// Questions that we asked and that were not.
    asks_failed,
    /// Questions of peers that were answered.
    answers_given,
    /// Questions of peers that were turned away: too many at once.
    turned_away,
    /// Questions of peers that got no answer: too slow, too large, or the answerer failed.
    unanswered,
    /// Sessions that we opened.
    opened,
    /// Sessions that peers opened.
    accepted,
    /// Sessions that ended, for whatever reason.
    ended,
    /// Sessions ended to make room.
    evicted,
    /// Sessions ended because nothing was asked.
    idle,
    /// Sessions that were refused: too many.
    refused_full,
    /// Sessions ended because the peer named itself another than it has proven to be.
    wrong_names,
    /// Sessions ended because the peer sent what it may not, or more than it may.
    refused_frames,
    /// Questions that did not show their session's ticket.
    wrong_tickets,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
