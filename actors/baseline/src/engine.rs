//! One series' baseline: it is shown samples, and says how far each is from what is normal.
//!
//! A streaming engine of fixed size and constant time a sample. What is normal has three views:
//! all values of the last days (`values`), the range and centre of each time of the week
//! (`season`), and the level held lately. A sample is measured in spreads from what is expected,
//! where a spread is never finer than the noise learned, the steps the series makes, a share of its
//! range, and, while little is known, a large share of what it has shown. Samples are learned late
//! (`pending`), and those that look like trouble are not learned until trouble has become normal.
//! Beside that distance stands how surprising the sample is (`surprise`): it counts as the spreads it
//! stands for, if those are more.

mod array;
mod input;
mod learning;
mod merge;
mod pending;
mod season;
mod state;
mod surprise;
mod trend;
mod values;

pub use state::STATE_VERSION;
pub use surprise::{Profile, Views, as_sigma};

use crate::moment::Moment;
use hale_model::{BaselineStats, Bounds, Harm, Reading, Sample, SeriesKind, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Samples that have to be learned before anything is judged.
pub const LEAST_SAMPLES: u64 = 5;
/// Sigma is cut here: beyond it, more says nothing more.
pub const MOST_SIGMA: f64 = 1000.0;
/// From this many spreads on a sample is not learned as normal: a warning.
const SUSPICIOUS: f64 = 3.0;
/// A surprise alone warns at most, unless a week was seen and nothing like it, twice in a row: the next
/// value of a wild series is often the greatest yet.
const MOST_SURPRISED: f64 = 4.9;
const EXPERIENCED_S: u64 = 7 * 86_400;
/// A limit further off than this is none.
const FARTHEST_LIMIT_S: f64 = 30.0 * 86_400.0;

/// How much a baseline knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Too few samples to judge.
    Starting,
    /// Judged by what it has shown so far, with caution.
    Learning,
    /// Judged by what this time of the week is like.
    Seasonal,
}

impl Phase {
    /// Its name in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Learning => "learning",
            Self::Seasonal => "seasonal",
        }
    }
}

/// A sample held against a series' baseline. Cheap to copy; [`Measured::reading`] names the series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// When.
    pub at: Timestamp,
    /// The value judged: for a counter its rate per second.
    pub value: f64,
    /// The baseline it was held against.
    pub baseline: BaselineStats,
    /// The least that is normal now.
    pub low: f64,
    /// The most that is normal now.
    pub high: f64,
    /// How many spreads away from what is expected; positive is above. A surprise counts as the
    /// spreads it stands for ([`as_sigma`]), if those are more.
    pub sigma: f64,
    /// The spreads alone, without the surprise.
    pub distance: f64,
    /// How surprising it is: 1 is a warning, 3 is critical.
    pub surprise: f64,
    /// The share of what was learned that lies this far out or further.
    pub tail_probability: f64,
    /// The slope, in the series' unit per hour.
    pub trend_per_hour: f64,
    /// Seconds until a clear trend reaches the limit.
    pub seconds_to_limit: Option<f64>,
    /// How surprising it is, view by view.
    pub views: Views,
    /// How much was known.
    pub phase: Phase,
    /// Whether the sample was held back from learning, because it looks like trouble or the
    /// period is excluded.
    pub held_back: bool,
}

impl Measured {
    fn add(&mut self, views: Views, profile: Profile) {
        self.views = views;
        self.surprise = profile.surprise(&views, self.distance);
        let most = if views.is_unheard_of && self.baseline.age_seconds >= EXPERIENCED_S {
            MOST_SIGMA
        } else {
            MOST_SURPRISED
        };
        // What is no number is no surprise.
        let size = if self.surprise.is_finite() {
            as_sigma(self.surprise).min(most)
        } else {
            0.0
        };
        if size > self.sigma.abs() && self.phase != Phase::Starting {
            self.set_sigma(size.copysign(self.value - self.baseline.expected));
        }
    }

