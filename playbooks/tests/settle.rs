//! Parameters: what is given comes before where they come from, and that before the default.

use hale_playbooks::{Env, Playbook, SettleError, parse, settle};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn playbook(parameters: &str) -> Playbook {
    let reads = "has(params.p)";
    let text = format!(
        r#"
metadata:
  name: example_settle
  version: "1.0.0"
  description: An example that only has parameters, long enough to be accepted as a description of trouble.
  idempotent: true
parameters:
  p:
    description: It.
{parameters}
steps: [{{ name: look, type: condition, condition: {reads} }}]
verification: [{{ name: look_again, type: condition, condition: true }}]
no_rollback_reason: It only looks.
"#
    );
    parse("p.yaml", &text).unwrap_or_else(|f| panic!("{f:?}"))
}

fn settled(parameters: &str, env: &Value, given: Value) -> Result<Value, String> {
    let env: Env = env
        .as_object()
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .collect();
    let given: BTreeMap<String, Value> = match given {
        Value::Null => BTreeMap::new(),
        value => [("p".to_owned(), value)].into(),
    };
    let settled = settle(&playbook(parameters), &env, &given).map_err(|e| e.to_string());
    settled.and_then(|mut settled| {
        settled
            .remove("p")
            .ok_or_else(|| "it is not there".to_owned())
    })
}

#[test]
fn given_comes_before_from_and_from_before_the_default() {
    let p = "    type: text\n    from: service.log_dir\n    default: /var/log";
    let env = json!({"service": {"log_dir": "/srv/log"}});
    assert_eq!(settled(p, &env, json!("/x")), Ok(json!("/x")));
    assert_eq!(settled(p, &env, Value::Null), Ok(json!("/srv/log")));
    assert_eq!(
        settled(p, &json!({"service": {}}), Value::Null),
        Ok(json!("/var/log"))
    );
    assert_eq!(
        settled(p, &json!({"service": {"log_dir": null}}), Value::Null),
        Ok(json!("/var/log"))
    );
    assert_eq!(settled(p, &json!({}), Value::Null), Ok(json!("/var/log")));
}

#[test]
fn durations_become_seconds_whatever_they_were_written_as() {
    let p = "    type: duration\n    default: 1h30m\n    max: 7200";
    assert_eq!(settled(p, &json!({}), Value::Null), Ok(json!(5400)));
    for written in [json!("5s"), json!(5), json!("5"), json!("5000ms")] {
        assert_eq!(
            settled(p, &json!({}), written.clone()),
            Ok(json!(5)),
            "{written}"
        );
    }
    assert_eq!(settled(p, &json!({}), json!("250ms")), Ok(json!(0.25)));
    let error = settled(p, &json!({}), json!("3h")).unwrap_err();
    assert_eq!(
        error,
        "`p` is 10800 and must be at most 7200; give another with `--param p=VALUE`"
    );
    assert!(settled(p, &json!({}), json!("-5")).is_err());
}

#[test]
fn texts_of_a_command_line_are_read_as_the_parameters_type() {
    let with = |kind: &str, default: &str| format!("    type: {kind}\n    default: {default}");
    let read = |kind: &str, default: &str, text: &str| {
        settled(&with(kind, default), &json!({}), json!(text))
    };
    assert_eq!(read("integer", "1", "42"), Ok(json!(42)));
    assert_eq!(read("number", "1", "0.5"), Ok(json!(0.5)));
    assert_eq!(read("boolean", "false", "true"), Ok(json!(true)));
    assert_eq!(read("text_list", "[a]", "x, y"), Ok(json!(["x", "y"])));
    assert_eq!(read("text", "a", "42"), Ok(json!("42")));
    assert!(read("integer", "1", "4.2").is_err());
    assert!(read("boolean", "false", "yes").is_err());
}

#[test]
fn patterns_hold_for_the_whole_text_and_for_each_of_a_list() {
    let p = "    type: text\n    default: a\n    pattern: \"a|b+\"";
    assert!(settled(p, &json!({}), json!("bbb")).is_ok());
    for bad in ["ab", "xa", "a\n", "", "b;rm"] {
        assert!(settled(p, &json!({}), json!(bad)).is_err(), "{bad:?}");
    }
    let p = "    type: text_list\n    default: [a]\n    pattern: \"a|b+\"";
    assert!(settled(p, &json!({}), json!(["a", "bb"])).is_ok());
    assert!(settled(p, &json!({}), json!(["a", "c"])).is_err());
    let p = "    type: text\n    default: a\n    one_of: [a, b]";
    assert!(
        settled(p, &json!({}), json!("c"))
            .unwrap_err()
            .contains("must be one of")
    );
}

#[test]
fn what_is_missing_or_unknown_says_what_to_type() {
    let p = playbook("    type: text\n    from: service.log_dir");
    let missing = settle(&p, &Env::new(), &BTreeMap::new()).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "example_settle needs `p` (It.); give it with `--param p=VALUE`"
    );
    let given = [("q".to_owned(), json!(1))].into();
    let unknown = settle(&p, &Env::new(), &given).unwrap_err();
    assert!(matches!(unknown, SettleError::Unknown { .. }));
    assert_eq!(
        unknown.to_string(),
        "example_settle has no parameter `q`; write `p`"
    );
}

proptest! {
    #[test]
    fn what_is_settled_keeps_within_its_bounds(value in any::<f64>(), text in ".{0,20}") {
        let p = playbook("    type: number\n    default: 1\n    min: -2\n    max: 3");
        for given in [json!(value), json!(text), json!(value.to_string())] {
            let given: BTreeMap<_, _> = [("p".to_owned(), given)].into();
            if let Ok(settled) = settle(&p, &Env::new(), &given) {
                prop_assert!((-2.0..=3.0).contains(&settled["p"].as_f64().unwrap()));
            }
        }
    }
}
