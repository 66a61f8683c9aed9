//! Measuring without hosts: labelled incidents and a catalogue in, ranked playbooks with
//! confidences out, in the bench's formats. Pure; whoever calls it reads and writes the files.

use crate::catalogue::{CatalogueLine, Entry};
use crate::coefficients::Coefficients;
use crate::confidence::{self, Grounds, Looked, Policy};
use crate::describe;
use crate::embed::{BadModel, Embedder};
use crate::query::{Moved, Query};
use crate::rank::{Ranker, Ranking};
use hale_model::ledger::History;
use hale_model::{Decision, Direction, Incident, Severity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An incident of an incidents file. Labels it may have are not read.
#[derive(Debug, Clone, Deserialize)]
pub struct IncidentLine {
    /// Which.
    pub query_id: String,
    /// The alert's text, with the log lines.
    #[serde(default)]
    pub text: String,
    /// The metric it is about.
    #[serde(default)]
    pub metric: Option<String>,
    /// What is known of its anomaly.
    #[serde(default)]
    pub anomaly: Option<AnomalyLine>,
    /// The host's tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Log lines.
    #[serde(default)]
    pub logs: Vec<String>,
}

/// The anomaly of an [`IncidentLine`].
#[derive(Debug, Clone, Deserialize)]
pub struct AnomalyLine {
    /// Above or below.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// How grave.
    #[serde(default)]
    pub severity: Option<Severity>,
}

/// A line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankedLine {
    /// Which incident.
    pub query_id: String,
    /// Playbooks with their confidence, best first. The first's is calibrated; the others' are
    /// their shares of the search.
    pub ranked: Vec<(String, f64)>,
}

/// Why a file can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A line is not what it should be.
    #[error("line {line} of the {file} is not one JSON object of the expected shape")]
    Line {
        /// `incidents` or `catalogue`.
        file: &'static str,
        /// Its number, from 1.
        line: usize,
        /// What the parser said.
        #[source]
        cause: serde_json::Error,
    },
    /// A playbook's name is none.
    #[error("line {line} of the catalogue: the name may hold only letters, digits and -_.:@/")]
    Name {
        /// Its number, from 1.
        line: usize,
    },
    /// The embedded model is unusable.
    #[error("the embedding model can't be used")]
    Model(#[from] BadModel),
}

/// How many playbooks a line of the answer names.
const RANKED: usize = 10;

impl From<&IncidentLine> for Query {
    fn from(line: &IncidentLine) -> Self {
        let metric = line.metric.as_deref().filter(|m| !m.starts_with("__"));
        let mut text = crate::words::without_particulars(&line.text);
        if let Some(metric) = metric {
            text = format!("{text} {}", crate::words::humanise(metric));
        }
        let anomaly = line.anomaly.as_ref();
        let moved = metric.map(|metric| Moved {
            metric: metric.to_owned(),
            direction: anomaly.and_then(|a| a.direction),
            severity: anomaly
                .and_then(|a| a.severity)
                .unwrap_or(Severity::Warning),
        });
        Self {
            text,
            service: line.tags.get("service").cloned(),
            moved: moved.into_iter().collect(),
            logs: line.logs.clone(),
            ..Self::default()
        }
    }
}

/// Reads a catalogue file into entries.
///
/// # Errors
/// If a line is not an entry, with its number.
pub fn catalogue(text: &str) -> Result<Vec<Entry>, ReplayError> {
    let lines = lines::<CatalogueLine>("catalogue", text)?.into_iter();
    let entry = |(line, entry)| Entry::of_line(entry).ok_or(ReplayError::Name { line });
    lines.map(entry).collect()
}

/// Reads an incidents file.
///
/// # Errors
/// If a line is not an incident, with its number.
pub fn incidents(text: &str) -> Result<Vec<IncidentLine>, ReplayError> {
    Ok(lines("incidents", text)?
        .into_iter()
        .map(|(_, line)| line)
        .collect())
}

fn lines<T: for<'de> Deserialize<'de>>(
    file: &'static str,
    text: &str,
) -> Result<Vec<(usize, T)>, ReplayError> {
    let numbered = text
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty());
    let parsed = numbered.map(|(i, l)| match serde_json::from_str(l) {
        Ok(value) => Ok((i + 1, value)),
        Err(cause) => Err(ReplayError::Line {
            file,
            line: i + 1,
            cause,
        }),
    });
    parsed.collect()
}

/// A library ready for a replay.
#[derive(Debug)]
pub struct Replay {
    embedder: &'static Embedder,
    ranker: Ranker,
}

impl Replay {
    /// Indexes the entries.
    ///
    /// # Errors
    /// If the embedded model can't be used.
    pub fn new(entries: Vec<Entry>) -> Result<Self, ReplayError> {
        let embedder = Embedder::embedded()?;
        Ok(Self {
            embedder,
            ranker: Ranker::build(embedder, entries),
        })
    }

    /// What the release decides about one incident.
    pub fn decide(&self, incident: &IncidentLine) -> RankedLine {
        self.answer(
            incident,
            &self.rank(incident, Coefficients::embedded()),
            Coefficients::embedded(),
        )
    }

    /// What would be decided about a whole incident on a host, with no history yet.
    pub fn decision(&self, incident: &Incident, policy: &Policy) -> Decision {
        let query = describe::query(incident);
        let coefficients = Coefficients::embedded();
        let embedding = self.embedder.embed(&self.ranker.reading(&query));
        let ranking = self.ranker.rank(&query, &embedding, coefficients);
        confidence::route(&Grounds {
            incident,
            text: &query.text,
            ranking: &ranking,
            looked: &Looked::Nothing,
            entries: self.ranker.entries(),
            coefficients,
            history: History::default(),
            policy,
        })
    }

    /// The ranking with given coefficients: for fitting them.
    pub fn rank(&self, incident: &IncidentLine, coefficients: &Coefficients) -> Ranking {
        let query = Query::from(incident);
        let embedding = self.embedder.embed(&self.ranker.reading(&query));
        self.ranker.rank(&query, &embedding, coefficients)
    }

    /// A ranking as a line of the answer.
    pub fn answer(
        &self,
        incident: &IncidentLine,
        ranking: &Ranking,
        coefficients: &Coefficients,
    ) -> RankedLine {
        let similarity = crate::confidence::similarity_of_first(ranking, coefficients, false);
        let ranked = ranking
            .playbooks
            .iter()
            .take(RANKED)
            .enumerate()
            .map(|(i, candidate)| {
                let confidence = if i == 0 {
                    similarity
                } else {
                    candidate.probability.min(similarity)
                };
                (
                    self.ranker.entries()[candidate.entry].name.to_string(),
                    confidence,
                )
            });
        RankedLine {
            query_id: incident.query_id.clone(),
            ranked: ranked.collect(),
        }
    }

    /// The entries, in the order the candidates of a [`Ranking`] refer to.
    pub fn entries(&self) -> &[Entry] {
        self.ranker.entries()
    }
}

#[cfg(test)]
mod tests;
