//! The shared lease that probes look under: others may look at the same time, and nobody acts on what is
//! looked at. It is short, it ends by itself, and where it can't be had in time the probes look without
//! it: a side without a majority still finds out what it can, and can do nothing about it.

use super::super::shared::Shared;
use hale_model::ledger::{Answer, Command, Look, Refusal, Scope};
use hale_model::{ExecutionId, Fence, Incident, Share};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than all probes together may take.
const TTL: Duration = Duration::from_secs(10);
/// How long the ledger may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long who acts there is waited for: what is seen meanwhile says little.
const WAIT: Duration = Duration::from_secs(2);
/// Between two questions.
const AGAIN: Duration = Duration::from_millis(200);

/// Asks for the share.
pub(super) async fn begin(shared: &Shared, incident: &Incident, id: &ExecutionId) -> Share {
    let host = incident.host.clone();
    let look = Look {
        scope: match &incident.service {
            Some(service) => Scope::Service(host, service.clone()),
            None => Scope::Host(host),
        },
        node: shared.node(),
        ttl_ms: TTL.as_millis() as u64,
        id: id.clone(),
    };
    let begun = Instant::now();
    loop {
        let command = Command::Look(look.clone());
        let why = match shared.ledger_within(PATIENCE, command).await {
            Ok(Answer::Granted { fence, .. }) => return Share::Held(fence),
            Ok(Answer::Refused(why @ (Refusal::Held { .. } | Refusal::Queued { .. })))
                if begun.elapsed() < WAIT =>
            {
                tracing::debug!(incident = %incident.id, "waits to look: {why}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Ok(Answer::Refused(why)) => why.to_string(),
            Ok(other) => format!("the ledger answered {other:?}"),
            Err(e) => e.to_string(),
        };
        tracing::debug!(incident = %incident.id, "looks without a shared lease: {why}");
        return Share::Without(why);
    }
}

/// Gives it back; if the ledger does not answer in time, without waiting for that.
pub(super) async fn end(shared: &Arc<Shared>, fence: Fence) {
    let node = shared.node();
    let own = Arc::clone(shared);
    let given_back = tokio::spawn(async move {
        let answer = own.ledger(Command::EndLook { fence, node }).await;
        if let Err(e) = answer {
            tracing::debug!(%fence, "the shared lease ends by itself: {e}");
        }
    });
    let _ = tokio::time::timeout(PATIENCE, given_back).await;
}
