//! Anomalies and events that belong together become one incident of one service, or of one
//! resource of the host. Pure: a round of observations in, changes out.

mod memory;
mod subject;

use hale_model::{
    Anomaly, Digest, Event, EventSource, Incident, IncidentId, IncidentState, Level, Observed,
    SeriesKey, Severity, Timestamp,
};
use memory::Memory;
pub use memory::{Remembered, Saved};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use subject::Subject;

/// When incidents open, what joins them, and when they end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How many rounds running a series has to be anomalous before it opens an incident.
    pub persist_rounds: u32,
    /// How many error lines of one service within `window` are a burst.
    pub burst: u64,
    /// How long a signal waits for others of its kind to join.
    pub window: Duration,
    /// How many rounds without a signal end an incident.
    pub quiet_rounds: u32,
    /// How long after its end the like of an incident does not open again.
    pub cooldown: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            persist_rounds: 2,
            burst: 3,
            window: Duration::from_secs(60),
            quiet_rounds: 3,
            cooldown: Duration::from_secs(60),
        }
    }
}

/// The most incidents that are open on one host; more is a storm that a person has to see, and
/// further signals wait for room.
const MAX_OPEN: usize = 32;
/// The most evidence of one kind in an incident.
const MAX_EVIDENCE: usize = 16;
/// The most events that wait to be joined.
const MAX_RECENT: usize = 256;
/// The most series that are followed before they open anything.
const MAX_PENDING: usize = 4096;

/// What happened to an incident in a round.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is new.
    Opened(Incident),
    /// A new series or template joined it, it became graver, or a consumer was found.
    Updated(Incident),
    /// Its signals are normal again.
    Resolved(Incident),
}

impl Change {
    /// The incident.
    pub fn incident(&self) -> &Incident {
        match self {
            Self::Opened(i) | Self::Updated(i) | Self::Resolved(i) => i,
        }
    }
}

/// Makes incidents of one host's rounds.
#[derive(Debug)]
pub struct Correlator {
    settings: Settings,
    open: Vec<Open>,
    /// Rounds running that a series has been anomalous, warning or worse.
    pending: BTreeMap<SeriesKey, u32>,
    /// Events, warning or worse, within the window.
    recent: VecDeque<(Subject, Event)>,
    memory: Memory,
}

/// An open incident with what decides when it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    incident: Incident,
    subject: Subject,
    /// The series that are anomalous still.
    active: BTreeSet<SeriesKey>,
    quiet_rounds: u32,
    last_event: Option<Timestamp>,
}

impl Correlator {
    /// One that knows of no past.
    pub fn new(settings: Settings) -> Self {
        Self::restore(settings, Saved::default())
    }

    /// One that goes on where another was saved: open incidents and recurrences.
    pub fn restore(settings: Settings, saved: Saved) -> Self {
        let (open, memory) = saved.into_parts(MAX_OPEN);
        Self {
            settings,
            open,
            pending: BTreeMap::new(),
            recent: VecDeque::new(),
            memory,
        }
    }

    /// What has to survive a restart.
    pub fn save(&self) -> Saved {
        Saved::of(&self.open, &self.memory)
    }

