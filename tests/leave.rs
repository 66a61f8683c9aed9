//! How hosts go: they leave, or are removed.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Fleet, SETTLED, wait_until};
use std::io::Write;
use std::time::{Duration, Instant};

/// Within this time all others know that a host has left.
const GONE: Duration = Duration::from_secs(2);
/// Within this time a host that was removed reaches nobody any more.
const SHUT_OUT: Duration = Duration::from_secs(1);

fn tell(text: &str) {
    std::io::stderr()
        .write_all(format!("\n{text}\n").as_bytes())
        .unwrap();
}

/// Whether a node takes a host for a member that lives.
fn knows(fleet: &Fleet, node: usize, host: &str) -> bool {
    let members = fleet.members[node].get("/v1/members?consistency=stale");
    let mut all = members["members"].as_array().unwrap().iter();
    all.any(|m| m["host"] == host && m["state"] != "down")
}

fn leaves(fleet: &mut Fleet, who: usize) {
    let host = fleet.members[who].host.clone();
    let rest: Vec<usize> = (0..fleet.members.len())
        .filter(|n| *n != who && fleet.members[*n].is_started())
        .collect();
    let began = Instant::now();
    fleet.members[who]
        .cli(&["leave", "--reason", "retired", "--by", "ana"])
        .succeeded();
    let left = Instant::now();
    for n in &rest {
        let what = format!("{} knows that {host} has left", fleet.members[*n].host);
        wait_until(&what, GONE, || !knows(fleet, *n, &host));
    }
    tell(&format!(
        "hale leave of {host}: took {:?}, seen by {} others {:?} later",
        left - began,
        rest.len(),
        left.elapsed()
    ));
    let code = fleet.members[who].ends(Duration::from_secs(15));
    assert_eq!(code, Some(0), "the process ends by itself");
    let again = fleet.members[who].refuses();
    assert_eq!(again.code, Some(1), "{again}");
    for word in ["left its cluster", "hale join", "hale audit verify"] {
        assert!(again.stderr.contains(word), "`{word}`: {again}");
    }
}

#[test]
fn a_host_that_leaves_hands_over_the_lead_and_does_not_come_back() {
    let mut fleet = Fleet::of(4);
    let leader = fleet.leader();
    leaves(&mut fleet, leader);
    assert_ne!(fleet.leader(), leader, "another leads");
    wait_until("a run on what is left", SETTLED, || {
        let follower = fleet.follower();
        fleet.hold(follower, "a").is_some()
    });
    let follower = fleet.follower();
    leaves(&mut fleet, follower);
    fleet.settle();
    fleet.rest();
    let chain = fleet.one_chain();
    let removals = chain.entries.iter().filter(|e| e["kind"] == "removal");
    assert_eq!(removals.count(), 2);
    // The last one can't: there would be nobody left who knows what was done.
    let leader = fleet.leader();
    let other = fleet.follower();
    leaves(&mut fleet, other);
    let refused = fleet.members[leader].cli(&["leave"]);
    assert_eq!(refused.code, Some(4), "{refused}");
    assert!(refused.stderr.contains("next: "), "{refused}");
    fleet.one_chain().assert_sound();
}

#[test]
fn a_host_that_is_removed_is_shut_out_at_once() {
    let mut fleet = Fleet::of(3);
    let removed = fleet.follower();
    let host = fleet.members[removed].host.clone();
    let rest: Vec<usize> = (0..3).filter(|n| *n != removed).collect();
    fleet.hold(removed, "a").unwrap();
    wait_until("it holds a lease", SETTLED, || !fleet.ticks("a").is_empty());
    fleet.members[rest[0]]
        .cli(&["remove", &host, "--yes", "--reason", "scrapped"])
        .succeeded();
    let began = Instant::now();
    for n in &rest {
        let what = format!("the lease is dead for {}", fleet.members[*n].host);
        wait_until(&what, SHUT_OUT, || fleet.lease(*n, "a").is_none());
        let what = format!("{} shuts {host} out", fleet.members[*n].host);
        wait_until(&what, SHUT_OUT, || !knows(&fleet, *n, &host));
    }
    tell(&format!(
        "hale remove of a holder: lease dead and shut out {:?} after the command",
        began.elapsed()
    ));
    // Whatever it is asked, nobody answers it: all that it has is what it knew.
    let other = &fleet.members[rest[1]].host;
    for path in [
        "/v1/leases".to_owned(),
        "/v1/audit/verify".to_owned(),
        format!("/v1/hosts/{other}/telemetry"),
    ] {
        let answer = fleet.members[removed].client().try_get(&path);
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
    }
    assert!(fleet.hold(removed, "b").is_none());
    let ticks = fleet.ticks("a").len();
    // Somebody else gets the lease, and the group is whole without it.
    wait_until("another gets the lease", SETTLED, || {
        fleet.hold(rest[0], "a").is_some()
    });
    wait_until("and acts", SETTLED, || fleet.ticks("a").len() > ticks);
    let readiness = fleet.members[removed].open_client().try_get("/readyz");
    assert_eq!(readiness.status, 503, "{}", readiness.text());
    fleet.members[removed].kill9();
    fleet.rest();
    fleet.settle();
    fleet.one_chain().assert_sound();
}

#[test]
fn a_host_without_which_nothing_could_be_decided_leaves_and_is_not_removed() {
    let mut fleet = Fleet::of(2);
    let (voter, other) = (fleet.leader(), fleet.follower());
    let host = fleet.members[voter].host.clone();
    let refused = fleet.members[other].cli(&["remove", &host, "--yes", "--reason", "x"]);
    assert_eq!(refused.code, Some(4), "{refused}");
    for word in ["no majority", "hale leave"] {
        assert!(refused.stderr.contains(word), "`{word}`: {refused}");
    }
    let freeze = ["freeze", "--by", "ana", "--reason", "it goes on"];
    fleet.members[other].cli(&freeze).succeeded();
    leaves(&mut fleet, voter);
    fleet.members[other]
        .cli(&["thaw", "--by", "ana"])
        .succeeded();
    fleet.one_chain().assert_sound();
}

#[test]
fn two_that_leave_at_the_same_moment_leave_one_after_the_other() {
    let mut fleet = Fleet::of(4);
    let leader = fleet.leader();
    let (voters, _) = fleet.seats(&fleet.members[leader]).unwrap();
    let leaving: Vec<usize> = (0..4)
        .filter(|n| *n != leader && voters.contains(&fleet.members[*n].host))
        .collect();
    assert_eq!(leaving.len(), 2);
    std::thread::scope(|scope| {
        for n in &leaving {
            let member = &fleet.members[*n];
            scope.spawn(|| member.cli(&["leave", "--by", "ana"]).succeeded());
        }
    });
    for n in leaving {
        assert_eq!(fleet.members[n].ends(Duration::from_secs(15)), Some(0));
    }
    fleet.settle();
    let freeze = ["freeze", "--by", "ana", "--reason", "it goes on"];
    fleet.members[leader].cli(&freeze).succeeded();
    fleet.one_chain().assert_sound();
}

#[test]
fn a_host_that_joined_and_lost_its_ledger_founds_no_second_cluster() {
    let mut fleet = Fleet::of(2);
    let other = fleet.follower();
    fleet.members[other].stop();
    std::fs::remove_dir_all(fleet.members[other].data.join("ledger")).unwrap();
    std::fs::remove_dir_all(fleet.members[other].data.join("chain")).unwrap();
    let refused = fleet.members[other].refuses();
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("holds no ledger"), "{refused}");
}
