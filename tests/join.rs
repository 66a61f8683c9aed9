//! How hosts join a cluster, and how they are told why they do not.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Ended, Fleet, Member, Start, free_port, skipped, wait_until};
use serde_json::json;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

/// A member is seen as it is within this time, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn hosts_join_by_any_seed_in_any_order_and_restart_with_the_same_command_line() {
    let mut fleet = Fleet::new(None);
    fleet.found();
    let token = Some(fleet.token(10));
    let nobody = format!("127.0.0.1:{}", free_port());
    let seeds_of = |fleet: &Fleet, members: &[usize]| {
        let found = members.iter().map(|n| fleet.members[*n].seed());
        [nobody.clone()].into_iter().chain(found).collect()
    };
    // The first seed is never there; the second host lets the third in.
    let seeds = seeds_of(&fleet, &[0]);
    let second = fleet.add(Start::Join(seeds, token.clone()));
    fleet.members[second].run();
    let seeds = seeds_of(&fleet, &[second, 0]);
    let third = fleet.add(Start::Join(seeds, token.clone()));
    fleet.members[third].run();
    // Two at once, through whoever; one of the seeds is not a member yet itself.
    let seeds = seeds_of(&fleet, &[third, second]);
    let fourth = fleet.add(Start::Join(seeds, token.clone()));
    let seeds = seeds_of(&fleet, &[fourth, second, 0]);
    let fifth = fleet.add(Start::Join(seeds, token));
    fleet.members[fifth].spawn();
    fleet.members[fourth].run();
    fleet.members[fifth].ready();
    fleet.settle();
    fleet.one_chain().assert_sound();

    // The same command line again: no token is looked at, and no seed needed.
    for n in [third, fifth] {
        fleet.members[n].kill9();
    }
    for n in [third, fifth] {
        fleet.members[n].run();
    }
    fleet.settle();
    let chain = fleet.one_chain();
    let enrolled = chain.entries.iter().filter(|e| e["kind"] == "enrolment");
    assert_eq!(enrolled.count(), 5, "nobody was let in twice");
}

#[test]
fn a_host_joins_a_cluster_whose_ledger_has_grown() {
    let mut fleet = Fleet::new(None);
    fleet.found();
    for n in 0..127 {
        let name = format!("{n}-{}", "x".repeat(50));
        let budget = json!({ "name": name, "at_most": 3, "by": "ana" });
        fleet.members[0].post("/v1/budgets", &budget);
    }
    for n in 0..200 {
        let body = json!({ "by": "ana", "reason": format!("{n}") });
        fleet.members[0].post("/v1/freeze", &body);
    }
    // Hosts with many services of long names: together more than a stranger may say, which is less
    // than it is told.
    let names: Vec<String> = (10..74)
        .map(|n| format!("{}-{n}", "service".repeat(34)))
        .collect();
    let mut sections = "[telemetry]\ninterval = \"2s\"\n".to_owned();
    for name in &names {
        sections.push_str(&format!("[[telemetry.services]]\nname = {name:?}\n"));
    }
    let all = json!({ "name": "all", "service": names[0], "percent": 100, "by": "ana" });
    fleet.members[0].post("/v1/budgets", &all);
    for n in 1..=5 {
        let host = format!("many-{n}");
        let mut member = Member::new(fleet.scratch.dir(), &host, fleet.joining(), &sections);
        member.run();
        fleet.members.push(member);
        wait_until("its services are told", SOON, || {
            let told = fleet.members[0].get("/v1/budgets");
            let mut budgets = told["budgets"].as_array().into_iter().flatten();
            budgets.any(|b| b["name"] == "all" && b["allowed"] == n)
        });
    }
    let kept = fleet.members[5].data.join("ledger/copy");
    let size = std::fs::metadata(&kept).unwrap().len();
    assert!(size > 70_000, "the copy has only {size} bytes");
}

/// Tries, and expects to be told all of `words`.
#[track_caller]
fn told(member: &Member, words: &[&str]) -> Ended {
    let ended = member.refuses();
    expect(&ended, words);
    ended
}

