//! One decision: what takes the most is asked, the text is embedded off the async threads, the
//! library is searched, history and policy are asked, the gates are passed.

use super::{ConsumersAsked, Decided, DiagnosisAsked, PolicyAsked, Ports};
use crate::coefficients::Coefficients;
use crate::confidence::{self, Grounds, Looked, Policy};
use crate::describe;
use crate::embed::{BadModel, Embedder};
use crate::rank::{Ranker, Ranking};
use hale_model::ledger::History;
use hale_model::{Consumer, Finding, Incident, Route};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Evidence is worth having, not worth waiting for.
const CONSUMERS_WITHIN: Duration = Duration::from_secs(2);
/// History and policy come from the ledger, which may be without a leader.
const LEDGER_WITHIN: Duration = Duration::from_secs(3);
/// The probes bound themselves (two seconds for the share, three and a half, four for second looks); this
/// is for an executor that does not answer.
const PROBES_WITHIN: Duration = Duration::from_secs(16);
/// How often further candidates are looked at.
const PROBE_ROUNDS: usize = 3;
/// For how many of an incident's series the consumers are asked.
const ASKED_SERIES: usize = 3;

/// What one decision needs.
pub(super) struct Deciding {
    pub(super) incident: Incident,
    pub(super) ranker: Arc<Ranker>,
    pub(super) ports: Ports,
}

/// Why there is no decision.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoDecision {
    /// The embedded model is unusable.
    #[error("the embedding model can't be used")]
    Model(#[source] BadModel),
    /// The search broke off.
    #[error("the search broke off")]
    Search(#[source] tokio::task::JoinError),
}

impl Deciding {
    pub(super) async fn run(self) -> Result<Decided, NoDecision> {
        let start = Instant::now();
        let Self {
            mut incident,
            ranker,
            ports,
        } = self;
        incident.top_consumers = consumers(&incident, &ports).await;
        let query = describe::query(&incident);
        let coefficients = Coefficients::embedded();
        let search = {
            let (ranker, query) = (Arc::clone(&ranker), query.clone());
            tokio::task::spawn_blocking(move || {
                let embedding = Embedder::embedded()?.embed(&ranker.reading(&query));
                Ok(ranker.rank(&query, &embedding, coefficients))
            })
        };
        let ranking = search
            .await
            .map_err(NoDecision::Search)?
            .map_err(NoDecision::Model)?;
        let mut ranking = ranking;
        let (mut asked, mut looked) = (BTreeSet::new(), Looked::Nothing);
        // Where the likeliest are refuted others take their place, and are looked at too.
        for _ in 0..PROBE_ROUNDS {
            let probed = ranker.to_probe(&ranking, &asked);
            if probed.is_empty() {
                break;
            }
            asked.extend(&probed);
            let (findings, under) = findings(&incident, &ranker, probed, &ports).await;
            looked = looked.max(under);
            ranking = ranker.diagnosed(&query, ranking, findings, coefficients);
        }
        let (history, policy) = ledger(&incident, &ranker, &ranking, &ports).await;
        let mut decision = confidence::route(&Grounds {
            incident: &incident,
            text: &query.text,
            ranking: &ranking,
            looked: &looked,
            entries: ranker.entries(),
            coefficients,
            history,
            policy: &policy,
        });
        decision.took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(Decided { incident, decision })
    }
}

async fn consumers(incident: &Incident, ports: &Ports) -> Vec<Consumer> {
    let mut found: Vec<Consumer> = vec![];
    for anomaly in incident.anomalies.iter().take(ASKED_SERIES) {
        let asked = ConsumersAsked {
            series: anomaly.reading.series.clone(),
            service: incident.service.clone(),
        };
        let Ok(answer) = tokio::time::timeout(CONSUMERS_WITHIN, (ports.consumers)(asked)).await
        else {
            tracing::debug!(incident = %incident.id, "what takes the most was not found in time");
            break;
        };
        for consumer in answer {
            if !found.iter().any(|f| f.text == consumer.text) {
                found.push(consumer);
            }
        }
    }
    found
}

/// What the probes of the likeliest find on the host, by entry.
async fn findings(
    incident: &Incident,
    ranker: &Ranker,
    probed: Vec<usize>,
    ports: &Ports,
) -> (BTreeMap<usize, Vec<Finding>>, Looked) {
    let name = |entry: &usize| ranker.entries()[*entry].name.clone();
    let asked = DiagnosisAsked {
        incident: incident.clone(),
        playbooks: probed.iter().map(name).collect(),
    };
    let answer = tokio::time::timeout(PROBES_WITHIN, (ports.diagnose)(asked)).await;
    let Ok(Some(answer)) = answer else {
        tracing::warn!(incident = %incident.id, "the host was not looked at in time: a human is asked");
        return (BTreeMap::new(), Looked::Unanswered);
    };
    let by_name: BTreeMap<_, _> = answer.found.into_iter().collect();
    let found = probed.into_iter().filter_map(|entry| {
        let findings = by_name.get(&name(&entry))?;
        Some((entry, findings.clone()))
    });
    (
        found.collect(),
        answer.share.map_or(Looked::Nothing, Looked::Under),
    )
}

/// Without the ledger nobody knows whether the cluster is frozen: then a human is asked.
async fn ledger(
    incident: &Incident,
    ranker: &Ranker,
    ranking: &Ranking,
    ports: &Ports,
) -> (History, Policy) {
    let Some(first) = ranking.playbooks.first() else {
        return (History::default(), Policy::default());
    };
    let playbook = ranker.entries()[first.entry].name.clone();
    let asked = PolicyAsked {
        playbook: playbook.clone(),
        service: incident.service.clone(),
        environment: incident.environment.clone(),
    };
    let both = async {
        tokio::join!(
            (ports.history)((playbook, incident.service.clone())),
            (ports.policy)(asked)
        )
    };
    tokio::time::timeout(LEDGER_WITHIN, both).await.unwrap_or_else(|_| {
        tracing::warn!(incident = %incident.id, "the ledger did not answer; nothing runs unattended");
        let policy = Policy { max_route: Route::Ask, ..Policy::default() };
        (History::default(), policy)
    })
}
