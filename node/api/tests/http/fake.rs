//! A backend that knows one of each.

use crate::nouns::*;
use hale_api::metrics::Family;
use hale_api::*;
use hale_model::chain::Entry;
use hale_model::ledger::{
    Approval, ApprovalState, Lease, LedgerError, Refusal, Scope, SharedLease,
};
use hale_model::port::Later;
use hale_model::series::SeriesKey;
use hale_model::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

pub(crate) struct Fake {
    pub(crate) feed: Feed,
    pub(crate) ready: AtomicBool,
    /// What the last write said.
    pub(crate) heard: Mutex<Vec<String>>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            feed: Feed::new(),
            ready: AtomicBool::new(true),
            heard: Mutex::default(),
        }
    }
}

impl Fake {
    pub(crate) fn hear(&self, said: String) {
        self.heard.lock().unwrap().push(said);
    }

    /// One piece and the end; one piece and an error, if the node is not ready.
    fn pieces(&self, piece: Vec<u8>) -> mpsc::Receiver<Result<Vec<u8>, Problem>> {
        let (tx, rx) = mpsc::channel(8);
        let ready = self.ready.load(Ordering::SeqCst);
        tokio::spawn(async move {
            tx.send(Ok(piece)).await.ok();
            if !ready {
                tx.send(Err(Problem::internal("segment 3 can't be read")))
                    .await
                    .ok();
            }
        });
        rx
    }
}

fn now<T: Send + 'static>(value: T) -> Reply<T> {
    Box::pin(std::future::ready(Ok(value)))
}
fn no<T: Send + 'static>(problem: impl Into<Problem>) -> Reply<T> {
    Box::pin(std::future::ready(Err(problem.into())))
}

