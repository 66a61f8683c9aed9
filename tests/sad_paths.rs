//! What happens when things don't go well: every way an incident can end without being healed, on
//! a real node with a real service that is broken.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_model::Stage;
use hale_tests::{Node, Playbook, SOON, Scene, Scratch, check, command};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// A playbook whose one step writes into `did`, and then heals the service.
fn healing(scratch: &Scratch, service: &str) -> Playbook {
    let note = Scene::note(scratch);
    let broken = scratch.text_path(&format!("{service}.broken"));
    Playbook::of(&format!("{service}_revive"), service)
        .step(command("say_so", &[&note, "healed"]))
        .step(command("mend", &["/bin/rm", "-f", &broken]))
        .verify(check("fine", "steps.mend.exit == 0"))
}

/// A scene whose playbook is made once its directory is there.
fn scene(service: &str, further: &str, playbook: impl FnOnce(&Scratch) -> Playbook) -> Scene {
    tagged(service, further, "", playbook)
}

fn tagged(
    service: &str,
    further: &str,
    settings: &str,
    playbook: impl FnOnce(&Scratch) -> Playbook,
) -> Scene {
    let scratch = Scratch::new();
    playbook(&scratch).write(&scratch);
    let mut scene = Scene::prepare(service, scratch, further, settings);
    scene.node.start_again();
    scene
}

fn status(record: &Value) -> &str {
    record["outcome"]["status"].as_str().unwrap()
}

#[test]
fn what_is_healed_is_recorded_as_success() {
    let scene = scene("alpha", "", |s| healing(s, "alpha"));
    let record = scene.record(&mut scene.break_it(), "alpha");
    assert_eq!(status(&record), "success", "{record:#}");
    assert_eq!(record["decision"]["playbook_selected"], "alpha_revive");
    assert_eq!(scene.did(), ["healed"]);
    assert!(!scene.service.is_broken());
    scene.assert_nothing_is_left();
}

#[test]
fn a_failing_pre_check_aborts_and_nothing_is_touched() {
    let scene = scene("bravo", "", |s| {
        healing(s, "bravo").pre_check(check("never", "1 > 2"))
    });
    let record = scene.record(&mut scene.break_it(), "bravo");
    assert_eq!(status(&record), "aborted", "{record:#}");
    assert_eq!(scene.did(), [""; 0]);
    assert!(scene.service.is_broken());
    for log in ["execution_log", "verification_log", "rollback_log"] {
        assert_eq!(record[log], json!([]), "{log}");
    }
    assert_eq!(record["pre_check_log"][0]["status"], "failed");
    scene.assert_nothing_is_left();
}

#[test]
fn a_failing_verification_undoes_the_steps_in_reverse_order() {
    let scene = scene("charlie", "", |s| {
        let note = Scene::note(s);
        let note = |name: &str, word: &str, of: &str| command(name, &[&note, word, of]);
        let undo = |name: &str, of: &str| format!("{}\nundoes: {of}", note(name, "undo", of));
        Playbook::of("charlie_revive", "charlie")
            .step(note("first", "do", "first"))
            .step(note("second", "do", "second"))
            .step(note("third", "do", "third"))
            .verify(check("never", "1 > 2"))
            .undo(undo("undo_first", "first"))
            .undo(undo("undo_second", "second"))
            .undo(undo("undo_third", "third"))
    });
    let record = scene.record(&mut scene.break_it(), "charlie");
    assert_eq!(status(&record), "rolled_back", "{record:#}");
    let did = [
        "do first",
        "do second",
        "do third",
        "undo third",
        "undo second",
        "undo first",
    ];
    assert_eq!(scene.did(), did);
    assert_eq!(record["outcome"]["rollback_triggered"], true);
    assert_eq!(record["outcome"]["verification_passed"], false);
    assert_eq!(record["rollback_log"].as_array().unwrap().len(), 3);
    scene.assert_nothing_is_left();
}

