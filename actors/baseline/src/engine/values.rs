//! Which values a series has shown: the first few as they are, later as masses in cells of an
//! asinh grid (fine near the median, coarse far away) that fade by forward decay (Cormode et al.,
//! ICDE 2009: new values weigh more, old ones are never touched).

use super::array;
use super::state::{MOST_MEASURE, MOST_VALUE, are_within};
use serde::{Deserialize, Serialize};

const CELLS: usize = 112;
/// Cells for each unit of asinh: a sixth of half the interquartile range near the median.
const PER_UNIT: f64 = 6.5;
/// A value that would land beyond this makes the grid coarser, so that the outermost cells stay free.
const REACH: f64 = 1000.0;
/// The least unit, for values that hardly differ.
const LEAST_UNIT: f64 = 1e-9;
/// How many values are kept as they are before there is a grid.
pub(super) const FIRST: usize = 12;
/// A weight that is off by less than this share of its half-life is good enough.
const LEAST_FADED: f32 = 1.0 / 1024.0;
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
        cell_at(self.of(x)) as usize
    }

    fn lower_edge(self, cell: usize) -> f64 {
        self.at((cell as f64 - CELLS as f64 / 2.0 - 0.5) / PER_UNIT)
    }
}

/// The cell that a place on the scale lies in, and as its fraction where in it.
fn cell_at(y: f64) -> f64 {
    // The centre lies in the middle of a cell, so that a constant is read back as it is.
    (y * PER_UNIT + CELLS as f64 / 2.0 + 0.5).clamp(0.0, CELLS as f64 - 1e-9)
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
    /// Half-lives that have passed and are not yet in the weight.
    passed: f32,
    stale: u32,
    kept: Kept,
}

