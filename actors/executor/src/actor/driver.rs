//! Drives one run: tells the machine what happened, does what it answers, decides nothing.

use super::Message;
use super::shared::{Owned, Shared, monotonic, persist, wall};
use crate::actions::{Context, Level, Stop, end_leftovers, lock, templates};
use crate::journal::{self, JournalWrite, Progressed};
use crate::plan;
use crate::run::{ActionResult, Effect, Event, Perform, Run, Running, Setup};
use hale_model::execution::Mode;
use hale_model::ledger::{Acquire, Answer, Command, EntryKind, Lease, LedgerError, Refusal, Scope};
use hale_model::{ExecutionId, IncidentId, IncidentState, StepStatus};
use hale_playbooks::language::Action;
use ractor::ActorRef;
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Events that wait for the run.
const MAX_EVENTS: usize = 64;
/// The longest sleep: timers stand still while a host is suspended, leases don't.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// How often a journal write is tried.
const JOURNAL_TRIES: u32 = 3;

/// A run that begins, or one that a dead node left.
pub(super) enum Start {
    Fresh(Box<Setup>),
    Found {
        setup: Box<Setup>,
        progressed: Box<Progressed>,
        lease: Option<Box<Lease>>,
        is_open: bool,
    },
}

/// A run that is under way. It ends with its handle: what it has running is killed.
pub(super) struct Handle {
    pub(super) execution: ExecutionId,
    pub(super) incident: IncidentId,
    pub(super) scope: Scope,
    events: mpsc::Sender<Event>,
    shown: Arc<Mutex<Running>>,
    _task: Owned<()>,
}

impl Handle {
    pub(super) async fn tell(&self, event: Event) {
        // A run that is over hears nothing any more.
        let _ = self.events.send(event).await;
    }

    pub(super) fn shown(&self) -> Running {
        lock(&self.shown).clone()
    }
}

pub(super) fn start(
    shared: Arc<Shared>,
    myself: &ActorRef<Message>,
    start: Start,
    is_frozen: bool,
) -> Handle {
    let (events, inbox) = mpsc::channel(MAX_EVENTS);
    let (run, first, leftover) = match start {
        Start::Fresh(setup) => (Run::new(*setup), Event::Begin, None),
        Start::Found {
            setup,
            progressed,
            lease,
            is_open,
        } => {
            let leftover = progressed.in_flight.clone();
            let run = Run::recovered(*setup, *progressed);
            (
                run,
                Event::Resume {
                    lease: lease.map(|l| *l),
                    is_open,
                },
                leftover,
            )
        }
    };
    let shown = Arc::new(Mutex::new(run.running()));
    let plan = &run.intent().plan;
    let (execution, incident, scope) = (
        plan.execution.clone(),
        plan.incident.clone(),
        plan.scope.clone(),
    );
    let context = Context {
        execution: execution.clone(),
        host: plan.host.clone(),
        service: plan.service.clone(),
        offsets: Arc::default(),
        secrets: Arc::default(),
    };
    let driver = Driver {
        shared,
        run,
        context,
        events: events.clone(),
        inbox,
        shown: Arc::clone(&shown),
        tasks: JoinSet::new(),
        action: None,
        journaled: vec![],
        has_closed: false,
    };
    let (myself, id) = (myself.clone(), execution.clone());
    let task = tokio::spawn(async move {
        let has_closed = driver.run(first, leftover, is_frozen).await;
        let _ = myself.cast(Message::Ended(id, has_closed));
    });
    Handle {
        execution,
        incident,
        scope,
        events,
        shown,
        _task: Owned(task),
    }
}

struct Driver {
    shared: Arc<Shared>,
    run: Run,
    context: Context,
    events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    shown: Arc<Mutex<Running>>,
    tasks: JoinSet<()>,
    /// The action that runs, and how it is told to end.
    action: Option<(u64, watch::Sender<Level>)>,
    journaled: Vec<String>,
    /// Whether it ended with its grant closed.
    has_closed: bool,
}

