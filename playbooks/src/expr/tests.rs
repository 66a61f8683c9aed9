//! What expressions mean, and that no text harms the parser.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn env() -> Env {
    let value = json!({
        "incident": {"sigma": 4, "value": 94.8, "severity": "warning", "labels": {"mount": "/var"}},
        "params": {"idle_seconds": 3600, "names": ["a", "b"], "ratio": 0.5},
        "tags": {"maintenance_mode": "false", "pci-dss": "yes"},
        "steps": {"count": {"rows": [{"idle": 89}, {"idle": 3}]}},
        "secret": {"token": "s3cret"},
    });
    value.as_object().unwrap().clone().into_iter().collect()
}

fn value(text: &str) -> Value {
    Expr::parse(text).and_then(|e| e.evaluate(&env())).unwrap()
}

fn holds(text: &str) -> bool {
    Expr::parse(text).and_then(|e| e.holds(&env())).unwrap()
}

#[test]
fn whole_and_fractional_numbers_compare() {
    assert!(holds("incident.sigma >= 3.0 && anomaly_sigma >= 3"));
    assert!(holds("incident.value > 94 && incident.value < 95"));
    assert!(holds("params.idle_seconds == 3600.0"));
    assert!(holds(
        "double(params.idle_seconds) * params.ratio == 1800.0"
    ));
}

#[test]
fn lists_maps_and_macros_work() {
    assert!(holds("steps.count.rows.exists(r, r.idle > 80)"));
    assert!(holds(
        "steps.count.rows.all(r, r.idle > 0) && size(params.names) == 2"
    ));
    assert!(holds("incident.severity in ['warning', 'critical']"));
    assert!(holds(
        "tags['pci-dss'] == 'yes' && steps.count.rows[0].idle == 89"
    ));
    assert!(holds(
        "incident.labels.mount.startsWith('/v') && incident.labels.mount.matches('^/v.r$')"
    ));
    assert_eq!(value("params.names.map(n, n + '!')"), json!(["a!", "b!"]));
    assert_eq!(value("service.?unit.orValue('none')"), json!("none"));
}

#[test]
fn what_is_missing_is_no_value_and_has_can_tell() {
    assert!(holds(
        "!has(service.unit) && !has(params.nothing) && has(params.names)"
    ));
    for missing in [
        "params.nothing",
        "steps.other.rows",
        "nothing",
        "result.x",
        "steps.count.rows[9]",
    ] {
        let error = Expr::parse(missing).unwrap().evaluate(&env()).unwrap_err();
        assert!(
            matches!(error, EvalError::NoValue { .. }),
            "{missing}: {error}"
        );
    }
    let error = Expr::parse("params.nothing > 3")
        .unwrap()
        .holds(&env())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`params.nothing > 3` has no value here: there is no `nothing`"
    );
}

#[test]
fn a_condition_that_is_no_condition_is_a_type_error() {
    let error = Expr::parse("params.names")
        .unwrap()
        .holds(&env())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`params.names` should be true or false and is a list"
    );
}

#[test]
fn an_expression_tells_what_it_reads() {
    let paths =
        Expr::parse("steps.count.rows.all(r, r.idle > params['idle_seconds']) && has(tags.x)")
            .unwrap()
            .paths();
    let joined: Vec<_> = paths.iter().map(|p| p.join(".")).collect();
    assert_eq!(
        joined,
        ["params.idle_seconds", "steps.count.rows", "tags.x"]
    );
}

#[test]
fn templates_keep_types_and_escape() {
    let render = |t: &str| Template::parse(t).and_then(|t| t.render(&env()));
    assert_eq!(render("${params.idle_seconds}"), Ok(json!(3600)));
    assert_eq!(render("${params.names}"), Ok(json!(["a", "b"])));
    assert_eq!(
        render("idle ${params.idle_seconds}s at ${incident.labels.mount}"),
        Ok(json!("idle 3600s at /var"))
    );
    assert_eq!(render("${ {'}': '}'}['}'] }"), Ok(json!("}")));
    assert_eq!(render("costs $5, $${HOME}"), Ok(json!("costs $5, ${HOME}")));
    assert!(matches!(
        render("a ${params.names}"),
        Err(EvalError::Type { .. })
    ));
    assert!(matches!(
        render("${params.idle_seconds"),
        Err(EvalError::Syntax { .. })
    ));
    assert!(matches!(render("${1 +}"), Err(EvalError::Syntax { .. })));
}

#[test]
fn secrets_are_named_or_refused() {
    let t = Template::parse("Bearer ${secret.token} ${secret['other']}").unwrap();
    assert_eq!(t.secrets(), ["other", "token"]);
    assert_eq!(t.expressions(), ["secret.token", "secret['other']"]);
    for hidden in [
        "${secret}",
        "${secret[params.names[0]]}",
        "${string(secret)}",
    ] {
        assert!(Template::parse(hidden).is_err(), "{hidden}");
    }
}

#[test]
fn deep_texts_are_refused_before_the_parser_sees_them() {
    let deep = [
        "(".repeat(2000),
        format!("{}1{}", "(".repeat(500), ")".repeat(500)),
        format!("{}1", "!".repeat(2000)),
        format!("{}1", "-".repeat(2000)),
        format!("a{}", ".b".repeat(1500)),
        format!("a{}", "[0]".repeat(1000)),
        format!("1{}", "+1".repeat(1500)),
        format!("1{}", "?1:1".repeat(900)),
        format!("true{}", " && true ? 1 : 1".repeat(250)),
        format!("{}1{}", "{1:".repeat(600), "}".repeat(600)),
        format!("1{}", " in 1".repeat(700)),
        format!("[1]{}", ".map(x,x)".repeat(400)),
        "x".repeat(MAX_EXPR_BYTES + 1),
    ];
    for text in deep {
        assert!(Expr::parse(&text).is_err(), "{}", cut(&text));
    }
}

