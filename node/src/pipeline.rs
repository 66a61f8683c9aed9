//! The straight line: the one file that knows in which order the actors stand, and gives each the
//! ports it asks through.

mod news;
mod unrun;

use crate::config::Config;
use crate::levels;
use crate::library::Library;
use crate::memory::Memory;
use crate::notify::Notifier;
use crate::secrets::Secrets;
use crate::store::{HostStore, Part, StoreError};
use crate::supervise::{Child, Slot, Supervisor};
use crate::telling::{self, Subject};
use hale_api::Feed;
use hale_audit::actor::{Audit, Outbox, OutboxAnswer, Recorded};
use hale_baseline::SeriesView;
use hale_baseline::actor::BaselineActor;
use hale_consensus::Consensus;
use hale_decision::actor::{ConsumersAsked, Decided, DecisionActor, DiagnosisAsked, PolicyAsked};
use hale_decision::confidence::Policy;
use hale_decision::incident::Change;
use hale_executor::actor::{self as executor, Executor};
use hale_executor::journal::{Finished, JournalWrite};
use hale_executor::run::Progress;
use hale_model::ledger::{Answer, Command, EntryRef, LedgerError};
use hale_model::port::{Port, port};
use hale_model::{
    Batch, Diagnosis, HostName, Incident, Keypair, Observed, PlaybookName, Reading, ServiceName,
    Timestamp,
};
use hale_telemetry::{ConsumersQuery, Telemetry};
use ractor::{Actor, ActorRef};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use unrun::Unrun;

/// How long one actor waits for the next to take a round.
const HAND_ON: Duration = Duration::from_secs(30);
/// How long a question beside the line may take.
pub(crate) const ASK: Duration = Duration::from_secs(5);
/// How long the probes of a decision may take; each has an end of its own.
const PROBES: Duration = Duration::from_secs(15);
/// How long an actor may take to end.
const STOP: Duration = Duration::from_secs(20);
/// How long after a lease was granted the service's series are not learned from.
const OWN_ACTION: Duration = Duration::from_secs(120);
/// How long a question waits at most before a human is told of it.
const ASK_LATER: Duration = Duration::from_secs(5);
/// Series kept for `/metrics`.
const METRICS_SERIES: usize = 10_000;

/// What the line is made of.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) host: HostName,
    pub(crate) key: Keypair,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) store: HostStore,
    pub(crate) library: Arc<Library>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) feed: Feed,
    pub(crate) log_positions: PathBuf,
    pub(crate) data_dir: PathBuf,
}

/// Whose verified outcomes are asked for.
type HistoryAsked = (PlaybookName, Option<ServiceName>);

/// Where each actor is found.
#[derive(Clone)]
pub(crate) struct Slots {
    pub(crate) telemetry: Slot<hale_telemetry::Message>,
    pub(crate) baseline: Slot<hale_baseline::actor::Message>,
    pub(crate) decision: Slot<hale_decision::actor::Message>,
    pub(crate) executor: Slot<executor::Message>,
    pub(crate) audit: Slot<hale_audit::actor::Message>,
}

/// Why the line does not start.
#[derive(Debug, thiserror::Error)]
#[error("an actor does not start: {0}")]
pub(crate) struct PipelineError(String);

/// The running line.
pub(crate) struct Pipeline {
    slots: Slots,
    supervisor: ActorRef<crate::supervise::Due>,
    news: JoinHandle<()>,
    services: JoinHandle<()>,
    notifier: Notifier,
}

/// What every port of the line may use.
struct Line {
    parts: Parts,
    slots: Slots,
    secrets: Secrets,
    notifier: Notifier,
    unrun: Unrun,
}

