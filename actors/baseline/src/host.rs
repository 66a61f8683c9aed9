//! All series of a host: their baselines, what of them is anomalous, and what is to be saved.

mod jobs;
mod sisters;
mod surprised;

pub use sisters::{Known, MAX_ASKED, MAX_SISTERS};

use crate::config::{BaselineConfig, Sensitivity, Tags, matches};
use crate::detect::{self, AlertState, judge};
use crate::engine::{Baseline, Measured, Phase};
use crate::error::BaselineError;
use crate::explain::Explanation;
use crate::history::{Episode, History, MOST_POINTS, Point};
use crate::moment::{LocalTime, Moment};
use hale_model::{
    Anomaly, Batch, Bounds, Harm, HostName, Observed, Sample, SeriesKey, SeriesKind, ServiceName,
    Severity, Timestamp,
};
use jobs::Jobs;
use serde::{Deserialize, Serialize};
use sisters::Trial;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use surprised::{LEAST_SURPRISED, Surprised};

/// The most anomalies handed on in one round, the gravest.
pub const MAX_ANOMALIES: usize = 1000;
/// An active series that has been silent for so many of its steps, and at least a minute, is gone.
const SILENT_STEPS: u32 = 10;
const SILENT_LEAST: Duration = Duration::from_secs(60);

/// The row of the jobs: no name of a series.
const JOBS_ROW: &[u8] = b"{jobs}";

/// One row of the store: a series' name and its state; no state removes it.
pub type Row = (Vec<u8>, Option<Vec<u8>>);

/// Which series are meant. What is not given fits all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeriesFilter {
    /// A pattern for the metric: `system.disk_*`.
    pub series: Option<String>,
    /// A pattern for the service.
    pub service: Option<String>,
}

impl SeriesFilter {
    fn fits(&self, sample: &Sample) -> bool {
        let (series, service) = (self.series.as_deref(), self.service.as_deref());
        matches(series, service, &sample.series, sample.service.as_ref())
    }
}

/// What is known of one series, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesView {
    /// Which.
    pub series: SeriesKey,
    /// The service it belongs to.
    pub service: Option<ServiceName>,
    /// How its values are read.
    pub kind: SeriesKind,
    /// Its natural range.
    pub bounds: Option<Bounds>,
    /// Which way trouble lies.
    pub harm: Harm,
    /// The last sample held against its baseline.
    pub latest: Option<Measured>,
    /// How sensitive it is judged; none if it is never judged.
    pub sensitivity: Option<Sensitivity>,
    /// How much is known.
    pub phase: Phase,
    /// Seconds between its samples, typically.
    pub step_seconds: f64,
    /// The severity of the anomaly it is in, and since when.
    pub anomaly: Option<(Severity, Timestamp)>,
}

/// All that is known of one series, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesDetail {
    /// What the list of series tells of it.
    #[serde(flatten)]
    pub view: SeriesView,
    /// The last readings, the oldest first.
    pub points: Vec<Point>,
    /// When it was anomalous, as far as it is remembered; the oldest first.
    pub episodes: Vec<Episode>,
    /// Why the last reading is as normal or as strange as it is said to be; none before the first.
    pub explanation: Option<Explanation>,
    /// The hosts of the same role from which it began, if it did.
    pub begun_from: Vec<HostName>,
}

#[derive(Debug)]
struct Series {
    sample: Sample,
    baseline: Baseline,
    sensitivity: Option<Sensitivity>,
    state: AlertState,
    latest: Option<Measured>,
    history: History,
    trial: Option<Box<Trial>>,
    /// The sisters from which its baseline began.
    begun_from: Vec<HostName>,
    /// Whether sisters were asked for what they know.
    asked: bool,
    seen_at: Timestamp,
    unsaved: bool,
}

/// All series of a host.
#[derive(Debug)]
pub struct HostBaselines {
    config: BaselineConfig,
    local: LocalTime,
    series: HashMap<SeriesKey, Box<Series>>,
    active: BTreeSet<SeriesKey>,
    /// Restored, and not yet seen since.
    restored: HashMap<SeriesKey, Box<Baseline>>,
    /// To be removed from the store.
    gone: BTreeSet<SeriesKey>,
    evicted: u64,
    surprised: Surprised,
    tags: Tags,
    jobs: Jobs,
    /// When the last round was taken.
    now: Option<Moment>,
}

