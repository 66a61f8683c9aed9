//! What the leader of a cluster does in a second: arithmetic over what was measured.

use super::Asked;
use super::costs::{LedgerCosts, StateCosts};
use super::disk::Disk;
use super::gossip::{Gossip, Sent};
use super::quic::Quic;
use hale_consensus::Timeouts;
use hale_consensus::seats::Policy;
use serde::Serialize;
use std::time::Duration;

/// A node outside the group asks again after so long without news: the long question of
/// `hale-consensus`.
const QUESTION_S: f64 = 5.0;
/// A heartbeat's bytes, about.
const HEARTBEAT_BYTES: f64 = 150.0;

/// What was not measured but is so in the product, or was asked for.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Assumed {
    /// Incidents of each host in an hour; each leads to a run.
    pub incidents_per_hour: f64,
    /// For how long a run holds its lease, in seconds.
    pub run_seconds: f64,
    /// A lease is renewed so often, in seconds: a third of its time.
    pub renew_seconds: f64,
    /// Voters and stand-bys.
    pub group: usize,
    /// A leader's heartbeats to each of the others, in a second.
    pub heartbeats_per_second: f64,
}

impl Assumed {
    pub(super) fn new(asked: &Asked, lease: Duration) -> Self {
        let (seats, timeouts) = (Policy::default(), Timeouts::default());
        Self {
            incidents_per_hour: asked.incidents_per_hour,
            run_seconds: asked.run_seconds,
            renew_seconds: lease.as_secs_f64() / 3.0,
            group: seats.max_voters + seats.learners,
            heartbeats_per_second: 1.0 / timeouts.heartbeat.as_secs_f64(),
        }
    }
}

/// The work of a leader, in a second.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Leader {
    /// In a cluster of so many.
    pub nodes: usize,
    /// Whether gossip and state were measured at this size, or follow from smaller ones.
    pub measured: bool,
    /// Runs that begin.
    pub runs: f64,
    /// Runs that are open.
    pub open: f64,
    /// Commands: acquire, renew, close.
    pub commands: f64,
    /// Of which renewals.
    pub renewals: f64,
    /// Entries of the chain, each with a signature to be verified.
    pub entries: f64,
    /// Heartbeats to the others of the group.
    pub heartbeats: f64,
    /// Questions answered: commands that are forwarded, and nodes outside the group that follow.
    pub requests: f64,
    /// How many nodes follow this one.
    pub followers: f64,
    /// Connections that are in use all the time.
    pub connections: f64,
    /// Handshakes, since gossip's peers are more than the connections that are kept.
    pub handshakes: f64,
    /// Bytes out: to the group, to those that follow, and gossip with its exchanges.
    pub bytes_out: f64,
    /// Of which to those that follow.
    pub follow_bytes: f64,
    /// Of which gossip's datagrams and exchanges.
    pub gossip_bytes: f64,
    /// Its gossip packets, sent and taken.
    pub gossip_packets: f64,
    /// The bytes of a snapshot.
    pub state_bytes: f64,
    /// The bytes of the roster.
    pub roster_bytes: f64,
    /// The bytes of one end of a gossip exchange.
    pub exchange_bytes: f64,
    /// The share of one core.
    pub core: f64,
    /// Of which applying commands.
    pub core_ledger: f64,
    /// Of which gossip, with its handshakes.
    pub core_gossip: f64,
    /// Of which answering questions and replicating.
    pub core_port: f64,
    /// The share of the disk's syncs, one for each command at worst.
    pub disk: f64,
}

/// All that a leader's work follows from.
pub(super) struct Measured<'a> {
    pub(super) assumed: &'a Assumed,
    pub(super) gossip: &'a [Gossip],
    pub(super) ledger: &'a LedgerCosts,
    pub(super) states: &'a [StateCosts],
    pub(super) disk: &'a Disk,
    pub(super) quic: &'a Quic,
}

/// Along the logarithm of the size through the two largest that were measured.
fn by_logarithm(points: &[(usize, f64)], nodes: usize) -> f64 {
    along(points, nodes, |n| (n.max(1) as f64).log10())
}

/// Along the size through the two largest that were measured.
fn by_size(points: &[(usize, f64)], nodes: usize) -> f64 {
    along(points, nodes, |n| n as f64)
}

fn along(points: &[(usize, f64)], nodes: usize, place: impl Fn(usize) -> f64) -> f64 {
    if let Some((_, found)) = points.iter().find(|(n, _)| *n == nodes) {
        return *found;
    }
    match points {
        [.., (a, at_a), (b, at_b)] => {
            let slope = (at_b - at_a) / (place(*b) - place(*a));
            (at_b + slope * (place(nodes) - place(*b))).max(0.0)
        }
        [(_, only)] => *only,
        [] => 0.0,
    }
}

