//! The machine in a world of its own: a ledger, a journal, a clock and actions, each of which may
//! be slow, fail or go silent.

mod crash;
mod faults;
mod world;

use super::{Effect, Event, Run};
use crate::journal::Phase;
use crate::tests::samples;
use hale_model::ledger::{Answer, Disposition, Refusal};
use hale_model::{Fence, Keypair, OutcomeStatus};
use hale_playbooks::Expr;
use hale_playbooks::language::{FailAction, Playbook, Step};
use std::time::Duration;
use world::{World, setup};

fn run(playbook: Playbook) -> World {
    let mut world = World::new(setup(playbook));
    world.begin();
    world
}

fn outcome(world: &World) -> (OutcomeStatus, Option<Disposition>) {
    let f = world.finished.as_ref().expect("it has ended");
    (f.report.outcome.status, f.close.map(|c| c.disposition))
}

fn done_names(world: &World) -> Vec<&str> {
    world
        .performed
        .iter()
        .map(|(_, name)| name.as_str())
        .collect()
}

#[test]
fn a_run_checks_acts_verifies_and_is_done() {
    let mut w = run(samples::playbook());
    w.settle();
    assert_eq!(
        outcome(&w),
        (OutcomeStatus::Success, Some(Disposition::Done))
    );
    assert_eq!(done_names(&w), ["ready", "first", "second", "healthy"]);
    let report = &w.finished.as_ref().unwrap().report;
    assert!(report.outcome.verification_passed && !report.outcome.rollback_triggered);
    assert_eq!(report.fence, Some(w.ledger.fence));
}

#[test]
fn a_failing_pre_check_aborts_untouched() {
    let mut w = run(samples::playbook());
    w.fail("ready");
    w.settle();
    assert_eq!(
        outcome(&w),
        (OutcomeStatus::Aborted, Some(Disposition::Released))
    );
    assert_eq!(done_names(&w), ["ready"]);
}

#[test]
fn a_failing_verification_undoes_the_steps_in_reverse() {
    let mut w = run(samples::playbook());
    w.fail("healthy");
    w.settle();
    assert_eq!(
        outcome(&w),
        (OutcomeStatus::RolledBack, Some(Disposition::RolledBack))
    );
    assert_eq!(
        done_names(&w)[4..],
        ["undo_second", "undo_first", "undo_always"]
    );
}

#[test]
fn a_failing_step_undoes_itself_too_because_it_may_have_half_run() {
    let mut w = run(samples::playbook());
    w.fail("first");
    w.settle();
    assert_eq!(done_names(&w)[2..], ["undo_first", "undo_always"]);
}

#[test]
fn what_can_not_be_undone_is_told_as_failed() {
    let mut w = run(samples::playbook());
    w.fail("second");
    w.fail("undo_second");
    w.settle();
    assert_eq!(
        outcome(&w),
        (OutcomeStatus::Failed, Some(Disposition::Done))
    );
    let reason = &w.finished.as_ref().unwrap().report.outcome.reason;
    assert!(reason.contains("`second` failed") && reason.contains("`undo_second` failed"));
}

fn with_check(change: impl Fn(&mut Step)) -> World {
    let mut playbook = samples::playbook();
    change(&mut playbook.pre_execution_checks[0]);
    run(playbook)
}

#[test]
fn fail_actions_of_a_check() {
    let cases = [
        (FailAction::Abort, OutcomeStatus::Aborted),
        (FailAction::Rollback, OutcomeStatus::Aborted),
        (FailAction::Escalate, OutcomeStatus::Escalated),
        (FailAction::Warn, OutcomeStatus::Success),
        (FailAction::Wait, OutcomeStatus::Aborted),
    ];
    for (action, status) in cases {
        let mut w = with_check(|s| s.fail_action = action);
        w.fail("ready");
        w.settle();
        assert_eq!(outcome(&w).0, status, "{action:?}");
    }
}

