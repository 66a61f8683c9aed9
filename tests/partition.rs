//! Five nodes whose network is cut: only a majority acts, and afterwards there is one chain.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Fleet, Network, SETTLED, alone, pause, wait_until};
use serde_json::json;
use std::io::Write;
use std::time::{Duration, Instant};

fn tell(text: &str) {
    std::io::stderr()
        .write_all(format!("\n{text}\n").as_bytes())
        .unwrap();
}

fn write(fleet: &Fleet, node: usize, by: &str, at_most: u64) -> bool {
    let budget = json!({ "name": "b", "service": "nothing", "at_most": at_most, "by": by });
    fleet.members[node].tell("/v1/budgets", &budget).is_some()
}

/// The leader that these nodes agree on, if they do.
fn leader_of(fleet: &Fleet, nodes: &[usize]) -> Option<usize> {
    let hosts: Option<Vec<String>> = nodes
        .iter()
        .map(|n| {
            let view = fleet.members[*n].ask("/v1/leader")?;
            Some(view["host"].as_str()?.to_owned())
        })
        .collect();
    let hosts = hosts?;
    hosts
        .iter()
        .all(|h| *h == hosts[0])
        .then(|| fleet.index_of(&hosts[0]))
}

fn a_minority_grants_nothing(fleet: &Fleet, network: &Network) {
    // The leader and one more are on the smaller side.
    let leader = fleet.leader();
    let few = [leader, (leader + 1) % 5];
    let most: Vec<usize> = (0..5).filter(|n| !few.contains(n)).collect();
    network.part(&few, &most);
    let began = Instant::now();
    wait_until("the larger side has a leader", SETTLED, || {
        leader_of(fleet, &most).is_some_and(|l| most.contains(&l))
    });
    wait_until("and grants", SETTLED, || fleet.hold(most[0], "a").is_some());
    wait_until("and acts", SETTLED, || !fleet.ticks("a").is_empty());
    tell(&format!(
        "partition 2|3: the larger side acts after {:?}",
        began.elapsed()
    ));
    for n in few {
        let ran = fleet.hold(n, "b");
        assert!(ran.is_none(), "{}: {ran:?}", fleet.members[n].host);
        assert!(!write(fleet, n, "the smaller side", 11));
    }
    let readiness = fleet.members[leader].open_client().try_get("/readyz");
    assert_eq!(readiness.status, 503, "{}", readiness.text());
    let stale = fleet.members[leader]
        .client()
        .try_get("/v1/leases?consistency=stale");
    let age: u64 = stale.headers["hale-age-ms"].parse().unwrap();
    assert!(age > 5_000, "what the old leader knows is {age} ms old");
    assert!(write(fleet, most[1], "the larger side", 12));
    assert!(fleet.ticks("b").is_empty(), "the smaller side never acts");
    network.heal();
    let healed = Instant::now();
    let chain = fleet.one_chain();
    tell(&format!(
        "healed: all chains equal after {:?}",
        healed.elapsed()
    ));
    let by = |text: &str| {
        chain
            .entries
            .iter()
            .filter(|e| e["body"]["by"] == text)
            .count()
    };
    assert_eq!((by("the larger side"), by("the smaller side")), (1, 0));
    fleet.settle();
    wait_until("the smaller side acts again", SETTLED, || {
        fleet.hold(few[0], "b").is_some()
    });
}

fn a_leader_that_is_not_heard_is_replaced(fleet: &Fleet, network: &Network) {
    let leader = fleet.leader();
    let rest: Vec<usize> = (0..5).filter(|n| *n != leader).collect();
    // It hears all of them, and none of them hears it.
    for n in &rest {
        network.cut(leader, *n);
    }
    let began = Instant::now();
    wait_until("the others have a leader", SETTLED, || {
        leader_of(fleet, &rest).is_some_and(|l| l != leader)
    });
    wait_until("and write", SETTLED, || {
        write(fleet, rest[0], "without the mute one", 13)
    });
    tell(&format!(
        "one-way cut of the leader: the others write after {:?}",
        began.elapsed()
    ));
    network.heal();
    fleet.leader();
    fleet.one_chain();
    // The other way: nobody is heard by it, and all of them hear it.
    let leader = fleet.leader();
    for n in (0..5).filter(|n| *n != leader) {
        network.cut(n, leader);
    }
    let began = Instant::now();
    let rest: Vec<usize> = (0..5).filter(|n| *n != leader).collect();
    let mut n = 20;
    wait_until("the others write without the deaf one", SETTLED, || {
        n += 1;
        write(fleet, rest[0], "without the deaf one", n)
    });
    tell(&format!(
        "a leader that hears nobody: the others write after {:?}",
        began.elapsed()
    ));
    network.heal();
    fleet.leader();
    fleet.rest();
    fleet.one_chain().assert_sound();
}

#[test]
fn only_a_majority_acts_and_afterwards_there_is_one_chain() {
    let test = "only_a_majority_acts_and_afterwards_there_is_one_chain";
    let _alone = alone();
    let Some(network) = Network::of(test, 5) else {
        return;
    };
    let fleet = Fleet::within(network, 5);
    let network = fleet.network.as_ref().unwrap();
    a_minority_grants_nothing(&fleet, network);
    a_leader_that_is_not_heard_is_replaced(&fleet, network);
    for name in ["a", "b"] {
        fleet.assert_held_by_one(name);
    }
}

#[test]
fn a_leader_whose_disk_is_full_gives_up_the_lead_until_there_is_room() {
    let test = "a_leader_whose_disk_is_full_gives_up_the_lead_until_there_is_room";
    let _alone = alone();
    let mut fleet = Fleet::new(None);
    let Some(disk) = hale_tests::Disk::small(test, &fleet.members[0].data, 80) else {
        return;
    };
    fleet.found();
    fleet.grow(2);
    fleet.settle();
    if fleet.leader() != 0 {
        let host = fleet.members[0].host.clone();
        fleet.members[0]
            .cli(&["transfer-leadership", &host])
            .succeeded();
        assert_eq!(fleet.leader(), 0);
    }
    disk.fill(8);
    let began = Instant::now();
    wait_until("another leads", SETTLED, || {
        leader_of(&fleet, &[1, 2]).is_some_and(|l| l != 0)
    });
    tell(&format!(
        "a full disk: another leads after {:?}",
        began.elapsed()
    ));
    let mut n = 30;
    wait_until("a write by one that has room", SETTLED, || {
        n += 1;
        write(&fleet, 1, "with room", n)
    });
    // It still takes questions and forwards what is written.
    wait_until("a write through the full node", SETTLED, || {
        n += 1;
        write(&fleet, 0, "through the full one", n)
    });
    let log = fleet.members[0].log();
    assert!(log.contains("gives up the lead"), "{log}");
    pause(Duration::from_secs(1));
    assert_ne!(fleet.leader(), 0, "it does not take the lead back");
    disk.empty();
    let host = fleet.members[0].host.clone();
    wait_until("it can lead again", SETTLED, || {
        fleet.members[1]
            .cli(&["transfer-leadership", &host])
            .success()
    });
    wait_until("it leads", SETTLED, || fleet.leader_known() == Some(0));
    assert!(write(&fleet, 0, "with room again", 99));
    fleet.one_chain().assert_sound();
    drop(fleet);
    drop(disk);
}
