use super::*;
use crate::tests_support::{report, report_of};
use expect_test::expect;
use hale_model::execution::{LogLine, StepStatus};
use proptest::prelude::*;
use serde_json::{Value, json};

fn key() -> Keypair {
    Keypair::from_seed(&[7; 32])
}

fn told(report: &ExecutionReport) -> Value {
    let record = of(report, key().node_id(), report.fence);
    serde_json::from_slice(&sign(&record, &key()).body).unwrap()
}

#[test]
fn a_healed_incident_is_told_in_the_shape_that_auditors_know() {
    let text = serde_json::to_string_pretty(&told(&report())).unwrap();
    expect![[r#"
        {
          "audit_metadata": {
            "compliance_tags": [
              "soc2_cc7.3",
              "soc2_cc7.4",
              "soc2_cc7.5",
              "hipaa_164.312.b",
              "hipaa_164.308.a.6",
              "pci_dss_10.2",
              "pci_dss_12.10"
            ],
            "fence": 7,
            "node_id": "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"
          },
          "decision": {
            "approval_required": false,
            "approved_by": null,
            "confidence": 0.96,
            "decision_rationale": "0.94 similarity + 0.02 recurrence",
            "execution_mode": "autonomous",
            "plan_digest": "sha256:1542e0d1ec6f1522ab05d87cd248d993416f40945e9462e84b2e8e46be8a9bbe",
            "playbook_selected": "postgres_connection_pool_reset",
            "playbook_version": "1.4.2"
          },
          "duration_seconds": 28,
          "execution_id": "exe_20260212_112604_5b1e9d20",
          "execution_log": [
            {
              "at": "2026-02-12T11:26:06.000Z",
              "attempts": 1,
              "duration_ms": 247,
              "kind": "sql_query",
              "message": "",
              "result": {
                "terminated": 89
              },
              "status": "success",
              "step": "end_idle"
            }
          ],
          "incident_context": {
            "anomalies": [
              {
                "baseline_mean": 0.423,
                "baseline_stddev": 0.084,
                "metric": "database.connections_utilization",
                "severity": "critical",
                "sigma": 6.63,
                "trend_per_hour": -0.002,
                "value": 0.98
              }
            ],
            "anomaly": {
              "baseline_mean": 0.423,
              "baseline_stddev": 0.084,
              "metric": "database.connections_utilization",
              "severity": "critical",
              "sigma": 6.63,
              "trend_per_hour": -0.002,
              "value": 0.98
            },
            "environment": "production",
            "events": [
              "12 × FATAL: sorry, too many clients already"
            ],
            "host": "prod-db-01.internal",
            "recurrence_30d": 3,
            "tags": {
              "compliance": "hipaa,pci",
              "role": "primary",
              "service": "postgresql"
            },
            "title": "connections used up on postgresql",
            "top_consumers": []
          },
          "incident_id": "inc_20260212_112600_a8f3b2c1",
          "outcome": {
            "human_intervention_required": false,
            "reason": "every verification passed",
            "resolution_time_seconds": 28,
            "rollback_triggered": false,
            "status": "success",
            "verification_passed": true
          },
          "pre_check_log": [
            {
              "at": "2026-02-12T11:26:04.000Z",
              "attempts": 1,
              "duration_ms": 247,
              "kind": "sql_query",
              "message": "",
              "result": [
                {
                  "one": 1
                }
              ],
              "status": "success",
              "step": "database_answers"
            }
          ],
          "rollback_log": [],
          "schema": "hale.record.v1",
          "timestamp_end": "2026-02-12T11:26:28.000Z",
          "timestamp_start": "2026-02-12T11:26:00.000Z",
          "verification_log": [
            {
              "at": "2026-02-12T11:26:20.000Z",
              "attempts": 1,
              "duration_ms": 247,
              "kind": "sql_query",
              "message": "",
              "result": "success",
              "status": "success",
              "step": "new_connection"
            }
          ]
        }"#]].assert_eq(&text);
}

#[test]
fn an_escalation_ran_nothing_and_selected_nothing() {
    let mut r = report_of(OutcomeStatus::Escalated);
    r.decision.as_mut().unwrap().route = Route::Escalate;
    (r.plan, r.fence) = (None, None);
    let t = told(&r);
    assert_eq!(t["decision"]["execution_mode"], "none");
    assert_eq!(t["decision"]["playbook_selected"], Value::Null);
    assert_eq!(t["audit_metadata"]["fence"], Value::Null);
    let tags = t["audit_metadata"]["compliance_tags"].as_array().unwrap();
    assert!(tags.contains(&json!("soc2_cc7.4")) && tags.contains(&json!("hipaa_164.308.a.6")));
}

#[test]
fn an_approved_run_names_who_agreed() {
    let mut r = report();
    r.mode = Mode::Approved {
        by: "marcus".into(),
    };
    let t = told(&r);
    assert_eq!(t["decision"]["execution_mode"], "approved");
    assert_eq!(t["decision"]["approved_by"], "marcus");
    assert_eq!(t["decision"]["approval_required"], true);
}

#[test]
fn a_run_by_hand_needs_no_decision() {
    let mut r = report();
    r.decision = None;
    r.mode = Mode::Manual { by: "ada".into() };
    let t = told(&r);
    assert_eq!(t["decision"]["execution_mode"], "manual");
    assert!(
        t["decision"]["decision_rationale"]
            .as_str()
            .unwrap()
            .contains("ada")
    );
    assert_eq!(
        t["decision"]["playbook_selected"],
        "postgres_connection_pool_reset"
    );
}

#[test]
fn what_json_cannot_say_is_made_sayable() {
    let mut r = report();
    r.incident.anomalies[0].reading.value = f64::NAN;
    r.incident.anomalies[0].reading.sigma = f64::INFINITY;
    r.outcome.resolution_time_seconds = f64::NEG_INFINITY;
    r.execution_log[0].result = json!({ "xid": u64::MAX, "lsn": i64::MIN, "small": 89 });
    let t = told(&r);
    assert_eq!(t["incident_context"]["anomaly"]["value"], 0);
    assert_eq!(t["incident_context"]["anomaly"]["sigma"], f64::MAX);
    assert_eq!(t["execution_log"][0]["result"]["xid"], u64::MAX.to_string());
    assert_eq!(t["execution_log"][0]["result"]["small"], 89);
}

#[test]
fn a_result_nested_without_end_is_still_read_back() {
    let mut r = report();
    r.execution_log[0].result = (0..500).fold(json!(1), |v, _| json!([v]));
    assert!(told(&r)["execution_log"][0]["result"].is_array());
}

#[test]
fn a_record_over_the_limit_loses_the_middle_of_its_logs_and_says_so() {
    let mut r = report();
    let line = r.execution_log[0].clone();
    r.execution_log = (0..50_000)
        .map(|i| LogLine {
            step: format!("step_{i}"),
            ..line.clone()
        })
        .collect();
    let record = of(&r, key().node_id(), r.fence);
    let signed = sign(&record, &key());
    assert!(signed.body.len() <= MAX_BODY_BYTES && signed.verify().is_ok());
    let kept: Record = serde_json::from_slice(&signed.body).unwrap();
    let names: Vec<_> = kept.execution_log.iter().map(|l| l.step.as_str()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("step_0", "step_49999"));
    assert!(
        kept.execution_log
            .iter()
            .any(|l| l.message.contains("49800 lines are left out"))
    );
}

#[test]
fn one_endless_text_is_cut_in_its_middle() {
    let mut r = report();
    r.execution_log[0].message = "ä".repeat(2 << 20);
    r.outcome.reason = "why ".repeat(1 << 20);
    let t = told(&r);
    assert!(
        t["execution_log"][0]["message"]
            .as_str()
            .unwrap()
            .contains("bytes are left out")
    );
    assert_eq!(t["execution_log"][0]["status"], "success");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_happened_can_be_signed_and_read_back(
        value in any::<f64>(), text in ".{0,40}", times in 1usize..20_000, lines in 0usize..800, tags in 0usize..500,
    ) {
        let mut r = report();
        r.incident.anomalies[0].reading.value = value;
        r.incident.title = text.repeat(times);
        r.incident.tags.extend((0..tags).map(|i| (format!("t{i}"), text.repeat(times % 50))));
        let line = LogLine { status: StepStatus::Failed, message: text.repeat(times % 90), ..r.execution_log[0].clone() };
        r.rollback_log = vec![line; lines];
        let record = of(&r, key().node_id(), r.fence);
        let signed = sign(&record, &key());
        prop_assert!(signed.body.len() <= MAX_BODY_BYTES);
        let again: Value = serde_json::from_slice(&signed.body).unwrap();
        prop_assert_eq!(canonical::to_bytes(&again).unwrap(), signed.body.clone());
        prop_assert!(serde_json::from_slice::<Record>(&signed.body).is_ok());
    }
}
