//! What surrounds the actor: a ledger, a journal, incidents and a sink that outlive it, as the
//! cluster and the disk outlive a node.

use hale_executor::actor::{Arguments, Executor, Message, Ports};
use hale_executor::journal::JournalWrite;
use hale_executor::{ExecutorConfig, Finished, Progress};
use hale_model::ledger::{
    Answer, Approval, ApprovalState, Command, Lease, LedgerError, Look, Refusal,
};
use hale_model::port::port;
use hale_model::{
    ApprovalId, Confidence, Decision, Digest, Fence, HostName, Incident, IncidentId, IncidentState,
    Keypair, Match, PlaybookName, Route, ServiceName, Severity, Timestamp,
};
use hale_playbooks::language::{Playbook, Proof, ScopeKind, Signature, Step};
use ractor::{Actor, ActorRef};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

use crate::support::{command, lookups, step, until};

#[derive(Default)]
pub(crate) struct Outside {
    pub journal: BTreeMap<String, Vec<u8>>,
    pub grants: BTreeMap<u64, Lease>,
    pub approvals: BTreeMap<ApprovalId, Approval>,
    pub incidents: BTreeMap<IncidentId, Incident>,
    pub finished: Vec<Finished>,
    pub progress: Vec<Progress>,
    pub intents: usize,
    pub frozen: bool,
    pub looks: Vec<(Fence, Look)>,
    /// So long it takes until an answer about a look comes back; it is applied at once.
    pub look_answered_after: Duration,
    looked: u64,
    fences: u64,
    /// Journal writes after which nothing is written any more, as if the node had died.
    pub dies_after: Option<usize>,
    writes: usize,
}

pub(crate) struct World {
    pub outside: Arc<Mutex<Outside>>,
    pub actor: ActorRef<Message>,
    handle: JoinHandle<()>,
    playbooks: Vec<Playbook>,
    pub config: ExecutorConfig,
}

pub(crate) fn key() -> Keypair {
    Keypair::from_seed(&[5; 32])
}

impl Outside {
    fn answer(&mut self, command: Command) -> Answer {
        let done = Answer::Done { entry: None };
        match command {
            Command::Acquire(ask) => self.acquire(ask),
            Command::Renew { fence, ttl_ms, .. } => match self.grants.get(&fence.0) {
                Some(lease) if lease.live => {
                    let _ = ttl_ms;
                    Answer::Renewed { generation: 1 }
                }
                _ => Answer::Refused(Refusal::StaleFence(fence)),
            },
            Command::AskApproval(approval) => {
                approval.entry.verify().expect("the question is signed");
                self.approvals.insert(approval.id.clone(), approval);
                done
            }
            Command::CloseApproval {
                approval,
                state,
                entry,
            } => {
                entry.verify().expect("the withdrawal is signed");
                self.approvals
                    .get_mut(&approval)
                    .expect("it was asked")
                    .state = state;
                done
            }
            Command::Look(look) => self.look(look),
            Command::EndLook { id, .. } => {
                self.looks.retain(|(_, look)| look.id != id);
                done
            }
            other => panic!("the executor does not say {other:?}"),
        }
    }

    fn look(&mut self, look: Look) -> Answer {
        if let Some(lease) = self.grants.values().find(|l| l.live) {
            return Answer::Refused(Refusal::Held {
                scope: lease.scope.clone(),
                fence: lease.fence,
                holder: lease.holder,
                playbook: lease.playbook.clone(),
            });
        }
        self.looked += 1;
        let (fence, ttl_ms) = (Fence(1000 + self.looked), look.ttl_ms);
        self.looks.push((fence, look));
        Answer::Granted { fence, ttl_ms }
    }

    fn acquire(&mut self, ask: hale_model::ledger::Acquire) -> Answer {
        ask.entry.verify().expect("the intent is signed");
        if let Some(lease) = self.grants.values().find(|l| l.execution == ask.execution) {
            assert_eq!(lease.plan_digest, ask.plan_digest, "one run has one plan");
            return match lease.live {
                true => Answer::Granted {
                    fence: lease.fence,
                    ttl_ms: lease.ttl_ms,
                },
                false => Answer::Refused(Refusal::StaleFence(lease.fence)),
            };
        }
        if self.frozen {
            return Answer::Refused(Refusal::Frozen {
                by: "ana".into(),
                reason: "audit".into(),
            });
        }
        if let Some(l) = self
            .grants
            .values()
            .find(|l| l.live && l.scope.conflicts(&ask.scope))
        {
            let (scope, fence, holder, playbook) =
                (l.scope.clone(), l.fence, l.holder, l.playbook.clone());
            return Answer::Refused(Refusal::Held {
                scope,
                fence,
                holder,
                playbook,
            });
        }
        if let Some(id) = &ask.approval {
            let approval = self.approvals.get_mut(id).expect("it was asked");
            assert_eq!(approval.state, ApprovalState::Approved);
            assert_eq!(approval.plan_digest, ask.plan_digest);
            approval.state = ApprovalState::Used;
        }
        self.fences += 1;
        self.intents += 1;
        let fence = Fence(self.fences);
        let lease = Lease {
            fence,
            scope: ask.scope,
            holder: ask.holder,
            ttl_ms: ask.ttl_ms,
            generation: 0,
            execution: ask.execution,
            plan_digest: ask.plan_digest,
            playbook: ask.playbook,
            service: ask.service,
            live: true,
        };
        self.grants.insert(fence.0, lease);
        Answer::Granted {
            fence,
            ttl_ms: ask.ttl_ms,
        }
    }

