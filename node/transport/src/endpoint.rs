//! The endpoint: dials, accepts, and keeps the open connections bounded.

use crate::config::{Config, Lane, MAX_DATAGRAM_BYTES, Peer};
use crate::counters::{Counters, Counts, count};
use crate::error::TransportError;
use crate::identity::{ANYONE, Identity, name_of, node_of};
use crate::link::{Link, Reason};
use crate::pool::{Backoff, Pool, Share};
use crate::reset::{PlainIds, ResetKey};
use crate::room::Room;
use crate::stream::Stream;
use crate::windows;
use hale_model::NodeId;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{Connection, EndpointConfig, TokioRuntime, VarInt};
use rustls::pki_types::CertificateDer;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, mpsc};

type Key = (NodeId, Lane);
/// One dial at a time to one address; the others wait for it.
type Gate = Arc<tokio::sync::Mutex<Backoff>>;

/// Of so many addresses of a peer it is remembered when they may be dialed again.
const ADDRESSES: usize = 4;

/// A small message that came from a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it: proven by the handshake of its connection.
    pub from: NodeId,
    /// From where.
    pub addr: SocketAddr,
    /// Its first byte: what it is.
    pub kind: u8,
    /// The rest.
    pub payload: Vec<u8>,
}

/// What peers send us. Streams wait to be taken; datagrams that find no room are dropped.
pub struct Arrivals {
    /// Streams that peers opened.
    pub streams: mpsc::Receiver<Stream>,
    /// Datagrams that peers sent.
    pub datagrams: mpsc::Receiver<Datagram>,
}

/// One UDP port. Cloning shares it; [`Endpoint::close`] ends it.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    quinn: quinn::Endpoint,
    config: Config,
    clients: BTreeMap<Lane, quinn::ClientConfig>,
    counters: Arc<Counters>,
    pool: Mutex<Pool<Key, Link>>,
    gates: Mutex<BTreeMap<Key, VecDeque<(SocketAddr, Gate)>>>,
    /// A connection came about.
    opened: Notify,
    /// How many connections there were.
    links: AtomicUsize,
    started: Instant,
    streams: mpsc::Sender<Stream>,
    datagrams: mpsc::Sender<Datagram>,
}

impl Endpoint {
    /// Listens. Called within a tokio runtime, on which all its tasks run.
    ///
    /// # Errors
    /// If the address can't be listened on, or the key makes no certificate.
    pub fn bind(config: Config) -> Result<(Self, Arrivals), TransportError> {
        let addr = config.bind;
        let bind = |source| TransportError::Bind { addr, source };
        let identity = Identity::new(&config.key)?;
        let counters = Arc::new(Counters::default());
        let transport = Arc::new(windows::for_members(&config.limits));
        let tls = identity.server(&config, &counters)?;
        let tls = QuicServerConfig::try_from(tls).map_err(no_suite)?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
        server
            .transport_config(Arc::new(windows::for_strangers(&config.limits)))
            .max_incoming(config.limits.handshakes * 4);
        let mut clients = BTreeMap::new();
        for lane in Lane::ALL {
            let tls = identity.client(lane, &config, &counters)?;
            let tls = QuicClientConfig::try_from(tls).map_err(no_suite)?;
            let mut client = quinn::ClientConfig::new(Arc::new(tls));
            client.transport_config(transport.clone());
            clients.insert(lane, client);
        }
        let mut reset = EndpointConfig::new(Arc::new(ResetKey::of(&config.key)));
        reset.cid_generator(|| Box::new(PlainIds));
        let socket = UdpSocket::bind(addr).map_err(bind)?;
        let quinn = quinn::Endpoint::new(reset, Some(server), socket, Arc::new(TokioRuntime))
            .map_err(bind)?;
        let (streams, streams_out) = mpsc::channel(config.limits.waiting);
        let (datagrams, datagrams_out) = mpsc::channel(config.limits.waiting);
        let inner = Arc::new(Inner {
            quinn,
            clients,
            counters,
            pool: Mutex::new(Pool::new(config.limits.connections)),
            gates: Mutex::default(),
            opened: Notify::new(),
            links: AtomicUsize::new(0),
            started: Instant::now(),
            streams,
            datagrams,
            config,
        });
        tokio::spawn(accept(inner.clone()));
        let arrivals = Arrivals {
            streams: streams_out,
            datagrams: datagrams_out,
        };
        Ok((Self(inner), arrivals))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        let addr = self.0.config.bind;
        self.0
            .quinn
            .local_addr()
            .map_err(|source| TransportError::Bind { addr, source })
    }

    /// The node's own id.
    pub fn node(&self) -> NodeId {
        self.0.config.key.node_id()
    }