#[test]
fn the_deepest_text_allowed_needs_little_stack() {
    let deepest = |make: &dyn Fn(usize) -> String| {
        (1..200)
            .map(make)
            .take_while(|t| nesting::check(t).is_ok())
            .last()
            .unwrap()
    };
    let texts = [
        deepest(&|n| format!("{}1{}", "(".repeat(n), ")".repeat(n))),
        deepest(&|n| format!("{}1{}", "[".repeat(n), "]".repeat(n))),
        deepest(&|n| format!("{}1{}", "size(".repeat(n), ")".repeat(n))),
        deepest(&|n| format!("incident{}", ".b".repeat(n))),
        deepest(&|n| format!("1{}", "+1".repeat(n))),
        deepest(&|n| format!("{}true", "!".repeat(n))),
        deepest(&|n| format!("true{}", " ? true : true".repeat(n))),
        deepest(&|n| format!("true{}", "&& true ? true : true".repeat(n))),
        deepest(&|n| format!("{}true{}", "[1].exists(x, ".repeat(n), ")".repeat(n))),
        deepest(&|n| format!("true{}", " && true".repeat(n))),
        deepest(&|n| format!("1{}", "[0]".repeat(n))),
    ];
    let quarter = std::thread::Builder::new().stack_size(512 << 10);
    let run = move || {
        for text in texts {
            let _ = Expr::parse(&text).map(|e| (e.paths(), e.evaluate(&env())));
        }
    };
    quarter.spawn(run).unwrap().join().unwrap();
}

#[test]
fn what_could_take_too_long_is_refused() {
    let many: Vec<_> = (0..2000).collect();
    let mut env = env();
    env.insert("result".into(), json!({"rows": many}));
    let nested = "result.rows.all(a, result.rows.all(b, result.rows.all(c, a + b + c >= 0)))";
    let growing = format!("['aaaaaaaa']{}", ".map(x, x+x+x+x+x+x+x+x)".repeat(8));
    // Compiling a pattern costs more than looking at most values.
    let computed = r"result.rows.all(a, !'x'.matches('\\w{12}' + string(a)))";
    for text in [nested, &growing, computed] {
        let error = Expr::parse(text).unwrap().evaluate(&env).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
    let fine = "result.rows.all(a, a >= 0) && result.rows.exists(a, a == 1999)";
    assert_eq!(Expr::parse(fine).unwrap().holds(&env), Ok(true));
    // One that is written out is compiled once, however often the loop turns.
    let fine = r"result.rows.all(a, !'x'.matches('\\w{12}'))";
    assert_eq!(Expr::parse(fine).unwrap().holds(&env), Ok(true));
}

#[test]
fn every_function_that_is_said_to_be_there_is_and_no_other() {
    let env = env();
    for (call, wanted) in [
        ("bool('true')", json!(true)),
        ("size(bytes('abc'))", json!(3)),
        ("'abc'.contains('b')", json!(true)),
        ("double('1.5')", json!(1.5)),
        ("dyn(1) == 1", json!(true)),
        ("'abc'.endsWith('c')", json!(true)),
        ("incident.?nothing.hasValue()", json!(false)),
        ("int(' 42\\n'.trim())", json!(42)),
        ("'ABC'.lowerAscii()", json!("abc")),
        ("'abc'.matches('^a')", json!(true)),
        ("optional.none().hasValue()", json!(false)),
        ("optional.of(1).value()", json!(1)),
        ("optional.ofNonZeroValue(0).hasValue()", json!(false)),
        ("optional.none().or(optional.of(2)).value()", json!(2)),
        ("optional.none().orValue(3)", json!(3)),
        ("size([1, 2])", json!(2)),
        ("'abc'.startsWith('a')", json!(true)),
        ("string(1)", json!("1")),
        ("type(1) == int", json!(true)),
        ("uint(1)", json!(1)),
    ] {
        let value = Expr::parse(call).unwrap().evaluate(&env);
        assert_eq!(value.as_ref(), Ok(&wanted), "{call}");
    }
    for call in [
        "'a b'.split(' ')",
        "trimmed('a')",
        "now()",
        "max([1, 2])",
        "size(foo(1))",
        "[1].map(x, f(x))",
    ] {
        let error = Expr::parse(call).unwrap_err().to_string();
        assert!(error.contains("there is no function"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,80}") {
        let _ = Expr::parse(&text).map(|e| e.evaluate(&env()));
        let _ = Template::parse(&text).map(|t| t.render(&env()));
    }

    #[test]
    fn no_heap_of_tokens_makes_the_parser_panic(
        tokens in proptest::collection::vec(
            prop::sample::select(vec![
                "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "!", "-", "+", "&&", "||", "==", "in",
                "'", "\"", "'''", "r'", "b\"", "\\", "${", "}", "1", "1.5", "2u", "incident", "params",
                "has(", ".map(x,", ".all(x,", "null", "//", "\n", "`", "a", "==", "secret", "_",
            ]),
            0..40,
        ),
        spaced in any::<bool>(),
    ) {
        let text = tokens.join(if spaced { " " } else { "" });
        let _ = Expr::parse(&text).map(|e| (e.paths(), e.evaluate(&env())));
        let _ = Template::parse(&text).map(|t| (t.secrets(), t.render(&env())));
    }
}
