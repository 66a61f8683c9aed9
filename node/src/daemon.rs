//! `hale node`: opens what is on disk, founds the cluster of one where there is none, starts the
//! actors and the API, and stops them in order.

use crate::answers::{Inner, now};
use crate::backend::NodeBackend;
use crate::cluster::book::Settings;
use crate::cluster::join::{self, JoinError, Joining};
use crate::cluster::{self, Cluster, ClusterError, Opened, Telling};
use crate::config::{Config, ConfigError};
use crate::identity::{self, DataDir, IdentityError};
use crate::library::Library;
use crate::memory::Memory;
use crate::pipeline::{self, Pipeline, PipelineError};
use crate::store::{HostStore, StoreError};
use hale_api::{ApiConfig, Feed, Internal, ServerError, Token};
use hale_audit::archive::Options;
use hale_consensus::{Consensus, ConsensusError, NoPeers, PeerTransport, SegmentChain};
use hale_membership::join::{JoinToken, NotAToken};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What the command line says beyond the configuration.
#[derive(Debug, Default, Clone)]
pub(crate) struct Overrides {
    pub(crate) config: Option<PathBuf>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) interval: Option<hale_telemetry::Span>,
    pub(crate) host: Option<String>,
    pub(crate) bind: Option<SocketAddr>,
    pub(crate) advertise: Option<SocketAddr>,
    pub(crate) zone: Option<String>,
    pub(crate) seeds: Vec<String>,
}

/// Why the node does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The host's own state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The chain.
    #[error("the audit chain can't be used")]
    Chain(#[source] std::io::Error),
    /// The ledger.
    #[error("the ledger does not start")]
    Consensus(#[from] ConsensusError),
    /// An actor.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The API.
    #[error(transparent)]
    Api(#[from] ServerError),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Joining it.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The token.
    #[error("the join token in {path} can't be used")]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It belongs to one already.
    #[error(
        "{0} belongs to a cluster already: `hale node` runs it, `hale join` on another host joins \
         it; a new cluster needs another --data-dir"
    )]
    Founded(PathBuf),
    /// It joined, and what it was given is not there any more.
    #[error(
        "{0} belongs to a cluster that this node joined, but holds no ledger of it: put the \
         directory back as it was, or move it away and join as a new node with `hale join`"
    )]
    Lost(PathBuf),
    /// It was removed.
    #[error(
        "this node left its cluster or was removed from it, and can't come back with the same key: \
         move {0} away and join as a new node with `hale join`; keep it for `hale audit verify`"
    )]
    Removed(PathBuf),
    /// The signal handlers.
    #[error("signals can't be handled")]
    Signals(#[source] std::io::Error),
}

pub(crate) fn machine_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The configuration with what the command line says, settled.
pub(crate) fn configured(overrides: Overrides) -> Result<Config, NodeError> {
    let mut config = match &overrides.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    config.node.data_dir = overrides.data_dir.or(config.node.data_dir);
    if let Some(listen) = overrides.listen {
        config.node.listen = listen;
    }
    if let Some(interval) = overrides.interval {
        config.telemetry.interval = interval;
    }
    let cluster = &mut config.cluster;
    cluster.bind = overrides.bind.or(cluster.bind);
    cluster.advertise = overrides.advertise.or(cluster.advertise);
    cluster.zone = overrides.zone.or(cluster.zone.take());
    if !overrides.seeds.is_empty() {
        cluster.seeds = overrides.seeds;
    }
    let machine = match overrides.host {
        Some(name) => {
            config.node.host = None;
            config.telemetry.host = None;
            name
        }
        None => machine_name(),
    };
    Ok(config.settled(&machine)?)
}

/// Runs the node until it is told to stop, or has left its cluster. A node that is of no cluster
/// joins one where it has seeds, and else founds one of its own.
///
/// # Errors
/// If anything it needs can't be had; nothing is left running.
pub(crate) async fn run(config: Config, token: Option<JoinToken>) -> Result<(), NodeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(NodeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(NodeError::Signals)?;
    let starting = Node::start(config, token);
    let node = tokio::select! {
        node = starting => node?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping"),
        _ = interrupt.recv() => tracing::info!("stopping"),
        () = node.left() => tracing::info!("this node has left its cluster; stopping"),
    }
    node.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// What founding a cluster made.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Founding {
    pub(crate) cluster: String,
    pub(crate) node: hale_model::NodeId,
    pub(crate) host: hale_model::HostName,
    pub(crate) data_dir: PathBuf,
    pub(crate) bind: SocketAddr,
    pub(crate) advertise: SocketAddr,
}

