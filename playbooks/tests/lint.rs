//! What is told of playbooks that are wrong: file, line, and what to write instead.

use expect_test::{Expect, expect};
use hale_playbooks::{MAX_PLAYBOOK_BYTES, lint, parse};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// A playbook without findings, to spoil.
const SOUND: &str = r#"metadata:
  name: example_restart
  version: "1.0.0"
  description: >
    An example service does not answer and its health check fails again and again. Restarts it and
    watches until it answers.
  idempotent: true
  signature:
    series: [{ metric: health.up, direction: below }]

parameters:
  grace:
    type: duration
    description: How long it may take.
    default: 5s
  names:
    type: text_list
    description: Which.
    default: [a, b]

diagnose:
  - { name: is_down, type: process, operation: count, match: { name: example }, expect: result.count == 0 }

pre_execution_checks:
  - { name: not_in_maintenance, type: tag_check, tag: maintenance_mode, expect_value: false }
  - { name: nothing_else_runs, type: concurrency_check, fail_action: wait, max_wait_seconds: 60 }

steps:
  - name: restart
    type: command
    argv: [example, "--grace=${params.grace}", "${params.names}"]

verification:
  - name: it_answers
    type: http_check
    url: http://127.0.0.1/
    hold: 2s

rollback:
  - name: stop
    type: command
    argv: [example, stop]
    undoes: restart
"#;

fn check(text: &str, expect: &Expect) {
    let found: Vec<_> = lint("p.yaml", text)
        .iter()
        .map(|f| format!("{f}\n"))
        .collect();
    expect.assert_eq(&found.concat());
}

/// The sound playbook with one thing replaced.
fn spoilt(from: &str, to: &str, expect: &Expect) {
    assert!(SOUND.contains(from), "{from}");
    check(&SOUND.replacen(from, to, 1), expect);
}

#[test]
fn a_sound_playbook_has_no_findings() {
    check(SOUND, &expect![[""]]);
}

