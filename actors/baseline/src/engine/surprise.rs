//! How surprising a sample is, as one number that means the same for every series: 1 is a warning.
//!
//! Three views of it, each held against what is usual for the series itself: a value that was never
//! seen (`novelty`), a sudden step away from the level held lately (`deviation`), and a value that
//! this time of the day has not shown (`time of day`). What is usual is learned from the greatest
//! of each day, so that a series that is wild every day is not told every day. Novelty has no upper
//! end; the others have one, for what was seen before is not unheard of.

use super::state::are_within;
use super::values::Scale;
use serde::{Deserialize, Serialize};

/// Cells of the grid of values seen: finer than that of the masses, for only one bit is kept.
const CELLS: usize = 256;
const PER_UNIT: f64 = 16.0;
type Cells = [u64; CELLS / 64];
/// Hours a value has to have been seen before it counts as known.
const FRESH: usize = 3;
const FRESH_MS: i64 = 3_600_000;
/// Days whose greatest distances are kept.
const RING: usize = 14;
/// A day counts if it was watched for at least this long, in seconds.
const LEAST_DAY_S: f32 = 21_600.0;
/// Days after which the older half of what was seen is forgotten.
const GENERATION_DAYS: u8 = 28;
/// The level follows a sample by this share: a mean of some sixteen samples.
const FOLLOW: f64 = 2.0 / 17.0;
/// Of novelty and of the distance from the time of day: what an ordinary day may show, and over how
/// many days its greatest is averaged.
const ORDINARY: [f32; 2] = [1.0, 0.05];
const MEAN_DAYS: [f32; 2] = [7.0, 14.0];
/// A young series is not trusted fully before this age.
const GROWN_S: f64 = 4.0 * 86_400.0;
/// More novelty says nothing more.
const MOST_NOVELTY: f64 = 1e6;
/// Nor does more of the other views.
const MOST: f64 = 8.0;
/// Samples are of at most 1e30 in size, and what follows them is no larger.
const MOST_LEVEL: f64 = 1e31;
const MOST_AWAY: f32 = 1e32;
/// Spreads from what is expected count up to here.
const MOST_SIGMA: f64 = 12.0;

/// What the surprise is meant for: how much each view counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// For series of hosts and services: few false alerts, and what belongs together is seen
    /// together.
    #[default]
    Balanced,
    /// For single series of which nothing else is known: what was never seen counts most.
    Novelty,
}

impl Profile {
    /// Novelty, deviation, time of day, and the distance from what is expected in units of three
    /// spreads; the sum of them that is a warning. Chosen on the Numenta Anomaly Benchmark and ASD.
    const fn weights(self) -> ([f64; 4], f64) {
        match self {
            Self::Balanced => ([2.0, 0.7, 0.3, 0.5], 2.4),
            Self::Novelty => ([2.0, 0.3, 0.15, 0.5], 1.2),
        }
    }

    /// The surprise of a sample that lies `sigma` spreads from what is expected.
    pub fn surprise(self, views: &Views, sigma: f64) -> f64 {
        let (weights, warning) = self.weights();
        let far = sigma.abs().min(MOST_SIGMA) / 3.0;
        let parts = [
            f64::from(views.novelty),
            f64::from(views.deviation),
            f64::from(views.time_of_day),
            far,
        ];
        parts.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() / warning
    }
}

/// A surprise as operators know it, in spreads: a half is 2, 1 is 3, 3 is 5, on a logarithmic scale
/// between and beyond.
pub fn as_sigma(surprise: f64) -> f64 {
    if surprise < 0.5 {
        4.0 * surprise.max(0.0)
    } else if surprise < 1.0 {
        3.0 + surprise.log2()
    } else {
        3.0 + 2.0 * surprise.ln() / 3f64.ln()
    }
}

/// What is known of the sample from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) value: f64,
    pub(super) expected: f64,
    /// The range of all but two in a thousand values.
    pub(super) span: f64,
    /// The least difference that can matter.
    pub(super) floor: f64,
    /// How far it lies outside of what this time of the day has shown; none if that is not known.
    pub(super) outside: Option<f64>,
    /// How far apart values are, where the nearest one seen lies.
    pub(super) sparse: f64,
    pub(super) age_s: f64,
}

