//! Metrics of this node among others: gossip, transport, live questions, the group's seats, leases.

use crate::answers::Inner;
use crate::cluster::Shared;
use hale_api::metrics::{Family, Kind};
use hale_membership::State;

/// All of them; only the ledger's where the node runs alone.
pub(crate) fn families(n: &Inner, out: &mut Vec<Family>) {
    group(n, out);
    let Some(cluster) = &n.cluster else { return };
    gossip(cluster, out);
    transport(cluster, out);
    questions(cluster, out);
}

/// One family of a number for each value of one label.
fn by(kind: Kind, name: &str, help: &str, label: &str, points: &[(&str, u64)]) -> Family {
    let family = Family::new(kind, name, help);
    points.iter().fold(family, |f, (value, n)| {
        f.point([(label, *value)], *n as f64)
    })
}

fn group(n: &Inner, out: &mut Vec<Family>) {
    let m = n.consensus.metrics();
    let (waiting, tokens, roster) = n.consensus.read_stale(|l| {
        (
            l.waiting().count(),
            l.tokens().filter(|t| t.live && t.uses_left > 0).count(),
            l.roster().count(),
        )
    });
    let g = Family::gauge;
    out.push(g("hale_roster", "Nodes on the roster.", roster as f64));
    out.push(g(
        "hale_raft_seated",
        "1 if this node is of the group that holds the ledger.",
        f64::from(u8::from(m.is_seated)),
    ));
    out.push(g(
        "hale_raft_voters",
        "Nodes that vote.",
        m.voters.len() as f64,
    ));
    out.push(g(
        "hale_raft_learners",
        "Nodes that stand by.",
        m.learners.len() as f64,
    ));
    out.push(g(
        "hale_raft_snapshot_index",
        "The last log entry in the newest snapshot.",
        m.snapshot as f64,
    ));
    let age = n.consensus.age().map_or(f64::INFINITY, |a| a.as_secs_f64());
    out.push(g(
        "hale_ledger_age_seconds",
        "How old what this node knows of the ledger may be.",
        age,
    ));
    if m.leads {
        let mut lag = Family::new(
            Kind::Gauge,
            "hale_raft_lag_entries",
            "Log entries that a node of the group lacks, as the leader knows.",
        );
        let mut silent = Family::new(
            Kind::Gauge,
            "hale_raft_silent_seconds",
            "Seconds since a node of the group last acknowledged anything.",
        );
        for (node, matched) in &m.matched {
            let lacks = m.last_log.saturating_sub(*matched);
            lag = lag.point([("node", node.short().as_str())], lacks as f64);
            if let Some(since) = m.silent.get(node) {
                silent = silent.point([("node", node.short().as_str())], since.as_secs_f64());
            }
        }
        out.extend([lag, silent]);
    }
    out.push(Family::counter(
        "hale_ledger_refused_total",
        "What peers said to the ledger and may not.",
        m.refused as f64,
    ));
    out.push(g(
        "hale_leases_waiting",
        "Runs that wait for a lease.",
        waiting as f64,
    ));
    out.push(g(
        "hale_join_tokens",
        "Join tokens that still let somebody in.",
        tokens as f64,
    ));
}

fn gossip(cluster: &Shared, out: &mut Vec<Family>) {
    let members = cluster.members.all();
    let count = |state| members.iter().filter(|m| m.state == state).count() as u64;
    out.push(by(
        Kind::Gauge,
        "hale_members",
        "Members by how gossip sees them, this node too.",
        "state",
        &[
            ("alive", count(State::Alive)),
            ("suspect", count(State::Suspect)),
            ("down", count(State::Down)),
        ],
    ));
    let c = cluster.members.counts();
    out.push(by(
        Kind::Counter,
        "hale_gossip_packets_total",
        "Gossip packets, by direction.",
        "direction",
        &[("in", c.packets_in), ("out", c.packets_out)],
    ));
    out.push(Family::counter(
        "hale_gossip_bytes_out_total",
        "Bytes of gossip packets sent.",
        c.bytes_out as f64,
    ));
    out.push(by(
        Kind::Counter,
        "hale_gossip_refused_total",
        "What gossip refused: not from whom it says, off the roster, not signed by whom it is of.",
        "what",
        &[
            ("packet", c.refused_packets),
            ("member", c.refused_members),
            ("identity", c.refused_identities),
            ("profile", c.refused_profiles),
        ],
    ));
}

fn transport(cluster: &Shared, out: &mut Vec<Family>) {
    let endpoint = &cluster.wires.endpoint;
    let c = endpoint.counts();
    out.push(Family::gauge(
        "hale_connections",
        "Open QUIC connections.",
        endpoint.open_connections() as f64,
    ));
    out.push(by(
        Kind::Counter,
        "hale_connections_total",
        "QUIC connections, by what became of them.",
        "what",
        &[
            ("accepted", c.accepted),
            ("dialed", c.dialed),
            ("dial_failed", c.dial_failures),
            ("evicted", c.evicted),
        ],
    ));
    let (joins, streams) = cluster.counters.counts();
    out.push(by(
        Kind::Counter,
        "hale_transport_refused_total",
        "What was refused at the port, by reason.",
        "reason",
        &[
            ("key", c.refused_keys),
            ("handshake", c.refused_handshakes),
            ("full", c.refused_full),
            ("unproven_address", c.retried),
            ("foreign_cluster", c.frames_foreign),
            ("version", c.frames_version),
            ("oversized", c.frames_oversized),
            ("malformed", c.frames_malformed),
            ("unknown_stream", streams),
            ("join", joins),
        ],
    ));
    out.push(by(
        Kind::Counter,
        "hale_frames_total",
        "Frames on streams, by direction.",
        "direction",
        &[("in", c.frames_in), ("out", c.frames_out)],
    ));
    out.push(by(
        Kind::Counter,
        "hale_datagrams_total",
        "Datagrams, by what became of them.",
        "what",
        &[
            ("in", c.datagrams_in),
            ("out", c.datagrams_out),
            ("dropped", c.datagrams_dropped),
        ],
    ));
}

fn questions(cluster: &Shared, out: &mut Vec<Family>) {
    let Some(gateway) = cluster.gateway.get() else {
        return;
    };
    let c = gateway.counts();
    out.push(Family::gauge(
        "hale_actor_sessions",
        "Open sessions for live questions.",
        gateway.sessions() as f64,
    ));
    out.push(by(
        Kind::Counter,
        "hale_questions_total",
        "Live questions between nodes, by what became of them.",
        "what",
        &[
            ("answered_by_others", c.answers_got),
            ("failed", c.asks_failed),
            ("answered_here", c.answers_given),
            ("turned_away", c.turned_away),
            ("unanswered_here", c.unanswered),
        ],
    ));
    out.push(by(
        Kind::Counter,
        "hale_actor_sessions_refused_total",
        "What was refused of sessions for live questions.",
        "reason",
        &[
            ("full", c.refused_full),
            ("wrong_name", c.wrong_names),
            ("frame", c.refused_frames),
            ("wrong_ticket", c.wrong_tickets),
        ],
    ));
}
