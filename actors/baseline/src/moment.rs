//! A point in time with the local clock beside it: seasons follow the clock on the wall.

use crate::error::BaselineError;
use hale_model::Timestamp;
use jiff::tz::TimeZone;

/// Quarter hours of a day.
pub(crate) const SLOTS: usize = 96;
/// Hours of a week.
pub(crate) const WEEK_HOURS: usize = 168;
/// Seconds of a quarter hour.
pub(crate) const SLOT_S: i64 = 900;
const DAY_S: i64 = 86_400;

/// A point in time, and how far the local clock is ahead of UTC then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// Seconds the local clock is ahead of UTC.
    pub utc_offset_s: i32,
}

impl Moment {
    /// A moment on a host whose clock shows UTC.
    pub const fn utc(at: Timestamp) -> Self {
        Self {
            at,
            utc_offset_s: 0,
        }
    }

    fn local_s(self) -> i64 {
        // Monday 1970-01-05 is day 4: shifted so that weeks start on Mondays at zero.
        (self.at.as_millis().div_euclid(1000))
            .saturating_add(i64::from(self.utc_offset_s))
            .saturating_sub(4 * DAY_S)
    }

    /// The local day, counted from a Monday.
    pub(crate) fn day(self) -> i64 {
        self.local_s().div_euclid(DAY_S)
    }

    /// The second of the local day.
    pub(crate) fn second_of_day(self) -> i64 {
        self.local_s().rem_euclid(DAY_S)
    }

    /// The quarter hour of the local week, 0 on Monday at midnight.
    pub(crate) fn slot_of_week(self) -> u16 {
        (self.local_s().rem_euclid(7 * DAY_S) / SLOT_S) as u16
    }

    /// Hours into the local week, with their fraction.
    pub(crate) fn hours_of_week(self) -> f64 {
        self.local_s().rem_euclid(7 * DAY_S) as f64 / 3600.0
    }
}

/// A time zone, and what the local clock shows in it.
#[derive(Debug, Clone)]
pub struct LocalTime {
    zone: TimeZone,
    known: Option<(i64, i32)>,
}

impl LocalTime {
    /// A zone by its name in the IANA database; `system` is the host's own.
    ///
    /// # Errors
    /// If there is no such zone.
    pub fn named(name: &str) -> Result<Self, BaselineError> {
        let zone = match name {
            "system" => TimeZone::system(),
            "UTC" => TimeZone::UTC,
            name => TimeZone::get(name).map_err(|source| BaselineError::Zone {
                name: name.chars().take(80).collect(),
                source: Box::new(source),
            })?,
        };
        Ok(Self { zone, known: None })
    }

    /// The moment that `at` is in this zone.
    pub fn moment(&mut self, at: Timestamp) -> Moment {
        // Clocks change at quarter hours; within one the offset is known.
        let quarter = at.as_millis().div_euclid(SLOT_S * 1000);
        let utc_offset_s = match self.known {
            Some((known, offset)) if known == quarter => offset,
            _ => jiff::Timestamp::from_millisecond(at.as_millis())
                .map_or(0, |t| self.zone.to_offset(t).seconds()),
        };
        self.known = Some((quarter, utc_offset_s));
        Moment { at, utc_offset_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_starts_on_monday_at_midnight() {
        let monday = Moment::utc("2026-02-02T00:00:00Z".parse().unwrap());
        assert_eq!((monday.slot_of_week(), monday.hours_of_week()), (0, 0.0));
        let friday = Moment::utc("2026-02-06T14:20:00Z".parse().unwrap());
        assert_eq!(friday.slot_of_week(), 4 * 96 + 14 * 4 + 1);
    }

    #[test]
    fn the_local_clock_follows_daylight_saving() {
        let mut new_york = LocalTime::named("America/New_York").unwrap();
        let mut offset = |t: &str| new_york.moment(t.parse().unwrap()).utc_offset_s / 3600;
        assert_eq!(offset("2026-03-08T06:59:00Z"), -5);
        assert_eq!(offset("2026-03-08T07:00:00Z"), -4);
        assert!(LocalTime::named("Mars/Olympus").is_err());
    }
}
