//! Anomalies and events that belong together, with their evidence.

use crate::crypto::Digest;
use crate::id::{HostName, IncidentId, ServiceName};
use crate::reading::{Anomaly, Severity};
use crate::series::Event;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What takes the most of something: `WAL files 8.3 GB under pg_wal`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consumer {
    /// Of what: `disk`, `memory`, `cpu`, `connections`.
    pub resource: String,
    /// Who or what: a process, a directory, an application name.
    pub name: String,
    /// How much.
    pub amount: f64,
    /// Its unit: `bytes`, `percent`, `connections`.
    pub unit: String,
    /// The same for people: `WAL files 8.3 GB under pg_wal`.
    pub text: String,
}

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Its signals are not normal.
    Open,
    /// Its signals are normal again.
    Resolved,
}

/// Anomalies and events of one host and service that belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// The host it is on.
    pub host: HostName,
    /// The host's environment: `production`.
    pub environment: String,
    /// The service it is about; none if it is about the host itself.
    pub service: Option<ServiceName>,
    /// The host's tags.
    pub tags: BTreeMap<String, String>,
    /// When its first signal was seen.
    pub opened_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its signals were normal again.
    pub resolved_at: Option<Timestamp>,
    /// Open or resolved.
    pub state: IncidentState,
    /// The gravest of its signals.
    pub severity: Severity,
    /// One line for people.
    pub title: String,
    /// The anomalies, gravest first, each series once.
    pub anomalies: Vec<Anomaly>,
    /// The events, gravest first, each template once.
    pub events: Vec<Event>,
    /// What takes the most of what is short.
    pub top_consumers: Vec<Consumer>,
    /// What the like of it have in common: service, metrics, templates.
    pub signature: Digest,
    /// How many with this signature there were in the 30 days before.
    pub recurrence_30d: u32,
}

impl Incident {
    /// The anomaly that is told first: the gravest.
    pub fn lead(&self) -> Option<&Anomaly> {
        self.anomalies.first()
    }
}