impl HostBaselines {
    /// Without any series yet.
    ///
    /// # Errors
    /// If the configuration makes no sense.
    pub fn new(config: BaselineConfig) -> Result<Self, BaselineError> {
        config.check()?;
        let local = LocalTime::named(&config.timezone)?;
        Ok(Self {
            config,
            local,
            series: HashMap::new(),
            active: BTreeSet::new(),
            restored: HashMap::new(),
            gone: BTreeSet::new(),
            evicted: 0,
            surprised: Surprised::default(),
            tags: Tags::new(),
            jobs: Jobs::default(),
            now: None,
        })
    }

    /// How many series are kept.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// How many series gave way to others since the start.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Takes a round of samples in, and tells what of the host is anomalous.
    pub fn observe(&mut self, batch: Batch) -> Observed {
        let Batch {
            host,
            at,
            samples,
            events,
            snapshot,
            ..
        } = batch;
        self.take_tags(&snapshot);
        let now = self.local.moment(at);
        self.now = Some(now);
        self.jobs.started(jobs_started(&snapshot), now);
        self.surprised.forget(at);
        let mut cleared = BTreeSet::new();
        for sample in samples {
            if sample.series.is_within_limits() {
                self.observe_one(sample, now, &mut cleared);
            }
        }
        self.clear_the_silent(at, &mut cleared);
        let cleared = cleared.into_iter().collect();
        Observed {
            at,
            host,
            anomalies: self.anomalies(),
            cleared,
            events,
            snapshot,
        }
    }

    /// Whoever changes a host's tags changes how its series are judged.
    fn take_tags(&mut self, snapshot: &serde_json::Value) {
        let told = snapshot.get("tags").and_then(|t| t.as_object());
        let told = told.into_iter().flatten();
        let tags: Tags = told
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
            .collect();
        if tags == self.tags {
            return;
        }
        self.tags = tags;
        for series in self.series.values_mut() {
            series.sensitivity = self.config.sensitivity_for(&series.sample, &self.tags);
            let profile = self.config.profile_for(&series.sample, &self.tags);
            series.baseline.set_profile(profile);
        }
    }

    fn observe_one(&mut self, sample: Sample, now: Moment, cleared: &mut BTreeSet<SeriesKey>) {
        let most_points = self.most_points();
        if !self.series.contains_key(&sample.series) {
            self.admit(&sample, now.at);
        }
        let Some(series) = self.series.get_mut(&sample.series) else {
            return;
        };
        if series.sample.service != sample.service {
            series.sensitivity = self.config.sensitivity_for(&sample, &self.tags);
            series
                .baseline
                .set_profile(self.config.profile_for(&sample, &self.tags));
        }
        series.sample = sample;
        series.seen_at = now.at;
        let Some(mut measured) = series.baseline.measure(&series.sample, now) else {
            return;
        };
        series.try_sisters(now);
        let is_alone = measured.surprise < LEAST_SURPRISED
            || series.sensitivity.is_none()
            || !self.surprised.note(&series.sample.series.metric, now.at);
        if is_alone {
            measured = measured.by_distance();
        }
        series.latest = Some(measured);
        series.history.push(Point::from(&measured), most_points);
        series.unsaved = true;
        let Some(sensitivity) = series.sensitivity else {
            // It may have been judged until now.
            if series.state.clear(now.at) {
                series.history.note(now.at, None);
                self.active.remove(&series.sample.series);
                cleared.insert(series.sample.series.clone());
            }
            return;
        };
        let sample = &series.sample;
        let Measured {
            sigma,
            seconds_to_limit,
            baseline,
            ..
        } = measured;
        let score = detect::score(sigma, sample.harm, seconds_to_limit, baseline.age_seconds);
        if score < 2.0 && series.state.is_idle() {
            return;
        }
        let was_active = series.state.active().is_some();
        let anomaly = judge(&measured.reading(sample), sensitivity, &mut series.state);
        let told = anomaly.as_ref().map(|a| (a.severity, a.since));
        series.history.note(now.at, told);
        match (was_active, anomaly.is_some()) {
            (false, true) => {
                self.active.insert(sample.series.clone());
                cleared.remove(&sample.series);
            }
            (true, false) => {
                self.active.remove(&sample.series);
                cleared.insert(sample.series.clone());
            }
            _ => {}
        }
    }

    /// How many points of each series are kept.
    fn most_points(&self) -> usize {
        self.config
            .history_points
            .min(MOST_POINTS / self.series.len().max(1))
    }