impl Pipeline {
    /// Starts the actors, the last in the line first, so that each finds the next.
    pub(crate) async fn start(parts: Parts) -> Result<Self, PipelineError> {
        let slots = Slots {
            telemetry: Slot::empty(),
            baseline: Slot::empty(),
            decision: Slot::empty(),
            executor: Slot::empty(),
            audit: Slot::empty(),
        };
        let notifier =
            Notifier::start(&parts.config.notify).map_err(|e| PipelineError(e.to_string()))?;
        let secrets = Secrets::new(&parts.config);
        let line = Arc::new(Line {
            parts,
            slots: slots.clone(),
            secrets,
            notifier: notifier.clone(),
            unrun: Unrun::default(),
        });
        let children = vec![
            line.audit(),
            line.executor(),
            line.decision(),
            line.baseline(),
            line.telemetry(),
        ];
        let news = tokio::spawn(Arc::clone(&line).follow_ledger());
        let services = tokio::spawn(Arc::clone(&line).tell_what_runs());
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, children)
            .await
            .map_err(|e| PipelineError(e.to_string()))?;
        // What was frozen before the node started is frozen still.
        line.catch_up();
        Ok(Self {
            slots,
            supervisor,
            news,
            services,
            notifier,
        })
    }

    /// Where each actor is found.
    pub(crate) fn slots(&self) -> Slots {
        self.slots.clone()
    }

    /// Ends the actors in the order data flows; what was done is recorded before the last ends.
    pub(crate) async fn stop(self) {
        self.slots.telemetry.stop(STOP).await;
        self.slots.baseline.stop(STOP).await;
        self.slots.decision.stop(STOP).await;
        self.slots.executor.stop(STOP).await;
        self.slots.audit.stop(STOP).await;
        self.news.abort();
        self.services.abort();
        self.notifier.stop(Duration::from_secs(3)).await;
        if self
            .supervisor
            .stop_and_wait(None, Some(STOP))
            .await
            .is_err()
        {
            tracing::warn!("the supervisor did not end in time");
        }
    }
}

/// A port of the line: `f` gets the line and the question.
fn through<Q, R, F, Fut>(line: &Arc<Line>, f: F) -> Port<Q, R>
where
    Q: Send + 'static,
    R: 'static,
    F: Fn(Arc<Line>, Q) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
{
    let line = Arc::clone(line);
    port(move |q| f(Arc::clone(&line), q))
}

impl Line {
    // telemetry → baseline

    fn telemetry(self: &Arc<Self>) -> Child {
        let line = Arc::clone(self);
        Child::new(
            "telemetry",
            &self.slots.telemetry,
            || Telemetry,
            move || hale_telemetry::Arguments {
                config: line.parts.config.telemetry.clone(),
                hand_on: through(&line, Self::take_batch),
                log_positions: Some(line.parts.log_positions.clone()),
            },
        )
    }

    async fn take_batch(self: Arc<Self>, batch: Batch) {
        self.parts.memory.round(&batch, METRICS_SERIES);
        let observe = |reply| hale_baseline::actor::Message::Observe(Box::new(batch), reply);
        if self.slots.baseline.ask(HAND_ON, observe).await.is_none() {
            tracing::warn!("a round was not taken by the baselines");
        }
    }

    // baseline → decision

    fn baseline(self: &Arc<Self>) -> Child {
        let line = Arc::clone(self);
        Child::new(
            "baseline",
            &self.slots.baseline,
            || BaselineActor,
            move || hale_baseline::actor::Arguments {
                config: line.parts.config.baseline.clone(),
                next: through(&line, Self::take_observed),
                load: through(
                    &line,
                    |line, ()| async move { line.load(Part::Baselines).await },
                ),
                save: through(&line, |line, rows| async move {
                    line.save(Part::Baselines, rows).await
                }),
            },
        )
    }

    async fn take_observed(self: Arc<Self>, observed: Observed) {
        let observe = |reply| hale_decision::actor::Message::Observe(Box::new(observed), reply);
        if self.slots.decision.ask(HAND_ON, observe).await.is_none() {
            tracing::warn!("a round was not taken by the decision");
        }
    }