#[test]
fn unknown_fields_and_values_are_told_with_the_nearest_known() {
    spoilt(
        "idempotent: true",
        "idempotant: true",
        &expect![[r#"
        p.yaml:2:3: error: `metadata` has no `idempotent`
            add `idempotent:`. Whether it may run again without harm. If not, it always asks.
        p.yaml:7:3: error: `metadata` has no field `idempotant`
            write `idempotent`
    "#]],
    );
    spoilt(
        "    argv: [example, stop]",
        "    argv: [example, stop]\n    timout: 5s",
        &expect![[r#"
            p.yaml:43:5: error: a `command` has no field `timout`
                write `timeout`
        "#]],
    );
    spoilt(
        "    hold: 2s",
        "    hold: 2s\n    expect_rows: 1",
        &expect![[r#"
            p.yaml:38:5: error: a `http_check` has no field `expect_rows`
                `expect_rows` belongs to `type: sql_query`; a `http_check` has name, type, reason, when, expect, timeout, fail_action, max_wait, retries, retry_delay, hold, weight, undoes, url, method, expect_status, expect_body
        "#]],
    );
    spoilt(
        "type: http_check",
        "type: htp_check",
        &expect![[r#"
            p.yaml:35:11: error: `type` should be one of condition, sql_query, tag_check, concurrency_check, command, http_check, systemd_unit, process, file, wait, log_check, metric_check and is the text `htp_check`
                write `http_check`
        "#]],
    );
    spoilt(
        "fail_action: wait",
        "fail_action: wiat",
        &expect![[r#"
            p.yaml:26:70: error: `fail_action` should be one of abort, wait, rollback, escalate, warn and is the text `wiat`
                write `wait`
            p.yaml:26:94: warning: nothing waits
                add `fail_action: wait`, or remove it
        "#]],
    );
    spoilt(
        "steps:",
        "stepps:",
        &expect![[r#"
            p.yaml:1:1: error: it does nothing
                add `steps:`, or `max_route: escalate` if a person has to act
            p.yaml:12:3: warning: nothing reads the parameter `grace`
                read it as `params.grace`, or remove it
            p.yaml:16:3: warning: nothing reads the parameter `names`
                read it as `params.names`, or remove it
            p.yaml:28:1: error: a playbook has no field `stepps`
                write `steps`
            p.yaml:43:13: error: it undoes `restart`, which is no step
                the steps are 
        "#]],
    );
}

#[test]
fn wrong_values_say_what_fits() {
    spoilt(
        r#"version: "1.0.0""#,
        "version: 1.0",
        &expect![[r#"
        p.yaml:3:12: error: `version` should be a text of 1 to 100 bytes and is the number 1.0
            write a text, in quotes if it looks like a number
    "#]],
    );
    spoilt(
        r#"version: "1.0.0""#,
        r#"version: "1.0""#,
        &expect![[r#"
        p.yaml:3:12: error: `1.0` is not a semantic version
            write MAJOR.MINOR.PATCH in quotes: "1.0.0"
    "#]],
    );
    spoilt(
        "hold: 2s",
        "hold: 2 parsecs",
        &expect![[r#"
            p.yaml:37:11: error: `hold` should be a duration of at most 3600 s and is the text `2 parsecs`
                write `90s` or `5m`, or `hold_seconds: 90`; at most 3600 s
        "#]],
    );
    spoilt(
        "hold: 2s",
        "timeout: 2d",
        &expect![[r#"
            p.yaml:37:14: error: `timeout` should be a duration of at most 3600 s and is the text `2d`
                write `90s` or `5m`, or `timeout_seconds: 90`; at most 3600 s
        "#]],
    );
    spoilt(
        "hold: 2s",
        "timeout: 2s\n    timeout_seconds: 3",
        &expect![[r#"
            p.yaml:38:5: error: `timeout` is given twice
                keep one of the two
        "#]],
    );
    spoilt(
        "default: 5s",
        "default: soon",
        &expect![[r#"
        p.yaml:15:14: error: the default of `grace` should be a duration like `90s` or a number of seconds and is "soon"
            write one that fits
    "#]],
    );
    spoilt(
        "default: 5s",
        "default: 5s\n    max: 3",
        &expect![[r#"
        p.yaml:15:14: error: the default of `grace` is 5 and must be at most 3
            write one that fits
    "#]],
    );
    spoilt(
        "series: [{ metric: health.up, direction: below }]",
        "logs: [\"(?=x)\"]",
        &expect![[r#"
            p.yaml:9:12: error: `logs` is not a regular expression: look-around, including look-ahead and look-behind, is not supported
                write RE2 syntax: no look-around, no back references; `\(` for a bracket
        "#]],
    );
    spoilt(
        "name: example_restart",
        "name: Example Restart",
        &expect![[r#"
            p.yaml:2:9: error: `Example Restart` is no name of a playbook
                write lower-case words joined by `_`, the product first: `redis_memory_purge`
        "#]],
    );
}

#[test]
fn expressions_are_checked_for_what_they_read() {
    spoilt(
        "    hold: 2s",
        "    when: params.grace >",
        &expect![[r#"
            p.yaml:37:11: error: `params.grace >` is not a valid expression: at character 15: Syntax error: mismatched input '<EOF>' expecting expression
                write CEL: `incident.sigma >= 3.0`, `has(service.unit)`, `steps.count.rows[0].idle > 0`
        "#]],
    );
    spoilt(
        "    hold: 2s",
        "    when: \"${params.grace > 3}\"",
        &expect![[r#"
            p.yaml:37:11: error: `when` is an expression already
                write the expression itself, without `${` and `}`
        "#]],
    );
    spoilt(
        "    hold: 2s",
        "    when: params.graze > 3",
        &expect![[r#"
            p.yaml:37:11: error: there is no parameter `graze`
                write `params.grace`
        "#]],
    );
    spoilt(
        "    hold: 2s",
        "    when: incidnt.sigma > 3",
        &expect![[r#"
            p.yaml:37:11: error: nothing is called `incidnt` here
                write `incident`
        "#]],
    );
    spoilt(
        "    hold: 2s",
        "    when: incident.sigmma > 3",
        &expect![[r#"
            p.yaml:37:11: error: an incident has no `sigmma`
                write `incident.sigma`
        "#]],
    );
    spoilt(
        "    hold: 2s",
        "    when: result.status == 200",
        &expect![[r#"
            p.yaml:37:11: error: nothing is called `result` here
                it sees incident, params, tags, steps, checks, service, secret, anomaly_sigma
        "#]],
    );
    spoilt(
        "    hold: 2s",
        "    when: steps.restrat.exit == 0",
        &expect![[r#"
            p.yaml:37:11: error: there is no check or step `restrat`
                write `steps.restart`
        "#]],
    );
    spoilt(
        "    hold: 2s",
        "    when: steps.it_answers.status == 200",
        &expect![[r#"
            p.yaml:37:11: error: `it_answers` reads its own result
                write `result`, in `expect`
        "#]],
    );
    spoilt(
        "    hold: 2s",
        "    when: steps.stop.exit == 0",
        &expect![[r#"
            p.yaml:37:11: error: `stop` runs only later
                move `stop` before it
        "#]],
    );
    spoilt(
        "    hold: 2s",
        "    expect: steps.restart.exit == 0 && result.status == 200",
        &expect![[""]],
    );
}

#[test]
fn what_keeps_a_run_safe_is_asked_for() {
    let without = |section: &str, next: &str| {
        let (from, to) = (
            SOUND.find(section).unwrap(),
            SOUND.find(next).unwrap_or(SOUND.len()),
        );
        format!("{}{}", &SOUND[..from], &SOUND[to.max(from)..])
    };
    check(
        &without("verification:", "rollback:"),
        &expect![[r#"
        p.yaml:1:1: error: nothing verifies that it helped
            add `verification:` with checks of what users see: a new connection, a write, a health check
    "#]],
    );
    check(
        &without("rollback:", "no such"),
        &expect![[r#"
        p.yaml:1:1: error: nothing undoes it
            add `rollback:`, or `no_rollback_reason:` that says why there is nothing to undo
    "#]],
    );
    check(
        &without("pre_execution_checks:", "steps:"),
        &expect![[r#"
        p.yaml:1:1: warning: it would run in maintenance
            add to `pre_execution_checks`: `{name: not_in_maintenance, type: tag_check, tag: maintenance_mode, expect_value: false}`
        p.yaml:1:1: warning: it would run beside another playbook
            add to `pre_execution_checks`: `{name: nothing_else_runs, type: concurrency_check, scope: host, fail_action: wait, max_wait: 60s}`
    "#]],
    );
    spoilt(
        ", max_wait_seconds: 60",
        "",
        &expect![[r#"
            p.yaml:26:70: error: it would wait without a bound
                add `max_wait_seconds: 60`
        "#]],
    );
    spoilt(
        "fail_action: wait, max_wait_seconds: 60",
        "fail_action: rollback",
        &expect![[r#"
            p.yaml:26:70: error: nothing has been done yet that could be undone
                write `abort` or `escalate`
        "#]],
    );
    spoilt(
        "undoes: restart",
        "undoes: restrat",
        &expect![[r#"
            p.yaml:43:13: error: it undoes `restrat`, which is no step
                write `restart`
        "#]],
    );
    spoilt(
        "idempotent: true",
        "idempotent: false\n  max_route: execute",
        &expect![[r#"
            p.yaml:8:14: warning: it is not idempotent, so it always asks
                write `max_route: ask`, or make every step safe to repeat
        "#]],
    );
    spoilt(
        "name: it_answers",
        "name: restart",
        &expect![[r#"
            p.yaml:34:11: error: two checks or steps are called `restart`
                name it differently; the first is on line 29
        "#]],
    );
}

#[test]
fn a_probe_is_a_quick_look_that_finds_something() {
    let probe = "- { name: is_down, type: process, operation: count, match: { name: example }, expect: result.count == 0 }";
    spoilt(
        probe,
        "- { name: is_down, type: process, operation: count, match: { name: example } }",
        &expect![[r#"
            p.yaml:22:5: error: nothing says what it finds
                add `expect:` with a condition over `result`
        "#]],
    );
    spoilt(
        probe,
        "- { name: is_down, type: process, operation: signal, match: { name: example }, expect: result.count == 0 }",
        &expect![[r#"
            p.yaml:22:48: error: it changes processes before the run has begun
                move it to `steps`; a check before the run only looks
        "#]],
    );
    spoilt(
        probe,
        "- { name: is_down, type: wait, duration: 1s }",
        &expect![[r#"
            p.yaml:22:5: error: a `wait` finds out nothing
                write it under `pre_execution_checks`; log lines that tell belong in `signature.logs`
        "#]],
    );
    spoilt(
        probe,
        "- { name: is_down, type: http_check, url: \"http://127.0.0.1/\", method: POST, timeout: 9s, retries: 2 }",
        &expect![[r#"
            p.yaml:22:74: error: it posts before the run has begun
                move it to `steps`; a check before the run only looks
            p.yaml:22:89: error: a probe that takes long
                write at most `3.5s`: the decision waits for it
            p.yaml:22:102: error: `retries` means nothing for a probe
                remove it: what can't be found out speaks neither for nor against
        "#]],
    );
    spoilt(
        "hold: 2s",
        "hold: 2s\n    weight: weak",
        &expect![[r#"
        p.yaml:38:13: error: only a probe has a weight
            move it to `diagnose`, or remove `weight`
    "#]],
    );
    spoilt(
        "argv: [example, stop]",
        "argv: [example, stop, \"${steps.is_down.count}\"]",
        &expect![[r#"
            p.yaml:42:27: error: there is no check or step `is_down`
                there is not_in_maintenance, nothing_else_runs, restart, it_answers, stop
        "#]],
    );
}

#[test]
fn commands_are_no_shell_strings() {
    let argv = r#"argv: [example, "--grace=${params.grace}", "${params.names}"]"#;
    spoilt(
        argv,
        r#"argv: [sh, -c, "example ${params.grace} ${params.names}"]"#,
        &expect![[r#"
            p.yaml:31:12: error: it is a shell string
                write the program and each argument as its own element; use several steps, `file` or `process` for the rest
            p.yaml:31:20: error: `names` is a list and can't stand within a text
                write `- ${params.names}` as an element of its own
        "#]],
    );
    spoilt(
        argv,
        r#"argv: [/usr/bin/env, bash, -ec, "example"]"#,
        &expect![[r#"
            p.yaml:12:3: warning: nothing reads the parameter `grace`
                read it as `params.grace`, or remove it
            p.yaml:16:3: warning: nothing reads the parameter `names`
                read it as `params.names`, or remove it
            p.yaml:31:12: error: it is a shell string
                write the program and each argument as its own element; use several steps, `file` or `process` for the rest
        "#]],
    );
    spoilt(
        argv,
        r#"argv: ["example ${params.grace}", "${params.names}"]"#,
        &expect![[r#"
            p.yaml:31:12: error: the program is not settled before the run
                write the program's name, or `${service.restart_command}` as the operator configured it
        "#]],
    );
    spoilt(
        argv,
        r#"argv: ["systemctl restart example"]"#,
        &expect![[r#"
            p.yaml:12:3: warning: nothing reads the parameter `grace`
                read it as `params.grace`, or remove it
            p.yaml:16:3: warning: nothing reads the parameter `names`
                read it as `params.names`, or remove it
            p.yaml:31:12: error: program and arguments stand in one element
                write `argv: [systemctl, restart, example]`
        "#]],
    );
    spoilt(
        argv,
        r#"argv: ["${incident.title}"]"#,
        &expect![[r#"
            p.yaml:12:3: warning: nothing reads the parameter `grace`
                read it as `params.grace`, or remove it
            p.yaml:16:3: warning: nothing reads the parameter `names`
                read it as `params.names`, or remove it
            p.yaml:31:12: error: the program is not settled before the run
                write the program's name, or `${service.restart_command}` as the operator configured it
            p.yaml:31:12: warning: what was observed becomes an argument unchecked
                make it a parameter with `from:` and a `pattern:` or `one_of:`
        "#]],
    );
    spoilt(
        argv,
        r#"argv: [example, "${secret.token}"]"#,
        &expect![[r#"
            p.yaml:12:3: warning: nothing reads the parameter `grace`
                read it as `params.grace`, or remove it
            p.yaml:16:3: warning: nothing reads the parameter `names`
                read it as `params.names`, or remove it
            p.yaml:31:21: error: a secret in `argv` can be seen
                pass it under `env:` of a command or `bind:` of a query
        "#]],
    );
}

#[test]
fn queries_take_values_bound() {
    let sql = |rest: &str| {
        let from = SOUND.find("    type: http_check").unwrap();
        let to = SOUND.find("rollback:").unwrap();
        format!(
            "{}    type: sql_query\n{rest}\n\n{}",
            &SOUND[..from],
            &SOUND[to..]
        )
    };
    check(
        &sql("    query: SELECT '${params.grace}'"),
        &expect![[r#"
            p.yaml:36:12: error: a value is pasted into SQL
                write `$1` in the query and put `${…}` under `bind:`
        "#]],
    );
    check(
        &sql("    query: SELECT $1::float8, $2::text\n    bind: [\"${params.grace}\"]"),
        &expect![[r#"
            p.yaml:36:12: error: the query has 2 values, `bind` gives 1
                give one under `bind:` for each of `$1`, `$2`, …
        "#]],
    );
    check(
        &sql("    query: SELECT 1; DROP TABLE x;"),
        &expect![[r#"
            p.yaml:36:12: error: it is more than one statement
                write one step for each statement
        "#]],
    );
    check(
        &sql("    query: SELECT 'a;b', $1::float8;\n    bind: [\"${params.grace}\"]"),
        &expect![[""]],
    );
}

#[test]
fn what_is_no_playbook_is_one_clear_error() {
    check(
        "",
        &expect![[r#"
            p.yaml:1:1: error: a playbook is a map, not nothing
                write `metadata:`, `steps:`, `verification:` and `rollback:` at the top
        "#]],
    );
    check(
        "- a\n- b",
        &expect![[r#"
            p.yaml:1:1: error: a playbook is a map, not a list
                write `metadata:`, `steps:`, `verification:` and `rollback:` at the top
        "#]],
    );
    check(
        "metadata: {name: [",
        &expect![[r#"
        p.yaml:1:18: error: it is not a playbook's YAML: unclosed bracket '[' at line 1, column 18
            write plain YAML: two spaces for each level, `key: value`, no anchors, texts with `: ` or `#` in quotes
    "#]],
    );
    check(
        "metadata:\n  name: a\n  name: b\n",
        &expect![[r#"
            p.yaml:3:3: error: it is not a playbook's YAML: duplicate mapping key: name
                write plain YAML: two spaces for each level, `key: value`, no anchors, texts with `: ` or `#` in quotes
        "#]],
    );
    check(
        "a: &x [1]\nb: *x\n",
        &expect![[r#"
            p.yaml:1:7: error: it is not a playbook's YAML: anchors and aliases are no part of the language
                write plain YAML: two spaces for each level, `key: value`, no anchors, texts with `: ` or `#` in quotes
        "#]],
    );
}

#[test]
fn bombs_are_refused_at_once() {
    let laughs = (0..30).fold(
        "a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n".to_owned(),
        |t, i| {
            let of = format!("*a{i},").repeat(9);
            format!(
                "{t}a{}: &a{} [{}]\n",
                i + 1,
                i + 1,
                of.trim_end_matches(',')
            )
        },
    );
    let bombs = [
        laughs,
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        format!("a: {}", "x".repeat(MAX_PLAYBOOK_BYTES)),
        "a: 1\n---\n".repeat(10_000),
        (0..20_000).map(|i| format!("k{i}: 1\n")).collect(),
        "? ".repeat(50_000),
        "a: !!binary x\n<<: *y\n".to_owned(),
    ];
    for bomb in bombs {
        let began = Instant::now();
        assert!(parse("bomb.yaml", &bomb).is_err());
        let shown: String = bomb.chars().take(30).collect();
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{shown} took {:?}",
            began.elapsed()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_makes_the_lint_panic(text in "(.|\n){0,200}") {
        let _ = lint("p.yaml", &text);
    }

    #[test]
    fn no_damage_to_a_playbook_makes_the_lint_panic(
        line in 0..40_usize,
        with in prop::sample::select(vec![
            "", "x", "- ", "  - name: x", "steps: 3", "metadata: []", "    type: 7", "    argv: {a: b}",
            "parameters: [1]", "    default: [[1]]", "    undoes: [x]", "    match: {limit: -1}", "\t", "    when: null",
            "    bind: {}", "verification: ~", "  version: 1e400", "    timeout: 1e99s", "    keep_bytes: -5",
        ]),
        instead in any::<bool>(),
    ) {
        let mut lines: Vec<&str> = SOUND.lines().collect();
        let at = line.min(lines.len() - 1);
        if instead { lines[at] = with } else { lines.insert(at, with) }
        let text = lines.join("\n");
        let findings = lint("p.yaml", &text);
        prop_assert_eq!(parse("p.yaml", &text).is_err(), findings.iter().any(|f| f.is_error()));
        for f in findings {
            prop_assert!(f.line >= 1 && f.line as usize <= lines.len() + 1 && !f.instead.is_empty(), "{}", f);
        }
    }
}
