//! The leader is killed, over and over, while clients write and leases are held: nothing that was
//! acknowledged is lost, no lease is held twice, and the next one is granted soon.
//!
//! `HALE_KILLS=20 cargo test -p hale-tests --test failover -- --nocapture` takes more rounds.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Fleet, SETTLED, Writers, assert_written, wait_until};
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Rounds of the normal suite.
const KILLS: usize = 5;
/// The most that may pass, on a busy machine, until a new lease is granted.
const GRANTED: Duration = Duration::from_secs(5);
/// How many write at a time.
const CLIENTS: usize = 4;

fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

/// What one round took, in milliseconds.
struct Took {
    lease: u128,
    write: u128,
}

fn kill_the_leader(fleet: &mut Fleet, writers: &Writers) -> Took {
    let leader = fleet.leader();
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    // The leader holds one lease, and two nodes want another.
    let before: Vec<usize> = ["a", "b", "c"].map(|n| fleet.ticks(n).len()).to_vec();
    fleet.hold(leader, "a");
    fleet.hold(one, "b");
    fleet.hold(other, "b");
    wait_until("two leases are held", SETTLED, || {
        fleet.ticks("a").len() > before[0] && fleet.ticks("b").len() > before[1]
    });
    let acked = writers.count();
    wait_until("the clients write", SETTLED, || writers.count() > acked);

    let (killed, killed_at) = (now_ns(), Instant::now());
    fleet.members[leader].kill9();
    // Whoever is left wants what the killed leader held, and something new.
    wait_until("a run begins without the killed leader", SETTLED, || {
        fleet.hold(one, "c").is_some()
    });
    fleet.hold(other, "a");
    let mut granted = 0;
    wait_until("a new lease is granted", SETTLED, || {
        let tick = fleet.ticks("c").get(before[2]).map(|(_, at)| *at);
        granted = tick.unwrap_or(0);
        tick.is_some()
    });
    let mut written = None;
    wait_until("a write is acknowledged again", SETTLED, || {
        written = writers.first_after(killed_at);
        written.is_some()
    });
    fleet.members[leader].run();
    fleet.leader();
    fleet.rest();
    Took {
        lease: (granted - killed) / 1_000_000,
        write: (written.unwrap() - killed_at).as_millis(),
    }
}

fn told(what: &str, mut all: Vec<u128>) {
    all.sort_unstable();
    let at = |part: usize| all[(all.len() * part / 100).min(all.len() - 1)];
    let (median, p90, max) = (at(50), at(90), all[all.len() - 1]);
    let text = format!(
        "\n{what} after {} kills of the leader: median {median} ms, p90 {p90} ms, max {max} ms\n",
        all.len()
    );
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_killed_leader_loses_nothing_and_the_next_lease_is_granted_soon() {
    let kills = std::env::var("HALE_KILLS").ok();
    let kills: usize = kills.map_or(KILLS, |k| k.parse().unwrap());
    let mut fleet = Fleet::of(3);
    let clients: Vec<_> = fleet.members.iter().map(|m| m.client()).collect();
    let writers = Writers::start(CLIENTS, &clients);
    let took: Vec<Took> = (0..kills)
        .map(|_| kill_the_leader(&mut fleet, &writers))
        .collect();
    let acked = writers.end();
    fleet.rest();
    let chain = fleet.one_chain();
    told("a new lease", took.iter().map(|t| t.lease).collect());
    told(
        "a write by any client",
        took.iter().map(|t| t.write).collect(),
    );
    let text = format!(
        "{} writes were acknowledged, the chain has {} entries\n",
        acked.len(),
        chain.entries.len()
    );
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    assert_written(&chain, &acked);
    chain.assert_sound();
    for name in ["a", "b", "c"] {
        fleet.assert_held_by_one(name);
    }
    for t in &took {
        assert!(
            t.lease < GRANTED.as_millis(),
            "a lease after {} ms",
            t.lease
        );
    }
}
