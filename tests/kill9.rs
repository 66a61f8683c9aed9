//! `kill -9` at every step of an execution, then a restart on the same data: nothing that must not
//! be repeated is repeated, no grant stays open, the chain holds, and what happened is told.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Events, Playbook, SOON, Scene, Scratch, command, wait_until};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// How long a killed run may take to be settled after the restart: a lease's time and some.
const SETTLED: Duration = Duration::from_secs(30);
/// Where a run of three steps can be killed: as soon as `did` has this line.
const MOMENTS: [&str; 8] = [
    "begin pre",
    "end pre",
    "begin first",
    "end first",
    "begin second",
    "end third",
    "begin verify",
    "end verify",
];

/// A playbook whose every part says in `did` when it begins and ends, and takes a while between.
/// Its second step heals the service.
fn slow(scratch: &Scratch, verifies: bool) -> Playbook {
    let (did, broken) = (scratch.text_path("did"), scratch.text_path("victim.broken"));
    let slowly = scratch.script(
        "slowly",
        &format!(
            "echo \"begin $1\" >> '{did}'\n[ \"$1\" = second ] && rm -f '{broken}'\nsleep 0.4\n\
             echo \"end $1\" >> '{did}'\nexit \"${{2:-0}}\""
        ),
    );
    let part = |name: &str| command(name, &[&slowly, name]);
    let undo = |name: &str, of: &str| format!("{}\nundoes: {of}", part(name));
    let verdict = if verifies { "0" } else { "1" };
    Playbook::of("victim_revive", "victim")
        .pre_check(part("pre"))
        .step(part("first"))
        .step(part("second"))
        .step(part("third"))
        .verify(command("verify", &[&slowly, "verify", verdict]))
        .undo(undo("undo_first", "first"))
        .undo(undo("undo_second", "second"))
}

fn scene(playbook: impl FnOnce(&Scratch) -> Playbook) -> Scene {
    let scratch = Scratch::new();
    playbook(&scratch).write(&scratch);
    let further = "[executor]\nlease_ttl = \"5s\"\n";
    let mut scene = Scene::prepare("victim", scratch, further, "");
    scene.node.start_again();
    scene
}

/// Kills the node once `did` has a line, and starts it again.
fn kill_at(scene: &mut Scene, line: &str, events: &mut Events) {
    wait_until(
        &format!("the run comes to `{line}`\n{}", events.story()),
        SOON,
        || scene.did().iter().any(|l| l == line),
    );
    scene.node.kill9();
    scene.node.start_again();
}

/// Waits until nothing runs any more, and checks what then has to hold. Returns how the runs ended.
fn settled(scene: &Scene) -> Vec<String> {
    wait_until("every grant is closed", SETTLED, || {
        let chain = scene.node.chain();
        scene.node.get("/v1/leases")["leases"] == json!([])
            && scene.node.get("/v1/executions")["executions"] == json!([])
            && chain.open_intents().is_empty()
            && !chain.records().is_empty()
    });
    scene.assert_nothing_is_left();
    let chain = scene.node.chain();
    let status = |r: &serde_json::Value| r["outcome"]["status"].as_str().unwrap().to_owned();
    chain.records().into_iter().map(status).collect()
}

