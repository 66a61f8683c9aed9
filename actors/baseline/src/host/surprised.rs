//! The rule that one metric alone is no witness.

use hale_model::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Metrics surprised within so long are surprised together.
const TOGETHER: Duration = Duration::from_secs(600);
/// From here on a metric counts as surprised: an info.
pub(super) const LEAST_SURPRISED: f64 = 0.5;
/// So many surprised metrics are remembered.
const MOST_SURPRISED: usize = 1000;

/// The metrics of a host that were surprised lately, whatever their labels: one of them alone, not
/// far from what is expected, is told only once another is surprised too. One fault is seen in many
/// metrics, a whim of one in one.
#[derive(Debug, Default)]
pub(super) struct Surprised(BTreeMap<String, Timestamp>);

impl Surprised {
    /// Notes that a metric is surprised, and says whether another is.
    pub(super) fn note(&mut self, metric: &str, at: Timestamp) -> bool {
        let has_room = self.0.len() < MOST_SURPRISED;
        match self.0.get_mut(metric) {
            Some(last) => *last = at,
            None if has_room => drop(self.0.insert(metric.to_owned(), at)),
            None => {}
        }
        self.0.keys().any(|m| m != metric)
    }

    pub(super) fn forget(&mut self, now: Timestamp) {
        self.0
            .retain(|_, at| *at <= now && now.since(*at) <= TOGETHER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_surprised_together_with_another_of_the_last_minutes() {
        let at = |s| Timestamp::from_secs(s);
        let mut surprised = Surprised::default();
        assert!(!surprised.note("system.load_1m", at(0)));
        assert!(
            !surprised.note("system.load_1m", at(30)),
            "a metric is no witness for itself"
        );
        assert!(surprised.note("system.memory_percent", at(60)));
        surprised.forget(at(700));
        assert!(!surprised.note("system.load_1m", at(700)));
        for n in 0..3 * MOST_SURPRISED {
            surprised.note(&format!("m{n}"), at(701));
        }
        assert_eq!(surprised.0.len(), MOST_SURPRISED);
    }
}
