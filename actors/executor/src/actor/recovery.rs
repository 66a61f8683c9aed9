//! After a start: what a node that died left in its journal and in the ledger.

use super::driver::{Start, look_up};
use super::shared::{Shared, persist, wall};
use super::{Message, State, questions};
use crate::journal::{self, Asked, Finished, Progressed, Recovery};
use crate::run::Setup;
use hale_model::execution::Mode;
use hale_model::ledger::{Approval, ApprovalState, Lease};
use hale_model::{Incident, IncidentId, IncidentState, OutcomeStatus};
use ractor::ActorRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often, and after which pause, an incident is asked for that nobody seems to know.
const INCIDENT_TRIES: u32 = 12;
const INCIDENT_PAUSE: Duration = Duration::from_millis(250);

/// What a dead node left.
pub struct Recovered {
    /// Reports that nobody may have taken, with the keys they are kept under.
    over: Vec<(Finished, Vec<String>)>,
    /// Runs that were cut off.
    runs: Vec<Found>,
    questions: Vec<(Asked, Option<Approval>)>,
    /// Grants of this node that no journal knows of.
    orphans: Vec<Lease>,
    /// Incidents that are open now, of those that were asked about.
    open: BTreeSet<IncidentId>,
    is_frozen: bool,
}

struct Found {
    progressed: Box<Progressed>,
    keys: Vec<String>,
    lease: Option<Lease>,
    env: hale_playbooks::Env,
}

/// Looks for it beside the mailbox: the ledger may need a moment to answer.
pub(super) fn look(shared: Arc<Shared>, myself: ActorRef<Message>) {
    tokio::spawn(async move {
        let recovered = find(&shared).await;
        let _ = myself.cast(Message::Recovered(Box::new(recovered)));
    });
}

async fn find(shared: &Shared) -> Recovered {
    let ports = &shared.ports;
    let rows = persist("the journal can't be read", || (ports.load_journal)(())).await;
    let found = journal::read(&rows);
    for (key, why) in &found.unreadable {
        tracing::error!(%key, "a record of the journal can't be read and is left where it is: {why}");
    }
    // A read through the leader: what it answers is what holds, not what this node remembers.
    let leases = look_up("the leases can't be read", &ports.leases).await;
    let own: Vec<Lease> = leases
        .into_iter()
        .filter(|l| l.holder == shared.node())
        .collect();
    let mut out = Recovered {
        over: vec![],
        runs: vec![],
        questions: vec![],
        orphans: own
            .iter()
            .filter(|l| !found.runs.contains_key(l.execution.as_str()))
            .cloned()
            .collect(),
        open: BTreeSet::new(),
        is_frozen: look_up("whether the cluster is frozen is not known", &ports.frozen).await,
    };
    let key_of = |id: &str| {
        let prefix = format!("{id}/");
        rows.iter()
            .map(|(k, _)| k)
            .filter(|k| k.starts_with(&prefix))
            .cloned()
            .collect::<Vec<_>>()
    };
    for (id, records) in &found.runs {
        let lease = own.iter().find(|l| l.execution.as_str() == id).cloned();
        match journal::recover(records) {
            Recovery::HandOver(finished, _) => out.over.push((*finished, key_of(id))),
            Recovery::TakeUp(progressed) => {
                let intent = &progressed.intent;
                let env = shared.env(&intent.incident, &intent.plan.params).await;
                out.runs.push(Found {
                    keys: key_of(id),
                    lease,
                    env,
                    progressed,
                });
            }
            Recovery::Lost => {
                tracing::error!(run = %id, "its journal has lost its beginning");
                out.orphans.extend(lease);
            }
        }
    }
    if !found.questions.is_empty() {
        let known = look_up("the approvals can't be read", &ports.approvals).await;
        let by_id: BTreeMap<_, _> = known.into_iter().map(|a| (a.id.clone(), a)).collect();
        let with = |q: Asked| {
            let known = by_id.get(&q.approval.id).cloned();
            (q, known)
        };
        out.questions = found.questions.into_iter().map(with).collect();
    }
    let runs = out
        .runs
        .iter()
        .map(|r| r.progressed.intent.plan.incident.clone());
    let asked = out.questions.iter().map(|(q, _)| q.plan.incident.clone());
    for id in runs.chain(asked).collect::<BTreeSet<_>>() {
        let incident = known_incident(shared, &id).await;
        if incident.is_some_and(|i| i.state == IncidentState::Open) {
            out.open.insert(id);
        }
    }
    out
}

/// An incident as it is now. Whoever knows may be starting too, so that no answer is not at once
/// taken for an incident that is over.
async fn known_incident(shared: &Shared, id: &IncidentId) -> Option<Incident> {
    for _ in 0..INCIDENT_TRIES {
        let found = (shared.ports.incident)(id.clone()).await;
        if found.is_some() {
            return found;
        }
        sleep(INCIDENT_PAUSE).await;
    }
    None
}

