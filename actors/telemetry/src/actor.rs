//! The telemetry actor: answers for the host's state, while a task beside it goes the rounds of
//! the sensors and hands each [`Batch`] on.

mod rounds;

use crate::config::TelemetryConfig;
use crate::consumers::ConsumersQuery;
use crate::error::Error;
use crate::limits::Drops;
use crate::sensors::{Evidence, lock, top};
use hale_model::port::Port;
use hale_model::series::MAX_LABEL_BYTES;
use hale_model::{Batch, Consumer, HostName};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use rounds::Rounds;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Questions for consumers answered at a time: each may walk a file system.
const MAX_QUESTIONS: usize = 2;
/// The most tags a host may have, those set at run time included.
const MAX_TAGS: usize = 128;

/// The actor.
#[derive(Debug, Default, Clone, Copy)]
pub struct Telemetry;

/// What the actor is given.
pub struct Arguments {
    /// What to watch.
    pub config: TelemetryConfig,
    /// Where batches go. The rounds wait for it: while it is busy, rounds are skipped and counted.
    pub hand_on: Port<Batch, ()>,
    /// The file to keep the positions in followed logs in; its directory must exist.
    pub log_positions: Option<PathBuf>,
}

/// What the actor can be asked or told.
#[derive(Debug)]
pub enum Message {
    /// The host as it was at the last round: `{host, environment, tags, metrics}`.
    Snapshot(RpcReplyPort<Value>),
    /// Who takes the most of what is short.
    TopConsumers(ConsumersQuery, RpcReplyPort<Vec<Consumer>>),
    /// Counts of what the rounds did and left out.
    Stats(RpcReplyPort<Stats>),
    /// Sets a tag of the host, or removes it: `maintenance_mode`.
    SetTag {
        /// Its name.
        name: String,
        /// Its value; none removes it.
        value: Option<String>,
    },
    /// The host's tags, those set at run time included.
    Tags(RpcReplyPort<BTreeMap<String, String>>),
    /// The rounds have ended by themselves: the actor fails, so that its supervisor starts it anew.
    Ended(String),
}

impl ractor::Message for Message {}

/// What the rounds did and left out since the actor started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rounds that were begun.
    pub rounds: u64,
    /// Batches handed on.
    pub batches: u64,
    /// Rounds that were left out because the one before was still going.
    pub skipped_rounds: u64,
    /// Reads of single sensors left out because the one before was still going, by sensor.
    pub busy_sensors: BTreeMap<&'static str, u64>,
    /// Series known at the moment.
    pub series: u64,
    /// What limits dropped, by reason.
    pub drops: Drops,
}

/// What the actor and its rounds share.
pub(crate) struct Shared {
    pub(crate) host: HostName,
    pub(crate) environment: String,
    pub(crate) tags: Mutex<BTreeMap<String, String>>,
    pub(crate) snapshot: Mutex<Value>,
    pub(crate) stats: Mutex<Stats>,
    pub(crate) evidence: Arc<Evidence>,
}

/// The actor's state.
pub struct State {
    shared: Arc<Shared>,
    rounds: JoinHandle<()>,
    questions: Arc<Semaphore>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.rounds.abort();
    }
}

impl Actor for Telemetry {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let Arguments {
            config,
            hand_on,
            log_positions,
        } = arguments;
        config.validate()?;
        let shared = Arc::new(share(&config)?);
        let rounds = Rounds::new(&config, Arc::clone(&shared), hand_on, log_positions).await?;
        let rounds = tokio::spawn(async move {
            let ended = tokio::spawn(rounds.run());
            let _abort = AbortOnDrop(ended.abort_handle());
            let why = match ended.await {
                Ok(never) => match never {},
                Err(e) => e.to_string(),
            };
            let _ = myself.cast(Message::Ended(why));
        });
        Ok(State {
            shared,
            rounds,
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let shared = &state.shared;
        match message {
            Message::Snapshot(reply) => answer(reply, lock(&shared.snapshot).clone()),
            Message::Stats(reply) => answer(reply, lock(&shared.stats).clone()),
            Message::Tags(reply) => answer(reply, lock(&shared.tags).clone()),
            Message::TopConsumers(query, reply) => state.top_consumers(query, reply),
            Message::SetTag { name, value } => set_tag(shared, name, value),
            Message::Ended(why) => return Err(why.into()),
        }
        Ok(())
    }
}

impl State {
    /// Answers beside the mailbox, since it may take seconds. Whoever asks while too many others
    /// do gets no consumers: evidence is worth having, not worth waiting for.
    fn top_consumers(&self, query: ConsumersQuery, reply: RpcReplyPort<Vec<Consumer>>) {
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_owned() else {
            answer(reply, Vec::new());
            return;
        };
        let evidence = Arc::clone(&self.shared.evidence);
        tokio::spawn(async move {
            answer(reply, top::answer(evidence, query).await);
            drop(permit);
        });
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whoever asked may have given up waiting.
fn answer<T: Send + 'static>(reply: RpcReplyPort<T>, value: T) {
    let _ = reply.send(value);
}

fn set_tag(shared: &Shared, name: String, value: Option<String>) {
    let mut tags = lock(&shared.tags);
    let longest = name.len().max(value.as_ref().map_or(0, String::len));
    match value {
        Some(_) if longest > MAX_LABEL_BYTES => {
            tracing::warn!("a tag or its value is longer than {MAX_LABEL_BYTES} bytes; shorten it");
        }
        Some(value) if tags.len() < MAX_TAGS || tags.contains_key(&name) => {
            tags.insert(name, value);
        }
        Some(_) => {
            tracing::warn!(tag = %name, "the host has {MAX_TAGS} tags already; remove one first")
        }
        None => {
            tags.remove(&name);
        }
    }
    // Seen at once, not at the next round.
    if let Some(slot) = lock(&shared.snapshot).get_mut("tags") {
        *slot = serde_json::json!(*tags);
    }
}

fn share(config: &TelemetryConfig) -> Result<Shared, Error> {
    let host = match &config.host {
        Some(host) => host.clone(),
        None => {
            let name = rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned();
            HostName::new(name).map_err(Error::Host)?
        }
    };
    let snapshot = crate::snapshot::build(&host, &config.environment, &config.tags, [], []);
    Ok(Shared {
        host,
        environment: config.environment.clone(),
        tags: Mutex::new(config.tags.clone()),
        snapshot: Mutex::new(snapshot),
        stats: Mutex::new(Stats::default()),
        evidence: Arc::new(Evidence::default()),
    })
}
