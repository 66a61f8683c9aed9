//! The audit actor: takes what was done, signs the record of it, keeps it until the ledger has
//! it, and hands it on. A record is in the outbox on disk before its sender is told that it was
//! taken; a crash at any moment loses none and writes none twice.

mod deliver;

use crate::error::AuditError;
use crate::record;
use deliver::{Delivery, deliver};
use hale_model::ledger::{Answer, Command, Disposition, EntryRef, LedgerError};
use hale_model::port::Port;
use hale_model::record::Record;
use hale_model::{Digest, ExecutionReport, Keypair, OutcomeStatus, wire};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The most records that wait for the ledger.
pub const MAX_WAITING: usize = 1024;

/// The actor.
#[derive(Debug, Default, Clone, Copy)]
pub struct Audit;

/// What is asked of the outbox on disk. Each change is on the platter when it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbox {
    /// All that is in it.
    Load,
    /// Keeps a value.
    Put {
        /// By this key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Forgets one.
    Remove {
        /// The key.
        key: Vec<u8>,
    },
}

/// What the outbox answers: for [`Outbox::Load`] keys with their values, else nothing.
pub type OutboxAnswer = Result<Vec<(Vec<u8>, Vec<u8>)>, String>;

/// A record that is on the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The record as it was signed.
    pub record: Record,
    /// Where it stands; none if another attempt had closed the grant before.
    pub entry: Option<EntryRef>,
}

/// How the ledger is asked again.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// The first pause; each is twice the one before, with jitter.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
    /// How long one answer is waited for.
    pub answer_within: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(15),
            answer_within: Duration::from_secs(10),
        }
    }
}

/// What the actor is given.
#[derive(Clone)]
pub struct Arguments {
    /// The node's key.
    pub key: Keypair,
    /// The ledger.
    pub ledger: Port<Command, Result<Answer, LedgerError>>,
    /// The outbox on disk.
    pub outbox: Port<Outbox, OutboxAnswer>,
    /// Where recorded records go: notification, statistics. May be told one twice after a crash.
    pub recorded: Port<Recorded, ()>,
    /// How the ledger is asked again.
    pub retry: Retry,
}

/// What the actor can be asked or told.
pub enum Message {
    /// Records what was done. Answered once it is safe on this host's disk; asking again with the
    /// same report does nothing.
    Record(Box<ExecutionReport>, RpcReplyPort<Result<(), AuditError>>),
    /// Where it stands.
    Status(RpcReplyPort<Status>),
    /// The actor's own: a delivery ended.
    Ended(Ended),
}

impl ractor::Message for Message {}

/// How a delivery ended; only the actor makes one.
pub struct Ended(Option<Delivery>);

/// Where the actor stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Records that wait for the ledger.
    pub waiting: usize,
    /// Records that the ledger took since the start.
    pub recorded: u64,
    /// Records that the ledger refused for good; they stay in the outbox.
    pub refused: u64,
    /// The last refusal.
    pub last_refusal: Option<String>,
}

/// A command that waits, as the outbox keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// In which order they came.
    pub(crate) number: u64,
    pub(crate) command: Command,
}

impl Waiting {
    fn signature(&self) -> Option<&hale_model::Signature> {
        match &self.command {
            Command::Close { entry, .. } | Command::Append { entry } => Some(&entry.signature),
            _ => None,
        }
    }

    /// The same record has the same key, so that it is kept once.
    pub(crate) fn key(&self) -> Vec<u8> {
        let signature = self.signature().map(|s| Digest::of(s.as_bytes()));
        signature.unwrap_or(Digest::ZERO).as_bytes().to_vec()
    }
}

/// The actor's state.
pub struct State {
    arguments: Arc<Arguments>,
    queue: VecDeque<Waiting>,
    next_number: u64,
    delivering: Option<JoinHandle<()>>,
    status: Status,
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(task) = &self.delivering {
            task.abort();
        }
    }
}

