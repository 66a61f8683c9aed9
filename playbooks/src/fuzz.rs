//! What reads texts of operators here, to be held against hostile ones: playbooks, conditions,
//! texts with conditions in them, parameters.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::{Env, Expr, Template, lint, parse, quantity, settle};
use hale_hostile::Parser;
use serde_json::{Value, json};

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "playbook",
        seeds: playbooks,
        feed: playbook,
    },
    Parser {
        name: "condition",
        seeds: conditions,
        feed: condition,
    },
    Parser {
        name: "template",
        seeds: || vec![b"a ${params.n + 1} $${no} ${'}'} ${{'a': 1}.a} b".to_vec()],
        feed: template,
    },
];

fn playbooks() -> Vec<Vec<u8>> {
    let library = crate::library();
    let some = library.iter().step_by(4);
    some.map(|(_, text)| text.as_bytes().to_vec()).collect()
}

/// What is read can be shown and settled, and what is not is told with a place.
fn playbook(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match parse("a.yaml", text) {
        Ok(playbook) => {
            let _ = settle(&playbook, &env(), &[].into());
            assert!(lint("a.yaml", text).iter().all(|f| !f.is_error()));
        }
        Err(findings) => assert!(findings.iter().any(|f| f.is_error()), "{text:?}"),
    }
}

fn conditions() -> Vec<Vec<u8>> {
    [
        "steps.count.rows[0].n > 3 && tags.role == 'primary'",
        "has(service.unit) ? incident.sigma >= 2.5 : params.n * 2 < size(params.names)",
        "params.names.exists(x, x.startsWith('a') || x.matches('^b+$')) in [true, false]",
        "params.names.map(x, x + x).filter(x, size(x) > 1).all(x, x != \"\"\"q\"\"\")",
        "{'a': [1, 2.5, 3u], \"b\": null}.a[?5].orValue(1) - -1 % 7",
        "duration('1h') > duration('30m') && timestamp('2026-02-12T11:26:00Z').getHours() == 11",
        "string(int(double('1.5'))) + r'\\d' == b'x'.size().string()",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn env() -> Env {
    let names: Vec<Value> = (0..40).map(|n| json!(format!("name-{n}"))).collect();
    [
        (
            "incident",
            json!({"sigma": 4.5, "metric": "system.cpu_percent", "value": 97.25}),
        ),
        (
            "params",
            json!({"n": 3, "names": names, "big": i64::MAX, "small": i64::MIN, "f": 1e300}),
        ),
        ("tags", json!({"role": "primary"})),
        (
            "steps",
            json!({"count": {"rows": [{"n": 4}, {"n": null}], "stdout": "x".repeat(2000)}}),
        ),
        ("service", json!({"unit": "nginx.service"})),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn condition(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = (quantity::duration(text), quantity::bytes(text));
    if let Ok(expr) = Expr::parse(text) {
        assert_eq!(expr.as_str(), text);
        let _ = (expr.paths(), expr.evaluate(&env()), expr.holds(&Env::new()));
    }
}

fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(template) = Template::parse(text) {
        let _ = (template.secrets(), template.is_single());
        let _ = (template.render(&env()), template.render_text(&env()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_hostile::{hold, hold_for};

    #[test]
    fn a_playbook_may_be_anything() {
        hold_for(&PARSERS[0], 160);
    }

    #[test]
    fn a_condition_may_be_anything() {
        hold(&PARSERS[1]);
    }

    #[test]
    fn a_text_with_conditions_may_be_anything() {
        hold(&PARSERS[2]);
    }
}