#[test]
fn waiting_tries_again_until_it_holds() {
    let mut w = with_check(|s| s.fail_action = FailAction::Wait);
    w.fail_times("ready", 5);
    w.settle();
    assert_eq!(outcome(&w).0, OutcomeStatus::Success);
    assert_eq!(
        w.finished.as_ref().unwrap().report.pre_check_log[0].attempts,
        6
    );
}

#[test]
fn retries_are_counted() {
    let mut w = with_check(|s| s.retries = 2);
    w.fail("ready");
    w.settle();
    assert_eq!(done_names(&w), ["ready"; 3]);
}

#[test]
fn a_step_that_does_not_apply_is_skipped_and_not_undone() {
    let mut playbook = samples::playbook();
    playbook.steps[0].when = Some(Expr::parse("incident.value < 0.0").unwrap());
    let mut w = run(playbook);
    w.fail("healthy");
    w.settle();
    assert_eq!(
        done_names(&w),
        ["ready", "second", "healthy", "undo_second", "undo_always"]
    );
}

#[test]
fn what_is_expected_of_a_result_must_hold() {
    let mut w = with_check(|s| s.expect = Some(Expr::parse("result.n > 100").unwrap()));
    w.settle();
    assert_eq!(outcome(&w).0, OutcomeStatus::Aborted);
    let mut w = with_check(|s| s.expect = Some(Expr::parse("result.missing == 1").unwrap()));
    w.settle();
    assert_eq!(outcome(&w).0, OutcomeStatus::Aborted);
}

#[test]
fn a_verification_has_to_hold_without_a_break() {
    let mut playbook = samples::playbook();
    playbook.verification[0].hold = Duration::from_secs(5);
    playbook.verification[0].retries = 1;
    let mut w = run(playbook);
    w.fail_times_after("healthy", 3, 1);
    w.settle();
    assert_eq!(outcome(&w).0, OutcomeStatus::Success);
    // Three that held, one that failed, then six seconds from the start again.
    assert_eq!(
        w.performed.iter().filter(|(_, n)| n == "healthy").count(),
        10
    );
}

/// With a second verification, which fails so often before it passes.
fn two_that_hold(seconds: [u64; 2], fails: usize) -> World {
    let mut playbook = samples::playbook();
    let mut second = playbook.verification[0].clone();
    second.name = "healthy_too".into();
    second.retries = 60;
    playbook.verification.push(second);
    for (step, seconds) in playbook.verification.iter_mut().zip(seconds) {
        step.hold = Duration::from_secs(seconds);
    }
    let mut w = run(playbook);
    w.fail_times_after("healthy_too", 0, fails);
    w.settle();
    assert_eq!(outcome(&w).0, OutcomeStatus::Success);
    let report = &w.finished.as_ref().unwrap().report;
    let lines: Vec<_> = report.verification_log.iter().map(|l| &l.step).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    w
}

fn looks(w: &World, name: &str) -> usize {
    w.performed.iter().filter(|(_, n)| n == name).count()
}

#[test]
fn verifications_that_have_to_hold_do_so_together() {
    let alone = two_that_hold([5, 0], 0).now;
    let w = two_that_hold([5, 5], 0);
    assert!(
        w.now < alone + Duration::from_secs(2),
        "{:?} and {alone:?}",
        w.now
    );
    assert_eq!([looks(&w, "healthy"), looks(&w, "healthy_too")], [6, 6]);
    // The one that holds for less is done with sooner.
    let w = two_that_hold([2, 5], 0);
    assert_eq!([looks(&w, "healthy"), looks(&w, "healthy_too")], [3, 6]);
}

#[test]
fn what_nobody_looked_at_meanwhile_has_to_hold_anew() {
    let w = two_that_hold([5, 0], 20);
    assert_eq!([looks(&w, "healthy"), looks(&w, "healthy_too")], [7, 21]);
}

