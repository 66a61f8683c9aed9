//! How commands reach the log: those that wait are packed into one entry, so that they share one
//! wait for the disk. That is the group commit. The queue is bounded in commands and in bytes.

use crate::network::{AskError, Lane, Reply, Request, TransportError};
use crate::removals;
use crate::shell::Shell;
use crate::types::{Pack, Raft};
use hale_model::PlaybookName;
use hale_model::ledger::{Answer, Command, LedgerError, Signed};
use openraft::error::{ClientWriteError, Fatal, RaftError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// Commands that may wait.
const QUEUE: usize = 4096;
/// Bytes that may wait.
const QUEUE_BYTES: usize = 32 << 20;
/// Commands and bytes that share one entry. Its bytes stay well below a frame's limit.
const PACK: usize = 1024;
const PACK_BYTES: usize = 4 << 20;
/// To wake another thread takes as long as to verify these.
const FEW_SIGNATURES: usize = 2;
/// Until what was just proposed is on its way.
const TURNS_FOR_OTHERS: usize = 8;
/// How long a pack waits for as many commands as the last one had.
const GATHER: Duration = Duration::from_millis(1);
/// Between two attempts to find a leader.
const AGAIN: Duration = Duration::from_millis(30);

/// A command that waits for its answer.
pub(crate) struct Proposal {
    command: Command,
    bytes: usize,
    by: Instant,
    reply: oneshot::Sender<Result<Answer, LedgerError>>,
}

/// Where commands wait.
pub(crate) struct Queue {
    sender: mpsc::Sender<Proposal>,
    bytes: Arc<AtomicUsize>,
}

impl Queue {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Proposal>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (
            Self {
                sender,
                bytes: Arc::default(),
            },
            receiver,
        )
    }

    /// How many commands wait.
    pub(crate) fn len(&self) -> usize {
        QUEUE - self.sender.capacity()
    }

    /// Queues a command and waits for its answer, at most `patience`.
    pub(crate) async fn propose(
        &self,
        command: Command,
        patience: Duration,
    ) -> Result<Answer, LedgerError> {
        let bytes = bytes_of(&command);
        let (reply, answer) = oneshot::channel();
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(LedgerError::Busy);
        }
        let proposal = Proposal {
            command,
            bytes,
            by: Instant::now() + patience,
            reply,
        };
        if let Err(e) = self.sender.try_send(proposal) {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(match e {
                mpsc::error::TrySendError::Full(_) => LedgerError::Busy,
                mpsc::error::TrySendError::Closed(_) => LedgerError::Stopping,
            });
        }
        match tokio::time::timeout(patience + AGAIN, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(LedgerError::Stopping),
            Err(_) => Err(LedgerError::NoLeader(patience.as_millis() as u64)),
        }
    }
}

/// About how many bytes a command takes; what has no bound of its own counts in full.
pub(crate) fn bytes_of(command: &Command) -> usize {
    let entry = command.entry().map_or(0, |s| s.body.len() + 128);
    512 + entry
        + match command {
            Command::AskApproval(a) => a.plan.len() + a.rationale.len(),
            Command::Answer { by, .. }
            | Command::CreateToken { by, .. }
            | Command::RevokeToken { by, .. }
            | Command::SetBudget { by, .. } => by.len(),
            Command::Freeze { by, reason, .. } | Command::Remove { by, reason, .. } => {
                by.len() + reason.len()
            }
            Command::DropBudget { by, name, .. } => by.len() + name.len(),
            Command::Services { services, .. } => {
                services.iter().map(|s| s.as_str().len() + 8).sum()
            }
            Command::Editions { editions, .. } => {
                let bytes = |(playbook, _): &(PlaybookName, _)| playbook.as_str().len() + 40;
                editions.iter().map(bytes).sum()
            }
            Command::Refill { budget, .. } => budget.len(),
            Command::Recovered { lost, .. } => lost.len() * 33,
            _ => 0,
        }
}