    /// What the audit actor does: closes the grant, exactly once.
    fn take(&mut self, finished: Finished) {
        let report = &finished.report;
        assert_eq!(report.fence, finished.close.map(|c| c.fence));
        let is_again = self.finished.contains(&finished);
        if let Some(close) = finished.close {
            let closed = self.grants.remove(&close.fence.0);
            assert!(
                closed.is_some() != is_again,
                "a grant is closed once: {close:?}"
            );
        }
        if !is_again {
            self.finished.push(finished);
        }
    }

    /// Whether the node is as good as dead, or has nothing more to write.
    pub(crate) fn has_stopped(&self) -> bool {
        self.dies_after.is_some_and(|n| self.writes > n) || !self.finished.is_empty()
    }

    fn write(&mut self, write: JournalWrite) -> bool {
        self.writes += 1;
        if self.dies_after.is_some_and(|n| self.writes > n) {
            return false;
        }
        self.journal.extend(write.put);
        write
            .remove
            .iter()
            .for_each(|key| drop(self.journal.remove(key)));
        true
    }
}

fn ports(outside: &Arc<Mutex<Outside>>) -> Ports {
    let with = || Arc::clone(outside);
    let (ledger, journal, load, sink, told, leases, approvals, incidents) = (
        with(),
        with(),
        with(),
        with(),
        with(),
        with(),
        with(),
        with(),
    );
    let lookups = lookups();
    let freeze = with();
    Ports {
        frozen: port(move |()| {
            let frozen = freeze.lock().unwrap().frozen;
            async move { Ok(frozen) }
        }),
        ledger: port(move |c| {
            let mut outside = ledger.lock().unwrap();
            let late = match &c {
                Command::Look(_) => outside.look_answered_after,
                _ => Duration::ZERO,
            };
            let answer = outside.answer(c);
            async move {
                tokio::time::sleep(late).await;
                Ok::<_, LedgerError>(answer)
            }
        }),
        journal: port(move |w| {
            let written = journal.lock().unwrap().write(w);
            async move {
                match written {
                    true => Ok(()),
                    false => std::future::pending().await,
                }
            }
        }),
        load_journal: port(move |()| {
            let rows = load.lock().unwrap().journal.clone().into_iter().collect();
            async move { Ok(rows) }
        }),
        finished: port(move |f| {
            sink.lock().unwrap().take(f);
            async { Ok(()) }
        }),
        progress: port(move |p| {
            told.lock().unwrap().progress.push(p);
            async {}
        }),
        leases: port(move |()| {
            let all = leases.lock().unwrap().grants.values().cloned().collect();
            async move { Ok(all) }
        }),
        approvals: port(move |()| {
            let all = approvals
                .lock()
                .unwrap()
                .approvals
                .values()
                .cloned()
                .collect();
            async move { Ok(all) }
        }),
        incident: port(move |id| {
            let found = incidents.lock().unwrap().incidents.get(&id).cloned();
            async move { found }
        }),
        readings: lookups.readings,
        secrets: lookups.secrets,
        tags: lookups.tags,
    }
}

impl World {
    pub(crate) async fn start(playbooks: Vec<Playbook>) -> Self {
        Self::with(Arc::default(), playbooks, ExecutorConfig::default()).await
    }

    async fn with(
        outside: Arc<Mutex<Outside>>,
        playbooks: Vec<Playbook>,
        config: ExecutorConfig,
    ) -> Self {
        let arguments = Arguments {
            config: config.clone(),
            host: HostName::new("here").unwrap(),
            environment: "test".into(),
            playbooks: playbooks.clone(),
            keypair: key(),
            ports: ports(&outside),
        };
        let (actor, handle) = Actor::spawn(None, Executor, arguments).await.unwrap();
        Self {
            outside,
            actor,
            handle,
            playbooks,
            config,
        }
    }

