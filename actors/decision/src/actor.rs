//! The decision actor: takes a round of observations, answers at once, and decides beside the
//! mailbox, so that neither the rounds nor a question wait for the model.

mod deciding;
mod known;

use crate::catalogue::Entry;
use crate::confidence::Policy;
use crate::embed::Embedder;
use crate::incident::{Change, Correlator, Saved, Settings};
use crate::rank::Ranker;
use deciding::Deciding;
use hale_model::ledger::History;
use hale_model::port::Port;
use hale_model::{
    Consumer, Decision, Diagnosis, Incident, IncidentId, Observed, PlaybookName, Route, SeriesKey,
    ServiceName,
};
use hale_playbooks::Playbook;
pub use known::Why;
use known::{Known, KnownIncidents};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The actor.
#[derive(Debug, Default, Clone, Copy)]
pub struct DecisionActor;

/// An incident with what was decided about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The incident as it was decided on.
    pub incident: Incident,
    /// The decision.
    pub decision: Decision,
}

/// Asks what takes the most of what a series measures.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumersAsked {
    /// The series in trouble.
    pub series: SeriesKey,
    /// The service it is about.
    pub service: Option<ServiceName>,
}

/// Asks what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyAsked {
    /// The playbook that would run.
    pub playbook: PlaybookName,
    /// The service it would run on.
    pub service: Option<ServiceName>,
    /// The host's environment.
    pub environment: String,
}

/// Asks what the probes of playbooks find on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct DiagnosisAsked {
    /// The incident that the playbooks may fit.
    pub incident: Incident,
    /// Whose probes.
    pub playbooks: Vec<PlaybookName>,
}

/// A value to keep (`Some`) or to forget (`None`) under a key.
pub type Kept = (String, Option<Vec<u8>>);

/// Where the actor asks and hands on.
#[derive(Clone)]
pub struct Ports {
    /// Takes decisions: the first of an incident, and each that chooses or routes otherwise.
    pub decided: Port<Decided>,
    /// Takes every change of an incident, before it is decided on; what resolved must not run.
    pub changed: Port<Change>,
    /// Verified outcomes of a playbook on a service.
    pub history: Port<(PlaybookName, Option<ServiceName>), History>,
    /// Thresholds, the level allowed, and whether the cluster is frozen.
    pub policy: Port<PolicyAsked, Policy>,
    /// What the probes of playbooks find on the host; nothing if they do not answer.
    pub diagnose: Port<DiagnosisAsked, Option<Diagnosis>>,
    /// What takes the most.
    pub consumers: Port<ConsumersAsked, Vec<Consumer>>,
    /// All that was kept before.
    pub load: Port<(), Vec<(String, Vec<u8>)>>,
    /// Keeps and forgets, in one step.
    pub save: Port<Vec<Kept>>,
}

/// What the actor is given.
pub struct Arguments {
    /// When incidents open and end.
    pub settings: Settings,
    /// The playbooks to choose from.
    pub playbooks: Vec<Playbook>,
    /// Where it asks and hands on.
    pub ports: Ports,
}

/// What the actor can be asked or told.
pub enum Message {
    /// One round; answered when its signals are taken in.
    Observe(Box<Observed>, RpcReplyPort<()>),
    /// Other playbooks; the old ones stay in use until the new index is built.
    Reload(Vec<Playbook>),
    /// The incidents that are remembered, newest first.
    ListIncidents(RpcReplyPort<Vec<Incident>>),
    /// One incident.
    Incident(IncidentId, RpcReplyPort<Option<Incident>>),
    /// An incident with its story and its decisions.
    Why(IncidentId, RpcReplyPort<Option<Why>>),
    /// How many playbooks the index in use holds; none until the first is built.
    Indexed(RpcReplyPort<Option<usize>>),
    /// An index was built: from the actor to itself.
    Built(u64, Arc<Ranker>),
    /// A decision was made: from the actor to itself.
    Made(Box<Decided>),
    /// A decision has waited for more evidence: from the actor to itself.
    Settled(IncidentId),
    /// A decision could not be made: from the actor to itself.
    Failed(IncidentId),
}

impl ractor::Message for Message {}

/// The actor's state.
pub struct State {
    correlator: Correlator,
    known: KnownIncidents,
    ports: Ports,
    ranker: Option<Arc<Ranker>>,
    /// The latest index asked for: one that took longer than its successor is not used.
    generation: u64,
    /// Incidents being decided on, and whether they changed meanwhile.
    deciding: BTreeMap<IncidentId, bool>,
    /// How often an incident was decided on anew because it had changed meanwhile.
    overtaken: BTreeMap<IncidentId, u32>,
    /// When an incident was first decided on.
    begun: BTreeMap<IncidentId, Instant>,
    /// First decisions that run nothing, while more evidence may come.
    settling: BTreeMap<IncidentId, Box<Decided>>,
    /// Those that are being made anew meanwhile: better than none.
    replaced: BTreeMap<IncidentId, Box<Decided>>,
    /// Incidents that wait for the first index.
    waiting: BTreeSet<IncidentId>,
}

