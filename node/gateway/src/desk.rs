//! Where peers' questions come in: the only actor of the process that peers can see. It hands on
//! and never waits; each question is worked on in a task of its own.

use crate::ask::{Ask, Status, answer, decode};
use crate::config::count;
use crate::gateway::Inner;
use crate::sessions::Session;
use hale_model::NodeId;
use hale_model::port::Port;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A question of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who asks: proven by the transport.
    pub from: NodeId,
    /// What.
    pub bytes: Vec<u8>,
}

/// Who knows the answers. A question may be put twice if its session breaks, so answering must
/// change nothing.
pub type Answerer = Port<Question, Vec<u8>>;

pub(crate) struct Desk;

impl Actor for Desk {
    type Msg = Ask;
    type State = Weak<Inner>;
    type Arguments = Weak<Inner>;

    async fn pre_start(
        &self,
        _: ActorRef<Ask>,
        inner: Weak<Inner>,
    ) -> Result<Weak<Inner>, ActorProcessingErr> {
        Ok(inner)
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        ask: Ask,
        inner: &mut Weak<Inner>,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(inner) = inner.upgrade() {
            take(inner, ask);
        }
        Ok(())
    }
}

/// Every question gets an answer, if only that there is none: what is owed to a peer is counted.
fn take(inner: Arc<Inner>, ask: Ask) {
    let asked = decode(ask.bytes);
    let session = asked
        .as_ref()
        .and_then(|(ticket, ..)| inner.table().by_ticket(ticket));
    let (Some((_, timeout, bytes)), Some(session)) = (asked, session) else {
        count(&inner.counters.wrong_tickets);
        drop(ask.reply.send(answer(Status::Stranger, vec![])));
        return;
    };
    session.touch();
    let limits = &inner.limits;
    let is_too_much = session.flow.owed() > 2 * limits.per_peer as u64
        || session.flow.waiting() > limits.waiting_bytes as u64;
    let room = (
        session.room.clone().try_acquire_owned(),
        inner.answering.clone().try_acquire_owned(),
    );
    let (false, (Ok(of_session), Ok(of_all))) = (is_too_much, room) else {
        count(&inner.counters.turned_away);
        return give(&session, ask.reply, Status::Busy, vec![]);
    };
    let question = Question {
        from: session.peer,
        bytes,
    };
    tokio::spawn(async move {
        let (status, bytes) = work(&inner, question, timeout).await;
        count(match status {
            Status::Answered => &inner.counters.answers_given,
            _ => &inner.counters.unanswered,
        });
        // First the room, then the answer: with it the peer may ask the next question.
        drop((of_session, of_all));
        give(&session, ask.reply, status, bytes);
    });
}

async fn work(inner: &Inner, question: Question, timeout: Duration) -> (Status, Vec<u8>) {
    let (from, answerer) = (question.from, inner.answer.clone());
    // In a task of its own: if it panics, the peer still gets told.
    let mut work = tokio::spawn(async move { answerer(question).await });
    match tokio::time::timeout(timeout.min(inner.limits.answering), &mut work).await {
        Ok(Ok(bytes)) if bytes.len() <= inner.limits.answer_bytes => (Status::Answered, bytes),
        Ok(Ok(bytes)) => {
            tracing::warn!(peer = %from.short(), bytes = bytes.len(), "an answer is over the limit");
            (Status::TooLarge, vec![])
        }
        Ok(Err(e)) => {
            tracing::error!(peer = %from.short(), error = %e, "a question broke its answerer");
            (Status::Unanswered, vec![])
        }
        Err(_) => {
            work.abort();
            tracing::warn!(peer = %from.short(), "a question was not answered in time");
            (Status::Unanswered, vec![])
        }
    }
}

fn give(session: &Session, reply: RpcReplyPort<Vec<u8>>, status: Status, bytes: Vec<u8>) {
    let bytes = answer(status, bytes);
    session.flow.give(bytes.len());
    // It fails only if the session has ended.
    drop(reply.send(bytes));
}
