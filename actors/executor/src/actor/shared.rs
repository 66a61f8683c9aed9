//! What the actor and the tasks beside it share: configuration, ports, tools, clocks, keys.

use super::Ports;
use crate::actions::{Lookups, Tools};
use crate::config::ExecutorConfig;
use crate::error::Error;
use crate::journal::{Finished, Intent, JournalRecord, JournalWrite};
use crate::run::{Limits, Progress, Setup};
use crate::{env, plan};
use hale_model::execution::Mode;
use hale_model::ledger::{Answer, Command, EntryKind, LedgerError, Signed};
use hale_model::{
    ApprovalId, Decision, ExecutionId, HostName, Incident, Keypair, NodeId, Stage, Timestamp,
};
use hale_playbooks::{Playbook, settle};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{sleep, timeout};

/// How long the ledger may take to answer.
const LEDGER_PATIENCE: Duration = Duration::from_secs(10);
/// How often databases that are not connected are tried again.
const RECONNECT: Duration = Duration::from_secs(10);
/// Progress that waits for who watches; more is left out.
const MAX_PROGRESS: usize = 256;
/// How long whoever watches may take.
const PROGRESS_PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Shared {
    pub(super) config: ExecutorConfig,
    pub(super) host: HostName,
    pub(super) environment: String,
    keypair: Keypair,
    pub(super) ports: Ports,
    pub(super) tools: Tools,
    progress: mpsc::Sender<Progress>,
    /// Tasks that end with the actor.
    tasks: Vec<AbortHandle>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    pub(super) fn new(
        config: ExecutorConfig,
        host: HostName,
        environment: String,
        keypair: Keypair,
        ports: Ports,
    ) -> Self {
        let lookups = Lookups {
            leases: ports.leases.clone(),
            readings: ports.readings.clone(),
            secrets: ports.secrets.clone(),
            tags: ports.tags.clone(),
        };
        let (progress, mut told) = mpsc::channel(MAX_PROGRESS);
        let tell = ports.progress.clone();
        let teller = tokio::spawn(async move {
            while let Some(p) = told.recv().await {
                let _ = timeout(PROGRESS_PATIENCE, tell(p)).await;
            }
        });
        Self {
            tools: Tools::new(&config, lookups),
            config,
            host,
            environment,
            keypair,
            ports,
            progress,
            tasks: vec![teller.abort_handle()],
        }
    }

    /// Holds a connection to each database from now on, for as long as the actor lives.
    pub(super) fn stay_connected(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut was_told = BTreeMap::new();
            while let Some(shared) = weak.upgrade() {
                let failed: BTreeMap<_, _> = shared
                    .tools
                    .databases
                    .stay_connected()
                    .await
                    .into_iter()
                    .collect();
                for (name, why) in &failed {
                    if was_told.get(name) != Some(why) {
                        tracing::warn!(database = %name, "it can't be reached for playbooks: {why}");
                    }
                }
                was_told = failed;
                drop(shared);
                sleep(RECONNECT).await;
            }
        });
    }

    pub(super) fn node(&self) -> NodeId {
        self.keypair.node_id()
    }

    pub(super) fn sign(&self, kind: EntryKind, body: Vec<u8>) -> Signed {
        Signed::new(kind, body, &self.keypair)
    }

    /// Asks the ledger, with an end to the waiting.
    pub(super) async fn ledger(&self, command: Command) -> Result<Answer, LedgerError> {
        self.ledger_within(LEDGER_PATIENCE, command).await
    }

    /// Asks the ledger, and waits so long.
    pub(super) async fn ledger_within(
        &self,
        patience: Duration,
        command: Command,
    ) -> Result<Answer, LedgerError> {
        let late = LedgerError::NoLeader(patience.as_millis() as u64);
        timeout(patience, (self.ports.ledger)(command))
            .await
            .unwrap_or(Err(late))
    }

    pub(super) fn tell(&self, progress: Progress) {
        // Who watches too slowly misses something; nobody waits for it.
        let _ = self.progress.try_send(progress);
    }

    pub(super) fn tell_of(&self, incident: &Incident, stage: Stage, text: String, detail: Value) {
        self.tell(Progress {
            at: wall(),
            stage,
            incident: incident.id.clone(),
            execution: None,
            host: incident.host.clone(),
            service: incident.service.clone(),
            text,
            detail,
        });
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            lease_ttl: self.config.lease_ttl,
            queue_wait: self.config.queue_wait,
            regain_wait: self.config.regain_wait,
        }
    }

    /// Everything a run needs, with its parameters settled.
    pub(super) async fn setup(
        &self,
        incident: Incident,
        decision: Option<Decision>,
        playbook: &Playbook,
        given: &BTreeMap<String, Value>,
        mode: Mode,
        approval: Option<ApprovalId>,
    ) -> Result<Setup, Error> {
        let incident = plan::settled(plan::sayable(incident));
        let none = BTreeMap::new();
        let before = self.env(&incident, &none).await;
        let why = |e: &dyn std::error::Error| match e.source() {
            Some(cause) => format!("{e}: {cause}"),
            None => e.to_string(),
        };
        let params = settle(playbook, &before, given).map_err(|e| Error::Parameters {
            playbook: playbook.name.clone(),
            why: why(&e),
        })?;
        let execution = ExecutionId::at(wall(), entropy());
        let plan = plan::of(&incident, playbook, params, execution);
        plan::digest(&plan)?;
        let env = self.env(&incident, &plan.params).await;
        let intent = Intent {
            plan,
            incident,
            decision: decision.map(plan::settled),
            mode,
            approval,
            started_at: wall(),
        };
        Ok(Setup {
            intent,
            playbook: playbook.clone(),
            env,
            limits: self.limits(),
        })
    }

    pub(super) async fn env(
        &self,
        incident: &Incident,
        params: &BTreeMap<String, Value>,
    ) -> hale_playbooks::Env {
        let tags = (self.ports.tags)(()).await;
        self.env_with(incident, params, &tags)
    }

    fn env_with(
        &self,
        incident: &Incident,
        params: &BTreeMap<String, Value>,
        tags: &BTreeMap<String, String>,
    ) -> hale_playbooks::Env {
        let facts = incident
            .service
            .as_ref()
            .and_then(|s| self.config.services.get(s));
        env::base(incident, params, tags, facts)
    }

    /// What the probes of each of the playbooks see. One whose parameters can't be settled can still
    /// look with probes that read none of them.
    pub(super) async fn envs_of(
        &self,
        incident: &Incident,
        playbooks: &[Playbook],
    ) -> Vec<hale_playbooks::Env> {
        let tags = (self.ports.tags)(()).await;
        let before = self.env_with(incident, &BTreeMap::new(), &tags);
        let env_of = |playbook| match settle(playbook, &before, &BTreeMap::new()) {
            Ok(params) => self.env_with(incident, &params, &tags),
            Err(_) => before.clone(),
        };
        playbooks.iter().map(env_of).collect()
    }

    /// Hands over a report of an incident for which nothing was run. It is in the journal until
    /// it is taken.
    pub(super) fn report(self: &Arc<Self>, finished: Finished, remove: Vec<String>) {
        let shared = Arc::clone(self);
        let outcome = &finished.report.outcome;
        let stage = match outcome.status.as_str() {
            "escalated" => Some(Stage::Escalated),
            "denied" | "expired" => Some(Stage::Answered),
            _ => None,
        };
        if let Some(stage) = stage {
            let detail = json!({"status": outcome.status});
            self.tell_of(
                &finished.report.incident,
                stage,
                outcome.reason.clone(),
                detail,
            );
        }
        tokio::spawn(async move {
            let key = format!(
                "told_{}_{:08x}/00000000",
                finished.report.incident.id,
                entropy()
            );
            let record = JournalRecord::Finished(Box::new(finished.clone()));
            let put = serde_json::to_vec(&record).map(|bytes| vec![(key.clone(), bytes)]);
            let write = JournalWrite {
                put: put.unwrap_or_default(),
                remove,
            };
            if let Err(why) = (shared.ports.journal)(write).await {
                tracing::warn!("a report can't be journaled and is handed over without: {why}");
            }
            shared.hand_over(finished, vec![key]).await;
        });
    }

    /// Hands over what ended until it is taken, then forgets it.
    pub(super) async fn hand_over(&self, finished: Finished, forget: Vec<String>) {
        let what = finished.report.incident.id.clone();
        let taken = persist("a report can't be handed over", || {
            (self.ports.finished)(finished.clone())
        });
        taken.await;
        let write = JournalWrite {
            put: vec![],
            remove: forget,
        };
        if let Err(why) = (self.ports.journal)(write).await {
            // It is handed over once more after a restart, and known then.
            tracing::warn!(incident = %what, "the journal can't forget what was handed over: {why}");
        }
    }
}

/// Tries until it works, slower each time.
pub(super) async fn persist<T, F, Fut>(what: &str, mut attempt: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    const SLOWEST: Duration = Duration::from_secs(30);
    let mut pause = Duration::from_millis(200);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(why) => tracing::warn!("{what} yet: {why}; trying again"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(SLOWEST);
    }
}

/// The wall clock.
pub(super) fn wall() -> Timestamp {
    crate::actions::now()
}

/// Time since the host started, suspension included: a lease does not wait for a host that sleeps.
pub(super) fn monotonic() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(t.tv_sec.unsigned_abs(), t.tv_nsec.unsigned_abs() as u32)
}

/// Tells apart ids of one second. The standard library seeds its hashers from the system.
pub(super) fn entropy() -> u32 {
    RandomState::new().hash_one(monotonic()) as u32
}

/// A task that ends with its owner.
pub(super) struct Owned<T>(pub(super) JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
