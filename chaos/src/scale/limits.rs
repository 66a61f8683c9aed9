//! What gives as a cluster grows: the product's own bounds, and this machine's.

use super::leader::{Leader, Measured};
use hale_consensus::ledger::limits;
use hale_membership::Tuning;
use hale_model::wire::MAX_VALUE_BYTES;
use serde::Serialize;

/// A network card of 1 Gbit/s.
const CARD_BYTES: f64 = 125e6;
/// No cluster is looked at beyond.
const MOST: usize = 10_000_000;

/// Something that gives.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    /// What.
    pub what: String,
    /// How much there is of it.
    pub of: f64,
    /// At how many nodes, at the rate of incidents that was asked for; none if that is beyond all
    /// clusters.
    pub nodes: Option<usize>,
    /// Nodes times incidents in an hour, where it depends on incidents.
    pub incidents_per_hour: Option<f64>,
}

/// All of them, the first first.
pub(super) fn all(measured: &Measured<'_>) -> Vec<Limit> {
    let by_nodes = |what: &str, of: f64, used: &dyn Fn(&Leader) -> f64, runs: bool| {
        let nodes = first(|n| used(&measured.leader(n)) > of);
        let per_host = measured.assumed.incidents_per_hour;
        Limit {
            what: what.into(),
            of,
            nodes,
            incidents_per_hour: nodes.filter(|_| runs).map(|n| n as f64 * per_host),
        }
    };
    let quic = measured.quic.max_connections as f64;
    let value = MAX_VALUE_BYTES as f64;
    let roster = limits::MAX_NODES as f64;
    let members = Tuning::default().max_members as f64;
    let open = limits::MAX_OPEN_GRANTS as f64;
    let size = |l: &Leader| l.nodes as f64;
    let mut all = vec![
        by_nodes(
            "connections of the leader: each node that follows it holds one",
            quic,
            &|l| l.connections,
            false,
        ),
        by_nodes("nodes on the ledger's roster", roster, &size, false),
        by_nodes("members that gossip keeps in mind", members, &size, false),
        by_nodes(
            "bytes of one exchange of gossip",
            value,
            &|l| l.exchange_bytes,
            false,
        ),
        by_nodes(
            "bytes of the state that a newcomer is given",
            value,
            &|l| l.state_bytes,
            false,
        ),
        by_nodes("grants open at once", open, &|l| l.open, true),
        by_nodes("one core of the leader", 1.0, &|l| l.core, true),
        by_nodes("the disk's syncs, one a command", 1.0, &|l| l.disk, true),
        by_nodes(
            "bytes out of the leader, at 1 Gbit/s",
            CARD_BYTES,
            &|l| l.bytes_out,
            true,
        ),
    ];
    all.sort_by_key(|l| l.nodes.unwrap_or(usize::MAX));
    all
}

/// The smallest size at which it is so.
fn first(gives: impl Fn(usize) -> bool) -> Option<usize> {
    if !gives(MOST) {
        return None;
    }
    let (mut below, mut from) = (1, MOST);
    while below + 1 < from {
        let middle = below + (from - below) / 2;
        match gives(middle) {
            true => from = middle,
            false => below = middle,
        }
    }
    Some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_size_is_found() {
        assert_eq!(first(|n| n > 8_192), Some(8_193));
        assert_eq!(first(|_| false), None);
    }
}