    /// Keeps value = expected + sigma · spread, as operators expect it; what is just as expected is
    /// no spread away, however surprising.
    fn set_sigma(&mut self, sigma: f64) {
        let spread = (self.value - self.baseline.expected).abs() / sigma.abs();
        if sigma == 0.0 {
            self.sigma = 0.0;
        } else if spread.is_normal() {
            self.sigma = sigma;
            self.baseline.spread = spread;
        }
    }

    /// The same by the distance alone: as it counts where nothing else of the host is surprised.
    pub fn by_distance(mut self) -> Self {
        if self.sigma != self.distance {
            self.set_sigma(self.distance);
        }
        self
    }

    /// The same with the series' name and nature.
    pub fn reading(&self, sample: &Sample) -> Reading {
        Reading {
            series: sample.series.clone(),
            service: sample.service.clone(),
            at: self.at,
            value: self.value,
            baseline: self.baseline,
            sigma: self.sigma,
            tail_probability: self.tail_probability,
            trend_per_hour: self.trend_per_hour,
            seconds_to_limit: self.seconds_to_limit,
            bounds: sample.bounds,
            harm: sample.harm,
        }
    }
}

/// How far sigma points to where trouble lies; zero if it points away.
pub fn toward_harm(sigma: f64, harm: Harm) -> f64 {
    match harm {
        Harm::High => sigma.max(0.0),
        Harm::Low => (-sigma).max(0.0),
        Harm::Both => sigma.abs(),
        Harm::Neither => 0.0,
    }
}

/// What a sample says of its series' nature.
#[derive(Debug, Clone, Copy)]
struct Nature {
    kind: SeriesKind,
    bounds: Option<Bounds>,
    harm: Harm,
    /// The least change that can matter.
    grain: f64,
}

impl Nature {
    fn of(sample: &Sample) -> Self {
        let usable = |b: &Bounds| b.min.is_finite() && b.max.is_finite() && b.max > b.min;
        Self {
            kind: sample.kind,
            bounds: sample.bounds.filter(usable),
            harm: sample.harm,
            grain: if sample.grain.is_finite() {
                sample.grain.max(0.0)
            } else {
                0.0
            },
        }
    }

    fn range(&self) -> f64 {
        self.bounds.map_or(0.0, |b| b.max - b.min)
    }

    /// Whether a value is at the end of its range where it hurts: full, or down. That is never
    /// the new normal just because it lasts.
    fn is_at_worst(&self, x: f64) -> bool {
        self.bounds.is_some_and(|b| {
            let near = 0.01 * (b.max - b.min);
            (self.harm == Harm::High && x >= b.max - near)
                || (self.harm == Harm::Low && x <= b.min + near)
        })
    }
}

/// What is normal for one series.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Baseline {
    half_life_s: f64,
    input: input::Input,
    values: values::Values,
    season: season::Season,
    pending: pending::Pending,
    trend: trend::Trend,
    learning: learning::Learning,
    surprise: surprise::Surprise,
}

impl Baseline {
    /// A baseline that has seen nothing yet. What is older than `window` weighs little: a quarter.
    pub fn new(window: Duration) -> Self {
        Self {
            half_life_s: (window.as_secs_f64() / 2.0).max(3600.0),
            input: input::Input::default(),
            values: values::Values::new(),
            season: season::Season::new(),
            pending: pending::Pending::default(),
            trend: trend::Trend::default(),
            learning: learning::Learning::default(),
            surprise: surprise::Surprise::new(),
        }
    }

    /// Changes how far back it reaches.
    pub fn set_window(&mut self, window: Duration) {
        self.half_life_s = (window.as_secs_f64() / 2.0).max(3600.0);
    }

    /// Changes what its surprise is meant for.
    pub fn set_profile(&mut self, profile: Profile) {
        self.surprise.profile = profile;
    }

    /// Holds a sample against what is normal, and learns it. None if there is nothing to judge: a
    /// value that is not finite, a counter's first value or restart, a sample out of order.
    pub fn observe(&mut self, sample: &Sample, now: Moment) -> Option<Reading> {
        self.measure(sample, now).map(|m| m.reading(sample))
    }

