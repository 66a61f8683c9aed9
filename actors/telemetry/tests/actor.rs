//! The actor as a node runs it: rounds, batches, questions, StatsD over UDP, and a database that
//! hangs.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use hale_model::port::port;
use hale_model::{Batch, Consumer};
use hale_telemetry::{Arguments, ConsumersQuery, Message, Stats, Telemetry, TelemetryConfig};
use ractor::{Actor, ActorRef, call_t};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

struct Node {
    actor: ActorRef<Message>,
    batches: mpsc::Receiver<Batch>,
}

impl Node {
    /// Starts the actor; the batches wait in a queue of one, so that nobody takes them by default.
    async fn start(config: Value) -> Self {
        let (to, batches) = mpsc::channel(1);
        let config: TelemetryConfig = serde_json::from_value(config).unwrap();
        let hand_on = port(move |batch| {
            let to = to.clone();
            async move {
                let _ = to.send(batch).await;
            }
        });
        let arguments = Arguments {
            config,
            hand_on,
            log_positions: None,
        };
        let (actor, _) = Actor::spawn(None, Telemetry, arguments).await.unwrap();
        Self { actor, batches }
    }

    async fn batch(&mut self) -> Batch {
        tokio::time::timeout(Duration::from_secs(20), self.batches.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// Takes batches until one is as it should be.
    async fn batch_with(&mut self, fine: impl Fn(&Batch) -> bool) -> Batch {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let batch = self.batch().await;
            if fine(&batch) {
                return batch;
            }
            assert!(Instant::now() < deadline, "{:#}", batch.snapshot);
        }
    }

    async fn stats(&self) -> Stats {
        call_t!(self.actor, Message::Stats, 5_000).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.actor.stop(None);
    }
}

fn value(batch: &Batch, series: &str) -> Option<f64> {
    batch
        .samples
        .iter()
        .find(|s| s.series.to_string() == series)
        .map(|s| s.value)
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_of_this_host_becomes_a_batch_and_a_snapshot() {
    let mut node = Node::start(json!({
        "interval": "100ms",
        "host": "here",
        "environment": "test",
        "tags": {"role": "primary"},
    }))
    .await;
    let batch = node
        .batch_with(|b| value(b, "system.cpu_percent").is_some())
        .await;
    assert_eq!(batch.host.as_str(), "here");
    for series in [
        "system.memory_percent",
        "system.load_average_1m",
        "process.zombies",
    ] {
        assert!(value(&batch, series).is_some(), "{series}");
    }
    let snapshot: Value = call_t!(node.actor, Message::Snapshot, 5_000).unwrap();
    assert_eq!(snapshot["host"], "here");
    assert_eq!(snapshot["environment"], "test");
    assert_eq!(snapshot["tags"], json!({"role": "primary"}));
    let system = &snapshot["metrics"]["system"];
    assert!(system["cpu_percent"].is_number() && system["disk_usage_percent"].is_object());
    assert!(snapshot["metrics"]["process"]["top_memory"][0]["pid"].is_number());

    let tag = |value: Option<&str>| Message::SetTag {
        name: "maintenance_mode".into(),
        value: value.map(str::to_owned),
    };
    node.actor.cast(tag(Some("true"))).unwrap();
    let snapshot: Value = call_t!(node.actor, Message::Snapshot, 5_000).unwrap();
    assert_eq!(snapshot["tags"]["maintenance_mode"], "true");
    node.actor.cast(tag(None)).unwrap();
    let tags = call_t!(node.actor, Message::Tags, 5_000).unwrap();
    assert_eq!(tags.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_sent_over_udp_arrive_and_malformed_ones_are_counted() {
    let port = free_udp_port();
    let mut node = Node::start(json!({
        "interval": "100ms",
        "statsd": format!("127.0.0.1:{port}"),
        "limits": {"statsd_series": 3},
    }))
    .await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |bytes: &[u8]| socket.send_to(bytes, ("127.0.0.1", port)).unwrap();
    send(b"shop.orders:2|c|@0.5|#region:eu\nshop.queue:7|g\nnonsense\nx:NaN|g");
    send(b"shop.queue:-2|g");
    send(b"a:1|c\nb:1|c\nc:1|c\n\xff\xfe");
    let batch = node
        .batch_with(|b| value(b, "custom.shop.queue") == Some(5.0))
        .await;
    assert_eq!(
        value(&batch, "custom.shop.orders{region=\"eu\"}"),
        Some(4.0)
    );
    let batch = node.batch_with(|b| b.dropped >= 5).await;
    assert_eq!(value(&batch, "statsd.lines_malformed"), Some(3.0));
    assert_eq!(batch.snapshot["metrics"]["custom"]["shop"]["queue"], 5);
    let drops = node.stats().await.drops;
    assert_eq!(drops.by_reason().get("statsd_series"), Some(&2));
    assert_eq!(drops.by_reason().get("statsd_bad_value"), Some(&1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_hangs_never_delays_the_rest_and_is_told_when_it_gives_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut node = Node::start(json!({
        "interval": "100ms",
        "postgres": [{"host": "127.0.0.1", "port": port, "timeout": "1s"}],
    }))
    .await;
    let mut before_it_gave_up = 0;
    let told = node.batch().await;
    let mut batch = told;
    while batch.events.is_empty() {
        before_it_gave_up += 1;
        assert!(before_it_gave_up < 100, "it is never told");
        batch = node.batch().await;
    }
    assert!(
        before_it_gave_up >= 3,
        "{before_it_gave_up} batches in a second"
    );
    assert_eq!(
        batch.events[0].message,
        "the database did not answer within 1s"
    );
    assert_eq!(value(&batch, "database.up"), Some(0.0));
    assert!(node.stats().await.busy_sensors["postgres"] >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_are_skipped_and_counted_while_nobody_takes_the_batch() {
    let mut node = Node::start(json!({"interval": "100ms"})).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    // Whoever takes a batch only now and then holds up the rounds, and no more than these wait:
    // one in the queue, one at its door.
    loop {
        tokio::time::sleep(Duration::from_millis(350)).await;
        node.batch().await;
        let stats = node.stats().await;
        if stats.skipped_rounds >= 3 {
            assert!(stats.rounds <= stats.skipped_rounds + 3, "{stats:?}");
            break;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_most_is_answered_beside_the_rounds() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("run.log"), vec![b'x'; 1 << 20]).unwrap();
    let path = scratch.path().to_string_lossy().into_owned();
    let mut node = Node::start(json!({"interval": "100ms", "directories": [{"path": path}]})).await;
    let series = format!("disk.directory_bytes{{path=\"{path}\"}}");
    node.batch_with(|b| value(b, &series) >= Some(1e6)).await;
    let key = hale_model::SeriesKey::parse(&series).unwrap();
    let query = ConsumersQuery::for_series(&key, None).unwrap();
    let ask = |query: ConsumersQuery| async {
        call_t!(
            node.actor,
            |reply| Message::TopConsumers(query, reply),
            10_000
        )
        .unwrap()
    };
    let disk: Vec<Consumer> = ask(query).await;
    assert!(
        disk[0].text.starts_with("run.log 1.0 MB under "),
        "{disk:?}"
    );
    let memory = ConsumersQuery {
        resource: "memory".into(),
        within: None,
        service: None,
        limit: 3,
    };
    assert_eq!(ask(memory).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_line_is_told_long_before_a_long_interval_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    std::fs::write(&path, "start\n").unwrap();
    let mut node = Node::start(json!({
        "interval": "10m",
        "logs": [{"path": path.to_string_lossy(), "service": "shop"}],
    }))
    .await;
    node.batch().await;
    std::fs::write(&path, "start\nFATAL: the shop burns\n").unwrap();
    let batch = node.batch().await;
    assert_eq!(batch.events[0].message, "the shop burns");
    assert_eq!(batch.events[0].service.as_ref().unwrap().as_str(), "shop");
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused_with_what_to_write() {
    let config: TelemetryConfig = serde_json::from_value(json!({"interval": "1ms"})).unwrap();
    let arguments = Arguments {
        config,
        hand_on: port(|_| async {}),
        log_positions: None,
    };
    let refused = Actor::spawn(None, Telemetry, arguments)
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(
        refused.to_string().contains("write a duration from"),
        "{refused}"
    );
}
