//! Stories of hosts: one series each, with what must be told of it and what must not.

use hale_model::{Harm, Sample, SeriesKey, SeriesKind, Severity};
use std::f64::consts::TAU;

pub const MIN: i64 = 60;
pub const HOUR: i64 = 3600;
pub const DAY: i64 = 86_400;
/// Monday 2026-02-02, midnight UTC.
pub const MONDAY: i64 = 1_769_990_400;
const STEP: i64 = 30;

/// What a story asks of who tells alerts; times are seconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// No more than so many alerts in this time.
    Quiet { from: i64, until: i64, most: usize },
    /// At least one alert, at least so grave, in this time.
    Told {
        from: i64,
        until: i64,
        least: Severity,
    },
}

/// A series and what must be made of it.
#[derive(Debug)]
pub struct Story {
    pub name: &'static str,
    pub sample: Sample,
    pub zone: &'static str,
    pub rows: Vec<(i64, f64)>,
    pub checks: Vec<Check>,
}

/// An alert as it was told: when, and how grave.
pub type Alert = (i64, Severity);

impl Story {
    /// What is wrong with these alerts, if anything is.
    pub fn grade(&self, alerts: &[Alert]) -> Vec<String> {
        let mut wrong = vec![];
        for check in &self.checks {
            match *check {
                Check::Quiet { from, until, most } => {
                    let told = alerts.iter().filter(|(t, _)| (from..until).contains(t));
                    let told: Vec<&Alert> = told.collect();
                    if told.len() > most {
                        let first = told[0].0 - self.rows[0].0;
                        wrong.push(format!(
                            "{} alerts where {most} are allowed, the first {:.2} days in",
                            told.len(),
                            first as f64 / DAY as f64
                        ));
                    }
                }
                Check::Told { from, until, least } => {
                    let is_told = alerts
                        .iter()
                        .any(|(t, s)| (from..=until).contains(t) && *s >= least);
                    if !is_told {
                        wrong.push(format!(
                            "no {} within {} min",
                            least.as_str(),
                            (until - from) / MIN
                        ));
                    }
                }
            }
        }
        wrong
    }
}

/// A small generator, so that a seed is one story (xorshift64*).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Of a story and a seed.
    pub fn of(name: &str, seed: u64) -> Self {
        let hash = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3);
        let start = name.bytes().fold(0xCBF2_9CE4_8422_2325, hash);
        let mut dice = Self(start ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            dice.uniform();
        }
        dice
    }

    pub fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, a: f64, b: f64) -> f64 {
        a + (b - a) * self.uniform()
    }

    /// Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform().max(1e-12), self.uniform());
        (-2.0 * u.ln()).sqrt() * (TAU * v).cos()
    }
}

/// Noise with a memory: an autoregression of the first order with this deviation.
#[derive(Debug, Clone, Copy)]
struct Drift {
    level: f64,
    keeps: f64,
    kick: f64,
}

impl Drift {
    fn new(deviation: f64, keeps: f64) -> Self {
        Self {
            level: 0.0,
            keeps,
            kick: deviation * (1.0 - keeps * keeps).sqrt(),
        }
    }

    fn next(&mut self, dice: &mut Dice) -> f64 {
        self.level = self.keeps * self.level + self.kick * dice.normal();
        self.level
    }
}

/// Lowest twelve hours from its peak at 14:00 UTC.
fn daily(t: i64, low: f64, high: f64) -> f64 {
    let hour = t.rem_euclid(DAY) as f64 / HOUR as f64;
    low + (high - low) * (1.0 + ((hour - 14.0) / 24.0 * TAU).cos()) / 2.0
}

fn round(x: f64, digits: i32) -> f64 {
    let by = 10f64.powi(digits);
    (x * by).round() / by
}

/// A story that is being written.
struct Writer {
    story: Story,
    start: i64,
    end: i64,
    step: i64,
}

impl Writer {
    fn new(name: &'static str, days: i64, sample: Sample) -> Self {
        let story = Story {
            name,
            sample: Sample {
                harm: Harm::Both,
                ..sample
            },
            zone: "UTC",
            rows: vec![],
            checks: vec![],
        };
        Self {
            story,
            start: MONDAY,
            end: MONDAY + days * DAY,
            step: STEP,
        }
    }