    /// A connection to a member: one that is open, a new one, or one that comes about meanwhile,
    /// wherever the peer is now. Whoever stops waiting does not stop the dial.
    ///
    /// # Errors
    /// If the peer can't be reached, has another key, or was not reached a moment ago.
    pub async fn link(&self, peer: Peer, lane: Lane) -> Result<Link, TransportError> {
        if let Some(link) = self.0.find(peer, lane) {
            return Ok(link);
        }
        let inner = self.0.clone();
        let dialed = tokio::spawn(async move { inner.dial(peer, lane).await }).await;
        dialed.unwrap_or_else(|e| Err(TransportError::Lost(e.to_string())))
    }

    /// A connection to a member that is open already; nothing is dialed.
    pub fn linked(&self, peer: Peer, lane: Lane) -> Option<Link> {
        self.0.find(peer, lane)
    }

    /// Where a node was when it last opened or took a connection that is open still.
    pub fn linked_at(&self, node: NodeId) -> Option<SocketAddr> {
        let newest = self.0.newest(node, Lane::Main);
        newest.map(|l| l.remote_addr())
    }

    /// Sends one frame on a stream of its own and waits for the one that answers it.
    ///
    /// # Errors
    /// [`TransportError::Unreachable`] and [`TransportError::Pausing`] if nothing was sent, since
    /// no connection came about in time; others if no answer came in time or what came is refused.
    pub async fn ask(
        &self,
        peer: Peer,
        lane: Lane,
        frame: &[u8],
        within: Duration,
    ) -> Result<Vec<u8>, TransportError> {
        let by = tokio::time::Instant::now() + within;
        let link = tokio::time::timeout_at(by, self.link(peer, lane)).await;
        let link = link.unwrap_or_else(|_| {
            Err(TransportError::Unreachable {
                lane,
                addr: peer.addr,
                why: "no answer in time".into(),
            })
        })?;
        let asked = async {
            let mut stream = link.open().await?;
            stream.send_frame(frame).await?;
            stream.finish();
            let answer = stream.recv().await?.ok_or(TransportError::NoAnswer)?;
            Ok(answer.into_bytes())
        };
        tokio::time::timeout_at(by, asked)
            .await
            .unwrap_or(Err(TransportError::TimedOut(within)))
    }

    /// Sends a small message that may get lost; `kind` is its first byte.
    ///
    /// # Errors
    /// If it is too large or the peer can't be reached.
    pub async fn datagram(
        &self,
        peer: Peer,
        kind: u8,
        payload: &[u8],
    ) -> Result<(), TransportError> {
        self.link(peer, Lane::Main).await?.datagram(kind, payload)
    }

    /// Dials a node whose key is not known, to join its cluster. The peer is whoever answers:
    /// prove a token over [`Link::export`] before believing anything.
    ///
    /// # Errors
    /// If nobody answers there, or whoever does lets no strangers in.
    pub async fn join(&self, addr: SocketAddr) -> Result<Link, TransportError> {
        let link = self.0.handshake(addr, ANYONE, Lane::Join).await?;
        self.0.adopt(link.clone());
        Ok(link)
    }

    /// Closes connections to whoever is on the roster no more. Called when the roster changes.
    pub fn enforce_roster(&self) {
        let roster = &self.0.config.trust.roster;
        let gone = self
            .0
            .pool()
            .take_if(|(node, lane), _| *lane != Lane::Join && !roster(node));
        gone.iter().for_each(|l| l.close(Reason::NotOnRoster));
        self.0.gates().retain(|(node, _), _| roster(node));
    }

    /// Closes all connections to a node that is said to be down and does not answer on them; says
    /// whether it does on none. The next dial starts without a pause.
    pub async fn forget(&self, node: &NodeId, patience: Duration) -> bool {
        self.0.gates().retain(|(n, _), _| n != node);
        let of_node = self.0.pool().filtered(|(n, _)| n == node);
        // What is sent is acknowledged by the peer's QUIC, whatever the peer makes of it.
        let asked: Vec<(Link, u64)> = of_node
            .into_iter()
            .map(|l| (l.clone(), l.probe()))
            .collect();
        tokio::time::sleep(patience).await;
        let mut answers = false;
        for (link, heard) in asked {
            match link.heard() > heard {
                true => answers = true,
                false => link.close(Reason::Stopping),
            }
        }
        self.0.pool().sweep();
        !answers
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.0.pool().len()
    }

    /// What was let in and what was refused.
    pub fn counts(&self) -> Counts {
        self.0.counters.counts()
    }

    /// Closes all connections and the port, and waits, at most a second, until peers were told.
    pub async fn close(&self) {
        self.0
            .quinn
            .close(VarInt::from_u32(Reason::Stopping as u32), b"stopping");
        let _ = tokio::time::timeout(Duration::from_secs(1), self.0.quinn.wait_idle()).await;
    }
}