    // decision → executor

    fn decision(self: &Arc<Self>) -> Child {
        let line = Arc::clone(self);
        Child::new(
            "decision",
            &self.slots.decision,
            || DecisionActor,
            move || {
                let ports = hale_decision::actor::Ports {
                    decided: through(&line, Self::take_decided),
                    changed: through(&line, Self::take_change),
                    history: through(&line, |line, asked: HistoryAsked| async move {
                        let (playbook, service) = asked;
                        let library = &line.parts.library;
                        line.parts.consensus.read_stale(|l| {
                            levels::history(l, library, &playbook, service.as_ref())
                        })
                    }),
                    policy: through(&line, Self::policy),
                    diagnose: through(&line, Self::diagnose),
                    consumers: through(&line, Self::consumers),
                    load: through(&line, |line, ()| async move {
                        let rows = line.load(Part::Incidents).await.unwrap_or_default();
                        rows.into_iter()
                            .filter_map(|(k, v)| Some((String::from_utf8(k).ok()?, v)))
                            .collect()
                    }),
                    save: through(
                        &line,
                        |line, kept: Vec<hale_decision::actor::Kept>| async move {
                            let rows = kept.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect();
                            if let Err(e) = line.save(Part::Incidents, rows).await {
                                tracing::error!("incidents are not kept: {e}");
                            }
                        },
                    ),
                };
                hale_decision::actor::Arguments {
                    settings: hale_decision::incident::Settings::default(),
                    playbooks: line.parts.library.playbooks(),
                    ports,
                }
            },
        )
    }

    async fn take_change(self: Arc<Self>, change: Change) {
        match change {
            Change::Opened(incident) => {
                tracing::info!(incident = %incident.id, severity = incident.severity.as_str(), "{}", incident.title);
                self.parts.feed.tell(telling::detected(&incident));
            }
            Change::Updated(_) => {}
            Change::Resolved(incident) => {
                tracing::info!(incident = %incident.id, "its signals are normal again");
                self.parts.feed.tell(telling::resolved(&incident));
                self.not_normal(&incident, incident.opened_at, incident.updated_at);
                let seen = self.unrun.resolved(&incident.id);
                self.tell_seen(seen);
                self.slots
                    .executor
                    .tell(executor::Message::IncidentResolved(incident.id));
            }
        }
    }

    /// What happened while something was wrong is not learned as normal.
    fn not_normal(&self, incident: &Incident, from: Timestamp, until: Timestamp) {
        let filters: Vec<hale_baseline::SeriesFilter> = incident
            .anomalies
            .iter()
            .map(|a| hale_baseline::SeriesFilter {
                series: Some(a.reading.series.metric.clone()),
                service: a.reading.service.as_ref().map(ToString::to_string),
            })
            .collect();
        for filter in filters {
            self.slots
                .baseline
                .tell(hale_baseline::actor::Message::Exclude {
                    filter,
                    from,
                    until,
                    reply: None,
                });
        }
    }

    async fn take_decided(self: Arc<Self>, decided: Decided) {
        let Decided { incident, decision } = decided;
        for happening in telling::decided(&incident, &decision) {
            self.parts.feed.tell(happening);
        }
        tracing::info!(
            incident = %incident.id,
            route = decision.route.as_str(),
            confidence = decision.confidence.total,
            "{}", decision.rationale
        );
        self.note_unrun(&incident, &decision);
        let decided =
            |reply| executor::Message::Decided(Box::new(incident), Box::new(decision), reply);
        if self.slots.executor.ask(HAND_ON, decided).await.is_none() {
            tracing::error!("a decision was not taken by the executor");
        }
    }

