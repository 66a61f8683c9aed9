//! A host's history as rounds, as its node would have taken them.

use super::report::{Alert, Host, Outcome, Report, Told};
use super::{BacktestError, Recorded, Settings};
use hale_baseline::{HostBaselines, SeriesFilter};
use hale_decision::catalogue::Entry;
use hale_decision::incident::{Change, Correlator};
use hale_decision::replay::Replay;
use hale_model::decision::Route;
use hale_model::{
    Batch, Decision, HostName, Incident, IncidentId, Observed, Sample, SeriesKey, Severity,
    Timestamp,
};
use indicatif::ProgressBar;
use std::collections::BTreeMap;
use std::time::Duration;

/// An alert is told again only if it is graver than any within this time.
const COOLDOWN: Duration = hale_baseline::replay::COOLDOWN;
/// Rounds are no closer and no further apart.
const ROUND_MS: (i64, i64) = (1000, 300_000);
/// How often an incident that changes is decided on.
const MOST_DECISIONS: usize = 8;
const DAY_S: f64 = 86_400.0;

pub(super) fn run(
    series: Vec<Recorded>,
    settings: &Settings,
    entries: Vec<Entry>,
    bar: &ProgressBar,
) -> Result<Report, BacktestError> {
    let replay = Replay::new(entries)?;
    let mut hosts: BTreeMap<String, Vec<Recorded>> = BTreeMap::new();
    for one in series.into_iter().filter(|s| !s.rows.is_empty()) {
        hosts.entry(one.host.clone()).or_default().push(one);
    }
    let total: usize = hosts.values().flatten().map(|s| s.rows.len()).sum();
    bar.set_length(total as u64);
    bar.set_position(0);
    let mut report = Report::default();
    for (host, series) in hosts {
        of_host(&host, series, settings, &replay, bar, &mut report)?;
    }
    report.finish();
    Ok(report)
}

/// What is typical of the most finely sampled series.
fn round_ms(series: &[Recorded]) -> i64 {
    let typical = |s: &Recorded| {
        let mut steps: Vec<i64> = s
            .rows
            .windows(2)
            .map(|w| w[1].0.since(w[0].0).as_millis() as i64)
            .collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).copied()
    };
    let finest = series.iter().filter_map(typical).min();
    finest.unwrap_or(ROUND_MS.1).clamp(ROUND_MS.0, ROUND_MS.1)
}

/// One value of one series, in the order of time.
struct Step {
    round: i64,
    at: Timestamp,
    series: u32,
    value: f64,
}

fn steps(series: &[Recorded]) -> Vec<Step> {
    let round = round_ms(series);
    let mut steps: Vec<Step> = vec![];
    for (n, s) in series.iter().enumerate() {
        steps.extend(s.rows.iter().map(|(at, value)| Step {
            round: at.as_millis().div_euclid(round),
            at: *at,
            series: n as u32,
            value: *value,
        }));
    }
    steps.sort_by_key(|s| (s.round, s.series, s.at));
    // A round holds one value of a series, the last.
    steps.reverse();
    steps.dedup_by_key(|s| (s.round, s.series));
    steps.reverse();
    steps
}

/// What a host's name may not hold becomes a dash.
fn name_of(host: &str) -> Result<HostName, BacktestError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:@/".contains(c);
    let name: String = host
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .take(255)
        .collect();
    name.parse()
        .map_err(|_| BacktestError::Nothing(host.to_owned()))
}

fn of_host(
    host: &str,
    series: Vec<Recorded>,
    settings: &Settings,
    replay: &Replay,
    bar: &ProgressBar,
    report: &mut Report,
) -> Result<(), BacktestError> {
    let name = name_of(host)?;
    let steps = steps(&series);
    let Some((first, last)) = steps.first().zip(steps.last()) else {
        return Ok(());
    };
    let learn = Duration::from_secs_f64(settings.learn_days.clamp(0.0, 1e5) * DAY_S);
    let counted_from = first.at.plus(learn);
    report.seen(Host {
        host: host.to_owned(),
        series: series.len(),
        samples: steps.len(),
        from: first.at,
        counted_from,
        until: last.at,
    });
    let mut config = settings.baseline.clone();
    config.max_series = config.max_series.max(series.len());
    config.history_points = 0;
    if let Some(zone) = series.iter().find_map(|s| s.zone.clone()) {
        config.timezone = zone;
    }
    let mut run = Run {
        baselines: HostBaselines::new(config)?,
        correlator: Correlator::new(settings.correlation.clone()),
        told: BTreeMap::new(),
        deciding: BTreeMap::new(),
        counted_from,
        settings,
        replay,
        report,
    };
    for round in steps.chunk_by(|a, b| a.round == b.round) {
        let samples = round.iter().map(|step| Sample {
            value: step.value,
            ..series[step.series as usize].sample.clone()
        });
        let at = round.iter().map(|s| s.at).max().unwrap_or(last.at);
        run.round(Batch {
            host: name.clone(),
            at,
            samples: samples.collect(),
            events: vec![],
            snapshot: serde_json::json!({
                "host": name, "environment": "production", "tags": {}, "metrics": {}
            }),
            dropped: 0,
        });
        bar.inc(round.len() as u64);
    }
    run.end();
    Ok(())
}