/// Takes what waits, writes it as one entry, answers each, until the queue is closed.
pub(crate) async fn run(shell: Arc<Shell>, mut queue: mpsc::Receiver<Proposal>) {
    let mut last = 0;
    while let Some(first) = queue.recv().await {
        let mut bytes = first.bytes;
        let mut pack = vec![first];
        let by = Instant::now() + GATHER;
        while pack.len() < PACK && bytes < PACK_BYTES {
            let next = match queue.try_recv() {
                Ok(next) => next,
                // Those who were just answered are about to ask again: they share this entry.
                Err(_) if pack.len() < last => match timeout_at(by, queue.recv()).await {
                    Ok(Some(next)) => next,
                    Ok(None) | Err(_) => break,
                },
                Err(_) => break,
            };
            bytes += next.bytes;
            pack.push(next);
        }
        last = pack.len();
        shell.queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let repeats = |p: &Proposal| p.command.may_be_repeated();
        let (any_time, once): (Vec<_>, Vec<_>) = pack.into_iter().partition(repeats);
        tokio::join!(
            commit(&shell, any_time, Tries::UntilAnswered),
            commit(&shell, once, Tries::UntilSent)
        );
    }
}

/// How long a pack is offered to one leader after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tries {
    /// Until somebody answers: a repetition is harmless.
    UntilAnswered,
    /// Until it may have been written: then whoever asked is told that no answer came, since a
    /// repetition could take effect a second time.
    UntilSent,
}

async fn commit(shell: &Shell, pack: Vec<Proposal>, tries: Tries) {
    if pack.is_empty() {
        return;
    }
    let by = pack.iter().map(|p| p.by).max().unwrap_or_else(Instant::now);
    let (commands, replies): (Vec<_>, Vec<_>) =
        pack.into_iter().map(|p| (p.command, p.reply)).unzip();
    shell.counters.packs.fetch_add(1, Ordering::Relaxed);
    shell
        .counters
        .commands
        .fetch_add(replies.len() as u64, Ordering::Relaxed);
    // A reply that nobody waits for any more is no error.
    match write(shell, Pack(commands), by, tries).await {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                let _ = reply.send(Ok(answer));
            }
        }
        Err(e) => {
            for reply in replies {
                let _ = reply.send(Err(e.clone()));
            }
        }
    }
}

/// Writes a pack through whoever leads.
async fn write(
    shell: &Shell,
    pack: Pack,
    by: Instant,
    tries: Tries,
) -> Result<Vec<Answer>, LedgerError> {
    // Where another is known to lead, it is asked first.
    let mut leads_elsewhere = shell.leader().is_some_and(|l| l.node != shell.me.node);
    loop {
        let mut here: Result<(), LedgerError> = Err(shell.no_leader());
        let mut may_be_written = false;
        if !shell.standing.yields.load(Ordering::Relaxed) && !leads_elsewhere {
            match shell.running() {
                Ok(running) => {
                    // Who loses the lead with the pack in its log does not know what becomes of it.
                    may_be_written = shell.leads();
                    match write_locally(shell, &running.raft, &pack, by).await {
                        Ok(Some(answers)) => return Ok(answers),
                        Ok(None) => {}
                        Err(e) => here = Err(e),
                    }
                    may_be_written |= shell.leads();
                }
                Err(e) => here = Err(e),
            }
        }
        if may_be_written && tries == Tries::UntilSent {
            return Err(here.err().unwrap_or_else(|| shell.no_leader()));
        }
        if shell.is_stopping() {
            return Err(LedgerError::Stopping);
        }
        match forward(shell, &pack, by).await {
            Forwarded::Answered(answers) => return Ok(answers),
            Forwarded::Lost if tries == Tries::UntilSent => return Err(shell.no_leader()),
            Forwarded::Lost | Forwarded::NotTaken => {}
        }
        leads_elsewhere = false;
        // A disk that takes nothing here says so at once where nobody else can write either.
        if let Err(e @ LedgerError::Storage(_)) = here
            && shell.group().voters.len() <= 1
        {
            return Err(e);
        }
        let pause = AGAIN.mul_f64(0.5 + crate::clock::jitter());
        if Instant::now() + pause >= by {
            return Err(shell.no_leader());
        }
        tokio::time::sleep(pause).await;
    }
}