    /// As [`Baseline::observe`], without naming the series; it allocates nothing.
    pub fn measure(&mut self, sample: &Sample, now: Moment) -> Option<Measured> {
        let nature = Nature::of(sample);
        let taken = self.input.take(sample.kind, sample.value, now.at)?;
        self.pass_time(&taken, now);
        let usual = if self.values.has_grid() {
            self.season.usual(self.values.scale, now)
        } else {
            None
        };
        let place = Place {
            y: self.values.scale.of(taken.value),
            usual,
        };
        let mut measured = self.weigh(taken.value, &place, &nature, now);
        let views = self.views(&taken, &place, &measured, &nature, now);
        measured.held_back = !self.learn(&measured, &nature, now);
        measured.add(views, self.surprise.profile);
        Some(measured)
    }

    /// Excludes a period from what is normal: an incident, or what Hale did itself. What of it was
    /// held back is forgotten, what is still to come (at most a day) is judged and not learned.
    pub fn exclude(&mut self, from: Timestamp, until: Timestamp) {
        self.pending
            .forget_since(from.as_millis(), until.as_millis());
        self.surprise.forget_fresh(from.as_millis());
        self.learning
            .exclude_until(until.min(self.input.last_at().plus(Duration::from_secs(86_400))));
    }

    /// When the last sample was taken in.
    pub fn last_at(&self) -> Timestamp {
        self.input.last_at()
    }

    /// Whether it began from what other hosts knew.
    pub fn is_inherited(&self) -> bool {
        self.input.inherited_s() > 0.0
    }

    /// For how long it was watched here.
    pub fn own_age(&self) -> Duration {
        let own_s = self.input.age_s() - self.input.inherited_s();
        Duration::from_secs_f64(own_s.clamp(0.0, 1e12))
    }

    /// For how long it was watched; a gap counts as an hour at most.
    pub fn age(&self) -> Duration {
        Duration::from_secs_f64(self.input.age_s().clamp(0.0, 1e12))
    }

    /// How far apart its samples are, typically.
    pub fn step(&self) -> Duration {
        Duration::from_secs_f64(self.input.step_s().clamp(0.0, 1e6))
    }

    fn pass_time(&mut self, taken: &input::Taken, now: Moment) {
        if taken.clock_set_back {
            self.pending = pending::Pending::default();
            self.learning.clock_set_back();
        }
        if taken.after_a_gap || taken.clock_set_back {
            self.trend.restart();
            self.surprise.restart();
        }
        // A clock that jumped ahead by months does not wipe out what is known.
        self.values
            .fade(taken.passed_s.min(7.0 * 86_400.0) / self.half_life_s);
        if self.learning.turn_day(now.day(), taken.passed_s) {
            self.surprise.turn_day();
            let before = self.values.scale;
            if self.values.has_grid() && self.values.follow() {
                self.rescale(before);
            }
        }
        self.trend
            .push(now.at.as_millis(), taken.value, self.input.step_s());
    }

    fn weigh(&mut self, value: f64, place: &Place, nature: &Nature, now: Moment) -> Measured {
        let starting = self.values.learned < LEAST_SAMPLES;
        let normal = self.normal(value, place.usual, nature);
        let d = value - normal.expected;
        let reach = if d >= 0.0 {
            normal.high - normal.expected
        } else {
            normal.expected - normal.low
        };
        let raw = distance(d.abs(), reach, normal.unit);
        let calm = self.learning.calm(d >= 0.0);
        let size = (raw * calm).min(MOST_SIGMA);
        let sigma = if starting { 0.0 } else { size.copysign(d) };
        // So that value = expected + sigma · spread, as operators expect it.
        let spread = if size > 1e-9 && d != 0.0 {
            d.abs() / size
        } else {
            normal.unit.max(reach / 2.0) / calm
        };
        Measured {
            at: now.at,
            value,
            baseline: self.told(normal.expected, spread),
            low: normal.low,
            high: normal.high,
            sigma,
            distance: sigma,
            tail_probability: self.values.tail(value, place.y, d >= 0.0),
            trend_per_hour: self.trend.line.slope * 3600.0,
            seconds_to_limit: self.seconds_to_limit(value, nature, normal.unit),
            surprise: 0.0,
            views: Views::default(),
            phase: match (starting, normal.seasonal) {
                (true, _) => Phase::Starting,
                (_, false) => Phase::Learning,
                (_, true) => Phase::Seasonal,
            },
            held_back: false,
        }
    }

