//! The actor as a node runs it: rounds in, what they came to out, state kept over a restart.

#![allow(
    clippy::unwrap_used,
    reason = "helpers give up like the tests they serve"
)]

use hale_baseline::actor::{Arguments, BaselineActor, Message, SavedRows};
use hale_baseline::host::Row;
use hale_baseline::{BaselineConfig, Phase, SeriesFilter};
use hale_model::port::port;
use hale_model::{Batch, Harm, Observed, Sample, SeriesKey, Severity, Timestamp};
use ractor::{Actor, ActorRef, call_t};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const MONDAY: i64 = 1_769_990_400;
const TIMEOUT_MS: u64 = 10_000;

/// What the neighbours of the actor see.
#[derive(Clone, Default)]
struct Neighbours {
    observed: Arc<Mutex<Vec<Observed>>>,
    stored: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
    store_fails: Arc<Mutex<bool>>,
}

impl Neighbours {
    fn arguments(&self, config: BaselineConfig) -> Arguments {
        let (seen, to_load, to_save) = (self.clone(), self.clone(), self.clone());
        Arguments {
            config,
            next: port(move |o: Observed| {
                seen.observed.lock().unwrap().push(o);
                async {}
            }),
            load: port(move |()| {
                let rows: SavedRows = to_load.stored.lock().unwrap().clone().into_iter().collect();
                async { Ok(rows) }
            }),
            save: port(move |rows: Vec<Row>| {
                let fails = *to_save.store_fails.lock().unwrap();
                let mut stored = to_save.stored.lock().unwrap();
                for (key, value) in rows.into_iter().filter(|_| !fails) {
                    match value {
                        Some(value) => drop(stored.insert(key, value)),
                        None => drop(stored.remove(&key)),
                    }
                }
                async move {
                    if fails {
                        Err("no room on the disk".to_owned())
                    } else {
                        Ok(())
                    }
                }
            }),
        }
    }

    async fn start(&self, config: BaselineConfig) -> ActorRef<Message> {
        Actor::spawn(None, BaselineActor, self.arguments(config))
            .await
            .unwrap()
            .0
    }

    fn last(&self) -> Observed {
        self.observed.lock().unwrap().last().cloned().unwrap()
    }
}

fn up() -> SeriesKey {
    SeriesKey::new("health.up").with("check", "web")
}

fn batch(second: i64, samples: Vec<Sample>) -> Box<Batch> {
    Box::new(Batch {
        host: "web-01".parse().unwrap(),
        at: Timestamp::from_secs(MONDAY + second),
        samples,
        events: vec![],
        snapshot: serde_json::json!({"host": "web-01"}),
        dropped: 0,
    })
}

fn health(value: f64) -> Sample {
    Sample::gauge(up(), value)
        .up_to(1.0)
        .harm(Harm::Low)
        .of(&"web".parse().unwrap())
}

async fn observe(actor: &ActorRef<Message>, second: i64, samples: Vec<Sample>) {
    call_t!(actor, Message::Observe, TIMEOUT_MS, batch(second, samples)).unwrap();
}

#[tokio::test]
async fn a_failing_check_is_told_within_two_rounds_and_cleared_when_it_is_healed() {
    let neighbours = Neighbours::default();
    let actor = neighbours.start(BaselineConfig::default()).await;
    for second in 0..6 {
        observe(&actor, second, vec![health(1.0)]).await;
        assert!(neighbours.last().anomalies.is_empty());
    }
    observe(&actor, 6, vec![health(0.0)]).await;
    observe(&actor, 7, vec![health(0.0)]).await;
    let told = neighbours.last();
    let anomaly = &told.anomalies[0];
    assert_eq!(
        (anomaly.severity, anomaly.confidence),
        (Severity::Critical, 1.0)
    );
    assert_eq!(anomaly.since, Timestamp::from_secs(MONDAY + 6));
    assert_eq!(
        anomaly.reading.service.as_ref().map(|s| s.as_str()),
        Some("web")
    );
    let mut cleared = vec![];
    for second in 8..12 {
        observe(&actor, second, vec![health(1.0)]).await;
        cleared.extend(neighbours.last().cleared);
    }
    assert_eq!(cleared, [up()]);
    assert!(neighbours.last().anomalies.is_empty());
    actor.stop_and_wait(None, None).await.unwrap();
}

#[tokio::test]
async fn what_was_learned_survives_a_restart() {
    let neighbours = Neighbours::default();
    let actor = neighbours.start(BaselineConfig::default()).await;
    for second in 0..60 {
        observe(&actor, second, vec![health(1.0)]).await;
    }
    actor.stop_and_wait(None, None).await.unwrap();
    assert_eq!(neighbours.stored.lock().unwrap().len(), 1);

    neighbours
        .stored
        .lock()
        .unwrap()
        .insert(b"rotten".to_vec(), vec![1, 2, 3]);
    let actor = neighbours.start(BaselineConfig::default()).await;
    observe(&actor, 90, vec![health(0.0)]).await;
    observe(&actor, 91, vec![health(0.0)]).await;
    assert_eq!(neighbours.last().anomalies.len(), 1, "it knows at once");
    let views = call_t!(
        actor,
        Message::Baselines,
        TIMEOUT_MS,
        SeriesFilter::default()
    )
    .unwrap();
    assert_eq!((views.len(), views[0].phase), (1, Phase::Learning));
    assert!(views[0].latest.is_some_and(|m| m.baseline.samples >= 40));
    actor.stop_and_wait(None, None).await.unwrap();
    assert!(
        !neighbours
            .stored
            .lock()
            .unwrap()
            .contains_key(&b"rotten".to_vec())
    );
}

