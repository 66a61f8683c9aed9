//! What is learned, when, and what is not: late, and not while it looks like trouble. Trouble that
//! lasts for hours is a new level; trouble that comes on three days of seven, or on the same day of
//! the week again, is how the series is.

use super::pending::Chunk;
use super::season::Usual;
use super::state::{MOST_VALUE, are_within};
use super::{Baseline, Measured, Nature, Phase, SUSPICIOUS, toward_harm};
use crate::moment::{Moment, SLOT_S};
use hale_model::Timestamp;
use serde::{Deserialize, Serialize};

/// So many samples, and so many seconds, are learned at once, to have something to judge by.
const AT_ONCE: u64 = 8;
const AT_ONCE_S: f64 = 5.0;
/// How long samples are held back, at first and at most.
const DELAY_S: (f64, f64) = (15.0, 6300.0);
/// How long trouble has to last to be a new level, for a young series and for an old one.
const PATIENCE_S: (f64, f64) = (600.0, 3.0 * 3600.0);
/// A series at the worst end of its range is in trouble for longer than anybody would wait.
const PATIENCE_AT_WORST_S: f64 = 7.0 * 86_400.0;
/// How fast a level that leaves the band takes it along. A level that was adopted is kept for a
/// day: by then every time of the day has been seen at it.
const SHIFT_S: f64 = 7200.0;
const ADOPTED_MS: i64 = 86_400_000;
const DAYS: usize = 7;
/// The daily maximum that is left after calibration: an ordinary day stays below a warning.
const ORDINARY: f64 = 2.8;
const MOST_USUAL: f64 = 10.0;

/// Trouble that goes on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Run {
    since_ms: i64,
    last_ms: i64,
    level: f64,
}

/// The level held lately.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lately {
    pub(super) level: f64,
    /// How far it has moved away from the season.
    pub(super) shift: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Learning {
    level: f64,
    shift: f64,
    noise: f64,
    chunks: u32,
    run: Option<Run>,
    adopted_until_ms: i64,
    excluded_until_ms: i64,
    day: i64,
    day_s: f32,
    /// Today's farthest distances, above and below, and those of the days before.
    tops: [f32; 2],
    before: [[f32; DAYS]; 2],
    days: u8,
    usual: [f32; 2],
    /// Days with trouble, today in the lowest bit.
    bad_days: u8,
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            level: 0.0,
            shift: 0.0,
            noise: 0.0,
            chunks: 0,
            run: None,
            adopted_until_ms: i64::MIN,
            excluded_until_ms: i64::MIN,
            day: i64::MIN,
            day_s: 0.0,
            tops: [0.0; 2],
            before: [[0.0; DAYS]; 2],
            days: 0,
            usual: [0.0; 2],
            bad_days: 0,
        }
    }
}