impl State {
    pub(super) async fn recovered(&mut self, myself: &ActorRef<Message>, recovered: Recovered) {
        let Recovered {
            over,
            runs,
            questions,
            orphans,
            open,
            is_frozen,
        } = recovered;
        self.is_frozen.get_or_insert(is_frozen);
        for (finished, keys) in over {
            // Its own report closes the grant.
            if let (Some(plan), Some(_)) = (&finished.report.plan, finished.close) {
                self.grants.ended(&plan.execution, true);
            }
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.hand_over(finished, keys).await });
        }
        for lease in orphans {
            self.grants.ended(&lease.execution, true);
            self.close_orphan(lease);
        }
        let resumed: BTreeSet<_> = runs
            .iter()
            .filter_map(|r| r.progressed.intent.approval.clone())
            .collect();
        for found in runs {
            let intent = &found.progressed.intent;
            let is_manual = matches!(intent.mode, Mode::Manual { .. });
            let is_open = is_manual || open.contains(&intent.plan.incident);
            self.take_up(myself, found, is_open);
        }
        for (asked, known) in questions {
            if !resumed.contains(&asked.approval.id) {
                let is_open = open.contains(&asked.plan.incident);
                self.question_found(myself, asked, known, is_open);
            }
        }
        let early = self.early.take().unwrap_or_default();
        for lease in self.grants.take() {
            self.granted(lease);
        }
        for said in early {
            self.take(myself, said).await;
        }
    }

    /// The ledger granted this node a lease. Until the journal is read, it is only remembered.
    pub(super) fn granted(&mut self, lease: Lease) {
        let runs = self.early.is_some() || self.running.contains_key(&lease.execution);
        let left = self.grants.granted(lease, runs);
        left.into_iter().for_each(|lease| self.close_orphan(lease));
    }

    /// Closes a grant that no run knows of, if the ledger still has it.
    pub(super) fn close_orphan(&self, lease: Lease) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let open = look_up("the leases can't be read", &shared.ports.leases).await;
            if open.iter().any(|l| l.fence == lease.fence) {
                let (execution, fence) = (&lease.execution, lease.fence);
                tracing::error!(%execution, %fence, "a grant that no run knows of is closed as abandoned");
                let finished = journal::orphan(&lease, &shared.environment, &shared.host, wall());
                shared.report(finished, vec![]);
            }
        });
    }

    fn take_up(&mut self, myself: &ActorRef<Message>, found: Found, is_open: bool) {
        let Found {
            progressed,
            keys,
            lease,
            env,
        } = found;
        let plan = &progressed.intent.plan;
        let playbook = self.playbooks.get(&plan.playbook);
        let Some(playbook) = playbook
            .filter(|p| p.digest == plan.playbook_digest)
            .cloned()
        else {
            let why = format!(
                "the node stopped in the middle of the run, and `{}` {} is not the playbook it was",
                plan.playbook, plan.version
            );
            self.grants.ended(&plan.execution, lease.is_some());
            let finished = journal::abandoned(*progressed, lease.as_ref(), wall(), &why);
            return self.shared.report(finished, keys);
        };
        tracing::info!(execution = %plan.execution, "a run that was cut off is taken up");
        let intent = progressed.intent.clone();
        let setup = Box::new(Setup {
            intent,
            playbook,
            env,
            limits: self.shared.limits(),
        });
        self.start(
            myself,
            Start::Found {
                setup,
                progressed,
                lease: lease.map(Box::new),
                is_open,
            },
        );
    }

    fn question_found(
        &mut self,
        myself: &ActorRef<Message>,
        asked: Asked,
        known: Option<Approval>,
        is_open: bool,
    ) {
        let id = asked.approval.id.clone();
        let state = known.as_ref().map(|k| k.state);
        if matches!(state, Some(ApprovalState::Used | ApprovalState::Superseded)) {
            // Its run, or its report, has records of its own.
            return self.forget(&id);
        }
        self.questions.insert(id, asked.clone());
        let is_answered = matches!(state, Some(ApprovalState::Denied | ApprovalState::Expired));
        match known {
            _ if !is_open && !is_answered => {
                let why = "the signals are normal again";
                self.withdraw(&asked, why);
                let why = format!("{why}; nothing was run");
                self.close(&asked, OutcomeStatus::SelfResolved, why, Mode::Autonomous);
            }
            // It never reached the ledger.
            None => questions::put(Arc::clone(&self.shared), myself.clone(), asked),
            Some(known) => self.approval_changed(myself, known),
        }
    }
}