/// A first decision that asks a human waits so long for what comes a moment later: the log line that
/// names the cause, the unit that systemd gives up on. What can run alone does not wait.
const SETTLES: Duration = Duration::from_secs(2);

/// So often a decision that was overtaken by a change is made anew before it is handed on.
const MOST_OVERTAKEN: u32 = 2;

const CORRELATOR_KEY: &str = "correlator";

impl Actor for DecisionActor {
    type Msg = Message;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let Arguments {
            settings,
            playbooks,
            ports,
        } = arguments;
        let mut kept: BTreeMap<String, Vec<u8>> = (ports.load)(()).await.into_iter().collect();
        let saved = kept
            .remove(CORRELATOR_KEY)
            .map(|bytes| read::<Saved>(CORRELATOR_KEY, &bytes));
        let correlator = Correlator::restore(settings, saved.flatten().unwrap_or_default());
        let known = kept
            .iter()
            .filter_map(|(key, bytes)| read::<Known>(key, bytes))
            .collect();
        let known = KnownIncidents::new(known);
        // What was open and not decided when the node stopped is decided now.
        let waiting = correlator
            .open()
            .map(|i| i.id.clone())
            .filter(|id| !known.is_decided(id));
        let state = State {
            waiting: waiting.collect(),
            correlator,
            known,
            ports,
            ranker: None,
            generation: 1,
            deciding: BTreeMap::new(),
            overtaken: BTreeMap::new(),
            begun: BTreeMap::new(),
            settling: BTreeMap::new(),
            replaced: BTreeMap::new(),
        };
        build(myself, 1, &playbooks);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Observe(observed, reply) => {
                let changes = state.correlator.on(observed.at, &observed);
                let _ = reply.send(());
                state.take_changes(&myself, changes).await;
            }
            Message::Reload(playbooks) => {
                state.generation += 1;
                build(myself, state.generation, &playbooks);
            }
            Message::Built(generation, ranker) if generation == state.generation => {
                state.ranker = Some(ranker);
                for id in std::mem::take(&mut state.waiting) {
                    state.decide(&myself, &id);
                }
            }
            Message::Built(..) => {}
            Message::Made(decided) => state.made(&myself, *decided).await,
            Message::Settled(id) => {
                if let Some(decided) = state.settling.remove(&id) {
                    state.hand_on(*decided).await;
                }
            }
            Message::Failed(id) => {
                state.deciding.remove(&id);
                state.overtaken.remove(&id);
                match state.replaced.remove(&id) {
                    Some(decided) => state.hand_on(*decided).await,
                    None => drop(state.begun.remove(&id)),
                }
            }
            Message::ListIncidents(reply) => {
                let _ = reply.send(state.known.list(state.correlator.open()));
            }
            Message::Incident(id, reply) => {
                let _ = reply.send(state.current(&id));
            }
            Message::Why(id, reply) => {
                let why = state.current(&id).map(|incident| state.known.why(incident));
                let _ = reply.send(why);
            }
            Message::Indexed(reply) => {
                let count = |r: &Arc<Ranker>| r.entries().iter().filter(|e| !e.is_person).count();
                let _ = reply.send(state.ranker.as_ref().map(count));
            }
        }
        Ok(())
    }
}

impl State {
    /// The incident as it is now, open or remembered.
    fn current(&self, id: &IncidentId) -> Option<Incident> {
        let open = self.correlator.open().find(|i| i.id == *id);
        open.or_else(|| self.known.incident(id)).cloned()
    }

    async fn take_changes(&mut self, myself: &ActorRef<Message>, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut kept = vec![];
        for change in &changes {
            kept.extend(self.known.put(change.incident()));
        }
        self.keep(kept).await;
        for change in changes {
            let id = change.incident().id.clone();
            let is_over = matches!(change, Change::Resolved(_));
            (self.ports.changed)(change).await;
            if is_over {
                self.settling.remove(&id);
                self.replaced.remove(&id);
                self.begun.remove(&id);
            } else {
                self.decide(myself, &id);
            }
        }
    }