impl Learning {
    /// Takes over what is ordinary for another, where that is wilder.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.noise = self.noise.max(other.noise);
        self.days = self.days.max(other.days);
        let own = self
            .before
            .as_flattened_mut()
            .iter_mut()
            .chain(&mut self.usual);
        let theirs = other.before.as_flattened().iter().chain(&other.usual);
        for (own, theirs) in own.zip(theirs) {
            *own = own.max(*theirs);
        }
    }

    /// What went on elsewhere does not go on here.
    pub(super) fn begin_here(&mut self) {
        self.run = None;
        self.shift = 0.0;
        (self.adopted_until_ms, self.excluded_until_ms) = (i64::MIN, i64::MIN);
        (self.day, self.day_s, self.bad_days) = (i64::MIN, 0.0, 0);
        self.tops = [0.0; 2];
    }

    pub(super) fn lately(&self) -> Lately {
        Lately {
            level: self.level,
            shift: self.shift,
        }
    }

    /// The mean distance from what was expected, as the deviation of a normal distribution.
    pub(super) fn noise(&self) -> f64 {
        1.2533 * self.noise
    }

    /// What distances are multiplied by, so that an ordinary day of this series stays quiet.
    pub(super) fn calm(&self, above: bool) -> f64 {
        let usual = f64::from(self.usual[usize::from(!above)]).min(MOST_USUAL);
        if usual > ORDINARY {
            ORDINARY / usual
        } else {
            1.0
        }
    }

    pub(super) fn is_excluded(&self, at: Timestamp) -> bool {
        at.as_millis() < self.excluded_until_ms
    }

    pub(super) fn exclude_until(&mut self, until: Timestamp) {
        self.excluded_until_ms = self.excluded_until_ms.max(until.as_millis());
    }

    pub(super) fn clock_set_back(&mut self) {
        self.run = None;
        (self.adopted_until_ms, self.excluded_until_ms) = (i64::MIN, i64::MIN);
    }

    /// True if a new day has begun.
    pub(super) fn turn_day(&mut self, day: i64, passed_s: f64) -> bool {
        self.day_s += passed_s.min(3600.0) as f32;
        if day == self.day {
            return false;
        }
        let first = self.day == i64::MIN;
        self.day = day;
        if first {
            return false;
        }
        self.bad_days <<= 1;
        // A quarter of a day tells of the day.
        if self.day_s >= 21_600.0 {
            for (ring, top) in self.before.iter_mut().zip(&mut self.tops) {
                ring.rotate_right(1);
                ring[0] = std::mem::take(top);
            }
            self.days = self.days.saturating_add(1).min(DAYS as u8);
            self.usual = self
                .before
                .map(|ring| usual_top(&ring[..usize::from(self.days)]));
            self.day_s = 0.0;
        }
        true
    }

    /// Whether there was trouble on three of the last seven days, or a week ago today.
    fn is_recurrent(&self) -> bool {
        (self.bad_days & !1).count_ones() >= 3 || self.bad_days & 1 << 7 != 0
    }

    fn note(&mut self, measured: &Measured) {
        // Days before the time of day was known say nothing of those after.
        if measured.phase != Phase::Seasonal {
            self.day_s = 0.0;
            return;
        }
        let above = measured.sigma >= 0.0;
        let raw = (measured.sigma.abs() / self.calm(above)) as f32;
        let top = &mut self.tops[usize::from(!above)];
        *top = top.max(raw);
    }

    /// Seconds that trouble has lasted.
    fn run_on(&mut self, now_ms: i64, value: f64) -> f64 {
        let run = self.run.get_or_insert(Run {
            since_ms: now_ms,
            last_ms: now_ms,
            level: value,
        });
        run.last_ms = now_ms;
        run.level += (value - run.level) * 0.2;
        now_ms.saturating_sub(run.since_ms) as f64 / 1000.0
    }

    fn calm_down(&mut self, now_ms: i64, after_s: f64) {
        if self
            .run
            .is_some_and(|r| now_ms.saturating_sub(r.last_ms) as f64 / 1000.0 > after_s)
        {
            self.run = None;
        }
    }

    pub(super) fn is_sound(&self) -> bool {
        are_within(MOST_VALUE, &[self.level, self.shift, self.noise])
            && self.run.is_none_or(|r| are_within(MOST_VALUE, [&r.level]))
            && usize::from(self.days) <= DAYS
            && self
                .tops
                .iter()
                .chain(&self.usual)
                .chain(self.before.as_flattened())
                .all(|x| x.is_finite() && *x >= 0.0)
            && self.noise >= 0.0
    }
}

impl Baseline {
    /// Learns a sample, now or later. False if it was held back as trouble.
    pub(super) fn learn(&mut self, measured: &Measured, nature: &Nature, now: Moment) -> bool {
        let now_ms = now.at.as_millis();
        if self.learning.is_excluded(now.at) {
            return false;
        }
        self.learning.note(measured);
        let (age_s, step_s) = (self.input.age_s(), self.input.step_s());
        if toward_harm(measured.sigma, nature.harm) >= SUSPICIOUS {
            self.learning.bad_days |= 1;
            let at_worst = nature.is_at_worst(measured.value);
            if at_worst || !self.learning.is_recurrent() {
                let lasted_s = self.learning.run_on(now_ms, measured.value);
                let patience_s = if at_worst {
                    PATIENCE_AT_WORST_S
                } else {
                    (age_s / 4.0).clamp(PATIENCE_S.0, PATIENCE_S.1)
                };
                if lasted_s < patience_s {
                    return false;
                }
                self.adopt(now);
            }
        } else {
            let longest_s = (5.0 * step_s).max(600.0);
            self.learning.calm_down(
                now_ms,
                (age_s / 10.0).clamp((5.0 * step_s).min(600.0), longest_s),
            );
        }
        self.hold_back(measured.value, now);
        true
    }

