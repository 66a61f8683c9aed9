//! From an incident and its playbook to a plan, and what is signed and shown of it before
//! anything runs.

use crate::error::Error;
use hale_model::canonical;
use hale_model::execution::Mode;
use hale_model::ledger::{MAX_BODY_BYTES, Scope};
use hale_model::{
    ApprovalId, Decision, Digest, ExecutionId, Incident, Plan, PlaybookName, Timestamp,
};
use hale_playbooks::language::Step;
use hale_playbooks::{Playbook, ScopeKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The largest plan that the ledger keeps to show it to a human, in bytes.
pub const MAX_PLAN_BYTES: usize = 64 << 10;
/// The longest rationale put before a human, in bytes: the ledger's bound.
const MAX_RATIONALE_BYTES: usize = 4096;

/// What would be run. `params` are settled: typed, checked, complete.
pub fn of(
    incident: &Incident,
    playbook: &Playbook,
    params: BTreeMap<String, Value>,
    execution: ExecutionId,
) -> Plan {
    Plan {
        execution,
        incident: incident.id.clone(),
        host: incident.host.clone(),
        service: incident.service.clone(),
        scope: scope(incident, &playbook.scope),
        playbook: playbook.name.clone(),
        version: playbook.version.clone(),
        playbook_digest: playbook.digest,
        // The digest must be the same after the plan has been through the journal.
        params: settled(params),
        idempotent: playbook.idempotent,
    }
}

/// What is leased for it.
pub fn scope(incident: &Incident, kind: &ScopeKind) -> Scope {
    match (kind, &incident.service) {
        (ScopeKind::Custom(name), _) => Scope::Custom(name.clone()),
        (ScopeKind::Service, Some(service)) => {
            Scope::Service(incident.host.clone(), service.clone())
        }
        (ScopeKind::Host | ScopeKind::Service, _) => Scope::Host(incident.host.clone()),
    }
}

/// The digest that a grant and an approval are bound to.
///
/// # Errors
/// If a parameter has no canonical form.
pub fn digest(plan: &Plan) -> Result<Digest, Error> {
    plan.digest()
        .map_err(|source| not_canonical(&plan.playbook, source))
}

/// What the chain tells before any command runs: the body of an [`hale_model::ledger::EntryKind::Intent`].
///
/// # Errors
/// If a parameter has no canonical form, or the plan is too large.
pub fn intent(
    plan: &Plan,
    playbook: &Playbook,
    decision: Option<&Decision>,
    mode: &Mode,
    at: Timestamp,
) -> Result<Vec<u8>, Error> {
    let body = json!({
        "schema": "hale.intent.v1",
        "at": at,
        "plan": plan,
        "plan_digest": digest(plan)?,
        "mode": mode,
        "confidence_ppm": decision.map(confidence_ppm),
        "rationale": decision.map(|d| &d.rationale),
        "steps": steps(&playbook.steps),
    });
    bytes(&plan.playbook, body, MAX_BODY_BYTES)
}

/// A plan as it is shown to a human: with every step it would take.
///
/// # Errors
/// As [`intent`].
pub fn shown(plan: &Plan, playbook: &Playbook) -> Result<Vec<u8>, Error> {
    let body = json!({
        "plan": plan,
        "description": playbook.description,
        "pre_execution_checks": steps(&playbook.pre_execution_checks),
        "steps": steps(&playbook.steps),
        "verification": steps(&playbook.verification),
        "rollback": steps(&playbook.rollback),
        "no_rollback_reason": playbook.no_rollback_reason,
    });
    bytes(&plan.playbook, body, MAX_PLAN_BYTES)
}

/// The question to a human as an entry of the chain.
///
/// # Errors
/// As [`intent`].
pub fn question(
    id: &ApprovalId,
    plan: &Plan,
    decision: &Decision,
    at: Timestamp,
) -> Result<Vec<u8>, Error> {
    let body = json!({
        "schema": "hale.approval.v1",
        "event": "asked",
        "approval": id,
        "at": at,
        "plan": plan,
        "plan_digest": digest(plan)?,
        "rationale": rationale(decision),
        "confidence_ppm": confidence_ppm(decision),
    });
    bytes(&plan.playbook, body, MAX_BODY_BYTES)
}

/// An approval that no longer waits, as an entry of the chain.
///
/// # Errors
/// As [`intent`].
pub fn withdrawal(
    id: &ApprovalId,
    playbook: &PlaybookName,
    why: &str,
    at: Timestamp,
) -> Result<Vec<u8>, Error> {
    let body = json!({
        "schema": "hale.approval.v1",
        "event": "superseded",
        "approval": id,
        "at": at,
        "reason": why,
    });
    bytes(playbook, body, MAX_BODY_BYTES)
}

/// Why it is proposed and why it asks, within the ledger's bound.
pub fn rationale(decision: &Decision) -> String {
    let mut text = decision.rationale.clone();
    for gate in decision.gates.iter().filter(|g| !g.passed) {
        text.push_str(&format!(
            "; {}: {} is there, {} is needed",
            gate.name, gate.value, gate.needed
        ));
    }
    cut(&text, MAX_RATIONALE_BYTES)
}

/// The confidence in parts per million: the ledger knows no floats.
pub fn confidence_ppm(decision: &Decision) -> u32 {
    // A cast from a float saturates; NaN becomes zero.
    (decision.confidence.total.clamp(0.0, 1.0) * 1e6).round() as u32
}

/// The text, cut to a number of bytes at a character's boundary.
pub fn cut(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let mark = " …";
    let mut end = max_bytes.saturating_sub(mark.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}

/// The value as it is after having been written as JSON and read back until that no longer
/// changes it: a float may lose its last bit on the way, and a digest must not change by it.
pub fn settled<T: Serialize + DeserializeOwned>(value: T) -> T {
    let mut value = value;
    for _ in 0..4 {
        let Ok(bytes) = serde_json::to_vec(&value) else {
            return value;
        };
        let Ok(read) = serde_json::from_slice::<T>(&bytes) else {
            return value;
        };
        let is_same = serde_json::to_vec(&read).is_ok_and(|again| again == bytes);
        value = read;
        if is_same {
            break;
        }
    }
    value
}

/// The incident with every number that JSON can't say (NaN, infinity) as zero: it has to pass
/// through the journal.
pub fn sayable(mut incident: Incident) -> Incident {
    let fix = |v: &mut f64| {
        if !v.is_finite() {
            *v = 0.0;
        }
    };
    for anomaly in &mut incident.anomalies {
        let r = &mut anomaly.reading;
        let b = &mut r.baseline;
        for v in [
            &mut r.value,
            &mut r.sigma,
            &mut r.tail_probability,
            &mut r.trend_per_hour,
            &mut b.mean,
            &mut b.stddev,
            &mut b.p50,
            &mut b.p95,
            &mut b.p99,
            &mut b.expected,
            &mut b.spread,
            &mut anomaly.confidence,
        ] {
            fix(v);
        }
        r.seconds_to_limit = r.seconds_to_limit.filter(|v| v.is_finite());
        r.bounds = r.bounds.filter(|b| b.min.is_finite() && b.max.is_finite());
    }
    incident
        .top_consumers
        .iter_mut()
        .for_each(|c| fix(&mut c.amount));
    incident
}

fn steps(steps: &[Step]) -> Value {
    steps
        .iter()
        .map(|s| {
            json!({
                "name": s.name,
                "action": s.action,
                "reason": s.reason,
                "fail_action": s.fail_action,
                "undoes": s.undoes,
            })
        })
        .collect()
}

/// Canonical bytes that stay canonical when they are read and written again.
fn bytes(playbook: &PlaybookName, body: Value, limit: usize) -> Result<Vec<u8>, Error> {
    let write = |v: &Value| canonical::to_bytes(v).map_err(|e| not_canonical(playbook, e));
    let mut bytes = write(&body)?;
    for _ in 0..4 {
        let Ok(read) = serde_json::from_slice(&bytes) else {
            break;
        };
        let again = write(&read)?;
        if again == bytes {
            break;
        }
        bytes = again;
    }
    if bytes.len() > limit {
        let playbook = playbook.clone();
        return Err(Error::TooLarge {
            playbook,
            bytes: bytes.len(),
            limit,
        });
    }
    Ok(bytes)
}

fn not_canonical(playbook: &PlaybookName, source: canonical::NotCanonical) -> Error {
    Error::NotCanonical {
        playbook: playbook.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::samples;
    use proptest::prelude::*;

    fn plan_with(params: BTreeMap<String, Value>) -> Plan {
        let id = ExecutionId::at(Timestamp::from_secs(1), 1);
        of(&samples::incident(), &samples::playbook(), params, id)
    }

    proptest! {
        #[test]
        fn a_plan_has_the_same_digest_after_the_journal(numbers in proptest::collection::vec(any::<f64>(), 0..6)) {
            let params = numbers.iter().enumerate().map(|(i, n)| (format!("p{i}"), json!(n))).collect();
            let plan = plan_with(params);
            let read: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
            prop_assert_eq!(digest(&read).unwrap(), digest(&plan).unwrap());
        }

        #[test]
        fn an_intent_is_canonical_for_whoever_reads_it(n in any::<f64>(), text in ".{0,40}") {
            let plan = plan_with([("n".to_owned(), json!(n)), ("t".to_owned(), json!(text))].into());
            let mode = Mode::Autonomous;
            let body = intent(&plan, &samples::playbook(), None, &mode, Timestamp::from_secs(1)).unwrap();
            let read: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(canonical::to_bytes(&read).unwrap(), body);
        }

        #[test]
        fn a_text_is_cut_to_its_bound(text in ".{0,80}", max in 8usize..60) {
            let short = cut(&text, max);
            prop_assert!(short.len() <= max.max(text.len().min(max)));
        }
    }

    #[test]
    fn an_approval_is_for_one_playbook_with_its_parameters_in_one_place() {
        let plan = plan_with([("limit".to_owned(), json!(5))].into());
        let other_run = Plan {
            execution: ExecutionId::at(Timestamp::from_secs(2), 2),
            ..plan.clone()
        };
        assert_eq!(digest(&plan).unwrap(), digest(&other_run).unwrap());
        let other_limit = plan_with([("limit".to_owned(), json!(6))].into());
        assert_ne!(digest(&plan).unwrap(), digest(&other_limit).unwrap());
        let mut changed = plan.clone();
        changed.playbook_digest = Digest::of(b"edited");
        assert_ne!(digest(&plan).unwrap(), digest(&changed).unwrap());
    }

    #[test]
    fn a_service_playbook_without_a_service_takes_the_host() {
        let mut incident = samples::incident();
        let kind = ScopeKind::Service;
        assert_eq!(scope(&incident, &kind).to_string(), "service:web-1:nginx");
        incident.service = None;
        assert_eq!(scope(&incident, &kind).to_string(), "host:web-1");
    }
}