    async fn policy(self: Arc<Self>, asked: PolicyAsked) -> Policy {
        let ledger = &self.parts.consensus;
        let library = &self.parts.library;
        let history = ledger
            .read_stale(|l| levels::history(l, library, &asked.playbook, asked.service.as_ref()));
        let asked = levels::Asked {
            playbook: &asked.playbook,
            service: asked.service.as_ref(),
            history,
        };
        let (_, policy) = levels::of(&self.parts.config, &self.parts.library, &asked);
        Policy {
            frozen: ledger.read_stale(|l| l.frozen().map(|f| format!("{}, by {}", f.reason, f.by))),
            ..policy
        }
    }

    async fn diagnose(self: Arc<Self>, asked: DiagnosisAsked) -> Option<Diagnosis> {
        let DiagnosisAsked {
            incident,
            playbooks,
        } = asked;
        let ask = |reply| executor::Message::Diagnose(Box::new(incident), playbooks, reply);
        self.slots.executor.ask(PROBES, ask).await
    }

    async fn consumers(self: Arc<Self>, asked: ConsumersAsked) -> Vec<hale_model::Consumer> {
        let Some(query) = ConsumersQuery::for_series(&asked.series, asked.service.as_ref()) else {
            return Vec::new();
        };
        let ask = |reply| hale_telemetry::Message::TopConsumers(query, reply);
        self.slots.telemetry.ask(ASK, ask).await.unwrap_or_default()
    }

    // executor → audit

    fn executor(self: &Arc<Self>) -> Child {
        let line = Arc::clone(self);
        Child::new(
            "executor",
            &self.slots.executor,
            || Executor,
            move || {
                let mut config = line.parts.config.executor.clone();
                config.protected.push(line.parts.data_dir.clone());
                executor::Arguments {
                    config,
                    host: line.parts.host.clone(),
                    environment: line.parts.config.node.environment.clone(),
                    playbooks: line.parts.library.playbooks(),
                    keypair: line.parts.key.clone(),
                    ports: line.executor_ports(),
                }
            },
        )
    }

    fn executor_ports(self: &Arc<Self>) -> executor::Ports {
        executor::Ports {
            ledger: through(self, Self::propose),
            journal: through(self, |line, write: JournalWrite| async move {
                let put = write
                    .put
                    .into_iter()
                    .map(|(k, v)| (k.into_bytes(), Some(v)));
                let remove = write.remove.into_iter().map(|k| (k.into_bytes(), None));
                line.save(Part::Journal, put.chain(remove).collect()).await
            }),
            load_journal: through(self, |line, ()| async move {
                let rows = line.load(Part::Journal).await?;
                Ok(rows
                    .into_iter()
                    .filter_map(|(k, v)| Some((String::from_utf8(k).ok()?, v)))
                    .collect())
            }),
            finished: through(self, Self::take_finished),
            progress: through(self, Self::take_progress),
            leases: through(self, |line, ()| async move {
                let leases = line
                    .parts
                    .consensus
                    .read(|l| l.leases().cloned().collect())
                    .await;
                leases.map_err(|e| e.to_string())
            }),
            frozen: through(self, |line, ()| async move {
                let frozen = line.parts.consensus.read(|l| l.frozen().is_some()).await;
                frozen.map_err(|e| e.to_string())
            }),
            approvals: through(self, |line, ()| async move {
                let approvals = line
                    .parts
                    .consensus
                    .read(|l| l.approvals().cloned().collect())
                    .await;
                approvals.map_err(|e| e.to_string())
            }),
            incident: through(self, |line, id| async move {
                let ask = |reply| hale_decision::actor::Message::Incident(id, reply);
                line.slots.decision.ask(ASK, ask).await.flatten()
            }),
            readings: through(self, Self::readings),
            secrets: through(self, |line, name: String| async move {
                line.secrets.resolve(&name)
            }),
            tags: through(self, |line, ()| async move {
                let tags = line
                    .slots
                    .telemetry
                    .ask(ASK, hale_telemetry::Message::Tags)
                    .await;
                tags.unwrap_or_else(|| line.parts.config.telemetry.tags.clone())
            }),
        }
    }

