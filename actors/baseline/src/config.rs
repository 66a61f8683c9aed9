//! How sensitive the baseline is, and for which series it is otherwise.

use crate::engine::Profile;
use crate::error::BaselineError;
use glob_match::glob_match;
use hale_model::{Sample, SeriesKey, ServiceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most overrides a configuration may have: each new series is held against all of them.
pub const MAX_OVERRIDES: usize = 256;

/// A host's tags.
pub type Tags = BTreeMap<String, String>;

/// From how many spreads on a reading is an anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// From 5σ: only what is critical.
    Low,
    /// From 3σ.
    #[default]
    Medium,
    /// From 2σ.
    High,
}

impl Sensitivity {
    /// Its name in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The threshold, in spreads.
    pub fn threshold(self) -> f64 {
        match self {
            Self::Low => 5.0,
            Self::Medium => 3.0,
            Self::High => 2.0,
        }
    }
}

/// The part `[baseline]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BaselineConfig {
    /// For all series that no override names.
    pub sensitivity: Sensitivity,
    /// What surprises: `balanced` for hosts and services, `novelty` where what was never seen counts
    /// most.
    pub profile: Profile,
    /// What is older weighs little. From 1 to 60 days.
    pub window_days: u32,
    /// Whose clock the seasons follow: a name of the IANA database, `UTC`, or `system`.
    pub timezone: String,
    /// The most series kept; the one seen longest ago gives way. At most 200,000.
    pub max_series: usize,
    /// How many readings of each series are kept to be looked at; fewer where there are many series.
    /// At most 2,000.
    pub history_points: usize,
    /// Seconds between two savings of the state. From 1 to 86,400.
    pub save_every_seconds: u64,
    /// For series that are otherwise; the first that fits holds.
    pub overrides: Vec<Override>,
}

impl Default for BaselineConfig {
    fn default() -> Self {
        Self {
            sensitivity: Sensitivity::default(),
            profile: Profile::default(),
            window_days: 7,
            timezone: "system".into(),
            max_series: 10_000,
            history_points: 240,
            save_every_seconds: 300,
            overrides: vec![],
        }
    }
}

/// What is otherwise, and for which series. All that is written must fit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// A pattern for the metric: `system.disk_*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Patterns for labels: `mount = "/backup*"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// A pattern for the service: `nginx`, `batch-*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Patterns for the host's tags, so that one configuration can serve a whole fleet:
    /// `role = "database"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// How sensitive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sensitivity: Option<Sensitivity>,
    /// What surprises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Kept and shown, never judged.
    pub ignore: bool,
}

impl Override {
    fn check(&self) -> Result<(), &'static str> {
        if self.series.is_none()
            && self.labels.is_empty()
            && self.service.is_none()
            && self.tags.is_empty()
        {
            return Err(
                "it names nothing; write series = \"system.disk_*\", labels, service or tags, or set \
                 baseline.sensitivity for all",
            );
        }
        match (self.sensitivity, self.profile, self.ignore) {
            (None, None, false) => Err(
                "it changes nothing; write sensitivity = \"low\", \"medium\" or \"high\", \
                 profile = \"balanced\" or \"novelty\", or ignore = true",
            ),
            (Some(_), _, true) => {
                Err("it says both sensitivity and ignore = true; write one of them")
            }
            _ => Ok(()),
        }
    }

    fn fits(&self, sample: &Sample, tags: &Tags) -> bool {
        let all_like = |patterns: &BTreeMap<String, String>, of: &BTreeMap<String, String>| {
            let is_like = |(name, pattern): (&String, &String)| {
                of.get(name).is_some_and(|value| like(pattern, value))
            };
            patterns.iter().all(is_like)
        };
        matches(
            self.series.as_deref(),
            self.service.as_deref(),
            &sample.series,
            sample.service.as_ref(),
        ) && all_like(&self.labels, &sample.series.labels)
            && all_like(&self.tags, tags)
    }
}

/// Whether a series and its service fit the patterns that are given.
pub(crate) fn matches(
    metric: Option<&str>,
    service: Option<&str>,
    series: &SeriesKey,
    of: Option<&ServiceName>,
) -> bool {
    metric.is_none_or(|pattern| like(pattern, &series.metric))
        && service.is_none_or(|pattern| of.is_some_and(|name| like(pattern, name.as_str())))
}

/// `*` stands for any text, also across slashes: mounts and units are no paths here.
fn like(pattern: &str, text: &str) -> bool {
    if pattern.contains('/') || text.contains('/') {
        let flat = |s: &str| s.replace('/', "\u{1}");
        return glob_match(&flat(pattern), &flat(text));
    }
    glob_match(pattern, text)
}

