//! This node among others: one QUIC port, gossip over it, strangers let in by it, and the ledger's
//! words carried by it. It runs on threads of its own, and the ledger's group with it, so that a
//! busy node still answers heartbeats.

pub(crate) mod book;
pub(crate) mod gossip;
pub(crate) mod join;
mod leaving;
pub(crate) mod members;
pub(crate) mod remote;
mod serving;
mod tending;
mod wires;

use crate::identity::{DataDir, IdentityError};
use book::{Book, Settings, own_ip};
use gossip::Gossip;
use hale_api::Internal;
use hale_consensus::Consensus;
use hale_gateway::{Gateway, GatewayError, Limits as GatewayLimits, Question};
use hale_membership::{Membership, MembershipError, Profile, Tuning};
use hale_model::port::port;
use hale_model::{Digest, HostName, Keypair, NodeId};
use hale_transport::{Arrivals, Config, Endpoint, Limits, TransportError, Trust};
use members::Members;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};
use wires::Wires;

/// Where a node of a cluster listens unless told otherwise.
pub(crate) const DEFAULT_BIND: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7118);
/// A node that is said to be down has so long to answer on the connections that are open.
const SILENT: Duration = Duration::from_secs(1);
/// Strangers that are considered at a time.
const STRANGERS: usize = 8;

/// Why this node can't take part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The port.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// What it says of itself.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Live questions.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The system gives no threads.
    #[error("the cluster's threads can't be started")]
    Runtime(#[source] std::io::Error),
}

/// What was refused, for metrics.
#[derive(Default)]
pub(crate) struct Refusals {
    joins: AtomicU64,
    streams: AtomicU64,
}

impl Refusals {
    fn rejected_joins(&self) {
        self.joins.fetch_add(1, Ordering::Relaxed);
    }

    fn unknown_stream(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// Strangers that were not let in, and streams of a kind that is not known.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (get(&self.joins), get(&self.streams))
    }
}

/// What the parts of it share.
pub(crate) struct Shared {
    pub(crate) key: Keypair,
    pub(crate) host: HostName,
    /// The cluster's number.
    pub(crate) cluster: u64,
    /// Where others reach this node.
    pub(crate) advertised: SocketAddr,
    pub(crate) settings: Settings,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) wires: Wires,
    pub(crate) members: Arc<Members>,
    pub(crate) gossip: Gossip,
    pub(crate) counters: Refusals,
    strangers: Semaphore,
    /// The threads for what others ask of this node's API.
    pub(crate) others: Handle,
    /// What answers forwarded requests, once there is an API.
    pub(crate) internal: OnceLock<Internal>,
    /// Live questions between nodes, as actors' calls.
    pub(crate) gateway: OnceLock<Gateway>,
    /// Told once this node has left: it is to stop.
    pub(crate) left: watch::Sender<bool>,
}

/// Threads for the port, gossip and the ledger's group, which speaks through the port. What computes
/// for long, or answers people, runs elsewhere. However they are let go of, nobody waits for them: a
/// runtime must not be dropped where waiting is not allowed.
pub(crate) struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    fn start() -> Result<Self, ClusterError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(hale_consensus::threads())
            .thread_name("hale-net")
            .enable_all()
            .build()
            .map_err(ClusterError::Runtime)?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The port is open, and nothing is answered yet.
pub(crate) struct Opened {
    threads: Threads,
    endpoint: Endpoint,
    arrivals: Arrivals,
    wires: Wires,
    advertised: SocketAddr,
    cluster: u64,
    /// The ledger that says who is trusted, once it runs.
    consensus: Arc<OnceLock<Weak<Consensus>>>,
}

