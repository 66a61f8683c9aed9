//! What Hale would have seen, decided and done.

use hale_model::{Severity, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// An alert that would have been told.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Alert {
    pub(crate) at: Timestamp,
    pub(crate) host: String,
    pub(crate) series: String,
    pub(crate) severity: Severity,
    pub(crate) sigma: f64,
    pub(crate) value: f64,
    pub(crate) expected: f64,
    pub(crate) seconds_to_limit: Option<f64>,
    /// Whether it fell into the time that is only learned from.
    pub(crate) learning: bool,
}

/// What would have become of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// A playbook would have run without a human.
    Acted,
    /// A human would have been asked.
    Asked,
    /// A human would have been called.
    Escalated,
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Acted => "acted",
            Self::Asked => "asked",
            Self::Escalated => "escalated",
        }
    }

    /// Minutes of a person's attention, about: a question is read and answered, a call means
    /// somebody looks.
    fn minutes(self) -> f64 {
        match self {
            Self::Acted => 0.0,
            Self::Asked => 3.0,
            Self::Escalated => 20.0,
        }
    }
}

/// An incident that would have been opened.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Told {
    pub(crate) opened_at: Timestamp,
    /// None if it was open when the history ended.
    pub(crate) resolved_at: Option<Timestamp>,
    pub(crate) host: String,
    pub(crate) service: Option<String>,
    pub(crate) severity: Severity,
    pub(crate) title: String,
    pub(crate) series: Vec<String>,
    pub(crate) outcome: Outcome,
    pub(crate) decided_at: Option<Timestamp>,
    pub(crate) playbook: Option<String>,
    pub(crate) confidence: f64,
    pub(crate) why: String,
    /// Whether it was opened in the time that is only learned from.
    pub(crate) learning: bool,
}

/// One host of the history.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Host {
    pub(crate) host: String,
    pub(crate) series: usize,
    pub(crate) samples: usize,
    pub(crate) from: Timestamp,
    /// What came before is only learned from.
    pub(crate) counted_from: Timestamp,
    pub(crate) until: Timestamp,
}

/// Counts of what came after the time that is only learned from.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Counts {
    /// Weeks of all series together.
    pub(crate) series_weeks: f64,
    pub(crate) alerts: BTreeMap<String, usize>,
    pub(crate) alerts_per_series_week: f64,
    pub(crate) incidents: BTreeMap<String, usize>,
    /// Incidents that somebody would have been asked or called about, a week of a host.
    pub(crate) interruptions_per_host_week: f64,
    /// Minutes of attention, a week of a host: 3 for a question, 20 for a call.
    pub(crate) minutes_per_host_week: f64,
}

/// The whole of it.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) hosts: Vec<Host>,
    pub(crate) counts: Counts,
    pub(crate) incidents: Vec<Told>,
    pub(crate) alerts: Vec<Alert>,
}

const WEEK_MS: f64 = 7.0 * 86_400_000.0;

impl Report {
    pub(super) fn seen(&mut self, host: Host) {
        self.hosts.push(host);
    }

    pub(super) fn alert(&mut self, alert: Alert) {
        self.alerts.push(alert);
    }

    pub(super) fn incident(&mut self, told: Told) {
        self.incidents.push(told);
    }

    pub(super) fn finish(&mut self) {
        self.alerts.sort_by_key(|a| a.at);
        self.incidents.sort_by_key(|i| i.opened_at);
        let weeks = |h: &Host| h.until.since(h.counted_from).as_millis() as f64 / WEEK_MS;
        let host_weeks: f64 = self.hosts.iter().map(weeks).sum();
        let c = &mut self.counts;
        c.series_weeks = self.hosts.iter().map(|h| weeks(h) * h.series as f64).sum();
        for alert in self.alerts.iter().filter(|a| !a.learning) {
            *c.alerts.entry(alert.severity.as_str().into()).or_default() += 1;
        }
        let mut minutes = 0.0;
        let mut interruptions = 0;
        for told in self.incidents.iter().filter(|i| !i.learning) {
            let of = c.incidents.entry(told.outcome.as_str().into());
            *of.or_default() += 1;
            minutes += told.outcome.minutes();
            interruptions += usize::from(told.outcome != Outcome::Acted);
        }
        let each = |n: f64, weeks: f64| if weeks > 0.0 { n / weeks } else { 0.0 };
        let alerts: usize = c.alerts.values().sum();
        c.alerts_per_series_week = each(alerts as f64, c.series_weeks);
        c.interruptions_per_host_week = each(interruptions as f64, host_weeks);
        c.minutes_per_host_week = each(minutes, host_weeks);
    }
}