    fn at(&self, day: f64, hour: f64) -> i64 {
        let t = self.start + ((day * DAY as f64) + hour * HOUR as f64) as i64;
        t - t.rem_euclid(self.step)
    }

    fn rows(&mut self, mut value: impl FnMut(i64) -> f64) {
        let times = (self.start..self.end).step_by(self.step as usize);
        self.story.rows = times.map(|t| (t, value(t))).collect();
    }

    fn quiet(&mut self, from: i64, until: Option<i64>, most: usize) {
        let until = until.unwrap_or(self.end);
        self.story.checks.push(Check::Quiet { from, until, most });
    }

    fn told(&mut self, from: i64, within: i64, least: Severity) {
        let until = from + within;
        self.story.checks.push(Check::Told { from, until, least });
    }
}

fn percent() -> Sample {
    Sample::percent(SeriesKey::new("story.percent"), 0.0)
}

fn gauge() -> Sample {
    Sample::gauge(SeriesKey::new("story.gauge"), 0.0)
}

/// A nightly backup's share of a disk: up within ten minutes, held for half an hour, then gone but
/// for one percent that is cleaned up within two hours.
fn backup(since: i64, base: f64, top: f64) -> f64 {
    let minutes = since as f64 / MIN as f64;
    match minutes {
        m if m < 0.0 => base,
        m if m < 10.0 => base + (top - base) * m / 10.0,
        m if m < 40.0 => top,
        m if m < 160.0 => base + 1.0 - (m - 40.0) / 120.0,
        _ => base,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Nights {
    All,
    Weekdays,
    AlsoAtNoon,
    Overrun,
}

fn nights(name: &'static str, dice: &mut Dice, days: i64, which: Nights) -> Writer {
    let mut w = Writer::new(name, days, percent());
    let mut drift = Drift::new(0.15, 0.98);
    let begins: Vec<i64> = (0..days)
        .map(|_| 2 * HOUR + dice.between(-60.0, 60.0) as i64)
        .collect();
    let (odd, late) = (w.at(9.0, 15.25), 10);
    w.rows(|t| {
        let day = (t - MONDAY) / DAY;
        let runs = which != Nights::Weekdays || day % 7 < 5;
        let top = if which == Nights::Overrun && day == late {
            99.5
        } else {
            92.0
        };
        let begin = MONDAY + day * DAY + begins[day as usize];
        let mut level = if runs {
            backup(t - begin, 71.0, top)
        } else {
            71.0
        };
        if which == Nights::AlsoAtNoon {
            level = level.max(backup(t - odd, 71.0, 92.0));
        }
        round(level + drift.next(dice) + 0.05 * dice.normal(), 3).min(100.0)
    });
    let late = MONDAY + late * DAY + begins[late as usize];
    match which {
        Nights::All | Nights::Weekdays => w.quiet(w.at(7.0, 0.0), None, 0),
        Nights::AlsoAtNoon => {
            w.quiet(w.at(7.0, 0.0), Some(odd), 0);
            w.told(odd, 12 * MIN, Severity::Warning);
        }
        Nights::Overrun => {
            w.quiet(w.at(7.0, 0.0), Some(late), 0);
            w.told(late + 7 * MIN, 5 * MIN, Severity::Warning);
        }
    }
    w
}

/// A disk, or a log on it, that begins to grow.
fn filling(
    name: &'static str,
    dice: &mut Dice,
    (base, per_hour, told_by): (f64, f64, f64),
    with_backup: bool,
) -> Writer {
    let days = 7 + (100.0 / per_hour / 24.0).ceil() as i64 + 1;
    let mut w = Writer::new(name, days, percent());
    let begins = w.at(7.0, dice.between(4.0, 22.0));
    let mut drift = Drift::new(0.1, 0.98);
    w.rows(|t| {
        let night = t.rem_euclid(DAY) - 2 * HOUR;
        let mut level = base;
        if with_backup {
            level = backup(night, base, 92.0);
        }
        let grown = base + per_hour * (t - begins).max(0) as f64 / HOUR as f64;
        round(level.max(grown) + drift.next(dice), 3).min(100.0)
    });
    w.quiet(w.at(5.0, 0.0), Some(begins), 0);
    let due = ((told_by - base) / per_hour * HOUR as f64) as i64;
    w.told(begins, due, Severity::Warning);
    w
}

/// All of them, of one seed.
pub fn all(seed: u64) -> Vec<Story> {
    STORIES
        .iter()
        .map(|(name, write)| write(name, &mut Dice::of(name, seed)).story)
        .collect()
}

type Write = fn(&'static str, &mut Dice) -> Writer;

/// By name.
const STORIES: &[(&str, Write)] = &[
    ("a backup every night", |n, d| nights(n, d, 21, Nights::All)),
    ("a backup on weekdays", |n, d| {
        nights(n, d, 21, Nights::Weekdays)
    }),
    ("a backup in the afternoon", |n, d| {
        nights(n, d, 12, Nights::AlsoAtNoon)
    }),
    ("a backup that overruns", |n, d| {
        nights(n, d, 12, Nights::Overrun)
    }),
    ("a disk at 10 % an hour", |n, d| {
        filling(n, d, (71.0, 10.0, 85.0), false)
    }),
    ("a disk at 10 % an hour, early", |n, d| {
        filling(n, d, (71.0, 10.0, 78.0), false)
    }),
    ("a disk that fills beside backups", |n, d| {
        filling(n, d, (71.0, 10.0, 85.0), true)
    }),
    ("a log that is not shipped", |n, d| {
        filling(n, d, (60.0, 3.2, 80.0), false)
    }),
    ("a leak of memory", leak),
    ("slow growth", slow_growth),
    ("logs that are rotated", rotated),
    ("a disk that is always at 90 %", flat),
    ("a disk that jumps to 90 %", jump),
    ("a pool that jumps", pool),
    ("a deploy that moves the level", deploy),
    ("missing data", missing),
    ("a counter that starts anew", counter),
    ("a constant", constant),
    ("values that are none", bad_values),
    ("hardly any variance", tiny),
    ("daylight saving", daylight),
    ("a few errors", errors),
    ("quiet weekends", weekends),
    ("flapping", flapping),
    ("a clock in disorder", disorder),
    ("a new host", cold),
    ("a noisy host", noisy),
];

fn leak(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 11, percent());
    let begins = w.at(8.0, 10.0);
    let mut drift = Drift::new(0.5, 0.95);
    w.rows(|t| {
        let leaked = 2.0 * (t - begins).max(0) as f64 / HOUR as f64;
        round(daily(t, 53.0, 57.0) + drift.next(dice) + leaked, 3).min(100.0)
    });
    w.quiet(w.at(7.0, 0.0), Some(begins), 0);
    w.told(begins, 7 * HOUR + 30 * MIN, Severity::Warning);
    w
}

fn slow_growth(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 21, percent());
    let mut drift = Drift::new(0.1, 0.99);
    w.rows(|t| {
        round(
            50.0 + 0.2 * (t - MONDAY) as f64 / DAY as f64 + drift.next(dice),
            3,
        )
    });
    w.quiet(w.at(7.0, 0.0), None, 0);
    w
}

fn rotated(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 16, percent());
    w.rows(|t| {
        let part = (t - MONDAY).rem_euclid(3 * HOUR) as f64 / (3 * HOUR) as f64;
        round(40.0 + 30.0 * part + 0.2 * dice.normal(), 3)
    });
    w.quiet(w.at(7.0, 0.0), None, 0);
    w
}

