//! A node that dies at any moment of a run, and what it does about it when it is back.

use super::world::{World, setup};
use crate::journal::{self, Phase, Recovery};
use crate::run::{Event, Run};
use crate::tests::samples;
use hale_model::OutcomeStatus;
use hale_model::ledger::Disposition;
use hale_playbooks::language::Playbook;
use std::time::Duration;

/// What became of a run that died after so many events and was recovered.
struct Aftermath {
    before: Vec<(Phase, String)>,
    after: Vec<(Phase, String)>,
    status: OutcomeStatus,
    disposition: Option<Disposition>,
    was_handed_over: bool,
}

/// Runs until `events` answers were given, dies, is away for a while and comes back.
/// None if the run was over before.
fn crash(
    playbook: &Playbook,
    failing: Option<&str>,
    events: usize,
    away: Duration,
    is_open: bool,
) -> Option<Aftermath> {
    let mut world = World::new(setup(playbook.clone()));
    if let Some(name) = failing {
        world.fail(name);
    }
    world.begin();
    for _ in 0..events {
        if world.run.is_over() {
            return None;
        }
        match world.pending.len() {
            0 => world.pass(world.run.next_wake().unwrap().saturating_sub(world.now)),
            _ => world.answer(0, 0),
        }
    }
    let rows: Vec<_> = world.journal.clone().into_iter().collect();
    let mut found = journal::read(&rows);
    assert!(found.unreadable.is_empty());
    let records = found.runs.pop_first().map(|(_, r)| r).unwrap_or_default();
    match journal::recover(&records) {
        // Nothing was written: nothing was asked for either.
        Recovery::Lost => {
            assert!(records.is_empty() && world.ledger.grant.is_none());
            None
        }
        Recovery::HandOver(finished, _) => {
            let close = finished.close.map(|c| c.fence);
            assert_eq!(close, world.ledger.grant.map(|_| world.ledger.fence));
            Some(Aftermath {
                before: world.performed,
                after: vec![],
                status: finished.report.outcome.status,
                disposition: finished.close.map(|c| c.disposition),
                was_handed_over: true,
            })
        }
        Recovery::TakeUp(progressed) => {
            let mut back = World::around(Run::recovered(
                crate::Setup {
                    intent: progressed.intent.clone(),
                    ..setup(playbook.clone())
                },
                *progressed,
            ));
            back.ledger = world.ledger.clone();
            back.journal = world.journal.clone();
            back.now = world.now + away;
            back.performed = world
                .performed
                .iter()
                .filter(|(p, _)| *p == Phase::Steps)
                .cloned()
                .collect();
            let known = back.performed.len();
            let lease = back.lease();
            back.tell(Event::Resume { lease, is_open });
            back.settle();
            let finished = back.finished.as_ref().unwrap();
            Some(Aftermath {
                before: world.performed,
                after: back.performed[known..].to_vec(),
                status: finished.report.outcome.status,
                disposition: finished.close.map(|c| c.disposition),
                was_handed_over: false,
            })
        }
    }
}

/// Every moment at which a run can die.
fn at_every_moment(
    playbook: &Playbook,
    failing: Option<&str>,
    away: Duration,
    is_open: bool,
    check: impl Fn(usize, Aftermath),
) {
    let mut moments = 0;
    for events in 0..60 {
        if let Some(aftermath) = crash(playbook, failing, events, away, is_open) {
            moments += 1;
            check(events, aftermath);
        }
    }
    assert!(moments > 5, "it died {moments} times only");
}

fn playbook(idempotent: bool) -> Playbook {
    Playbook {
        idempotent,
        ..samples::playbook()
    }
}

const SOON: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_secs(300);

#[test]
fn an_idempotent_run_goes_on_where_it_was() {
    at_every_moment(&playbook(true), None, SOON, true, |at, a| {
        assert_eq!(a.status, OutcomeStatus::Success, "died after {at}");
        assert_eq!(a.disposition, Some(Disposition::Done));
    });
}

#[test]
fn a_step_that_is_not_idempotent_is_never_run_again() {
    for failing in [None, Some("healthy"), Some("second")] {
        at_every_moment(&playbook(false), failing, SOON, true, |at, a| {
            for (phase, name) in &a.before {
                let acts = matches!(phase, Phase::Steps | Phase::Rollback);
                let again = a.after.iter().any(|(_, n)| n == name);
                assert!(!acts || !again, "{name} ran twice: died after {at}");
            }
        });
    }
}

/// Answers so many of what a run asks; false if it was over before.
fn live(world: &mut World, events: usize) -> bool {
    for _ in 0..events {
        if world.run.is_over() {
            return false;
        }
        match world.pending.len() {
            0 => world.pass(world.run.next_wake().unwrap().saturating_sub(world.now)),
            _ => world.answer(0, 0),
        }
    }
    !world.run.is_over()
}

