//! How a node leaves, and how another is removed: off the roster, which every other node enforces
//! at once.

use super::Shared;
use crate::answers::now;
use hale_api::Problem;
use hale_audit::removal;
use hale_consensus::Consensus;
use hale_membership::Event;
use hale_model::ledger::{Answer, Command, LedgerError, Refusal};
use hale_model::{HostName, NodeId};
use std::time::{Duration, Instant};

/// How long a node that has left waits to see it in its own ledger.
const SEEN: Duration = Duration::from_secs(2);
/// How long it waits for another to take the seat of a voter that is gone, or its own.
const REPLACED: Duration = Duration::from_secs(20);
/// How often it asks again meanwhile.
const AGAIN: Duration = Duration::from_millis(500);

/// Why a node could not be taken off the roster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaveError {
    /// The ledger gave no answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The lead could not be handed over.
    #[error(transparent)]
    Handover(#[from] hale_consensus::HandoverError),
}

impl From<LeaveError> for Problem {
    fn from(error: LeaveError) -> Self {
        match error {
            LeaveError::Ledger(e) => e.into(),
            LeaveError::Refused(e) => e.into(),
            LeaveError::Handover(e) => Self::refused(e.to_string(), "hale voters"),
        }
    }
}

/// Does not stand for election, until it is dropped without having left: also when nobody waits for
/// the leaving any more.
struct StandsDown<'a> {
    consensus: &'a Consensus,
    has_left: bool,
}

impl<'a> StandsDown<'a> {
    fn new(consensus: &'a Consensus) -> Self {
        consensus.stand_down();
        Self {
            consensus,
            has_left: false,
        }
    }
}

impl Drop for StandsDown<'_> {
    fn drop(&mut self) {
        if !self.has_left {
            self.consensus.stand_again();
        }
    }
}

impl Shared {
    /// Takes a node off the roster.
    pub(crate) async fn remove(
        &self,
        node: NodeId,
        host: &HostName,
        by: String,
        reason: String,
    ) -> Result<(), LeaveError> {
        let entry = removal::sign(node, host, &by, &reason, now(), &self.key);
        let command = Command::Remove {
            node,
            by,
            reason,
            entry,
        };
        match self.consensus.propose(command).await? {
            Answer::Refused(refusal) => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    /// This node leaves: it hands over the lead, is taken off the roster, and says good-bye. The
    /// process is then to stop.
    pub(crate) async fn leave(&self, by: String, reason: String) -> Result<(), LeaveError> {
        let me = self.key.node_id();
        let others = self
            .consensus
            .read_stale(|l| l.roster().any(|(n, _)| *n != me));
        if self.consensus.group().leader == Some(me) && others {
            let next = self.consensus.transfer_leadership(None).await?;
            tracing::info!(to = %next.short(), "the lead is handed over");
        }
        let mut standing = StandsDown::new(&self.consensus);
        let began = Instant::now();
        let removed = loop {
            let removed = self
                .remove(me, &self.host, by.clone(), reason.clone())
                .await;
            let waits = matches!(
                removed,
                Err(LeaveError::Refused(Refusal::NoMajority { .. }))
            );
            if !waits || began.elapsed() > REPLACED {
                break removed;
            }
            tracing::info!("leaves once the group can decide without this node's vote");
            tokio::time::sleep(AGAIN).await;
        };
        // The others shut this node out as soon as they know; its answer may have got lost by that.
        let is_gone = || !self.consensus.read_stale(|l| l.is_enrolled(&me));
        if let Err(error) = removed
            && !is_gone()
        {
            return Err(error);
        }
        standing.has_left = true;
        let began = Instant::now();
        while !is_gone() && began.elapsed() < SEEN {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.gossip.tell(Event::Leave).await;
        self.left.send_replace(true);
        Ok(())
    }
}
