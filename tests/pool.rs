//! The main job on real parts: a client leaks connections until PostgreSQL refuses new ones, and
//! nobody has to wake up.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_model::Stage;
use hale_tests::{Cluster, Node, PgError, Scratch, Service, Session, wait_for, wait_until};
use serde_json::Value;
use std::io::Write;
use std::time::{Duration, Instant};

/// What the server takes; three of them are reserved for superusers.
const MAX_CONNECTIONS: u32 = 100;
/// The most that may pass between the first refusal and the record of success.
const PROMISE: Duration = Duration::from_secs(10);
/// How many readings the node takes of the normal state before anything is broken.
const LEARN_READINGS: u64 = 12;
/// Sessions that are at work throughout.
const BUSY: usize = 3;

fn configuration(cluster: &Cluster, shop: &Service) -> String {
    let (url, log, port) = (cluster.url("hale"), cluster.log(), cluster.port);
    let health = shop.url();
    format!(
        r#"
[telemetry]
interval = "1s"

[[telemetry.postgres]]
url = "{url}"
service = "postgresql"

[[telemetry.logs]]
path = {log:?}
service = "postgresql"

[services.postgresql]
port = {port}
health_url = "{health}"
"#
    )
}

/// What an application of this database needs, and a role for the node: a superuser's, so that it
/// has a slot when the others have none.
fn prepare(cluster: &Cluster) {
    cluster.sql("CREATE ROLE app LOGIN");
    cluster.sql("CREATE ROLE hale LOGIN SUPERUSER");
    cluster.sql("CREATE TABLE orders (id serial PRIMARY KEY, what text NOT NULL)");
    cluster.sql("GRANT ALL ON orders, orders_id_seq TO app");
}

fn leak(cluster: &Cluster) -> (Vec<Session>, Instant, PgError) {
    let mut leaked = vec![];
    for _ in 0..=MAX_CONNECTIONS {
        match cluster.session("app", "checkout-leak") {
            Ok(mut session) => {
                session.query("SELECT 1").unwrap();
                leaked.push(session);
            }
            Err(refusal) => return (leaked, Instant::now(), refusal),
        }
    }
    panic!("the server took more connections than it may");
}

/// How many readings there are of a series.
fn readings(node: &Node, series: &str) -> u64 {
    let path = format!("/v1/hosts/test-host/baselines?series={series}");
    let answer = node.get(&path);
    answer["baselines"][0]["baseline"]["samples"]
        .as_u64()
        .unwrap_or(0)
}

#[test]
fn an_exhausted_connection_pool_is_healed_within_ten_seconds_of_the_first_refusal() {
    let test = "an_exhausted_connection_pool_is_healed_within_ten_seconds_of_the_first_refusal";
    let Some(cluster) = Cluster::start(test, MAX_CONNECTIONS) else {
        return;
    };
    prepare(&cluster);
    let scratch = Scratch::new();
    let shop = Service::start(&scratch.path("shop.broken"));
    let node = Node::new(&scratch, &configuration(&cluster, &shop)).start();

    // Normal operation: some sessions at work.
    let mut busy: Vec<Session> = (0..BUSY)
        .map(|_| cluster.session("app", "checkout-report").unwrap())
        .collect();
    busy.iter_mut()
        .for_each(|s| s.begin("SELECT pg_sleep(300)").unwrap());
    wait_until(
        "the node knows what is normal",
        Duration::from_secs(40),
        || readings(&node, "database.connections_utilization") >= LEARN_READINGS,
    );
    let mut events = node.events();

    let (leaked, refused_at, refusal) = leak(&cluster);
    assert!(refusal.is_full(), "{refusal:?}");

    // What the application sees: refusals until somebody acts. It goes on trying.
    let mut served_again = None;
    let (recorded_at, recorded) = loop {
        if served_again.is_none() && cluster.session("app", "checkout-retry").is_ok() {
            served_again = Some(refused_at.elapsed());
        }
        let found = events.seen().iter().rev().find(|(_, h)| {
            h.stage == Stage::Recorded
                && h.service
                    .as_ref()
                    .is_some_and(|s| s.as_str() == "postgresql")
        });
        if let Some(found) = found {
            break found.clone();
        }
        assert!(
            refused_at.elapsed() < PROMISE * 3,
            "no record\n{}",
            events.story()
        );
        std::thread::park_timeout(Duration::from_millis(200));
    };
    let took = recorded_at - refused_at;
    let incident = recorded.incident.unwrap().to_string();
    let chain = node.chain();
    let record = chain.record_of(&incident);
    assert_eq!(record["outcome"]["status"], "success", "{record:#}");
    assert!(took <= PROMISE, "it took {took:?}\n{}", events.story());
    let served_again = served_again.unwrap_or_else(|| {
        wait_for("a new connection", Duration::from_secs(3), || {
            cluster
                .session("app", "checkout-retry")
                .ok()
                .map(|_| refused_at.elapsed())
        })
    });

    assert_the_busy_are_untouched(&cluster, &busy);
    let ended = ended(&cluster, &leaked);
    let mut fresh = cluster.session("app", "checkout").unwrap();
    fresh
        .query("INSERT INTO orders (what) VALUES ('tea')")
        .unwrap();
    assert_verified_by_connection_write_and_health(&node, record);
    assert_eq!(
        record["decision"]["execution_mode"], "autonomous",
        "{record:#}"
    );
    chain.assert_sound();
    let verified = node.cli(&["audit", "verify", "--json"]).succeeded().json();
    assert_eq!(verified["valid"], true, "{verified}");
    tell(took, served_again, (leaked.len(), ended), &mut events);
}