fn flat(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 16, percent());
    let mut drift = Drift::new(0.3, 0.98);
    w.rows(|_| round(90.0 + drift.next(dice), 3));
    w.quiet(w.at(2.0, 0.0), None, 0);
    w
}

fn jump(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 9, percent());
    let at = w.at(8.0, dice.between(4.0, 20.0));
    let mut drift = Drift::new(0.3, 0.98);
    w.rows(|t| round(if t >= at { 90.0 } else { 60.0 } + drift.next(dice), 3));
    w.quiet(w.at(5.0, 0.0), Some(at), 0);
    w.told(at, STEP, Severity::Critical);
    w
}

fn pool(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 9, percent());
    let at = w.at(8.0, dice.between(8.0, 18.0));
    let mut drift = Drift::new(5.5, 0.97);
    w.rows(|t| {
        let ordinary = (daily(t, 34.0, 50.0) + drift.next(dice)).clamp(2.0, 90.0);
        let is_full = (at..at + 2 * HOUR).contains(&t);
        if is_full { 98.0 } else { round(ordinary, 2) }
    });
    w.quiet(w.at(7.0, 0.0), Some(at), 1);
    w.told(at, STEP, Severity::Critical);
    w
}

fn deploy(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 16, percent());
    let at = w.at(9.0, 11.0);
    let mut drift = Drift::new(2.0, 0.8);
    w.rows(|t| {
        let moved = if t >= at { 18.0 } else { 0.0 };
        round(daily(t, 30.0, 40.0) + drift.next(dice) + moved, 2)
    });
    w.quiet(w.at(7.0, 0.0), Some(at), 0);
    w.told(at, 5 * MIN, Severity::Warning);
    // It may grow graver once; then it is the new normal.
    w.quiet(at + 10 * MIN, None, 0);
    w
}

