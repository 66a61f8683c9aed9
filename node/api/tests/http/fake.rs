//! A backend that knows one of each, and a client that speaks raw HTTP to a real listener.

use hale_api::metrics::Family;
use hale_api::*;
use hale_model::chain::Entry;
use hale_model::decision::{Confidence, Gate, Match};
use hale_model::execution::Mode;
use hale_model::ledger::{
    Approval, ApprovalState, EntryKind, EntryRef, History, Lease, LedgerError, Refusal, Scope,
    Signed,
};
use hale_model::port::Later;
use hale_model::series::SeriesKey;
use hale_model::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

pub(crate) const TOKEN: &str = "a-token-of-the-test";

pub(crate) struct Fake {
    pub(crate) feed: Feed,
    pub(crate) ready: AtomicBool,
    /// What the last write said.
    pub(crate) heard: Mutex<Vec<String>>,
}

fn at() -> Timestamp {
    "2026-02-12T11:26:00Z".parse().unwrap()
}
fn host() -> HostName {
    HostName::new("db-01").unwrap()
}
fn service() -> Option<ServiceName> {
    Some(ServiceName::new("postgresql").unwrap())
}
pub(crate) fn incident_id() -> IncidentId {
    IncidentId::at(at(), 7)
}
fn key() -> Keypair {
    Keypair::from_seed(&[7; 32])
}
fn playbook() -> PlaybookName {
    PlaybookName::new("postgres_connection_pool_reset").unwrap()
}

fn reading() -> Reading {
    Reading {
        series: SeriesKey::new("system.disk_usage_percent").with("mount", "/var"),
        service: service(),
        at: at(),
        value: 94.8,
        baseline: BaselineStats {
            mean: 72.3,
            stddev: 4.8,
            spread: 4.8,
            ..Default::default()
        },
        sigma: 4.69,
        tail_probability: 0.001,
        trend_per_hour: 3.2,
        seconds_to_limit: Some(5850.0),
        bounds: Some(Bounds {
            min: 0.0,
            max: 100.0,
        }),
        harm: Harm::High,
    }
}

fn incident() -> Incident {
    Incident {
        id: incident_id(),
        host: host(),
        environment: "production".into(),
        service: service(),
        tags: BTreeMap::from([("role".into(), "primary".into())]),
        opened_at: at(),
        updated_at: at(),
        resolved_at: None,
        state: IncidentState::Open,
        severity: Severity::Warning,
        title: "disk /var is filling".into(),
        anomalies: vec![Anomaly {
            reading: reading(),
            severity: Severity::Warning,
            confidence: 0.94,
            since: at(),
        }],
        events: vec![Event {
            at: at(),
            source: EventSource::Log,
            service: service(),
            level: Level::Error,
            template: "archive command failed with <*>".into(),
            message: "archive command failed with exit code 1".into(),
            count: 4,
            origin: "/var/log/postgresql/a.log".into(),
        }],
        top_consumers: vec![Consumer {
            resource: "disk".into(),
            name: "pg_wal".into(),
            amount: 8.3e9,
            unit: "bytes".into(),
            text: "WAL files 8.3 GB under pg_wal".into(),
        }],
        signature: Digest::of(b"signature"),
        recurrence_30d: 3,
    }
}

fn decision() -> Decision {
    Decision {
        incident: incident_id(),
        at: at(),
        text: "disk /var at 94.8 %".into(),
        matches: vec![Match {
            playbook: playbook(),
            version: "1.4.2".into(),
            similarity: 0.94,
            features: BTreeMap::from([("dense".into(), 0.9)]),
        }],
        confidence: Confidence {
            similarity: 0.94,
            history: 0.0,
            recurrence: 0.02,
            total: 0.96,
        },
        route: Route::Execute,
        rationale: "it fits".into(),
        gates: vec![Gate {
            name: "confidence".into(),
            passed: true,
            value: "0.96".into(),
            needed: "0.90".into(),
            flip: "below 0.90 it would ask".into(),
        }],
        took_us: 900,
    }
}

fn outcome() -> Outcome {
    Outcome {
        status: OutcomeStatus::Success,
        resolution_time_seconds: 28.0,
        verification_passed: true,
        rollback_triggered: false,
        human_intervention_required: false,
        reason: "every verification passed".into(),
    }
}

fn plan() -> Plan {
    Plan {
        execution: ExecutionId::at(at(), 9),
        incident: incident_id(),
        host: host(),
        service: service(),
        scope: Scope::Host(host()),
        playbook: playbook(),
        version: "1.4.2".into(),
        playbook_digest: Digest::of(b"playbook"),
        params: BTreeMap::from([("idle_seconds".into(), json!(3600))]),
        idempotent: true,
    }
}

fn execution() -> ExecutionView {
    ExecutionView {
        id: ExecutionId::at(at(), 9),
        incident: incident_id(),
        host: host(),
        service: service(),
        playbook: playbook(),
        version: "1.4.2".into(),
        mode: Mode::Manual { by: "ana".into() },
        fence: Some(Fence(12)),
        phase: "steps".into(),
        step: Some("terminate_idle".into()),
        started_at: at(),
    }
}

