//! Brings one record to the ledger, however often that has to be tried.

use super::{Arguments, Outbox, Recorded, Retry, Waiting};
use hale_model::ledger::{Answer, Command, EntryRef, LedgerError, Refusal};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// How it ended.
pub(super) enum Delivery {
    /// The ledger has it, and everybody was told.
    Recorded,
    /// The ledger will never take it.
    Refused(String),
}

/// What the ledger's answer means.
enum Step {
    Done(Option<EntryRef>),
    Again(String),
    /// The ledger knows no such grant: the record is written without closing one.
    Append,
    Never(String),
}

/// Asks until the ledger has answered for good. A close is written once because the ledger knows
/// what is closed, an append because it knows the signature of what it wrote lately.
pub(super) async fn deliver(to: Arc<Arguments>, mut waiting: Waiting) -> Delivery {
    let key = waiting.key();
    let mut pause = to.retry.first;
    let entry = loop {
        let asked = (to.ledger)(waiting.command.clone());
        let answer = tokio::time::timeout(to.retry.answer_within, asked).await;
        match judge(&waiting.command, answer.unwrap_or(Err(LedgerError::Busy))) {
            Step::Done(entry) => break entry,
            Step::Never(why) => return Delivery::Refused(why),
            Step::Append => waiting.command = appended(waiting.command),
            Step::Again(why) => {
                tracing::warn!(%why, ?pause, "a record waits for the ledger");
                tokio::time::sleep(jittered(pause)).await;
                pause = longer(pause, &to.retry);
            }
        }
    };
    tell(&to, &waiting, entry).await;
    // Last: what is removed before it was told is never told.
    while let Err(why) = (to.outbox)(Outbox::Remove { key: key.clone() }).await {
        tracing::warn!(%why, "a delivered record can't be removed from the outbox");
        tokio::time::sleep(jittered(to.retry.longest)).await;
    }
    Delivery::Recorded
}

fn judge(command: &Command, answer: Result<Answer, LedgerError>) -> Step {
    let closes = matches!(command, Command::Close { .. });
    match answer {
        Ok(Answer::Done { entry }) => Step::Done(entry),
        Ok(Answer::Refused(Refusal::AlreadyClosed(_))) => Step::Done(None),
        Ok(Answer::Refused(Refusal::StaleFence(_))) if closes => Step::Append,
        // A node may be enrolled later, and what is full may empty.
        Ok(Answer::Refused(r @ (Refusal::UnknownNode(_) | Refusal::Full { .. }))) => {
            Step::Again(r.to_string())
        }
        Ok(Answer::Refused(r)) => Step::Never(r.to_string()),
        Ok(other) => Step::Never(format!("an answer that fits no record: {other:?}")),
        Err(e) => Step::Again(e.to_string()),
    }
}

fn appended(command: Command) -> Command {
    match command {
        Command::Close { entry, .. } => Command::Append { entry },
        other => other,
    }
}

async fn tell(to: &Arguments, waiting: &Waiting, entry: Option<EntryRef>) {
    let (Command::Close { entry: signed, .. } | Command::Append { entry: signed }) =
        &waiting.command
    else {
        return;
    };
    let Ok(record) = serde_json::from_slice(&signed.body) else {
        return;
    };
    let told = (to.recorded)(Recorded { record, entry });
    if tokio::time::timeout(to.retry.answer_within, told)
        .await
        .is_err()
    {
        tracing::warn!("whoever is told of recorded records takes too long; going on");
    }
}

fn longer(pause: Duration, retry: &Retry) -> Duration {
    (pause * 2).min(retry.longest)
}

/// Between half of it and all of it, so that nodes do not ask a new leader all at once.
fn jittered(pause: Duration) -> Duration {
    // A fresh `RandomState` is seeded from the system's randomness.
    let share = RandomState::new().build_hasher().finish() % 512;
    pause / 2 + pause * share as u32 / 1024
}