impl BaselineConfig {
    /// Checks what types can't.
    ///
    /// # Errors
    /// The first setting that makes no sense, with what to write instead.
    pub fn check(&self) -> Result<(), BaselineError> {
        let range = |field, found: u64, least, most| {
            if (least..=most).contains(&found) {
                Ok(())
            } else {
                Err(BaselineError::Range {
                    field,
                    found,
                    least,
                    most,
                })
            }
        };
        range("window_days", self.window_days.into(), 1, 60)?;
        range("max_series", self.max_series as u64, 1, 200_000)?;
        range("history_points", self.history_points as u64, 0, 2000)?;
        range("save_every_seconds", self.save_every_seconds, 1, 86_400)?;
        range(
            "overrides",
            self.overrides.len() as u64,
            0,
            MAX_OVERRIDES as u64,
        )?;
        for (index, o) in self.overrides.iter().enumerate() {
            o.check().map_err(|why| BaselineError::Override {
                index,
                why: why.into(),
            })?;
        }
        crate::moment::LocalTime::named(&self.timezone).map(drop)
    }

    /// How far back a baseline reaches.
    pub fn window(&self) -> Duration {
        Duration::from_secs(u64::from(self.window_days) * 86_400)
    }

    /// What surprises, for a series.
    pub fn profile_for(&self, sample: &Sample, tags: &Tags) -> Profile {
        let first = self.overrides.iter().find(|o| o.fits(sample, tags));
        first.and_then(|o| o.profile).unwrap_or(self.profile)
    }

    /// How sensitive to be for a series; none if it is never judged.
    pub fn sensitivity_for(&self, sample: &Sample, tags: &Tags) -> Option<Sensitivity> {
        match self.overrides.iter().find(|o| o.fits(sample, tags)) {
            Some(o) if o.ignore => None,
            Some(o) => Some(o.sensitivity.unwrap_or(self.sensitivity)),
            None => Some(self.sensitivity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(config: serde_json::Value, expect: Expect) {
        let found = match serde_json::from_value::<BaselineConfig>(config) {
            Ok(config) => config
                .check()
                .map_or_else(|e| e.to_string(), |()| "fine".into()),
            Err(e) => e.to_string(),
        };
        expect.assert_eq(&found);
    }

    #[test]
    fn what_makes_no_sense_is_told_with_what_to_write() {
        check(json!({}), expect!["fine"]);
        check(
            json!({"window_days": 0}),
            expect!["baseline.window_days: 0 is out of range; write a value from 1 to 60"],
        );
        check(
            json!({"sensitivty": "low"}),
            expect![
                "unknown field `sensitivty`, expected one of `sensitivity`, `profile`, `window_days`, `timezone`, `max_series`, `history_points`, `save_every_seconds`, `overrides`"
            ],
        );
        check(
            json!({"overrides": [{"sensitivity": "low"}]}),
            expect![[
                r#"baseline.overrides[0]: it names nothing; write series = "system.disk_*", labels, service or tags, or set baseline.sensitivity for all"#
            ]],
        );
        check(
            json!({"overrides": [{"series": "a.*"}]}),
            expect![[
                r#"baseline.overrides[0]: it changes nothing; write sensitivity = "low", "medium" or "high", profile = "balanced" or "novelty", or ignore = true"#
            ]],
        );
        check(
            json!({"timezone": "Mars/Olympus"}),
            expect![
                "baseline.timezone: `Mars/Olympus` is no time zone; write a name like `Europe/Berlin`, `UTC` or `system`, and see that the package tzdata is installed"
            ],
        );
    }

    #[test]
    fn the_first_override_that_fits_holds() {
        let config: BaselineConfig = serde_json::from_value(json!({"overrides": [
            {"series": "system.disk_*", "labels": {"mount": "/backup*"}, "ignore": true},
            {"series": "system.*", "sensitivity": "low"},
            {"service": "batch-*", "sensitivity": "high"},
            {"tags": {"role": "data*"}, "sensitivity": "high", "profile": "novelty"},
        ]}))
        .unwrap();
        let none = Tags::new();
        let disk = |mount| {
            Sample::percent(
                SeriesKey::new("system.disk_usage_percent").with("mount", mount),
                1.0,
            )
        };
        assert_eq!(config.sensitivity_for(&disk("/backup/daily"), &none), None);
        assert_eq!(
            config.sensitivity_for(&disk("/var"), &none),
            Some(Sensitivity::Low)
        );
        let batch =
            Sample::gauge(SeriesKey::new("custom.jobs"), 1.0).of(&"batch-a".parse().unwrap());
        assert_eq!(
            config.sensitivity_for(&batch, &none),
            Some(Sensitivity::High)
        );
        let other = Sample::gauge(SeriesKey::new("custom.jobs"), 1.0);
        assert_eq!(
            config.sensitivity_for(&other, &none),
            Some(Sensitivity::Medium)
        );
        let database = Tags::from([("role".into(), "database".into())]);
        assert_eq!(
            config.sensitivity_for(&other, &database),
            Some(Sensitivity::High)
        );
        assert_eq!(config.profile_for(&other, &database), Profile::Novelty);
        assert_eq!(config.profile_for(&other, &none), Profile::Balanced);
    }
}