    fn views(
        &mut self,
        taken: &input::Taken,
        place: &Place,
        measured: &Measured,
        nature: &Nature,
        now: Moment,
    ) -> Views {
        let value = taken.value;
        if !self.values.has_grid() {
            return Views::default();
        }
        let q = &self.values.quantiles;
        let steps = if self.values.finest < f64::MAX {
            2.0 * self.values.finest
        } else {
            0.0
        };
        let floor = (0.005 * q.p50.abs() + steps)
            .max(0.01 * nature.range())
            .max(nature.grain);
        let span = q.span();
        let (new, is_below) = self
            .surprise
            .distance(self.values.scale, value, place.y)
            .unwrap_or((0.0, false));
        let sparse = if new > 0.0 {
            let nearest = if is_below { value - new } else { value + new };
            self.values.sparse(nearest, is_below)
        } else {
            0.0
        };
        // The band as it is told: it moves along with a level that moved for good.
        let outside = |_| (value - measured.high).max(measured.low - value).max(0.0);
        let outside = place.usual.map(outside);
        let learns = !self.learning.is_excluded(now.at);
        let seen = surprise::Seen {
            value,
            expected: measured.baseline.expected,
            span,
            floor,
            outside,
            sparse,
            age_s: self.input.age_s(),
        };
        let rare = if is_below { sparse } else { q.high - q.p99 };
        let mut views = self.surprise.weigh(&seen, new, taken.passed_s, learns);
        let is_far = new > rare.max(floor);
        let was_far = std::mem::replace(&mut self.surprise.was_far, is_far);
        views.is_unheard_of = is_far && was_far;
        if learns {
            self.surprise.learn(place.y, now.at.as_millis());
        }
        views
    }

    /// Carries all that is packed on a scale over to the values' new one.
    fn rescale(&mut self, from: values::Scale) {
        self.season.rescale(from, self.values.scale);
        self.surprise.rescale(from, self.values.scale);
    }

    fn told(&self, expected: f64, spread: f64) -> BaselineStats {
        let q = &self.values.quantiles;
        BaselineStats {
            mean: self.values.mean(),
            stddev: self.values.stddev(),
            p50: q.p50,
            p95: q.p95,
            p99: q.p99,
            expected,
            spread,
            samples: self.values.learned,
            age_seconds: self.input.age_s() as u64,
        }
    }

    fn normal(&mut self, value: f64, usual: Option<season::Usual>, nature: &Nature) -> Normal {
        let unit = self.unit(value, nature);
        let lately = self.learning.lately();
        match usual {
            Some(usual) => {
                // A level that moved for good takes the band along; the old one stays normal too.
                let (low, high) = (
                    usual.low + lately.shift.min(0.0),
                    usual.high + lately.shift.max(0.0),
                );
                let expected = (usual.expected + lately.shift).clamp(low, high);
                Normal {
                    expected,
                    low,
                    high,
                    unit,
                    seasonal: true,
                }
            }
            None if self.values.learned == 0 => Normal {
                expected: value,
                low: value,
                high: value,
                unit,
                seasonal: false,
            },
            None => {
                let q = &self.values.quantiles;
                let (low, high) = (q.low.min(lately.level), q.high.max(lately.level));
                Normal {
                    expected: lately.level,
                    low,
                    high,
                    unit,
                    seasonal: false,
                }
            }
        }
    }