    /// The open incidents, oldest first.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.open.iter().map(|o| &o.incident)
    }

    /// One round of observations.
    pub fn on(&mut self, now: Timestamp, observed: &Observed) -> Vec<Change> {
        self.follow(observed);
        self.remember_events(now, observed);
        let mut changes = self.join(now, observed);
        changes.extend(self.open_new(now, observed));
        changes.extend(self.end_quiet(now, observed));
        changes
    }

    /// Adds what takes the most of what is short. Says nothing if that is known already.
    pub fn enrich(
        &mut self,
        id: &IncidentId,
        consumers: Vec<hale_model::Consumer>,
    ) -> Option<Incident> {
        let open = self.open.iter_mut().find(|o| o.incident.id == *id)?;
        let names = |cs: &[hale_model::Consumer]| {
            cs.iter()
                .map(|c| (c.resource.clone(), c.name.clone()))
                .collect::<Vec<_>>()
        };
        let is_new = names(&open.incident.top_consumers) != names(&consumers);
        open.incident.top_consumers = consumers;
        open.incident.top_consumers.truncate(MAX_EVIDENCE);
        is_new.then(|| open.incident.clone())
    }

    fn follow(&mut self, observed: &Observed) {
        let mut pending = BTreeMap::new();
        for anomaly in observed
            .anomalies
            .iter()
            .filter(|a| a.severity >= Severity::Warning)
            .take(MAX_PENDING)
        {
            let rounds = self
                .pending
                .get(&anomaly.reading.series)
                .copied()
                .unwrap_or(0);
            pending.insert(anomaly.reading.series.clone(), rounds.saturating_add(1));
        }
        self.pending = pending;
    }

    fn remember_events(&mut self, now: Timestamp, observed: &Observed) {
        let horizon = now.minus(self.settings.window);
        self.recent.retain(|(_, e)| e.at >= horizon);
        for event in observed.events.iter().filter(|e| e.level >= Level::Warning) {
            if self.recent.len() == MAX_RECENT {
                self.recent.pop_front();
            }
            self.recent
                .push_back((Subject::of_event(event), event.clone()));
        }
    }

    /// Signals of this round that belong to what is open already.
    fn join(&mut self, now: Timestamp, observed: &Observed) -> Vec<Change> {
        let mut changes = vec![];
        for open in &mut self.open {
            let mut is_material = false;
            open.active.clear();
            for anomaly in &observed.anomalies {
                if open.takes_anomaly(anomaly) {
                    is_material |= open.add_anomaly(now, anomaly);
                }
            }
            for event in observed.events.iter().filter(|e| e.level >= Level::Warning) {
                if open.subject == Subject::of_event(event) {
                    is_material |= open.add_event(now, event);
                }
            }
            if is_material {
                changes.push(Change::Updated(open.incident.clone()));
            }
        }
        changes
    }

    fn open_new(&mut self, now: Timestamp, observed: &Observed) -> Vec<Change> {
        let mut changes = vec![];
        for subject in self.triggered(observed) {
            let signature = signature(&subject, observed, &self.recent);
            let is_open = self.open.iter().any(|o| o.subject == subject);
            let cools = self
                .memory
                .ended_within(&signature, now, self.settings.cooldown);
            if is_open || cools || self.open.len() >= MAX_OPEN || self.is_taken(&subject, observed)
            {
                continue;
            }
            let open = self.begin(now, observed, subject, signature);
            changes.push(Change::Opened(open.incident.clone()));
            self.open.push(open);
        }
        changes
    }

    /// The subjects that this round gives a reason to open an incident for, services first: a host's
    /// signal may then belong to one of them.
    fn triggered(&self, observed: &Observed) -> Vec<Subject> {
        let persisted = observed.anomalies.iter().filter(|a| {
            let rounds = self.pending.get(&a.reading.series).copied().unwrap_or(0);
            a.severity >= Severity::Warning && rounds >= self.settings.persist_rounds
        });
        let by_series: BTreeSet<Subject> =
            persisted.map(|a| Subject::of_series(&a.reading)).collect();
        let mut errors: BTreeMap<&Subject, u64> = BTreeMap::new();
        for (subject, event) in self.recent.iter().filter(|(_, e)| e.level >= Level::Error) {
            // What a sensor, a health check, the kernel or the service manager says is no noise.
            let weight = if event.source == EventSource::Log {
                event.count
            } else {
                self.settings.burst
            };
            let sum = errors.entry(subject).or_default();
            *sum = sum.saturating_add(weight);
        }
        let burst = errors
            .into_iter()
            .filter(|(_, sum)| *sum >= self.settings.burst)
            .map(|(s, _)| s.clone());
        let all: BTreeSet<Subject> = by_series.into_iter().chain(burst).collect();
        let (services, host): (Vec<_>, Vec<_>) = all.into_iter().partition(Subject::is_service);
        services.into_iter().chain(host).collect()
    }

    /// Whether a host's signals belong to an open incident of a service that tells of them.
    fn is_taken(&self, subject: &Subject, observed: &Observed) -> bool {
        let anomalies = observed.anomalies.iter();
        let mut own = anomalies
            .filter(|a| Subject::of_series(&a.reading) == *subject)
            .peekable();
        own.peek().is_some() && own.all(|a| self.open.iter().any(|o| o.takes_anomaly(a)))
    }

    fn begin(
        &self,
        now: Timestamp,
        observed: &Observed,
        subject: Subject,
        signature: Digest,
    ) -> Open {
        let text = |name: &str| {
            observed
                .snapshot
                .get(name)
                .and_then(|v| v.as_str())
                .unwrap_or_default()
                .to_owned()
        };
        let tags = observed.snapshot.get("tags").and_then(|t| t.as_object());
        let tags = tags.into_iter().flatten().take(64).map(|(k, v)| {
            (
                k.clone(),
                v.as_str().map_or_else(|| v.to_string(), str::to_owned),
            )
        });
        let entropy =
            Digest::of(format!("{signature} {} {}", observed.host, now.as_millis()).as_bytes());
        let entropy = u32::from_str_radix(&entropy.short(), 16).unwrap_or_default();
        let incident = Incident {
            id: IncidentId::at(now, entropy),
            host: observed.host.clone(),
            environment: text("environment"),
            service: subject.service().cloned(),
            tags: tags.collect(),
            opened_at: now,
            updated_at: now,
            resolved_at: None,
            state: IncidentState::Open,
            severity: Severity::Info,
            title: String::new(),
            anomalies: vec![],
            events: vec![],
            top_consumers: vec![],
            recurrence_30d: self.memory.count_before(&signature, now),
            signature,
        };
        let mut open = Open {
            incident,
            subject,
            active: BTreeSet::new(),
            quiet_rounds: 0,
            last_event: None,
        };
        // Events first: whether a host's series belongs to a service shows in what it logs.
        for (of, event) in &self.recent {
            if *of == open.subject {
                open.add_event(now, event);
            }
        }
        let (own, other): (Vec<_>, Vec<_>) = observed
            .anomalies
            .iter()
            .partition(|a| Subject::of_series(&a.reading) == open.subject);
        for anomaly in own.into_iter().chain(other) {
            if open.takes_anomaly(anomaly) {
                open.add_anomaly(now, anomaly);
            }
        }
        let first = open
            .incident
            .anomalies
            .iter()
            .map(|a| a.since)
            .chain(open.incident.events.iter().map(|e| e.at));
        open.incident.opened_at = first
            .min()
            .unwrap_or(now)
            .min(now)
            .max(now.minus(self.settings.window));
        open.incident.title = crate::describe::title(&open.incident);
        open
    }

    fn end_quiet(&mut self, now: Timestamp, observed: &Observed) -> Vec<Change> {
        let window = self.settings.window;
        let mut changes = vec![];
        let mut still_open = vec![];
        for mut open in std::mem::take(&mut self.open) {
            let told = observed
                .events
                .iter()
                .any(|e| e.level >= Level::Error && Subject::of_event(e) == open.subject);
            let is_quiet = open.active.is_empty() && !told;
            open.quiet_rounds = if is_quiet {
                open.quiet_rounds.saturating_add(1)
            } else {
                0
            };
            // Log lines alone come in bursts: their silence has to last as long as they wait to join.
            let only_events = open.incident.anomalies.is_empty();
            let is_silent =
                !only_events || open.last_event.is_none_or(|at| now.since(at) >= window);
            if open.quiet_rounds >= self.settings.quiet_rounds && is_silent {
                self.memory
                    .ended(open.incident.signature, open.incident.opened_at, now);
                // Its lines must not open it again.
                self.recent.retain(|(of, _)| *of != open.subject);
                changes.push(Change::Resolved(open.ended(now)));
            } else {
                still_open.push(open);
            }
        }
        self.open = still_open;
        changes
    }
}