/// The views of one sample, each already held against what is usual.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Views {
    /// Never seen.
    pub novelty: f32,
    /// A step away from the level held lately.
    pub deviation: f32,
    /// Not at this time of the day.
    pub time_of_day: f32,
    /// Further from all that was seen than the rarest values lie beyond the rare ones, and the sample
    /// before it too.
    pub is_unheard_of: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Surprise {
    pub(super) profile: Profile,
    /// A bit for each cell a value was seen in, for this generation and the last.
    cells: [Cells; 2],
    /// What was seen in the last hours does not yet count as known, or slow climbs were never news.
    fresh: [Cells; FRESH],
    fresh_since_ms: i64,
    generation_days: u8,
    level: f64,
    started: bool,
    day_s: f32,
    /// Today's greatest deviation, those of the days before, and what is usual of them.
    top: f32,
    before: [f32; RING],
    days: u8,
    usual: Usual,
    /// Today's greatest novelty and distance from the time of day, and their mean.
    most: [f32; 2],
    mean_most: [f32; 2],
    /// Days on which the time of the day was known, and whether it was today.
    known_days: u8,
    is_time_known: bool,
    /// Whether the sample before lay far from all that was seen.
    pub(super) was_far: bool,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Usual {
    centre: f32,
    spread: f32,
}

/// The cell that a place on the scale lies in.
fn cell(y: f64) -> usize {
    (y * PER_UNIT + CELLS as f64 / 2.0 + 0.5).clamp(0.0, CELLS as f64 - 1.0) as usize
}

fn lower_edge(scale: Scale, cell: usize) -> f64 {
    scale.at((cell as f64 - CELLS as f64 / 2.0 - 0.5) / PER_UNIT)
}

impl Surprise {
    pub(super) fn new() -> Self {
        Self {
            profile: Profile::default(),
            cells: [[0; CELLS / 64]; 2],
            fresh: [[0; CELLS / 64]; FRESH],
            fresh_since_ms: i64::MIN,
            generation_days: 0,
            level: 0.0,
            started: false,
            day_s: 0.0,
            top: 0.0,
            before: [0.0; RING],
            days: 0,
            usual: Usual::default(),
            most: [0.0; 2],
            mean_most: [0.0; 2],
            known_days: 0,
            is_time_known: false,
            was_far: false,
        }
    }

    /// Marks the value at `y` on the scale as seen: known after some hours.
    pub(super) fn learn(&mut self, y: f64, now_ms: i64) {
        let hours = now_ms.saturating_sub(self.fresh_since_ms) / FRESH_MS;
        for _ in 0..hours.clamp(0, FRESH as i64) {
            self.fresh.rotate_right(1);
            let known = std::mem::take(&mut self.fresh[0]);
            for (all, new) in self.cells[0].iter_mut().zip(known) {
                *all |= new;
            }
        }
        if hours != 0 {
            self.fresh_since_ms = now_ms;
        }
        let at = cell(y);
        self.fresh[0][at / 64] |= 1 << (at % 64);
    }

    /// Forgets what was first seen since `from_ms` and is not known yet.
    pub(super) fn forget_fresh(&mut self, from_ms: i64) {
        for (hours, fresh) in self.fresh.iter_mut().enumerate() {
            let began = self.fresh_since_ms.saturating_sub(hours as i64 * FRESH_MS);
            // The hour that it began in goes with it: most of its values are known anyway.
            if began.saturating_add(FRESH_MS) > from_ms {
                *fresh = [0; CELLS / 64];
            }
        }
    }

    /// Carries what was seen over to another scale.
    pub(super) fn rescale(&mut self, from: Scale, to: Scale) {
        for generation in self.cells.iter_mut().chain(&mut self.fresh) {
            let old = std::mem::take(generation);
            for at in (0..CELLS).filter(|at| old[at / 64] >> (at % 64) & 1 == 1) {
                let (a, b) = (lower_edge(from, at), lower_edge(from, at + 1));
                let within = |part: f64| cell(to.of(a + (b - a) * part));
                let (a, b) = (within(0.25), within(0.75));
                for at in a..=b {
                    generation[at / 64] |= 1 << (at % 64);
                }
            }
        }
    }

    /// The distance of a value, which is at `y` on the scale, from the nearest one seen, and whether that lies below.
    pub(super) fn distance(&self, scale: Scale, x: f64, y: f64) -> Option<(f64, bool)> {
        let seen: [u64; CELLS / 64] = std::array::from_fn(|i| self.cells[0][i] | self.cells[1][i]);
        let at = cell(y);
        if seen[at / 64] >> (at % 64) & 1 == 1 {
            return Some((0.0, false));
        }
        let below = last_before(&seen, at).map(|c| (x - lower_edge(scale, c + 1)).max(0.0));
        let above = first_after(&seen, at).map(|c| (lower_edge(scale, c) - x).max(0.0));
        match (below, above) {
            (Some(b), Some(a)) if a < b => Some((a, false)),
            (Some(b), _) => Some((b, true)),
            (None, Some(a)) => Some((a, false)),
            (None, None) => None,
        }
    }

    /// Takes over what another has seen, on its scale, and what is ordinary for it where that is
    /// wilder.
    pub(super) fn absorb(&mut self, scale: Scale, other: &Self, theirs: Scale) {
        let mut seen = other.clone();
        seen.rescale(theirs, scale);
        for (own, their) in self.cells.iter_mut().zip(&seen.cells) {
            for (own, their) in own.iter_mut().zip(their) {
                *own |= their;
            }
        }
        let own = self.before.iter_mut().chain(&mut self.mean_most);
        let theirs = other.before.iter().chain(&other.mean_most);
        for (own, theirs) in own.zip(theirs) {
            *own = own.max(*theirs);
        }
        self.days = self.days.max(other.days);
        self.known_days = self.known_days.max(other.known_days);
        self.usual = usual(&self.before[..usize::from(self.days).min(RING)]);
    }

    /// What went on elsewhere does not go on here.
    pub(super) fn begin_here(&mut self) {
        for fresh in std::mem::take(&mut self.fresh) {
            for (own, fresh) in self.cells[0].iter_mut().zip(fresh) {
                *own |= fresh;
            }
        }
        self.fresh_since_ms = i64::MIN;
        self.started = false;
        (self.day_s, self.top, self.most) = (0.0, 0.0, [0.0; 2]);
    }

    /// After a gap the level starts anew.
    pub(super) fn restart(&mut self) {
        self.started = false;
    }

    /// A day has ended.
    pub(super) fn turn_day(&mut self) {
        if self.day_s >= LEAST_DAY_S {
            self.before.rotate_right(1);
            self.before[0] = std::mem::take(&mut self.top);
            self.days = self.days.saturating_add(1).min(RING as u8);
            self.usual = usual(&self.before[..usize::from(self.days)]);
            self.day_s = 0.0;
        }
        if std::mem::take(&mut self.is_time_known) {
            self.known_days = self.known_days.saturating_add(1);
        }
        for j in 0..2 {
            let most = self.most[j].min(10.0 * (self.mean_most[j] + ORDINARY[j]));
            // The first days count fully.
            let days = f32::from([self.days, self.known_days][j].max(1)).min(MEAN_DAYS[j]);
            self.mean_most[j] += (most - self.mean_most[j]) / days;
            self.most[j] = 0.0;
        }
        self.generation_days = self.generation_days.saturating_add(1);
        if self.generation_days >= GENERATION_DAYS {
            self.generation_days = 0;
            self.cells = [[0; CELLS / 64], self.cells[0]];
        }
    }

    /// The views of a sample; `new` is its distance from what was seen. What is ordinary is learned
    /// of it only if it `learns`.
    pub(super) fn weigh(&mut self, seen: &Seen, new: f64, passed_s: f64, learns: bool) -> Views {
        let Seen {
            value,
            expected,
            span,
            floor,
            outside,
            sparse,
            age_s,
        } = *seen;
        if !self.started {
            (self.level, self.started) = (value, true);
        }
        self.day_s += passed_s.min(3600.0) as f32;
        let young = (age_s / GROWN_S).min(1.0).powi(2);
        let step = value - self.level;
        let away = step.abs();
        self.level += step * FOLLOW;
        if learns {
            self.top = self.top.max(away as f32);
        }
        // A step towards what is expected is a recovery.
        let is_leaving = step * (value - expected) > 0.0;
        let deviation = if self.days >= 1 && is_leaving {
            let centre = f64::from(self.usual.centre);
            let usual = f64::from(self.usual.spread) + 0.5 * centre + floor;
            ((away - centre) / (usual + f64::MIN_POSITIVE)).clamp(0.0, MOST) * young
        } else {
            0.0
        };
        let sparseness = 0.06 + 0.3 * 86_400.0 / age_s.max(86_400.0);
        let ordinary = floor + 0.02 * span + sparseness * sparse;
        let novelty = new / (ordinary + f64::MIN_POSITIVE);
        let time_of_day = outside.map_or(0.0, |d| {
            (d - floor).max(0.0) / (span + floor + f64::MIN_POSITIVE)
        });
        let mut told = [0.0; 2];
        for (j, x) in [novelty, time_of_day].into_iter().enumerate() {
            let x = (x.min(MOST_NOVELTY) * young) as f32;
            if learns {
                self.most[j] = self.most[j].max(x);
            }
            told[j] = x / (self.mean_most[j] + ORDINARY[j]);
        }
        self.is_time_known |= outside.is_some();
        Views {
            novelty: told[0],
            deviation: deviation as f32,
            time_of_day: told[1].min(MOST as f32),
            is_unheard_of: false,
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        let usual = [self.usual.centre, self.usual.spread];
        let all = [self.day_s, self.top];
        let mut all = all
            .iter()
            .chain(&self.before)
            .chain(&self.most)
            .chain(&self.mean_most);
        // What is usual is computed from the others, and is a little larger at most.
        are_within(MOST_LEVEL, [&self.level])
            && usize::from(self.days) <= RING
            && all.all(|x| (0.0..=MOST_AWAY).contains(x))
            && usual.iter().all(|x| (0.0..=2.0 * MOST_AWAY).contains(x))
    }
}

fn last_before(seen: &[u64; CELLS / 64], at: usize) -> Option<usize> {
    let mut word = at / 64;
    let mut bits = seen[word] & ((1u64 << (at % 64)) - 1);
    loop {
        if bits != 0 {
            return Some(word * 64 + 63 - bits.leading_zeros() as usize);
        }
        word = word.checked_sub(1)?;
        bits = seen[word];
    }
}

fn first_after(seen: &[u64; CELLS / 64], at: usize) -> Option<usize> {
    let mut word = at / 64;
    let mut bits = seen[word] & (u64::MAX << (at % 64));
    loop {
        if bits != 0 {
            return Some(word * 64 + bits.trailing_zeros() as usize);
        }
        word += 1;
        bits = *seen.get(word)?;
    }
}

/// The middle of the days' greatest, and how far they lie from it.
fn usual(days: &[f32]) -> Usual {
    let mut room = [0.0; RING];
    let sorted = &mut room[..days.len()];
    sorted.copy_from_slice(days);
    let centre = median(sorted);
    sorted.iter_mut().for_each(|x| *x = (*x - centre).abs());
    Usual {
        centre,
        spread: 1.4826 * median(sorted),
    }
}

fn median(values: &mut [f32]) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    let n = values.len();
    match n {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => 0.5 * (values[n / 2 - 1] + values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCALE: Scale = Scale {
        centre: 50.0,
        unit: 2.0,
    };
    const HOUR_MS: i64 = 3_600_000;

    fn knowing(values: &[f64]) -> Surprise {
        let mut surprise = Surprise::new();
        for x in values {
            surprise.learn(SCALE.of(*x), 0);
        }
        surprise.learn(SCALE.of(values[0]), 10 * HOUR_MS);
        surprise
    }

    fn away(surprise: &Surprise, x: f64) -> f64 {
        surprise.distance(SCALE, x, SCALE.of(x)).unwrap().0
    }

    #[test]
    fn a_value_is_as_new_as_it_is_far_from_the_nearest_one_seen() {
        let surprise = knowing(&[50.0, 52.0]);
        assert_eq!(away(&surprise, 50.0), 0.0);
        assert!((away(&surprise, 60.0) - 8.0).abs() < 0.3);
        assert!((away(&surprise, 40.0) - 10.0).abs() < 0.3);
        assert!((away(&surprise, 51.0) - 1.0).abs() < 0.2, "a gap between");
    }

    #[test]
    fn a_value_is_known_some_hours_after_it_was_seen() {
        let mut surprise = knowing(&[50.0]);
        surprise.learn(SCALE.of(70.0), 11 * HOUR_MS);
        surprise.learn(SCALE.of(50.0), 12 * HOUR_MS);
        assert!(away(&surprise, 70.0) > 15.0);
        surprise.learn(SCALE.of(50.0), 14 * HOUR_MS);
        assert_eq!(away(&surprise, 70.0), 0.0);
    }

    #[test]
    fn what_was_not_seen_for_two_months_is_new_again() {
        let mut surprise = knowing(&[50.0, 70.0]);
        for day in 0..2 * i64::from(GENERATION_DAYS) {
            surprise.learn(SCALE.of(50.0), (11 + 24 * day) * HOUR_MS);
            surprise.turn_day();
        }
        assert_eq!(away(&surprise, 50.0), 0.0);
        assert!(away(&surprise, 70.0) > 15.0);
    }

    #[test]
    fn a_series_that_is_wild_every_day_is_not_told_every_day() {
        let seen = |value| Seen {
            value,
            expected: 50.0,
            span: 10.0,
            floor: 0.5,
            outside: Some(0.0),
            sparse: 0.0,
            age_s: 30.0 * 86_400.0,
        };
        let mut surprise = Surprise::new();
        let mut first = None;
        for _ in 0..20 {
            for _ in 0..40 {
                surprise.weigh(&seen(50.0), 0.0, 1800.0, true);
            }
            let views = surprise.weigh(&seen(90.0), 20.0, 1800.0, true);
            first.get_or_insert(views.novelty);
            let quiet = views.novelty < 0.3 * first.unwrap() && views.deviation < 1.0;
            assert!(surprise.days < 12 || quiet, "{views:?}");
            surprise.turn_day();
        }
    }

    #[test]
    fn a_step_back_to_what_is_expected_is_no_deviation() {
        let seen = |value| Seen {
            value,
            expected: 50.0,
            span: 0.0,
            floor: 0.0,
            outside: Some(0.0),
            sparse: 0.0,
            age_s: 30.0 * 86_400.0,
        };
        let mut surprise = Surprise::new();
        for _ in 0..60 {
            surprise.weigh(&seen(50.0), 0.0, 1800.0, true);
        }
        surprise.turn_day();
        assert_eq!(surprise.weigh(&seen(95.0), 0.0, 30.0, true).deviation, 8.0);
        for _ in 0..100 {
            let views = surprise.weigh(&seen(50.0), 0.0, 30.0, true);
            assert_eq!(views.deviation, 0.0);
        }
    }

    proptest! {
        #[test]
        fn another_scale_forgets_nothing(values in proptest::collection::vec(0.0..100.0f64, 1..40), unit in 0.3..20.0f64) {
            let mut surprise = knowing(&values);
            let to = Scale { centre: 40.0, unit };
            surprise.rescale(SCALE, to);
            // As wide as a cell is there, on either scale.
            for x in values {
                let width = 0.25 * (x - 50.0).hypot(2.0).max((x - 40.0).hypot(unit));
                let away = surprise.distance(to, x, to.of(x)).unwrap().0;
                prop_assert!(away <= width, "{x} is {away} away");
            }
        }

        #[test]
        fn more_surprise_is_more_sigma(a in 0.0..1e4f64, b in 0.0..1e4f64) {
            prop_assert_eq!(a < b, as_sigma(a) < as_sigma(b));
        }
    }

    #[test]
    fn a_surprise_in_spreads_is_two_three_and_five() {
        for (surprise, sigma) in [(0.0, 0.0), (0.5, 2.0), (1.0, 3.0), (3.0, 5.0)] {
            assert!((as_sigma(surprise) - sigma).abs() < 1e-9);
        }
    }
}