#[test]
fn while_one_is_tried_again_the_others_do_not_hold_unseen() {
    let mut playbook = samples::playbook();
    let mut second = playbook.verification[0].clone();
    second.name = "healthy_too".into();
    second.retries = 60;
    playbook.verification.push(second);
    for step in &mut playbook.verification {
        step.hold = Duration::from_secs(5);
    }
    let mut w = run(playbook);
    // It breaks in the round, for twenty seconds.
    w.fail_times_after("healthy_too", 2, 20);
    w.settle();
    assert_eq!(outcome(&w).0, OutcomeStatus::Success);
    let last: Vec<&str> = w.performed.iter().rev().map(|(_, n)| n.as_str()).collect();
    let after = last.iter().take(12).filter(|n| **n == "healthy").count();
    assert!(after >= 5, "it was looked at {after} times after the break");
}

#[test]
fn a_step_that_takes_too_long_is_stopped_and_undone() {
    let mut w = run(samples::playbook());
    w.hang("second");
    w.settle();
    assert_eq!(outcome(&w).0, OutcomeStatus::RolledBack);
    let report = &w.finished.as_ref().unwrap().report;
    assert!(report.execution_log[1].message.contains("longer than 10 s"));
}

#[test]
fn a_run_over_its_longest_duration_is_undone() {
    let mut playbook = samples::playbook();
    playbook.max_duration = Duration::from_secs(4);
    playbook.steps[0].fail_action = FailAction::Wait;
    let mut w = run(playbook);
    w.fail("first");
    w.settle();
    // The wait was cut short: there was no time for its full thirty seconds.
    assert!(w.now < Duration::from_secs(10));
    assert_eq!(outcome(&w).1, Some(Disposition::RolledBack));
}

#[test]
fn a_scope_that_another_holds_is_waited_for_and_then_escalated() {
    let mut w = World::new(setup(samples::playbook()));
    w.ledger.held_by_another_until = Some(Duration::from_secs(20));
    w.begin();
    w.settle();
    assert_eq!(outcome(&w).0, OutcomeStatus::Success);
    let mut w = World::new(setup(samples::playbook()));
    w.ledger.held_by_another_until = Some(Duration::from_secs(1000));
    w.begin();
    w.settle();
    assert_eq!(outcome(&w), (OutcomeStatus::Escalated, None));
    assert!(w.performed.is_empty());
}

#[test]
fn a_frozen_cluster_starts_nothing_more_and_says_where_it_stopped() {
    let mut w = run(samples::playbook());
    w.until_performing("first");
    w.tell(Event::Frozen(true));
    w.settle();
    assert_eq!(
        outcome(&w),
        (OutcomeStatus::Escalated, Some(Disposition::Done))
    );
    assert_eq!(done_names(&w), ["ready", "first"], "what ran was let end");
    let reason = &w.finished.as_ref().unwrap().report.outcome.reason;
    assert!(
        reason.contains("frozen before `second`") && reason.contains("hale thaw"),
        "{reason}"
    );
}

#[test]
fn an_incident_that_resolves_by_itself_is_not_acted_on() {
    let mut w = run(samples::playbook());
    w.until_performing("ready");
    w.tell(Event::IncidentResolved);
    w.settle();
    assert_eq!(
        outcome(&w),
        (OutcomeStatus::SelfResolved, Some(Disposition::Released))
    );
    assert_eq!(done_names(&w), ["ready"]);
}

#[test]
fn an_incident_that_resolves_after_a_step_is_still_verified() {
    let mut w = run(samples::playbook());
    w.until_performing("first");
    w.tell(Event::IncidentResolved);
    w.settle();
    assert_eq!(outcome(&w).0, OutcomeStatus::Success);
}

#[test]
fn a_holder_that_loses_its_lease_kills_its_child_and_does_no_further_step() {
    let mut playbook = samples::playbook();
    playbook.steps[0].timeout = Duration::from_secs(300);
    let mut w = run(playbook);
    w.hang("first");
    w.until_performing("first");
    w.ledger.is_cut_off = true;
    w.settle();
    assert_eq!(
        outcome(&w),
        (OutcomeStatus::Abandoned, Some(Disposition::Abandoned))
    );
    assert_eq!(done_names(&w), ["ready", "first"]);
    assert!(w.kills > 0);
}