    /// The node dies; another starts on the same data.
    pub(crate) async fn restart(self) -> Self {
        self.actor.kill();
        let _ = self.handle.await;
        {
            let mut outside = self.outside.lock().unwrap();
            outside.dies_after = None;
        }
        Self::with(self.outside, self.playbooks, self.config).await
    }

    pub(crate) async fn decide(&self, incident: &Incident, route: Route, playbook: &str) {
        self.outside
            .lock()
            .unwrap()
            .incidents
            .insert(incident.id.clone(), incident.clone());
        let decision = Box::new(decision(incident, route, playbook));
        let incident = Box::new(incident.clone());
        let wait = Some(Duration::from_secs(5));
        let taken = self
            .actor
            .call(|reply| Message::Decided(incident, decision, reply), wait)
            .await;
        assert!(taken.unwrap().is_success());
    }

    pub(crate) async fn finished(&self, n: usize) -> Vec<Finished> {
        until("it is finished", || {
            self.outside.lock().unwrap().finished.len() >= n
        })
        .await;
        until("nothing is left in the journal", || {
            self.outside.lock().unwrap().journal.is_empty()
        })
        .await;
        let outside = self.outside.lock().unwrap();
        assert!(outside.grants.is_empty(), "every grant is closed");
        assert_eq!(outside.finished.len(), n);
        outside.finished.clone()
    }

    pub(crate) async fn question(&self) -> Approval {
        let waiting = || {
            let outside = self.outside.lock().unwrap();
            outside
                .approvals
                .values()
                .find(|a| a.state == ApprovalState::Waiting)
                .cloned()
        };
        until("a human is asked", || waiting().is_some()).await;
        waiting().unwrap()
    }

    /// A human, or time, answers.
    pub(crate) fn answer(&self, approval: &Approval, state: ApprovalState) {
        let mut answered = approval.clone();
        answered.state = state;
        answered.answered_by = Some("ana".into());
        let id = answered.id.clone();
        self.outside
            .lock()
            .unwrap()
            .approvals
            .insert(id, answered.clone());
        self.actor
            .cast(Message::ApprovalChanged(Box::new(answered)))
            .unwrap();
    }
}

pub(crate) fn incident(n: u32) -> Incident {
    let at = Timestamp::from_secs(1_770_000_000);
    Incident {
        id: IncidentId::at(at, n),
        host: HostName::new("here").unwrap(),
        environment: "test".into(),
        service: Some(ServiceName::new("shop").unwrap()),
        tags: BTreeMap::new(),
        opened_at: at,
        updated_at: at,
        resolved_at: None,
        state: IncidentState::Open,
        severity: Severity::Critical,
        title: "shop is down".into(),
        anomalies: vec![],
        events: vec![],
        top_consumers: vec![],
        signature: Digest::of(b"shop"),
        recurrence_30d: 0,
    }
}

pub(crate) fn decision(incident: &Incident, route: Route, playbook: &str) -> Decision {
    let chosen = Match {
        playbook: PlaybookName::new(playbook).unwrap(),
        version: "1.0.0".into(),
        similarity: 0.93,
        features: BTreeMap::new(),
        findings: vec![],
    };
    Decision {
        incident: incident.id.clone(),
        at: incident.opened_at,
        text: "shop is down".into(),
        matches: vec![chosen],
        confidence: Confidence {
            similarity: 0.93,
            total: 0.93,
            ..Confidence::default()
        },
        route,
        rationale: "it fits".into(),
        gates: vec![],
        took_us: 5,
    }
}

/// A step that adds its name to a file.
pub(crate) fn note(name: &str, file: &Path) -> Step {
    let script = format!("echo {name} >> {}", file.display());
    step(name, command(&["sh", "-c", &script]))
}

/// A playbook whose every part notes that it ran.
pub(crate) fn playbook(name: &str, file: &Path) -> Playbook {
    let undo = |n: &str, of: &str| Step {
        undoes: Some(of.into()),
        ..note(n, file)
    };
    Playbook {
        name: PlaybookName::new(name).unwrap(),
        version: "1.0.0".into(),
        description: "revives the shop".into(),
        tags: vec![],
        idempotent: true,
        services: vec!["shop".into()],
        aliases: vec![],
        not_when: vec![],
        signature: Signature::default(),
        max_route: Route::Execute,
        scope: ScopeKind::Service,
        max_duration: Duration::from_secs(60),
        proof: Proof::Proven,
        diagnose: vec![],
        parameters: vec![],
        pre_execution_checks: vec![note("check", file)],
        steps: vec![note("first", file), note("second", file)],
        verification: vec![note("verify", file)],
        rollback: vec![undo("undo_first", "first"), undo("undo_second", "second")],
        no_rollback_reason: None,
        references: vec![],
        digest: Digest::of(name.as_bytes()),
    }
}

pub(crate) fn noted(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