/// Verifies the signatures while the disks work: what applies the pack finds it done. What does not
/// hold is refused by whoever applies it.
fn verify_early(pack: &Pack) {
    let entries: Vec<Signed> = pack.0.iter().filter_map(|c| c.entry().cloned()).collect();
    if entries.len() > FEW_SIGNATURES {
        tokio::task::spawn_blocking(move || Signed::verify_together(entries.iter()));
        return;
    }
    tokio::spawn(async move {
        // First the disk and the others get their work.
        for _ in 0..TURNS_FOR_OTHERS {
            tokio::task::yield_now().await;
        }
        Signed::verify_together(entries.iter());
    });
}

/// Nothing if this node does not lead.
async fn write_locally(
    shell: &Shell,
    raft: &Raft,
    pack: &Pack,
    by: Instant,
) -> Result<Option<Vec<Answer>>, LedgerError> {
    if shell.leads() {
        shell.has_room()?;
        verify_early(pack);
    }
    match timeout_at(by, removals::write(shell, raft, pack.clone())).await {
        Err(_) => Err(shell.no_leader()),
        Ok(Ok(answers)) => Ok(Some(answers)),
        Ok(Err(RaftError::Fatal(e))) => Err(shell.fatal(&e)),
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(e)))) => {
            Err(LedgerError::Storage(e.to_string()))
        }
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Ok(None),
    }
}

/// What became of a pack that was sent to another node.
enum Forwarded {
    /// It was written.
    Answered(Vec<Answer>),
    /// Nobody took it.
    NotTaken,
    /// No answer came: it may have been written.
    Lost,
}

async fn forward(shell: &Shell, pack: &Pack, by: Instant) -> Forwarded {
    let Some(leader) = shell.leader().filter(|l| l.node != shell.me.node) else {
        return Forwarded::NotTaken;
    };
    // What a leader's clock said before it lost the lead is not for the next one.
    let (allowed, refused) = pack.clone().sorted(&shell.me.node);
    if allowed.0.is_empty() {
        return Forwarded::Answered(Pack::joined(vec![], &refused));
    }
    let asked = allowed.0.len();
    let request = Request::Propose(allowed);
    let timeout = by
        .saturating_duration_since(Instant::now())
        .min(shell.config.timeouts.forward);
    let asked_one = shell.asker.ask(&leader, Lane::Urgent, &request, timeout);
    let answer = tokio::select! {
        answer = asked_one => answer,
        // Who does not lead any more may never answer.
        () = shell.leader_is_not(&leader.node) => return Forwarded::Lost,
    };
    match answer {
        Ok(Reply::Proposed(answers)) if answers.len() == asked => {
            Forwarded::Answered(Pack::joined(answers, &refused))
        }
        Ok(Reply::NotLeader) => Forwarded::NotTaken,
        Ok(_) => Forwarded::Lost,
        Err(e) => {
            tracing::debug!(leader = %leader.node.short(), error = %e, "not forwarded");
            match e {
                AskError::Transport(TransportError::Unreachable { .. }) => Forwarded::NotTaken,
                _ => Forwarded::Lost,
            }
        }
    }
}

/// Writes a pack that a peer forwarded, if this node leads. That it does not is only said of a pack
/// that was not tried.
pub(crate) async fn write_here(shell: &Shell, raft: &Raft, pack: Pack) -> Reply {
    if !shell.leads() {
        return Reply::NotLeader;
    }
    verify_early(&pack);
    match removals::write(shell, raft, pack).await {
        Ok(answers) => Reply::Proposed(answers),
        Err(RaftError::APIError(_)) => Reply::Unable("the lead was lost meanwhile".into()),
        Err(RaftError::Fatal(e)) => Reply::Unable(e.to_string()),
    }
}

impl Shell {
    pub(crate) fn no_leader(&self) -> LedgerError {
        LedgerError::NoLeader(self.config.timeouts.write.as_millis() as u64)
    }

    /// What a Raft node that stopped means for whoever asked.
    pub(crate) fn fatal(&self, fatal: &Fatal<u64>) -> LedgerError {
        match fatal {
            Fatal::StorageError(e) => LedgerError::Storage(e.to_string()),
            Fatal::Stopped | Fatal::Panicked => match self.running() {
                Err(e) => e,
                Ok(_) => LedgerError::Storage(fatal.to_string()),
            },
        }
    }
}
