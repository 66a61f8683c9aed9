//! Which values a series has shown: the first few as they are, later as masses in cells of an
//! asinh grid (fine near the median, coarse far away) that fade by forward decay (Cormode et al.,
//! ICDE 2009: new values weigh more, old ones are never touched).

use super::array;
use super::state::{MOST_MEASURE, MOST_VALUE, are_within, is_seen};
use serde::{Deserialize, Serialize};

const CELLS: usize = 144;
/// Cells for each unit of asinh: a sixth of half the interquartile range near the median.
const PER_UNIT: f64 = 6.5;
/// A value that would land beyond this makes the grid coarser, so that the outermost cells stay free.
const REACH: f64 = 1000.0;
/// The least unit, for values that hardly differ.
const LEAST_UNIT: f64 = 1e-9;
/// How many values are kept as they are before there is a grid.
pub(super) const FIRST: usize = 12;
/// Above this the weights are scaled down, long before f32 would lose small masses.
const MOST_WEIGHT: f64 = 1_048_576.0;

/// Where a grid is fine, and how fine. Also how seasons pack their values into 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Scale {
    pub(super) centre: f64,
    pub(super) unit: f64,
}

impl Scale {
    pub(super) fn of(self, x: f64) -> f64 {
        ((x - self.centre) / self.unit).asinh()
    }

    pub(super) fn at(self, y: f64) -> f64 {
        self.centre + self.unit * y.sinh()
    }

    fn cell(self, x: f64) -> usize {
        // The centre lies in the middle of a cell, so that a constant is read back as it is.
        let y = self.of(x) * PER_UNIT + CELLS as f64 / 2.0 + 0.5;
        y.clamp(0.0, CELLS as f64 - 1.0) as usize
    }

    fn lower_edge(self, cell: usize) -> f64 {
        self.at((cell as f64 - CELLS as f64 / 2.0 - 0.5) / PER_UNIT)
    }
}

/// What is told of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Quantiles {
    /// p0.1
    pub(super) low: f64,
    pub(super) p25: f64,
    pub(super) p50: f64,
    pub(super) p75: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    /// p99.9
    pub(super) high: f64,
}

impl Quantiles {
    const SHARES: [f64; 7] = [0.001, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999];

    fn from(v: [f64; 7]) -> Self {
        let [low, p25, p50, p75, p95, p99, high] = v;
        Self {
            low,
            p25,
            p50,
            p75,
            p95,
            p99,
            high,
        }
    }