#[tokio::test]
async fn a_store_that_fails_is_tried_again() {
    let neighbours = Neighbours::default();
    *neighbours.store_fails.lock().unwrap() = true;
    let actor = neighbours.start(BaselineConfig::default()).await;
    observe(&actor, 0, vec![health(1.0)]).await;
    let failed = call_t!(actor, |reply| Message::Save(Some(reply)), TIMEOUT_MS).unwrap();
    assert_eq!(failed, Err("no room on the disk".to_owned()));
    *neighbours.store_fails.lock().unwrap() = false;
    call_t!(actor, |reply| Message::Save(Some(reply)), TIMEOUT_MS)
        .unwrap()
        .unwrap();
    assert_eq!(neighbours.stored.lock().unwrap().len(), 1);
    actor.stop_and_wait(None, None).await.unwrap();
}

#[tokio::test]
async fn the_number_of_series_has_a_limit_and_what_gives_way_is_counted() {
    let neighbours = Neighbours::default();
    let config = BaselineConfig {
        max_series: 32,
        ..BaselineConfig::default()
    };
    let actor = neighbours.start(config).await;
    for second in 0..100 {
        let fresh = SeriesKey::new("custom.flood").with("n", second.to_string());
        observe(&actor, second, vec![health(1.0), Sample::gauge(fresh, 1.0)]).await;
    }
    let counts = call_t!(actor, Message::Counts, TIMEOUT_MS).unwrap();
    assert!(
        counts.series <= 32 && counts.series as u64 + counts.evicted == 101,
        "{counts:?}"
    );
    let filter = SeriesFilter {
        series: Some("health.*".into()),
        service: Some("web".into()),
    };
    let kept = call_t!(actor, Message::Baselines, TIMEOUT_MS, filter).unwrap();
    assert_eq!(kept.len(), 1, "what is seen in each round stays");
    actor.stop_and_wait(None, None).await.unwrap();
}

#[tokio::test]
async fn a_series_that_falls_silent_is_cleared() {
    let neighbours = Neighbours::default();
    let actor = neighbours.start(BaselineConfig::default()).await;
    for second in 0..20 {
        observe(
            &actor,
            second,
            vec![health(if second < 10 { 1.0 } else { 0.0 })],
        )
        .await;
    }
    assert_eq!(neighbours.last().anomalies.len(), 1);
    observe(&actor, 60, vec![]).await;
    assert_eq!(neighbours.last().anomalies.len(), 1, "a minute may pass");
    observe(&actor, 120, vec![]).await;
    assert_eq!(neighbours.last().cleared, [up()]);
    actor.stop_and_wait(None, None).await.unwrap();
}

#[tokio::test]
async fn what_hale_does_itself_is_not_learned() {
    let neighbours = Neighbours::default();
    let actor = neighbours.start(BaselineConfig::default()).await;
    for second in 0..30 {
        observe(&actor, second, vec![health(1.0)]).await;
    }
    let from = Timestamp::from_secs(MONDAY + 30);
    let until = Timestamp::from_secs(MONDAY + 60);
    let filter = SeriesFilter {
        service: Some("web".into()),
        ..SeriesFilter::default()
    };
    actor
        .cast(Message::Exclude {
            filter,
            from,
            until,
            reply: None,
        })
        .unwrap();
    observe(&actor, 31, vec![health(1.0)]).await;
    let views = call_t!(
        actor,
        Message::Baselines,
        TIMEOUT_MS,
        SeriesFilter::default()
    )
    .unwrap();
    assert!(views[0].latest.is_some_and(|m| m.held_back));
    observe(&actor, 61, vec![health(1.0)]).await;
    let views = call_t!(
        actor,
        Message::Baselines,
        TIMEOUT_MS,
        SeriesFilter::default()
    )
    .unwrap();
    assert!(views[0].latest.is_some_and(|m| !m.held_back));
    actor.stop_and_wait(None, None).await.unwrap();
}

#[tokio::test]
async fn what_the_configuration_ignores_is_shown_and_never_told() {
    let neighbours = Neighbours::default();
    let config = serde_json::from_value(serde_json::json!({
        "overrides": [{"series": "health.*", "service": "web", "ignore": true}]
    }));
    let actor = neighbours.start(config.unwrap()).await;
    for second in 0..20 {
        observe(
            &actor,
            second,
            vec![health(if second < 10 { 1.0 } else { 0.0 })],
        )
        .await;
    }
    assert!(neighbours.last().anomalies.is_empty());
    let views = call_t!(
        actor,
        Message::Baselines,
        TIMEOUT_MS,
        SeriesFilter::default()
    )
    .unwrap();
    assert_eq!(views[0].sensitivity, None);
    assert!(views[0].latest.is_some_and(|m| m.sigma < -5.0));
    actor.stop_and_wait(None, None).await.unwrap();
}
