//! From what a sensor says to what is judged: rates of counters, and a clock that can be wrong.

use super::state::{MOST_MEASURE, are_within};
use hale_model::{SeriesKind, Timestamp};
use serde::{Deserialize, Serialize};

/// Larger values are no measurements; beyond them squares overflow.
const MOST: f64 = 1e30;
/// A clock that goes back by less repeats itself; by more, it was set.
const SET_BACK_MS: i64 = 120_000;

/// A value that can be judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) value: f64,
    /// Seconds since the sample before.
    pub(super) passed_s: f64,
    pub(super) after_a_gap: bool,
    pub(super) clock_set_back: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Input {
    seen: u32,
    last_ms: i64,
    step_s: f64,
    age_s: f64,
    count: f64,
    fell: bool,
    /// How much of the age was watched on other hosts, in hours.
    inherited_h: u16,
}

impl Input {
    /// Nothing seen yet, and as old as what it was given.
    pub(super) fn inherited(age_s: f64) -> Self {
        Self {
            age_s,
            // At least one: it says that there were others.
            inherited_h: (age_s / 3600.0).clamp(1.0, u16::MAX.into()) as u16,
            ..Self::default()
        }
    }

    pub(super) fn take(&mut self, kind: SeriesKind, raw: f64, at: Timestamp) -> Option<Taken> {
        if !raw.is_finite() || raw.abs() > MOST {
            return None;
        }
        let first = self.seen == 0;
        let passed_ms = at.as_millis().saturating_sub(self.last_ms);
        let clock_set_back = !first && passed_ms < -SET_BACK_MS;
        if !first && passed_ms <= 0 && !clock_set_back {
            return None;
        }
        let passed_s = if first || clock_set_back {
            0.0
        } else {
            passed_ms as f64 / 1000.0
        };
        let after_a_gap = passed_s > (5.0 * self.step_s).max(600.0) && self.seen > 1;
        if passed_s > 0.0 && !after_a_gap {
            let follow = if self.seen < 8 { 0.5 } else { 0.02 };
            self.step_s = if self.seen == 1 {
                passed_s
            } else {
                self.step_s + (passed_s - self.step_s) * follow
            };
        }
        self.seen = self.seen.saturating_add(1);
        self.last_ms = at.as_millis();
        self.age_s += passed_s.min(3600.0);
        let value = match kind {
            SeriesKind::Gauge => Some(raw),
            SeriesKind::Counter => {
                let grown = raw - self.count;
                self.count = raw;
                // A fall is a restart, and restarts come in pairs; over a gap the rate is an
                // average of nobody knows what.
                let fell = grown < 0.0;
                let usable = !first && !fell && !self.fell && passed_s > 0.0 && !after_a_gap;
                self.fell = fell;
                let rate = usable.then(|| grown / passed_s);
                rate.filter(|r| r.abs() <= MOST)
            }
        }?;
        Some(Taken {
            value,
            passed_s,
            after_a_gap,
            clock_set_back,
        })
    }

    pub(super) fn last_at(&self) -> Timestamp {
        Timestamp::from_millis(self.last_ms)
    }

    pub(super) fn step_s(&self) -> f64 {
        self.step_s
    }

    /// Seconds watched; a gap counts as an hour at most.
    pub(super) fn age_s(&self) -> f64 {
        self.age_s
    }

    /// Seconds of that which were watched on other hosts.
    pub(super) fn inherited_s(&self) -> f64 {
        3600.0 * f64::from(self.inherited_h)
    }

    pub(super) fn is_sound(&self) -> bool {
        are_within(MOST_MEASURE, &[self.step_s, self.age_s])
            && are_within(MOST, [&self.count])
            && self.step_s >= 0.0
            && self.age_s >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(input: &mut Input, kind: SeriesKind, s: i64, x: f64) -> Option<f64> {
        input
            .take(kind, x, Timestamp::from_secs(s))
            .map(|t| t.value)
    }

    #[test]
    fn a_counter_is_its_rate_and_a_restart_is_none() {
        let mut input = Input::default();
        let mut rate = |s, x| take(&mut input, SeriesKind::Counter, s, x);
        assert_eq!(rate(0, 100.0), None);
        assert_eq!(rate(10, 150.0), Some(5.0));
        assert_eq!(rate(20, 3.0), None);
        assert_eq!(rate(30, 5.0), None, "it may have restarted once more");
        assert_eq!(rate(40, 25.0), Some(2.0));
        assert_eq!(
            rate(100_000, 1e6),
            None,
            "nobody knows when in a gap it grew"
        );
    }

    #[test]
    fn what_is_no_number_or_out_of_order_is_left_out() {
        let mut input = Input::default();
        let mut value = |s, x| take(&mut input, SeriesKind::Gauge, s, x);
        assert_eq!(value(100, 1.0), Some(1.0));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            assert_eq!(value(110, bad), None);
        }
        assert_eq!(value(100, 2.0), None);
        assert_eq!(value(70, 2.0), None);
        assert_eq!(value(101, 2.0), Some(2.0));
    }

    #[test]
    fn a_clock_that_was_set_back_starts_anew() {
        let mut input = Input::default();
        take(&mut input, SeriesKind::Gauge, 100_000, 1.0);
        let taken = input
            .take(SeriesKind::Gauge, 1.0, Timestamp::from_secs(5))
            .unwrap();
        assert!(taken.clock_set_back && taken.passed_s == 0.0);
    }
}
