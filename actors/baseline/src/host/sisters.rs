//! What hosts of one role know, for a series that is new here.

use super::{HostBaselines, Series};
use crate::engine::Baseline;
use crate::moment::Moment;
use hale_model::{HostName, SeriesKey};
use std::time::Duration;

/// A baseline merged of sisters', held against the host's own samples before it is trusted.
#[derive(Debug)]
pub(super) struct Trial {
    baseline: Baseline,
    sisters: Vec<HostName>,
    seen: u32,
    fits: u32,
    /// The host's own values since, and the sum of what was normal by the sisters.
    least: f64,
    most: f64,
    widths: f64,
}

impl Trial {
    /// Whether the host is like its sisters: its values are normal there, and what is normal there is
    /// not so wide that anything would be.
    fn is_like(&self) -> bool {
        let width = self.widths / f64::from(self.seen.max(1));
        let own = self.most - self.least;
        let size = self.most.abs().max(self.least.abs());
        self.fits * 100 >= self.seen * FITTING_PERCENT
            && width <= (WIDEST * own).max(WIDEST_SHARE * size)
    }
}

/// What is normal for sisters may be as many times as wide as what a host shows in its first values,
/// or such a share of them.
const WIDEST: f64 = 30.0;
const WIDEST_SHARE: f64 = 0.5;

/// So many of the host's own samples are held against what sisters know, and so many of a hundred
/// have to be normal by it.
const TRIED: u32 = 20;
const FITTING_PERCENT: u32 = 90;
/// A series that was watched for longer than this has a baseline of its own.
const NEW: Duration = Duration::from_secs(6 * 3600);
/// One that began from what sisters knew is its host's own after so long, and may be told again.
const OWN_BY_NOW: Duration = Duration::from_secs(7 * 86_400);
/// The most series that are asked for at once.
pub const MAX_ASKED: usize = 1000;
/// The most sisters whose baselines are merged.
pub const MAX_SISTERS: usize = 5;

/// What sisters know of a series: their names, and their states.
pub type Known = (SeriesKey, Vec<(HostName, Vec<u8>)>);

impl HostBaselines {
    /// The series that are new here and have not been asked for yet: what sisters know of them would
    /// help. They count as asked for then.
    pub fn newcomers(&mut self) -> Vec<SeriesKey> {
        let is_new = |s: &&mut Box<Series>| {
            !s.asked && s.baseline.step() > Duration::ZERO && s.baseline.age() < NEW
        };
        let new = self.series.values_mut().filter(is_new).take(MAX_ASKED);
        new.map(|s| {
            s.asked = true;
            s.sample.series.clone()
        })
        .collect()
    }

    /// Nobody answered for these series: they may be asked for again.
    pub fn not_answered(&mut self, of: &[SeriesKey]) {
        for key in of {
            if let Some(series) = self.series.get_mut(key) {
                series.asked = false;
            }
        }
    }

    /// What this host knows of these series, for a sister: those that it has watched for long enough.
    pub fn states(&self, of: &[SeriesKey]) -> Vec<(SeriesKey, Vec<u8>)> {
        let known = of.iter().take(MAX_ASKED).filter_map(|key| {
            let series = self.series.get(key)?;
            let enough = if series.baseline.is_inherited() {
                OWN_BY_NOW
            } else {
                NEW
            };
            let is_own = series.baseline.own_age() >= enough;
            let bytes = series.baseline.to_bytes().ok()?;
            is_own.then(|| (key.clone(), bytes))
        });
        known.collect()
    }

    /// Takes in what sisters know of series that are new here. It is tried on the host's own samples
    /// first. Returns how many are tried.
    pub fn try_known(&mut self, known: Vec<Known>) -> usize {
        let mut count = 0;
        for (key, sisters) in known {
            let Some(series) = self.series.get_mut(&key) else {
                continue;
            };
            if series.baseline.age() >= NEW || series.baseline.is_inherited() {
                continue;
            }
            let (mut hosts, mut states) = (vec![], vec![]);
            for (host, bytes) in sisters.into_iter().take(MAX_SISTERS) {
                match Baseline::from_bytes(&bytes) {
                    Ok(state) if state.knows_enough() => {
                        hosts.push(host);
                        states.push(state);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%host, series = %key, %error, "what a sister knows is left out");
                    }
                }
            }
            let profile = self.config.profile_for(&series.sample, &self.tags);
            let merged = Baseline::of_sisters(states, self.config.window(), profile);
            series.trial = merged.map(|baseline| {
                count += 1;
                Box::new(Trial {
                    baseline,
                    sisters: hosts,
                    seen: 0,
                    fits: 0,
                    least: f64::MAX,
                    most: f64::MIN,
                    widths: 0.0,
                })
            });
        }
        count
    }
}

