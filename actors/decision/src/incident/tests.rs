//! Stories: rounds of signals in, what opened, changed and ended out.

use super::*;
use expect_test::{Expect, expect};
use hale_model::{BaselineStats, Consumer, Harm, Reading, ServiceName};
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(1_770_895_560_000 + second * 1000)
}

fn anomaly(series: &str, of: Option<&str>, sigma: f64) -> Anomaly {
    Anomaly {
        reading: Reading {
            series: SeriesKey::parse(series).unwrap(),
            service: of.map(|s| ServiceName::new(s).unwrap()),
            at: at(0),
            value: 0.98,
            baseline: BaselineStats {
                expected: 0.42,
                spread: 0.08,
                ..BaselineStats::default()
            },
            sigma,
            tail_probability: 1e-6,
            trend_per_hour: 0.0,
            seconds_to_limit: None,
            bounds: None,
            harm: Harm::High,
        },
        severity: Severity::of_sigma(sigma).unwrap(),
        confidence: (sigma.abs() / 5.0).min(1.0),
        since: at(0),
    }
}

fn line(of: Option<&str>, level: Level, text: &str, count: u64) -> Event {
    Event {
        at: at(0),
        source: EventSource::Log,
        service: of.map(|s| ServiceName::new(s).unwrap()),
        level,
        template: text.into(),
        message: text.into(),
        count,
        origin: "app.log".into(),
    }
}

fn round(second: i64, anomalies: &[Anomaly], events: &[Event]) -> Observed {
    Observed {
        at: at(second),
        host: "db-01".parse().unwrap(),
        anomalies: anomalies.to_vec(),
        cleared: vec![],
        events: events
            .iter()
            .map(|e| Event {
                at: at(second),
                ..e.clone()
            })
            .collect(),
        snapshot: serde_json::json!({"environment": "production", "tags": {"role": "primary", "n": 3}}),
    }
}

/// Plays rounds, one a second, and tells what happened.
fn play(correlator: &mut Correlator, rounds: impl IntoIterator<Item = Observed>) -> String {
    let mut told = String::new();
    for observed in rounds {
        let second = (observed.at.as_millis() - at(0).as_millis()) / 1000;
        for change in correlator.on(observed.at, &observed) {
            let what = match &change {
                Change::Opened(_) => "opened",
                Change::Updated(_) => "updated",
                Change::Resolved(_) => "resolved",
            };
            let i = change.incident();
            let of = i.service.as_ref().map_or("host", |s| s.as_str());
            told += &format!(
                "{second}s {what} {of} {}: {} series, {} templates\n",
                i.severity.as_str(),
                i.anomalies.len(),
                i.events.len()
            );
        }
    }
    told
}

fn check(rounds: Vec<Observed>, expected: Expect) {
    expected.assert_eq(&play(&mut Correlator::new(Settings::default()), rounds));
}

const PG: Option<&str> = Some("postgresql");

