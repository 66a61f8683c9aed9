//! What is told of one incident, in the shape that operators and auditors know.
//!
//! A record's signed bytes end before its place in the chain is known, so `hash_chain` and
//! `signature` are no part of them: [`Record::with_proof`] adds both for reading.

use crate::chain::Entry;
use crate::execution::LogLine;
use crate::id::{ExecutionId, IncidentId};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The version of the record's shape.
pub const RECORD_SCHEMA: &str = "hale.record.v1";

/// What is told of one incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Always [`RECORD_SCHEMA`].
    pub schema: String,
    /// The incident.
    pub incident_id: IncidentId,
    /// The run, if there was one.
    pub execution_id: Option<ExecutionId>,
    /// When the incident opened.
    pub timestamp_start: Timestamp,
    /// When it ended.
    pub timestamp_end: Timestamp,
    /// From one to the other.
    pub duration_seconds: f64,
    /// What was wrong.
    pub incident_context: IncidentContext,
    /// What was decided.
    pub decision: DecisionSummary,
    /// The checks before anything was touched.
    pub pre_check_log: Vec<LogLine>,
    /// What was done.
    pub execution_log: Vec<LogLine>,
    /// Whether it helped.
    pub verification_log: Vec<LogLine>,
    /// What was undone.
    pub rollback_log: Vec<LogLine>,
    /// How it ended.
    pub outcome: crate::execution::Outcome,
    /// Who says so, under which lease, for which controls.
    pub audit_metadata: AuditMetadata,
}

/// What was wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentContext {
    /// On which host.
    pub host: String,
    /// In which environment.
    pub environment: String,
    /// The host's tags, and the service as `service`.
    pub tags: BTreeMap<String, String>,
    /// In a line.
    pub title: String,
    /// The gravest anomaly; none if events alone opened the incident.
    pub anomaly: Option<AnomalySummary>,
    /// All of them.
    pub anomalies: Vec<AnomalySummary>,
    /// The events, as `count × message`.
    pub events: Vec<String>,
    /// What took the most.
    pub top_consumers: Vec<String>,
    /// How often the like happened in the 30 days before.
    pub recurrence_30d: u32,
}

/// An anomaly in the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnomalySummary {
    /// The series, with its labels.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// The baseline's mean.
    pub baseline_mean: f64,
    /// The baseline's standard deviation.
    pub baseline_stddev: f64,
    /// How far out.
    pub sigma: f64,
    /// How grave.
    pub severity: crate::reading::Severity,
    /// The slope per hour.
    pub trend_per_hour: f64,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionSummary {
    /// The playbook, if any.
    pub playbook_selected: Option<String>,
    /// Its version.
    pub playbook_version: Option<String>,
    /// The confidence in it.
    pub confidence: f64,
    /// Why.
    pub decision_rationale: String,
    /// `autonomous`, `approved`, `manual`, or `none`.
    pub execution_mode: String,
    /// Whether a human had to agree.
    pub approval_required: bool,
    /// Who agreed, or started it.
    pub approved_by: Option<String>,
    /// The digest of the plan that was run.
    pub plan_digest: Option<String>,
}

/// Who says so, under which lease, for which controls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditMetadata {
    /// The node that ran it and signs.
    pub node_id: String,
    /// The lease's fence.
    pub fence: Option<u64>,
    /// The controls that this record is evidence for: `soc2_cc7.4`, `hipaa_164.312.b`, …
    pub compliance_tags: Vec<String>,
}

impl Record {
    /// The record as JSON with its proof: the hash chain and the signature of its entry.
    /// For reading; what is signed are the entry's stored bytes.
    pub fn with_proof(entry: &Entry) -> Option<Value> {
        let mut record: Value = serde_json::from_slice(&entry.body).ok()?;
        let meta = record.get_mut("audit_metadata")?.as_object_mut()?;
        meta.insert(
            "hash_chain".into(),
            json!({
                "index": entry.index,
                "current_hash": entry.hash(),
                "previous_hash": entry.previous,
            }),
        );
        meta.insert(
            "signature".into(),
            json!({
                "algorithm": "Ed25519",
                "public_key": entry.signer,
                "value": entry.signature,
            }),
        );
        Some(record)
    }
}
