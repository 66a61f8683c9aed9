//! `hale node`: opens what is on disk, founds the cluster of one where there is none, starts the
//! actors and the API, and stops them in order.

use crate::answers::{Inner, now};
use crate::backend::NodeBackend;
use crate::config::{Config, ConfigError};
use crate::identity::{self, DataDir, IdentityError};
use crate::library::Library;
use crate::memory::Memory;
use crate::pipeline::{self, Pipeline, PipelineError};
use crate::store::{HostStore, StoreError};
use hale_api::{ApiConfig, Feed, ServerError, Token};
use hale_audit::archive::Options;
use hale_consensus::{Consensus, ConsensusError, NoPeers, SegmentChain};
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
    /// The signal handlers.
    #[error("signals can't be handled")]
    Signals(#[source] std::io::Error),
}

fn machine_name() -> String {
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

/// Runs the node until it is told to stop.
///
/// # Errors
/// If anything it needs can't be had; nothing is left running.
pub(crate) async fn run(config: Config) -> Result<(), NodeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(NodeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(NodeError::Signals)?;
    let node = Node::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    node.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// A running node.
struct Node {
    pipeline: Pipeline,
    consensus: Arc<Consensus>,
    stop_api: watch::Sender<bool>,
    api: tokio::task::JoinHandle<()>,
    _data: DataDir,
}

impl Node {
    async fn start(config: Config) -> Result<Self, NodeError> {
        let data_dir = config
            .node
            .data_dir
            .clone()
            .unwrap_or_else(identity::default_data_dir);
        let data = DataDir::open(&data_dir)?;
        let key = data.key()?;
        let token = data.token()?;
        let host = config
            .telemetry
            .host
            .clone()
            .ok_or_else(|| ConfigError::Field {
                field: "node.host".into(),
                why: "it is not set".into(),
            })?;
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
            token: Token::new(&token, found_in),
        };
        let server = hale_api::bind(api).await?;

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
        let ledger = hale_consensus::Config::new(
            data.join("ledger"),
            key.clone(),
            data.cluster_id()?,
            host.clone(),
        );
        let consensus = Arc::new(Consensus::start(ledger, chain.clone(), Arc::new(NoPeers)).await?);
        if !consensus.is_founded() {
            consensus.found().await?;
            tracing::info!(node = %key.node_id().short(), "founded a cluster of one node");
        }

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
        let inner = Arc::new(Inner {
            config,
            host: host.clone(),
            key,
            consensus: Arc::clone(&consensus),
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
        data.announce(addr, &token)?;
        let (stop_api, stopping) = watch::channel(false);
        let api = tokio::spawn(server.serve(Arc::new(NodeBackend(inner)), stopping));
        tracing::info!(%host, %addr, data = %data_dir.display(), "the node runs; `hale status` asks it");
        Ok(Self {
            pipeline,
            consensus,
            stop_api,
            api,
            _data: data,
        })
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
        match Arc::try_unwrap(self.consensus) {
            Ok(consensus) => consensus.stop().await,
            // Somebody still holds it: what is acknowledged is on disk already.
            Err(shared) => drop(shared),
        }
    }
}