/// The node dies and is back at once; none if there is nothing to take up.
fn die(world: &World, playbook: &Playbook) -> Option<World> {
    let rows: Vec<_> = world.journal.clone().into_iter().collect();
    let records = journal::read(&rows).runs.pop_first().map(|(_, r)| r)?;
    let Recovery::TakeUp(progressed) = journal::recover(&records) else {
        return None;
    };
    let intent = progressed.intent.clone();
    let setup = crate::Setup {
        intent,
        ..setup(playbook.clone())
    };
    let mut back = World::around(Run::recovered(setup, *progressed));
    back.ledger = world.ledger.clone();
    back.journal = world.journal.clone();
    back.now = world.now;
    back.performed = world.performed.clone();
    let lease = back.lease();
    back.tell(Event::Resume {
        lease,
        is_open: true,
    });
    Some(back)
}

#[test]
fn a_step_that_is_not_idempotent_is_never_run_again_by_a_node_that_dies_twice() {
    let playbook = playbook(false);
    let mut lives = 0;
    for (first, second) in (0..40).flat_map(|a| (0..25).map(move |b| (a, b))) {
        let mut world = World::new(setup(playbook.clone()));
        world.begin();
        if !live(&mut world, first) {
            break;
        }
        let Some(mut back) = die(&world, &playbook) else {
            continue;
        };
        if !live(&mut back, second) {
            continue;
        }
        let Some(mut again) = die(&back, &playbook) else {
            continue;
        };
        again.settle();
        lives += 1;
        let steps = again.performed.iter().filter(|(p, _)| *p == Phase::Steps);
        let mut steps: Vec<&String> = steps.map(|(_, name)| name).collect();
        steps.sort();
        let all = steps.len();
        steps.dedup();
        assert_eq!(
            steps.len(),
            all,
            "died after {first} and {second}: {:?}",
            again.performed
        );
    }
    assert!(lives > 20, "only {lives}");
}

#[test]
fn a_run_that_is_not_idempotent_is_undone_unless_it_was_being_verified() {
    at_every_moment(&playbook(false), None, SOON, true, |at, a| {
        let acted = a.before.iter().any(|(p, _)| *p == Phase::Steps);
        let verified = a.before.iter().any(|(p, _)| *p == Phase::Verification);
        let undone = a.status == OutcomeStatus::RolledBack;
        if acted && !verified && !a.was_handed_over {
            // The journal may know of the verification before it ran.
            assert!(
                undone || a.status == OutcomeStatus::Success,
                "died after {at}: {:?}",
                a.status
            );
        } else {
            assert_eq!(a.status, OutcomeStatus::Success, "died after {at}");
        }
    });
}

#[test]
fn a_run_whose_lease_ran_out_meanwhile_is_told_as_abandoned_and_touches_nothing() {
    for idempotent in [true, false] {
        at_every_moment(&playbook(idempotent), None, LATE, true, |at, a| {
            if a.was_handed_over || a.status == OutcomeStatus::Success {
                return;
            }
            assert_eq!(a.status, OutcomeStatus::Abandoned, "died after {at}");
            assert!(a.after.is_empty());
            let acted = a.before.iter().any(|(p, _)| *p == Phase::Steps);
            if acted {
                assert_eq!(a.disposition, Some(Disposition::Abandoned));
            }
        });
    }
}

#[test]
fn nothing_is_begun_for_an_incident_that_is_over() {
    at_every_moment(&playbook(true), None, SOON, false, |at, a| {
        let acted = a.before.iter().any(|(p, _)| *p == Phase::Steps);
        if !acted && !a.was_handed_over {
            assert!(
                a.after.iter().all(|(p, _)| *p != Phase::Steps)
                    || a.status == OutcomeStatus::RolledBack,
                "died after {at}"
            );
        }
    });
}

#[test]
fn an_undoing_that_was_cut_off_goes_on_with_what_is_left() {
    at_every_moment(&playbook(true), Some("healthy"), SOON, true, |at, a| {
        let undoing = a.before.iter().any(|(p, _)| *p == Phase::Rollback);
        if undoing {
            assert_eq!(a.status, OutcomeStatus::RolledBack, "died after {at}");
        }
    });
}

#[test]
fn a_journal_full_of_garbage_is_named_and_does_not_panic() {
    let rows = [
        (
            "exe_1/00000000".to_owned(),
            b"{\"record\":\"intent\"".to_vec(),
        ),
        ("exe_1".to_owned(), b"null".to_vec()),
        ("".to_owned(), vec![]),
    ];
    let found = journal::read(&rows);
    assert_eq!(found.unreadable.len(), 3);
    assert!(found.runs.is_empty());
    assert_eq!(journal::recover(&[]), Recovery::Lost);
}