impl Backend for Fake {
    fn readiness(&self) -> Later<Readiness> {
        let ready = self.ready.load(Ordering::SeqCst);
        let reasons = if ready {
            vec![]
        } else {
            vec!["the ledger has no leader".into()]
        };
        Box::pin(std::future::ready(Readiness { ready, reasons }))
    }
    fn status(&self, _: Consistency) -> Reply<Status> {
        now(Status {
            version: "0.1.0".into(),
            host: host(),
            environment: "production".into(),
            node: key().node_id(),
            started_at: at(),
            uptime_seconds: 60,
            ready: true,
            problems: vec![],
            interval_ms: 30_000,
            last_round_at: Some(at()),
            series: 120,
            samples: 4000,
            dropped: 0,
            incidents_open: 1,
            approvals_waiting: 1,
            executions_running: 1,
            playbooks: 15,
            freeze: freeze(false, None),
            ledger: LedgerStatus {
                role: "leader".into(),
                leader: Some(key().node_id()),
                term: 1,
                applied: 40,
                voters: vec![key().node_id()],
                learners: vec![],
                entries: 5,
                tip: Digest::of(b"tip"),
                members_alive: 2,
                members_known: 3,
                zone: Some("a".into()),
            },
        })
    }
    fn hosts(&self, _: Consistency) -> Reply<Vec<HostView>> {
        now(vec![HostView {
            host: host(),
            node: Some(key().node_id()),
            environment: "production".into(),
            tags: BTreeMap::new(),
            state: "alive".into(),
            last_round_at: None,
            incidents_open: Some(0),
        }])
    }
    fn telemetry(&self, host: HostName) -> Reply<Value> {
        if host.as_str() == "panics" {
            return Box::pin(async { panic!("a bug in the node") });
        }
        if host.as_str() != "db-01" {
            return no(Problem::not_found("host", host, "hale metrics"));
        }
        now(
            json!({ "host": host, "environment": "production", "tags": {}, "metrics": { "system": { "cpu_percent": 42.3 } } }),
        )
    }
    fn baselines(&self, _: HostName, _: BaselineQuery) -> Reply<Vec<Reading>> {
        let other = Reading {
            series: SeriesKey::new("system.cpu_percent"),
            ..reading()
        };
        now(vec![reading(), other])
    }
    fn series(&self, host: HostName, series: SeriesKey) -> Reply<SeriesView> {
        if series != reading().series {
            return no(Problem::not_found("series", series, "hale metrics"));
        }
        let point = PointView {
            at: at(),
            value: 92.0,
            expected: 71.0,
            low: 70.0,
            high: 72.0,
            sigma: 6.5,
        };
        let anomaly = EpisodeView {
            from: at(),
            until: None,
            severity: Severity::Critical,
        };
        now(SeriesView {
            host,
            reading: reading(),
            sensitivity: Some("medium".into()),
            step_seconds: 30.0,
            points: vec![point],
            anomalies: vec![anomaly],
            explanation: ExplanationView {
                why: vec!["92 is 6.5σ above the 71 expected".into()],
                surprise: 6.5,
                false_alerts_per_week: 0.01,
                novelty: 4.0,
                deviation: 8.0,
                time_of_day: 8.0,
                phase: "seasonal".into(),
            },
        })
    }
    fn states(&self, _: HostName, request: StatesRequest) -> Reply<States> {
        let state = |series: String| StateView {
            series,
            state: "02ff".into(),
        };
        now(States {
            states: request.series.into_iter().map(state).collect(),
        })
    }
    fn exclude(&self, _: HostName, request: ExcludeRequest) -> Reply<Excluded> {
        self.hear(format!("{request:?}"));
        now(Excluded { series: 2 })
    }
    fn incidents(&self, query: IncidentQuery) -> Reply<Gathered<IncidentRow>> {
        self.hear(format!("{query:?}"));
        now(vec![IncidentRow::of(&incident(), Some(&decision()), None)].into())
    }
    fn incident(&self, id: IncidentId, _: Consistency) -> Reply<IncidentView> {
        if id != incident_id() {
            return no(Problem::not_found(
                "incident",
                id,
                "hale incidents --state all",
            ));
        }
        now(IncidentView {
            incident: incident(),
            decision: Some(decision()),
            execution: Some(execution()),
            approval: Some((&approval(ApprovalState::Waiting, None)).into()),
            outcome: Some(outcome()),
            entry: entry_ref(),
        })
    }
    fn why(&self, _: IncidentId, _: Consistency) -> Reply<Why> {
        now(Why {
            incident: IncidentRow::of(&incident(), Some(&decision()), Some(OutcomeStatus::Success)),
            decision: Some(decision()),
            story: vec![happening("a story")],
            outcome: Some(outcome()),
            entry: entry_ref(),
        })
    }
    fn approvals(&self, _: Consistency) -> Reply<Vec<Approval>> {
        now(vec![approval(ApprovalState::Waiting, None)])
    }
    fn answer(&self, id: ApprovalId, approve: bool, request: AnswerRequest) -> Reply<Approval> {
        if id != ApprovalId::at(at(), 3) {
            return no(Refusal::UnknownApproval(id));
        }
        let (approved, asked) = (Digest::of(b"plan"), request.plan_digest);
        if let Some(asked) = asked.filter(|asked| *asked != approved) {
            return no(Refusal::PlanChanged { approved, asked });
        }
        let state = if approve {
            ApprovalState::Approved
        } else {
            ApprovalState::Denied
        };
        now(approval(state, Some(request.by)))
    }
    fn playbooks(&self, _: Consistency) -> Reply<Vec<PlaybookRow>> {
        now(vec![playbook_row()])
    }
    fn playbook(&self, _: PlaybookName, _: Consistency) -> Reply<PlaybookView> {
        now(PlaybookView {
            row: playbook_row(),
            definition: json!({}),
            text: "name: x".into(),
        })
    }
    fn run(&self, _: PlaybookName, request: RunRequest) -> Reply<RunView> {
        now(RunView {
            plan: plan(),
            plan_digest: plan().digest().unwrap(),
            steps: vec![PlannedStep {
                phase: "step".into(),
                name: "terminate_idle".into(),
                kind: "sql_query".into(),
                does: "SELECT 1".into(),
            }],
            dry_run: request.dry_run,
            execution: None,
            approval: None,
            next: "hale playbook run …".into(),
        })
    }
    fn lint(&self, text: String) -> Reply<Vec<FindingView>> {
        now(vec![FindingView {
            file: "stdin".into(),
            line: 1,
            column: 1,
            severity: "error".into(),
            message: format!("{} bytes", text.len()),
            instead: "steps: […]".into(),
        }])
    }
    fn looks(&self, _: Consistency) -> Reply<Vec<SharedLease>> {
        now(vec![])
    }

