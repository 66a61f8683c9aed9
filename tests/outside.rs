//! Eight nodes: five vote, two stand by, and one is outside the group. It answers whatever it is
//! asked as any other does.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Fleet, SETTLED, pause, wait_until};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn a_node_outside_the_group_answers_whatever_it_is_asked() {
    let fleet = Fleet::of(8);
    let leader = fleet.leader();
    let (voters, learners) = fleet.seats(&fleet.members[leader]).unwrap();
    assert_eq!((voters.len(), learners.len()), (5, 2));
    let seated: Vec<&String> = voters.iter().chain(&learners).collect();
    let is_outside = |n: &usize| !seated.contains(&&fleet.members[*n].host);
    let outside = (0..8).find(is_outside).unwrap();
    let member = &fleet.members[outside];
    let other = &fleet.members[leader];
    assert!(!member.data.join("chain/000000").exists());

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
    assert!(fleet.lease(outside, "a").is_some() || !fleet.ticks("a").is_empty());
    let run = json!({ "service": "b", "host": other.host, "by": "ana" });
    let run = member.post("/v1/playbooks/hold_b/run", &run);
    let incident = run["incident"].as_str().map(str::to_owned);
    wait_until("it runs there", SETTLED, || !fleet.ticks("b").is_empty());
    let running = |execution: &Value| execution["host"] == other.host.as_str();
    let executions = member.get("/v1/executions");
    let mut all = executions["executions"].as_array().unwrap().iter();
    assert!(all.any(running), "{executions}");
    fleet.rest();

    // The other host's incident, from here.
    let record = member
        .chain()
        .records()
        .into_iter()
        .find(|r| r["incident_context"]["host"] == other.host.as_str())
        .cloned();
    let id = record.unwrap()["incident_id"].as_str().unwrap().to_owned();
    assert!(incident.is_none_or(|i| i == id));
    let answer = member.client().try_get(&format!("/v1/incidents/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["id"], id.as_str(), "{}", answer.text());
    let listed = member.get("/v1/incidents?state=all");
    assert!(listed["incidents"].as_array().is_some(), "{listed}");

    // What it knows by itself is never old.
    for _ in 0..5 {
        let stale = member.client().try_get("/v1/leases?consistency=stale");
        let age: u64 = stale.headers["hale-age-ms"].parse().unwrap();
        assert!(age < 9_000, "what it knows is {age} ms old");
        pause(Duration::from_millis(500));
    }
    fleet.one_chain().assert_sound();
}