    async fn readings(self: Arc<Self>, pattern: String) -> Vec<Reading> {
        let all = hale_baseline::SeriesFilter::default();
        let ask = |reply| hale_baseline::actor::Message::Baselines(all, reply);
        let views = self.slots.baseline.ask(ASK, ask).await.unwrap_or_default();
        let fits = |v: &&SeriesView| hale_executor::actions::series_matches(&pattern, &v.series);
        views
            .iter()
            .filter(fits)
            .filter_map(crate::views::reading_of)
            .collect()
    }

    async fn take_progress(self: Arc<Self>, progress: Progress) {
        let Progress {
            at,
            stage,
            incident,
            host,
            service,
            text,
            mut detail,
            execution,
        } = progress;
        if execution.is_some() {
            self.unrun.begun(&incident, service.as_ref());
        }
        if let (Some(map), Some(execution)) = (detail.as_object_mut(), execution) {
            map.insert("execution".into(), serde_json::json!(execution));
        }
        let subject = Subject {
            incident: Some(incident),
            host,
            service,
        };
        self.parts.feed.tell(subject.says(at, stage, text, detail));
    }

    async fn take_finished(self: Arc<Self>, finished: Finished) -> Result<(), String> {
        let seen = self.unrun.finished(&finished.report);
        let record = |reply| hale_audit::actor::Message::Record(Box::new(finished.report), reply);
        match self.slots.audit.ask(HAND_ON, record).await {
            Some(Ok(())) => {
                self.tell_seen(seen);
                Ok(())
            }
            Some(Err(e)) => Err(e.to_string()),
            None => Err("the audit actor did not answer".into()),
        }
    }

    async fn propose(self: Arc<Self>, command: Command) -> Result<Answer, LedgerError> {
        self.parts.consensus.propose(command).await
    }

    // audit → chain → whoever is told

    fn audit(self: &Arc<Self>) -> Child {
        let line = Arc::clone(self);
        Child::new(
            "audit",
            &self.slots.audit,
            || Audit,
            move || hale_audit::actor::Arguments {
                key: line.parts.key.clone(),
                ledger: through(&line, Self::propose),
                outbox: through(&line, Self::outbox),
                recorded: through(&line, Self::take_recorded),
                retry: hale_audit::actor::Retry::default(),
            },
        )
    }

    async fn outbox(self: Arc<Self>, asked: Outbox) -> OutboxAnswer {
        let done = match asked {
            Outbox::Load => return self.load(Part::Outbox).await,
            Outbox::Put { key, value } => self.save(Part::Outbox, vec![(key, Some(value))]).await,
            Outbox::Remove { key } => self.save(Part::Outbox, vec![(key, None)]).await,
        };
        done.map(|()| Vec::new())
    }

    async fn take_recorded(self: Arc<Self>, recorded: Recorded) {
        let Recorded { record, entry } = recorded;
        if let Some(entry) = &entry {
            self.parts.memory.ended(&record, EntryRef::clone(entry));
            self.parts
                .feed
                .tell(telling::recorded(&record, entry, &self.parts.host));
        }
        tracing::info!(
            incident = %record.incident_id,
            outcome = record.outcome.status.as_str(),
            "{}", record.outcome.reason
        );
        self.notifier.recorded(&record, entry.as_ref());
    }

    // the host's own store, off the async threads

    async fn load(&self, part: Part) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
        let store = self.parts.store.clone();
        blocking(move || store.scan(part)).await
    }

    async fn save(&self, part: Part, rows: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), String> {
        let store = self.parts.store.clone();
        blocking(move || store.write(part, rows)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => {
            let cause = std::error::Error::source(&e)
                .map(|s| format!(": {s}"))
                .unwrap_or_default();
            Err(format!("{e}{cause}"))
        }
        Err(_) => Err("the store's task broke off".into()),
    }
}
