//! Playbooks of the library, started by hand on real servers: they do what they say, and the
//! record says so too.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_model::Stage;
use hale_tests::{Client, Cluster, Nginx, Node, Redis, Scratch, wait_for};
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

/// How long a run may take, with the time for which its verification has to hold.
const RUN: Duration = Duration::from_secs(40);

fn node(scratch: &Scratch, services: &str) -> Node {
    Node::new(
        scratch,
        &format!("[telemetry]\ninterval = \"500ms\"\n{services}"),
    )
    .start()
}

/// Runs a playbook with the command an operator types, and waits for its record.
fn run(node: &Node, playbook: &str, service: &str, params: &[&str]) -> Value {
    let mut events = node.events();
    let mut args = vec![
        "playbook",
        "run",
        playbook,
        "--service",
        service,
        "--by",
        "ana",
        "--json",
    ];
    params.iter().for_each(|p| args.extend(["--param", p]));
    let started = node.cli(&args).succeeded().json();
    assert!(started["execution"].is_string(), "{started:#}");
    let incident = started["plan"]["incident"].as_str().unwrap();
    events.wait("its record", RUN, |h| {
        h.stage == Stage::Recorded
            && h.incident
                .as_ref()
                .is_some_and(|i| i.to_string() == incident)
    });
    let chain = node.chain();
    chain.assert_sound();
    let record = chain.record_of(incident).clone();
    assert_eq!(record["decision"]["execution_mode"], "manual", "{record:#}");
    record
}

fn assert_success(record: &Value) {
    assert_eq!(record["outcome"]["status"], "success", "{record:#}");
}

#[test]
fn nginx_serves_its_new_configuration_after_a_reload() {
    let test = "nginx_serves_its_new_configuration_after_a_reload";
    let Some(nginx) = Nginx::start(test) else {
        return;
    };
    let scratch = Scratch::new();
    let (config, pid) = (nginx.config(), nginx.scratch.path("nginx.pid"));
    let port = nginx.port;
    let node = node(
        &scratch,
        &format!(
            "[services.nginx]\nnginx_conf = {config:?}\npid_file = {pid:?}\n\
             health_url = \"http://127.0.0.1:{port}/\"\n"
        ),
    );
    let web = Client {
        addr: ([127, 0, 0, 1], port).into(),
        token: None,
    };
    assert_eq!(web.try_get("/").text(), "first");
    nginx.configure("second");
    assert_success(&run(&node, "nginx_reload", "nginx", &[]));
    assert_eq!(web.try_get("/").text(), "second");
    // A configuration that is wrong is not loaded, and a person is told.
    nginx
        .scratch
        .write("nginx.conf", "this is no configuration\n");
    let record = run(&node, "nginx_reload", "nginx", &[]);
    assert_eq!(record["outcome"]["status"], "escalated", "{record:#}");
    assert_eq!(web.try_get("/").text(), "second");
}

#[test]
fn a_redis_that_is_full_takes_writes_again() {
    let test = "a_redis_that_is_full_takes_writes_again";
    let Some(redis) = Redis::start(test, "4mb") else {
        return;
    };
    let scratch = Scratch::new();
    let port = redis.port;
    let node = node(
        &scratch,
        &format!(
            "[[telemetry.redis]]\naddress = \"127.0.0.1:{port}\"\n[services.redis]\nport = {port}\n"
        ),
    );
    let value = "x".repeat(50_000);
    let refused =
        (0..500).map(|n| redis.command(&["SET", &format!("session:{n}"), &value, "EX", "3600"]));
    let refused = refused
        .into_iter()
        .find(|answer| answer.starts_with("-OOM"));
    assert!(refused.is_some(), "the server did not fill up");
    assert_success(&run(&node, "redis_memory_purge", "redis", &[]));
    assert_eq!(redis.command(&["SET", "order:1", "tea"]), "+OK\r\n");
}

#[test]
fn forgotten_transactions_are_ended_and_their_locks_are_free() {
    let test = "forgotten_transactions_are_ended_and_their_locks_are_free";
    let Some(cluster) = Cluster::start(test, 30) else {
        return;
    };
    cluster.sql("CREATE ROLE app LOGIN");
    cluster.sql("CREATE TABLE stock (id int PRIMARY KEY, n int); INSERT INTO stock VALUES (1, 1)");
    cluster.sql("GRANT ALL ON stock TO app");
    let scratch = Scratch::new();
    let url = cluster.url("postgres");
    let node = node(
        &scratch,
        &format!("[[telemetry.postgres]]\nurl = \"{url}\"\n"),
    );
    let mut forgotten = cluster.session("app", "forgetful").unwrap();
    forgotten
        .query("BEGIN; UPDATE stock SET n = 2 WHERE id = 1")
        .unwrap();
    let mut working = cluster.session("app", "report").unwrap();
    working.begin("SELECT pg_sleep(60)").unwrap();
    let mut waiting = cluster.session("app", "checkout").unwrap();
    waiting
        .begin("UPDATE stock SET n = 3 WHERE id = 1")
        .unwrap();
    wait_for("the transaction has been idle for a second", RUN, || {
        let old = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'forgetful' \
                   AND state_change < clock_timestamp() - interval '1.1 seconds'";
        cluster.sql(old).first().map(|_| ())
    });
    let params = ["idle_seconds=1", "when_blocking_idle_seconds=1"];
    assert_success(&run(
        &node,
        "postgres_idle_in_transaction_kill",
        "postgresql",
        &params,
    ));
    assert!(forgotten.query("COMMIT").is_err(), "it is still there");
    let n = cluster.sql("SELECT n FROM stock WHERE id = 1");
    assert_eq!(
        n[0][0].as_deref(),
        Some("3"),
        "who waited for the lock has it"
    );
    let pid = working.pid;
    let left = cluster.sql(&format!("SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"));
    assert_eq!(left.len(), 1, "a session at work was ended");
}

#[test]
fn a_runaway_log_is_cut_to_its_end_and_nothing_else_is_touched() {
    let scratch = Scratch::new();
    let mut text = String::new();
    (0..400_000).for_each(|n| {
        writeln!(text, "DEBUG line {n:06} of a log that never ends: {n:040}").unwrap()
    });
    let log = scratch.write("logs/shop.log", &text);
    let data = scratch.write("logs/orders.db", &text);
    let dir = scratch.path("logs");
    let node = node(&scratch, &format!("[services.shop]\nlog_dir = {dir:?}\n"));
    let mut writer = std::fs::File::options().append(true).open(&log).unwrap();
    assert_success(&run(&node, "disk_log_cleanup", "shop", &[]));
    assert_eq!(
        std::fs::read_to_string(&data).unwrap().len(),
        text.len(),
        "no log was touched"
    );
    let left = std::fs::read_to_string(&log).unwrap();
    assert!(
        left.len() < text.len() / 2 && !left.is_empty(),
        "{} bytes are left",
        left.len()
    );
    assert!(
        text.ends_with(&left) || left.lines().count() > 1,
        "the end is kept"
    );
    std::io::Write::write_all(&mut writer, b"INFO the writer kept its handle\n").unwrap();
    assert!(
        std::fs::read_to_string(&log)
            .unwrap()
            .ends_with("kept its handle\n")
    );
}
