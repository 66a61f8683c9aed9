//! What a client may ask for: request bodies and filters, with their limits.

mod cluster;

pub(crate) use cluster::named;
pub use cluster::{
    ByRequest, CreateTokenRequest, MAX_BUDGET, MAX_TOKEN_SECONDS, MAX_TOKEN_USES, MemberName,
    RemoveRequest, SetBudgetRequest, TransferRequest,
};

use crate::problem::Problem;
use hale_model::ledger::EntryKind;
use hale_model::{Digest, HostName, IncidentId, ServiceName, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest name of a person, in bytes.
pub(crate) const MAX_BY_BYTES: usize = 200;
/// The longest reason, in bytes.
pub(crate) const MAX_REASON_BYTES: usize = 2000;
/// The most states that are asked for at once.
pub const MAX_STATES: usize = 200;
/// The longest pattern, in bytes.
pub(crate) const MAX_PATTERN_BYTES: usize = 256;
/// The most parameters one run may be given.
pub(crate) const MAX_PARAMS: usize = 64;

/// How fresh an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// As of now, confirmed by the group.
    #[default]
    Linearizable,
    /// What this node knows; the answer's `hale-age-ms` header says how old that is.
    Stale,
}

/// Which incidents, by where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncidentFilter {
    /// Those whose signals are not normal.
    #[default]
    Open,
    /// Those whose signals are normal again.
    Resolved,
    /// Both.
    All,
}

/// Which incidents to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentQuery {
    /// Where they stand.
    pub state: IncidentFilter,
    /// Of one service only.
    pub service: Option<ServiceName>,
    /// How many at most.
    pub limit: usize,
    /// How fresh.
    pub consistency: Consistency,
}

/// Which baselines to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaselineQuery {
    /// A part of the series' text, or a glob if it holds `*`.
    pub series: Option<String>,
    /// How many at most.
    pub limit: usize,
}

impl BaselineQuery {
    /// Whether a series is asked for: by a part of its text, or by a glob with `*`.
    pub fn wants(&self, series: &str) -> bool {
        match &self.series {
            None => true,
            Some(part) if !part.contains('*') => series.contains(part.as_str()),
            Some(glob) => glob_matches(glob, series),
        }
    }
}

/// `*` stands for any text; everything else for itself. Linear: each star is tried once, leftmost.
fn glob_matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Which entries of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryQuery {
    /// The first index; none means the newest `limit` entries.
    pub from: Option<u64>,
    /// How many at most.
    pub limit: usize,
    /// Of one kind only.
    pub kind: Option<EntryKind>,
    /// Of one incident only.
    pub incident: Option<IncidentId>,
    /// How fresh.
    pub consistency: Consistency,
}

/// A human's answer to an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// Who answers.
    pub by: String,
    /// The digest of the plan that was shown; the plan as it is now, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<Digest>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// A playbook started by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// Where; this node's host, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// For which service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// For which incident; a manual one is opened, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentId>,
    /// Parameters by name; the playbook's own defaults fill the rest.
    #[serde(default)]
    pub params: BTreeMap<String, serde_json::Value>,
    /// Only settle the plan and show it.
    #[serde(default)]
    pub dry_run: bool,
    /// Who starts it.
    pub by: String,
}

/// Which baselines' states are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatesRequest {
    /// The series, at most [`MAX_STATES`].
    pub series: Vec<String>,
}

/// A period that is not to be learned as normal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExcludeRequest {
    /// A pattern for the metric: `system.disk_*`; all, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// A pattern for the service; all, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// From when on; now at the latest.
    pub from: Timestamp,
    /// Until when; at most a day ahead.
    pub until: Timestamp,
    /// Whether all that was learned of them is forgotten too: they begin anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forget: bool,
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Stops or allows all execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// A body that can say what is wrong with itself.
pub(crate) trait Checked {
    fn check(&self) -> Result<(), Problem>;
}

fn one_line(field: &str, text: &str, most: usize) -> Result<(), Problem> {
    let why = if text.len() > most {
        format!(
            "`{field}` is {} bytes long, {most} is the limit",
            text.len()
        )
    } else if text.chars().any(char::is_control) {
        format!("`{field}` holds control characters")
    } else {
        return Ok(());
    };
    Err(Problem::invalid(why, format!("shorten or clean `{field}`")))
}

fn person(by: &str) -> Result<(), Problem> {
    if by.trim().is_empty() {
        return Err(Problem::invalid(
            "`by` is empty: the record has to say who it was",
            "give your name: {\"by\": \"…\"}, or --by NAME",
        ));
    }
    one_line("by", by, MAX_BY_BYTES)
}

impl Checked for AnswerRequest {
    fn check(&self) -> Result<(), Problem> {
        person(&self.by)?;
        one_line("reason", &self.reason, MAX_REASON_BYTES)
    }
}

impl Checked for FreezeRequest {
    fn check(&self) -> Result<(), Problem> {
        person(&self.by)?;
        one_line("reason", &self.reason, MAX_REASON_BYTES)
    }
}

impl Checked for StatesRequest {
    fn check(&self) -> Result<(), Problem> {
        if self.series.len() > MAX_STATES {
            return Err(Problem::invalid(
                format!(
                    "`series` names {} series, {MAX_STATES} is the limit",
                    self.series.len()
                ),
                "ask for them in parts",
            ));
        }
        Ok(())
    }
}

impl Checked for ExcludeRequest {
    fn check(&self) -> Result<(), Problem> {
        person(&self.by)?;
        one_line("reason", &self.reason, MAX_REASON_BYTES)?;
        for (field, text) in [("series", &self.series), ("service", &self.service)] {
            one_line(field, text.as_deref().unwrap_or(""), MAX_PATTERN_BYTES)?;
        }
        if self.until <= self.from {
            return Err(Problem::invalid(
                "`until` is not after `from`",
                "write two times like 2026-02-12T11:26:00Z, the earlier one as `from`",
            ));
        }
        Ok(())
    }
}

impl Checked for RunRequest {
    fn check(&self) -> Result<(), Problem> {
        person(&self.by)?;
        if self.params.len() > MAX_PARAMS {
            return Err(Problem::invalid(
                format!(
                    "`params` has {} entries, {MAX_PARAMS} is the limit",
                    self.params.len()
                ),
                "give only what differs from the playbook's defaults",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_a_part_or_by_a_glob() {
        let wants = |series: &str, text: &str| {
            BaselineQuery {
                series: Some(series.into()),
                limit: 1,
            }
            .wants(text)
        };
        assert!(wants("cpu", "system.cpu_percent"));
        assert!(!wants("memory", "system.cpu_percent"));
        assert!(wants(
            "database.connections_*",
            "database.connections_active"
        ));
        assert!(wants(
            "*_percent{mount=*}",
            "system.disk_usage_percent{mount=\"/\"}"
        ));
        assert!(!wants("system.*z", "system.cpu_percent"));
        assert!(!wants("a*a", "a"));
        assert!(wants("a*b*c", "aXbYbZc"));
    }

    #[test]
    fn a_person_without_a_name_is_asked_for_it() {
        let ask = |by: &str| {
            FreezeRequest {
                by: by.into(),
                reason: String::new(),
            }
            .check()
        };
        assert!(ask("ana").is_ok());
        assert!(ask("  ").unwrap_err().message.contains("`by`"));
        assert!(ask("a\u{1b}[31m").is_err());
        assert!(ask(&"x".repeat(300)).unwrap_err().message.contains("200"));
    }
}