#[test]
fn a_lease_that_is_had_again_lets_an_idempotent_run_go_on_and_undoes_another() {
    for is_idempotent in [true, false] {
        let mut playbook = samples::playbook();
        playbook.idempotent = is_idempotent;
        playbook.steps[0].timeout = Duration::from_secs(300);
        let mut w = run(playbook);
        w.hang("first");
        w.until_performing("first");
        // The leader renewed, but its answers do not arrive.
        w.ledger.is_mute = true;
        w.until(|w| w.kills > 0);
        w.ledger.is_mute = false;
        w.unhang();
        w.settle();
        let status = outcome(&w).0;
        if is_idempotent {
            assert_eq!(status, OutcomeStatus::Success);
        } else {
            assert_eq!(status, OutcomeStatus::RolledBack);
            assert_eq!(
                done_names(&w),
                ["ready", "first", "undo_first", "undo_always"]
            );
        }
    }
}

#[test]
fn a_run_whose_journal_can_not_be_written_starts_nothing() {
    let mut w = World::new(setup(samples::playbook()));
    w.journal_fails = true;
    w.begin();
    w.settle();
    assert_eq!(outcome(&w), (OutcomeStatus::Escalated, None));
    assert!(w.performed.is_empty());
}

#[test]
fn a_place_in_line_and_a_spent_budget_are_waited_for() {
    let plan = setup(samples::playbook()).intent.plan;
    let refusals = [
        Refusal::LookedAt {
            scope: plan.scope.clone(),
            fence: Fence(3),
            node: Keypair::from_seed(&[9; 32]).node_id(),
        },
        Refusal::Queued {
            scope: plan.scope,
            position: 2,
            ahead: plan.execution,
        },
        Refusal::BudgetSpent {
            budget: "restarts".into(),
            limit_text: "at most 1 an hour".into(),
            used: 1,
        },
    ];
    for refusal in refusals {
        let mut run = Run::new(setup(samples::playbook()));
        let t = Duration::from_secs(1);
        run.on(t, samples::OPENED, Event::Begin);
        let result = Ok(());
        run.on(t, samples::OPENED, Event::Journaled { seq: 0, result });
        let answer = Ok(Answer::Refused(refusal));
        run.on(t, samples::OPENED, Event::Leased { ask: 1, answer });
        assert!(!run.is_over());
        let again = run.next_wake().unwrap();
        assert_eq!(again, t + Duration::from_secs(1));
        let effects = run.on(again, samples::OPENED, Event::Tick);
        assert!(matches!(effects[..], [Effect::Acquire { ask: 2 }]));
    }
}

#[test]
fn a_refused_approval_escalates_with_what_the_ledger_said() {
    let mut run = Run::new(setup(samples::playbook()));
    let t = Duration::from_secs(1);
    run.on(t, samples::OPENED, Event::Begin);
    let effects = run.on(
        t,
        samples::OPENED,
        Event::Journaled {
            seq: 0,
            result: Ok(()),
        },
    );
    assert!(matches!(effects[..], [Effect::Acquire { ask: 1 }]));
    let refusal = Refusal::BadSignature;
    let answer = Ok(Answer::Refused(refusal));
    let effects = run.on(t, samples::OPENED, Event::Leased { ask: 1, answer });
    assert!(effects.iter().any(|e| matches!(e, Effect::Journal { .. })));
    let effects = run.on(
        t,
        samples::OPENED,
        Event::Journaled {
            seq: 1,
            result: Ok(()),
        },
    );
    let [Effect::Finish(finished)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(finished.close, None);
    assert!(finished.report.outcome.reason.contains("signature"));
    assert!(run.is_over() && run.next_wake().is_none());
    let late = Ok(Answer::Granted {
        fence: Fence(1),
        ttl_ms: 1,
    });
    assert!(
        run.on(
            t,
            samples::OPENED,
            Event::Leased {
                ask: 1,
                answer: late
            }
        )
        .is_empty()
    );
    assert_eq!(run.running().phase, None::<Phase>);
}