    fn leases(&self, _: Consistency) -> Reply<Vec<Lease>> {
        now(vec![Lease {
            fence: Fence(12),
            scope: Scope::Service(host(), service().unwrap()),
            holder: key().node_id(),
            ttl_ms: 30_000,
            generation: 2,
            execution: ExecutionId::at(at(), 9),
            plan_digest: Digest::of(b"plan"),
            playbook: playbook(),
            service: service(),
            live: true,
        }])
    }
    fn waiting(&self, _: Consistency) -> Reply<Vec<WaitView>> {
        now(vec![wait()])
    }
    fn executions(&self, _: Consistency) -> Reply<Gathered<ExecutionView>> {
        now(vec![execution()].into())
    }
    fn entries(&self, query: EntryQuery) -> Reply<EntryPage> {
        self.hear(format!("{query:?}"));
        now(EntryPage {
            entries: vec![entry(4)],
            next: Some(5),
            total: 6,
        })
    }
    fn entry(&self, index: u64, _: Consistency) -> Reply<Entry> {
        now(entry(index))
    }
    fn export(&self) -> Reply<mpsc::Receiver<Result<Vec<u8>, Problem>>> {
        now(self.pieces(b"{\"index\":0}\n".to_vec()))
    }
    fn verify(&self) -> Reply<Verification> {
        now(Verification {
            valid: false,
            entries: 5,
            chain: 4,
            signatures: 5,
            tip: Digest::of(b"tip"),
            root: Digest::of(b"root"),
            problems: vec![ChainProblem {
                index: Some(3),
                what: "it points elsewhere".into(),
            }],
        })
    }
    fn freeze_state(&self, _: Consistency) -> Reply<FreezeState> {
        now(freeze(true, Some("ana".into())))
    }
    fn freeze(&self, frozen: bool, request: FreezeRequest) -> Reply<FreezeState> {
        if request.reason == "no leader" {
            return no(LedgerError::NoLeader(5000));
        }
        now(freeze(frozen, Some(request.by)))
    }
    fn members(&self, _: Consistency) -> Reply<Vec<MemberView>> {
        now(vec![member(false)])
    }
    fn remove_member(&self, name: MemberName, request: RemoveRequest) -> Reply<MemberView> {
        self.hear(format!("{request:?}"));
        match name.among(&[member(false)]) {
            Ok(_) => now(member(true)),
            Err(problem) => no(problem),
        }
    }
    fn leave(&self, request: RemoveRequest) -> Reply<MemberView> {
        self.hear(format!("{request:?}"));
        now(member(true))
    }
    fn voters(&self) -> Reply<VotersView> {
        now(voters())
    }
    fn leader(&self) -> Reply<LeaderView> {
        now(leader())
    }
    fn transfer_leadership(&self, request: TransferRequest) -> Reply<LeaderView> {
        self.hear(format!("{request:?}"));
        now(leader())
    }
    fn tokens(&self, _: Consistency) -> Reply<Vec<TokenView>> {
        now(vec![token()])
    }
    fn create_token(&self, request: CreateTokenRequest) -> Reply<NewToken> {
        self.hear(format!("{request:?}"));
        now(new_token())
    }
    fn revoke_token(&self, id: String, request: ByRequest) -> Reply<TokenView> {
        self.hear(format!("{id} {request:?}"));
        now(token())
    }
    fn budgets(&self, _: Consistency) -> Reply<Vec<BudgetView>> {
        now(vec![budget(BudgetLimitView::Percent(20))])
    }
    fn set_budget(&self, request: SetBudgetRequest) -> Reply<BudgetView> {
        match request.limit() {
            Ok(limit) => now(budget(limit)),
            Err(problem) => no(problem),
        }
    }
    fn remove_budget(&self, name: String, request: ByRequest) -> Reply<BudgetView> {
        self.hear(format!("{name} {request:?}"));
        now(budget(BudgetLimitView::AtMost(1)))
    }
    fn backup(&self) -> Reply<mpsc::Receiver<Result<Vec<u8>, Problem>>> {
        now(self.pieces(vec![0, 159, 146, 150]))
    }
    fn feed(&self) -> Feed {
        self.feed.clone()
    }
    fn metrics(&self) -> Later<Vec<Family>> {
        let family = Family::gauge("hale_incidents_open", "Incidents \\ open\nnow.", 1.0)
            .point([("title", "a \"quoted\" one\nwith \\ a line")], 2.0);
        Box::pin(std::future::ready(vec![family]))
    }
    fn ledger_age(&self) -> Duration {
        Duration::from_millis(250)
    }
}
