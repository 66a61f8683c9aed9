//! What each time of the week is like: for each quarter hour of the day the range it has shown in
//! this week and the last, for each hour of the week its centre. Values are packed into 16 bits on
//! the same asinh scale as the cells, a thousand steps a unit.

use super::array;
use super::values::Scale;
use crate::moment::{Moment, SLOT_S, SLOTS, WEEK_HOURS};
use serde::{Deserialize, Serialize};

/// Days a quarter hour must have been seen on before it is trusted.
const KNOWN_DAYS: u8 = 4;
const STEPS: f64 = 1000.0;
const NONE: i16 = i16::MIN;
/// How far an hour's centre follows a quarter hour of news: in a week's four, more than half.
const FOLLOW: f64 = 0.2;

/// What this time of the week is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usual {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) expected: f64,
}

/// The least and the most of a quarter hour, this week and the last.
type Ranges = [i16; 4];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Season {
    #[serde(with = "array")]
    ranges: [Ranges; SLOTS],
    #[serde(with = "array")]
    days: [u8; SLOTS],
    #[serde(with = "array")]
    hours: [i16; WEEK_HOURS],
    week: i32,
    last: (i32, u16),
    #[serde(skip)]
    near: Near,
}

/// The range around one quarter hour, so that it is not unpacked for each sample.
#[derive(Debug, Clone, Copy)]
struct Near {
    /// Which one; none is [`NOWHERE`].
    slot: u16,
    /// Not a number if it is not known.
    low: f64,
    high: f64,
    /// The centres of the two hours that it lies between.
    centres: [f64; 2],
}

const NOWHERE: u16 = u16::MAX;

impl Default for Near {
    fn default() -> Self {
        Self {
            slot: NOWHERE,
            low: f64::NAN,
            high: f64::NAN,
            centres: [f64::NAN; 2],
        }
    }
}

impl Season {
    pub(super) fn new() -> Self {
        Self {
            ranges: [[NONE; 4]; SLOTS],
            days: [0; SLOTS],
            hours: [NONE; WEEK_HOURS],
            week: i32::MIN,
            last: (i32::MIN, 0),
            near: Near::default(),
        }
    }

    /// Learns what a part of a quarter hour was like. True if a new week has begun with it.
    pub(super) fn learn(
        &mut self,
        scale: Scale,
        (day, slot_of_week): (i64, u16),
        (low, middle, high): (f64, f64, f64),
        duration_s: f64,
    ) -> bool {
        // Days beyond what fits are years that no clock shows.
        let day = i32::try_from(day).unwrap_or(i32::MAX);
        let week = day.div_euclid(7);
        let turned = week != self.week;
        if turned {
            self.turn_week();
            self.week = week;
        }
        let slot = usize::from(slot_of_week) % SLOTS;
        if self.last != (day, slot_of_week) {
            self.last = (day, slot_of_week);
            self.days[slot] = self.days[slot].saturating_add(1);
        }
        let [least, most, ..] = &mut self.ranges[slot];
        let (low, high) = (pack(scale, low, f64::floor), pack(scale, high, f64::ceil));
        *least = if *least == NONE { low } else { low.min(*least) };
        *most = if *most == NONE { high } else { high.max(*most) };
        let hour = &mut self.hours[usize::from(slot_of_week) / 4 % WEEK_HOURS];
        let follow = (FOLLOW * duration_s / SLOT_S as f64).clamp(0.0, FOLLOW);
        let moved = match *hour {
            NONE => middle,
            known => {
                let known = unpack(scale, known);
                known + (middle - known) * follow
            }
        };
        *hour = pack(scale, moved, f64::round);
        self.near = Near::default();
        turned
    }

