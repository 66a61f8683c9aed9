//! What was let in and what was refused, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts since the endpoint was opened.
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
    /// Connections that a peer opened.
    accepted,
    /// Connections that we opened.
    dialed,
    /// Dials that failed.
    dial_failures,
    /// Handshakes refused because the key is on no roster.
    refused_keys,
    /// Handshakes that failed otherwise: another cluster, another protocol, too slow.
    refused_handshakes,
    /// Connection attempts turned away because too many were going on, in all or from one address.
    refused_full,
    /// Attempts that had to prove their address first, under load.
    retried,
    /// Idle connections closed to make room.
    evicted,
    /// Frames received.
    frames_in,
    /// Frames sent.
    frames_out,
    /// Frames of another cluster.
    frames_foreign,
    /// Frames of another version.
    frames_version,
    /// Frames over the limit.
    frames_oversized,
    /// Bytes that are no frame, or a frame cut short.
    frames_malformed,
    /// Datagrams received.
    datagrams_in,
    /// Datagrams sent.
    datagrams_out,
    /// Datagrams dropped: too many waiting, empty, or not sendable.
    datagrams_dropped,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