fn approval(state: ApprovalState, by: Option<String>) -> Approval {
    Approval {
        id: ApprovalId::at(at(), 3),
        incident: incident_id(),
        host: host(),
        node: key().node_id(),
        playbook: playbook(),
        version: "1.4.2".into(),
        plan_digest: Digest::of(b"plan"),
        plan: serde_json::to_vec(&plan()).unwrap(),
        rationale: "0.82 is below 0.90".into(),
        confidence_ppm: 820_000,
        ttl_ms: 900_000,
        asked_at_ms: at().as_millis(),
        state,
        answered_by: by,
        entry: Signed::new(EntryKind::Approval, b"{}".to_vec(), &key()),
    }
}

fn entry(index: u64) -> Entry {
    let body = json!({ "incident_id": incident_id(), "audit_metadata": { "node_id": "n" } });
    let signed = Signed::new(
        EntryKind::Record,
        serde_json::to_vec(&body).unwrap(),
        &key(),
    );
    Entry::after(index, Digest::of(b"before"), Fence(12), signed)
}

fn entry_ref() -> Option<EntryRef> {
    Some(EntryRef::from(&entry(4)))
}

fn playbook_row() -> PlaybookRow {
    PlaybookRow {
        name: playbook(),
        version: "1.4.2".into(),
        description: "ends idle connections".into(),
        tags: vec!["database".into()],
        services: vec!["postgresql".into()],
        idempotent: true,
        max_route: Route::Execute,
        digest: Digest::of(b"playbook"),
        source: "library".into(),
        history: History::default(),
    }
}

fn freeze(frozen: bool, by: Option<String>) -> FreezeState {
    FreezeState {
        frozen,
        by,
        reason: Some("maintenance".into()),
        since: Some(at()),
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
            incidents_open: 0,
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
    fn incidents(&self, query: IncidentQuery) -> Reply<Vec<IncidentRow>> {
        self.heard.lock().unwrap().push(format!("{query:?}"));
        now(vec![IncidentRow::of(&incident(), Some(&decision()), None)])
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
    fn executions(&self) -> Reply<Vec<ExecutionView>> {
        now(vec![execution()])
    }
    fn entries(&self, query: EntryQuery) -> Reply<EntryPage> {
        self.heard.lock().unwrap().push(format!("{query:?}"));
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
        let (tx, rx) = mpsc::channel(8);
        let ready = self.ready.load(Ordering::SeqCst);
        tokio::spawn(async move {
            tx.send(Ok(b"{\"index\":0}\n".to_vec())).await.ok();
            if !ready {
                tx.send(Err(Problem::internal("segment 3 can't be read")))
                    .await
                    .ok();
            }
        });
        now(rx)
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

pub(crate) fn happening(text: &str) -> Happening {
    Happening {
        seq: 1,
        at: at(),
        stage: Stage::Detected,
        incident: Some(incident_id()),
        host: host(),
        service: service(),
        text: text.into(),
        detail: json!({ "sigma": 4.69 }),
    }
}

/// A node with its API on a real port.
pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) served: tokio::task::JoinHandle<()>,
}

pub(crate) async fn node() -> Node {
    let listen = "127.0.0.1:0".parse().unwrap();
    let token = Token::new(TOKEN, "/var/lib/hale/api.token");
    let server = bind(ApiConfig { listen, token }).await.unwrap();
    let (addr, (stop, stopping)) = (server.addr(), watch::channel(false));
    let fake = Arc::new(Fake {
        feed: Feed::new(),
        ready: AtomicBool::new(true),
        heard: Mutex::default(),
    });
    let served = tokio::spawn(server.serve(fake.clone(), stopping));
    Node {
        addr,
        fake,
        stop,
        served,
    }
}

/// An answer: status, head, body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Node {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends bytes as they are and reads until the node closes.
    pub(crate) async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        // A node that refuses early may close before it read all.
        stream.write_all(request).await.ok();
        let mut all = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut all));
        read.await.expect("the node answers and closes").ok();
        parse(&all)
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> Answer {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        if let Some(token) = token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        if !body.is_empty() {
            head += &format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            );
        }
        self.raw(format!("{head}\r\n{body}").as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Some(TOKEN), "").await
    }
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, Some(TOKEN), body).await
    }
}

fn parse(all: &[u8]) -> Answer {
    let end = all
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap_or_else(|| {
            panic!("no head in {:?}", String::from_utf8_lossy(all));
        });
    let head = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
    let body = &all[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") {
        dechunk(body)
    } else {
        body.to_vec()
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body }
}

/// RFC 9112 section 7.1; what was broken off lacks its last chunk, which `head` can't tell.
fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        let len =
            usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap().trim(), 16).unwrap();
        if len == 0 || rest.len() < at + 2 + len {
            break;
        }
        out.extend_from_slice(&rest[at + 2..at + 2 + len]);
        rest = rest.get(at + 4 + len..).unwrap_or_default();
    }
    out
}
