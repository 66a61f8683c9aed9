//! Hosts of one role know what is normal for each other: a new one asks some of them for what they
//! know of the series that are new here, and holds it against its own samples before it trusts it.

use crate::answers::{Inner, silent};
use crate::cluster::remote::Request;
use crate::pipeline::ASK;
use hale_api::{
    Consistency, MAX_STATES, MemberState, MemberView, Problem, StateView, States, StatesRequest,
};
use hale_baseline::actor::Message;
use hale_baseline::host::{Known, MAX_SISTERS};
use hale_model::{HostName, NodeId, SeriesKey};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The tag by which hosts are sisters.
const ROLE: &str = "role";
/// How often new series are looked for.
const LOOK: Duration = Duration::from_secs(30);

/// Asks as long as the node runs.
pub(crate) async fn learn(node: Weak<Inner>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(node) = node.upgrade() else { return };
        if let Err(problem) = ask(&node).await {
            tracing::debug!(%problem, "sisters could not be asked for what they know");
        }
    }
}

async fn ask(node: &Arc<Inner>) -> Result<(), Problem> {
    let sisters = sisters(node).await?;
    if sisters.is_empty() {
        return Ok(());
    }
    let new = node.slots.baseline.ask(ASK, Message::Newcomers).await;
    let new = new.unwrap_or_default();
    let mut known: BTreeMap<SeriesKey, Vec<(HostName, Vec<u8>)>> = BTreeMap::new();
    let mut answered = new.is_empty();
    for (host, sister) in &sisters {
        for part in new.chunks(MAX_STATES) {
            let request = StatesRequest {
                series: part.iter().map(ToString::to_string).collect(),
            };
            let path = format!("/v1/hosts/{host}/baselines/states");
            let told: States = match node.live(*sister, Request::post(path, &request)?).await {
                Ok(told) => told,
                Err(problem) => {
                    tracing::debug!(%host, %problem, "a sister does not tell what it knows");
                    break;
                }
            };
            answered = true;
            for state in told.states.into_iter().take(MAX_STATES) {
                let series = SeriesKey::parse(&state.series).filter(|s| part.contains(s));
                if let (Some(series), Some(bytes)) = (series, bytes_of(&state.state)) {
                    known.entry(series).or_default().push((host.clone(), bytes));
                }
            }
        }
    }
    if !answered {
        node.slots.baseline.tell(Message::NotAnswered(new));
    }
    if known.is_empty() {
        return Ok(());
    }
    let known: Vec<Known> = known.into_iter().collect();
    let ask = |reply| Message::Known(known, reply);
    let tried = node.slots.baseline.ask(ASK, ask).await.unwrap_or_default();
    let names: Vec<&str> = sisters.iter().map(|(h, _)| h.as_str()).collect();
    tracing::info!(
        series = tried,
        sisters = names.join(", "),
        "what hosts of the same role know is tried on this host's own samples"
    );
    Ok(())
}

/// Others of this host's role that are alive: those that come after it by name, and then the first
/// again, so that not all hosts ask the same few.
async fn sisters(node: &Inner) -> Result<Vec<(HostName, NodeId)>, Problem> {
    if node.cluster.is_none() {
        return Ok(vec![]);
    }
    let members = node.members(Consistency::Stale).await?;
    let Some(own) = members.iter().position(|m| m.is_self) else {
        return Ok(vec![]);
    };
    let Some(role) = members[own].tags.get(ROLE) else {
        return Ok(vec![]);
    };
    let sister = |m: &&MemberView| {
        !m.is_self && !m.removed && m.state == MemberState::Alive && m.tags.get(ROLE) == Some(role)
    };
    let (before, after) = members.split_at(own);
    let found = after.iter().chain(before).filter(sister).take(MAX_SISTERS);
    Ok(found.map(|m| (m.host.clone(), m.node)).collect())
}

/// What this host knows, for a sister that asks.
pub(crate) async fn states(node: &Inner, request: StatesRequest) -> Result<States, Problem> {
    let of = request.series.iter().filter_map(|s| SeriesKey::parse(s));
    let of: Vec<SeriesKey> = of.take(MAX_STATES).collect();
    let ask = |reply| Message::States(of, reply);
    let known = node.slots.baseline.ask(ASK, ask).await;
    let known = known.ok_or_else(|| silent("baseline actor"))?;
    let view = |(series, bytes): (SeriesKey, Vec<u8>)| StateView {
        series: series.to_string(),
        state: text_of(&bytes),
    };
    Ok(States {
        states: known.into_iter().map(view).collect(),
    })
}

/// Hexadecimal, two digits a byte.
fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let digit = |d: u8| char::from(d).to_digit(16);
    let byte = |[a, b]: &[u8; 2]| u8::try_from(16 * digit(*a)? + digit(*b)?).ok();
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_their_text_and_nothing_else_does() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes_of(&text_of(&bytes)), Some(bytes));
        for bad in ["0", "0g", "+1", "é0"] {
            assert_eq!(bytes_of(bad), None, "{bad}");
        }
    }
}
