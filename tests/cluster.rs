//! Three nodes and what happens to them: one hangs, all restart, all move, one is wiped, most are
//! gone. Whatever it is, one group is left with one chain.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Fleet, SETTLED, Start, Writers, assert_written, pause, wait_until};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

/// What must be seen at once, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long a write waits for a leader, and some.
const BOUNDED_WAIT: Duration = Duration::from_secs(9);

fn tell(text: &str) {
    std::io::stderr()
        .write_all(format!("\n{text}\n").as_bytes())
        .unwrap();
}

/// One entry, through one node; whether it is acknowledged.
fn write(fleet: &Fleet, node: usize, by: &str, at_most: u64) -> bool {
    let budget = json!({ "name": "b", "service": "nothing", "at_most": at_most, "by": by });
    fleet.members[node].tell("/v1/budgets", &budget).is_some()
}

fn others(fleet: &Fleet, than: usize) -> Vec<usize> {
    (0..fleet.members.len()).filter(|n| *n != than).collect()
}

fn freeze_is_seen_everywhere(fleet: &Fleet) {
    for frozen in [true, false] {
        let word = if frozen { "freeze" } else { "thaw" };
        let asked = fleet.follower();
        let began = Instant::now();
        fleet.members[asked]
            .cli(&[word, "--reason", "a test", "--by", "ana"])
            .succeeded();
        let done = Instant::now();
        for member in &fleet.members {
            wait_until(&format!("{} sees the {word}", member.host), AT_ONCE, || {
                member.get("/v1/freeze?consistency=stale")["frozen"] == frozen
            });
        }
        tell(&format!(
            "{word}: on all nodes {:?} after the command began, {:?} after it ended",
            began.elapsed(),
            done.elapsed()
        ));
        if frozen {
            let run = json!({ "service": "a", "by": "ana" });
            for member in &fleet.members {
                let refused = member.client().try_post("/v1/playbooks/hold_a/run", &run);
                assert_eq!(refused.error()[2], "hale thaw", "{}", refused.text());
            }
        }
    }
}

fn the_lead_goes_to_whom_is_named(fleet: &Fleet) {
    for _ in 0..2 {
        let leader = fleet.leader();
        let to = others(fleet, leader)[1];
        let asked = others(fleet, leader)[0];
        let host = fleet.members[to].host.clone();
        let began = Instant::now();
        fleet.members[asked]
            .cli(&["transfer-leadership", &host])
            .succeeded();
        tell(&format!(
            "transfer-leadership {host}: {:?}",
            began.elapsed()
        ));
        assert_eq!(fleet.leader(), to, "the lead goes to {host}");
    }
    let refused = fleet.members[0].cli(&["transfer-leadership", "host-99"]);
    assert!(
        refused.stderr.contains("hale members"),
        "an unknown host: {refused}"
    );
}

fn a_leader_that_hangs_is_replaced(fleet: &Fleet) {
    let leader = fleet.leader();
    let rest = others(fleet, leader);
    let clients: Vec<_> = rest.iter().map(|n| fleet.members[*n].client()).collect();
    fleet.members[leader].freeze();
    let writers = Writers::start(2, &clients);
    let began = Instant::now();
    wait_until("a write without the leader that hangs", SETTLED, || {
        writers.count() > 5
    });
    tell(&format!(
        "SIGSTOP of the leader: a write after {:?}",
        writers.first_after(began).unwrap() - began
    ));
    fleet.members[leader].resume();
    // It takes what the others decided, and leads no more.
    assert!(rest.contains(&fleet.leader()));
    let acked = writers.end();
    assert_written(&fleet.one_chain(), &acked);
}

fn a_follower_that_hangs_disturbs_nobody(fleet: &Fleet) {
    let leader = fleet.leader();
    let hangs = others(fleet, leader)[0];
    let term = |n: usize| fleet.members[n].get("/v1/voters")["term"].clone();
    let before = term(leader);
    let clients = [leader, others(fleet, leader)[1]].map(|n| fleet.members[n].client());
    fleet.members[hangs].freeze();
    let writers = Writers::start(2, &clients);
    wait_until("writes without the follower", SETTLED, || {
        writers.count() > 20
    });
    fleet.members[hangs].resume();
    let acked = writers.end();
    assert_written(&fleet.one_chain(), &acked);
    assert_eq!(fleet.leader(), leader, "the leader leads on");
    assert_eq!(term(leader), before, "and nobody stood for election");
}

#[test]
fn a_node_that_hangs_is_worked_around_and_comes_back() {
    let fleet = Fleet::of(3);
    freeze_is_seen_everywhere(&fleet);
    the_lead_goes_to_whom_is_named(&fleet);
    a_leader_that_hangs_is_replaced(&fleet);
    a_follower_that_hangs_disturbs_nobody(&fleet);
    fleet.one_chain().assert_sound();
}