    fn hold_back(&mut self, value: f64, now: Moment) {
        let age_s = self.input.age_s();
        if self.values.learned < AT_ONCE || age_s < AT_ONCE_S {
            self.take_in(&Chunk::new(now, value));
            return;
        }
        let delay_s = (age_s / 10.0).clamp(DELAY_S.0, DELAY_S.1);
        if let Some(chunk) = self.pending.push(now, value, delay_s) {
            self.take_in(&chunk);
        }
        // While trouble goes on, what came before it may have been its beginning.
        while self.learning.run.is_none() {
            match self.pending.due(now.at.as_millis(), delay_s) {
                Some(chunk) => self.take_in(&chunk),
                None => break,
            }
        }
    }

    /// Takes the level of lasting trouble for the new normal.
    fn adopt(&mut self, now: Moment) {
        let Some(run) = self.learning.run.take() else {
            return;
        };
        // What came before it belongs to the old level.
        while let Some(chunk) = self.pending.due(i64::MAX, 0.0) {
            self.take_in(&chunk);
        }
        self.learning.level = run.level;
        if let Some(usual) = self.season.usual(self.values.scale, now) {
            self.learning.shift = run.level - usual.expected;
            self.learning.adopted_until_ms = now.at.as_millis().saturating_add(ADOPTED_MS);
        }
    }

    fn take_in(&mut self, chunk: &Chunk) {
        let (began, middle) = (chunk.began(), chunk.middle());
        let step_s = self.input.step_s().max(1e-3);
        let duration_s = (chunk.lasts_s() + step_s).min(SLOT_S as f64);
        let usual = if self.values.has_grid() {
            self.season.usual(self.values.scale, began)
        } else {
            None
        };
        self.learn_level(chunk, duration_s, usual);
        let expected = usual.map_or(self.learning.level, |u| u.expected + self.learning.shift);
        self.learn_noise(chunk, expected, duration_s);
        self.learn_values(chunk);
        if self.values.has_grid() {
            let when = (began.day(), began.slot_of_week());
            let what = (chunk.low, middle, chunk.high);
            if self.season.learn(self.values.scale, when, what, duration_s) {
                self.values.turn_week();
            }
        }
    }

    fn learn_level(&mut self, chunk: &Chunk, duration_s: f64, usual: Option<Usual>) {
        let (middle, began_ms) = (chunk.middle(), chunk.began().at.as_millis());
        let age_s = self.input.age_s();
        let l = &mut self.learning;
        l.chunks = l.chunks.saturating_add(1);
        let soonest_s = 5.0 * self.input.step_s();
        let tau_s = (age_s / 10.0).min(3600.0).max(soonest_s).max(1e-3);
        let follow = (duration_s / tau_s).max(1.0 / f64::from(l.chunks)).min(1.0);
        l.level += (middle - l.level) * follow;
        if began_ms < l.adopted_until_ms {
            return;
        }
        let away = match usual {
            Some(u) if middle < u.low || middle > u.high => middle - u.expected,
            _ => 0.0,
        };
        l.shift += (away - l.shift) * (duration_s / SHIFT_S).min(1.0);
    }

    fn learn_noise(&mut self, chunk: &Chunk, expected: f64, duration_s: f64) {
        let values = chunk.values();
        let off =
            values.iter().map(|v| (v - expected).abs()).sum::<f64>() / values.len().max(1) as f64;
        let l = &mut self.learning;
        // A memory of half a day, once there is as much.
        let follow = (duration_s / 43_200.0).max(1.0 / f64::from(l.chunks));
        l.noise += (off - l.noise) * follow.min(1.0);
    }

    fn learn_values(&mut self, chunk: &Chunk) {
        let before = self.values.scale;
        let mut rescaled = false;
        if chunk.is_whole() {
            for v in chunk.values() {
                rescaled |= self.values.learn(*v, 1.0);
            }
        } else {
            // The extremes stand for themselves, the kept ones for all the others.
            let each = f64::from(chunk.n.saturating_sub(2)) / chunk.values().len().max(1) as f64;
            for v in [chunk.low, chunk.high] {
                rescaled |= self.values.learn(v, 1.0);
            }
            for v in chunk.values() {
                rescaled |= self.values.learn(*v, each);
            }
        }
        if rescaled {
            self.rescale(before);
        }
    }
}

/// What the farthest distance of a day usually is: the upper quartile of the last days, so that
/// one bad day does not blind the series.
fn usual_top(days: &[f32]) -> f32 {
    if days.len() < 3 {
        return 0.0;
    }
    let mut room = [0.0; DAYS];
    let sorted = &mut room[..days.len()];
    sorted.copy_from_slice(days);
    sorted.sort_unstable_by(f32::total_cmp);
    sorted[(days.len() - 1) * 3 / 4]
}
