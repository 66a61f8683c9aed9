//! The actor with real tasks: rounds in, decisions out, and a restart in between.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::{exhausted_pool, round};
use hale_decision::actor::{Arguments, Decided, DecisionActor, Kept, Message, Ports};
use hale_decision::confidence::Policy;
use hale_decision::incident::{Change, Settings};
use hale_model::ledger::History;
use hale_model::port::port;
use hale_model::{Diagnosis, Digest, Incident, IncidentState, Observed, PlaybookName, Route};
use hale_playbooks::{Playbook, Proof, ScopeKind, Signature};
use ractor::{Actor, ActorRef, call_t};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

const WITHIN_MS: u64 = 20_000;

fn playbooks() -> Vec<Playbook> {
    let playbook = |entry: hale_decision::catalogue::Entry| Playbook {
        name: entry.name,
        version: entry.version,
        description: entry.description,
        tags: vec![],
        idempotent: true,
        services: entry.services,
        aliases: entry.aliases,
        not_when: entry.not_when,
        signature: Signature {
            series: entry.series,
            logs: entry.logs.iter().map(|r| r.as_str().to_owned()).collect(),
        },
        max_route: Route::Execute,
        scope: ScopeKind::Service,
        max_duration: Duration::from_secs(60),
        proof: Proof::Proven,
        diagnose: vec![],
        parameters: vec![],
        pre_execution_checks: vec![],
        steps: vec![],
        verification: vec![],
        rollback: vec![],
        no_rollback_reason: None,
        references: vec![],
        digest: Digest::ZERO,
    };
    common::library().into_iter().map(playbook).collect()
}

type Disk = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

struct House {
    actor: ActorRef<Message>,
    decided: mpsc::Receiver<Decided>,
    changed: mpsc::Receiver<Change>,
}

async fn house(disk: Disk, policy: Policy) -> House {
    house_behind(disk, policy, Arc::new(Semaphore::new(1 << 20))).await
}

/// One whose ledger answers a question for each permit.
async fn house_behind(disk: Disk, policy: Policy, door: Arc<Semaphore>) -> House {
    let (decided_in, decided) = mpsc::channel(16);
    let (changed_in, changed) = mpsc::channel(64);
    let (load, save) = (Arc::clone(&disk), disk);
    let ports = Ports {
        decided: port(move |d| {
            let to = decided_in.clone();
            async move { to.send(d).await.unwrap_or_default() }
        }),
        changed: port(move |c| {
            let to = changed_in.clone();
            async move { to.send(c).await.unwrap_or_default() }
        }),
        history: port(|_: (PlaybookName, _)| async { History::default() }),
        policy: port(move |_| {
            let (policy, door) = (policy.clone(), Arc::clone(&door));
            async move {
                door.acquire().await.unwrap().forget();
                policy
            }
        }),
        diagnose: port(|_| async { Some(Diagnosis::default()) }),
        consumers: port(|_| async {
            vec![common::consumer(
                "connections",
                "application checkout 89 connections",
            )]
        }),
        load: port(move |()| {
            let all: Vec<_> = load.lock().unwrap().clone().into_iter().collect();
            async move { all }
        }),
        save: port(move |kept: Vec<Kept>| {
            let mut disk = save.lock().unwrap();
            for (key, value) in kept {
                match value {
                    Some(bytes) => disk.insert(key, bytes),
                    None => disk.remove(&key),
                };
            }
            async {}
        }),
    };
    let arguments = Arguments {
        settings: Settings::default(),
        playbooks: playbooks(),
        ports,
    };
    let (actor, _) = Actor::spawn(None, DecisionActor, arguments).await.unwrap();
    House {
        actor,
        decided,
        changed,
    }
}

impl House {
    async fn observe(&self, observed: Observed) {
        call_t!(
            self.actor,
            |reply| Message::Observe(Box::new(observed), reply),
            WITHIN_MS
        )
        .unwrap();
    }

