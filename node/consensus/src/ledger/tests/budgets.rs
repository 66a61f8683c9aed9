//! What is allowed at once and within an hour.

use super::*;
use hale_model::ledger::BudgetLimit;

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

fn set(name: &str, of: Option<&str>, limit: BudgetLimit) -> Command {
    Command::SetBudget {
        budget: Budget {
            name: name.into(),
            service: of.map(service),
            limit,
        },
        by: "ada".into(),
        entry: signed(EntryKind::Budget, 0, &format!("set {name}")),
    }
}

fn drop_it(name: &str) -> Command {
    Command::DropBudget {
        name: name.into(),
        by: "ada".into(),
        entry: signed(EntryKind::Budget, 0, &format!("drop {name}")),
    }
}

fn tell(n: u8, services: &[&str]) -> Command {
    Command::Services {
        node: key(n).node_id(),
        services: services.iter().map(|s| service(s)).collect(),
    }
}

/// Each run on a scope of its own.
fn ask(by: u8, run: u8, of: Option<&str>) -> Acquire {
    Acquire {
        scope: Scope::Custom(format!("scope {run}")),
        service: of.map(service),
        ..ask_for(by, 0, run, None)
    }
}

fn spent(ledger: &mut Ledger, index: u64, ask: Acquire) -> String {
    match ledger.apply(index, Command::Acquire(ask)).answer {
        Answer::Refused(Refusal::BudgetSpent { budget, .. }) => budget,
        other => panic!("not spent: {other:?}"),
    }
}

#[test]
fn a_grant_that_ran_out_counts_until_it_is_closed() {
    let mut ledger = cluster();
    done(
        &mut ledger,
        9,
        set("web", Some("web"), BudgetLimit::AtMost(1)),
    );
    let fence = granted(&mut ledger, 10, ask(0, 1, Some("web")));
    let expire = Command::Expire {
        fence,
        generation: 0,
    };
    done(&mut ledger, 11, expire);
    assert_eq!(spent(&mut ledger, 12, ask(1, 2, Some("web"))), "web");
    granted(&mut ledger, 13, ask(1, 3, Some("db")));
    granted(&mut ledger, 14, ask(1, 4, None));
    done(&mut ledger, 15, close(fence, 0, "done"));
    granted(&mut ledger, 16, ask(1, 2, Some("web")));
}

#[test]
fn a_share_is_of_the_hosts_that_run_the_service_and_at_least_one() {
    let mut ledger = cluster();
    let half = BudgetLimit::Percent(67);
    done(&mut ledger, 9, set("web", Some("web"), half));
    granted(&mut ledger, 10, ask(0, 1, Some("web")));
    assert_eq!(spent(&mut ledger, 11, ask(1, 2, Some("web"))), "web");
    for n in 0..3 {
        done(
            &mut ledger,
            12 + u64::from(n),
            tell(n, &["db", "web"][usize::from(n > 1)..]),
        );
    }
    let budget = ledger.budget("web").unwrap();
    assert_eq!(ledger.usage(budget), (1, 2), "67 % of three");
    granted(&mut ledger, 20, ask(1, 2, Some("web")));
    done(&mut ledger, 21, tell(2, &[]));
    let budget = ledger.budget("web").unwrap();
    assert_eq!(ledger.usage(budget), (2, 1));
}

#[test]
fn an_hourly_budget_is_refilled_grant_by_grant() {
    let mut ledger = cluster();
    done(&mut ledger, 9, set("all", None, BudgetLimit::PerHour(2)));
    let first = granted(&mut ledger, 10, ask(0, 1, Some("web")));
    done(&mut ledger, 11, close(first, 0, "done"));
    granted(&mut ledger, 12, ask(0, 2, None));
    let waits = ledger.apply(13, Command::Acquire(ask(1, 3, None)));
    let Answer::Refused(refusal_) = &waits.answer else {
        panic!("{:?}", waits.answer)
    };
    assert_eq!(
        refusal_.to_string(),
        "budget `all` is spent: at most 2 an hour, 2 used; `hale budget ls` shows it"
    );
    let refill = Command::Refill {
        budget: "all".into(),
        fence: first,
    };
    let refilled = done(&mut ledger, 14, refill.clone());
    assert_eq!(
        refilled.news,
        [News::Refilled {
            budget: "all".into(),
            fence: first
        }]
    );
    assert_eq!(refusal(&mut ledger, 15, refill), Refusal::StaleFence(first));
    granted(&mut ledger, 16, ask(1, 3, None));
    let dropped = done(&mut ledger, 17, drop_it("all"));
    let marks = dropped.news.iter();
    assert_eq!(
        marks.filter(|n| matches!(n, News::Refilled { .. })).count(),
        2
    );
    assert_eq!(ledger.marks().count(), 0);
    assert_eq!(
        refusal(&mut ledger, 18, drop_it("all")),
        Refusal::UnknownBudget("all".into())
    );
}

#[test]
fn who_waits_for_a_budget_goes_before_those_that_need_it_and_no_others() {
    let mut ledger = cluster();
    done(
        &mut ledger,
        9,
        set("web", Some("web"), BudgetLimit::AtMost(1)),
    );
    let fence = granted(&mut ledger, 10, ask(0, 1, Some("web")));
    assert_eq!(spent(&mut ledger, 11, ask(1, 2, Some("web"))), "web");
    // The scope that exe_2 asks for is free, and exe_3 needs no budget.
    let same_scope = Acquire {
        scope: Scope::Custom("scope 2".into()),
        ..ask(2, 3, Some("db"))
    };
    let other = granted(&mut ledger, 12, same_scope);
    done(&mut ledger, 13, close(other, 2, "done 3"));
    done(&mut ledger, 14, close(fence, 0, "done 1"));
    let late = ledger.apply(15, Command::Acquire(ask(2, 4, Some("web"))));
    assert!(matches!(
        late.answer,
        Answer::Refused(Refusal::Queued { position: 2, .. })
    ));
    granted(&mut ledger, 16, ask(1, 2, Some("web")));
}

#[test]
fn budgets_and_services_out_of_bounds_are_refused() {
    let mut ledger = cluster();
    for limit in [
        BudgetLimit::Percent(0),
        BudgetLimit::Percent(101),
        BudgetLimit::PerHour(10_001),
    ] {
        let refused = refusal(&mut ledger, 9, set("x", None, limit));
        assert!(matches!(refused, Refusal::BadEntry(_)));
    }
    for services in [&["b", "a"][..], &["a", "a"]] {
        let refused = refusal(&mut ledger, 9, tell(0, services));
        assert!(matches!(refused, Refusal::BadEntry(_)));
    }
    let many: Vec<_> = (0..65).map(|n| format!("s{n:02}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let refused = refusal(&mut ledger, 9, tell(0, &many));
    assert!(matches!(refused, Refusal::Full { .. }));
    for n in 0..limits::MAX_BUDGETS {
        let command = set(&format!("b{n}"), None, BudgetLimit::AtMost(1));
        done(&mut ledger, 10, command);
    }
    let refused = refusal(&mut ledger, 11, set("x", None, BudgetLimit::AtMost(1)));
    assert!(matches!(refused, Refusal::Full { .. }));
}

#[test]
fn what_a_node_runs_is_no_entry_and_said_again_no_change() {
    let mut ledger = cluster();
    assert!(
        done(&mut ledger, 9, tell(0, &["a", "b"]))
            .entries
            .is_empty()
    );
    ledger.take_touched().unwrap();
    done(&mut ledger, 10, tell(0, &["a", "b"]));
    assert!(ledger.take_touched().unwrap().is_empty());
}