#[track_caller]
fn expect(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended}");
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is not told: {ended}");
    }
    assert!(!ended.stderr.contains("panicked"), "{ended}");
}

/// A host that is no member, with a directory of its own.
fn stranger(fleet: &Fleet, n: &str, seeds: &[String], token: Option<&str>) -> Member {
    let start = Start::Join(seeds.to_vec(), token.map(str::to_owned));
    let mut member = Member::new(fleet.scratch.dir(), &format!("stranger-{n}"), start, "");
    member.join_timeout = "3s";
    member
}

#[test]
fn who_is_not_let_in_is_told_why_and_what_to_type() {
    let mut fleet = Fleet::new(None);
    fleet.found();
    let good = fleet.token(1);
    let seeds = [fleet.members[0].seed()];
    let (id, secret) = good.split_once('.').unwrap();

    let unknown = format!("tok_0123456789.{secret}");
    told(
        &stranger(&fleet, "id", &seeds, Some(&unknown)),
        &["tok_0123456789", "hale token ls", "hale token create"],
    );
    let wrong = format!("{id}.{}", "ab".repeat(32));
    let ended = told(
        &stranger(&fleet, "secret", &seeds, Some(&wrong)),
        &["secret is not that of token", id, "hale token create"],
    );
    assert!(!ended.stderr.contains(&"ab".repeat(32)), "{ended}");
    for malformed in ["", "tok_", "hello", &good[..good.len() - 1]] {
        let ended = stranger(&fleet, "malformed", &seeds, Some(malformed)).refuses();
        expect(&ended, &["not a join token", "hale token create"]);
        assert!(!ended.stderr.contains(secret), "{ended}");
    }
    told(
        &stranger(&fleet, "no-token", &seeds, None),
        &["no token is given", "hale token create"],
    );
    let nobody = [format!("127.0.0.1:{}", free_port())];
    let ended = told(
        &stranger(&fleet, "no-seed", &nobody, Some(&good)),
        &["no seed could be reached", &nobody[0], "hale members"],
    );
    assert!(ended.took < Duration::from_secs(20), "{ended}");
    told(
        &stranger(
            &fleet,
            "no-name",
            &["nobody.invalid:7118".into()],
            Some(&good),
        ),
        &["nobody.invalid", "hale members"],
    );

    // The good token still lets one in, and then no other.
    let mut first = stranger(&fleet, "first", &seeds, Some(&good));
    first.run();
    told(
        &stranger(&fleet, "second", &seeds, Some(&good)),
        &["is used up", "hale token create --uses"],
    );
    let more = fleet.token(10);
    let mut double = stranger(&fleet, "first", &seeds, Some(&more));
    double.data = fleet.scratch.path("another-directory");
    (double.http, double.udp) = (
        stranger(&fleet, "x", &[], None).http,
        stranger(&fleet, "x", &[], None).udp,
    );
    told(&double, &["stranger-first", "hale remove"]);

    fleet.members[0]
        .cli(&["token", "revoke", more.split_once('.').unwrap().0])
        .succeeded();
    told(
        &stranger(&fleet, "revoked", &seeds, Some(&more)),
        &["has expired or was revoked", "hale token create"],
    );
    let short = fleet.members[0].post("/v1/tokens", &json!({ "ttl_seconds": 1, "by": "ana" }));
    wait_until("the token runs out", SOON, || {
        let all = fleet.members[0].get("/v1/tokens");
        let id = &short["view"]["id"];
        let mut all = all["tokens"].as_array().unwrap().iter();
        all.any(|t| t["id"] == *id && t["state"] == "expired")
    });
    told(
        &stranger(&fleet, "late", &seeds, short["token"].as_str()),
        &["has expired or was revoked", "hale token create"],
    );
}

