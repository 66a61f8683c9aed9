//! Stories of hosts, told to a baseline sample by sample: what must be noticed, and what must not.

#![allow(
    clippy::unwrap_used,
    reason = "helpers give up like the tests they serve"
)]

use hale_baseline::replay::{Replay, ReplayRow, replay};
use hale_baseline::{LocalTime, Sensitivity};
use hale_model::{Bounds, Harm, Sample, SeriesKey, Severity, Timestamp};
use std::time::Duration;

const MONDAY: i64 = 1_769_990_400;
const DAY: i64 = 86_400;
const HOUR: i64 = 3600;
const STEP: i64 = 30;
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// A small generator, so that a story is the same each time it is told (xorshift64*).
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Box and Muller.
    fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform().max(1e-12), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

fn percent() -> Sample {
    Sample::percent(SeriesKey::new("system.some_percent"), 0.0)
}

struct Told {
    rows: Vec<(i64, ReplayRow)>,
}

impl Told {
    fn alerts(&self, from: i64, until: i64) -> Vec<(i64, Severity)> {
        let within = self.rows.iter().filter(|(t, _)| (from..until).contains(t));
        within
            .filter_map(|(t, row)| Some((*t - from, row.severity?)))
            .collect()
    }
}

/// Tells a story from Monday 2026-02-02 on; times are seconds since then.
fn tell(sample: Sample, zone: &str, days: i64, mut value: impl FnMut(i64) -> f64) -> Told {
    let local = LocalTime::named(zone).unwrap();
    let times: Vec<i64> = (0..days * DAY).step_by(STEP as usize).collect();
    let rows = times
        .iter()
        .map(|t| (Timestamp::from_secs(MONDAY + t), value(*t)));
    let found = replay(
        rows.collect::<Vec<_>>(),
        sample,
        Sensitivity::Medium,
        local,
        WEEK,
    );
    assert!(
        found
            .iter()
            .all(|r| r.score.is_finite() && r.sigma.is_finite())
    );
    Told {
        rows: times.into_iter().zip(found).collect(),
    }
}

fn backup(t: i64, hour: i64) -> bool {
    let of_day = t.rem_euclid(DAY);
    (hour * HOUR..hour * HOUR + 2400).contains(&of_day)
}

#[test]
fn a_nightly_backup_is_normal_at_two_in_the_morning_and_not_at_noon() {
    let mut dice = Dice(7);
    let noon = 10 * DAY + 12 * HOUR;
    let told = tell(percent(), "UTC", 11, |t| {
        let full = backup(t, 2) || (t >= noon && backup(t, 12));
        let level = if full { 92.0 } else { 71.0 };
        level + 0.2 * dice.normal()
    });
    assert_eq!(
        told.alerts(6 * DAY, noon),
        [],
        "nights are normal once some have been seen"
    );
    let at_noon = told.alerts(noon, noon + 600);
    assert!(
        at_noon.iter().any(|(_, s)| *s == Severity::Critical),
        "{at_noon:?}"
    );
}

#[test]
fn a_disk_that_grows_ten_percent_an_hour_is_told_an_hour_and_a_half_before_it_is_full() {
    for with_backup in [false, true] {
        let mut dice = Dice(11);
        let leak = 8 * DAY + 14 * HOUR;
        let grown = |t: i64| 71.0 + 10.0 * ((t - leak).max(0) as f64) / 3600.0;
        let told = tell(percent(), "UTC", 9, |t| {
            let base: f64 = if with_backup && backup(t, 2) {
                92.0
            } else {
                71.0
            };
            (base.max(grown(t)) + 0.1 * dice.normal()).min(100.0)
        });
        assert_eq!(told.alerts(6 * DAY, leak), []);
        let full = leak + (2.9 * 3600.0) as i64;
        assert!(
            !told.alerts(leak, full - 5400).is_empty(),
            "with backups: {with_backup}"
        );
    }
}

#[test]
fn a_flat_ninety_percent_is_normal_where_it_is_so() {
    let mut dice = Dice(3);
    let told = tell(percent(), "UTC", 9, |_| 90.0 + 0.3 * dice.normal());
    assert_eq!(told.alerts(0, 9 * DAY), []);
}

#[test]
fn office_hours_follow_the_clock_on_the_wall() {
    let mut dice = Dice(5);
    let mut new_york = LocalTime::named("America/New_York").unwrap();
    // Clocks change on Sunday 2026-03-08, day 34.
    let sample = Sample::gauge(SeriesKey::new("custom.requests"), 0.0);
    let told = tell(sample, "America/New_York", 42, |t| {
        let offset = new_york
            .moment(Timestamp::from_secs(MONDAY + t))
            .utc_offset_s;
        let local = (MONDAY + t + i64::from(offset)).rem_euclid(DAY);
        let level = if (9 * HOUR..17 * HOUR).contains(&local) {
            460.0
        } else {
            60.0
        };
        level + 8.0 * dice.normal()
    });
    assert_eq!(told.alerts(8 * DAY, 42 * DAY), []);
}

