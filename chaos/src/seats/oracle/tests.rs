//! One mistake at least for each thing that must hold.

use super::*;

fn nodes(of: &[usize]) -> Nodes {
    of.iter().copied().collect()
}

fn group(voters: &[usize], learners: &[usize]) -> What {
    What::Group {
        voters: nodes(voters),
        learners: nodes(learners),
    }
}

fn begins(term: u64, voters: &[usize]) -> What {
    What::Begins {
        term,
        change: format!("{voters:?} vote"),
        voters: Some(nodes(voters)),
        finishes: false,
    }
}

fn enrolled(node: usize, token: &str) -> What {
    let token = (!token.is_empty()).then(|| token.to_owned());
    What::Enrolled { node, token }
}

/// Nine nodes in three zones, all of them on the roster and alive; the first votes.
fn founded() -> Vec<(u64, What)> {
    let mut log = vec![
        What::Policy {
            voters: 5,
            learners: 2,
        },
        What::Token {
            token: "tok_1".into(),
            uses: 8,
        },
    ];
    for node in 0..9 {
        log.push(What::Comes {
            node,
            zone: node % 3,
            invited: true,
        });
        log.push(What::Up { node });
        log.push(enrolled(node, if node == 0 { "" } else { "tok_1" }));
    }
    log.push(What::Leads { node: 0, term: 1 });
    log.push(group(&[0], &[]));
    log.into_iter().map(|what| (0, what)).collect()
}

/// What is found when this happens after the cluster was founded, at these seconds.
fn found(then: Vec<(u64, What)>) -> Vec<String> {
    let mut log = founded();
    log.extend(then);
    let log: Vec<_> = log
        .into_iter()
        .map(|(at_s, what)| Happened {
            at_ms: at_s * 1000,
            what,
        })
        .collect();
    judge(&log).iter().map(ToString::to_string).collect()
}

fn grown() -> Vec<(u64, What)> {
    vec![
        (10, group(&[0], &[1, 2])),
        (11, begins(1, &[0, 1, 2])),
        (12, group(&[0, 1, 2], &[])),
        (12, What::Ends { term: 1 }),
        (13, group(&[0, 1, 2], &[3, 4])),
        (14, begins(1, &[0, 1, 2, 3, 4])),
        (15, group(&[0, 1, 2, 3, 4], &[])),
        (15, What::Ends { term: 1 }),
        (16, group(&[0, 1, 2, 3, 4], &[5, 6])),
    ]
}

fn after(then: Vec<(u64, What)>) -> Vec<String> {
    let mut log = grown();
    log.extend(then);
    found(log)
}

#[test]
fn a_group_that_grows_and_rests_is_clean() {
    let clean = after(vec![(600, What::Quiet), (900, What::Over)]);
    assert_eq!(clean, Vec::<String>::new());
}

#[test]
fn every_kind_of_violation_is_found() {
    let down = |node| What::Down { node };
    let removed = |node| What::Removed { node };
    let over = || vec![(600, What::Quiet), (900, What::Over)];
    let with = |mut first: Vec<(u64, What)>| {
        first.extend(over());
        first
    };
    let comes = |node, invited| What::Comes {
        node,
        zone: 0,
        invited,
    };
    let all = |wrong: Vec<(u64, What)>, word: &str| (after(wrong), word.to_owned());
    let begun = vec![(20, begins(1, &[0, 1, 2])), (21, begins(1, &[0, 1, 3]))];
    let many: Vec<_> = (0..30)
        .flat_map(|n| {
            [
                (601 + n, group(&[0, 1, 2, 3, 5], &[4, 6])),
                (601 + n, group(&[0, 1, 2, 3, 4], &[5, 6])),
            ]
        })
        .collect();
    let cases = vec![
        all(begun, "beside another change"),
        all(
            vec![(20, down(1)), (20, down(2)), (60, begins(1, &[0, 1, 2]))],
            "1 of the voters {0, 1, 2}",
        ),
        all(
            vec![(20, down(1)), (20, down(2)), (21, group(&[0, 1, 2], &[]))],
            "1 of the voters {0, 1, 2}",
        ),
        all(
            vec![
                (20, down(1)),
                (20, down(2)),
                (20, down(3)),
                (60, begins(1, &[0, 4, 5])),
            ],
            "2 of the voters {0, 1, 2, 3, 4}",
        ),
        all(vec![(20, group(&[0, 1], &[]))], "2 vote"),
        all(vec![(20, group(&[0, 1, 2, 3, 4, 5, 6], &[]))], "7 vote"),
        all(
            vec![(20, group(&[0, 1, 2, 3, 4], &[5, 6, 7, 8]))],
            "4 stand by",
        ),
        all(
            vec![(20, group(&[0, 1, 2, 3, 4], &[5, 10]))],
            "node 10 was given a seat",
        ),
        all(with(vec![(20, removed(6))]), "node 6 was given a seat"),
        all(with(vec![(20, down(4))]), "{4} of them are down"),
        all(
            with(vec![
                (20, removed(8)),
                (21, removed(7)),
                (22, group(&[0, 1, 2], &[])),
            ]),
            "of 5 that should",
        ),
        all(
            with(vec![
                (20, down(2)),
                (20, down(5)),
                (21, begins(1, &[0, 1, 3, 4, 6])),
                (22, group(&[0, 1, 3, 4, 6], &[])),
                (23, What::Up { node: 2 }),
                (23, What::Up { node: 5 }),
            ]),
            "in 2 zones, and could be in 3",
        ),
        all(
            vec![
                (600, What::Quiet),
                (890, group(&[0, 1, 2, 3, 4], &[6])),
                (900, What::Over),
            ],
            "10000 ms before the end",
        ),
        all(
            [vec![(600, What::Quiet)], many, vec![(900, What::Over)]].concat(),
            "60 changes",
        ),
        all(
            vec![(20, removed(6)), (30, enrolled(6, ""))],
            "which was removed",
        ),
        all(
            vec![(20, comes(9, true)), (21, enrolled(9, "tok_1"))],
            "let in number 9, 8 are allowed",
        ),
        all(
            vec![(20, comes(9, false)), (21, enrolled(9, ""))],
            "nobody has invited it",
        ),
        all(
            vec![(20, What::Leads { node: 1, term: 1 })],
            "which had a leader",
        ),
    ];
    for (wrong, word) in cases {
        assert_eq!(wrong.len(), 1, "{word}: {wrong:?}");
        assert!(wrong[0].contains(&word), "{word}: {}", wrong[0]);
    }
}