impl Actor for Audit {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let rows = (arguments.outbox)(Outbox::Load)
            .await
            .map_err(AuditError::Outbox)?;
        let mut queue: Vec<Waiting> = rows.iter().filter_map(|(k, v)| read_row(k, v)).collect();
        queue.sort_by_key(|w| w.number);
        let mut state = State {
            arguments: Arc::new(arguments),
            next_number: queue.last().map_or(0, |w| w.number + 1),
            queue: queue.into(),
            delivering: None,
            status: Status::default(),
        };
        state.go_on(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Record(report, reply) => {
                let taken = state.take(&report).await;
                state.go_on(&myself);
                // Whoever asked may have stopped waiting; the record is safe all the same.
                let _ = reply.send(taken);
            }
            Message::Status(reply) => {
                let _ = reply.send(Status {
                    waiting: state.queue.len(),
                    ..state.status.clone()
                });
            }
            Message::Ended(Ended(how)) => {
                state.ended(how);
                state.go_on(&myself);
            }
        }
        Ok(())
    }
}

fn read_row(key: &[u8], value: &[u8]) -> Option<Waiting> {
    let read = wire::decode::<Waiting>(value);
    if let Err(error) = &read {
        // It stays where it is: a newer binary may read it.
        tracing::error!(%error, key = ?Digest::of(key), "a record in the outbox can't be read; it is left there");
    }
    read.ok()
}

impl State {
    async fn take(&mut self, report: &ExecutionReport) -> Result<(), AuditError> {
        let waiting = Waiting {
            number: self.next_number,
            command: self.command(report),
        };
        if self
            .queue
            .iter()
            .any(|w| w.signature() == waiting.signature())
        {
            return Ok(());
        }
        if self.queue.len() >= MAX_WAITING {
            return Err(AuditError::Busy(self.queue.len()));
        }
        let value = wire::encode(&waiting).map_err(|e| AuditError::Outbox(e.to_string()))?;
        let put = Outbox::Put {
            key: waiting.key(),
            value,
        };
        (self.arguments.outbox)(put)
            .await
            .map_err(AuditError::Outbox)?;
        self.next_number += 1;
        self.queue.push_back(waiting);
        Ok(())
    }

    fn command(&self, report: &ExecutionReport) -> Command {
        let key = &self.arguments.key;
        let record = record::of(report, key.node_id(), report.fence);
        let entry = record::sign(&record, key);
        let outcome = report.outcome.status;
        match report.fence {
            Some(fence) => {
                let (holder, disposition) = (key.node_id(), disposition(report));
                Command::Close {
                    fence,
                    holder,
                    disposition,
                    outcome,
                    entry,
                }
            }
            None => Command::Append { entry },
        }
    }

    /// Starts delivering the oldest, unless one is on its way. One at a time keeps their order.
    fn go_on(&mut self, myself: &ActorRef<Message>) {
        if self.delivering.is_some() {
            return;
        }
        if let Some(next) = self.queue.front() {
            let (arguments, next, actor) = (self.arguments.clone(), next.clone(), myself.clone());
            self.delivering = Some(tokio::spawn(async move {
                // A port that panics must not leave the queue standing still.
                let mut inner = AbortOnDrop(tokio::spawn(deliver(arguments, next)));
                let how = (&mut inner.0).await.ok();
                let _ = actor.cast(Message::Ended(Ended(how)));
            }));
        }
    }

    fn ended(&mut self, how: Option<Delivery>) {
        self.delivering = None;
        match how {
            Some(Delivery::Recorded) => self.status.recorded += 1,
            Some(Delivery::Refused(why)) => {
                tracing::error!(%why, "the ledger refused a record for good; it stays in the outbox and is tried again after a restart");
                self.status.refused += 1;
                self.status.last_refusal = Some(why);
            }
            // It is tried again, after all others.
            None => {
                tracing::error!("delivering a record failed; it is tried again");
                return self.queue.rotate_left(1.min(self.queue.len()));
            }
        }
        self.queue.pop_front();
    }
}

struct AbortOnDrop(JoinHandle<Delivery>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a grant is closed when its run ended so.
fn disposition(report: &ExecutionReport) -> Disposition {
    match report.outcome.status {
        // Handed over before the first step: nothing was touched.
        OutcomeStatus::Escalated if report.execution_log.is_empty() => Disposition::Released,
        OutcomeStatus::Success | OutcomeStatus::Failed | OutcomeStatus::Escalated => {
            Disposition::Done
        }
        OutcomeStatus::RolledBack => Disposition::RolledBack,
        OutcomeStatus::Abandoned => Disposition::Abandoned,
        OutcomeStatus::Aborted
        | OutcomeStatus::Denied
        | OutcomeStatus::Expired
        | OutcomeStatus::SelfResolved => Disposition::Released,
    }
}

#[cfg(test)]
#[path = "actor/tests.rs"]
mod tests;