/// Founds a cluster of this one node, which is then run with `hale node`.
///
/// # Errors
/// If the data directory belongs to a cluster already, or can't be used.
pub(crate) async fn init(config: Config) -> Result<Founding, NodeError> {
    let (data, dir, key, host) = prepared(&config)?;
    let mut settings = settings(&config, &data)?;
    let bind = *settings.bind.get_or_insert(cluster::DEFAULT_BIND);
    let advertise = advertised(&settings, bind)?;
    let chain = SegmentChain::open(&data.join("chain"), Options::default());
    let chain = Arc::new(chain.map_err(NodeError::Chain)?);
    let id = data.found_cluster()?;
    let mut ledger = ledger_config(&config, &data, &key, &host, id);
    ledger.addr = advertise.to_string();
    let consensus = Consensus::start(ledger, chain, Arc::new(NoPeers)).await?;
    let founded = match consensus.is_founded() {
        true => Err(NodeError::Founded(dir.clone())),
        false => consensus.found().await.map_err(NodeError::from),
    };
    consensus.stop().await;
    founded?;
    settings.write(data.path())?;
    data.token()?;
    Ok(Founding {
        cluster: format!("{id:016x}"),
        node: key.node_id(),
        host,
        data_dir: dir,
        bind,
        advertise,
    })
}

/// The address that is told to others; the port must be free.
pub(crate) fn advertised(settings: &Settings, bind: SocketAddr) -> Result<SocketAddr, NodeError> {
    let taken = |source| {
        let source = hale_transport::TransportError::Bind { addr: bind, source };
        NodeError::Cluster(source.into())
    };
    let socket = std::net::UdpSocket::bind(bind).map_err(taken)?;
    let bound = socket.local_addr().map_err(taken)?;
    Ok(match settings.advertise {
        Some(addr) => addr,
        None if bound.ip().is_unspecified() => {
            SocketAddr::new(cluster::book::own_ip(None), bound.port())
        }
        None => bound,
    })
}

/// The data directory, locked, with who runs in it.
fn prepared(
    config: &Config,
) -> Result<(DataDir, PathBuf, hale_model::Keypair, hale_model::HostName), NodeError> {
    let dir = config
        .node
        .data_dir
        .clone()
        .unwrap_or_else(identity::default_data_dir);
    let data = DataDir::open(&dir)?;
    let key = data.key()?;
    let host = config
        .telemetry
        .host
        .clone()
        .ok_or_else(|| ConfigError::Field {
            field: "node.host".into(),
            why: "it is not set".into(),
        })?;
    Ok((data, dir, key, host))
}

/// How the node takes part: as the configuration says, else as was settled when it joined.
fn settings(config: &Config, data: &DataDir) -> Result<Settings, NodeError> {
    let settled = Settings::read(data.path())?;
    let wanted = &config.cluster;
    Ok(Settings {
        bind: wanted.bind.or(settled.bind),
        advertise: wanted.advertise.or(settled.advertise),
        seeds: if wanted.seeds.is_empty() {
            settled.seeds
        } else {
            wanted.seeds.clone()
        },
        zone: wanted.zone.clone().or(settled.zone),
    })
}

fn ledger_config(
    config: &Config,
    data: &DataDir,
    key: &hale_model::Keypair,
    host: &hale_model::HostName,
    cluster: u64,
) -> hale_consensus::Config {
    let mut ledger =
        hale_consensus::Config::new(data.join("ledger"), key.clone(), cluster, host.clone());
    ledger.seats.max_voters = config.cluster.voters;
    ledger
}