impl Open {
    fn takes_anomaly(&self, anomaly: &Anomaly) -> bool {
        let of = Subject::of_series(&anomaly.reading);
        of.is_same_place(&self.subject)
            || (self.subject.is_service() && of.is_told_of_in(&self.incident))
    }

    /// Keeps the newest reading of each series; says whether it is new or made things graver.
    fn add_anomaly(&mut self, now: Timestamp, anomaly: &Anomaly) -> bool {
        let series = &anomaly.reading.series;
        if anomaly.severity >= Severity::Warning {
            self.active.insert(series.clone());
        }
        let list = &mut self.incident.anomalies;
        let known = list.iter().position(|a| a.reading.series == *series);
        match known {
            Some(at) => list[at] = anomaly.clone(),
            None if list.len() < MAX_EVIDENCE => list.push(anomaly.clone()),
            None => return false,
        }
        let gravity = |a: &Anomaly| (a.severity, ordered(a.reading.sigma.abs()));
        list.sort_by_key(|a| std::cmp::Reverse(gravity(a)));
        self.incident.updated_at = now;
        let is_material = known.is_none() && anomaly.severity >= Severity::Warning;
        self.raise(anomaly.severity) || is_material
    }

    fn add_event(&mut self, now: Timestamp, event: &Event) -> bool {
        self.last_event = Some(self.last_event.map_or(event.at, |at| at.max(event.at)));
        let list = &mut self.incident.events;
        let known = list
            .iter()
            .position(|e| e.template == event.template && e.origin == event.origin);
        match known {
            Some(at) => {
                let count = list[at].count.saturating_add(event.count);
                list[at] = Event {
                    count,
                    ..event.clone()
                };
            }
            None if list.len() < MAX_EVIDENCE => list.push(event.clone()),
            None => return false,
        }
        list.sort_by_key(|e| std::cmp::Reverse(e.level));
        self.incident.updated_at = now;
        let severity = if event.level >= Level::Critical {
            Severity::Critical
        } else {
            Severity::Warning
        };
        self.raise(severity) || known.is_none()
    }

