//! What the node remembers between its actors: the last round of the sensors, and how incidents
//! ended. Bounded; the truth is on the chain, from which it is read again at a start.

use hale_audit::archive::Segments;
use hale_model::ledger::{EntryKind, EntryRef};
use hale_model::record::Record;
use hale_model::{Batch, IncidentId, Outcome, Sample, SeriesKey, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many ends of incidents are remembered.
const ENDS: usize = 1024;
/// A series that was not read for so long is not shown any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2 * 3600);
/// How many entries of the chain are read again at a start.
const READ_AGAIN: u64 = 4096;

/// How an incident ended, and where that is written.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) outcome: Outcome,
    pub(crate) entry: EntryRef,
}

/// The last round of the sensors.
#[derive(Debug, Default, Clone)]
pub(crate) struct Round {
    pub(crate) at: Option<Timestamp>,
    pub(crate) samples: BTreeMap<SeriesKey, (Timestamp, Sample)>,
    pub(crate) taken: u64,
    pub(crate) dropped: u64,
}

/// What the node remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    ends: Mutex<BTreeMap<IncidentId, End>>,
    round: Mutex<Round>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one call on a map: what a panicking thread left is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Reads the ends of the latest incidents from the chain.
    pub(crate) fn of_chain(chain: &Segments) -> Self {
        let memory = Self::default();
        let len = chain.len();
        for entry in chain.read(len.saturating_sub(READ_AGAIN)..len) {
            match entry {
                Ok(entry) if entry.kind == EntryKind::Record => {
                    if let Ok(record) = serde_json::from_slice::<Record>(&entry.body) {
                        memory.ended(&record, EntryRef::from(&entry));
                    }
                }
                Ok(_) => {}
                Err(e) => {
                    tracing::warn!("the chain could not be read for the latest outcomes: {e}")
                }
            }
        }
        memory
    }

    /// Takes in how an incident ended.
    pub(crate) fn ended(&self, record: &Record, entry: EntryRef) {
        let mut ends = lock(&self.ends);
        ends.insert(
            record.incident_id.clone(),
            End {
                outcome: record.outcome.clone(),
                entry,
            },
        );
        while ends.len() > ENDS {
            ends.pop_first();
        }
    }

    pub(crate) fn end(&self, incident: &IncidentId) -> Option<End> {
        lock(&self.ends).get(incident).cloned()
    }

    /// Takes in a round of the sensors. Partial rounds add to what is known.
    pub(crate) fn round(&self, batch: &Batch, series_at_most: usize) {
        let mut round = lock(&self.round);
        round.at = Some(batch.at);
        round.taken += batch.samples.len() as u64;
        round.dropped = batch.dropped;
        for sample in &batch.samples {
            if round.samples.len() < series_at_most || round.samples.contains_key(&sample.series) {
                round
                    .samples
                    .insert(sample.series.clone(), (batch.at, sample.clone()));
            }
        }
        // What is not read any more, as a disk that was unmounted, is not shown for ever.
        let oldest = batch.at.minus(FORGOTTEN_AFTER);
        round.samples.retain(|_, (at, _)| *at >= oldest);
    }

    pub(crate) fn last_round(&self) -> Round {
        lock(&self.round).clone()
    }

    pub(crate) fn last_round_at(&self) -> Option<Timestamp> {
        lock(&self.round).at
    }
}