fn token_of(config: &Config, given: Option<JoinToken>) -> Result<JoinToken, NodeError> {
    if let Some(token) = given {
        return Ok(token);
    }
    let Some(path) = &config.cluster.token_file else {
        return Err(JoinError::NoToken.into());
    };
    let unusable = |source: Box<dyn std::error::Error + Send + Sync>| NodeError::Token {
        path: path.clone(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(|e| unusable(e.into()))?;
    text.parse().map_err(|e: NotAToken| unusable(e.into()))
}

/// A running node.
struct Node {
    pipeline: Pipeline,
    consensus: Arc<Consensus>,
    cluster: Option<Cluster>,
    stop_api: watch::Sender<bool>,
    api: tokio::task::JoinHandle<()>,
    _data: DataDir,
}

impl Node {
    async fn start(config: Config, token: Option<JoinToken>) -> Result<Self, NodeError> {
        let (data, data_dir, key, host) = prepared(&config)?;
        let api_token = data.token()?;
        let (library, loading) = Library::load(&config.playbooks);
        if let Some(m) = loading.mistakes.first() {
            let why = format!("{}; {}", m.message, m.instead);
            return Err(ConfigError::Field {
                field: m.file.clone(),
                why,
            }
            .into());
        }
        for finding in &loading.findings {
            tracing::error!("playbook: {finding}");
        }
        // Before anything is opened that another address would not need.
        let found_in = data.join("api.token").to_string_lossy().into_owned();
        let api = ApiConfig {
            listen: config.node.listen,
            token: Token::new(&api_token, found_in),
        };
        let server = hale_api::bind(api).await?;

        let mut settings = settings(&config, &data)?;
        let number = match data.cluster()? {
            Some(number) => number,
            None if settings.seeds.is_empty() => data.found_cluster()?,
            None => {
                let token = token_of(&config, token)?;
                let joining = Joining {
                    data: &data,
                    key: &key,
                    host: &host,
                    settings: settings.clone(),
                    token: &token,
                    patience: config.cluster.join_timeout.0,
                };
                join::join(joining).await?;
                settings = self::settings(&config, &data)?;
                data.found_cluster()?
            }
        };
        let opened = match settings.bind {
            Some(_) => Some(Opened::open(&data, &key, number, &settings)?),
            None => None,
        };
        let store = HostStore::open(&data.join("state"))?;
        let chain = SegmentChain::open(&data.join("chain"), Options::default());
        let chain = Arc::new(chain.map_err(NodeError::Chain)?);
        let torn = chain.segments().map_err(NodeError::Chain)?.torn().cloned();
        if let Some(torn) = torn {
            tracing::warn!(
                bytes = torn.bytes,
                "the end of {} was no whole entry, as a crash leaves it, and was cut off; a copy is \
                 kept in {}: if there was no crash, somebody changed the file",
                torn.path.display(),
                torn.kept.display()
            );
        }
        let mut ledger = ledger_config(&config, &data, &key, &host, number);
        ledger.zone = settings.zone.clone().unwrap_or_default();
        let wires: Arc<dyn PeerTransport> = match &opened {
            Some(opened) => {
                ledger.addr = opened.advertised().to_string();
                ledger.threads = Some(opened.threads());
                opened.wires()
            }
            None => Arc::new(NoPeers),
        };
        let consensus = Arc::new(Consensus::start(ledger, chain.clone(), wires).await?);
        if !consensus.is_founded() {
            // Of one that joined no second cluster of the same number is founded.
            if !settings.seeds.is_empty() {
                return Err(NodeError::Lost(data_dir));
            }
            consensus.found().await?;
            tracing::info!(node = %key.node_id().short(), "founded a cluster of one node");
        } else if consensus.read_stale(|l| !l.is_enrolled(&key.node_id())) {
            return Err(NodeError::Removed(data_dir));
        }
        let telling = Telling {
            host: host.clone(),
            zone: settings.zone.clone().unwrap_or_default(),
            http: Some(server.addr()),
            tags: config.telemetry.tags.clone(),
        };
        let cluster = match opened {
            None => None,
            Some(opened) => {
                let now_ms = u64::try_from(now().as_millis()).unwrap_or(0);
                let life = data.next_life(now_ms)?;
                Some(opened.run(&key, settings, &telling, &consensus, life)?)
            }
        };

        let library = Arc::new(library);
        let segments = chain.segments().map_err(NodeError::Chain)?;
        let memory = Arc::new(Memory::of_chain(&segments));
        drop(segments);
        let feed = Feed::new();
        let parts = pipeline::Parts {
            config: config.clone(),
            host: host.clone(),
            key: key.clone(),
            consensus: Arc::clone(&consensus),
            store: store.clone(),
            library: Arc::clone(&library),
            memory: Arc::clone(&memory),
            feed: feed.clone(),
            log_positions: data.join("log-positions.json"),
            data_dir: data_dir.clone(),
        };
        let pipeline = Pipeline::start(parts).await?;
        let (stop_api, stopping) = watch::channel(false);
        let inner = Arc::new(Inner {
            config,
            host: host.clone(),
            key,
            consensus: Arc::clone(&consensus),
            number,
            cluster: cluster.as_ref().map(|c| Arc::clone(&c.shared)),
            http: Some(server.addr()),
            chain,
            slots: pipeline.slots(),
            library,
            memory,
            feed,
            started_at: now(),
            started: Instant::now(),
            store_bytes: Box::new(move || store.size()),
        });
        let addr = server.addr();
        if let Some(cluster) = &cluster {
            let backend = Arc::new(NodeBackend::local(&inner));
            let internal = Internal::new(backend, stopping.clone());
            cluster.answer_with(internal).await?;
            tokio::spawn(crate::sisters::learn(Arc::downgrade(&inner)));
        }
        data.announce(addr, &api_token)?;
        let backend = Arc::new(NodeBackend::forwarding(&inner));
        let api = tokio::spawn(server.serve(backend, stopping));
        tracing::info!(%host, %addr, data = %data_dir.display(), "the node runs; `hale status` asks it");
        Ok(Self {
            pipeline,
            consensus,
            cluster,
            stop_api,
            api,
            _data: data,
        })
    }

    /// Returns once this node has left its cluster.
    async fn left(&self) {
        let Some(cluster) = &self.cluster else {
            return std::future::pending().await;
        };
        let mut left = cluster.shared.left.subscribe();
        if left.wait_for(|left| *left).await.is_err() {
            std::future::pending().await
        }
    }

    /// The API last takes no more, the actors end in the order data flows, the ledger last.
    async fn stop(self) {
        self.stop_api.send_replace(true);
        self.pipeline.stop().await;
        if tokio::time::timeout(Duration::from_secs(7), self.api)
            .await
            .is_err()
        {
            tracing::warn!("the API did not end in time");
        }
        let _threads = match self.cluster {
            Some(cluster) => Some(cluster.stop().await),
            None => None,
        };
        match Arc::try_unwrap(self.consensus) {
            Ok(consensus) => consensus.stop().await,
            // Somebody still holds it: what is acknowledged is on disk already.
            Err(shared) => drop(shared),
        }
    }
}
