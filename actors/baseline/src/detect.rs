//! Whether a reading matters: severity, persistence, hysteresis, and time to the limit.
//!
//! One far value of a series that is known is critical at once; a young series has to show it
//! twice, a warning comes after two of three readings, an info after three in a row. What is told
//! stays told until readings were clearly normal for a while; the while grows as a series flaps.

use crate::config::Sensitivity;
use crate::engine::toward_harm;
use hale_model::{Anomaly, Harm, Reading, Severity, Timestamp};
use std::time::Duration;

/// A trend that reaches its limit within this is a warning; at a third of it and less, critical.
pub const ETA_HORIZON_S: f64 = 6.0 * 3600.0;
/// More than that much urgency says nothing more.
const MOST_URGENT: f64 = 10.0;
/// So far out of the ordinary a value must be for its trend to matter…
const HIGH_SIGMA: f64 = 3.0;
/// …or so far, when the limit is minutes away and the series is too young to know better.
const RISING_SIGMA: f64 = 1.0;
const MINUTES_S: f64 = 600.0;
const INEXPERIENCED_S: u64 = 86_400;
/// A series younger than this is not yet trusted with one reading.
const YOUNG_S: u64 = 300;
/// Readings below this share of the threshold are clearly normal.
const CALM_SHARE: f64 = 2.0 / 3.0;
const CALM_READINGS: u32 = 3;
const MOST_FLAPS: u32 = 4;
const FLAPPING: Duration = Duration::from_secs(3600);

/// What is remembered of one series between readings.
#[derive(Debug, Clone, Default)]
pub struct AlertState {
    /// The last readings' scores reached info, warning, critical: newest in the lowest bit.
    over: [u8; 3],
    /// Since when readings have been over the threshold.
    since: Option<Timestamp>,
    active: Option<Anomaly>,
    calm: u32,
    flaps: u32,
    cleared_at: Option<Timestamp>,
}

impl AlertState {
    /// What is active.
    pub fn active(&self) -> Option<&Anomaly> {
        self.active.as_ref()
    }

    /// Ends what is active, if anything is.
    pub fn clear(&mut self, at: Timestamp) -> bool {
        self.over = [0; 3];
        (self.since, self.calm) = (None, 0);
        let was_active = self.active.take().is_some();
        if was_active {
            self.cleared_at = Some(at);
        }
        was_active
    }

    /// Whether nothing has been out of the ordinary lately, so that an ordinary reading changes
    /// nothing.
    pub fn is_idle(&self) -> bool {
        self.active.is_none() && self.since.is_none() && self.over == [0; 3]
    }

    fn persistent(&self, age_s: u64) -> Option<Severity> {
        let last = |level: usize, n: u32| (self.over[level] & ((1 << n) - 1)).count_ones();
        let now = |level: usize| self.over[level] & 1 == 1;
        if now(2) && (age_s >= YOUNG_S || last(2, 3) >= 2) {
            Some(Severity::Critical)
        } else if now(1) && last(1, 3) >= 2 {
            Some(Severity::Warning)
        } else if last(0, 3) == 3 {
            Some(Severity::Info)
        } else {
            None
        }
    }

    fn raise(&mut self, reading: &Reading, severity: Severity) {
        if self.active.is_none() {
            let again = self
                .cleared_at
                .is_some_and(|t| reading.at.since(t) < FLAPPING);
            self.flaps = if again {
                (self.flaps + 1).min(MOST_FLAPS)
            } else {
                0
            };
        }
        let before = self.active.as_ref().map(|a| a.severity);
        self.active = Some(Anomaly {
            reading: reading.clone(),
            severity: before.map_or(severity, |b| b.max(severity)),
            confidence: (reading.sigma.abs() / 5.0).min(1.0),
            since: self
                .active
                .as_ref()
                .map_or(self.since.unwrap_or(reading.at), |a| a.since),
        });
    }
}

/// How much a reading matters, in spreads: its distance where it hurts, or the urgency of a limit
/// that is near.
pub fn score(sigma: f64, harm: Harm, seconds_to_limit: Option<f64>, age_seconds: u64) -> f64 {
    let urgency = urgent(sigma, harm, seconds_to_limit, age_seconds);
    toward_harm(sigma, harm).max(urgency.min(MOST_URGENT))
}

/// How much the limit that a reading is on its way to matters, as a surprise: 1 at the horizon,
/// rising with the root of the time that is gone; zero if it is further off.
pub fn urgency(reading: &Reading) -> f64 {
    let age_s = reading.baseline.age_seconds;
    urgent(reading.sigma, reading.harm, reading.seconds_to_limit, age_s) / 3.0
}

/// The same in spreads.
fn urgent(sigma: f64, harm: Harm, seconds_to_limit: Option<f64>, age_seconds: u64) -> f64 {
    // Only what lies on the limit's side can be on its way there.
    let ahead = if harm == Harm::Low { -sigma } else { sigma };
    let is_near = |eta| eta <= MINUTES_S && age_seconds < INEXPERIENCED_S;
    match seconds_to_limit {
        Some(eta)
            if eta <= ETA_HORIZON_S
                && (ahead >= HIGH_SIGMA || (ahead >= RISING_SIGMA && is_near(eta))) =>
        {
            3.0 * (ETA_HORIZON_S / eta.max(60.0)).sqrt()
        }
        _ => 0.0,
    }
}