fn missing(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 16, percent());
    let mut drift = Drift::new(2.0, 0.9);
    w.rows(|t| round(daily(t, 20.0, 60.0) + drift.next(dice), 2));
    let gaps = [
        w.at(8.0, 3.0)..w.at(8.0, 5.0),
        w.at(10.0, 6.0)..w.at(11.0, 9.0),
    ];
    w.story
        .rows
        .retain(|(t, _)| !gaps.iter().any(|g| g.contains(t)) && dice.uniform() > 0.05);
    w.quiet(w.at(7.0, 0.0), None, 0);
    w
}

fn counter(name: &'static str, dice: &mut Dice) -> Writer {
    let sample = Sample {
        kind: SeriesKind::Counter,
        ..gauge()
    };
    let mut w = Writer::new(name, 11, sample);
    let resets: Vec<i64> = (0..4).map(|_| w.at(dice.between(1.0, 9.3), 0.0)).collect();
    let at = w.at(9.0, 12.0);
    let mut total = 0.0;
    w.rows(|t| {
        if resets.contains(&t) {
            total = 0.0;
        }
        let ordinary = daily(t, 400.0, 1000.0) * (1.0 + 0.04 * dice.normal());
        let by = if (at..at + 30 * MIN).contains(&t) {
            8.0
        } else {
            1.0
        };
        total += ordinary * by * STEP as f64;
        f64::floor(total)
    });
    w.quiet(w.at(4.0, 0.0), Some(at), 0);
    w.told(at, 4 * STEP, Severity::Warning);
    w
}

fn constant(name: &'static str, _: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 14, gauge());
    let at = w.at(10.0, 7.0);
    w.rows(|t| if t >= at { 6.0 } else { 5.0 });
    w.quiet(w.start, Some(at), 0);
    w.told(at, STEP, Severity::Warning);
    w.quiet(at, None, 1);
    w
}

fn bad_values(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 10, percent());
    let at = w.at(9.0, 7.0);
    let mut drift = Drift::new(1.5, 0.9);
    w.rows(|t| {
        let ordinary = round(daily(t, 20.0, 40.0) + drift.next(dice), 2);
        if (at..at + 20 * MIN).contains(&t) {
            97.0
        } else if dice.uniform() < 0.002 && t < at - HOUR {
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][(3.0 * dice.uniform()) as usize]
        } else {
            ordinary
        }
    });
    w.quiet(w.at(5.0, 0.0), Some(at), 0);
    w.told(at, STEP, Severity::Warning);
    w
}

fn tiny(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 11, gauge());
    let (moved, at) = (w.at(8.0, 6.0), w.at(10.0, 6.0));
    w.rows(|t| {
        let step = if t >= moved { 5e-5 } else { 0.0 };
        let real = if (at..at + HOUR).contains(&t) {
            7.0
        } else {
            0.0
        };
        round(50.0 + 1e-6 * dice.normal() + step + real, 9)
    });
    // Fifty deviations, and one part in a million.
    w.quiet(w.at(3.0, 0.0), Some(at), 0);
    w.told(at, STEP, Severity::Warning);
    w
}

