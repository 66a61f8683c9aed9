//! Every kind of violation is found, and a clean run is clean.

use super::*;
use hale_model::ledger::Disposition;
use hale_model::{HostName, Timestamp};

fn scope() -> Scope {
    Scope::Host(HostName::new("h").unwrap())
}

fn run(n: u32) -> ExecutionId {
    ExecutionId::at(Timestamp::from_secs(0), n)
}

fn granted(fence: u64, execution: u32) -> What {
    What::Granted {
        fence: Fence(fence),
        scope: scope(),
        host: 0,
        execution: run(execution),
    }
}

fn acted(execution: u32, idempotent: bool) -> What {
    What::Acted {
        host: 0,
        execution: run(execution),
        step: "s".into(),
        idempotent,
    }
}

fn expired(fence: u64) -> What {
    What::Expired {
        fence: Fence(fence),
    }
}

fn renewed(fence: u64) -> What {
    What::Renewed {
        fence: Fence(fence),
    }
}

fn copied(index: u64, of: &[u8]) -> What {
    What::Copied {
        host: 1,
        index,
        hash: Digest::of(of),
    }
}

fn leads(host: usize, term: u64) -> What {
    What::Leads { host, term }
}

fn closed(fence: u64) -> What {
    What::Closed {
        fence: Fence(fence),
        disposition: Disposition::Done,
    }
}

fn waits(execution: u32, place: u64, scope: Option<Scope>) -> What {
    What::Waits {
        execution: run(execution),
        place,
        scope,
    }
}

#[test]
fn who_waits_no_more_or_for_something_else_is_not_overtaken() {
    let elsewhere = Scope::Host(HostName::new("other").unwrap());
    let log = vec![
        waits(2, 1, Some(elsewhere)),
        waits(3, 2, Some(scope())),
        What::WaitEnded { execution: run(3) },
        granted(3, 1),
        closed(3),
        What::Quiet,
    ];
    assert_eq!(found(log), []);
}

fn found(log: Vec<What>) -> Vec<Violation> {
    let log: Vec<_> = log
        .into_iter()
        .map(|what| Happened { at_ms: 1, what })
        .collect();
    judge(&log)
}

fn looks(fence: u64) -> What {
    What::Looks {
        fence: Fence(fence),
        scope: scope(),
        ttl_ms: 3_000,
        id: run(fence as u32),
    }
}

fn look_ended(fence: u64) -> What {
    What::LookEnded {
        fence: Fence(fence),
    }
}

#[test]
fn a_clean_run_is_clean() {
    let log = vec![
        leads(0, 1),
        looks(1),
        looks(2),
        What::GivesBack { id: run(1) },
        look_ended(1),
        What::GivesBack { id: run(2) },
        look_ended(2),
        granted(3, 1),
        acted(1, false),
        renewed(3),
        leads(1, 2),
        closed(3),
        granted(5, 2),
        closed(5),
        What::Quiet,
        What::Ends {
            host: 0,
            entries: 0,
        },
    ];
    assert_eq!(found(log), []);
}

#[test]
fn every_kind_of_violation_is_found() {
    let entry = |index, previous| What::Appended {
        index,
        hash: Digest::of(b"e"),
        previous,
    };
    let cases: Vec<(Vec<What>, &str)> = vec![
        (vec![granted(3, 1), granted(5, 2)], "still held"),
        (
            vec![granted(5, 1), closed(5), granted(4, 2)],
            "granted after",
        ),
        (vec![acted(1, true)], "without a live lease"),
        (
            vec![
                granted(3, 1),
                What::Expired { fence: Fence(3) },
                acted(1, true),
            ],
            "without a live lease",
        ),
        (
            vec![granted(3, 1), acted(1, false), acted(1, false)],
            "may not",
        ),
        (vec![granted(3, 1), closed(3), closed(3)], "was not open"),
        (vec![granted(3, 1), What::Quiet], "never closed"),
        (vec![looks(3), granted(4, 1)], "one to look"),
        (vec![granted(3, 1), looks(4)], "one to look"),
        (vec![looks(3), look_ended(3)], "ended after 0 ms"),
        (vec![looks(3), What::Quiet], "never ended"),
        (vec![looks(3), looks(3)], "granted after"),
        (vec![entry(1, Digest::ZERO)], "does not follow"),
        (vec![entry(0, Digest::of(b"x"))], "does not follow"),
        (
            vec![What::Acknowledged {
                index: 0,
                hash: Digest::ZERO,
            }],
            "not on the chain",
        ),
        (
            vec![What::Frozen { frozen: true }, granted(3, 1)],
            "while the cluster was frozen",
        ),
        (
            vec![
                What::Budget { at_most: 1 },
                granted(3, 1),
                What::Expired { fence: Fence(3) },
                granted(5, 2),
            ],
            "are allowed",
        ),
        (vec![waits(2, 1, Some(scope())), granted(3, 1)], "overtook"),
        (
            vec![granted(3, 1), expired(3), renewed(3), closed(3)],
            "was renewed",
        ),
        (vec![renewed(3)], "was renewed"),
        (
            vec![entry(0, Digest::ZERO), copied(0, b"other")],
            "has another entry",
        ),
        (vec![copied(0, b"e")], "has another entry"),
        (vec![leads(0, 3), leads(1, 4), leads(2, 4)], "which had"),
        (
            vec![
                entry(0, Digest::ZERO),
                What::Quiet,
                What::Ends {
                    host: 1,
                    entries: 0,
                },
            ],
            "0 of the chain's 1",
        ),
        (
            vec![waits(2, 1, None), waits(1, 2, None), granted(3, 1)],
            "overtook",
        ),
    ];
    for (log, word) in cases {
        let wrong = found(log);
        assert_eq!(wrong.len(), 1, "{word}: {wrong:?}");
        assert!(wrong[0].to_string().contains(word), "{}", wrong[0]);
    }
}