fn no_suite(e: impl std::error::Error) -> TransportError {
    TransportError::Identity(e.to_string())
}

impl Inner {
    fn pool(&self) -> MutexGuard<'_, Pool<Key, Link>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gates(&self) -> MutexGuard<'_, BTreeMap<Key, VecDeque<(SocketAddr, Gate)>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The gate of one address: where a peer was before keeps nobody from where it is now.
    fn gate(&self, peer: Peer, lane: Lane) -> Gate {
        let mut gates = self.gates();
        let known = gates.entry((peer.node, lane)).or_default();
        if let Some((_, gate)) = known.iter().find(|(addr, _)| *addr == peer.addr) {
            return gate.clone();
        }
        if known.len() >= ADDRESSES {
            known.pop_front();
        }
        let gate = Gate::default();
        known.push_back((peer.addr, gate.clone()));
        gate
    }

    /// An open connection to where the peer is now.
    fn find(&self, peer: Peer, lane: Lane) -> Option<Link> {
        self.pool()
            .find((peer.node, lane), |l| l.remote_addr() == peer.addr)
    }

    async fn dial(self: Arc<Self>, peer: Peer, lane: Lane) -> Result<Link, TransportError> {
        let gate = self.gate(peer, lane);
        let before = self.newest(peer.node, lane).map(|l| l.number);
        let mut backoff = gate.lock().await;
        if let Some(link) = self.find(peer, lane) {
            return Ok(link);
        }
        let later = |l: &Link| Some(l.number) > before;
        if let Some(link) = self.newest(peer.node, lane).filter(later) {
            return Ok(link);
        }
        if let Some(left) = backoff.left(self.started.elapsed()) {
            return Err(TransportError::Pausing {
                addr: peer.addr,
                left,
            });
        }
        let name = name_of(&peer.node);
        let dialed = tokio::select! {
            // A handshake that is done is known to the peer: it is not given up for another.
            biased;
            dialed = self.handshake(peer.addr, &name, lane) => dialed,
            link = self.opened_by(peer.node, lane, before) => {
                backoff.succeeded();
                return Ok(link);
            }
        };
        match dialed {
            Ok(link) => {
                backoff.succeeded();
                self.adopt(link.clone());
                Ok(link)
            }
            Err(e) => {
                let limits = &self.config.limits;
                let now = self.started.elapsed();
                backoff.failed(now, limits.first_pause, limits.longest_pause, jitter());
                Err(e)
            }
        }
    }

    fn newest(&self, node: NodeId, lane: Lane) -> Option<Link> {
        self.pool().newest((node, lane))
    }

    /// A connection that came about after the one that was the newest.
    async fn opened_by(&self, node: NodeId, lane: Lane, before: Option<usize>) -> Link {
        loop {
            let opened = self.opened.notified();
            match self.newest(node, lane) {
                Some(link) if Some(link.number) > before => return link,
                _ => opened.await,
            }
        }
    }

    async fn handshake(
        &self,
        addr: SocketAddr,
        name: &str,
        lane: Lane,
    ) -> Result<Link, TransportError> {
        let failed = |why: String| {
            count(&self.counters.dial_failures);
            TransportError::Unreachable { lane, addr, why }
        };
        let Some(client) = self.clients.get(&lane) else {
            return Err(failed("there is no such lane".into()));
        };
        let connecting = self
            .quinn
            .connect_with(client.clone(), addr, name)
            .map_err(|e| failed(e.to_string()))?;
        let connection = tokio::time::timeout(self.config.limits.handshake, connecting)
            .await
            .map_err(|_| failed("no answer in time".into()))?
            .map_err(|e| failed(e.to_string()))?;
        let peer = peer_of(&connection).ok_or_else(|| failed("it showed no certificate".into()))?;
        count(&self.counters.dialed);
        Ok(self.new_link(connection, peer, lane, self.config.limits.frame_bytes))
    }

