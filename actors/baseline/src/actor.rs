//! The actor: it is shown rounds of samples, hands on what they came to, and keeps its state.

use crate::config::BaselineConfig;
use crate::host::{HostBaselines, Known, Row, SeriesDetail, SeriesFilter, SeriesView};
use hale_model::port::Port;
use hale_model::{Batch, Observed, SeriesKey, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::time::Duration;

/// How long to wait for who comes next before the round is let go.
const HAND_ON: Duration = Duration::from_secs(30);
/// How long to wait for the store.
const STORE: Duration = Duration::from_secs(60);
/// Rows given to the store at once.
const ROWS: usize = 256;

/// Why the store did not do its work, as it says it.
pub type StoreFailure = String;

/// Saved rows as they come back: a series' name and its state.
pub type SavedRows = Vec<(Vec<u8>, Vec<u8>)>;

/// What the actor needs.
pub struct Arguments {
    /// How sensitive, how far back, how many.
    pub config: BaselineConfig,
    /// Takes what a round came to.
    pub next: Port<Observed>,
    /// Gives all rows that were saved.
    pub load: Port<(), Result<SavedRows, StoreFailure>>,
    /// Saves rows, and removes those without a state, durably and in one step.
    pub save: Port<Vec<Row>, Result<(), StoreFailure>>,
}

/// What can be asked.
pub enum Message {
    /// Takes a round in. Answered when what it came to was handed on.
    Observe(Box<Batch>, RpcReplyPort<()>),
    /// What is known of the series that fit.
    Baselines(SeriesFilter, RpcReplyPort<Vec<SeriesView>>),
    /// All that is known of one series; none if it is not known.
    Detail(Box<SeriesKey>, RpcReplyPort<Option<Box<SeriesDetail>>>),
    /// The series that are new here and for which nobody has been asked yet.
    Newcomers(RpcReplyPort<Vec<SeriesKey>>),
    /// Nobody answered for these series: they may be asked for again.
    NotAnswered(Vec<SeriesKey>),
    /// What is known here of these series, for a sister.
    States(Vec<SeriesKey>, RpcReplyPort<Vec<(SeriesKey, Vec<u8>)>>),
    /// What sisters know of series that are new here. Answered with how many are tried.
    Known(Vec<Known>, RpcReplyPort<usize>),
    /// A period is not normal for the series that fit: an incident, or what Hale does itself. The
    /// end may lie up to a day ahead. Answered with how many series fit.
    Exclude {
        /// Which series.
        filter: SeriesFilter,
        /// From when on.
        from: Timestamp,
        /// Until when.
        until: Timestamp,
        /// Who waits for the answer, if anybody does.
        reply: Option<RpcReplyPort<usize>>,
    },
    /// What was learned of the series that fit is forgotten: they begin anew. Answered with how many
    /// fit.
    Forget(SeriesFilter, RpcReplyPort<usize>),
    /// How many series are kept, and how many gave way to others.
    Counts(RpcReplyPort<Counts>),
    /// Saves what has changed; answered when it is saved or could not be.
    Save(Option<RpcReplyPort<Result<(), StoreFailure>>>),
}

impl ractor::Message for Message {}

/// How full the actor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Series kept.
    pub series: usize,
    /// Series that gave way to others since the start.
    pub evicted: u64,
}

/// The actor of a host's baselines.
pub struct BaselineActor;

/// What the actor holds.
pub struct State {
    host: HostBaselines,
    next: Port<Observed>,
    save: Port<Vec<Row>, Result<(), StoreFailure>>,
}

impl Actor for BaselineActor {
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
            next,
            load,
            save,
        } = arguments;
        let every = Duration::from_secs(config.save_every_seconds);
        let mut host = HostBaselines::new(config)?;
        match tokio::time::timeout(STORE, load(())).await {
            Ok(Ok(rows)) => {
                let (found, unreadable) = (rows.len(), host.restore(rows));
                tracing::info!(found, unreadable, "baselines restored");
            }
            Ok(Err(error)) => tracing::warn!(error, "no baselines restored; all is learned anew"),
            Err(_) => tracing::warn!("the store did not answer; all baselines are learned anew"),
        }
        // The task ends with the actor.
        drop(myself.send_interval(every, || Message::Save(None)));
        Ok(State { host, next, save })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Observe(batch, reply) => {
                let observed = state.host.observe(*batch);
                if tokio::time::timeout(HAND_ON, (state.next)(observed))
                    .await
                    .is_err()
                {
                    tracing::warn!("a round was let go: nobody took it in time");
                }
                answer(reply, ());
            }
            Message::Baselines(filter, reply) => answer(reply, state.host.views(&filter)),
            Message::Exclude {
                filter,
                from,
                until,
                reply,
            } => {
                let count = state.host.exclude(&filter, from, until);
                if let Some(reply) = reply {
                    answer(reply, count);
                }
            }
            Message::Forget(filter, reply) => answer(reply, state.host.forget(&filter)),
            Message::Newcomers(reply) => answer(reply, state.host.newcomers()),
            Message::NotAnswered(of) => state.host.not_answered(&of),
            Message::States(of, reply) => answer(reply, state.host.states(&of)),
            Message::Known(known, reply) => answer(reply, state.host.try_known(known)),
            Message::Detail(key, reply) => answer(reply, state.host.detail(&key).map(Box::new)),
            Message::Counts(reply) => answer(
                reply,
                Counts {
                    series: state.host.len(),
                    evicted: state.host.evicted(),
                },
            ),
            Message::Save(reply) => {
                let saved = state.save_all().await;
                if let Some(reply) = reply {
                    answer(reply, saved);
                }
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // A failure is logged where it happens; there is nobody left to tell.
        let _ = state.save_all().await;
        Ok(())
    }
}

impl State {
    async fn save_all(&mut self) -> Result<(), StoreFailure> {
        let rows = self.host.unsaved();
        for (n, part) in rows.chunks(ROWS).enumerate() {
            let saved = tokio::time::timeout(STORE, (self.save)(part.to_vec())).await;
            let failure = match saved {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => failure,
                Err(_) => "the store did not answer in time".to_owned(),
            };
            tracing::warn!(
                failure,
                "baselines could not be saved; it is tried again later"
            );
            self.host.not_saved(&rows[n * ROWS..]);
            return Err(failure);
        }
        Ok(())
    }
}

fn answer<T: Send + 'static>(reply: RpcReplyPort<T>, value: T) {
    // Who asked may have stopped waiting.
    let _ = reply.send(value);
}
