//! Any order of answers, any faults: what must always hold does, and the run ends.

use super::world::{World, setup};
use crate::run::Event;
use crate::tests::samples;
use hale_model::OutcomeStatus;
use hale_playbooks::language::{FailAction, Playbook};
use proptest::prelude::*;
use std::time::Duration;

fn playbook(idempotent: bool, actions: &[u8], retries: u32) -> Playbook {
    let mut playbook = samples::playbook();
    playbook.idempotent = idempotent;
    playbook.max_duration = Duration::from_secs(120);
    playbook.steps.push(samples::check("look"));
    playbook.steps.push(samples::command("third"));
    playbook.verification.push(samples::check("still_healthy"));
    let steps = playbook
        .pre_execution_checks
        .iter_mut()
        .chain(&mut playbook.steps);
    let steps = steps
        .chain(&mut playbook.verification)
        .chain(&mut playbook.rollback);
    for (step, action) in steps.zip(actions.iter().cycle()) {
        step.fail_action = match action % 5 {
            0 => FailAction::Abort,
            1 => FailAction::Wait,
            2 => FailAction::Escalate,
            3 => FailAction::Warn,
            _ => FailAction::Rollback,
        };
        step.retries = retries;
        step.hold = Duration::from_secs(u64::from(action / 64));
    }
    playbook
}

/// What happens next, from two numbers.
fn happen(world: &mut World, what: u8, how: u8) {
    match what {
        0..=139 => {
            let at = usize::from(what) % world.pending.len().max(1);
            world.answer(at, if how < 160 { 0 } else { 1 + how % 2 });
        }
        140..=229 => world.pass(Duration::from_millis(
            u64::from(how) * u64::from(what - 139) * 3,
        )),
        230..=235 => world.tell(Event::Frozen(how < 100)),
        236..=239 => world.tell(Event::IncidentResolved),
        240..=245 => world.ledger.is_mute = how < 128,
        246..=250 => world.ledger.is_cut_off = how < 128,
        _ => world.tell(Event::Tick),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn nothing_runs_without_lease_and_journal_and_every_grant_finishes_once(
        idempotent: bool,
        actions in proptest::collection::vec(any::<u8>(), 1..10),
        retries in 0u32..3,
        held in proptest::option::of(0u64..90),
        script in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..220),
    ) {
        let mut world = World::new(setup(playbook(idempotent, &actions, retries)));
        world.ledger.held_by_another_until = held.map(Duration::from_secs);
        world.begin();
        for (what, how) in script {
            if world.run.is_over() {
                break;
            }
            happen(&mut world, what, how);
        }
        world.ledger.is_mute = false;
        world.ledger.is_cut_off = false;
        world.settle();
        let report = &world.finished.as_ref().unwrap().report;
        if report.outcome.status == OutcomeStatus::Success {
            prop_assert!(report.outcome.verification_passed);
            prop_assert!(report.rollback_log.is_empty());
        }
        if report.outcome.status == OutcomeStatus::SelfResolved {
            prop_assert!(report.rollback_log.is_empty());
        }
    }
}