impl Driver {
    /// Until it is over; whether it has closed a grant.
    async fn run(
        mut self,
        first: Event,
        leftover: Option<journal::InFlight>,
        is_frozen: bool,
    ) -> bool {
        if let Some(f) = leftover {
            self.end_leftovers(&f).await;
        }
        self.remember_logs();
        if is_frozen {
            self.tell(Event::Frozen(true)).await;
        }
        // It may have resolved while it was planned, asked about or waited for its turn.
        if first == Event::Begin && !matches!(self.run.intent().mode, Mode::Manual { .. }) {
            let id = self.run.intent().plan.incident.clone();
            let now = (self.shared.ports.incident)(id).await;
            if now.is_some_and(|i| i.state == IncidentState::Resolved) {
                self.tell(Event::IncidentResolved).await;
            }
        }
        self.tell(first).await;
        while !self.run.is_over() {
            let event = self.next().await;
            self.tell(event).await;
        }
        self.has_closed
    }

    async fn next(&mut self) -> Event {
        let wake = self
            .run
            .next_wake()
            .map(|w| w.saturating_sub(monotonic()).min(MAX_SLEEP));
        tokio::select! {
            event = self.inbox.recv() => event.unwrap_or(Event::Tick),
            // Ended tasks are cleared away.
            Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => Event::Tick,
            () = sleep(wake.unwrap_or(MAX_SLEEP)) => Event::Tick,
        }
    }

    async fn tell(&mut self, event: Event) {
        let effects = self.run.on(monotonic(), wall(), event);
        *lock(&self.shown) = self.run.running();
        for effect in effects {
            self.take(effect).await;
        }
    }