    /// Takes over what another knows, on its scale; `before` have been taken over before it.
    pub(super) fn absorb(&mut self, scale: Scale, other: &Self, theirs: Scale, before: u32) {
        let as_own = |packed: i16, round: fn(f64) -> f64| match packed {
            NONE => NONE,
            packed => pack(scale, unpack(theirs, packed), round),
        };
        for (own, their) in self.ranges.iter_mut().zip(&other.ranges) {
            for i in [0, 2] {
                let (low, high) = (
                    as_own(their[i], f64::floor),
                    as_own(their[i + 1], f64::ceil),
                );
                if low != NONE {
                    own[i] = if own[i] == NONE { low } else { own[i].min(low) };
                    own[i + 1] = own[i + 1].max(high);
                }
            }
        }
        for (own, their) in self.days.iter_mut().zip(&other.days) {
            *own = (*own).max(*their);
        }
        let share = 1.0 / f64::from(before + 1);
        for (own, their) in self.hours.iter_mut().zip(&other.hours) {
            *own = match (*own, as_own(*their, f64::round)) {
                (own, NONE) => own,
                (NONE, their) => their,
                (own, their) => {
                    let own = unpack(scale, own);
                    let mean = own + (unpack(scale, their) - own) * share;
                    pack(scale, mean, f64::round)
                }
            };
        }
        self.near = Near::default();
    }

    fn turn_week(&mut self) {
        for [least, most, least_before, most_before] in &mut self.ranges {
            (*least_before, *most_before) = (*least, *most);
            (*least, *most) = (NONE, NONE);
        }
        self.near = Near::default();
    }

    /// What is usual now; none until this time of the day has been seen on some days.
    pub(super) fn usual(&mut self, scale: Scale, now: Moment) -> Option<Usual> {
        let slot = now.slot_of_week();
        if self.near.slot != slot {
            self.near = self.near(scale, now).unwrap_or(Near {
                slot,
                ..Near::default()
            });
        }
        let Near {
            low,
            high,
            centres: [before, after],
            ..
        } = self.near;
        if low.is_nan() {
            return None;
        }
        Some(Usual {
            low,
            high,
            expected: before + (after - before) * between_hours(now).1,
        })
    }

    fn near(&self, scale: Scale, now: Moment) -> Option<Near> {
        let slot = now.slot_of_week();
        let (low, high) = self.around(scale, usize::from(slot) % SLOTS)?;
        let hour = between_hours(now).0;
        let a = self.hour(scale, hour % WEEK_HOURS);
        let b = self.hour(scale, (hour + 1) % WEEK_HOURS);
        let (a, b) = (a.or(b)?, b.or(a)?);
        Some(Near {
            slot,
            low,
            high,
            centres: [a, b],
        })
    }

    /// The range of a quarter hour and its neighbours: a job may start some minutes off.
    fn around(&self, scale: Scale, slot: usize) -> Option<(f64, f64)> {
        let (mut low, mut high) = (i16::MAX, NONE);
        for slot in [(slot + SLOTS - 1) % SLOTS, slot, (slot + 1) % SLOTS] {
            if self.days[slot] < KNOWN_DAYS {
                return None;
            }
            let [a, b, c, d] = self.ranges[slot];
            for (least, most) in [(a, b), (c, d)].into_iter().filter(|(l, _)| *l != NONE) {
                low = low.min(least);
                high = high.max(most);
            }
        }
        (low <= high).then(|| (unpack(scale, low), unpack(scale, high)))
    }

    /// The centre of an hour of the week; until it is known, that of the same hour on other days.
    fn hour(&self, scale: Scale, hour: usize) -> Option<f64> {
        if self.hours[hour] != NONE {
            return Some(unpack(scale, self.hours[hour]));
        }
        let (mut sum, mut n) = (0.0, 0);
        for day in 0..7 {
            let packed = self.hours[day * 24 + hour % 24];
            if packed != NONE {
                sum += unpack(scale, packed);
                n += 1;
            }
        }
        (n > 0).then(|| sum / f64::from(n))
    }