    /// What one spread is at least, in the series' unit.
    fn unit(&self, value: f64, nature: &Nature) -> f64 {
        let q = &self.values.quantiles;
        let age_s = self.input.age_s();
        // Caution while young: 1 at the start, 0.13 and 0.26 after an hour, 0.01 and 0.05 after a week.
        let young = 60.0 / (60.0 + age_s);
        let (young, long_young) = (young.sqrt(), young.cbrt());
        let few = 1.0 + 3.0 / (self.values.learned.max(1) as f64);
        let median = q.p50.abs();
        let span = q.span();
        let moved = self.values.finest < f64::MAX;

        let noise = self.learning.noise() * (1.1 + 2.0 * long_young);
        let shown = span * (0.03 + 1.6 * long_young) * few;
        // Where the rarest values lie far beyond the rare ones, the next may lie as far again.
        let tail = if value > q.p50 { q.high - q.p99 } else { 0.0 };
        let of_median = median * (0.005 + 0.045 * young);
        let of_range = nature.range() * (0.01 + 0.085 * young);
        let steps = if moved { 2.0 * self.values.finest } else { 0.0 };
        // A series that never moved is trusted the more, the longer it has not.
        let grain = if moved || nature.bounds.is_some() || nature.harm == Harm::Low {
            0.0
        } else {
            self.grain(value, nature) * (0.15 + 10.0 * young)
        };
        // A counter that begins to count is how services start.
        let starting_counter = match nature.kind {
            SeriesKind::Counter => 0.34 * long_young * (value - q.p50).abs(),
            SeriesKind::Gauge => 0.0,
        };
        [
            noise,
            shown,
            tail,
            of_median,
            of_range,
            steps,
            grain,
            starting_counter,
            nature.grain,
            1e-12 * value.abs(),
        ]
        .into_iter()
        .fold(1e-9, f64::max)
    }

    /// The least step a series seems able to make: one event in an interval, one decimal place.
    fn grain(&self, value: f64, nature: &Nature) -> f64 {
        if nature.kind == SeriesKind::Counter {
            return 1.0 / self.input.step_s().max(0.05);
        }
        let whole = |x: f64| (x - x.round()).abs() < 1e-6;
        [1.0, 0.1, 0.01, 0.001, 1e-4, 1e-5]
            .into_iter()
            .find(|g| whole(value / g) && whole(self.values.quantiles.p50 / g))
            .unwrap_or(1e-6)
    }

    fn seconds_to_limit(&self, value: f64, nature: &Nature, unit: f64) -> Option<f64> {
        let (bounds, line) = (nature.bounds?, self.trend.line);
        let left = match (nature.harm, line.slope > 0.0) {
            (Harm::High | Harm::Both, true) => bounds.max - value,
            (Harm::Low, false) => bounds.min - value,
            _ => return None,
        };
        // A line that explains most of what was seen, and rose by more than noise does.
        let is_clear = line.fit >= 0.8 && line.rise.abs() >= unit.min(0.02 * nature.range());
        let eta_s = (left / line.slope).max(0.0);
        (is_clear && eta_s.is_finite() && eta_s <= FARTHEST_LIMIT_S).then_some(eta_s)
    }
}

/// Where a sample lies.
struct Place {
    /// On the scale of the values.
    y: f64,
    /// Among those of this time of the week.
    usual: Option<season::Usual>,
}

/// What is normal for one sample.
struct Normal {
    expected: f64,
    low: f64,
    high: f64,
    unit: f64,
    seasonal: bool,
}

/// Spreads from what is expected: within the band its edge counts as two at most; beyond it each
/// unit counts as one more, the first of them as half, for the edge is only what happened to be seen.
fn distance(d: f64, reach: f64, unit: f64) -> f64 {
    if d <= reach {
        return d / unit.max(reach / 2.0);
    }
    let beyond = (d - reach) / unit;
    (d / unit).min(2.0 + beyond * beyond / (1.0 + beyond))
}

#[cfg(test)]
mod tests;