/// Judges a reading: the anomaly that its series is in, if it is in one. An anomaly carries the last
/// reading that was out of the ordinary and the gravest severity since it began.
pub fn judge(
    reading: &Reading,
    sensitivity: Sensitivity,
    state: &mut AlertState,
) -> Option<Anomaly> {
    let age_s = reading.baseline.age_seconds;
    let score = score(reading.sigma, reading.harm, reading.seconds_to_limit, age_s);
    let threshold = sensitivity.threshold();
    for (level, least) in [2.0, 3.0, 5.0].into_iter().enumerate() {
        let reached = score >= threshold.max(least);
        state.over[level] = state.over[level] << 1 | u8::from(reached);
    }
    if score >= threshold {
        state.since.get_or_insert(reading.at);
    } else if state.over[0] & 0b111 == 0 {
        state.since = None;
    }
    match state.persistent(age_s) {
        Some(severity) if score >= threshold => {
            state.calm = 0;
            state.raise(reading, severity);
        }
        _ if state.active.is_some() => settle(reading, score, threshold, state),
        _ => {}
    }
    state.active.clone()
}

/// Counts readings that are clearly normal, and clears when there were enough.
fn settle(reading: &Reading, score: f64, threshold: f64, state: &mut AlertState) {
    if score >= threshold {
        let severity = state.active.as_ref().map_or(Severity::Info, |a| a.severity);
        state.calm = 0;
        state.raise(reading, severity);
    } else if score >= threshold * CALM_SHARE {
        state.calm = 0;
    } else {
        state.calm += 1;
        if state.calm >= CALM_READINGS << state.flaps {
            state.clear(reading.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::{BaselineStats, SeriesKey};

    fn reading(n: i64, sigma: f64) -> Reading {
        Reading {
            series: SeriesKey::new("m"),
            service: None,
            at: Timestamp::from_secs(n * 30),
            value: sigma,
            baseline: BaselineStats {
                spread: 1.0,
                age_seconds: 1_000_000,
                ..Default::default()
            },
            sigma,
            tail_probability: 0.5,
            trend_per_hour: 0.0,
            seconds_to_limit: None,
            bounds: None,
            harm: Harm::Both,
        }
    }

    /// The severities told, one for each reading.
    fn told(sensitivity: Sensitivity, sigmas: &[f64]) -> Vec<Option<Severity>> {
        let mut state = AlertState::default();
        let each = sigmas.iter().enumerate();
        each.map(|(n, s)| {
            judge(&reading(n as i64, *s), sensitivity, &mut state).map(|a| a.severity)
        })
        .collect()
    }

    #[test]
    fn critical_comes_at_once_a_warning_after_two_and_an_info_after_three() {
        use Severity::*;
        assert_eq!(
            told(Sensitivity::Medium, &[0.0, -7.0]),
            [None, Some(Critical)]
        );
        assert_eq!(
            told(Sensitivity::Medium, &[4.0, 0.0, 4.0]),
            [None, None, Some(Warning)]
        );
        assert_eq!(
            told(Sensitivity::High, &[2.5, 2.5, 2.5]),
            [None, None, Some(Info)]
        );
        assert_eq!(told(Sensitivity::Medium, &[2.5; 5]), [None; 5]);
        assert_eq!(told(Sensitivity::Low, &[4.9; 5]), [None; 5]);
    }

    #[test]
    fn what_was_told_stays_until_it_is_clearly_normal_for_a_while() {
        let found = told(
            Sensitivity::Medium,
            &[7.0, 2.5, 2.5, 0.0, 0.0, 2.5, 0.0, 0.0, 0.0],
        );
        assert!(
            found[..8].iter().all(|s| *s == Some(Severity::Critical)),
            "{found:?}"
        );
        assert_eq!(found[8], None);
    }

    #[test]
    fn a_series_that_flaps_is_told_ever_more_seldom() {
        let sigmas: Vec<_> = (0..400)
            .map(|i| if i / 4 % 2 == 0 { 8.0 } else { 0.0 })
            .collect();
        let found = told(Sensitivity::Medium, &sigmas);
        let raised = found
            .windows(2)
            .filter(|w| w[0].is_none() && w[1].is_some())
            .count();
        assert!(raised <= 2, "{raised}");
    }

    #[test]
    fn a_limit_that_is_near_raises_what_is_already_high() {
        let s = |sigma, eta| score(sigma, Harm::High, Some(eta), 1_000_000);
        assert_eq!(s(2.9, 3600.0), 2.9);
        assert!((s(3.0, 6.0 * 3600.0) - 3.0).abs() < 1e-9);
        assert!(s(3.1, 1.5 * 3600.0) > 5.0);
        assert_eq!(s(3.1, 20.0 * 3600.0), 3.1);
        assert_eq!(s(-4.0, 3600.0), 0.0);
        assert_eq!(score(9.0, Harm::Neither, None, 0), 0.0);
        assert!(
            score(1.5, Harm::High, Some(60.0), 40) > 5.0,
            "young, and full in a minute"
        );
    }

    #[test]
    fn a_young_series_has_to_show_it_twice() {
        let mut state = AlertState::default();
        let mut young = |n| {
            let mut r = reading(n, 9.0);
            r.baseline.age_seconds = 8;
            judge(&r, Sensitivity::Medium, &mut state)
        };
        assert_eq!(young(1), None);
        let anomaly = young(2).unwrap();
        assert_eq!(
            (anomaly.severity, anomaly.confidence),
            (Severity::Critical, 1.0)
        );
        assert_eq!(anomaly.since, Timestamp::from_secs(30));
    }
}
