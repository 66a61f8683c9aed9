use super::*;
use crate::tests_support::{key, report, report_of};
use hale_model::Fence;
use hale_model::ledger::Refusal;
use hale_model::port::port;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A ledger, an outbox and a listener in memory; the ledger answers from a script first.
#[derive(Default, Clone)]
struct World {
    script: Arc<Mutex<VecDeque<Result<Answer, LedgerError>>>>,
    asked: Arc<Mutex<Vec<Command>>>,
    disk: Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>,
    told: Arc<Mutex<Vec<Recorded>>>,
}

impl World {
    fn arguments(&self) -> Arguments {
        let (l, o, t) = (self.clone(), self.clone(), self.clone());
        Arguments {
            key: key(1),
            ledger: port(move |c| {
                l.asked.lock().unwrap().push(c);
                let answer = l.script.lock().unwrap().pop_front();
                async move { answer.unwrap_or(Ok(Answer::Done { entry: None })) }
            }),
            outbox: port(move |q| {
                let mut disk = o.disk.lock().unwrap();
                let rows = match q {
                    Outbox::Load => disk.clone().into_iter().collect(),
                    Outbox::Put { key, value } => {
                        disk.insert(key, value).map(|_| vec![]).unwrap_or_default()
                    }
                    Outbox::Remove { key } => disk.remove(&key).map(|_| vec![]).unwrap_or_default(),
                };
                async move { Ok(rows) }
            }),
            recorded: port(move |r| {
                t.told.lock().unwrap().push(r);
                async {}
            }),
            retry: Retry {
                first: Duration::from_millis(1),
                longest: Duration::from_millis(4),
                answer_within: Duration::from_secs(5),
            },
        }
    }

    async fn start(&self) -> ActorRef<Message> {
        Actor::spawn(None, Audit, self.arguments()).await.unwrap().0
    }

    fn script(&self, answers: impl IntoIterator<Item = Result<Answer, LedgerError>>) {
        self.script.lock().unwrap().extend(answers);
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if what(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!(
            "it did not happen; asked {:?}",
            self.asked.lock().unwrap().len()
        );
    }
}

async fn send(actor: &ActorRef<Message>, report: ExecutionReport) {
    ractor::call_t!(actor, Message::Record, 5_000, Box::new(report))
        .unwrap()
        .unwrap();
}

fn stopped_report(incident_seconds: u32) -> ExecutionReport {
    let mut r = report_of(OutcomeStatus::Escalated);
    (r.fence, r.plan) = (None, None);
    r.incident.id = hale_model::IncidentId::at(r.incident.opened_at, incident_seconds);
    r
}

#[tokio::test]
async fn a_record_is_asked_for_until_the_ledger_answers_and_told_once() {
    let world = World::default();
    world.script([Err(LedgerError::NoLeader(500)), Err(LedgerError::Busy)]);
    let actor = world.start().await;
    send(&actor, report()).await;
    world.until(|w| w.told.lock().unwrap().len() == 1).await;
    world.until(|w| w.disk.lock().unwrap().is_empty()).await;
    let asked = world.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|c| matches!(
        c,
        Command::Close {
            fence: Fence(7),
            disposition: Disposition::Done,
            ..
        }
    )));
}

#[tokio::test]
async fn a_grant_closed_before_counts_as_done() {
    let world = World::default();
    world.script([Ok(Answer::Refused(Refusal::AlreadyClosed(Fence(7))))]);
    let actor = world.start().await;
    send(&actor, report()).await;
    world.until(|w| w.told.lock().unwrap().len() == 1).await;
    assert_eq!(world.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_record_whose_grant_nobody_knows_is_appended() {
    let world = World::default();
    world.script([Ok(Answer::Refused(Refusal::StaleFence(Fence(7))))]);
    let actor = world.start().await;
    send(&actor, report()).await;
    world.until(|w| w.told.lock().unwrap().len() == 1).await;
    assert!(matches!(
        world.asked.lock().unwrap()[1],
        Command::Append { .. }
    ));
}

#[tokio::test]
async fn what_waits_survives_a_stop_and_keeps_its_order() {
    let world = World::default();
    world.script(std::iter::repeat_n(
        Err(LedgerError::NoLeader(500)),
        100_000,
    ));
    let actor = world.start().await;
    for i in 0..3 {
        send(&actor, stopped_report(i)).await;
    }
    send(&actor, stopped_report(2)).await;
    actor.stop_and_wait(None, None).await.unwrap();
    assert_eq!(world.disk.lock().unwrap().len(), 3);
    world.script.lock().unwrap().clear();
    world.asked.lock().unwrap().clear();
    let _actor = world.start().await;
    world
        .until(|w| w.told.lock().unwrap().len() == 3 && w.disk.lock().unwrap().is_empty())
        .await;
    let told: Vec<_> = world
        .told
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.record.incident_id.to_string())
        .collect();
    assert!(told.is_sorted(), "{told:?}");
}

#[tokio::test]
async fn a_record_refused_for_good_stays_on_disk_and_stops_nobody() {
    let world = World::default();
    world.script([Ok(Answer::Refused(Refusal::BadSignature))]);
    let actor = world.start().await;
    send(&actor, report()).await;
    send(&actor, stopped_report(1)).await;
    world.until(|w| w.told.lock().unwrap().len() == 1).await;
    world.until(|w| w.disk.lock().unwrap().len() == 1).await;
    let status = ractor::call_t!(actor, Message::Status, 5_000).unwrap();
    assert_eq!((status.refused, status.recorded), (1, 1));
}

#[tokio::test]
async fn an_outbox_that_fails_is_told_to_the_sender() {
    let world = World::default();
    let mut arguments = world.arguments();
    arguments.outbox = port(|q| async move {
        if q == Outbox::Load {
            Ok(vec![])
        } else {
            Err("disk full".to_owned())
        }
    });
    let actor = Actor::spawn(None, Audit, arguments).await.unwrap().0;
    let answer = ractor::call_t!(actor, Message::Record, 5_000, Box::new(report())).unwrap();
    assert!(matches!(answer, Err(AuditError::Outbox(_))));
}
