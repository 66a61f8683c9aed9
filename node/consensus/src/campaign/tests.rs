mod net;

use super::*;
use expect_test::expect;
use net::Net;
use proptest::prelude::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn node(i: usize) -> NodeId {
    NodeId::from_bytes([i as u8; 32])
}

fn group(voters: usize, me: usize) -> Event {
    Event::Group {
        voters: (0..voters).map(node).collect(),
        me: node(me),
    }
}

fn campaign(voters: usize) -> Campaign {
    let mut c = Campaign::new(Settings::default(), 7);
    assert!(c.on(ms(0), group(voters, 0)).is_empty() || voters == 1);
    c
}

/// Ticks when due until something is to be done.
fn next(c: &mut Campaign) -> (Duration, Vec<Effect>) {
    loop {
        let now = c.next_due().unwrap();
        let effects = c.on(now, Event::Tick);
        if !effects.is_empty() {
            return (now, effects);
        }
    }
}

fn granted(round: u64, from: usize) -> Event {
    Event::PreVoted {
        round,
        from: node(from),
        granted: true,
    }
}

fn round(effects: &[Effect]) -> u64 {
    match effects {
        [Effect::AskPreVotes { round, .. }] => *round,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lone_voter_stands_at_once_and_again_after_it_lost() {
    let mut c = Campaign::new(Settings::default(), 7);
    assert_eq!(c.on(ms(3), group(1, 0)), [Effect::Elect]);
    assert!(c.on(ms(4), Event::Lost).is_empty());
    let (at, effects) = next(&mut c);
    assert!(at <= ms(4) + Settings::default().lease + Settings::default().spread);
    assert_eq!(effects, [Effect::Elect]);
    c.on(at, Event::Leading);
    assert_eq!(c.next_due(), None);

    let mut c = Campaign::new(Settings::default(), 7);
    c.on(ms(1), Event::Able(false));
    assert!(c.on(ms(3), group(1, 0)).is_empty());
    assert_eq!(c.on(ms(5), Event::Able(true)), [Effect::Elect]);
}

#[test]
fn who_has_no_vote_or_may_not_stand_does_not() {
    let mut learner = campaign(3);
    learner.on(ms(1), group(3, 9));
    assert_eq!(learner.next_due(), None);
    assert!(learner.on(ms(90_000), Event::Tick).is_empty());
    assert!(learner.on(ms(90_001), Event::TakeOver).is_empty());

    let mut full = campaign(3);
    full.on(ms(1), Event::Able(false));
    assert_eq!(full.next_due(), None);
    assert!(full.on(ms(90_000), Event::Tick).is_empty());
    assert!(full.would_grant(ms(90_000)), "its vote still counts");
    assert!(full.on(ms(90_001), Event::Able(true)).is_empty());
    let (at, effects) = next(&mut full);
    assert!(at <= ms(90_001) + Settings::default().spread);
    assert_eq!(round(&effects), 1);
}

#[test]
fn a_majority_of_pre_votes_lets_it_stand() {
    let mut c = campaign(5);
    let (at, effects) = next(&mut c);
    let asked = Effect::AskPreVotes {
        round: 1,
        of: (1..5).map(node).collect(),
    };
    assert_eq!(effects, [asked]);
    assert!(at > Settings::default().lease);
    let refused = Event::PreVoted {
        round: 1,
        from: node(3),
        granted: false,
    };
    for too_few in [
        granted(1, 1),
        granted(1, 1),
        refused,
        granted(0, 2),
        granted(1, 0),
        granted(1, 8),
    ] {
        assert!(c.on(at, too_few).is_empty());
    }
    assert_eq!(c.on(at, granted(1, 2)), [Effect::Elect]);
    assert!(c.on(at, granted(1, 4)).is_empty(), "once");
}

#[test]
fn without_an_answer_it_asks_again_and_a_leader_ends_it() {
    let mut c = campaign(3);
    let (first, _) = next(&mut c);
    let (second, effects) = next(&mut c);
    let retry = Settings::default().retry;
    assert_eq!(round(&effects), 2);
    assert!(second >= first + retry && second <= first + retry + retry / 2);
    assert!(c.on(second, granted(1, 1)).is_empty(), "of an old round");
    assert!(c.on(second, Event::HeardLeader).is_empty());
    assert!(
        c.on(second, granted(2, 1)).is_empty(),
        "not needed any more"
    );
    assert!(c.next_due().unwrap() > second + Settings::default().lease);
    assert!(!c.would_grant(second + Settings::default().lease));
    assert!(c.would_grant(second + Settings::default().lease + PAST));
}

#[test]
fn an_election_that_came_to_nothing_begins_again_with_pre_votes() {
    let Settings { lease, spread, .. } = Settings::default();
    for lost in [false, true] {
        let mut c = campaign(3);
        let (at, _) = next(&mut c);
        assert_eq!(c.on(at, granted(1, 1)), [Effect::Elect]);
        if lost {
            c.on(at, Event::Lost);
        }
        let (again, effects) = next(&mut c);
        assert_eq!(round(&effects), 2);
        let most = if lost { spread } else { lease + PAST + spread };
        assert!(again <= at + most);
    }
}

#[test]
fn a_deposed_leader_waits_a_lease() {
    let mut c = campaign(3);
    c.on(ms(0), Event::Leading);
    assert!(!c.would_grant(ms(5_000)) && c.next_due().is_none());
    c.on(ms(5_000), Event::Following);
    assert!(!c.would_grant(ms(5_000) + Settings::default().lease));
    assert!(c.next_due().unwrap() > ms(5_000) + Settings::default().lease);
}

/// When it stands after a handover at 1,000 ms, the leader last heard at 990 ms, and at 1,050 ms
/// once more if so told.
fn handover(heard_again: bool) -> String {
    let mut c = campaign(3);
    c.on(ms(990), Event::HeardLeader);
    let mut told = c.on(ms(1_000), Event::TakeOver);
    if heard_again {
        told.extend(c.on(ms(1_050), Event::HeardLeader));
    }
    assert!(told.is_empty());
    let mut out = String::new();
    for _ in 0..7 {
        let (at, effects) = next(&mut c);
        let what = if effects == [Effect::Elect] {
            "elect"
        } else {
            "ask"
        };
        out += &format!("{what} {} ", at.as_millis());
    }
    out
}

#[test]
fn a_handover_stands_when_the_lease_is_over_a_few_times() {
    expect!["elect 1291 elect 1328 elect 1366 elect 1403 elect 1441 ask 1801 ask 1913 "]
        .assert_eq(&handover(false));
    expect!["elect 1351 elect 1388 elect 1426 elect 1463 elect 1501 ask 1861 ask 1973 "]
        .assert_eq(&handover(true));
}

#[test]
fn a_handover_ends_with_leading_or_after_three_seconds() {
    let mut c = campaign(3);
    c.on(ms(1_000), Event::TakeOver);
    c.on(ms(1_100), Event::Leading);
    assert_eq!(c.next_due(), None);

    let mut c = campaign(3);
    c.on(ms(1_000), Event::TakeOver);
    for beat in (1_000..8_000).step_by(60) {
        while c.next_due().is_some_and(|due| due <= ms(beat)) {
            assert!(
                c.on(ms(beat), Event::Tick)
                    .iter()
                    .all(|e| *e != Effect::Elect)
                    || beat == 1_000
            );
        }
        assert!(c.on(ms(beat), Event::HeardLeader).is_empty());
    }
    assert!(matches!(c.phase, Phase::Waiting { .. }));
}

/// After the leader's death at a random moment: how long until someone stands, sorted.
fn failovers(n: usize, runs: u64, loss_permille: u64) -> Vec<u64> {
    let one = |seed| {
        let mut net = Net::led(n, seed, loss_permille);
        let death = 1_000 + seed * 7 % 60;
        net.run(death);
        assert!(net.elections.is_empty() || loss_permille > 0);
        net.elections.clear();
        let leader = net.leader().unwrap();
        net.up[leader] = false;
        net.run(death + 3_000);
        net.elections.first().map_or(9_999, |(at, _)| at - death)
    };
    let mut all: Vec<u64> = (0..runs).map(one).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_dead_leader_is_followed_well_within_a_second() {
    let Settings {
        lease,
        spread,
        retry,
    } = Settings::default();
    let bound = (lease + spread + 2 * retry).as_millis() as u64;
    let mut table = String::new();
    for (n, loss) in [(3, 0), (5, 0), (3, 20), (5, 20), (3, 50), (5, 50)] {
        let all = failovers(n, 500, loss);
        let within = all.iter().filter(|t| **t <= bound).count();
        assert!(within >= 495, "{n} nodes, {loss} ‰: {within}");
        let (median, p99) = (all[250], all[495]);
        table += &format!("{n} nodes, {loss} ‰ lost: median {median} ms, p99 {p99} ms\n");
    }
    expect![[r#"
        3 nodes, 0 ‰ lost: median 324 ms, p99 424 ms
        5 nodes, 0 ‰ lost: median 307 ms, p99 390 ms
        3 nodes, 20 ‰ lost: median 328 ms, p99 429 ms
        5 nodes, 20 ‰ lost: median 309 ms, p99 389 ms
        3 nodes, 50 ‰ lost: median 332 ms, p99 444 ms
        5 nodes, 50 ‰ lost: median 310 ms, p99 408 ms
    "#]]
    .assert_eq(&table);
}

#[test]
fn a_quiet_network_has_one_leader_and_keeps_it() {
    for seed in 0..20 {
        for n in [3, 5] {
            let mut net = Net::new(n, seed, 0);
            net.run(3_000);
            let (leader, elections) = (net.leader().unwrap(), net.elections.len());
            net.run(10_000);
            assert_eq!(
                (net.leader(), net.elections.len()),
                (Some(leader), elections)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// `Net::elect` checks it, whatever is cut off and lost.
    #[test]
    fn nobody_stands_while_a_majority_hears_the_leader(
        seed: u64,
        five: bool,
        loss in 0u64..400,
        cuts in prop::collection::vec((0usize..5, any::<bool>(), 1u64..700), 0..12),
    ) {
        let n = if five { 5 } else { 3 };
        let mut net = Net::led(n, seed, loss);
        for (who, is_cut, wait) in cuts {
            net.cut[who % n] = is_cut;
            net.run(net.now + wait);
        }
    }

    #[test]
    fn who_is_cut_off_neither_stands_nor_disturbs_when_it_is_back(seed: u64, five: bool, away in 1u64..20_000) {
        let n = if five { 5 } else { 3 };
        let mut net = Net::led(n, seed, 0);
        net.run(500);
        net.cut[1] = true;
        net.run(500 + away);
        net.cut[1] = false;
        net.run(3_000 + away);
        prop_assert!(net.elections.is_empty());
        prop_assert_eq!(net.leader(), Some(0));
        prop_assert!(net.terms.iter().all(|t| *t == 1));
    }

    #[test]
    fn a_leader_that_was_cut_off_is_followed_and_follows(seed: u64, five: bool) {
        let n = if five { 5 } else { 3 };
        let mut net = Net::led(n, seed, 0);
        net.run(500);
        net.cut[0] = true;
        net.run(3_000);
        net.cut[0] = false;
        net.run(4_000);
        let leader = net.leader();
        prop_assert!(leader.is_some_and(|l| l != 0));
        prop_assert!(net.leads_since[0].is_none());
    }

    #[test]
    fn a_seed_gives_one_course_of_events(seed: u64, loss in 0u64..300) {
        let course = |seed| {
            let mut net = Net::new(5, seed, loss);
            net.run(4_000);
            (net.elections, net.terms, net.sent)
        };
        prop_assert_eq!(course(seed), course(seed));
    }
}
