//! Nodes in one process, over a transport of channels.

use super::*;
use hale_consensus::{Lane, Peer, PeerTransport, Timeouts, TransportError};
use hale_model::NodeId;
use hale_model::port::Later;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, Weak};
use tempfile::TempDir;

/// Who can be reached. A node that is cut off neither asks nor is asked.
#[derive(Default)]
pub struct Net {
    nodes: Mutex<BTreeMap<NodeId, Weak<Consensus>>>,
    pub cut: Mutex<BTreeSet<NodeId>>,
    /// Who hears what it is asked, and whose answers are lost.
    pub unheard: Mutex<BTreeSet<NodeId>>,
}

pub struct Link(NodeId, Arc<Net>);

impl PeerTransport for Link {
    fn ask(
        &self,
        to: Peer,
        _: Lane,
        frame: Vec<u8>,
        _: Duration,
    ) -> Later<Result<Vec<u8>, TransportError>> {
        let (from, net) = (self.0, Arc::clone(&self.1));
        Box::pin(async move {
            let gone = || TransportError::Unreachable {
                peer: to.node.short(),
                why: "cut".into(),
            };
            {
                let cut = net.cut.lock().unwrap();
                if cut.contains(&from) || cut.contains(&to.node) {
                    return Err(gone());
                }
            }
            let peer = net
                .nodes
                .lock()
                .unwrap()
                .get(&to.node)
                .and_then(Weak::upgrade);
            let Some(peer) = peer else { return Err(gone()) };
            // On a task of its own, as over a network: whoever asks may give up.
            let answer = tokio::spawn(async move { peer.serve(from, &frame).await });
            let answer = answer.await.map_err(|_| TransportError::TimedOut)?;
            match net.unheard.lock().unwrap().contains(&to.node) {
                true => Err(TransportError::Lost {
                    peer: to.node.short(),
                    why: "cut meanwhile".into(),
                }),
                false => Ok(answer),
            }
        })
    }
}

/// Nodes that found, join and vote.
pub struct Cluster {
    pub dirs: Vec<TempDir>,
    pub net: Arc<Net>,
    pub nodes: Vec<Option<Arc<Consensus>>>,
    snapshot_every: u64,
}

impl Cluster {
    pub async fn of(size: usize, snapshot_every: u64) -> Self {
        let dirs = (0..size).map(|_| tempfile::tempdir().unwrap()).collect();
        let (net, nodes) = (Arc::default(), vec![None; size]);
        let mut this = Self {
            dirs,
            net,
            nodes,
            snapshot_every,
        };
        for n in 0..size {
            this.start(n).await;
        }
        this.node(0).found().await.unwrap();
        for n in 1..size as u8 {
            let peer = Peer {
                node: key(n).node_id(),
                addr: String::new(),
            };
            this.node(0).add_learner(peer).await.unwrap();
            let host = HostName::new(format!("host-{n}")).unwrap();
            let entry = signed(EntryKind::Enrolment, 0, &format!("enrol {n}"));
            let enrol = Command::Enrol {
                node: key(n).node_id(),
                host,
                entry,
            };
            written(&this.node(0), enrol).await;
        }
        let voters: Vec<_> = (0..size as u8).map(|n| key(n).node_id()).collect();
        this.node(0).set_voters(&voters).await.unwrap();
        this
    }

    pub fn node(&self, n: usize) -> Arc<Consensus> {
        Arc::clone(self.nodes[n].as_ref().unwrap())
    }

    pub fn chain(&self, n: usize) -> SegmentChain {
        chain(self.dirs[n].path())
    }

    pub async fn start(&mut self, n: usize) {
        let mut config = config(self.dirs[n].path(), n as u8);
        config.snapshot_every = self.snapshot_every;
        config.timeouts = Timeouts {
            write: Duration::from_secs(15),
            ..Timeouts::default()
        };
        let link = Arc::new(Link(key(n as u8).node_id(), Arc::clone(&self.net)));
        let chain = Arc::new(self.chain(n));
        let node = Arc::new(Consensus::start(config, chain, link).await.unwrap());
        let id = node.node();
        self.net
            .nodes
            .lock()
            .unwrap()
            .insert(id, Arc::downgrade(&node));
        self.nodes[n] = Some(node);
    }

    /// One more node, that nobody knows yet.
    pub async fn add(&mut self) -> usize {
        self.dirs.push(tempfile::tempdir().unwrap());
        self.nodes.push(None);
        let n = self.nodes.len() - 1;
        self.start(n).await;
        n
    }

    pub async fn kill(&mut self, n: usize) {
        let node = self.nodes[n].take().unwrap();
        self.net.nodes.lock().unwrap().remove(&node.node());
        let mut node = node;
        // Answers under way hold on to it for a moment.
        let node = loop {
            match Arc::try_unwrap(node) {
                Ok(node) => break node,
                Err(again) => node = again,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        node.stop().await;
    }

    /// The node that leads, once there is one among those that run and are not cut off.
    pub async fn leader(&self) -> usize {
        let mut found = None;
        until("a leader", || {
            let cut = self.net.cut.lock().unwrap().clone();
            // One that was just started may still take itself for the leader of an older term.
            let term_of = |n: &Option<Arc<Consensus>>| {
                let n = n.as_ref().filter(|n| !cut.contains(&n.node()))?;
                let metrics = n.metrics();
                Some((metrics.term, metrics.leads))
            };
            let terms: Vec<_> = self.nodes.iter().map(term_of).collect();
            let newest = terms.iter().flatten().map(|(term, _)| *term).max();
            found = terms
                .iter()
                .position(|t| *t == newest.map(|term| (term, true)));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    pub async fn level(&self) {
        until("all nodes applied the same", || {
            let tips: Vec<_> = self
                .nodes
                .iter()
                .flatten()
                .map(|n| n.read_stale(|l| l.tip()))
                .collect();
            tips.windows(2).all(|w| w[0] == w[1])
        })
        .await;
    }
}