    async fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Journal { seq, record } => {
                let key = journal::key(&self.context.execution, seq);
                self.journaled.push(key.clone());
                let shared = Arc::clone(&self.shared);
                self.later(async move {
                    let result = write(&shared, key, &record).await;
                    Event::Journaled { seq, result }
                });
            }
            Effect::Acquire { ask } => self.acquire(ask),
            Effect::Renew { ask, fence } => {
                let shared = Arc::clone(&self.shared);
                let ttl_ms = shared.config.lease_ttl.as_millis() as u64;
                let command = Command::Renew {
                    fence,
                    holder: shared.node(),
                    ttl_ms,
                };
                self.later(async move {
                    Event::Renewed {
                        ask,
                        answer: shared.ledger(command).await,
                    }
                });
            }
            Effect::Perform(perform) => self.perform(*perform),
            Effect::Stop { ticket } => {
                if let Some((_, stop)) = self.action.as_ref().filter(|(t, _)| *t == ticket) {
                    let _ = stop.send(Level::Gently);
                }
            }
            Effect::KillChildren => {
                if let Some((_, stop)) = &self.action {
                    let _ = stop.send(Level::AtOnce);
                }
            }
            Effect::Progress(progress) => self.shared.tell(progress),
            Effect::Finish(finished) => {
                self.has_closed = finished.close.is_some();
                let mut forget = std::mem::take(&mut self.journaled);
                let records = self.run.records();
                let execution = &self.context.execution;
                forget.extend((0..records).map(|seq| journal::key(execution, seq)));
                let approval = self.run.intent().approval.as_ref();
                forget.extend(approval.map(journal::question_key));
                forget.sort();
                forget.dedup();
                self.shared.hand_over(*finished, forget).await;
            }
        }
    }

    /// Does something beside the run and tells it what came of it.
    fn later(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let _ = events.send(work.await).await;
        });
    }

    fn acquire(&mut self, ask: u64) {
        let shared = Arc::clone(&self.shared);
        let intent = self.run.intent().clone();
        let playbook = self.run.playbook().clone();
        self.later(async move {
            let plan = &intent.plan;
            let decision = intent.decision.as_ref();
            // The same run is asked for with the same bytes, however often.
            let body = plan::intent(plan, &playbook, decision, &intent.mode, intent.started_at);
            let command = body.and_then(|body| {
                Ok(Command::Acquire(Acquire {
                    scope: plan.scope.clone(),
                    holder: shared.node(),
                    ttl_ms: shared.config.lease_ttl.as_millis() as u64,
                    execution: plan.execution.clone(),
                    plan_digest: plan::digest(plan)?,
                    playbook: plan.playbook.clone(),
                    service: plan.service.clone(),
                    approval: intent.approval.clone(),
                    entry: shared.sign(EntryKind::Intent, body),
                }))
            });
            let answer: Result<Answer, LedgerError> = match command {
                Ok(command) => shared.ledger(command).await,
                Err(e) => Ok(Answer::Refused(Refusal::BadEntry(e.to_string()))),
            };
            Event::Leased { ask, answer }
        });
    }

    fn perform(&mut self, perform: Perform) {
        let ticket = perform.ticket;
        let (sender, stop) = Stop::channel();
        self.action = Some((ticket, sender));
        let (shared, context) = (Arc::clone(&self.shared), self.context.clone());
        self.later(async move {
            // A task of its own, so that a panic in it is a failed step and not a lost run.
            let work =
                tokio::spawn(async move { shared.tools.perform(&context, perform, stop).await });
            let mut work = Owned(work);
            let result = (&mut work.0).await.unwrap_or_else(|e| ActionResult {
                status: StepStatus::Failed,
                result: Value::Null,
                message: format!("it broke off: {e}"),
            });
            Event::Performed { ticket, result }
        });
    }

    /// What a dead node's step still has running is ended before anything else is done.
    async fn end_leftovers(&self, f: &journal::InFlight) {
        let playbook = self.run.playbook();
        let steps = match f.phase {
            journal::Phase::PreChecks => &playbook.pre_execution_checks,
            journal::Phase::Steps => &playbook.steps,
            journal::Phase::Verification => &playbook.verification,
            journal::Phase::Rollback => &playbook.rollback,
        };
        let Some(name) = steps.get(f.index).map(|s| s.name.clone()) else {
            return;
        };
        let (execution, phase) = (self.context.execution.clone(), f.phase);
        let work = move || end_leftovers(&execution, phase, &name);
        for left in tokio::task::spawn_blocking(work).await.unwrap_or_default() {
            tracing::warn!(pid = left.pid, step = %left.step, "ended what a dead run had left running");
        }
    }

    /// Notes how long the logs are that the playbook looks at, as far as they are known now.
    fn remember_logs(&self) {
        let playbook = self.run.playbook();
        let parts = [
            &playbook.pre_execution_checks,
            &playbook.steps,
            &playbook.verification,
        ];
        let env = self.run.env();
        let mut offsets = lock(&self.context.offsets);
        for step in parts.into_iter().flatten() {
            if let Action::LogCheck { path, .. } = &step.action {
                let known = env.get("service").and_then(|s| s.get("log_path"));
                let path = match path {
                    Some(_) => templates(&step.action)
                        .first()
                        .and_then(|t| t.render_text(env).ok()),
                    None => known.and_then(|p| p.as_str()).map(str::to_owned),
                };
                if let Some(path) = path {
                    offsets.remember(Path::new(&path));
                }
            }
        }
    }
}

async fn write(
    shared: &Shared,
    key: String,
    record: &journal::JournalRecord,
) -> Result<(), String> {
    let bytes = serde_json::to_vec(record).map_err(|e| e.to_string())?;
    let mut tries = 0;
    loop {
        let write = JournalWrite {
            put: vec![(key.clone(), bytes.clone())],
            remove: vec![],
        };
        tries += 1;
        match (shared.ports.journal)(write).await {
            Err(_) if tries < JOURNAL_TRIES => sleep(Duration::from_millis(200)).await,
            result => return result,
        }
    }
}

/// Looks something up until there is an answer.
pub(super) async fn look_up<T>(
    what: &str,
    port: &hale_model::port::Port<(), Result<T, String>>,
) -> T {
    persist(what, || port(())).await
}