/// Every node is started again, and what was written is there.
fn everyone_comes_back(fleet: &mut Fleet, written: &[Value], how: &str) {
    let began = Instant::now();
    for member in &mut fleet.members {
        member.spawn();
    }
    for member in &mut fleet.members {
        member.ready();
    }
    fleet.leader();
    tell(&format!(
        "{how}: one leader again after {:?}",
        began.elapsed()
    ));
    wait_until("a write is taken", SETTLED, || write(fleet, 1, how, 7));
    tell(&format!("{how}: a write after {:?}", began.elapsed()));
    assert!(write(fleet, 2, how, 8), "{how}: another write");
    let chain = fleet.one_chain();
    assert!(chain.entries.len() >= written.len());
    assert_eq!(&chain.entries[..written.len()], written);
}

#[test]
fn a_cluster_comes_back_from_restarts_moves_and_a_wiped_node() {
    let mut fleet = Fleet::of(3);
    assert!(write(&fleet, 1, "before", 5));
    let written = fleet.one_chain().entries;
    for member in &mut fleet.members {
        member.kill9();
    }
    everyone_comes_back(&mut fleet, &written, "kill -9 of everyone");

    let written = fleet.one_chain().entries;
    for member in &mut fleet.members {
        member.stop();
    }
    everyone_comes_back(&mut fleet, &written, "a restart of everyone");

    // All get other addresses; two are told where the first is now.
    let written = fleet.one_chain().entries;
    for member in &mut fleet.members {
        member.stop();
        member.move_ports();
    }
    let seed = fleet.members[0].seed();
    for member in &mut fleet.members[1..] {
        member.start = Start::Join(vec![seed.clone()], None);
    }
    everyone_comes_back(&mut fleet, &written, "a move of everyone");

    a_wiped_node_joins_anew(&mut fleet);
}

fn a_wiped_node_joins_anew(fleet: &mut Fleet) {
    // Its removal is refused while one of the others is not known to be back.
    fleet.settle();
    let wiped = fleet.follower();
    let host = fleet.members[wiped].host.clone();
    fleet.members[wiped].kill9();
    std::fs::remove_dir_all(&fleet.members[wiped].data).unwrap();
    let asked = others(fleet, wiped)[0];
    let token = fleet.members[asked].post("/v1/tokens", &json!({ "by": "ana" }));
    let token = token["token"].as_str().unwrap().to_owned();
    let seeds = vec![fleet.members[asked].seed()];
    fleet.members[wiped].start = Start::Join(seeds, Some(token));
    // Its host's name is taken until the node that it was is removed.
    let refused = fleet.members[wiped].refuses();
    assert!(
        refused.code == Some(1) && refused.stderr.contains("hale remove"),
        "{refused}"
    );
    fleet.members[asked]
        .cli(&["remove", &host, "--yes", "--reason", "wiped"])
        .succeeded();
    fleet.members[wiped].run();
    fleet.settle();
    fleet.one_chain().assert_sound();
    tell("a wiped node: joined anew, with a seat and the whole chain");
}

#[test]
fn without_a_quorum_nothing_is_written_and_what_is_known_is_told() {
    let mut fleet = Fleet::of(3);
    let left = fleet.follower();
    let gone = others(&fleet, left);
    for n in &gone {
        fleet.members[*n].kill9();
    }
    let member = &fleet.members[left];
    // What it watches goes on being watched.
    let seen = |path: &str| member.get(path);
    let telemetry = format!("/v1/hosts/{}/telemetry", member.host);
    let before = seen(&telemetry);
    for _ in 0..2 {
        let began = Instant::now();
        let budget = json!({ "name": "b", "service": "nothing", "at_most": 3, "by": "ana" });
        let refused = member.client().try_post("/v1/budgets", &budget);
        let took = began.elapsed();
        assert_eq!(refused.status, 503, "{}", refused.text());
        let [_, message, next] = refused.error();
        assert!(next.contains("hale voters"), "{message}; {next}");
        assert!(took < BOUNDED_WAIT, "it took {took:?}");
        tell(&format!(
            "no quorum: a write is refused after {took:?}: {message}; next: {next}"
        ));
    }
    let age = || {
        let stale = member.client().try_get("/v1/leases?consistency=stale");
        assert_eq!(stale.status, 200, "{}", stale.text());
        stale.headers["hale-age-ms"].parse::<u64>().unwrap()
    };
    let first = age();
    assert!(first >= 4_000, "it is {first} ms old");
    pause(Duration::from_millis(300));
    assert!(age() > first, "and gets older");
    let readiness = member.open_client().try_get("/readyz");
    assert_eq!(readiness.status, 503, "{}", readiness.text());
    let fresh = member.client().try_get("/v1/leases");
    assert_eq!(fresh.status, 503, "{}", fresh.text());
    wait_until("its sensors are read on", SETTLED, || {
        seen(&telemetry) != before
    });
    let voters = member.cli(&["voters"]);
    tell(&format!("no quorum: hale voters: {voters}"));
    assert!(fleet.hold(left, "a").is_none(), "and nothing may run");
    assert_eq!(fleet.ticks("a"), []);

    for n in &gone {
        fleet.members[*n].spawn();
    }
    wait_until("it acts again with a quorum", SETTLED, || {
        fleet.hold(left, "b").is_some()
    });
    wait_until("the run's step is done", SETTLED, || {
        !fleet.ticks("b").is_empty()
    });
    for n in &gone {
        fleet.members[*n].ready();
    }
    fleet.rest();
    fleet.one_chain().assert_sound();
}