impl Measured<'_> {
    fn of_gossip(&self, what: impl Fn(&Gossip) -> f64) -> Vec<(usize, f64)> {
        self.gossip.iter().map(|g| (g.nodes, what(g))).collect()
    }

    fn of_state(&self, what: impl Fn(&StateCosts) -> f64) -> Vec<(usize, f64)> {
        self.states.iter().map(|s| (s.nodes, what(s))).collect()
    }

    /// The bytes of a snapshot.
    pub(super) fn state_bytes(&self, nodes: usize) -> f64 {
        by_size(&self.of_state(|s| s.bytes), nodes)
    }

    /// The bytes of one end of an exchange.
    pub(super) fn exchange_bytes(&self, nodes: usize) -> f64 {
        let each = self
            .gossip
            .last()
            .map_or(0.0, |g| g.exchange_bytes as f64 / g.nodes as f64);
        each * nodes as f64
    }

    /// Gossip while packets get lost now and then, as in any network.
    fn sent(&self, nodes: usize) -> Sent {
        let of = |what: fn(&Sent) -> f64| by_logarithm(&self.of_gossip(|g| what(&g.lossy)), nodes);
        Sent {
            packets: of(|s| s.packets),
            bytes: of(|s| s.bytes),
            exchanges: of(|s| s.exchanges),
        }
    }

    /// What the leader of so many does.
    pub(super) fn leader(&self, nodes: usize) -> Leader {
        let a = self.assumed;
        let group = a.group.min(nodes) as f64;
        let others = group - 1.0;
        let runs = nodes as f64 * a.incidents_per_hour / 3600.0;
        let open = runs * a.run_seconds;
        let renewals = runs * (a.run_seconds / a.renew_seconds).floor();
        let commands = 2.0 * runs + renewals;
        let (ledger, quic) = (self.ledger, self.quic);
        let command_bytes =
            runs * (ledger.acquire.bytes + ledger.close.bytes) + renewals * ledger.renew.bytes;

        let followers = (nodes as f64 - group) / group;
        // Each asks again as soon as it was told something, and at the latest after a while.
        let questions = followers * commands.max(1.0 / QUESTION_S);
        let requests = commands + questions;
        let heartbeats = others * a.heartbeats_per_second;

        let sent = self.sent(nodes);
        let gossip_packets = 2.0 * sent.packets;
        // A packet to one of many members finds a connection as often as some are left for it.
        let connections = followers + 2.0 * others;
        let left = (quic.max_connections as f64 - connections).max(0.0);
        let missed = (1.0 - left / nodes as f64).clamp(0.0, 1.0);
        let handshakes = gossip_packets * missed;
        let exchange_bytes = self.exchange_bytes(nodes);
        let gossip_bytes = sent.bytes + sent.exchanges * exchange_bytes;
        let follow_bytes = followers * command_bytes;
        let bytes_out =
            others * command_bytes + heartbeats * HEARTBEAT_BYTES + follow_bytes + gossip_bytes;

        let us = 1e-6;
        let acquire_us = ledger.acquire.apply_us + open * ledger.acquire_us_per_open;
        let core_ledger =
            us * (runs * (acquire_us + ledger.close.apply_us) + renewals * ledger.renew.apply_us);
        let machine = by_size(&self.of_gossip(Gossip::core_per_node), nodes);
        let core_gossip =
            machine + us * (gossip_packets * quic.datagram_us + handshakes * quic.handshake_us);
        let core_port = us * quic.question_us * (requests + heartbeats + others * commands);
        Leader {
            nodes,
            measured: self.gossip.iter().any(|g| g.nodes == nodes),
            runs,
            open,
            commands,
            renewals,
            entries: 2.0 * runs,
            heartbeats,
            requests,
            followers,
            connections,
            handshakes,
            bytes_out,
            follow_bytes,
            gossip_bytes,
            gossip_packets,
            state_bytes: self.state_bytes(nodes),
            roster_bytes: nodes as f64 * self.states.last().map_or(0.0, |s| s.bytes_per_node),
            exchange_bytes,
            core: core_ledger + core_gossip + core_port,
            core_ledger,
            core_gossip,
            core_port,
            disk: commands / self.disk.syncs_per_second,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_taken_and_what_was_not_follows_from_the_two_largest() {
        let points = [(10, 1.0), (100, 2.0), (1_000, 3.0)];
        assert_eq!(by_logarithm(&points, 100), 2.0);
        assert!((by_logarithm(&points, 10_000) - 4.0).abs() < 1e-9);
        assert!((by_size(&points, 1_900) - 4.0).abs() < 1e-9);
        assert_eq!(by_size(&points[..1], 5), 1.0);
    }
}
