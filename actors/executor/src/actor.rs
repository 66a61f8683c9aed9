//! The executor actor: takes decisions, asks humans, and drives runs beside its mailbox, one at a
//! time on a scope. What a run does next is decided by [`crate::Run`] alone.

mod diagnosis;
mod driver;
mod manual;
mod questions;
mod recovery;
mod routing;
mod shared;

use crate::config::ExecutorConfig;
use crate::grants::Grants;
use crate::journal::{Asked, Finished, JournalWrite};
use crate::run::{Event, Progress, Running, Setup};
use driver::Handle;
use hale_model::ledger::{Answer, Approval, Command, Lease, LedgerError, Refusal};
use hale_model::port::Port;
use hale_model::{
    ApprovalId, Decision, Diagnosis, ExecutionId, HostName, Incident, IncidentId, Keypair,
    PlaybookName, Reading,
};
use hale_playbooks::Playbook;
pub use manual::{DryRun, DryStep, Manual, ManualAnswer};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use recovery::Recovered;
use shared::Shared;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The actor.
#[derive(Debug, Default, Clone, Copy)]
pub struct Executor;

/// Keys with their values, in the order of the keys.
pub type Rows = Vec<(String, Vec<u8>)>;

/// Where the actor asks and hands on.
#[derive(Clone)]
pub struct Ports {
    /// The ledger.
    pub ledger: Port<Command, Result<Answer, LedgerError>>,
    /// Writes the journal: on the platter when it answers.
    pub journal: Port<JournalWrite, Result<(), String>>,
    /// All that the journal holds.
    pub load_journal: Port<(), Result<Rows, String>>,
    /// Takes what ended. Whoever takes it keeps it: the grant is closed with it (or, where there
    /// is none, a record appended), and the journal forgets it. Told twice after a crash.
    pub finished: Port<Finished, Result<(), String>>,
    /// Tells who watches.
    pub progress: Port<Progress>,
    /// The grants that are not closed, as the ledger's majority knows them.
    pub leases: Port<(), Result<Vec<Lease>, String>>,
    /// Whether the cluster is frozen: asked once, before what a dead node left is taken up.
    pub frozen: Port<(), Result<bool, String>>,
    /// The approvals the ledger knows.
    pub approvals: Port<(), Result<Vec<Approval>, String>>,
    /// An incident as it is now.
    pub incident: Port<IncidentId, Option<Incident>>,
    /// The latest readings of the series that [`crate::actions::series_matches`] a pattern.
    pub readings: Port<String, Vec<Reading>>,
    /// A secret by its name.
    pub secrets: Port<String, Result<String, String>>,
    /// The host's tags as they are now.
    pub tags: Port<(), BTreeMap<String, String>>,
}

/// What the actor is given.
pub struct Arguments {
    /// How it is configured.
    pub config: ExecutorConfig,
    /// This host.
    pub host: HostName,
    /// Its environment: `production`.
    pub environment: String,
    /// The playbooks.
    pub playbooks: Vec<Playbook>,
    /// Signs intents and questions.
    pub keypair: Keypair,
    /// Where it asks and hands on.
    pub ports: Ports,
}

/// What the actor can be asked or told.
pub enum Message {
    /// A decision, to be run, asked about or escalated; answered when it is taken in.
    Decided(Box<Incident>, Box<Decision>, RpcReplyPort<()>),
    /// The ledger says how a question stands.
    ApprovalChanged(Box<Approval>),
    /// An incident's signals are normal again.
    IncidentResolved(IncidentId),
    /// The cluster was frozen or thawed.
    Frozen(bool),
    /// A human starts a playbook, or asks what it would do.
    RunManual(Box<Manual>, RpcReplyPort<Result<ManualAnswer, String>>),
    /// What the probes of playbooks find for an incident: changes nothing.
    Diagnose(Box<Incident>, Vec<PlaybookName>, RpcReplyPort<Diagnosis>),
    /// What runs at the moment.
    Running(RpcReplyPort<Vec<Running>>),
    /// Other playbooks.
    Reload(Vec<Playbook>),
    /// What a dead node left was found: from the actor to itself.
    Recovered(Box<Recovered>),
    /// The ledger granted this node a lease.
    Granted(Box<Lease>),
    /// A run is over and handed over, and has closed its grant or knew of none: from the actor to
    /// itself.
    Ended(ExecutionId, bool),
    /// The ledger took a question, or did not: from the actor to itself.
    QuestionPut(ApprovalId, Result<(), Refusal>),
    /// An approved plan can be begun, or not any more: from the actor to itself.
    Approved(Box<Asked>, Result<Box<Setup>, String>),
    /// A run by hand is planned, or can't be: from the actor to itself.
    ManualPlanned(
        Result<Box<Setup>, String>,
        RpcReplyPort<Result<ManualAnswer, String>>,
    ),
    /// A decision is planned, or can't be: from the actor to itself.
    Planned(Box<routing::Planned>),
}

impl ractor::Message for Message {}

/// The actor's state.
pub struct State {
    shared: Arc<Shared>,
    playbooks: Arc<BTreeMap<PlaybookName, Playbook>>,
    /// Runs that are under way.
    running: BTreeMap<ExecutionId, Handle>,
    /// What is known of this node's grants.
    grants: Grants,
    /// Runs that wait for their scope or for room.
    waiting: VecDeque<Setup>,
    questions: BTreeMap<ApprovalId, Asked>,
    /// Incidents that were handed to a human: told once.
    escalated: VecDeque<IncidentId>,
    /// What came before the journal was read, in order.
    early: Option<Vec<Early>>,
    /// None until the ledger has said.
    is_frozen: Option<bool>,
}