    fn new_link(
        &self,
        connection: Connection,
        peer: NodeId,
        lane: Lane,
        frame_limit: usize,
    ) -> Link {
        Link {
            connection,
            number: 0,
            peer,
            lane,
            // Who joins can't know the cluster's number yet.
            cluster: if lane == Lane::Join {
                0
            } else {
                self.config.cluster
            },
            frame_limit,
            send_limit: self.config.limits.frame_bytes,
            large: Arc::new(Semaphore::new(1)),
            counters: self.counters.clone(),
            streams: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Puts a connection into the pool and hands on what comes over it.
    fn adopt(self: &Arc<Self>, link: Link) {
        let limits = &self.config.limits;
        let key = (link.peer, link.lane);
        let own = |k: &Key| *k == key;
        let strangers = |k: &Key| k.1 == Lane::Join;
        let mut shares: Vec<Share<'_, Key>> = vec![(&own, limits.of_one_peer)];
        if link.lane == Lane::Join {
            shares.push((&strangers, limits.of_strangers));
        }
        let (link, evicted) = {
            let mut pool = self.pool();
            let number = self.links.fetch_add(1, Ordering::Relaxed);
            let link = Link { number, ..link };
            let evicted = pool.insert(key, link.clone(), &shares);
            (link, evicted)
        };
        for old in evicted {
            count(&self.counters.evicted);
            old.close(Reason::MakingRoom);
        }
        self.opened.notify_waiters();
        let (streams, datagrams) = (self.streams.clone(), self.datagrams.clone());
        tokio::spawn(hand_on_datagrams(link.clone(), datagrams));
        let inner = self.clone();
        tokio::spawn(async move {
            hand_on_streams(link, streams).await;
            inner.pool().sweep();
        });
    }

    /// Finishes a stranger's handshake, and keeps the connection if it may stay.
    async fn greet(self: Arc<Self>, incoming: quinn::Incoming) {
        let limit = self.config.limits.handshake;
        let greeted = tokio::time::timeout(limit, async { incoming.await }).await;
        let Ok(Ok(connection)) = greeted else {
            count(&self.counters.refused_handshakes);
            return;
        };
        let (peer, lane) = (peer_of(&connection), self.lane_of(&connection));
        let (Some(peer), Some(lane)) = (peer, lane) else {
            count(&self.counters.refused_handshakes);
            connection.close(VarInt::from_u32(Reason::NotOnRoster as u32), b"");
            return;
        };
        let limits = &self.config.limits;
        let frame_limit = match lane {
            Lane::Join => limits.stranger_frame_bytes,
            Lane::Main | Lane::Bulk => limits.frame_bytes,
        };
        let link = self.new_link(connection, peer, lane, frame_limit);
        // While strangers may join, the handshake alone does not tell a member from one.
        if lane != Lane::Join && !(self.config.trust.roster)(&peer) {
            count(&self.counters.refused_keys);
            return link.close(Reason::NotOnRoster);
        }
        if lane != Lane::Join {
            windows::open(&link.connection, limits);
        }
        count(&self.counters.accepted);
        self.adopt(link);
    }

    fn lane_of(&self, connection: &Connection) -> Option<Lane> {
        let data = connection
            .handshake_data()?
            .downcast::<HandshakeData>()
            .ok()?;
        Lane::of_alpn(&data.protocol?, self.config.cluster)
    }
}

async fn accept(inner: Arc<Inner>) {
    let room = Room::new(inner.config.limits.handshakes);
    while let Some(incoming) = inner.quinn.accept().await {
        let from = incoming.remote_address().ip();
        // Under load, strangers prove their address before we spend anything on them.
        if room.is_busy(from) && !incoming.remote_address_validated() && incoming.may_retry() {
            count(&inner.counters.retried);
            let _ = incoming.retry();
            continue;
        }
        let Some(turn) = room.enter(from) else {
            count(&inner.counters.refused_full);
            incoming.refuse();
            continue;
        };
        let greeting = inner.clone().greet(incoming);
        tokio::spawn(async move {
            greeting.await;
            drop(turn);
        });
    }
}

/// While nobody takes the streams, the peer runs into its limit and waits.
async fn hand_on_streams(link: Link, to: mpsc::Sender<Stream>) {
    while let Ok((send, recv)) = link.connection.accept_bi().await {
        if to
            .send(Stream::accepted(link.clone(), send, recv))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn hand_on_datagrams(link: Link, to: mpsc::Sender<Datagram>) {
    while let Ok(bytes) = link.connection.read_datagram().await {
        let taken = match bytes.split_first() {
            Some((kind, payload))
                if link.lane == Lane::Main && bytes.len() <= MAX_DATAGRAM_BYTES =>
            {
                let (from, addr) = (link.peer, link.remote_addr());
                to.try_send(Datagram {
                    from,
                    addr,
                    kind: *kind,
                    payload: payload.to_vec(),
                })
                .is_ok()
            }
            _ => false,
        };
        count(if taken {
            &link.counters.datagrams_in
        } else {
            &link.counters.datagrams_dropped
        });
    }
}

fn peer_of(connection: &Connection) -> Option<NodeId> {
    let shown = connection
        .peer_identity()?
        .downcast::<Vec<CertificateDer<'static>>>()
        .ok()?;
    node_of(shown.first()?).ok()
}

/// A fresh `RandomState` is seeded from the system's randomness.
fn jitter() -> f64 {
    (RandomState::new().build_hasher().finish() % 1024) as f64 / 1024.0
}