    fn raise(&mut self, severity: Severity) -> bool {
        let is_graver = severity > self.incident.severity;
        self.incident.severity = self.incident.severity.max(severity);
        is_graver
    }

    fn ended(self, now: Timestamp) -> Incident {
        Incident {
            state: IncidentState::Resolved,
            resolved_at: Some(now),
            updated_at: now,
            ..self.incident
        }
    }
}

/// What the like of it have in common: whom it is about, and the gravest sign at its opening.
fn signature(
    subject: &Subject,
    observed: &Observed,
    recent: &VecDeque<(Subject, Event)>,
) -> Digest {
    let own = observed
        .anomalies
        .iter()
        .filter(|a| Subject::of_series(&a.reading) == *subject);
    let gravest = own.max_by_key(|a| (a.severity, ordered(a.reading.sigma.abs())));
    let sign = match gravest {
        Some(a) => a.reading.series.metric.clone(),
        None => {
            let own = recent.iter().filter(|(s, _)| s == subject).map(|(_, e)| e);
            own.max_by_key(|e| e.level)
                .map(|e| e.template.clone())
                .unwrap_or_default()
        }
    };
    Digest::of(format!("{}\n{}\n{sign}", observed.host, subject.key()).as_bytes())
}

/// A float that can be compared; what is no number comes last.
fn ordered(value: f64) -> u64 {
    if value.is_nan() {
        0
    } else {
        value.max(0.0).to_bits()
    }
}

#[cfg(test)]
mod tests;
