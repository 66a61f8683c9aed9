//! Where a series is heading: a line fitted through some levels of the recent past. While a series
//! is young the levels are close together; later they are five minutes apart and span an hour.

use super::state::{MOST_MEASURE, MOST_VALUE, are_within};
use serde::{Deserialize, Serialize};

const LEVELS: usize = 16;
/// Levels that a line is fitted through.
const FITTED: usize = 13;
const LEAST_FITTED: usize = 8;
const WIDEST_S: f64 = 300.0;
/// Samples are of at most 1e30 in size, and their means are no larger.
const MOST_BASE: f64 = 1e31;
const MOST_AWAY: f32 = 1e32;

/// A line through the recent levels.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Line {
    /// In the series' unit, per second.
    pub(super) slope: f64,
    /// How far it rose over the levels fitted.
    pub(super) rise: f64,
    /// The share of the variance that the line explains (R²), 0 while there are too few levels.
    pub(super) fit: f64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Trend {
    /// Their distances from `base`, the first one there was.
    levels: [f32; LEVELS],
    base: f64,
    len: u8,
    /// Seconds between levels; zero while each sample is one.
    spacing_s: f64,
    step_s: f64,
    opened_ms: i64,
    sum: f64,
    n: u32,
    pub(super) line: Line,
}

impl Trend {
    pub(super) fn push(&mut self, at_ms: i64, x: f64, step_s: f64) {
        self.step_s = step_s;
        if self.n == 0 {
            self.opened_ms = at_ms;
        }
        self.sum += x;
        self.n = self.n.saturating_add(1);
        self.make_room();
        let open_s = at_ms.saturating_sub(self.opened_ms) as f64 / 1000.0 + step_s;
        if open_s + 1e-6 >= self.spacing_s {
            let level = self.sum / f64::from(self.n);
            (self.sum, self.n) = (0.0, 0);
            self.close(level);
        }
    }

    /// Starts anew: after a gap the past says nothing of where it is heading.
    pub(super) fn restart(&mut self) {
        *self = Self {
            spacing_s: self.spacing_s,
            ..Self::default()
        };
    }

    /// Widens the spacing when all levels are taken, until the widest; then the oldest goes.
    fn make_room(&mut self) {
        if usize::from(self.len) < LEVELS {
            return;
        }
        let wider = 2.0 * self.spacing_s.max(self.step_s);
        if wider <= WIDEST_S {
            for i in 0..LEVELS / 2 {
                self.levels[i] = 0.5 * (self.levels[2 * i] + self.levels[2 * i + 1]);
            }
            self.len = (LEVELS / 2) as u8;
            self.spacing_s = wider;
        } else {
            self.levels.rotate_left(1);
            self.len -= 1;
        }
    }

    fn close(&mut self, level: f64) {
        if self.len == 0 {
            self.base = level;
        }
        self.levels[usize::from(self.len)] = (level - self.base) as f32;
        self.len += 1;
        self.line = self.fit();
    }

    /// Least squares over equally spaced levels.
    fn fit(&self) -> Line {
        let len = usize::from(self.len);
        let levels = &self.levels[len.saturating_sub(FITTED)..len];
        if levels.len() < LEAST_FITTED {
            return Line::default();
        }
        let n = levels.len() as f64;
        let middle = (n - 1.0) / 2.0;
        let mean = levels.iter().map(|y| f64::from(*y)).sum::<f64>() / n;
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for (i, y) in levels.iter().enumerate() {
            let (dx, dy) = (i as f64 - middle, f64::from(*y) - mean);
            xx += dx * dx;
            xy += dx * dy;
            yy += dy * dy;
        }
        let each = xy / xx;
        let fit = if yy > 0.0 {
            (xy * xy / (xx * yy)).clamp(0.0, 1.0)
        } else {
            0.0
        };
        let spacing_s = self.spacing_s.max(self.step_s).max(1e-3);
        let line = Line {
            slope: each / spacing_s,
            rise: each * (n - 1.0),
            fit,
        };
        if line.slope.is_finite() && line.rise.is_finite() && fit.is_finite() {
            line
        } else {
            Line::default()
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        usize::from(self.len) <= LEVELS
            && are_within(MOST_BASE, [&self.base])
            && self.levels.iter().all(|y| y.abs() <= MOST_AWAY)
            && are_within(MOST_MEASURE, &[self.spacing_s, self.step_s])
            && self.sum.abs() <= MOST_BASE * f64::from(self.n)
            // A difference of two values over a time.
            && are_within(
                MOST_VALUE * MOST_MEASURE,
                &[self.line.slope, self.line.rise, self.line.fit],
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pushed(step_s: i64, values: impl IntoIterator<Item = f64>) -> Trend {
        let mut trend = Trend::default();
        for (i, x) in values.into_iter().enumerate() {
            trend.push(i as i64 * step_s * 1000, x, step_s as f64);
        }
        trend
    }

    proptest! {
        #[test]
        fn a_line_is_found_at_every_interval(
            step_s in 1i64..300, slope in -10.0..10.0f64, n in 8usize..2000,
        ) {
            let line = pushed(step_s, (0..n).map(|i| 5.0 + slope * (i as i64 * step_s) as f64)).line;
            prop_assert!((line.slope - slope).abs() < 1e-6 + 0.01 * slope.abs(), "{line:?}");
            prop_assert!(line.fit > 0.99 || slope.abs() < 1e-3);
        }
    }

    #[test]
    fn noise_is_no_trend() {
        let noise = (0..400).map(|i| f64::from((i * 7919) % 101));
        assert!(pushed(30, noise).line.fit < 0.6);
    }
}