/// What is kept of the values themselves.
#[allow(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and a series takes no memory but its own"
)]
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Kept {
    /// The first few.
    First([f64; FIRST]),
    /// How much weight each cell has.
    Masses(#[serde(with = "array")] [f32; CELLS]),
}

impl Kept {
    /// The masses; none while there is no grid.
    fn masses(&self) -> &[f32] {
        match self {
            Self::First(_) => &[],
            Self::Masses(masses) => masses,
        }
    }

    fn masses_mut(&mut self) -> &mut [f32] {
        match self {
            Self::First(_) => &mut [],
            Self::Masses(masses) => masses,
        }
    }
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
            passed: 0.0,
            stale: 0,
            kept: Kept::First([0.0; FIRST]),
        }
    }

    pub(super) fn has_grid(&self) -> bool {
        matches!(self.kept, Kept::Masses(_))
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
        self.passed += half_lives as f32;
        if self.passed < LEAST_FADED {
            return;
        }
        self.weight *= f64::from(std::mem::take(&mut self.passed)).exp2();
        if self.weight > MOST_WEIGHT {
            let by = 1.0 / self.weight;
            self.kept
                .masses_mut()
                .iter_mut()
                .for_each(|m| *m *= by as f32);
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
        match &mut self.kept {
            Kept::First(first) => {
                first[self.learned as usize] = x;
                let full = (self.learned as usize + 1 == FIRST).then_some(*first);
                self.learned += 1;
                self.quantiles = self.of_the_first();
                if let Some(first) = full {
                    self.found_grid(first);
                }
            }
            Kept::Masses(_) => self.add(x, n, w),
        }
        before != self.scale
    }

    fn found_grid(&mut self, first: [f64; FIRST]) {
        self.scale = self.fitting();
        let mut masses = [0.0; CELLS];
        for x in first {
            masses[self.scale.cell(x)] += self.weight as f32;
        }
        self.kept = Kept::Masses(masses);
    }

    fn add(&mut self, x: f64, n: f64, weight: f64) {
        if ((x - self.scale.centre) / self.scale.unit).abs() > REACH {
            let unit = (x - self.scale.centre).abs() / REACH * 2.0;
            self.regrid(Scale { unit, ..self.scale });
        }
        let cell = self.scale.cell(x);
        if let Kept::Masses(masses) = &mut self.kept {
            masses[cell] += weight as f32;
        }
        self.learned = self.learned.saturating_add(n.round() as u64);
        self.stale = self.stale.saturating_add(1);
        if self.stale >= 32 || u64::from(self.stale) * 16 >= self.learned {
            self.refresh();
        }
    }

    /// Takes over the values of another, each weighing what it weighs there.
    pub(super) fn absorb(&mut self, other: &Self) {
        let by = self.weight / other.weight;
        for (cell, mass) in other.kept.masses().iter().enumerate() {
            let weight = f64::from(*mass) * by;
            if weight <= 0.0 {
                continue;
            }
            let middle = other
                .scale
                .at((cell as f64 - CELLS as f64 / 2.0) / PER_UNIT);
            if ((middle - self.scale.centre) / self.scale.unit).abs() > REACH {
                let unit = (middle - self.scale.centre).abs() / REACH * 2.0;
                self.regrid(Scale { unit, ..self.scale });
            }
            let cell = self.scale.cell(middle);
            if let Kept::Masses(masses) = &mut self.kept {
                masses[cell] += weight as f32;
            }
        }
        // Means and squares of both together (Chan, Golub and LeVeque, 1979).
        let (a, b) = (self.total, other.total * by);
        if b > 0.0 {
            let d = other.mean - self.mean;
            self.mean += d * b / (a + b);
            self.squares += other.squares * by + d * d * a * b / (a + b);
            self.total = a + b;
        }
        for i in 0..2 {
            self.least[i] = self.least[i].min(other.least[i]);
            self.most[i] = self.most[i].max(other.most[i]);
        }
        self.finest = self.finest.min(other.finest);
        self.learned = self.learned.saturating_add(other.learned);
        self.refresh();
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

    /// The share of what was learned that lies at `x`, which is at `y` on the scale, or beyond it,
    /// away from the middle.
    pub(super) fn tail(&self, x: f64, y: f64, above: bool) -> f64 {
        // One more sample like this is assumed: a share is never zero for want of samples.
        let masses = match &self.kept {
            Kept::First(first) => {
                let beyond = |v: &&f64| if above { **v >= x } else { **v <= x };
                let n = first.iter().take(self.learned as usize);
                let n = n.filter(beyond).count();
                return (n + 1) as f64 / (self.learned + 1) as f64;
            }
            Kept::Masses(masses) => masses,
        };
        let at = cell_at(y);
        let cell = at as usize;
        let outside = if above {
            sum(&masses[cell + 1..])
        } else {
            sum(&masses[..cell])
        };
        let part = if above { 1.0 - at.fract() } else { at.fract() };
        let mass = f64::from(outside) + f64::from(masses[cell]) * part;
        ((mass + self.weight) / (self.total + self.weight)).clamp(0.0, 1.0)
    }

    /// How far apart values are at the end of what was learned: the range that the four samples
    /// nearest to `x` and beyond take, downwards or upwards.
    pub(super) fn sparse(&self, x: f64, downwards: bool) -> f64 {
        let Kept::Masses(masses) = &self.kept else {
            return 0.0;
        };
        let enough = 4.0 * self.weight;
        let first = self.scale.cell(x);
        let (mut run, mut last) = (0.0, first);
        loop {
            run += f64::from(masses[last]);
            let next = if downwards {
                last.checked_sub(1)
            } else {
                Some(last + 1).filter(|c| *c < CELLS)
            };
            match next {
                Some(next) if run < enough => last = next,
                _ => break,
            }
        }
        // From the middle of the first cell to the middle of the last.
        let middle = |c: usize| self.scale.at((c as f64 - CELLS as f64 / 2.0) / PER_UNIT);
        (middle(first) - middle(last)).abs()
    }

    fn refresh(&mut self) {
        self.stale = 0;
        let masses = self.kept.masses();
        let total: f64 = masses.iter().map(|m| f64::from(*m)).sum();
        let (least, most) = (
            self.least[0].min(self.least[1]),
            self.most[0].max(self.most[1]),
        );
        let is_known = total > 0.0 && least <= most && least.abs().max(most.abs()) < f64::MAX;
        if !is_known {
            return;
        }
        let mut found = [most; 7];
        let (mut run, mut next) = (0.0, 0);
        for (cell, mass) in masses.iter().enumerate() {
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
        let Kept::First(mut sorted) = self.kept else {
            return self.quantiles;
        };
        let n = self.learned as usize;
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
        let from = std::mem::replace(&mut self.scale, to);
        if let Kept::Masses(masses) = &mut self.kept {
            let old = std::mem::replace(masses, [0.0; CELLS]);
            for (cell, mass) in old.iter().enumerate().filter(|(_, m)| **m > 0.0) {
                let middle = from.at((cell as f64 - CELLS as f64 / 2.0) / PER_UNIT);
                masses[to.cell(middle)] += mass;
            }
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
        // A number, or what stands for none yet.
        let is_end = |x: &f64, none: f64| *x == none || x.abs() <= MOST_VALUE;
        let kept = match &self.kept {
            Kept::First(first) => self.learned < FIRST as u64 && are_within(MOST_VALUE, first),
            Kept::Masses(masses) => {
                self.learned >= FIRST as u64
                    && masses
                        .iter()
                        .all(|m| (0.0..=MOST_MEASURE as f32).contains(m))
            }
        };
        kept && are_within(MOST_VALUE, &all)
            && self.least.iter().all(|x| is_end(x, f64::MAX))
            && self.most.iter().all(|x| is_end(x, f64::MIN))
            && is_end(&self.finest, f64::MAX)
            && self.finest >= 0.0
            && are_within(MOST_MEASURE, [&self.weight, &self.total])
            && are_within(MOST_VALUE * MOST_VALUE * MOST_MEASURE, [&self.squares])
            && self.scale.unit >= LEAST_UNIT
            && self.weight > 0.0
            && self.total >= 0.0
            && (0.0..=1.0).contains(&self.passed)
    }
}

/// In eight sums side by side, which takes an eighth of the time.
fn sum(masses: &[f32]) -> f32 {
    let (eights, rest) = masses.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for eight in eights {
        for (sum, mass) in sums.iter_mut().zip(eight) {
            *sum += mass;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
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
            let p = v.tail(probe, v.scale.of(probe), true);
            prop_assert!(p > 0.0 && p <= 1.0);
        }
    }
}
