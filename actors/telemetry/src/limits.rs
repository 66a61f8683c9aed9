//! Bounds on what a host may tell: how many series, how many labels, and a count of what was
//! dropped and why.

use hale_model::{Sample, SeriesKey};
use std::collections::{BTreeMap, HashMap};

/// How many were dropped, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drops(BTreeMap<&'static str, u64>);

impl Drops {
    /// Counts `n` dropped for `reason`.
    pub fn add(&mut self, reason: &'static str, n: u64) {
        if n > 0 {
            let count = self.0.entry(reason).or_default();
            *count = count.saturating_add(n);
        }
    }

    /// Adds all of another count.
    pub fn merge(&mut self, other: &Drops) {
        for (reason, n) in &other.0 {
            self.add(reason, *n);
        }
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// How many for each reason.
    pub fn by_reason(&self) -> &BTreeMap<&'static str, u64> {
        &self.0
    }
}

/// Lets samples pass while the number of series stays within a limit. A series that is known
/// always passes; a new one passes while there is room, or takes the place of one that has been
/// silent for [`Gate::SILENT_ROUNDS`].
#[derive(Debug)]
pub struct Gate {
    max: usize,
    known: HashMap<SeriesKey, u64>,
    round: u64,
    swept: u64,
}

impl Gate {
    /// After how many rounds of silence a series gives up its place.
    pub const SILENT_ROUNDS: u64 = 120;

    /// A gate for at most `max` series.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            known: HashMap::new(),
            round: 0,
            swept: 0,
        }
    }

    /// Begins a round.
    pub fn next_round(&mut self) {
        self.round += 1;
    }

    /// How many series are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known yet.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The samples that may pass. What may not is counted in `drops`.
    pub fn admit(&mut self, mut samples: Vec<Sample>, drops: &mut Drops) -> Vec<Sample> {
        samples.retain(|sample| match self.refuse(sample) {
            Some(reason) => {
                drops.add(reason, 1);
                false
            }
            None => true,
        });
        samples
    }

    fn refuse(&mut self, sample: &Sample) -> Option<&'static str> {
        if !sample.value.is_finite() {
            return Some("not_finite");
        }
        if let Some(seen) = self.known.get_mut(&sample.series) {
            *seen = self.round;
            return None;
        }
        if !sample.series.is_within_limits() {
            return Some("labels");
        }
        if self.known.len() >= self.max {
            self.sweep();
        }
        if self.known.len() >= self.max {
            return Some("series");
        }
        self.known.insert(sample.series.clone(), self.round);
        None
    }

    /// Forgets silent series, at most once a round: a flood of new names must not make every
    /// sample walk the whole table.
    fn sweep(&mut self) {
        if self.swept < self.round {
            self.swept = self.round;
            let oldest = self.round.saturating_sub(Self::SILENT_ROUNDS);
            self.known.retain(|_, seen| *seen >= oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(name: &str, value: f64) -> Sample {
        Sample::gauge(SeriesKey::new(name), value)
    }

    #[test]
    fn what_is_dropped_is_counted_by_reason() {
        let mut gate = Gate::new(2);
        let mut drops = Drops::default();
        let many = (0..20).fold(SeriesKey::new("x"), |k, i| k.with(format!("l{i}"), "v"));
        let kept = gate.admit(
            vec![
                sample("a", 1.0),
                sample("b", f64::NAN),
                Sample::gauge(many, 1.0),
                sample("c", 1.0),
                sample("d", 1.0),
                sample("a", 2.0),
            ],
            &mut drops,
        );
        assert_eq!(kept.len(), 3);
        assert_eq!(
            drops.by_reason().iter().collect::<Vec<_>>(),
            [(&"labels", &1), (&"not_finite", &1), (&"series", &1)]
        );
        assert_eq!(drops.total(), 3);
    }

    #[test]
    fn a_silent_series_gives_up_its_place() {
        let mut gate = Gate::new(1);
        let mut drops = Drops::default();
        gate.admit(vec![sample("old", 1.0)], &mut drops);
        for _ in 0..=Gate::SILENT_ROUNDS {
            gate.next_round();
        }
        assert_eq!(gate.admit(vec![sample("new", 1.0)], &mut drops).len(), 1);
        assert_eq!(drops.total(), 0);
    }

    proptest! {
        #[test]
        fn the_number_of_series_never_passes_the_limit(
            names in proptest::collection::vec("[a-z]{1,3}", 0..200),
        ) {
            let mut gate = Gate::new(10);
            let mut drops = Drops::default();
            for chunk in names.chunks(7) {
                gate.next_round();
                gate.admit(chunk.iter().map(|n| sample(n, 0.0)).collect(), &mut drops);
                prop_assert!(gate.len() <= 10);
            }
        }
    }
}
