//! Shared leases.

use super::*;
use hale_model::ledger::{BudgetLimit, Look};

pub(super) fn at(by: u8, on: u8, n: u8) -> Look {
    Look {
        scope: scope(on),
        node: key(by).node_id(),
        ttl_ms: 5_000,
        id: ExecutionId::new(format!("exe_look_{n}")).unwrap(),
    }
}

fn share(ledger: &mut Ledger, index: u64, look: Look) -> Fence {
    match ledger.apply(index, Command::Look(look)).answer {
        Answer::Granted { fence, ttl_ms } => {
            assert_eq!(ttl_ms, 5_000);
            fence
        }
        other => panic!("{other:?}"),
    }
}

fn refused(ledger: &mut Ledger, index: u64, command: Command) -> Refusal {
    match ledger.apply(index, command).answer {
        Answer::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

fn end(n: u8, by: u8) -> Command {
    Command::EndLook {
        node: key(by).node_id(),
        id: at(by, 0, n).id,
    }
}

#[test]
fn many_look_at_once_and_nobody_acts_until_the_last_is_done() {
    let mut ledger = cluster();
    let entries = ledger.tip().entries;
    let first = share(&mut ledger, 10, at(0, 2, 1));
    let second = share(&mut ledger, 11, at(1, 2, 2));
    assert!(second > first);
    assert_eq!(
        ledger.tip().entries,
        entries,
        "nothing of it is on the chain"
    );
    // The service, the host that it is on; another service of the host is free.
    let act = |on, run| Command::Acquire(ask_for(0, on, run, None));
    for (on, run) in [(2, 1), (0, 2)] {
        let why = refused(&mut ledger, 12, act(on, run));
        assert!(matches!(why, Refusal::LookedAt { fence, .. } if fence == first));
    }
    granted(&mut ledger, 13, ask_for(0, 4, 3, None));
    done(&mut ledger, 14, end(1, 0));
    let why = refused(&mut ledger, 15, act(2, 1));
    assert!(matches!(why, Refusal::LookedAt { fence, .. } if fence == second));
    done(&mut ledger, 16, end(2, 1));
    granted(&mut ledger, 17, ask_for(0, 2, 1, None));
}

#[test]
fn nobody_looks_where_somebody_acts_or_waits_to() {
    let mut ledger = cluster();
    let fence = granted(&mut ledger, 10, ask_for(0, 2, 1, None));
    let why = refused(&mut ledger, 11, Command::Look(at(1, 0, 1)));
    assert!(matches!(why, Refusal::Held { fence: held, .. } if held == fence));
    refused(&mut ledger, 12, Command::Acquire(ask_for(1, 2, 2, None)));
    done(&mut ledger, 13, close(fence, 0, "done"));
    let why = refused(&mut ledger, 14, Command::Look(at(1, 2, 2)));
    assert!(matches!(why, Refusal::Queued { position: 2, .. }), "{why}");
}

#[test]
fn who_waits_for_a_budget_keeps_nobody_from_looking() {
    let mut ledger = cluster();
    let budget = Budget {
        name: "one".into(),
        service: None,
        limit: BudgetLimit::AtMost(1),
    };
    let set = Command::SetBudget {
        budget,
        by: "ada".into(),
        entry: signed(EntryKind::Budget, 0, "one"),
    };
    done(&mut ledger, 10, set);
    let elsewhere = granted(&mut ledger, 11, ask_for(0, 5, 1, None));
    let why = refused(&mut ledger, 12, Command::Acquire(ask_for(1, 2, 2, None)));
    assert!(matches!(why, Refusal::BudgetSpent { .. }), "{why}");
    share(&mut ledger, 13, at(0, 2, 1));
    done(&mut ledger, 14, close(elsewhere, 0, "done"));
    // It waits for the scope now: nobody else begins to look before it has acted.
    let why = refused(&mut ledger, 15, Command::Acquire(ask_for(1, 2, 2, None)));
    assert!(matches!(why, Refusal::LookedAt { .. }), "{why}");
    let why = refused(&mut ledger, 16, Command::Look(at(0, 2, 2)));
    assert!(matches!(why, Refusal::Queued { .. }), "{why}");
    done(&mut ledger, 17, end(1, 0));
    granted(&mut ledger, 18, ask_for(1, 2, 2, None));
}

#[test]
fn a_restored_state_has_none() {
    let mut ledger = cluster();
    share(&mut ledger, 10, at(0, 0, 1));
    let restored = ledger.restored(key(9).node_id(), host(0)).unwrap();
    assert_eq!(restored.looks().count(), 0);
}

#[test]
fn asking_twice_gives_the_one_share_and_ending_twice_is_no_harm() {
    let mut ledger = cluster();
    let fence = share(&mut ledger, 10, at(0, 0, 1));
    assert_eq!(share(&mut ledger, 11, at(0, 0, 1)), fence);
    let other = Command::Look(at(0, 1, 1));
    assert!(matches!(
        refused(&mut ledger, 12, other),
        Refusal::BadEntry(_)
    ));
    let why = refused(&mut ledger, 13, end(1, 1));
    assert_eq!(why, Refusal::StaleFence(fence), "it is another's");
    done(&mut ledger, 14, end(1, 0));
    done(&mut ledger, 15, end(1, 0));
    assert_eq!(ledger.looks().count(), 0);
}

#[test]
fn a_share_ends_by_the_leaders_clock_and_with_its_node() {
    let mut ledger = cluster();
    let fence = share(&mut ledger, 10, at(0, 0, 1));
    share(&mut ledger, 11, at(1, 1, 2));
    let gone = done(&mut ledger, 12, Command::ExpireLook { fence });
    assert_eq!(gone.news, [News::LookEnded(fence)]);
    done(&mut ledger, 13, Command::ExpireLook { fence });
    done(&mut ledger, 14, remove(1, 0));
    assert_eq!(ledger.looks().count(), 0);
    let why = refused(&mut ledger, 15, Command::Look(at(1, 1, 3)));
    assert_eq!(why, Refusal::UnknownNode(key(1).node_id()));
}

#[test]
fn a_share_is_short_and_no_node_holds_many() {
    let mut ledger = cluster();
    let long = Look {
        ttl_ms: 30_001,
        ..at(0, 0, 1)
    };
    assert!(matches!(
        refused(&mut ledger, 10, Command::Look(long)),
        Refusal::BadEntry(_)
    ));
    for n in 0..limits::MAX_LOOKS_PER_NODE {
        share(&mut ledger, 11, at(0, 0, u8::try_from(n).unwrap()));
    }
    let why = refused(&mut ledger, 12, Command::Look(at(0, 0, 255)));
    assert!(matches!(why, Refusal::Full { .. }));
    share(&mut ledger, 13, at(1, 0, 254));
}

#[test]
fn before_its_rules_are_in_force_there_is_none() {
    let mut ledger = founded();
    let why = refused(&mut ledger, 10, Command::Look(at(0, 0, 1)));
    assert_eq!(why, too_early());
    assert_eq!(rules_for(&Command::Look(at(0, 0, 1))), RULES_WITH_LOOKS);
}