fn assert_the_busy_are_untouched(cluster: &Cluster, busy: &[Session]) {
    let pids: Vec<String> = busy.iter().map(|s| s.pid.to_string()).collect();
    let left = cluster.sql(&format!(
        "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid IN ({})",
        pids.join(",")
    ));
    assert_eq!(left.len(), BUSY, "a session at work was ended: {left:?}");
}

/// How many of the leaked sessions were ended: enough for room, however young the leak was.
fn ended(cluster: &Cluster, leaked: &[Session]) -> usize {
    let left = cluster
        .sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'checkout-leak'");
    let left: usize = left[0][0].as_deref().unwrap().parse().unwrap();
    assert!(
        left * 10 < leaked.len() * 8,
        "{left} of {} leaked sessions are left",
        leaked.len()
    );
    leaked.len() - left
}

/// That the verification proved what it claims: by the playbook's text and the record's log.
fn assert_verified_by_connection_write_and_health(node: &Node, record: &Value) {
    let name = record["decision"]["playbook_selected"].as_str().unwrap();
    let playbook = node.get(&format!("/v1/playbooks/{name}"));
    let checks = playbook["definition"]["verification"].as_array().unwrap();
    let log = record["verification_log"].as_array().unwrap();
    let passed = |what: &str, is: &dyn Fn(&Value) -> bool| {
        let names: Vec<&Value> = checks
            .iter()
            .filter(|c| is(&c["action"]))
            .map(|c| &c["name"])
            .collect();
        let ran = log
            .iter()
            .any(|l| names.contains(&&l["step"]) && l["status"] == "success");
        assert!(ran, "no verification by {what}: {log:#?}");
    };
    passed("a new connection", &|a| a["new_connection"] == true);
    passed("a write", &|a| a["writes"] == true);
    passed("a health check", &|a| a["type"] == "http_check");
}

fn tell(
    took: Duration,
    served_again: Duration,
    (leaked, ended): (usize, usize),
    events: &mut hale_tests::Events,
) {
    let mut out = std::io::stderr();
    let text = format!(
        "\npool: {leaked} idle sessions leaked, {ended} ended; from the first refusal to a served connection {:.2} s, \
         to the record of success {:.2} s\n{}\n",
        served_again.as_secs_f64(),
        took.as_secs_f64(),
        events
            .story()
            .lines()
            .map(|l| format!("    {:.160}\n", l))
            .collect::<String>(),
    );
    out.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_database_that_is_down_is_handed_to_a_person() {
    let test = "a_database_that_is_down_is_handed_to_a_person";
    let Some(cluster) = Cluster::start(test, 30) else {
        return;
    };
    prepare(&cluster);
    let scratch = Scratch::new();
    let shop = Service::start(&scratch.path("shop.broken"));
    let node = Node::new(&scratch, &configuration(&cluster, &shop)).start();
    wait_until(
        "the node reads the database",
        Duration::from_secs(20),
        || readings(&node, "database.connections_utilization") >= 2,
    );
    let mut events = node.events();
    cluster.stop();
    let recorded = events.recorded("postgresql", Duration::from_secs(40));
    let incident = recorded.incident.unwrap().to_string();
    let chain = node.chain();
    let record = chain.record_of(&incident);
    let status = record["outcome"]["status"].as_str().unwrap();
    assert!(
        ["escalated", "failed", "aborted"].contains(&status),
        "{record:#}"
    );
    assert_eq!(
        record["outcome"]["human_intervention_required"], true,
        "{record:#}"
    );
    assert_eq!(node.get("/v1/leases")["leases"], serde_json::json!([]));
    chain.assert_sound();
}
