//! First come, first served.

use super::*;
use hale_model::ledger::WaitsFor;

fn ask(ledger: &mut Ledger, index: u64, by: u8, on: u8, run: u8) -> Answer {
    ledger
        .apply(index, Command::Acquire(ask_for(by, on, run, None)))
        .answer
}

fn line(ledger: &Ledger) -> Vec<String> {
    ledger.waiting().map(|w| w.execution.to_string()).collect()
}

fn is_held(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(Refusal::Held { .. }))
}

fn queued(on: u8, position: u32, ahead: u8) -> Answer {
    Answer::Refused(Refusal::Queued {
        scope: scope(on),
        position,
        ahead: run(ahead),
    })
}

fn run(n: u8) -> ExecutionId {
    ExecutionId::new(format!("exe_{n}")).unwrap()
}

#[test]
fn a_free_scope_goes_to_whoever_asked_first() {
    let mut ledger = cluster();
    let fence = granted(&mut ledger, 9, ask_for(0, 0, 1, None));
    assert!(is_held(&ask(&mut ledger, 10, 1, 0, 2)));
    assert!(is_held(&ask(&mut ledger, 11, 2, 2, 3)), "a service of it");
    assert!(is_held(&ask(&mut ledger, 12, 0, 0, 4)));
    assert_eq!(line(&ledger), ["exe_2", "exe_3", "exe_4"]);
    done(&mut ledger, 13, close(fence, 0, "done"));
    assert_eq!(ask(&mut ledger, 14, 0, 0, 4), queued(0, 3, 2));
    assert_eq!(ask(&mut ledger, 15, 2, 2, 3), queued(2, 2, 2));
    // What conflicts with nobody in the line does not wait.
    assert!(matches!(
        ask(&mut ledger, 16, 0, 1, 5),
        Answer::Granted { .. }
    ));
    assert!(matches!(
        ask(&mut ledger, 17, 1, 0, 2),
        Answer::Granted { .. }
    ));
    assert_eq!(line(&ledger), ["exe_3", "exe_4"]);
}

#[test]
fn whoever_does_not_ask_again_loses_its_place_and_whoever_does_keeps_it() {
    let mut ledger = cluster();
    granted(&mut ledger, 9, ask_for(0, 0, 1, None));
    ask(&mut ledger, 10, 1, 0, 2);
    ask(&mut ledger, 11, 2, 0, 3);
    ask(&mut ledger, 12, 1, 0, 2);
    let expire = |n, generation| Command::ExpireWait {
        execution: run(n),
        generation,
    };
    done(&mut ledger, 13, expire(2, 10));
    assert_eq!(line(&ledger), ["exe_2", "exe_3"], "it asked again since");
    let gone = done(&mut ledger, 14, expire(2, 12));
    assert_eq!(gone.news, [News::WaitEnded(run(2))]);
    ask(&mut ledger, 15, 1, 0, 2);
    assert_eq!(line(&ledger), ["exe_3", "exe_2"]);
}

#[test]
fn an_older_ledger_has_no_line_until_it_is_told_the_rules() {
    let mut ledger = founded();
    granted(&mut ledger, 9, ask_for(0, 0, 1, None));
    let other = Command::Acquire(ask_for(1, 0, 2, None));
    let refused = refusal(&mut ledger, 10, other);
    assert!(matches!(refused, Refusal::Held { .. }));
    let told = done(&mut ledger, 11, Command::Rules { version: RULES });
    assert_eq!(told.news, [News::Rules(RULES)]);
    let again = done(&mut ledger, 12, Command::Rules { version: 1 });
    assert!(again.news.is_empty() && ledger.rules() == RULES);
    ask(&mut ledger, 13, 1, 0, 2);
    assert_eq!(line(&ledger), ["exe_2"]);
}

#[test]
fn rules_that_this_binary_does_not_know_are_no_state_of_its() {
    let mut ledger = cluster();
    ledger.rules = RULES + 1;
    let error = Ledger::decode(&ledger.encode().unwrap()).unwrap_err();
    assert!(matches!(error, StateError::Rules(_)), "{error}");
}

#[test]
fn the_line_is_bounded_and_the_last_place_is_still_granted_at_once_if_free() {
    let mut ledger = cluster();
    granted(&mut ledger, 9, ask_for(0, 5, 1, None));
    let wait = |by, n: usize| {
        Command::Acquire(Acquire {
            execution: ExecutionId::new(format!("exe_w{n}")).unwrap(),
            ..ask_for(by, 5, 2, None)
        })
    };
    for n in 0..limits::MAX_WAITING_PER_NODE {
        assert!(is_held(&ledger.apply(10, wait(1, n)).answer));
    }
    let refused = refusal(&mut ledger, 11, wait(1, 999));
    assert!(matches!(refused, Refusal::Full { .. }));
    assert!(is_held(&ledger.apply(12, wait(2, 998)).answer));
    assert_eq!(ledger.waiting().count(), limits::MAX_WAITING_PER_NODE + 1);
    assert!(is_held(&ledger.apply(13, wait(1, 0)).answer), "keeps its");
    granted(&mut ledger, 14, ask_for(1, 1, 3, None));
}

#[test]
fn a_removed_node_waits_no_more_and_nobody_takes_anothers_place() {
    let mut ledger = cluster();
    granted(&mut ledger, 9, ask_for(0, 0, 1, None));
    ask(&mut ledger, 10, 2, 0, 2);
    ask(&mut ledger, 11, 1, 0, 3);
    let taken = Command::Acquire(ask_for(1, 0, 2, None));
    let refused = refusal(&mut ledger, 12, taken);
    assert!(matches!(refused, Refusal::BadEntry(_)));
    let applied = done(&mut ledger, 13, remove(2, 0));
    assert!(applied.news.contains(&News::WaitEnded(run(2))));
    assert_eq!(line(&ledger), ["exe_3"]);
}

#[test]
fn another_scope_is_another_place() {
    let mut ledger = cluster();
    granted(&mut ledger, 9, ask_for(0, 0, 1, None));
    ask(&mut ledger, 10, 1, 0, 2);
    ask(&mut ledger, 11, 2, 0, 3);
    ask(&mut ledger, 12, 1, 2, 2);
    assert_eq!(line(&ledger), ["exe_3", "exe_2"]);
    let kept = ledger.waiting().all(|w| w.waits_for == WaitsFor::Scope);
    assert!(kept);
}