    /// The range that all but two in a thousand values lie in.
    pub(super) fn span(&self) -> f64 {
        self.high - self.low
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Values {
    pub(super) learned: u64,
    pub(super) scale: Scale,
    pub(super) quantiles: Quantiles,
    /// The weight of a value learned now; doubles every half-life.
    weight: f64,
    total: f64,
    mean: f64,
    squares: f64,
    /// The extremes of this week and the last.
    least: [f64; 2],
    most: [f64; 2],
    /// The finest step between neighbours that was learned.
    pub(super) finest: f64,
    last: f64,
    stale: u32,
    first: [f64; FIRST],
    #[serde(with = "array")]
    mass: [f32; CELLS],
}

impl Values {
    pub(super) fn new() -> Self {
        Self {
            learned: 0,
            scale: Scale {
                centre: 0.0,
                unit: 1.0,
            },
            quantiles: Quantiles::default(),
            weight: 1.0,
            total: 0.0,
            mean: 0.0,
            squares: 0.0,
            least: [f64::MAX; 2],
            most: [f64::MIN; 2],
            finest: f64::MAX,
            last: 0.0,
            stale: 0,
            first: [0.0; FIRST],
            mass: [0.0; CELLS],
        }
    }

    pub(super) fn has_grid(&self) -> bool {
        self.learned >= FIRST as u64
    }

    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    pub(super) fn stddev(&self) -> f64 {
        if self.total > 0.0 {
            (self.squares / self.total).max(0.0).sqrt()
        } else {
            0.0
        }
    }

    /// Lets what was learned weigh less: by half in each half-life.
    pub(super) fn fade(&mut self, half_lives: f64) {
        self.weight *= half_lives.exp2();
        if self.weight > MOST_WEIGHT {
            let by = 1.0 / self.weight;
            self.mass.iter_mut().for_each(|m| *m *= by as f32);
            self.total *= by;
            self.squares *= by;
            self.weight = 1.0;
        }
    }

    /// Lets the extremes of the week before last go.
    pub(super) fn turn_week(&mut self) {
        self.least = [f64::MAX, self.least[0]];
        self.most = [f64::MIN, self.most[0]];
    }

    /// Learns a value that stands for `n` samples. True if the scale has changed by it.
    pub(super) fn learn(&mut self, x: f64, n: f64) -> bool {
        let w = self.weight * n;
        self.total += w;
        let d = x - self.mean;
        self.mean += d * w / self.total;
        self.squares += w * d * (x - self.mean);
        self.least[0] = self.least[0].min(x);
        self.most[0] = self.most[0].max(x);
        if self.learned > 0 && x != self.last {
            self.finest = self.finest.min((x - self.last).abs());
        }
        self.last = x;
        let before = self.scale;
        if self.has_grid() {
            if ((x - self.scale.centre) / self.scale.unit).abs() > REACH {
                let unit = (x - self.scale.centre).abs() / REACH * 2.0;
                self.regrid(Scale { unit, ..self.scale });
            }
            self.mass[self.scale.cell(x)] += w as f32;
            self.learned += n.round() as u64;
            self.stale += 1;
            if self.stale >= 32 || u64::from(self.stale) * 16 >= self.learned {
                self.refresh();
            }
        } else {
            self.first[self.learned as usize] = x;
            self.learned += 1;
            self.quantiles = self.of_the_first();
            if self.has_grid() {
                self.scale = self.fitting();
                for x in self.first {
                    self.mass[self.scale.cell(x)] += self.weight as f32;
                }
            }
        }
        before != self.scale
    }

    /// Lets the grid follow the values, if they have moved away from it. True if it has moved.
    pub(super) fn follow(&mut self) -> bool {
        if !self.has_grid() {
            return false;
        }
        self.refresh();
        let (old, new) = (self.scale, self.fitting());
        let moved = (new.centre - old.centre).abs() > 2.0 * old.unit
            || new.unit > 2.0 * old.unit
            || new.unit < 0.5 * old.unit;
        if moved {
            self.regrid(new);
        }
        moved
    }

    /// The share of what was learned that lies at `x` or beyond it, away from the middle.
    pub(super) fn tail(&self, x: f64, above: bool) -> f64 {
        let beyond = |v: f64| if above { v >= x } else { v <= x };
        // One more sample like this is assumed: a share is never zero for want of samples.
        if !self.has_grid() {
            let first = &self.first[..self.learned as usize];
            let n = first.iter().filter(|v| beyond(**v)).count();
            return (n + 1) as f64 / (self.learned + 1) as f64;
        }
        let cell = self.scale.cell(x);
        let outside: f32 = if above {
            self.mass[cell + 1..].iter().sum()
        } else {
            self.mass[..cell].iter().sum()
        };
        let edges = (self.scale.lower_edge(cell), self.scale.lower_edge(cell + 1));
        let within = ((x - edges.0) / (edges.1 - edges.0)).clamp(0.0, 1.0);
        let part = if above { 1.0 - within } else { within };
        let mass = f64::from(outside) + f64::from(self.mass[cell]) * part;
        ((mass + self.weight) / (self.total + self.weight)).clamp(0.0, 1.0)
    }

    fn refresh(&mut self) {
        self.stale = 0;
        let total: f64 = self.mass.iter().map(|m| f64::from(*m)).sum();
        let (least, most) = (
            self.least[0].min(self.least[1]),
            self.most[0].max(self.most[1]),
        );
        if total <= 0.0 || least > most {
            return;
        }
        let mut found = [most; 7];
        let (mut run, mut next) = (0.0, 0);
        for (cell, mass) in self.mass.iter().enumerate() {
            let mass = f64::from(*mass);
            while next < found.len() && mass > 0.0 && run + mass >= Quantiles::SHARES[next] * total
            {
                let (a, b) = (self.scale.lower_edge(cell), self.scale.lower_edge(cell + 1));
                let part = (Quantiles::SHARES[next] * total - run) / mass;
                found[next] = (a + (b - a) * part).clamp(least, most);
                next += 1;
            }
            run += mass;
        }
        self.quantiles = Quantiles::from(found);
    }

    fn of_the_first(&self) -> Quantiles {
        let n = self.learned as usize;
        let mut sorted = self.first;
        let sorted = &mut sorted[..n];
        sorted.sort_unstable_by(f64::total_cmp);
        Quantiles::from(Quantiles::SHARES.map(|share| {
            let at = share * (n - 1) as f64;
            let (i, part) = (at as usize, at.fract());
            let next = sorted[(i + 1).min(n - 1)];
            sorted[i] + (next - sorted[i]) * part
        }))
    }

    fn fitting(&self) -> Scale {
        let q = &self.quantiles;
        let unit = (0.5 * (q.p75 - q.p25))
            .max(0.02 * q.span())
            .max(1e-4 * q.p50.abs())
            .max(LEAST_UNIT)
            // Both ends of what was seen stay well inside the grid.
            .max((q.high - q.p50).max(q.p50 - q.low) / REACH);
        Scale {
            centre: q.p50,
            unit,
        }
    }

    fn regrid(&mut self, to: Scale) {
        let (from, old) = (self.scale, self.mass);
        self.mass = [0.0; CELLS];
        self.scale = to;
        for (cell, mass) in old.iter().enumerate().filter(|(_, m)| **m > 0.0) {
            let middle = from.at((cell as f64 - CELLS as f64 / 2.0) / PER_UNIT);
            self.mass[to.cell(middle)] += mass;
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        let q = &self.quantiles;
        let all = [
            self.mean,
            self.scale.centre,
            self.scale.unit,
            self.last,
            q.low,
            q.p25,
            q.p50,
            q.p75,
            q.p95,
            q.p99,
            q.high,
        ];
        let ends = self.least.iter().chain(&self.most).chain([&self.finest]);
        are_within(MOST_VALUE, all.iter().chain(&self.first))
            && are_within(MOST_VALUE, ends.filter(is_seen))
            && are_within(MOST_MEASURE, [&self.weight, &self.total])
            && are_within(MOST_VALUE * MOST_VALUE * MOST_MEASURE, [&self.squares])
            && self
                .mass
                .iter()
                .all(|m| (0.0..=MOST_MEASURE as f32).contains(m))
            && self.scale.unit >= LEAST_UNIT
            && self.weight > 0.0
            && self.total >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: impl IntoIterator<Item = f64>) -> Values {
        let mut v = Values::new();
        for x in values {
            v.learn(x, 1.0);
        }
        v.follow();
        v.refresh();
        v
    }

    #[test]
    fn a_constant_is_read_back_as_it_is() {
        let v = of(std::iter::repeat_n(0.05, 100));
        let q = v.quantiles;
        assert_eq!((q.low, q.p50, q.p99), (0.05, 0.05, 0.05));
        assert!((v.mean() - 0.05).abs() < 1e-15 && v.stddev() < 1e-9);
    }

    #[test]
    fn what_was_learned_long_ago_weighs_little() {
        let mut v = of(std::iter::repeat_n(10.0, 1000));
        v.fade(10.0);
        for _ in 0..200 {
            v.learn(20.0, 1.0);
            v.follow();
        }
        assert!(
            v.mean() > 19.8 && v.quantiles.p50 > 19.8,
            "{} {:?}",
            v.mean(),
            v.quantiles
        );
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_values(
            mut values in proptest::collection::vec(-1e4..1e4f64, 200..600),
        ) {
            let v = of(values.iter().copied());
            values.sort_unstable_by(f64::total_cmp);
            let exact = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
            let unit = (exact(0.75) - exact(0.25)).max(1.0);
            for (found, share) in [(v.quantiles.p50, 0.5), (v.quantiles.p95, 0.95)] {
                prop_assert!((found - exact(share)).abs() < 0.25 * unit, "{found} {}", exact(share));
            }
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((v.mean() - mean).abs() < 1e-6);
        }

        #[test]
        fn any_values_give_finite_answers(
            values in proptest::collection::vec(-1e30..1e30f64, 1..80), probe in -1e30..1e30f64,
        ) {
            let v = of(values);
            prop_assert!(v.is_sound());
            let p = v.tail(probe, true);
            prop_assert!(p > 0.0 && p <= 1.0);
        }
    }
}