/// What a node says of itself to all others.
pub(crate) struct Telling {
    pub(crate) host: HostName,
    pub(crate) zone: String,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// A node that takes part. Dropping it is what a crash is.
pub(crate) struct Cluster {
    pub(crate) shared: Arc<Shared>,
    /// Held for as long as it takes part.
    threads: Threads,
}

impl Opened {
    /// Opens the port. Nobody is trusted before the ledger runs.
    pub(crate) fn open(
        data: &DataDir,
        key: &Keypair,
        cluster: u64,
        settings: &Settings,
    ) -> Result<Self, ClusterError> {
        let threads = Threads::start()?;
        let consensus: Arc<OnceLock<Weak<Consensus>>> = Arc::default();
        let asked = Arc::clone(&consensus);
        let joins = Arc::clone(&consensus);
        let bind = settings.bind.unwrap_or(DEFAULT_BIND);
        let config = Config {
            key: key.clone(),
            cluster,
            bind,
            trust: Trust {
                roster: Arc::new(move |node| is_enrolled(&asked, node)),
                // Also after the last token ran out, so that who comes with it is told so.
                joins: Arc::new(move || {
                    let consensus = joins.get().and_then(Weak::upgrade);
                    consensus.is_some_and(|c| c.read_stale(|l| l.tokens().next().is_some()))
                }),
            },
            limits: Limits::default(),
        };
        let (endpoint, arrivals) = {
            let _on = threads.handle.enter();
            Endpoint::bind(config)?
        };
        let book = Arc::new(Book::open(data.path()));
        let bound = endpoint.local_addr()?;
        let towards = book.all().first().map(|(_, addr)| *addr);
        let advertised = match settings.advertise {
            Some(addr) if addr.port() == 0 => SocketAddr::new(addr.ip(), bound.port()),
            Some(addr) => addr,
            None if bound.ip().is_unspecified() => SocketAddr::new(own_ip(towards), bound.port()),
            None => bound,
        };
        let wires = Wires {
            endpoint: endpoint.clone(),
            members: Arc::default(),
            book,
        };
        Ok(Self {
            threads,
            endpoint,
            arrivals,
            wires,
            advertised,
            cluster,
            consensus,
        })
    }

    /// How the ledger reaches its peers.
    pub(crate) fn wires(&self) -> Arc<Wires> {
        Arc::new(self.wires.clone())
    }

    /// On which threads the ledger's group is to run.
    pub(crate) fn threads(&self) -> Handle {
        self.threads.handle.clone()
    }

    /// Where others reach this node.
    pub(crate) fn advertised(&self) -> SocketAddr {
        self.advertised
    }