#[test]
fn a_series_that_stays_bad_opens_an_incident_and_its_quiet_ends_it() {
    let bad = [anomaly("database.connections_utilization", PG, 6.6)];
    let rounds = (0..8).map(|s| round(s, if s < 4 { &bad } else { &[] }, &[]));
    check(
        rounds.collect(),
        expect![[r#"
        1s opened postgresql critical: 1 series, 0 templates
        6s resolved postgresql critical: 1 series, 0 templates
    "#]],
    );
}

#[test]
fn one_spike_and_what_is_only_remarkable_open_nothing() {
    let spike = [anomaly("system.cpu_percent", None, 9.0)];
    let info = [anomaly("system.memory_percent", None, 2.5)];
    let rounds = (0..20).map(|s| round(s, if s == 5 { &spike } else { &info }, &[]));
    check(rounds.collect(), expect![""]);
}

#[test]
fn series_and_log_lines_of_one_service_are_one_incident() {
    let pool = [anomaly("database.connections_utilization", PG, 6.6)];
    let both = [pool[0].clone(), anomaly("database.waiting_locks", PG, 4.0)];
    let fatal = [line(
        PG,
        Level::Critical,
        "FATAL: sorry, too many clients already",
        2,
    )];
    let rounds = vec![
        round(0, &pool, &[]),
        round(1, &pool, &fatal),
        round(2, &both, &fatal),
        round(3, &both, &[]),
    ];
    check(
        rounds,
        expect![[r#"
        1s opened postgresql critical: 1 series, 1 templates
        2s updated postgresql critical: 2 series, 1 templates
    "#]],
    );
}

#[test]
fn a_burst_of_errors_opens_and_a_single_one_does_not() {
    let one = [line(Some("api"), Level::Error, "boom", 1)];
    check(vec![round(0, &[], &one)], expect![""]);
    check(
        vec![
            round(0, &[], &one),
            round(1, &[], &one),
            round(2, &[], &one),
        ],
        expect![[r#"
        2s opened api warning: 0 series, 1 templates
    "#]],
    );
}

#[test]
fn what_a_health_check_says_counts_at_once() {
    let failed = [Event {
        source: EventSource::Health,
        ..line(Some("api"), Level::Error, "connection refused", 1)
    }];
    check(
        vec![round(0, &[], &failed)],
        expect![[r#"
        0s opened api warning: 0 series, 1 templates
    "#]],
    );
}

#[test]
fn silence_ends_an_incident_of_log_lines_only_after_the_window() {
    let burst = [line(Some("api"), Level::Error, "boom", 9)];
    let rounds = (0..70).map(|s| round(s, &[], if s == 0 { &burst } else { &[] }));
    check(
        rounds.collect(),
        expect![[r#"
        0s opened api warning: 0 series, 1 templates
        60s resolved api warning: 0 series, 1 templates
    "#]],
    );
}

#[test]
fn a_full_disk_joins_the_database_whose_wal_grows_and_a_busy_cpu_does_not() {
    let disk = anomaly(
        "system.disk_usage_percent{mount=\"/var/lib/postgresql\"}",
        None,
        9.0,
    );
    let wal = [disk, anomaly("database.wal_size_bytes", PG, 8.0)];
    check(
        vec![round(0, &wal, &[]), round(1, &wal, &[])],
        expect![[r#"
        1s opened postgresql critical: 2 series, 0 templates
    "#]],
    );
    let cpu = [
        anomaly("system.cpu_percent", None, 6.0),
        anomaly("database.connections_utilization", PG, 6.0),
    ];
    check(
        vec![round(0, &cpu, &[]), round(1, &cpu, &[])],
        expect![[r#"
        1s opened postgresql critical: 1 series, 0 templates
        1s opened host critical: 1 series, 0 templates
    "#]],
    );
}

#[test]
fn series_of_one_resource_are_one_incident_of_the_host() {
    let cpu = [
        anomaly("system.cpu_percent", None, 8.0),
        anomaly("system.load_average_1m", None, 7.0),
        anomaly("process.cpu_percent{name=\"stress\",pid=\"9\"}", None, 9.0),
    ];
    check(
        vec![round(0, &cpu, &[]), round(1, &cpu, &[])],
        expect![[r#"
        1s opened host critical: 3 series, 0 templates
    "#]],
    );
}

#[test]
fn a_directory_and_the_file_system_it_fills_are_one_incident() {
    let disk = [
        anomaly("system.disk_usage_percent{mount=\"/var\"}", None, 8.0),
        anomaly("disk.directory_bytes{path=\"/var/log/app\"}", None, 12.0),
        anomaly("system.disk_usage_percent{mount=\"/srv\"}", None, 4.0),
    ];
    check(
        vec![round(0, &disk, &[]), round(1, &disk, &[])],
        expect![[r#"
        1s opened host warning: 1 series, 0 templates
        1s opened host critical: 2 series, 0 templates
    "#]],
    );
}

#[test]
fn the_like_of_it_does_not_open_again_while_it_cools_down() {
    let bad = [anomaly("database.connections_utilization", PG, 6.6)];
    let mut correlator = Correlator::new(Settings::default());
    play(
        &mut correlator,
        (0..8).map(|s| round(s, if s < 4 { &bad } else { &[] }, &[])),
    );
    assert_eq!(
        play(&mut correlator, (10..40).map(|s| round(s, &bad, &[]))),
        ""
    );
    let again = play(&mut correlator, (80..84).map(|s| round(s, &bad, &[])));
    assert!(again.starts_with("80s opened"), "{again}");
    assert_eq!(correlator.open().next().unwrap().recurrence_30d, 1);
}

#[test]
fn a_restart_forgets_neither_what_is_open_nor_what_was() {
    let bad = [anomaly("database.connections_utilization", PG, 6.6)];
    let mut before = Correlator::new(Settings::default());
    play(&mut before, (0..3).map(|s| round(s, &bad, &[])));
    let saved = serde_json::to_string(&before.save()).unwrap();
    let mut after = Correlator::restore(Settings::default(), serde_json::from_str(&saved).unwrap());
    assert!(after.open().eq(before.open()));
    expect![[r#"
        7s resolved postgresql critical: 1 series, 0 templates
    "#]]
    .assert_eq(&play(&mut after, (5..9).map(|s| round(s, &[], &[]))));
}

#[test]
fn what_takes_the_most_is_news_once() {
    let bad = [anomaly("system.disk_usage_percent{mount=\"/\"}", None, 6.6)];
    let mut correlator = Correlator::new(Settings::default());
    play(&mut correlator, (0..2).map(|s| round(s, &bad, &[])));
    let id = correlator.open().next().unwrap().id.clone();
    let consumer = Consumer {
        resource: "disk".into(),
        name: "pg_wal".into(),
        amount: 8.3e9,
        unit: "bytes".into(),
        text: "WAL files 8.3 GB under pg_wal".into(),
    };
    assert!(correlator.enrich(&id, vec![consumer.clone()]).is_some());
    assert!(
        correlator
            .enrich(
                &id,
                vec![Consumer {
                    amount: 9e9,
                    ..consumer
                }]
            )
            .is_none()
    );
}

#[test]
fn an_incident_for_people_and_for_the_model() {
    let mut disk = anomaly("system.disk_usage_percent{mount=\"/var\"}", None, 4.69);
    disk.reading.value = 94.8;
    disk.reading.trend_per_hour = 3.2;
    disk.reading.seconds_to_limit = Some(5850.0);
    disk.reading.baseline = BaselineStats {
        expected: 72.3,
        spread: 4.8 / 2.0,
        ..BaselineStats::default()
    };
    let fatal = [line(
        None,
        Level::Warning,
        "disk quota of pid 4242 exceeded",
        2,
    )];
    let mut correlator = Correlator::new(Settings::default());
    play(
        &mut correlator,
        (0..2).map(|s| {
            round(
                s,
                &[disk.clone()],
                &[Event {
                    origin: "kernel".into(),
                    source: EventSource::Kernel,
                    ..fatal[0].clone()
                }],
            )
        }),
    );
    let incident = correlator.open().next().unwrap();
    expect![[r#"
        db-01: system.disk_usage_percent{mount="/var"} is 94.8 (4.7σ above)
        system disk usage percent /var high
        Warning for db-01 (production) since 2026-02-12T11:26:00.000Z. system.disk_usage_percent{mount="/var"} is 94.8, 4.7σ above its usual 72.3 (warning), changing by 3.2 an hour, at its limit in 98 min. Not seen before in 30 days.
    "#]].assert_eq(&format!("{}\n{}\n{}\n", incident.title, crate::describe::describe(incident), crate::describe::narrative(incident)));
    assert_eq!(incident.tags["n"], "3");
}

fn any_anomaly() -> impl Strategy<Value = Anomaly> {
    let series = "[a-z]{0,8}(\\.[a-z_]{0,12})?";
    let service = proptest::option::of("[a-z]{1,6}");
    (
        series,
        service,
        prop_oneof![Just(2.5), Just(-4.0), Just(f64::INFINITY), 2.0f64..40.0],
    )
        .prop_map(|(metric, of, sigma)| Anomaly {
            reading: Reading {
                series: SeriesKey::new(metric),
                ..anomaly("x", of.as_deref(), 5.0).reading
            },
            severity: Severity::of_sigma(sigma).unwrap(),
            ..anomaly("x", None, 5.0)
        })
}

fn any_event() -> impl Strategy<Value = Event> {
    let source = prop_oneof![
        Just(EventSource::Log),
        Just(EventSource::Kernel),
        Just(EventSource::Health)
    ];
    let level = prop_oneof![Just(Level::Info), Just(Level::Error), Just(Level::Critical)];
    (
        ".{0,400}",
        source,
        level,
        proptest::option::of("[a-z]{1,6}"),
        any::<u64>(),
    )
        .prop_map(|(text, source, level, of, count)| Event {
            source,
            ..line(of.as_deref(), level, &text, count)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_a_host_says_stays_within_bounds_and_everything_ends(
        rounds in proptest::collection::vec(
            (proptest::collection::vec(any_anomaly(), 0..12), proptest::collection::vec(any_event(), 0..12)), 1..12),
    ) {
        let mut correlator = Correlator::new(Settings::default());
        for (second, (anomalies, events)) in rounds.iter().enumerate() {
            let observed = round(second as i64, anomalies, events);
            for change in correlator.on(observed.at, &observed) {
                let incident = change.incident();
                prop_assert!(incident.anomalies.len() <= MAX_EVIDENCE && incident.events.len() <= MAX_EVIDENCE);
                let _ = (crate::describe::query(incident), crate::describe::narrative(incident));
            }
            prop_assert!(correlator.open.len() <= MAX_OPEN && correlator.recent.len() <= MAX_RECENT);
        }
        for second in 0..200 {
            let observed = round(rounds.len() as i64 + second, &[], &[]);
            correlator.on(observed.at, &observed);
        }
        prop_assert_eq!(correlator.open().count(), 0);
    }
}