fn daylight(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 21, gauge());
    w.story.zone = "America/New_York";
    // Clocks go forward on Sunday 2026-03-08 at 07:00 UTC, two weeks in.
    (w.start, w.end) = (MONDAY + 21 * DAY, MONDAY + 42 * DAY);
    let change = 1_772_953_200;
    let mut drift = Drift::new(8.0, 0.9);
    w.rows(|t| {
        let local = t - if t >= change { 4 } else { 5 } * HOUR;
        let hour = local.rem_euclid(DAY) as f64 / HOUR as f64;
        let edge = |at: f64| 1.0 / (1.0 + (-(hour - at) * 4.0).exp());
        round(
            (60.0 + 400.0 * (edge(9.0) - edge(17.5)) + drift.next(dice)).max(0.0),
            2,
        )
    });
    w.quiet(w.at(8.0, 0.0), None, 0);
    w
}

fn errors(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 16, gauge());
    let at = w.at(15.0, 6.0);
    w.rows(|t| {
        if (at..at + 10 * MIN).contains(&t) {
            25.0 + f64::floor(5.0 * dice.uniform())
        } else {
            f64::from(u8::from(dice.uniform() < 0.02) + u8::from(dice.uniform() < 0.001))
        }
    });
    w.quiet(w.at(7.0, 0.0), Some(at), 1);
    w.told(at, STEP, Severity::Warning);
    w
}

fn weekends(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 28, percent());
    let mut drift = Drift::new(2.0, 0.9);
    w.rows(|t| {
        let is_busy = (t - MONDAY) / DAY % 7 < 5;
        let (low, high) = if is_busy { (20.0, 65.0) } else { (12.0, 18.0) };
        round((daily(t, low, high) + drift.next(dice)).max(0.0), 2)
    });
    w.quiet(w.at(14.0, 0.0), None, 0);
    w
}

fn flapping(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 10, percent());
    let at = w.at(9.0, 9.0);
    let mut drift = Drift::new(2.0, 0.9);
    w.rows(|t| {
        let ordinary = round(daily(t, 30.0, 42.0) + drift.next(dice), 2);
        let is_up = (at..at + 2 * HOUR).contains(&t) && (t - at) / (2 * MIN) % 2 == 0;
        if is_up { 98.0 } else { ordinary }
    });
    w.quiet(w.at(7.0, 0.0), Some(at), 0);
    w.told(at, STEP, Severity::Warning);
    w.quiet(at, None, 2);
    w
}

fn disorder(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 12, percent());
    let mut drift = Drift::new(2.0, 0.9);
    w.rows(|t| round(daily(t, 20.0, 60.0) + drift.next(dice), 2));
    let rows = &mut w.story.rows;
    for i in 1..rows.len() {
        match dice.uniform() {
            x if x < 0.005 => rows.swap(i - 1, i),
            x if x < 0.01 => rows[i] = rows[i - 1],
            _ => {}
        }
    }
    w.quiet(w.at(7.0, 0.0), None, 0);
    w
}

fn cold(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 8, percent());
    let mut drift = Drift::new(2.0, 0.9);
    w.rows(|t| round(daily(t, 20.0, 60.0) + drift.next(dice), 2));
    w.quiet(w.start, None, 1);
    w
}

fn noisy(name: &'static str, dice: &mut Dice) -> Writer {
    let mut w = Writer::new(name, 21, percent());
    let mut drift = Drift::new(6.0, 0.95);
    let (mut burst, mut until, mut next) = (0.0, 0, MONDAY + HOUR);
    w.rows(|t| {
        if t >= next {
            burst = dice.between(15.0, 45.0);
            until = t + dice.between(60.0, 360.0) as i64;
            next = until + 300 + (-7200.0 * dice.uniform().max(1e-9).ln()) as i64;
        }
        let more = if t < until { burst } else { 0.0 };
        round(
            (daily(t, 25.0, 45.0) + drift.next(dice) + more).clamp(0.0, 100.0),
            2,
        )
    });
    w.quiet(w.at(7.0, 0.0), None, 1);
    w
}