    /// Begins to answer and to gossip. What others ask of the API runs on the caller's threads.
    pub(crate) fn run(
        self,
        key: &Keypair,
        settings: Settings,
        telling: &Telling,
        consensus: &Arc<Consensus>,
        life: u64,
    ) -> Result<Cluster, ClusterError> {
        // It is set once; nobody is trusted before.
        let _ = self.consensus.set(Arc::downgrade(consensus));
        let asked = Arc::clone(&self.consensus);
        let membership_settings = hale_membership::Settings {
            key: key.clone(),
            addr: self.advertised,
            started_ms: life,
            seed: life ^ key.node_id().raft_id(),
            admit: Arc::new(move |node| is_enrolled(&asked, node)),
            tuning: Tuning::default(),
        };
        let membership = membership(membership_settings, telling, consensus)?;
        let (gossip, asks) = Gossip::channel();
        let members = Arc::clone(&self.wires.members);
        let shared = Arc::new(Shared {
            key: key.clone(),
            host: telling.host.clone(),
            cluster: self.cluster,
            advertised: self.advertised,
            settings,
            consensus: Arc::clone(consensus),
            wires: self.wires.clone(),
            members: Arc::clone(&members),
            gossip: gossip.clone(),
            counters: Refusals::default(),
            strangers: Semaphore::new(STRANGERS),
            others: Handle::current(),
            internal: OnceLock::new(),
            gateway: OnceLock::new(),
            left: watch::Sender::new(false),
        });
        let (endpoint, down) = (self.endpoint.clone(), Arc::downgrade(&shared));
        let shell = gossip::Shell {
            wires: self.wires,
            members,
            cluster: self.cluster,
            gossip,
            dials: gossip::dials(),
            forget: Arc::new(move |node| {
                let (endpoint, down, node) = (endpoint.clone(), down.clone(), *node);
                // Gossip is a hint: it can be wrong, and a member can lie. What the ledger's group
                // says must not be cut off by it.
                tokio::spawn(async move {
                    let is_gone = endpoint.forget(&node, SILENT).await;
                    let shared = down.upgrade().filter(|_| is_gone);
                    if let Some(gateway) = shared.as_ref().and_then(|s| s.gateway.get()) {
                        gateway.forget(&node);
                    }
                });
            }),
        };
        let on = &self.threads.handle;
        on.spawn(gossip::run(membership, asks, shell));
        let Arrivals { streams, datagrams } = self.arrivals;
        on.spawn(take_packets(datagrams, shared.gossip.clone()));
        on.spawn(serving::run(streams, Arc::downgrade(&shared)));
        tending::spawn(on, &shared, telling);
        Ok(Cluster {
            shared,
            threads: self.threads,
        })
    }
}

fn is_enrolled(consensus: &OnceLock<Weak<Consensus>>, node: &NodeId) -> bool {
    let consensus = consensus.get().and_then(Weak::upgrade);
    consensus.is_some_and(|c| c.read_stale(|l| l.is_enrolled(node)))
}

/// A membership that says of itself what fits a packet: tags are left out rather than the node.
fn membership(
    settings: hale_membership::Settings,
    telling: &Telling,
    consensus: &Consensus,
) -> Result<Membership, MembershipError> {
    let mut profile = telling.profile(consensus);
    match Membership::new(settings.clone(), &profile) {
        Err(MembershipError::ProfileTooLarge { bytes }) => {
            tracing::warn!(
                bytes,
                "the host's tags are too large for gossip: the others are told none of them"
            );
            profile.tags.clear();
            Membership::new(settings, &profile)
        }
        made => made,
    }
}

impl Telling {
    pub(crate) fn profile(&self, consensus: &Consensus) -> Profile {
        let tip = consensus.read_stale(hale_consensus::Ledger::tip);
        Profile {
            host: self.host.clone(),
            zone: self.zone.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            http: self
                .http
                .filter(|a| !a.ip().is_loopback())
                .map(|a| a.to_string()),
            tags: self.tags.clone(),
            chain: consensus.is_seated().then_some(hale_membership::Tip {
                size: tip.entries,
                hash: tip.hash,
            }),
        }
    }
}

async fn take_packets(mut datagrams: mpsc::Receiver<hale_transport::Datagram>, gossip: Gossip) {
    while let Some(datagram) = datagrams.recv().await {
        if datagram.kind == gossip::PACKET {
            gossip.packet(datagram.from, datagram.payload);
        }
    }
}

impl Cluster {
    /// From now on what others ask of this node's API is answered: whole requests over a stream,
    /// live questions as actors' calls.
    pub(crate) async fn answer_with(&self, internal: Internal) -> Result<(), ClusterError> {
        // Both are set once, here.
        let _ = self.shared.internal.set(internal.clone());
        let cookie = Digest::of_parts(&[b"hale-gateway-v1\0", &self.shared.cluster.to_be_bytes()]);
        let answer = port(move |question: Question| {
            let internal = internal.clone();
            async move { remote::answer(&internal, &question.bytes).await }
        });
        let me = self.shared.key.node_id();
        let gateway = Gateway::start(me, *cookie.as_bytes(), answer, GatewayLimits::default());
        let _ = self.shared.gateway.set(gateway.await?);
        Ok(())
    }

    /// Ends all connections; what was said last is sent. The threads are to be kept until the ledger
    /// has stopped, too.
    pub(crate) async fn stop(self) -> Threads {
        if let Some(gateway) = self.shared.gateway.get() {
            gateway.stop().await;
        }
        let endpoint = self.shared.wires.endpoint.clone();
        self.shared.wires.book.note(
            self.shared
                .members
                .all()
                .into_iter()
                .map(|m| (m.contact.node, m.contact.addr)),
            |node| self.shared.consensus.read_stale(|l| l.is_enrolled(node)),
        );
        endpoint.close().await;
        self.threads
    }
}