impl Series {
    /// Holds the sample against what sisters know too, and begins from that if the host is like them.
    pub(super) fn try_sisters(&mut self, now: Moment) {
        let Some(trial) = &mut self.trial else { return };
        let Some(measured) = trial.baseline.measure(&self.sample, now) else {
            return;
        };
        trial.seen += 1;
        trial.fits += u32::from(measured.distance.abs() < 3.0);
        trial.least = trial.least.min(measured.value);
        trial.most = trial.most.max(measured.value);
        let width = measured.high - measured.low;
        trial.widths += width.max(4.0 * measured.baseline.spread);
        if trial.seen < TRIED {
            return;
        }
        let is_like = trial.is_like();
        if let Some(trial) = self.trial.take()
            && is_like
        {
            self.baseline = trial.baseline;
            self.begun_from = trial.sisters;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::config::BaselineConfig;
    use crate::host::SeriesFilter;
    use hale_model::{Batch, Sample, Timestamp};

    const MONDAY: i64 = 1_769_990_400;

    fn host() -> HostBaselines {
        HostBaselines::new(BaselineConfig {
            timezone: "UTC".into(),
            ..BaselineConfig::default()
        })
        .unwrap()
    }

    fn round(host: &mut HostBaselines, name: &str, n: i64, value: f64) {
        let sample = Sample::percent(SeriesKey::new("system.cpu_percent"), value);
        host.observe(Batch {
            host: name.parse().unwrap(),
            at: Timestamp::from_secs(MONDAY + n * 60),
            samples: vec![sample],
            events: vec![],
            snapshot: serde_json::json!({ "tags": { "role": "web" } }),
            dropped: 0,
        });
    }

    fn value(n: i64) -> f64 {
        30.0 + (n.wrapping_mul(7919) % 101) as f64 / 50.0
    }

    #[test]
    fn what_is_forgotten_is_learned_anew_and_asked_for_again() {
        let mut host = host();
        for n in 0..1440 {
            round(&mut host, "web-01", n, value(n));
        }
        let key = SeriesKey::new("system.cpu_percent");
        let age = |host: &HostBaselines| {
            let detail = host.detail(&key).unwrap();
            detail.view.latest.unwrap().baseline.age_seconds
        };
        assert!(age(&host) > 80_000);
        let other = SeriesFilter {
            series: Some("system.disk_*".into()),
            ..SeriesFilter::default()
        };
        assert_eq!(host.forget(&other), 0);
        assert_eq!(host.forget(&SeriesFilter::default()), 1);
        round(&mut host, "web-01", 1440, value(1440));
        round(&mut host, "web-01", 1441, value(1441));
        assert!(age(&host) < 600);
        assert_eq!(host.newcomers(), std::slice::from_ref(&key));
    }

    #[test]
    fn a_new_host_begins_from_a_sister_that_is_like_it_and_says_so() {
        let mut old = host();
        for n in 0..3 * 1440 {
            round(&mut old, "web-01", n, value(n));
        }
        let start = 3 * 1440;
        for (level, is_like) in [(0.0, true), (40.0, false)] {
            let mut new = host();
            round(&mut new, "web-02", start, level + value(start));
            round(&mut new, "web-02", start + 1, level + value(start + 1));
            let asked = new.newcomers();
            assert_eq!(asked, [SeriesKey::new("system.cpu_percent")]);
            assert_eq!(new.newcomers(), [], "it is asked for once");
            assert_eq!(new.states(&asked), [], "it knows nothing to tell yet");
            let told = old.states(&asked);
            assert_eq!(told.len(), 1);
            let known = told
                .into_iter()
                .map(|(key, state)| {
                    let bad = ("web-03".parse().unwrap(), vec![9, 9, 9]);
                    (key, vec![("web-01".parse().unwrap(), state), bad])
                })
                .collect();
            assert_eq!(new.try_known(known), 1);
            for n in start + 2..start + 30 {
                round(&mut new, "web-02", n, level + value(n));
            }
            let detail = new.detail(&asked[0]).unwrap();
            let why = detail.explanation.unwrap().why.join("\n");
            assert_eq!(why.contains("web-01"), is_like, "{why}");
            assert!(!why.contains("web-03"), "{why}");
            let age = detail.view.latest.unwrap().baseline.age_seconds;
            assert_eq!(age > 86_400, is_like, "{age}");
        }
    }
}