    /// All that is known of one series.
    pub fn detail(&self, key: &SeriesKey) -> Option<SeriesDetail> {
        let series = self.series.get(key)?;
        Some(SeriesDetail {
            view: series.view(),
            points: series.history.points().copied().collect(),
            episodes: series.history.episodes().copied().collect(),
            explanation: series.latest.as_ref().map(|m| {
                let mut told = Explanation::of(m);
                told.begun_from(&series.begun_from);
                told.beside(self.now.map(|now| self.jobs.at(now)).unwrap_or_default());
                told
            }),
            begun_from: series.begun_from.clone(),
        })
    }

    fn admit(&mut self, sample: &Sample, at: Timestamp) {
        if self.series.len() >= self.config.max_series {
            self.evict();
        }
        let mut baseline = match self.restored.remove(&sample.series) {
            Some(restored) => *restored,
            None => Baseline::new(self.config.window()),
        };
        baseline.set_profile(self.config.profile_for(sample, &self.tags));
        self.gone.remove(&sample.series);
        let series = Series {
            sample: sample.clone(),
            baseline,
            sensitivity: self.config.sensitivity_for(sample, &self.tags),
            state: AlertState::default(),
            latest: None,
            history: History::default(),
            trial: None,
            begun_from: vec![],
            asked: false,
            seen_at: at,
            unsaved: false,
        };
        self.series.insert(sample.series.clone(), Box::new(series));
    }

    /// Lets those go that were seen longest ago: a sixteenth at once, so that a flood of new
    /// series does not search all for each.
    fn evict(&mut self) {
        let mut ages: Vec<(Timestamp, &SeriesKey)> = self
            .series
            .iter()
            .map(|(key, s)| (s.seen_at, key))
            .collect();
        let n = (ages.len() / 16).max(1);
        ages.select_nth_unstable(n - 1);
        let oldest: Vec<SeriesKey> = ages[..n].iter().map(|(_, key)| (*key).clone()).collect();
        for key in oldest {
            self.series.remove(&key);
            self.gone.insert(key);
            self.evicted += 1;
        }
        while self.gone.len() > self.config.max_series {
            self.gone.pop_first();
        }
    }

    fn clear_the_silent(&mut self, at: Timestamp, cleared: &mut BTreeSet<SeriesKey>) {
        let series = &mut self.series;
        self.active.retain(|key| {
            let Some(s) = series.get_mut(key) else {
                cleared.insert(key.clone());
                return false;
            };
            let patience = (s.baseline.step() * SILENT_STEPS).max(SILENT_LEAST);
            let is_silent = at.since(s.seen_at) > patience;
            if is_silent {
                s.state.clear(at);
                s.history.note(at, None);
                cleared.insert(key.clone());
            }
            !is_silent
        });
    }

    fn anomalies(&self) -> Vec<Anomaly> {
        let active = self
            .active
            .iter()
            .filter_map(|key| self.series.get(key)?.state.active());
        let mut anomalies: Vec<Anomaly> = active.cloned().collect();
        anomalies.sort_by(|a, b| {
            let far = b.reading.sigma.abs().total_cmp(&a.reading.sigma.abs());
            b.severity.cmp(&a.severity).then(far)
        });
        anomalies.truncate(MAX_ANOMALIES);
        anomalies
    }

    /// Excludes a period from what is normal, for the series that fit: an incident, or what Hale
    /// did itself. They are judged all the same.
    ///
    /// Returns how many series fit.
    pub fn exclude(&mut self, filter: &SeriesFilter, from: Timestamp, until: Timestamp) -> usize {
        let mut count = 0;
        for series in self.series.values_mut().filter(|s| filter.fits(&s.sample)) {
            series.baseline.exclude(from, until);
            // It would have learned of the period what the baseline has not; sisters may be asked again.
            series.asked &= series.trial.take().is_none();
            series.unsaved = true;
            count += 1;
        }
        count
    }

    /// Forgets what was learned of the series that fit: they begin anew, from what hosts of the same
    /// role know where there are some. An anomaly that goes on ends as any other does.
    pub fn forget(&mut self, filter: &SeriesFilter) -> usize {
        let mut count = 0;
        for series in self.series.values_mut().filter(|s| filter.fits(&s.sample)) {
            series.baseline = Baseline::new(self.config.window());
            let profile = self.config.profile_for(&series.sample, &self.tags);
            series.baseline.set_profile(profile);
            series.trial = None;
            series.begun_from.clear();
            series.asked = false;
            series.unsaved = true;
            count += 1;
        }
        // Which service a series belongs to that was not seen since the start is not known.
        if let (Some(_), None) = (&filter.series, &filter.service) {
            let fits = |key: &SeriesKey| matches(filter.series.as_deref(), None, key, None);
            let restored = self.restored.extract_if(|key, _| fits(key));
            self.gone.extend(restored.map(|(key, _)| key));
        }
        count
    }