    /// Begins a decision beside the mailbox; one at a time for an incident.
    fn decide(&mut self, myself: &ActorRef<Message>, id: &IncidentId) {
        let Some(ranker) = self.ranker.clone() else {
            self.waiting.insert(id.clone());
            return;
        };
        if let Some(changed) = self.deciding.get_mut(id) {
            *changed = true;
            return;
        }
        let Some(incident) = self.correlator.open().find(|i| i.id == *id).cloned() else {
            return;
        };
        if self.known.is_decided_enough(id) || self.known.is_being_mended(id, incident.updated_at) {
            return;
        }
        // What it was to settle into has changed.
        let replaced = self.settling.remove(id);
        self.replaced.extend(replaced.map(|d| (id.clone(), d)));
        self.begun.entry(id.clone()).or_insert_with(Instant::now);
        self.deciding.insert(id.clone(), false);
        let deciding = Deciding {
            incident,
            ranker,
            ports: self.ports.clone(),
        };
        let (myself, id) = (myself.clone(), id.clone());
        tokio::spawn(async move {
            // A task of its own, so that a panic in it is told and not lost.
            let made = tokio::spawn(deciding.run()).await;
            let message = match made {
                Ok(Ok(decided)) => Message::Made(Box::new(decided)),
                Ok(Err(e)) => {
                    tracing::error!(incident = %id, "no decision: {e}");
                    Message::Failed(id)
                }
                Err(e) => {
                    tracing::error!(incident = %id, "deciding broke off: {e}");
                    Message::Failed(id)
                }
            };
            let _ = myself.cast(message);
        });
    }

    async fn made(&mut self, myself: &ActorRef<Message>, decided: Decided) {
        let id = decided.incident.id.clone();
        let changed = self.deciding.remove(&id).unwrap_or(false);
        self.correlator
            .enrich(&id, decided.incident.top_consumers.clone());
        let is_open = self.correlator.open().any(|i| i.id == id);
        // What came while the host was looked at may tell one playbook from another: nothing runs,
        // and nobody is asked, by what was known before. An incident that never rests is decided on
        // all the same.
        let overtaken = self.overtaken.remove(&id).unwrap_or(0);
        if changed && is_open && overtaken < MOST_OVERTAKEN {
            self.overtaken.insert(id.clone(), overtaken + 1);
            self.decide(myself, &id);
            return;
        }
        let begun = self.begun.get(&id).map(Instant::elapsed);
        let left = SETTLES.saturating_sub(begun.unwrap_or(SETTLES));
        let may_wait = is_open && !changed && !self.known.is_decided(&id);
        if may_wait && decided.decision.route != Route::Execute && !left.is_zero() {
            self.settling.insert(id.clone(), Box::new(decided));
            myself.send_after(left, || Message::Settled(id));
            return;
        }
        self.hand_on(decided).await;
        if changed && is_open {
            self.decide(myself, &id);
        }
    }

    async fn hand_on(&mut self, decided: Decided) {
        let id = decided.incident.id.clone();
        self.begun.remove(&id);
        self.replaced.remove(&id);
        let is_open = self.correlator.open().any(|i| i.id == id);
        let is_news = self.known.decided(&decided);
        let kept = self.known.put(
            &self
                .current(&id)
                .unwrap_or_else(|| decided.incident.clone()),
        );
        self.keep(kept).await;
        // What ended while it was decided on is told by its change, and must not start anything.
        if is_open && is_news {
            (self.ports.decided)(decided).await;
        }
    }

    async fn keep(&self, mut kept: Vec<Kept>) {
        if let Ok(bytes) = serde_json::to_vec(&self.correlator.save()) {
            kept.push((CORRELATOR_KEY.to_owned(), Some(bytes)));
        }
        (self.ports.save)(kept).await;
    }
}

/// Builds an index beside the mailbox.
fn build(myself: ActorRef<Message>, generation: u64, playbooks: &[Playbook]) {
    let entries: Vec<Entry> = playbooks.iter().map(Entry::from).collect();
    tokio::task::spawn_blocking(move || match Embedder::embedded() {
        Ok(embedder) => {
            let ranker = Arc::new(Ranker::build(embedder, entries));
            let _ = myself.cast(Message::Built(generation, ranker));
        }
        Err(e) => tracing::error!("nothing can be decided: {e}"),
    });
}

/// What was kept by another version, or is damaged, is left out and told: an incident that is
/// still there opens anew.
fn read<T: for<'de> serde::Deserialize<'de>>(key: &str, bytes: &[u8]) -> Option<T> {
    let read = serde_json::from_slice(bytes);
    read.inspect_err(|e| {
        tracing::warn!("what was kept as `{key}` can't be read and is left out: {e}")
    })
    .ok()
}