    /// Packs everything anew after the scale has changed.
    pub(super) fn rescale(&mut self, from: Scale, to: Scale) {
        let again = |packed: &mut i16| {
            if *packed != NONE {
                *packed = pack(to, unpack(from, *packed), f64::round);
            }
        };
        self.ranges.iter_mut().flatten().for_each(again);
        self.hours.iter_mut().for_each(again);
        self.near = Near::default();
    }
}

/// The hour of the week whose middle was last, and how much of the way to the middle of the next
/// has gone.
fn between_hours(now: Moment) -> (usize, f64) {
    let at = now.hours_of_week() - 0.5 + WEEK_HOURS as f64;
    (at as usize, at.fract())
}

fn pack(scale: Scale, x: f64, round: fn(f64) -> f64) -> i16 {
    let y = round((scale.of(x) * STEPS).clamp(-32_000.0, 32_000.0));
    y as i16
}

fn unpack(scale: Scale, packed: i16) -> f64 {
    scale.at(f64::from(packed) / STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::Timestamp;

    const SCALE: Scale = Scale {
        centre: 50.0,
        unit: 2.0,
    };

    fn at(hours: f64) -> Moment {
        // From Monday 2026-02-02.
        Moment::utc(Timestamp::from_millis(
            1_769_990_400_000 + (hours * 3.6e6) as i64,
        ))
    }

    fn weeks(season: &mut Season, hours: std::ops::Range<u32>, level: impl Fn(f64) -> f64) {
        for quarter in hours.start * 4..hours.end * 4 {
            let hour = f64::from(quarter) / 4.0;
            let (now, x) = (at(hour), level(hour));
            season.learn(
                SCALE,
                (now.day(), now.slot_of_week()),
                (x - 1.0, x, x + 1.0),
                900.0,
            );
        }
    }

    #[test]
    fn a_time_of_day_is_known_after_some_days() {
        let mut season = Season::new();
        weeks(&mut season, 0..24 * 3, |_| 40.0);
        assert!(season.usual(SCALE, at(24.0 * 3.0 + 7.0)).is_none());
        weeks(&mut season, 24 * 3..24 * 5, |_| 40.0);
        let usual = season.usual(SCALE, at(24.0 * 5.0 + 7.0)).unwrap();
        assert!(
            (usual.low - 39.0).abs() < 0.1 && (usual.high - 41.0).abs() < 0.1,
            "{usual:?}"
        );
    }

    #[test]
    fn weekends_have_centres_of_their_own() {
        let mut season = Season::new();
        let busy = |hour: f64| {
            if (hour / 24.0) as u32 % 7 < 5 {
                60.0
            } else {
                15.0
            }
        };
        weeks(&mut season, 0..24 * 14, busy);
        for (day, level) in [(14.5, 60.0), (19.5, 15.0)] {
            let usual = season.usual(SCALE, at(24.0 * day)).unwrap();
            assert!((usual.expected - level).abs() < 0.5, "{usual:?}");
        }
    }

    #[test]
    fn what_was_two_weeks_ago_is_forgotten() {
        let mut season = Season::new();
        weeks(&mut season, 0..24 * 7, |_| 90.0);
        weeks(&mut season, 24 * 7..24 * 21, |_| 50.0);
        let usual = season.usual(SCALE, at(24.0 * 21.0 + 3.0)).unwrap();
        assert!(usual.high < 52.0, "{usual:?}");
    }

    #[test]
    fn a_new_scale_keeps_what_is_known() {
        let mut season = Season::new();
        weeks(&mut season, 0..24 * 7, |_| 47.0);
        let before = season.usual(SCALE, at(170.0)).unwrap();
        let to = Scale {
            centre: 48.0,
            unit: 5.0,
        };
        season.rescale(SCALE, to);
        let after = season.usual(to, at(170.0)).unwrap();
        assert!(
            (before.low - after.low).abs() < 0.05,
            "{before:?} {after:?}"
        );
    }
}
