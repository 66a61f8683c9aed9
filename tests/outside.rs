//! Eight nodes: five vote, two stand by, and one is outside the group. It answers whatever it is
//! asked as any other does.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Fleet, SETTLED, Service, pause, wait_for, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn a_node_outside_the_group_answers_whatever_it_is_asked() {
    let mut fleet = Fleet::new(None);
    fleet.found();
    // The second one watches a service that is going to break.
    let service = Service::start(&fleet.scratch.path("shop.broken"));
    let watches = fleet.add(fleet.joining());
    let sections = fleet.members[watches]
        .sections
        .replace("\"2s\"", "\"500ms\"");
    fleet.members[watches].sections = format!(
        "{sections}\n[[telemetry.health]]\nservice = \"shop\"\nhttp = \"{}\"\ntimeout = \"1s\"\n",
        service.url()
    );
    fleet.members[watches].run();
    fleet.grow(6);
    fleet.settle();
    let leader = fleet.leader();
    let (voters, learners) = fleet.seats(&fleet.members[leader]).unwrap();
    assert_eq!((voters.len(), learners.len()), (5, 2));
    let seated: Vec<&String> = voters.iter().chain(&learners).collect();
    let is_outside = |n: &usize| !seated.contains(&&fleet.members[*n].host);
    let outside = (0..8).find(is_outside).unwrap();
    let member = &fleet.members[outside];
    let other = &fleet.members[watches];

    // What it writes goes through the leader, and it sees at once what it wrote.
    let budget = json!({ "name": "b", "service": "nothing", "at_most": 3, "by": "ana" });
    member.post("/v1/budgets", &budget);
    let budgets = member.get("/v1/budgets");
    assert_eq!(budgets["budgets"][0]["name"], "b", "{budgets}");

    // The chain, which it does not hold.
    let chain = other.chain();
    assert_eq!(member.chain().entries, chain.entries);
    let one = member.get("/v1/audit/entries/1");
    assert_eq!(one["hash"], chain.entries[1]["hash"], "{one}");
    assert_eq!(member.get("/v1/audit/verify")["valid"], true);
    let export = member.cli(&["audit", "export"]).succeeded();
    let file = fleet.scratch.write("export.jsonl", &export.stdout);
    let verified = member.cli(&["audit", "verify", &file.to_string_lossy()]);
    assert!(verified.success(), "{verified}");
    assert!(export.stdout.lines().count() >= chain.entries.len());

    // Another host: what it sees, what it knows as normal, and what a playbook would do there.
    let telemetry = member.get(&format!("/v1/hosts/{}/telemetry", other.host));
    assert_eq!(telemetry["host"], other.host.as_str());
    wait_until("the other host's baselines are told", SETTLED, || {
        let baselines = member.get(&format!("/v1/hosts/{}/baselines", other.host));
        baselines["baselines"]
            .as_array()
            .is_some_and(|b| !b.is_empty())
    });
    let series = format!("/v1/hosts/{}/series/system.memory_percent", other.host);
    let whole = member.get(&series);
    assert_eq!(
        whole["reading"]["series"]["metric"],
        "system.memory_percent"
    );
    assert!(!whole["points"].as_array().unwrap().is_empty(), "{whole}");
    let drawn = member.cli(&["metrics", &other.host, "system.memory_percent"]);
    assert!(
        drawn.success() && drawn.stdout.contains("normal then"),
        "{drawn}"
    );
    // A host that is new itself knows nothing that would help a sister; but it answers.
    let asked = json!({ "series": ["system.memory_percent"] });
    let states = member.post(
        &format!("/v1/hosts/{}/baselines/states", other.host),
        &asked,
    );
    assert_eq!(states, json!({ "states": [] }));
    let (from, until) = ("2020-01-01T00:00:00Z", "2020-01-01T01:00:00Z");
    let exclude = ["baseline", "exclude", other.host.as_str()];
    let past = member.cli(&[&exclude[..], &["--from", from, "--until", until]].concat());
    assert!(
        past.success() && past.stdout.contains("series of"),
        "{past}"
    );
    let ahead = ["--from", from, "--until", "2099-01-01T00:00:00Z"];
    let refused = member.cli(&[&exclude[..], &ahead].concat());
    assert!(refused.stderr.contains("within a day"), "{refused}");
    let dry = member.cli(&[
        "playbook",
        "run",
        "hold_a",
        "--dry-run",
        "--host",
        &other.host,
        "--service",
        "a",
    ]);
    assert!(dry.success() && dry.stdout.contains("tick"), "{dry}");
    assert!(fleet.ticks("a").is_empty(), "nothing ran");
    let unknown = member.client().try_get("/v1/hosts/host-99/telemetry");
    assert_eq!(unknown.status, 404, "{}", unknown.text());

    // A lease that it holds itself, seen by all; then one of another host, run from here.
    fleet.hold(outside, "a").unwrap();
    wait_until("the lease is seen by the leader", SETTLED, || {
        fleet.lease(leader, "a").is_some()
    });
    wait_until("it acts under it", SETTLED, || !fleet.ticks("a").is_empty());
    let run = json!({ "service": "b", "host": other.host, "by": "ana" });
    member.post("/v1/playbooks/hold_b/run", &run);
    wait_until("it runs there", SETTLED, || !fleet.ticks("b").is_empty());
    let running = |execution: &Value| execution["host"] == other.host.as_str();
    let executions = member.get("/v1/executions");
    let mut all = executions["executions"].as_array().unwrap().iter();
    assert!(all.any(running), "{executions}");
    fleet.rest();

    // The other host's incident, from here.
    let learnt = format!("/v1/hosts/{}/baselines?series=health.up", other.host);
    wait_until("the service's health is known", SETTLED, || {
        let known = member.get(&learnt);
        known["baselines"][0]["baseline"]["samples"].as_u64() >= Some(10)
    });
    service.break_it();
    let incident = wait_for("the other host's incident is listed here", SETTLED, || {
        let listed = member.get("/v1/incidents?state=all&service=shop");
        let first = listed["incidents"].as_array()?.first()?;
        Some(first["id"].as_str()?.to_owned())
    });
    let answer = member
        .client()
        .try_get(&format!("/v1/incidents/{incident}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let why = member
        .client()
        .try_get(&format!("/v1/incidents/{incident}/why"));
    assert_eq!(why.status, 200, "{}", why.text());
    let told = member.cli(&["why", &incident]);
    assert!(told.stdout.contains(&other.host), "{told}");

    // What it knows by itself is never old.
    for _ in 0..5 {
        let stale = member.client().try_get("/v1/leases?consistency=stale");
        let age: u64 = stale.headers["hale-age-ms"].parse().unwrap();
        assert!(age < 9_000, "what it knows is {age} ms old");
        pause(Duration::from_millis(500));
    }
    fleet.one_chain().assert_sound();
}
