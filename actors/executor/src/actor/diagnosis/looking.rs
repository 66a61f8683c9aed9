//! The shared lease that probes look under: others may look at the same time, and nobody acts on what is
//! looked at. It is short, it ends by itself, and where it can't be had in time the probes look without
//! it: a side without a majority still finds out what it can, and can do nothing about it.

use super::super::shared::Shared;
use hale_model::ledger::{Answer, Command, Look, Refusal, Scope};
use hale_model::{ExecutionId, Incident, Share};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longer than all probes together may take.
const TTL: Duration = Duration::from_secs(10);
/// How long a share is waited for, be it that the ledger does not answer or that somebody acts there:
/// what is seen meanwhile says little.
const WITHIN: Duration = Duration::from_secs(2);
/// Between two questions; each is an entry of the log.
const AGAIN: Duration = Duration::from_millis(500);
/// How long it is waited for until the share is given back, so that the run that follows finds the way
/// free.
const GIVEN_BACK_WITHIN: Duration = Duration::from_millis(500);

/// What the probes look under.
pub(super) struct Looking {
    share: Share,
    id: ExecutionId,
    /// When the question went out that was granted: before the leader's clock began.
    asked: Instant,
}

/// Asks for the share.
pub(super) async fn begin(shared: &Arc<Shared>, incident: &Incident, id: &ExecutionId) -> Looking {
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
    let until = Instant::now() + WITHIN;
    loop {
        let asked = Instant::now();
        let left = until.saturating_duration_since(asked);
        let answer = shared
            .ledger_within(left, Command::Look(look.clone()))
            .await;
        let share = match answer {
            Ok(Answer::Granted { fence, .. }) => Share::Held(fence),
            Ok(Answer::Refused(why @ (Refusal::Held { .. } | Refusal::Queued { .. }))) => {
                if until.saturating_duration_since(Instant::now()) > AGAIN {
                    tracing::debug!(incident = %incident.id, "waits to look: {why}");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Share::Without(why.to_string())
            }
            Ok(Answer::Refused(why)) => Share::Without(why.to_string()),
            Ok(other) => Share::Without(format!("the ledger answered {other:?}")),
            Err(why) => {
                // It may be granted yet; then nobody would know of it.
                give_back(shared, id);
                Share::Without(why.to_string())
            }
        };
        if let Share::Without(why) = &share {
            tracing::debug!(incident = %incident.id, "looks without a shared lease: {why}");
        }
        return Looking {
            share,
            id: id.clone(),
            asked,
        };
    }
}

/// Gives it back, and says under what was looked.
pub(super) async fn end(shared: &Arc<Shared>, looking: Looking) -> Share {
    if let Share::Without(_) = looking.share {
        return looking.share;
    }
    let lasted = looking.asked.elapsed() < TTL;
    let given_back = give_back(shared, &looking.id);
    let _ = tokio::time::timeout(GIVEN_BACK_WITHIN, given_back).await;
    match lasted {
        true => looking.share,
        false => Share::Without("the shared lease ran out meanwhile".into()),
    }
}

/// Goes on beside whoever asks for it, behind the question that it takes back.
fn give_back(shared: &Arc<Shared>, id: &ExecutionId) -> tokio::task::JoinHandle<()> {
    let (shared, id) = (Arc::clone(shared), id.clone());
    tokio::spawn(async move {
        let node = shared.node();
        match shared.ledger(Command::EndLook { node, id }).await {
            Ok(Answer::Done { .. }) => {}
            Ok(answer) => tracing::debug!("the shared lease ends by itself: {answer:?}"),
            Err(e) => tracing::debug!("the shared lease ends by itself: {e}"),
        }
    })
}
