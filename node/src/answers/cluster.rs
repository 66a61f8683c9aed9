//! The answers to what operators ask of the cluster, as far as one node alone can give them.

use super::Inner;
use hale_api::{
    Consistency, LeaderView, LedgerStatus, MemberState, MemberView, Problem, Seat, VoterView,
    VotersView,
};
use hale_consensus::Metrics;
use hale_model::{HostName, NodeId};
use std::collections::BTreeMap;

/// The tag that says where a host stands.
const ZONE: &str = "zone";

/// What only a cluster can do.
pub(crate) fn alone() -> Problem {
    Problem::unavailable(
        "this node is not part of a cluster yet",
        "hale members shows who is",
    )
}

impl Inner {
    pub(crate) async fn members(&self, fresh: Consistency) -> Result<Vec<MemberView>, Problem> {
        let roster: Vec<(NodeId, HostName)> = self
            .ledger(fresh, |l| {
                l.roster().map(|(n, h)| (*n, h.clone())).collect()
            })
            .await?;
        let metrics = self.consensus.metrics();
        let tip = self.consensus.read_stale(hale_consensus::Ledger::tip);
        let tags = self.tags().await;
        let listen = self.config.node.listen;
        let view = |(node, host): (NodeId, HostName)| {
            let is_self = node == self.key.node_id();
            let tags = match is_self {
                true => tags.clone(),
                false => BTreeMap::new(),
            };
            let seated = metrics.voters.iter().chain(&metrics.learners);
            let addr = seated.clone().find(|p| p.node == node);
            MemberView {
                node,
                host,
                addr: addr.map(|p| p.addr.clone()).filter(|a| !a.is_empty()),
                // Port 0 stands for one that only the listener knows.
                http: (is_self && listen.port() != 0).then(|| listen.to_string()),
                state: match is_self {
                    true => MemberState::Alive,
                    false => MemberState::Unknown,
                },
                incarnation: 0,
                zone: tags.get(ZONE).cloned(),
                version: is_self.then(|| env!("CARGO_PKG_VERSION").to_owned()),
                tags,
                seat: seat(&metrics, node),
                chain_entries: is_self.then_some(tip.entries),
                chain_tip: is_self.then_some(tip.hash),
                is_self,
                removed: false,
            }
        };
        let mut members: Vec<MemberView> = roster.into_iter().map(view).collect();
        members.sort_by(|a, b| (&a.host, a.node).cmp(&(&b.host, b.node)));
        Ok(members)
    }

    pub(crate) fn voters(&self) -> VotersView {
        let metrics = self.consensus.metrics();
        let hosts: BTreeMap<NodeId, HostName> = self
            .consensus
            .read_stale(|l| l.roster().map(|(n, h)| (*n, h.clone())).collect());
        let view = |peer: &hale_consensus::Peer| {
            let is_self = peer.node == self.key.node_id();
            let zone = self.config.telemetry.tags.get(ZONE);
            VoterView {
                node: peer.node,
                host: hosts.get(&peer.node).cloned(),
                addr: peer.addr.clone(),
                seat: seat(&metrics, peer.node),
                zone: zone.filter(|_| is_self).cloned(),
                matched: (is_self && metrics.leads).then_some(metrics.last_log),
                lag: (is_self && metrics.leads).then_some(0),
                silent_ms: (is_self && metrics.leads).then_some(0),
            }
        };
        let confirmed = self.consensus.confirmed_ago();
        let age = confirmed.unwrap_or_else(|| self.started.elapsed());
        VotersView {
            term: metrics.term,
            leader: metrics.leader.as_ref().map(|p| p.node),
            commit: metrics.applied,
            last_log: metrics.last_log,
            voters: metrics
                .voters
                .iter()
                .chain(&metrics.learners)
                .map(view)
                .collect(),
            quorum: metrics.voters.len() as u64 / 2 + 1,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            plan: None,
        }
    }

    pub(crate) fn leader(&self) -> LeaderView {
        let metrics = self.consensus.metrics();
        let leader = metrics.leader.map(|p| p.node);
        let host = |node| {
            self.consensus.read_stale(|l| {
                let found = l.roster().find(|(n, _)| **n == node);
                found.map(|(_, host)| host.clone())
            })
        };
        let is_self = leader == Some(self.key.node_id());
        let listen = self.config.node.listen;
        LeaderView {
            leader,
            host: leader.and_then(host),
            http: (is_self && listen.port() != 0).then(|| listen.to_string()),
            term: metrics.term,
            is_self,
        }
    }

    /// The ledger as this node sees it.
    pub(super) async fn ledger_status(&self) -> LedgerStatus {
        let metrics = self.consensus.metrics();
        let (tip, known) = self
            .consensus
            .read_stale(|l| (l.tip(), l.roster().count() as u64));
        LedgerStatus {
            role: role(&metrics, self.key.node_id()).to_owned(),
            leader: metrics.leader.map(|p| p.node),
            term: metrics.term,
            applied: metrics.applied,
            voters: metrics.voters.iter().map(|p| p.node).collect(),
            learners: metrics.learners.iter().map(|p| p.node).collect(),
            entries: tip.entries,
            tip: tip.hash,
            members_alive: 1,
            members_known: known,
            zone: self.tags().await.remove(ZONE),
        }
    }

    /// The host's tags: those of the configuration and those that the sensors found.
    pub(super) async fn tags(&self) -> BTreeMap<String, String> {
        let tags = self
            .slots
            .telemetry
            .ask(super::ASK, hale_telemetry::Message::Tags)
            .await;
        tags.unwrap_or_else(|| self.config.telemetry.tags.clone())
    }
}

fn role(metrics: &Metrics, me: NodeId) -> &'static str {
    match &metrics.leader {
        _ if metrics.leads => "leader",
        None if metrics.voters.is_empty() => "none",
        None => "candidate",
        Some(_) if metrics.voters.iter().any(|p| p.node == me) => "follower",
        Some(_) => "learner",
    }
}

fn seat(metrics: &Metrics, node: NodeId) -> Seat {
    let sits = |peers: &[hale_consensus::Peer]| peers.iter().any(|p| p.node == node);
    if metrics.leader.as_ref().is_some_and(|l| l.node == node) {
        Seat::Leader
    } else if sits(&metrics.voters) {
        Seat::Voter
    } else if sits(&metrics.learners) {
        Seat::Learner
    } else {
        Seat::None
    }
}
