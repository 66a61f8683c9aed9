//! How fast gossip is, by the cluster's size.

use crate::membership::MAX_PACKET_BYTES;
use foca::{Config, PeriodicParams};
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

/// How fast gossip is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// How often somebody is probed.
    pub probe_period: Duration,
    /// How long a direct answer is waited for; then others are asked to try.
    pub probe_rtt: Duration,
    /// A suspect has this many probe periods, times the decimal logarithm of the cluster's size
    /// (at least 1), to show that it lives.
    pub suspicion: f64,
    /// How long a member that is down is remembered.
    pub forget_after: Duration,
    /// How often everything known is exchanged with somebody.
    pub exchange_period: Duration,
    /// A profile that changes is told at most this often.
    pub profile_period: Duration,
    /// The most members that are kept in mind.
    pub max_members: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_secs(1),
            probe_rtt: Duration::from_millis(300),
            suspicion: 3.0,
            forget_after: Duration::from_secs(3600),
            exchange_period: Duration::from_secs(30),
            profile_period: Duration::from_secs(2),
            max_members: 10_000,
        }
    }
}

const fn at_least_one(n: usize) -> NonZeroUsize {
    match NonZeroUsize::new(n) {
        Some(n) => n,
        None => NonZeroUsize::MIN,
    }
}

impl Tuning {
    /// foca's settings for a cluster of `size` members.
    pub(crate) fn config(&self, size: usize) -> Config {
        let magnitude = (size.max(1) as f64).log10();
        let periodic = |ms, n| {
            Some(PeriodicParams {
                frequency: Duration::from_millis(ms),
                num_members: at_least_one(n),
            })
        };
        Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            num_indirect_probes: at_least_one(3),
            // An update has to be told a few times the logarithm of the size (SWIM section 4.1).
            max_transmissions: NonZeroU8::new((4.0 * (magnitude + 1.0)) as u8)
                .unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: self
                .probe_period
                .mul_f64(self.suspicion * magnitude.max(1.0)),
            remove_down_after: Some(self.forget_after),
            max_packet_size: at_least_one(MAX_PACKET_BYTES),
            notify_down_members: true,
            periodic_announce: periodic(30_000, 1),
            periodic_announce_to_down_members: periodic(30_000, 2),
            periodic_gossip: periodic(200, 3),
        }
    }
}