/// How often each part began.
fn begun(scene: &Scene) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in scene.did() {
        if let Some(part) = line.strip_prefix("begin ") {
            *counts.entry(part.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

fn tell(what: &str, moment: &str, outcomes: &[String], counts: &BTreeMap<String, usize>) {
    let text = format!("\nkill -9 of {what} at `{moment}`: {outcomes:?}, begun {counts:?}\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_run_that_must_not_be_repeated_runs_no_step_twice_wherever_its_node_is_killed() {
    for moment in MOMENTS {
        let mut scene = scene(|s| slow(s, true).not_idempotent());
        let mut events = scene.break_it();
        let approval = scene.waiting();
        let id = approval["id"].as_str().unwrap();
        scene.node.post(
            &format!("/v1/approvals/{id}/approve"),
            &json!({ "by": "ana" }),
        );
        kill_at(&mut scene, moment, &mut events);
        let outcomes = settled(&scene);
        let counts = begun(&scene);
        tell(
            "a run that must not be repeated",
            moment,
            &outcomes,
            &counts,
        );
        for step in ["first", "second", "third"] {
            assert!(
                counts.get(step).is_none_or(|n| *n <= 1),
                "{moment}: {counts:?} {:?}",
                scene.did()
            );
        }
    }
}

#[test]
fn a_run_that_may_be_repeated_is_settled_wherever_its_node_is_killed() {
    for moment in MOMENTS {
        let mut scene = scene(|s| slow(s, true));
        let mut events = scene.break_it();
        kill_at(&mut scene, moment, &mut events);
        let outcomes = settled(&scene);
        let counts = begun(&scene);
        tell("a run that may be repeated", moment, &outcomes, &counts);
        let grants = scene
            .node
            .chain()
            .entries
            .iter()
            .filter(|e| e["kind"] == "intent")
            .count();
        for (part, n) in &counts {
            assert!(
                *n <= grants + 1,
                "{moment}: {part} began {n} times under {grants} grants"
            );
        }
    }
}

#[test]
fn a_node_killed_while_it_undoes_leaves_no_grant_open() {
    for moment in ["begin undo_second", "end undo_second", "begin undo_first"] {
        let mut scene = scene(|s| slow(s, false).not_idempotent());
        let mut events = scene.break_it();
        let approval = scene.waiting();
        let id = approval["id"].as_str().unwrap();
        scene.node.post(
            &format!("/v1/approvals/{id}/approve"),
            &json!({ "by": "ana" }),
        );
        kill_at(&mut scene, moment, &mut events);
        let outcomes = settled(&scene);
        let counts = begun(&scene);
        tell("a run that is undone", moment, &outcomes, &counts);
        assert!(!outcomes.contains(&"success".to_owned()), "{outcomes:?}");
        for step in ["first", "second", "third"] {
            assert!(
                counts.get(step).is_none_or(|n| *n <= 1),
                "{moment}: {counts:?}"
            );
        }
    }
}

#[test]
fn a_question_to_a_person_outlives_its_node() {
    let mut scene = scene(|s| slow(s, true).not_idempotent());
    scene.break_it();
    let asked = scene.waiting();
    scene.node.kill9();
    scene.node.start_again();
    let again = scene.waiting();
    assert_eq!(
        again["plan_digest"], asked["plan_digest"],
        "it asks for the same"
    );
    assert!(scene.did().is_empty(), "{:?}", scene.did());
    let mut events = scene.node.events();
    let id = again["id"].as_str().unwrap();
    scene.node.post(
        &format!("/v1/approvals/{id}/approve"),
        &json!({ "by": "ana" }),
    );
    let record = scene.record(&mut events, "victim");
    assert_eq!(record["outcome"]["status"], "success", "{record:#}");
    assert!(begun(&scene).values().all(|n| *n == 1), "{:?}", scene.did());
    scene.assert_nothing_is_left();
}

#[test]
fn a_node_that_is_killed_over_and_over_keeps_its_chain() {
    let mut scene = scene(|s| slow(s, true));
    let mut entries = 0;
    for round in 0..6 {
        std::fs::write(&scene.service.broken, "broken\n").unwrap();
        // At another moment each time, whatever the node does then.
        hale_tests::pause(Duration::from_millis(300 + 370 * round));
        scene.node.kill9();
        scene.node.start_again();
        let now = scene.node.chain().entries.len();
        assert!(
            now >= entries,
            "the chain had {entries} entries and has {now}"
        );
        entries = now;
    }
    std::fs::remove_file(&scene.service.broken).ok();
    let outcomes = settled(&scene);
    tell("a node over and over", "any", &outcomes, &begun(&scene));
}