/// The most that waits until the journal is read.
const MAX_EARLY: usize = 256;

/// What came before the journal was read.
enum Early {
    Decided(Box<Incident>, Box<Decision>),
    Answered(Box<Approval>),
    Resolved(IncidentId),
}

impl Actor for Executor {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let playbooks = by_name(arguments.playbooks);
        let shared = Arc::new(Shared::new(
            arguments.config,
            arguments.host,
            arguments.environment,
            arguments.keypair,
            arguments.ports,
        ));
        shared.stay_connected();
        recovery::look(Arc::clone(&shared), myself);
        Ok(State {
            shared,
            playbooks: Arc::new(playbooks),
            running: BTreeMap::new(),
            grants: Grants::default(),
            waiting: VecDeque::new(),
            questions: BTreeMap::new(),
            escalated: VecDeque::new(),
            early: Some(vec![]),
            is_frozen: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Decided(incident, decision, reply) => {
                state
                    .take(&myself, Early::Decided(incident, decision))
                    .await;
                let _ = reply.send(());
            }
            Message::Planned(planned) => state.planned(&myself, *planned),
            Message::ApprovalChanged(approval) => {
                state.take(&myself, Early::Answered(approval)).await;
            }
            Message::QuestionPut(id, put) => state.question_put(&id, put),
            Message::Approved(asked, setup) => state.approved(&myself, *asked, setup),
            Message::IncidentResolved(id) => state.take(&myself, Early::Resolved(id)).await,
            Message::Frozen(frozen) => {
                state.is_frozen = Some(frozen);
                for run in state.running.values() {
                    run.tell(Event::Frozen(frozen)).await;
                }
            }
            Message::Diagnose(incident, playbooks, reply) => {
                state.diagnose(*incident, &playbooks, reply);
            }
            Message::RunManual(manual, reply) => state.run_manual(&myself, *manual, reply),
            Message::ManualPlanned(planned, reply) => {
                state.manual_planned(&myself, planned.map(|s| *s), reply);
            }
            Message::Running(reply) => {
                let _ = reply.send(state.running.values().map(Handle::shown).collect());
            }
            Message::Reload(playbooks) => state.playbooks = Arc::new(by_name(playbooks)),
            Message::Recovered(recovered) => state.recovered(&myself, *recovered).await,
            Message::Granted(lease) => state.granted(*lease),
            Message::Ended(id, has_closed) => {
                state.running.remove(&id);
                let left = state.grants.ended(&id, has_closed);
                left.into_iter().for_each(|lease| state.close_orphan(lease));
                state.start_waiting(&myself);
            }
        }
        Ok(())
    }
}

fn by_name(playbooks: Vec<Playbook>) -> BTreeMap<PlaybookName, Playbook> {
    playbooks.into_iter().map(|p| (p.name.clone(), p)).collect()
}

impl State {
    /// Takes in what was said, once it is known what a dead node left.
    async fn take(&mut self, myself: &ActorRef<Message>, said: Early) {
        match (&mut self.early, said) {
            (Some(early), said) if early.len() < MAX_EARLY => early.push(said),
            (Some(_), _) => tracing::warn!("the journal is still being read and enough waits"),
            (None, Early::Decided(incident, decision)) => {
                self.decided(myself, incident, decision);
            }
            (None, Early::Answered(approval)) => self.approval_changed(myself, *approval),
            (None, Early::Resolved(id)) => self.incident_resolved(&id).await,
        }
    }

    /// Begins a run as soon as its scope and the number of runs allow.
    fn begin(&mut self, myself: &ActorRef<Message>, setup: Setup) -> Result<(), usize> {
        if self.waiting.len() >= self.shared.config.max_waiting {
            return Err(self.waiting.len());
        }
        self.waiting.push_back(setup);
        self.start_waiting(myself);
        Ok(())
    }

    fn start_waiting(&mut self, myself: &ActorRef<Message>) {
        let mut at = 0;
        while self.running.len() < self.shared.config.max_runs && at < self.waiting.len() {
            let scope = &self.waiting[at].intent.plan.scope;
            let mut before = self.waiting.iter().take(at).map(|s| &s.intent.plan.scope);
            let is_taken = self.running.values().any(|r| r.scope.conflicts(scope))
                || before.any(|s| s.conflicts(scope));
            if is_taken {
                at += 1;
                continue;
            }
            if let Some(setup) = self.waiting.remove(at) {
                self.start(myself, driver::Start::Fresh(Box::new(setup)));
            }
        }
    }

    fn start(&mut self, myself: &ActorRef<Message>, start: driver::Start) {
        let handle = driver::start(
            Arc::clone(&self.shared),
            myself,
            start,
            self.is_frozen == Some(true),
        );
        self.running.insert(handle.execution.clone(), handle);
    }

    /// Whether an incident is being worked on, or will be.
    fn is_underway(&self, incident: &IncidentId) -> bool {
        self.running.values().any(|r| r.incident == *incident)
            || self
                .waiting
                .iter()
                .any(|s| s.intent.plan.incident == *incident)
    }

    /// Remembers that a human was told; false if one was before.
    fn is_first_escalation(&mut self, incident: &IncidentId) -> bool {
        const REMEMBERED: usize = 1024;
        if self.escalated.contains(incident) {
            return false;
        }
        if self.escalated.len() >= REMEMBERED {
            self.escalated.pop_front();
        }
        self.escalated.push_back(incident.clone());
        true
    }
}