    /// The series that fit, in the order of their names.
    pub fn views(&self, filter: &SeriesFilter) -> Vec<SeriesView> {
        let mut views: Vec<SeriesView> = self
            .series
            .values()
            .filter(|s| filter.fits(&s.sample))
            .map(|s| s.view())
            .collect();
        views.sort_by(|a, b| a.series.cmp(&b.series));
        views
    }

    /// What has changed since the last call, for the store.
    pub fn unsaved(&mut self) -> Vec<Row> {
        let gone = std::mem::take(&mut self.gone);
        let mut rows: Vec<Row> = gone.into_iter().map(|key| (name(&key), None)).collect();
        for (key, series) in self.series.iter_mut().filter(|(_, s)| s.unsaved) {
            match series.baseline.to_bytes() {
                Ok(bytes) => rows.push((name(key), Some(bytes))),
                Err(error) => tracing::warn!(series = %key, %error, "a baseline can't be saved"),
            }
            series.unsaved = false;
        }
        let jobs = self.jobs.unsaved();
        rows.extend(jobs.map(|bytes| (JOBS_ROW.to_vec(), Some(bytes))));
        rows
    }

    /// Rows that could not be saved are to be saved again.
    pub fn not_saved(&mut self, rows: &[Row]) {
        if rows.iter().any(|(key, _)| key == JOBS_ROW) {
            self.jobs.not_saved();
        }
        for key in rows.iter().filter_map(|(key, _)| series_of(key)) {
            match self.series.get_mut(&key) {
                Some(series) => series.unsaved = true,
                None => drop(self.gone.insert(key)),
            }
        }
    }

    /// Takes back what was saved; each series goes on when it is seen again. Returns how many
    /// could not be read and will be learned anew.
    pub fn restore(&mut self, rows: Vec<(Vec<u8>, Vec<u8>)>) -> usize {
        let mut unreadable = 0;
        for (key, bytes) in rows {
            if key == JOBS_ROW {
                self.jobs = Jobs::read(&bytes).unwrap_or_default();
                continue;
            }
            match (series_of(&key), Baseline::from_bytes(&bytes)) {
                (Some(key), Ok(mut baseline)) => {
                    baseline.set_window(self.config.window());
                    self.restored.insert(key, Box::new(baseline));
                }
                (key, result) => {
                    unreadable += 1;
                    if let Err(error) = result {
                        tracing::warn!(%error, "a saved baseline is left out");
                    }
                    self.gone.extend(key);
                }
            }
        }
        if self.restored.len() > self.config.max_series {
            let mut by_age: Vec<_> = self.restored.drain().collect();
            by_age.sort_by_key(|(_, b)| std::cmp::Reverse(b.last_at()));
            let rest = by_age.split_off(self.config.max_series);
            self.gone.extend(rest.into_iter().map(|(key, _)| key));
            self.restored = by_age.into_iter().collect();
        }
        unreadable
    }
}

impl Series {
    fn view(&self) -> SeriesView {
        let Sample {
            series,
            service,
            kind,
            bounds,
            harm,
            ..
        } = self.sample.clone();
        SeriesView {
            series,
            service,
            kind,
            bounds,
            harm,
            latest: self.latest,
            sensitivity: self.sensitivity,
            phase: self.latest.map_or(Phase::Starting, |m| m.phase),
            step_seconds: self.baseline.step().as_secs_f64(),
            anomaly: self.state.active().map(|a| (a.severity, a.since)),
        }
    }
}

/// The jobs that telemetry was told of in this round.
fn jobs_started(snapshot: &serde_json::Value) -> impl Iterator<Item = &str> {
    let told = snapshot.pointer("/metrics/log/jobs_started");
    let told = told.and_then(|jobs| jobs.as_array());
    told.into_iter().flatten().filter_map(|job| job.as_str())
}

fn name(key: &SeriesKey) -> Vec<u8> {
    key.to_string().into_bytes()
}

fn series_of(name: &[u8]) -> Option<SeriesKey> {
    std::str::from_utf8(name).ok().and_then(SeriesKey::parse)
}