/// One host's history, under way.
struct Run<'a> {
    baselines: HostBaselines,
    correlator: Correlator,
    /// When an alert of a series was told last, and how grave.
    told: BTreeMap<SeriesKey, (Timestamp, Severity)>,
    /// What was decided about the incidents that are open.
    deciding: BTreeMap<IncidentId, (Incident, Vec<Decision>)>,
    counted_from: Timestamp,
    settings: &'a Settings,
    replay: &'a Replay,
    report: &'a mut Report,
}

impl Run<'_> {
    fn round(&mut self, batch: Batch) {
        let observed = self.baselines.observe(batch);
        self.alerts(&observed);
        for change in self.correlator.on(observed.at, &observed) {
            match change {
                Change::Opened(incident) | Change::Updated(incident) => self.decide(incident),
                Change::Resolved(incident) => self.resolved(incident),
            }
        }
    }

    fn alerts(&mut self, observed: &Observed) {
        for anomaly in &observed.anomalies {
            let series = &anomaly.reading.series;
            let before = self.told.get(series);
            let is_news = before
                .is_none_or(|(t, s)| observed.at.since(*t) >= COOLDOWN || *s < anomaly.severity);
            // While it goes on, it stays told.
            let severity = match before {
                Some((_, s)) if !is_news => (*s).max(anomaly.severity),
                _ => anomaly.severity,
            };
            self.told.insert(series.clone(), (observed.at, severity));
            if is_news {
                self.report.alert(Alert {
                    at: observed.at,
                    host: observed.host.to_string(),
                    series: series.to_string(),
                    severity: anomaly.severity,
                    sigma: anomaly.reading.sigma,
                    value: anomaly.reading.value,
                    expected: anomaly.reading.baseline.expected,
                    seconds_to_limit: anomaly.reading.seconds_to_limit,
                    learning: observed.at < self.counted_from,
                });
            }
        }
    }

    fn decide(&mut self, incident: Incident) {
        let known = self
            .deciding
            .entry(incident.id.clone())
            .or_insert_with(|| (incident.clone(), vec![]));
        if known.1.len() < MOST_DECISIONS {
            let mut decision = self.replay.decision(&incident, &self.settings.policy);
            decision.at = incident.updated_at;
            known.1.push(decision);
        }
        known.0 = incident;
    }

    fn resolved(&mut self, incident: Incident) {
        // What happened while something was wrong is not learned as normal.
        for anomaly in &incident.anomalies {
            let filter = SeriesFilter {
                series: Some(anomaly.reading.series.metric.clone()),
                service: anomaly.reading.service.as_ref().map(ToString::to_string),
            };
            self.baselines
                .exclude(&filter, incident.opened_at, incident.updated_at);
        }
        let decisions = self.deciding.remove(&incident.id).map(|(_, d)| d);
        self.tell(&incident, &decisions.unwrap_or_default());
    }

    /// Tells the incidents that are open when the history ends.
    fn end(mut self) {
        let open: Vec<(Incident, Vec<Decision>)> =
            std::mem::take(&mut self.deciding).into_values().collect();
        for (incident, decisions) in open {
            self.tell(&incident, &decisions);
        }
    }

    fn tell(&mut self, incident: &Incident, decisions: &[Decision]) {
        // The first decision that lets something run is the one that would have been acted on.
        let rank = |d: &Decision| match d.route {
            Route::Execute => 2,
            Route::Ask => 1,
            Route::Escalate => 0,
        };
        let mut acted: Option<&Decision> = None;
        for decision in decisions {
            if acted.is_none_or(|a| rank(decision) > rank(a)) {
                acted = Some(decision);
            }
        }
        let outcome = match acted.map(|d| d.route) {
            Some(Route::Execute) => Outcome::Acted,
            Some(Route::Ask) => Outcome::Asked,
            Some(Route::Escalate) | None => Outcome::Escalated,
        };
        self.report.incident(Told {
            opened_at: incident.opened_at,
            resolved_at: incident.resolved_at,
            host: incident.host.to_string(),
            service: incident.service.as_ref().map(ToString::to_string),
            severity: incident.severity,
            title: incident.title.clone(),
            series: incident
                .anomalies
                .iter()
                .map(|a| a.reading.series.to_string())
                .collect(),
            outcome,
            decided_at: acted.map(|d| d.at),
            playbook: acted
                .and_then(Decision::chosen)
                .map(|m| m.playbook.to_string()),
            confidence: acted.map_or(0.0, |d| d.confidence.total),
            why: acted.map(|d| d.rationale.clone()).unwrap_or_default(),
            learning: incident.opened_at < self.counted_from,
        });
    }
}
