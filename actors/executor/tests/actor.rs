//! The actor with real commands: what becomes of decisions, answers, restarts.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
mod world;

use hale_executor::actor::{Manual, ManualAnswer, Message};
use hale_model::execution::Mode;
use hale_model::ledger::{ApprovalState, Disposition};
use hale_model::{
    Digest, Fence, IncidentState, OutcomeStatus, PlaybookName, Route, ServiceName, Share, Stage,
};
use hale_playbooks::Expr;
use hale_playbooks::language::{Action, FailAction, Probe, Step, Weight};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use support::{command, step, until};
use world::*;

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("did");
    (dir, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_run_alone_is_run_and_handed_over_with_its_grant() {
    let (_dir, file) = scratch();
    let world = World::start(vec![playbook("revive", &file)]).await;
    world.decide(&incident(1), Route::Execute, "revive").await;
    let finished = world.finished(1).await;
    let report = &finished[0].report;
    assert_eq!(report.outcome.status, OutcomeStatus::Success, "{report:?}");
    assert_eq!(finished[0].close.unwrap().disposition, Disposition::Done);
    assert_eq!(report.fence, Some(Fence(1)));
    assert_eq!(noted(&file), ["check", "first", "second", "verify"]);
    let outside = world.outside.lock().unwrap();
    let stages: Vec<Stage> = outside.progress.iter().map(|p| p.stage).collect();
    let expected = [
        Stage::Leased,
        Stage::Checked,
        Stage::Acted,
        Stage::Acted,
        Stage::Verified,
    ];
    assert_eq!(stages, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_fits_is_handed_to_a_human_once() {
    let (_dir, file) = scratch();
    let world = World::start(vec![playbook("revive", &file)]).await;
    world.decide(&incident(1), Route::Escalate, "revive").await;
    world.decide(&incident(1), Route::Escalate, "revive").await;
    world.decide(&incident(2), Route::Execute, "gone").await;
    let finished = world.finished(2).await;
    for f in &finished {
        assert_eq!(f.report.outcome.status, OutcomeStatus::Escalated);
        assert!(f.close.is_none() && f.report.outcome.human_intervention_required);
    }
    assert!(
        finished
            .iter()
            .any(|f| f.report.outcome.reason.contains("no playbook `gone`"))
    );
    assert!(noted(&file).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_agreed_to_is_run_in_the_name_of_who_agreed() {
    let (_dir, file) = scratch();
    let world = World::start(vec![playbook("revive", &file)]).await;
    world.decide(&incident(1), Route::Ask, "revive").await;
    let question = world.question().await;
    assert!(noted(&file).is_empty());
    assert_eq!(
        (question.confidence_ppm, question.ttl_ms),
        (930_000, 1_800_000)
    );
    world.answer(&question, ApprovalState::Approved);
    let finished = world.finished(1).await;
    assert_eq!(finished[0].report.outcome.status, OutcomeStatus::Success);
    assert_eq!(finished[0].report.mode, Mode::Approved { by: "ana".into() });
    let outside = world.outside.lock().unwrap();
    assert_eq!(outside.approvals[&question.id].state, ApprovalState::Used);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_repeated_always_asks() {
    let (_dir, file) = scratch();
    let world = World::start(vec![hale_playbooks::Playbook {
        idempotent: false,
        ..playbook("revive", &file)
    }])
    .await;
    world.decide(&incident(1), Route::Execute, "revive").await;
    world.question().await;
    assert!(noted(&file).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_or_no_answer_is_recorded_and_nothing_runs() {
    let cases = [
        (ApprovalState::Denied, OutcomeStatus::Denied),
        (ApprovalState::Expired, OutcomeStatus::Expired),
    ];
    for (state, status) in cases {
        let (_dir, file) = scratch();
        let world = World::start(vec![playbook("revive", &file)]).await;
        world.decide(&incident(1), Route::Ask, "revive").await;
        let question = world.question().await;
        world.answer(&question, state);
        let finished = world.finished(1).await;
        assert_eq!(finished[0].report.outcome.status, status);
        assert!(finished[0].report.plan.is_some());
        assert!(noted(&file).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_changed_since_it_was_shown_is_not_run() {
    let (_dir, file) = scratch();
    let world = World::start(vec![playbook("revive", &file)]).await;
    world.decide(&incident(1), Route::Ask, "revive").await;
    let question = world.question().await;
    let mut edited = playbook("revive", &file);
    edited.digest = Digest::of(b"edited");
    world.actor.cast(Message::Reload(vec![edited])).unwrap();
    world.answer(&question, ApprovalState::Approved);
    let finished = world.finished(1).await;
    let outcome = &finished[0].report.outcome;
    assert_eq!(outcome.status, OutcomeStatus::Escalated);
    assert!(
        outcome.reason.contains("plan changed"),
        "{}",
        outcome.reason
    );
    assert!(noted(&file).is_empty());
    let state = || world.outside.lock().unwrap().approvals[&question.id].state;
    until("the approval can't be used any more", || {
        state() == ApprovalState::Superseded
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_that_ends_by_itself_withdraws_its_question() {
    let (_dir, file) = scratch();
    let world = World::start(vec![playbook("revive", &file)]).await;
    let it = incident(1);
    world.decide(&it, Route::Ask, "revive").await;
    let question = world.question().await;
    world.actor.cast(Message::IncidentResolved(it.id)).unwrap();
    let finished = world.finished(1).await;
    assert_eq!(
        finished[0].report.outcome.status,
        OutcomeStatus::SelfResolved
    );
    let state = || world.outside.lock().unwrap().approvals[&question.id].state;
    until("the question is withdrawn", || {
        state() == ApprovalState::Superseded
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_cluster_runs_nothing() {
    let (_dir, file) = scratch();
    let world = World::start(vec![playbook("revive", &file)]).await;
    world.outside.lock().unwrap().frozen = true;
    world.decide(&incident(1), Route::Execute, "revive").await;
    let finished = world.finished(1).await;
    assert_eq!(finished[0].report.outcome.status, OutcomeStatus::Escalated);
    assert!(finished[0].report.outcome.reason.contains("frozen"));
    assert!(noted(&file).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_on_one_scope_come_one_after_the_other() {
    let (_dir, file) = scratch();
    let mut slow = playbook("revive", &file);
    slow.steps[0] = step(
        "slow",
        command(&[
            "sh",
            "-c",
            &format!("echo in >> {0}; sleep 0.2; echo out >> {0}", file.display()),
        ]),
    );
    slow.steps.truncate(1);
    slow.pre_execution_checks.clear();
    slow.verification.clear();
    slow.rollback.clear();
    let world = World::start(vec![slow]).await;
    for n in 0..4 {
        world.decide(&incident(n), Route::Execute, "revive").await;
    }
    world.finished(4).await;
    assert_eq!(noted(&file), ["in", "out"].repeat(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_verification_undoes_and_a_hanging_step_is_seen_while_it_runs() {
    let (_dir, file) = scratch();
    let mut bad = playbook("revive", &file);
    bad.steps[1] = step("hang", command(&["sleep", "1000"]));
    bad.steps[1].timeout = Duration::from_millis(700);
    bad.steps[1].fail_action = FailAction::Rollback;
    let world = World::start(vec![bad]).await;
    world.decide(&incident(1), Route::Execute, "revive").await;
    let mut seen = None;
    for _ in 0..400 {
        let running = world
            .actor
            .call(Message::Running, Some(Duration::from_secs(5)))
            .await
            .unwrap();
        seen = running
            .success_or(())
            .unwrap()
            .into_iter()
            .find(|r| r.step.as_deref() == Some("hang"));
        if seen.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(seen.expect("it is seen").fence, Some(Fence(1)));
    let finished = world.finished(1).await;
    assert_eq!(finished[0].report.outcome.status, OutcomeStatus::RolledBack);
    assert_eq!(noted(&file), ["check", "first", "undo_first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_would_be_done_and_does_nothing() {
    let (_dir, file) = scratch();
    let world = World::start(vec![playbook("revive", &file)]).await;
    let manual = |dry_run| Manual {
        playbook: PlaybookName::new("revive").unwrap(),
        incident: None,
        service: Some(ServiceName::new("shop").unwrap()),
        params: BTreeMap::new(),
        dry_run,
        by: "ana".into(),
    };
    let run = async |m: Manual| {
        let answer = world.actor.call(
            |r| Message::RunManual(Box::new(m), r),
            Some(Duration::from_secs(10)),
        );
        answer.await.unwrap().success_or(()).unwrap()
    };
    let Ok(ManualAnswer::DryRun(told)) = run(manual(true)).await else {
        panic!("a dry run")
    };
    assert_eq!(told.steps.len(), 6, "a command is no check that only looks");
    assert!(told.steps[1].texts[2].contains("echo first"));
    assert!(noted(&file).is_empty());
    assert!(matches!(
        run(manual(false)).await,
        Ok(ManualAnswer::Started { .. })
    ));
    let finished = world.finished(1).await;
    assert_eq!(finished[0].report.mode, Mode::Manual { by: "ana".into() });
    assert_eq!(finished[0].report.outcome.status, OutcomeStatus::Success);
    let unknown = Manual {
        playbook: PlaybookName::new("other").unwrap(),
        ..manual(true)
    };
    assert!(run(unknown).await.unwrap_err().contains("hale playbook ls"));
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_look_at_the_host_all_at_once_and_change_nothing() {
    let (_dir, file) = scratch();
    let probe = |name: &str, argv: &[&str], expect: Option<&str>| Probe {
        step: Step {
            expect: expect.map(|e| Expr::parse(e).unwrap()),
            timeout: Duration::from_secs(1),
            ..step(name, command(argv))
        },
        weight: Weight::Strong,
    };
    let mut known = playbook("revive", &file);
    known.diagnose = vec![
        probe(
            "there",
            &["echo", "three"],
            Some("result.stdout.contains('three')"),
        ),
        probe(
            "not_there",
            &["echo", "three"],
            Some("result.stdout.contains('four')"),
        ),
        probe("fails", &["false"], None),
        probe("can_not_tell", &["/no/such/program"], None),
        probe("has_no_such_field", &["true"], Some("result.nothing > 1")),
        probe("takes_too_long", &["sleep", "30"], None),
    ];
    let condition = |text: &str| Action::Condition {
        condition: Expr::parse(text).unwrap(),
    };
    known.pre_execution_checks.extend([
        step(
            "it_can_be_restarted",
            condition("has(service.restart_command)"),
        ),
        step("it_has_a_name", condition("has(service.name)")),
        step("it_is_known_later", condition("steps.check.exit == 1")),
    ]);
    let world = World::start(vec![known]).await;
    let begun = std::time::Instant::now();
    let names = ["revive", "unknown"].map(|n| PlaybookName::new(n).unwrap());
    let answer = world.actor.call(
        |r| Message::Diagnose(Box::new(incident(1)), names.to_vec(), r),
        Some(Duration::from_secs(20)),
    );
    let told = answer.await.unwrap().success_or(()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(told.share, Some(Share::Held(Fence(1001))));
    assert!(world.outside.lock().unwrap().looks.is_empty(), "given back");
    assert_eq!(told.found.len(), 1, "what is not known has no probes");
    let found: Vec<_> = told.found[0]
        .1
        .iter()
        .map(|f| (f.probe.as_str(), f.found))
        .collect();
    assert_eq!(
        found,
        [
            ("it_can_be_restarted", Some(false)),
            ("there", Some(true)),
            ("not_there", Some(false)),
            ("fails", Some(false)),
            ("can_not_tell", None),
            ("has_no_such_field", None),
            ("takes_too_long", None),
        ]
    );
    assert!(
        noted(&file).is_empty(),
        "nothing of the playbook itself ran"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_whose_grant_is_heard_of_too_late_is_given_back() {
    let (_dir, file) = scratch();
    let mut known = playbook("revive", &file);
    known.diagnose = vec![Probe {
        step: step("there", command(&["true"])),
        weight: Weight::Strong,
    }];
    let world = World::start(vec![known]).await;
    world.outside.lock().unwrap().look_answered_after = Duration::from_secs(4);
    let names = vec![PlaybookName::new("revive").unwrap()];
    let answer = world.actor.call(
        |r| Message::Diagnose(Box::new(incident(1)), names, r),
        Some(Duration::from_secs(20)),
    );
    let told = answer.await.unwrap().success_or(()).unwrap();
    assert!(matches!(told.share, Some(Share::Without(_))), "{told:?}");
    assert_eq!(told.found[0].1[0].found, Some(true));
    until("it is given back", || {
        world.outside.lock().unwrap().looks.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_wait_for_who_acts_there_and_then_look_all_the_same() {
    let (_dir, file) = scratch();
    let mut known = playbook("revive", &file);
    let is_seen = Probe {
        step: step("there", command(&["true"])),
        weight: Weight::Strong,
    };
    known.diagnose = vec![is_seen];
    known
        .steps
        .insert(0, step("slow", command(&["sleep", "4"])));
    let world = World::start(vec![known]).await;
    world.decide(&incident(1), Route::Execute, "revive").await;
    until("it is leased", || {
        world
            .outside
            .lock()
            .unwrap()
            .grants
            .values()
            .any(|l| l.live)
    })
    .await;
    let begun = std::time::Instant::now();
    let names = vec![PlaybookName::new("revive").unwrap()];
    let answer = world.actor.call(
        |r| Message::Diagnose(Box::new(incident(2)), names, r),
        Some(Duration::from_secs(20)),
    );
    let told = answer.await.unwrap().success_or(()).unwrap();
    assert!(begun.elapsed() > Duration::from_millis(1400));
    let Some(Share::Without(why)) = told.share else {
        panic!("{told:?}");
    };
    assert!(why.contains("is leased under fence 1"), "{why}");
    assert_eq!(told.found[0].1[0].found, Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_at_any_record_closes_its_grant_once_when_it_is_back() {
    for idempotent in [true, false] {
        for dies_after in 0..9 {
            let (_dir, file) = scratch();
            let book = hale_playbooks::Playbook {
                idempotent,
                ..playbook("revive", &file)
            };
            let world = World::start(vec![book]).await;
            let it = incident(1);
            world.outside.lock().unwrap().dies_after = Some(dies_after + usize::from(!idempotent));
            world.decide(&it, Route::Execute, "revive").await;
            if !idempotent {
                let question = world.question().await;
                world.answer(&question, ApprovalState::Approved);
            }
            until("it comes as far as its journal lets it", || {
                world.outside.lock().unwrap().has_stopped()
            })
            .await;
            let world = world.restart().await;
            let wait = async { world.finished(1).await };
            let undecided = dies_after == 0 && noted(&file).is_empty();
            if undecided && idempotent {
                // Nothing was written, so nothing is known: the decision is made again.
                world.decide(&it, Route::Execute, "revive").await;
            }
            let finished = wait.await;
            let did = noted(&file);
            let status = finished[0].report.outcome.status;
            let often = |name: &str| did.iter().filter(|d| *d == name).count();
            if idempotent {
                assert_eq!(
                    status,
                    OutcomeStatus::Success,
                    "died after {dies_after}: {did:?}"
                );
            } else {
                let fine = [OutcomeStatus::Success, OutcomeStatus::RolledBack];
                assert!(
                    fine.contains(&status),
                    "died after {dies_after}: {status:?} {did:?}"
                );
                for step in ["first", "second", "undo_first", "undo_second"] {
                    assert!(often(step) <= 1, "died after {dies_after}: {did:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_outlives_its_node() {
    let (_dir, file) = scratch();
    let world = World::start(vec![playbook("revive", &file)]).await;
    world.decide(&incident(1), Route::Ask, "revive").await;
    let question = world.question().await;
    until("it is written down", || {
        !world.outside.lock().unwrap().journal.is_empty()
    })
    .await;
    let outside = std::sync::Arc::clone(&world.outside);
    // The answer comes while the node is down.
    outside
        .lock()
        .unwrap()
        .approvals
        .get_mut(&question.id)
        .unwrap()
        .state = ApprovalState::Approved;
    let world = world.restart().await;
    let finished = world.finished(1).await;
    assert_eq!(finished[0].report.outcome.status, OutcomeStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_no_journal_knows_of_is_closed_as_abandoned() {
    let (_dir, file) = scratch();
    let mut slow = playbook("revive", &file);
    slow.steps[1] = step("hang", command(&["sleep", "1000"]));
    let world = World::start(vec![slow]).await;
    world.decide(&incident(1), Route::Execute, "revive").await;
    until("it runs", || noted(&file).contains(&"first".to_owned())).await;
    let outside = std::sync::Arc::clone(&world.outside);
    outside.lock().unwrap().dies_after = Some(0);
    let restarting = world.restart();
    outside.lock().unwrap().journal.clear();
    let world = restarting.await;
    let finished = world.finished(1).await;
    assert_eq!(finished[0].report.outcome.status, OutcomeStatus::Abandoned);
    assert_eq!(
        finished[0].close.unwrap().disposition,
        Disposition::Abandoned
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_that_is_over_when_its_run_would_begin_is_left_alone() {
    let (_dir, file) = scratch();
    let world = World::start(vec![playbook("revive", &file)]).await;
    let mut it = incident(1);
    it.state = IncidentState::Resolved;
    world.decide(&it, Route::Execute, "revive").await;
    let finished = world.finished(1).await;
    assert_eq!(
        finished[0].report.outcome.status,
        OutcomeStatus::SelfResolved
    );
    assert_eq!(
        world.outside.lock().unwrap().intents,
        0,
        "not even a lease was asked for"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_left_is_not_gone_on_with_while_the_cluster_is_frozen() {
    let (_dir, file) = scratch();
    let world = World::start(vec![playbook("revive", &file)]).await;
    // It dies once the first step is written down, before it runs.
    world.outside.lock().unwrap().dies_after = Some(3);
    world.decide(&incident(1), Route::Execute, "revive").await;
    until("it has come that far", || {
        world.outside.lock().unwrap().has_stopped()
    })
    .await;
    let did = noted(&file);
    world.outside.lock().unwrap().frozen = true;
    let world = world.restart().await;
    let finished = world.finished(1).await;
    let outcome = &finished[0].report.outcome;
    assert_eq!(outcome.status, OutcomeStatus::Escalated, "{outcome:?}");
    assert_eq!(noted(&file), did, "nothing more was run");
}