#[test]
fn a_series_that_flaps_is_told_once_or_twice() {
    let mut dice = Dice(13);
    let begins = 8 * DAY + 9 * HOUR;
    let told = tell(percent(), "UTC", 9, |t| {
        let is_up = t >= begins && t < begins + 2 * HOUR && (t - begins) / 120 % 2 == 0;
        if is_up {
            98.0
        } else {
            36.0 + 2.0 * dice.normal()
        }
    });
    let alerts = told.alerts(begins, begins + 3 * HOUR);
    assert!((1..=2).contains(&alerts.len()), "{alerts:?}");
    assert!(alerts[0].0 <= STEP, "{alerts:?}");
}

#[test]
fn gaps_and_values_that_are_none_are_no_anomaly() {
    let mut dice = Dice(17);
    let told = tell(percent(), "UTC", 10, |t| match t {
        t if (7 * DAY..7 * DAY + 27 * HOUR).contains(&t) => f64::NAN,
        _ if dice.uniform() < 0.002 => f64::INFINITY,
        t => 40.0 + 15.0 * (t as f64 / DAY as f64 * std::f64::consts::TAU).sin() + dice.normal(),
    });
    assert_eq!(told.alerts(5 * DAY, 10 * DAY), []);
}

/// False alerts of noise at the default sensitivity, over some series.
fn alerts_of_noise(
    series: u64,
    days: i64,
    mut next: impl FnMut(&mut Dice, &mut f64) -> f64,
) -> usize {
    let mut count = 0;
    for seed in 1..=series {
        let (mut dice, mut level) = (Dice(seed * 7919), 0.0);
        let sample = Sample::gauge(SeriesKey::new("noise"), 0.0).harm(Harm::Both);
        count += tell(sample, "UTC", days, |_| next(&mut dice, &mut level))
            .alerts(0, days * DAY)
            .len();
    }
    count
}

#[test]
fn noise_is_told_less_than_once_in_ten_days() {
    let white = alerts_of_noise(4, 10, |dice, _| 50.0 + 5.0 * dice.normal());
    let wandering = alerts_of_noise(4, 10, |dice, level| {
        *level = 0.97 * *level + dice.normal();
        50.0 + *level
    });
    let spiky = alerts_of_noise(4, 10, |dice, _| 5.0 + 3.0 * (1.3 * dice.normal()).exp());
    for (what, count) in [("white", white), ("wandering", wandering), ("spiky", spiky)] {
        assert!(count <= 4, "{what}: {count} alerts in 40 series-days");
    }
}

#[test]
fn a_busy_host_is_quiet_in_its_first_minutes() {
    let mut alerts = 0;
    for seed in 1..=60u64 {
        let (mut dice, mut load) = (Dice(seed * 104_729), 0.0);
        let local = LocalTime::named("UTC").unwrap();
        let mut told = Replay::new(percent(), Sensitivity::Medium, local, WEEK);
        for second in 0..300 {
            // Bursts of work on top of a restless base.
            load = if dice.uniform() < 0.03 {
                60.0 * dice.uniform()
            } else {
                load * 0.8
            };
            let cpu = (15.0 + 6.0 * dice.normal().abs() + load).min(100.0);
            let row = told.row(Timestamp::from_secs(MONDAY + second), cpu);
            alerts += usize::from(row.alert);
        }
    }
    assert!(
        alerts <= 6,
        "{alerts} alerts of 60 hosts in their first five minutes"
    );
}

#[test]
fn a_few_seconds_of_normal_are_enough_to_be_told_of_a_failure() {
    for harm in [Harm::High, Harm::Low] {
        let bounds = Some(Bounds { min: 0.0, max: 1.0 });
        let sample = Sample {
            bounds,
            ..Sample::gauge(SeriesKey::new("m"), 0.0).harm(harm)
        };
        let (good, bad) = if harm == Harm::High {
            (0.05, 0.95)
        } else {
            (1.0, 0.0)
        };
        let local = LocalTime::named("UTC").unwrap();
        let mut told = Replay::new(sample, Sensitivity::Medium, local, WEEK);
        let mut row = |s| {
            told.row(
                Timestamp::from_secs(MONDAY + s),
                if s < 6 { good } else { bad },
            )
        };
        assert!((0..7).all(|s| !row(s).alert));
        assert_eq!(
            row(7).severity,
            Some(Severity::Critical),
            "at the second bad sample"
        );
    }
}
