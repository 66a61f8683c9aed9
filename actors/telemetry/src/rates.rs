//! Rates from counters: how fast a total has risen since it was last seen.

use std::collections::HashMap;
use std::time::Duration;

/// The last total of each counter, and when it was read. Counters that were not read in two
/// rounds are forgotten, so that devices which come and go leave nothing behind.
#[derive(Debug, Default)]
pub struct Rates {
    last: HashMap<String, (f64, Duration, u64)>,
    round: u64,
}

impl Rates {
    /// Begins a round; what neither this nor the last one asked for is forgotten.
    pub fn next_round(&mut self) {
        self.round += 1;
        let keep = self.round.saturating_sub(2);
        self.last.retain(|_, (_, _, seen)| *seen >= keep);
    }

    /// The rise per second since the counter was last read. `None` the first time, when no time
    /// has passed, and when the counter fell (it was reset).
    pub fn per_second(&mut self, counter: &str, total: f64, now: Duration) -> Option<f64> {
        let entry = (total, now, self.round);
        let (before, then, _) = match self.last.get_mut(counter) {
            Some(last) => std::mem::replace(last, entry),
            None => {
                self.last.insert(counter.to_owned(), entry);
                return None;
            }
        };
        let elapsed = now.checked_sub(then)?.as_secs_f64();
        (elapsed > 0.0 && total >= before).then(|| (total - before) / elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_reads_and_a_counter_that_did_not_fall() {
        let mut rates = Rates::default();
        let at = Duration::from_secs;
        assert_eq!(rates.per_second("a", 10.0, at(1)), None);
        assert_eq!(rates.per_second("a", 30.0, at(3)), Some(10.0));
        assert_eq!(rates.per_second("a", 5.0, at(4)), None);
        assert_eq!(rates.per_second("a", 6.0, at(5)), Some(1.0));
        assert_eq!(rates.per_second("a", 7.0, at(5)), None);
    }

    #[test]
    fn counters_of_devices_that_left_are_forgotten() {
        let mut rates = Rates::default();
        rates.per_second("gone", 1.0, Duration::ZERO);
        for _ in 0..4 {
            rates.next_round();
        }
        assert!(rates.last.is_empty());
    }
}