#[test]
fn a_step_that_fails_midway_undoes_only_what_was_begun() {
    let scene = scene("delta", "", |s| {
        let note = Scene::note(s);
        let undo =
            |name: &str, of: &str| format!("{}\nundoes: {of}", command(name, &[&note, "undo", of]));
        Playbook::of("delta_revive", "delta")
            .step(command("first", &[&note, "do first"]))
            .step(command("second", &["/bin/false"]))
            .step(command("third", &[&note, "do third"]))
            .verify(check("fine", "true"))
            .undo(undo("undo_first", "first"))
            .undo(undo("undo_third", "third"))
    });
    let record = scene.record(&mut scene.break_it(), "delta");
    assert_eq!(status(&record), "rolled_back", "{record:#}");
    assert_eq!(scene.did(), ["do first", "undo first"]);
    scene.assert_nothing_is_left();
}

#[test]
fn a_host_in_maintenance_is_left_alone() {
    let tag =
        "name: not_in_maintenance\ntype: tag_check\ntag: maintenance_mode\nexpect_value: false";
    let scene = tagged("echo", "", "tags = { maintenance_mode = \"true\" }", |s| {
        healing(s, "echo").pre_check(tag)
    });
    let record = scene.record(&mut scene.break_it(), "echo");
    assert_eq!(status(&record), "aborted", "{record:#}");
    assert_eq!(record["pre_check_log"][0]["kind"], "tag_check");
    assert_eq!(scene.did(), [""; 0]);
    scene.assert_nothing_is_left();
}

#[test]
fn trouble_that_no_playbook_fits_is_handed_to_a_person() {
    let scratch = Scratch::new();
    let log = scratch.write("quux.log", "INFO all is well\n");
    let sections = format!(
        "[telemetry]\ninterval = \"250ms\"\n[[telemetry.logs]]\npath = {log:?}\nservice = \"quux\"\n"
    );
    let node = Node::new(&scratch, &sections).start();
    let mut events = node.events();
    let mut log = std::fs::File::options().append(true).open(log).unwrap();
    for n in 0..6 {
        writeln!(
            log,
            "ERROR the flux of the tachyon grid lost its phase near buoy {n}"
        )
        .unwrap();
    }
    events.stage("quux", Stage::Escalated, SOON);
    let incident = events.recorded("quux", SOON).incident.unwrap().to_string();
    let chain = node.chain();
    let record = chain.record_of(&incident);
    assert_eq!(status(record), "escalated", "{record:#}");
    assert_eq!(record["outcome"]["human_intervention_required"], true);
    assert_eq!(record["execution_id"], Value::Null);
    assert_eq!(node.get("/v1/leases")["leases"], json!([]));
    chain.assert_sound();
}

#[test]
fn a_plan_that_a_person_refuses_is_not_run() {
    let scene = scene("foxtrot", "", |s| healing(s, "foxtrot").not_idempotent());
    let mut events = scene.break_it();
    let approval = scene.waiting();
    let id = approval["id"].as_str().unwrap();
    let body = json!({ "by": "ana", "reason": "not during the sale" });
    let denied = scene.node.post(&format!("/v1/approvals/{id}/deny"), &body);
    assert_eq!(denied["state"], "denied", "{denied:#}");
    let record = scene.record(&mut events, "foxtrot");
    assert_eq!(status(&record), "denied", "{record:#}");
    assert_eq!(scene.did(), [""; 0]);
    let again = scene
        .node
        .client()
        .try_post(&format!("/v1/approvals/{id}/approve"), &body);
    assert_eq!(again.status, 409, "{}", again.text());
    assert!(again.error()[2].contains("hale"), "{}", again.text());
    scene.assert_nothing_is_left();
}

#[test]
fn a_plan_that_nobody_answers_expires() {
    let further = "[executor]\napproval_ttl = \"2s\"\n";
    let scene = scene("golf", further, |s| healing(s, "golf").not_idempotent());
    let mut events = scene.break_it();
    let id = scene.waiting()["id"].as_str().unwrap().to_owned();
    let record = scene.record(&mut events, "golf");
    assert_eq!(status(&record), "expired", "{record:#}");
    let late = json!({ "by": "ana" });
    let late = scene
        .node
        .client()
        .try_post(&format!("/v1/approvals/{id}/approve"), &late);
    assert!([404, 409].contains(&late.status), "{}", late.text());
    assert_eq!(scene.did(), [""; 0]);
    scene.assert_nothing_is_left();
}