#[test]
fn a_seed_of_another_cluster_lets_nobody_in() {
    let (mut ours, mut theirs) = (Fleet::new(None), Fleet::new(None));
    ours.found();
    theirs.found();
    let token = ours.token(1);
    let seeds = [theirs.members[0].seed()];
    let astray = stranger(&ours, "astray", &seeds, Some(&token));
    told(&astray, &[&seeds[0], "is not known there", "hale token ls"]);
    // Nothing of the other cluster was kept: with the right seed it joins.
    let mut again = stranger(&ours, "astray", &[ours.members[0].seed()], Some(&token));
    again.run();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let mut fleet = Fleet::new(None);
    fleet.found();
    let (token, seeds) = (fleet.token(5), [fleet.members[0].seed()]);
    let member = stranger(&fleet, "udp", &seeds, Some(&token));
    let taken = UdpSocket::bind(member.udp).unwrap();
    told(&member, &[&member.udp.to_string(), "ss -lunp"]);
    drop(taken);
    let member = stranger(&fleet, "http", &seeds, Some(&token));
    let _taken = TcpListener::bind(member.http).unwrap();
    told(
        &member,
        &[&member.http.to_string(), "hale status", "--listen"],
    );
    // Neither cost a use of the token, nor a place on the roster.
    let members = fleet.members[0].get("/v1/members");
    assert_eq!(members["members"].as_array().unwrap().len(), 1, "{members}");
    let founder = Member::new(fleet.scratch.dir(), "another", Start::Node, "");
    let taken = UdpSocket::bind(founder.udp).unwrap();
    expect(&founder.init(), &[&founder.udp.to_string(), "ss -lunp"]);
    drop(taken);
    founder.init().succeeded();
}

#[test]
fn a_cluster_is_founded_once() {
    let mut fleet = Fleet::new(None);
    fleet.found();
    fleet.grow(1);
    fleet.members[1].stop();
    for member in &fleet.members {
        if !member.is_started() {
            let again = member.init();
            expect(
                &again,
                &["belongs to a cluster already", "hale node", "hale join"],
            );
        }
    }
    expect(
        &fleet.members[0].init(),
        &["another node runs in", "hale status"],
    );
    fleet.members[0].stop();
    let again = fleet.members[0].init();
    expect(
        &again,
        &["belongs to a cluster already", "hale node", "hale join"],
    );
    fleet.members[0].run();
    fleet.members[1].run();
    fleet.settle();
}

#[test]
fn a_host_whose_clock_is_far_off_is_told_to_set_it() {
    let test = "a_host_whose_clock_is_far_off_is_told_to_set_it";
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    if !Path::new(library).exists() {
        return skipped(test, "libfaketime is not installed");
    }
    let mut fleet = Fleet::new(None);
    fleet.found();
    let (token, seeds) = (fleet.token(5), [fleet.members[0].seed()]);
    for (offset, word) in [("+10m", "ahead of"), ("-10m", "behind")] {
        let mut member = stranger(&fleet, "clock", &seeds, Some(&token));
        let pairs = [
            ("LD_PRELOAD", library),
            ("FAKETIME", offset),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        member.env = pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        told(&member, &["this host's clock is", word, "chronyc makestep"]);
    }
    let mut member = stranger(&fleet, "clock", &seeds, Some(&token));
    member.run();
}

#[test]
fn a_host_that_lost_the_answer_joins_again_with_the_same_token() {
    let mut fleet = Fleet::new(None);
    fleet.found();
    let token = Some(fleet.token(1));
    let n = fleet.add(Start::Join(vec![fleet.members[0].seed()], token));
    fleet.members[n].spawn();
    wait_until("it is on the roster", SOON, || {
        let members = fleet.members[0].get("/v1/members");
        members["members"].as_array().unwrap().len() == 2
    });
    // It ends before it could keep what it was told; its key is all that it has.
    fleet.members[n].kill9();
    let data = fleet.members[n].data.clone();
    for entry in std::fs::read_dir(&data).unwrap().flatten() {
        if entry.file_name() != "node.key" {
            let path = entry.path();
            std::fs::remove_file(&path)
                .or_else(|_| std::fs::remove_dir_all(&path))
                .unwrap();
        }
    }
    fleet.members[n].run();
    fleet.settle();
    let chain = fleet.members[0].chain();
    let enrolled = chain.entries.iter().filter(|e| e["kind"] == "enrolment");
    assert_eq!(enrolled.count(), 2, "it was let in once");
}
