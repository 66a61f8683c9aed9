//! A cluster in memory: twenty nodes on a network that delays and loses packets, from one seed.
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use hale_chaos::gossip::Cluster;
use hale_membership::{Event, Member, Membership, Profile, Settings, State, Tip, Tuning};
use hale_model::Digest;
use std::sync::Arc;
use std::time::Duration;

const NODES: usize = 20;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn profile(n: usize) -> Profile {
    Cluster::profile(n).unwrap()
}

fn profiles(w: &Cluster, n: usize) -> usize {
    w.view(n).iter().filter(|m| m.profile.is_some()).count()
}

fn seen(w: &Cluster, by: usize, of: usize) -> Member {
    let mut view = w.view(by).into_iter();
    view.find(|m| m.contact == w.contact(of)).unwrap()
}

/// Who was taken for dead.
fn downs(w: &Cluster) -> Vec<usize> {
    let downs = w.heard.iter().filter(|h| !h.up);
    downs.map(|h| h.of).collect()
}

/// All nodes started one after the other through the first.
fn formed(seed: u64, loss_percent: u64) -> Cluster {
    let mut w = Cluster::new(NODES, seed, loss_percent);
    for n in 0..NODES {
        w.start(n, &[0]).unwrap();
        w.run(ms(20));
    }
    assert!(w.run_until(ms(30_000), |w| w.all_see(NODES)), "not formed");
    w
}

#[test]
fn twenty_nodes_find_each_other_through_one_seed() {
    let mut w = formed(1, 0);
    assert!(w.now() < ms(5_000), "it took {:?}", w.now());
    let know = |w: &Cluster| (0..NODES).all(|n| profiles(w, n) == NODES);
    assert!(
        w.run_until(ms(60_000), know),
        "profiles are not known everywhere"
    );
    assert_eq!(seen(&w, 7, 3).profile, Some(profile(3)));
}

#[test]
fn a_death_is_known_everywhere_within_ten_seconds() {
    let mut w = formed(2, 0);
    w.run(ms(5_000));
    let died = w.now();
    w.kill(11);
    assert!(
        w.run_until(ms(30_000), |w| w.all_see(NODES - 1)),
        "it was not noticed"
    );
    assert!(w.now() - died < ms(10_000), "it took {:?}", w.now() - died);
    assert!(downs(&w).iter().all(|n| *n == 11));
}

#[test]
fn nobody_is_taken_for_dead_while_one_packet_in_twenty_is_lost() {
    for seed in 3..5 {
        let mut w = formed(seed, 5);
        w.run(ms(120_000));
        assert_eq!(downs(&w), Vec::<usize>::new(), "seed {seed}");
        assert!(w.all_see(NODES));
    }
}

#[test]
fn a_node_that_was_restarted_is_alive_again_at_once() {
    let mut w = formed(6, 0);
    w.kill(4);
    assert!(w.run_until(ms(20_000), |w| w.all_see(NODES - 1)));
    w.start(4, &[9, 0]).unwrap();
    // An epidemic may miss one: that one hears of it by a probe, or an exchange.
    let nearly_all = |w: &Cluster| (0..NODES).filter(|n| w.alive(*n) == NODES).count() >= NODES - 1;
    assert!(w.run_until(ms(3_000), nearly_all), "nobody hears of it");
    assert!(w.run_until(ms(20_000), |w| w.all_see(NODES)));
}

#[test]
fn a_node_whose_clock_was_put_back_is_alive_again_for_all() {
    let mut w = formed(14, 2);
    w.kill(4);
    w.run(ms(1_000));
    w.clock_ms -= 30 * 24 * 3_600_000;
    w.start(4, &[9, 0]).unwrap();
    let back = w.now();
    w.run(ms(8_000));
    let lives = |w: &Cluster, n| seen(w, n, 4).state == State::Alive;
    let all = |w: &Cluster| (0..NODES).all(|n| lives(w, n)) && w.all_see(NODES);
    assert!(w.run_until(ms(20_000), all), "it is not alive for all");
    assert!(w.now() - back < ms(20_000), "it took {:?}", w.now() - back);
    assert_eq!(w.view(0).len(), NODES);
}

#[test]
fn seeds_are_asked_until_one_answers() {
    let mut w = Cluster::new(NODES, 7, 0);
    for n in 0..3 {
        w.start(n, &[]).unwrap();
    }
    for n in 0..3 {
        w.kill(n);
    }
    w.start(3, &[0, 1]).unwrap();
    w.run(ms(20_000));
    assert_eq!(w.alive(3), 1);
    w.start(1, &[]).unwrap();
    assert!(w.run_until(ms(20_000), |w| w.alive(3) == 2 && w.alive(1) == 2));
}

#[test]
fn two_halves_find_each_other_again() {
    let mut w = formed(8, 0);
    let half = NODES / 2;
    w.cut = (0..NODES)
        .flat_map(|a| (0..NODES).map(move |b| (a, b)))
        .filter(|(a, b)| (*a < half) != (*b < half))
        .collect();
    assert!(
        w.run_until(ms(60_000), |w| w.all_see(half)),
        "the halves do not notice"
    );
    w.cut.clear();
    assert!(
        w.run_until(ms(180_000), |w| w.all_see(NODES)),
        "the halves stay apart"
    );
}