#[test]
fn a_plan_that_a_person_agrees_to_is_run_once() {
    let scene = scene("hotel", "", |s| healing(s, "hotel").not_idempotent());
    let mut events = scene.break_it();
    let approval = scene.waiting();
    let id = approval["id"].as_str().unwrap();
    let wrong = json!({ "by": "ana", "plan_digest": "0".repeat(64) });
    let wrong = scene
        .node
        .client()
        .try_post(&format!("/v1/approvals/{id}/approve"), &wrong);
    assert!(
        (400..500).contains(&wrong.status),
        "another plan was agreed to: {}",
        wrong.text()
    );
    assert_eq!(scene.did(), [""; 0]);
    let right = json!({ "by": "ana", "plan_digest": approval["plan_digest"] });
    scene
        .node
        .post(&format!("/v1/approvals/{id}/approve"), &right);
    let record = scene.record(&mut events, "hotel");
    assert_eq!(status(&record), "success", "{record:#}");
    assert_eq!(record["decision"]["approved_by"], "ana");
    assert_eq!(record["decision"]["execution_mode"], "approved");
    assert_eq!(record["decision"]["plan_digest"], approval["plan_digest"]);
    assert_eq!(scene.did(), ["healed"]);
    scene.assert_nothing_is_left();
}

#[test]
fn an_approval_does_not_hold_for_a_plan_that_changed() {
    let mut scene = scene("india", "", |s| healing(s, "india").not_idempotent());
    scene.break_it();
    let asked = scene.waiting();
    assert!(
        scene.node.stop().is_some_and(|s| s.success()),
        "it did not end well"
    );
    let note = Scene::note(&scene.scratch);
    healing(&scene.scratch, "india")
        .not_idempotent()
        .step(command("and_more", &[&note, "more than was asked"]))
        .write(&scene.scratch);
    scene.node.start_again();
    let mut events = scene.node.events();
    let id = asked["id"].as_str().unwrap();
    let yes = json!({ "by": "ana", "plan_digest": asked["plan_digest"] });
    // Whether the node notices before or after the answer: what ana saw is not what would be run.
    scene
        .node
        .client()
        .try_post(&format!("/v1/approvals/{id}/approve"), &yes);
    let record = scene.record(&mut events, "india");
    assert_eq!(status(&record), "escalated", "{record:#}");
    let reason = record["outcome"]["reason"].as_str().unwrap();
    assert!(reason.contains("the plan changed"), "{reason}");
    assert_eq!(scene.did(), [""; 0]);
    assert_eq!(scene.node.get("/v1/approvals")["approvals"], json!([]));
    scene.assert_nothing_is_left();
}

#[test]
fn trouble_that_ends_by_itself_is_not_treated() {
    let scene = scene("juliett", "", |s| healing(s, "juliett").not_idempotent());
    scene.learn();
    let mut events = scene.break_it();
    let id = scene.waiting()["id"].as_str().unwrap().to_owned();
    std::fs::remove_file(&scene.service.broken).unwrap();
    events.stage("juliett", Stage::Resolved, SOON);
    let record = scene.record(&mut events, "juliett");
    assert_eq!(status(&record), "self_resolved", "{record:#}");
    let late = json!({ "by": "ana" });
    let late = scene
        .node
        .client()
        .try_post(&format!("/v1/approvals/{id}/approve"), &late);
    assert!((400..500).contains(&late.status), "{}", late.text());
    assert_eq!(scene.did(), [""; 0]);
    scene.assert_nothing_is_left();
}

#[test]
fn a_frozen_node_starts_nothing_until_it_is_thawed() {
    let scene = scene("kilo", "", |s| healing(s, "kilo"));
    scene
        .node
        .cli(&["freeze", "--by", "ana", "--reason", "audit week"])
        .succeeded();
    let mut events = scene.break_it();
    events.stage("kilo", Stage::Confident, SOON);
    // However long it is broken: several rounds of the sensors.
    hale_tests::pause(Duration::from_secs(2));
    assert_eq!(scene.did(), [""; 0], "{}", events.story());
    assert!(scene.service.is_broken());
    scene.node.cli(&["thaw", "--by", "ana"]).succeeded();
    let state = scene.node.get("/v1/freeze");
    assert_eq!(state["frozen"], false);
    scene.assert_nothing_is_left();
}