    async fn next_decision(&mut self) -> Decided {
        tokio::time::timeout(Duration::from_millis(WITHIN_MS), self.decided.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

#[tokio::test]
async fn signals_become_one_decision_that_can_be_asked_for() {
    let mut house = house(Disk::default(), Policy::default()).await;
    let (anomalies, events) = exhausted_pool();
    for second in 0..4 {
        house
            .observe(round(second, anomalies.clone(), events.clone()))
            .await;
    }
    let decided = house.next_decision().await;
    assert_eq!(
        decided.decision.route,
        Route::Execute,
        "{}",
        decided.decision.rationale
    );
    assert_eq!(
        decided.decision.chosen().unwrap().playbook.as_str(),
        "postgres_connection_pool_reset"
    );
    assert!(decided.decision.took_us > 0 && !decided.incident.top_consumers.is_empty());
    assert!(matches!(
        house.changed.recv().await.unwrap(),
        Change::Opened(_)
    ));

    let id = decided.incident.id.clone();
    let listed: Vec<Incident> = call_t!(house.actor, Message::ListIncidents, WITHIN_MS).unwrap();
    assert_eq!(listed.iter().map(|i| &i.id).collect::<Vec<_>>(), [&id]);
    let why = call_t!(house.actor, |r| Message::Why(id.clone(), r), WITHIN_MS)
        .unwrap()
        .unwrap();
    assert!(why.narrative.contains("too many clients already"));
    assert_eq!(
        why.decisions
            .last()
            .unwrap()
            .gates
            .iter()
            .filter(|g| !g.passed)
            .count(),
        0
    );

    for second in 4..10 {
        house.observe(round(second, vec![], vec![])).await;
    }
    let ended = loop {
        if let Change::Resolved(incident) = house.changed.recv().await.unwrap() {
            break incident;
        }
    };
    assert_eq!((ended.id, ended.state), (id, IncidentState::Resolved));
    // Rounds that bring nothing new are not decided on again.
    assert!(house.decided.try_recv().is_err());
    house.actor.stop(None);
}

#[tokio::test]
async fn what_comes_while_it_is_decided_is_part_of_what_is_decided_on() {
    let door = Arc::new(Semaphore::new(0));
    let mut house = house_behind(Disk::default(), Policy::default(), Arc::clone(&door)).await;
    let (anomalies, events) = exhausted_pool();
    house.observe(round(0, vec![], events[..1].to_vec())).await;
    house.changed.recv().await.unwrap();
    // Now it is being decided on, and waits for the ledger.
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.observe(round(1, anomalies.clone(), events)).await;
    door.add_permits(8);
    let decided = house.next_decision().await;
    assert_eq!(decided.incident.anomalies.len(), anomalies.len());
    assert_eq!(decided.decision.route, Route::Execute);
    assert!(house.decided.try_recv().is_err());
    house.actor.stop(None);
}

#[tokio::test]
async fn a_human_is_asked_only_after_what_comes_a_moment_later() {
    let policy = Policy {
        max_route: Route::Ask,
        ..Policy::default()
    };
    let mut house = house(Disk::default(), policy.clone()).await;
    let (anomalies, events) = exhausted_pool();
    house.observe(round(0, vec![], events[..1].to_vec())).await;
    house.changed.recv().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(house.decided.try_recv().is_err());
    house
        .observe(round(1, anomalies.clone(), events.clone()))
        .await;
    let decided = house.next_decision().await;
    assert_eq!(decided.decision.route, Route::Ask);
    assert_eq!(decided.incident.anomalies.len(), anomalies.len());
    assert!(house.decided.try_recv().is_err());
    house.actor.stop(None);
    // Where nothing more comes a human is asked all the same.
    let mut alone = self::house(Disk::default(), policy).await;
    let began = std::time::Instant::now();
    alone.observe(round(0, vec![], events[..1].to_vec())).await;
    let decided = alone.next_decision().await;
    assert_eq!(decided.decision.route, Route::Ask);
    assert!(began.elapsed() >= Duration::from_secs(2));
    alone.actor.stop(None);
}

#[tokio::test]
async fn a_restart_remembers_what_is_open_and_does_not_decide_it_again() {
    let disk = Disk::default();
    let (anomalies, events) = exhausted_pool();
    let mut before = house(Arc::clone(&disk), Policy::default()).await;
    for second in 0..3 {
        before
            .observe(round(second, anomalies.clone(), events.clone()))
            .await;
    }
    let id = before.next_decision().await.incident.id;
    before.actor.stop_and_wait(None, None).await.unwrap();

    let mut after = house(disk, Policy::default()).await;
    after.observe(round(5, anomalies, events)).await;
    let incident = call_t!(after.actor, |r| Message::Incident(id.clone(), r), WITHIN_MS)
        .unwrap()
        .unwrap();
    assert_eq!(incident.state, IncidentState::Open);
    let why = call_t!(after.actor, |r| Message::Why(id, r), WITHIN_MS)
        .unwrap()
        .unwrap();
    assert_eq!(why.decisions.len(), 1);
    assert!(after.decided.try_recv().is_err());
    after.actor.stop(None);
}

#[tokio::test]
async fn with_no_playbook_everything_goes_to_a_person_until_some_are_loaded() {
    let mut house = house(Disk::default(), Policy::default()).await;
    house.actor.cast(Message::Reload(vec![])).unwrap();
    while call_t!(house.actor, Message::Indexed, WITHIN_MS).unwrap() != Some(0) {
        tokio::task::yield_now().await;
    }
    let (anomalies, events) = exhausted_pool();
    for second in 0..2 {
        house
            .observe(round(second, anomalies.clone(), events.clone()))
            .await;
    }
    let decided = house.next_decision().await;
    assert_eq!(
        (decided.decision.route, decided.decision.chosen()),
        (Route::Escalate, None)
    );
    house.actor.stop(None);
}