#[test]
fn who_leaves_is_down_everywhere_soon() {
    let mut w = formed(9, 0);
    w.give(5, Event::Leave);
    w.run(ms(200));
    w.kill(5);
    let left = w.now();
    assert!(w.run_until(ms(20_000), |w| w.all_see(NODES - 1)));
    assert!(w.now() - left < ms(3_000), "it took {:?}", w.now() - left);
}

#[test]
fn a_changed_profile_is_heard_everywhere_and_not_told_all_the_time() {
    let mut w = formed(10, 0);
    w.run(ms(10_000));
    for size in 1..=500 {
        let chain = Some(Tip {
            size,
            hash: Digest::of(&size.to_be_bytes()),
        });
        w.give(
            2,
            Event::Profile(Profile {
                chain,
                ..profile(2)
            }),
        );
        w.run(ms(10));
    }
    let heard = |w: &Cluster| {
        (0..NODES).all(|n| {
            let chain = seen(w, n, 2).profile.and_then(|p| p.chain);
            chain.is_some_and(|t| t.size == 500)
        })
    };
    assert!(w.run_until(ms(60_000), heard));
}

#[test]
fn one_seed_gives_one_history() {
    let history = |seed| {
        let mut w = formed(seed, 5);
        w.kill(3);
        w.run(ms(20_000));
        w.trace()
    };
    assert_eq!(history(11), history(11));
    assert_ne!(history(11), history(12));
}

#[test]
fn a_liar_is_not_believed() {
    let mut w = formed(12, 0);
    let stolen = w.node(1).unwrap().everything().unwrap();
    // A packet that says to be from another than its connection's owner.
    let (to, bytes) = loop {
        w.run(ms(50));
        if let Some(packet) = w.packet_from(1) {
            break packet;
        }
    };
    let refused = |w: &Cluster, n: usize| w.node(n).unwrap().counts().refused_packets;
    let before = refused(&w, to);
    let from = w.contact(2).node;
    w.give(to, Event::Packet { from, bytes });
    assert_eq!(refused(&w, to), before + 1);
    // Garbage, and an exchange cut short.
    for bytes in [vec![7; 300], vec![0; 5_000]] {
        w.give(0, Event::Packet { from, bytes });
    }
    w.give(0, Event::Everything(stolen[..stolen.len() / 2].to_vec()));
    assert!(refused(&w, 0) >= 3);
    assert!(w.all_see(NODES));
}

#[test]
fn a_node_off_the_roster_is_down_whatever_it_says() {
    let mut w = formed(13, 0);
    let gone = w.contact(6).node;
    w.give(0, Event::Evict(gone));
    let seen = seen(&w, 0, 6);
    assert_eq!((seen.state, seen.profile), (State::Down, None));
}

/// What a member tells in an exchange that takes all others for down.
fn slander(world: &Cluster, of: &[usize], told: usize) -> Vec<u8> {
    let settings = Settings {
        key: world.key(4).clone(),
        addr: world.contact(4).addr,
        started_ms: world.clock_ms,
        seed: 7,
        admit: Arc::new(|_| true),
        tuning: Tuning::default(),
    };
    let mut liar = Membership::new(settings, &profile(4)).unwrap();
    let known = world.node(told).unwrap().everything().unwrap();
    liar.on(ms(1), Event::Everything(known));
    for n in of {
        liar.on(ms(1), Event::Evict(world.contact(*n).node));
    }
    liar.everything().unwrap()
}

#[test]
fn members_that_are_slandered_again_and_again_are_soon_alive_for_all_again() {
    for seed in 1..20 {
        let mut world = Cluster::new(5, seed, 2);
        for n in 0..4 {
            world.start(n, &[0]).unwrap();
        }
        // The liar says what it says and answers nobody.
        let lives = |w: &Cluster, by, of| {
            let view = w.view(by);
            let found = view.iter().find(|m| m.contact == w.contact(of));
            found.is_some_and(|m| m.state == State::Alive)
        };
        let all_alive = |w: &Cluster| (0..4).all(|by| (0..4).all(|of| lives(w, by, of)));
        assert!(
            world.run_until(ms(20_000), all_alive),
            "seed {seed}: they never met"
        );
        for round in 0..25usize {
            // One, or each in turn, is told that all others are down, at times that fall anywhere.
            let told = if seed % 2 == 0 { 1 } else { round % 4 };
            let others: Vec<usize> = (0..4).filter(|n| *n != told).collect();
            let bytes = slander(&world, &others, told);
            world.give(told, Event::Everything(bytes));
            let pause = ms(world.random(400));
            world.run(pause);
        }
        assert!(
            world.run_until(ms(8_000), all_alive),
            "seed {seed}: they are not all alive again"
        );
    }
}
