//! The answers to what operators ask of this node, made of its actors and its ledger.

mod cluster;

pub(crate) use cluster::alone;

use crate::cluster::Shared;
use crate::config::Config;
use crate::levels;
use crate::library::Library;
use crate::memory::{End, Memory};
use crate::pipeline::Slots;
use hale_api::{
    AnswerRequest, BaselineQuery, Consistency, EntryPage, EntryQuery, ExcludeRequest, Excluded,
    ExecutionView, Feed, FreezeRequest, FreezeState, HostView, IncidentFilter, IncidentQuery,
    IncidentRow, IncidentView, PlaybookRow, Problem, Readiness, SeriesView, Status, Why,
};
use hale_audit::archive::Segments;
use hale_consensus::{ChainStore, Consensus, Ledger, SegmentChain};
use hale_model::chain::Entry;
use hale_model::ledger::{Answer, Approval, ApprovalState, Command, EntryKind, History, Signed};
use hale_model::{
    ApprovalId, Decision, HostName, Incident, IncidentId, IncidentState, Keypair, PlaybookName,
    Reading, SeriesKey, Timestamp, canonical,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an actor may take to answer an operator.
pub(crate) const ASK: Duration = Duration::from_secs(5);
/// How long after its last round a node counts as not doing its work, in intervals.
const LATE_ROUNDS: u32 = 5;
/// For how long a node may not have heard of the ledger and still be well.
const SILENT_LEDGER: Duration = Duration::from_secs(10);
/// How many entries are looked at for a page that is filtered.
const PAGE_SCAN: u64 = 2048;
/// How many such pages are looked through for the entry of a freeze.
const FREEZE_PAGES: u32 = 16;

/// All that answers are made of.
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) host: HostName,
    pub(crate) key: Keypair,
    pub(crate) consensus: Arc<Consensus>,
    /// The cluster's number.
    pub(crate) number: u64,
    /// None if this node runs alone.
    pub(crate) cluster: Option<Arc<Shared>>,
    /// Where it answers HTTP.
    pub(crate) http: Option<SocketAddr>,
    pub(crate) chain: Arc<SegmentChain>,
    pub(crate) slots: Slots,
    pub(crate) library: Arc<Library>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) feed: Feed,
    pub(crate) started_at: Timestamp,
    pub(crate) started: Instant,
    pub(crate) store_bytes: Box<dyn Fn() -> u64 + Send + Sync>,
}

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_millis(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
}

pub(crate) fn silent(who: &str) -> Problem {
    Problem::unavailable(
        format!("the {who} did not answer in time"),
        "try again; `hale status` tells what is wrong",
    )
}

impl Inner {
    /// A view of the ledger, as fresh as asked for.
    pub(crate) async fn ledger<T>(
        &self,
        fresh: Consistency,
        view: impl FnOnce(&Ledger) -> T,
    ) -> Result<T, Problem> {
        match fresh {
            Consistency::Stale => Ok(self.consensus.read_stale(view)),
            Consistency::Linearizable => self.consensus.read(view).await.map_err(Problem::from),
        }
    }

    /// The chain's files, for as long as one answer takes.
    pub(crate) fn segments(&self) -> Result<Arc<Segments>, Problem> {
        self.chain.segments().map_err(|e| {
            Problem::unavailable(
                format!("the chain can't be read: {e}"),
                "try again; hale status",
            )
        })
    }

    /// Whether another node may be asked: a question that came from one is answered here.
    pub(crate) fn may_ask(&self, may: bool, host: &HostName) -> Result<(), Problem> {
        if may {
            return Ok(());
        }
        Err(Problem::not_found("host", host, "hale members lists them"))
    }

    /// Entries of the chain by number, as many of the range as there are: this node's own, or those
    /// of one that holds the chain.
    pub(crate) async fn chain_entries(&self, range: Range<u64>) -> Result<Vec<Entry>, Problem> {
        let damaged = |e: String| Problem::new(hale_api::Code::Internal, e, "hale audit verify");
        if self.consensus.is_seated() || self.cluster.is_none() {
            let read: Result<Vec<Entry>, _> = self.segments()?.read(range).collect();
            return read.map_err(|e| damaged(e.to_string()));
        }
        let told = self.consensus.fetch_entries(range).await;
        told.map_err(|e| Problem::unavailable(e.to_string(), "hale voters shows the group"))
    }

    pub(crate) fn signed(&self, kind: EntryKind, body: &Value) -> Result<Signed, Problem> {
        let bytes = canonical::to_bytes(body)
            .map_err(|e| Problem::invalid(e.to_string(), "leave out what is no JSON"))?;
        Ok(Signed::new(kind, bytes, &self.key))
    }

    pub(crate) async fn propose(&self, command: Command) -> Result<Answer, Problem> {
        match self.consensus.propose(command).await? {
            Answer::Refused(refusal) => Err(refusal.into()),
            answer => Ok(answer),
        }
    }

    pub(crate) async fn known_incidents(&self) -> Result<Vec<Incident>, Problem> {
        let list = self
            .slots
            .decision
            .ask(ASK, hale_decision::actor::Message::ListIncidents)
            .await;
        list.ok_or_else(|| silent("decision actor"))
    }

    pub(crate) async fn story(
        &self,
        id: &IncidentId,
    ) -> Result<(Incident, Vec<Decision>), Problem> {
        let asked = id.clone();
        let found = self
            .slots
            .decision
            .ask(ASK, |reply| {
                hale_decision::actor::Message::Why(asked, reply)
            })
            .await;
        match found.ok_or_else(|| silent("decision actor"))? {
            Some(why) => Ok((why.incident, why.decisions)),
            None => Err(Problem::not_found(
                "incident",
                id,
                "hale incidents --state all",
            )),
        }
    }

    pub(crate) fn row(&self, incident: &Incident, decision: Option<&Decision>) -> IncidentRow {
        let end = self.memory.end(&incident.id);
        IncidentRow::of(incident, decision, end.map(|e| e.outcome.status))
    }

    pub(crate) async fn executions(&self) -> Result<Vec<ExecutionView>, Problem> {
        crate::views::executions(self)
            .await
            .ok_or_else(|| silent("executor"))
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        let metrics = self.consensus.metrics();
        let me = self.key.node_id();
        if self.consensus.read_stale(|l| !l.is_enrolled(&me)) {
            reasons.push(
                "this node is not on its cluster's roster any more: it may do nothing; move its \
                 data directory away and join as a new node with `hale join`"
                    .to_owned(),
            );
        }
        if metrics.leader.is_none() {
            reasons.push("the ledger has no leader: nothing can be leased or recorded".to_owned());
        }
        let age = self
            .consensus
            .age()
            .unwrap_or_else(|| self.started.elapsed());
        if metrics.leader.is_some() && age > SILENT_LEDGER {
            let seconds = age.as_secs();
            reasons.push(format!(
                "nothing was heard of the ledger for {seconds} s: nothing can be leased or \
                 recorded; hale voters shows the group, hale members who is reached"
            ));
        }
        if let Some(trouble) = metrics.trouble {
            reasons.push(format!("the ledger does not run: {trouble}"));
        }
        let interval = self.config.telemetry.interval.0;
        // With long intervals events still come every five seconds.
        let late = (interval * LATE_ROUNDS).max(Duration::from_secs(10));
        match self.memory.last_round_at() {
            None if self.started.elapsed() > late => {
                reasons.push("the sensors have not been read yet".into())
            }
            None => reasons.push("the sensors are being read for the first time".into()),
            Some(at) if now().since(at) > late => {
                reasons.push(format!("the sensors were last read at {at}"));
            }
            Some(_) => {}
        }
        Readiness {
            ready: reasons.is_empty(),
            reasons,
        }
    }

    pub(crate) fn freeze_state(ledger: &Ledger) -> FreezeState {
        match ledger.frozen() {
            None => FreezeState::default(),
            Some(f) => FreezeState {
                frozen: true,
                by: Some(f.by.clone()),
                reason: Some(f.reason.clone()),
                since: None,
            },
        }
    }

    /// The state with the time that the freeze's own entry on the chain tells; without it where the
    /// entry is older than what is looked at.
    pub(crate) async fn dated(&self, state: FreezeState) -> FreezeState {
        let Ok(segments) = self.segments() else {
            return state;
        };
        if !state.frozen {
            return state;
        }
        let since = tokio::task::spawn_blocking(move || frozen_since(&segments)).await;
        FreezeState {
            since: since.ok().flatten(),
            ..state
        }
    }

    pub(crate) async fn status(&self, fresh: Consistency) -> Result<Status, Problem> {
        let (freeze, approvals) = self
            .ledger(fresh, |l| {
                let waiting = l
                    .approvals()
                    .filter(|a| a.state == ApprovalState::Waiting)
                    .count();
                (Self::freeze_state(l), waiting as u64)
            })
            .await?;
        let freeze = self.dated(freeze).await;
        let incidents = self.known_incidents().await.unwrap_or_default();
        let counts = self
            .slots
            .baseline
            .ask(ASK, hale_baseline::actor::Message::Counts)
            .await;
        let readiness = self.readiness();
        let round = self.memory.last_round();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            environment: self.config.node.environment.clone(),
            node: self.key.node_id(),
            started_at: self.started_at,
            uptime_seconds: self.started.elapsed().as_secs(),
            ready: readiness.ready,
            problems: readiness.reasons,
            interval_ms: u64::try_from(self.config.telemetry.interval.0.as_millis())
                .unwrap_or(u64::MAX),
            last_round_at: round.at,
            series: counts.map_or(0, |c| c.series as u64),
            samples: round.taken,
            dropped: round.dropped,
            incidents_open: open(&incidents) as u64,
            approvals_waiting: approvals,
            executions_running: self.executions().await.unwrap_or_default().len() as u64,
            playbooks: self.library.playbooks().len() as u64,
            freeze,
            ledger: self.ledger_status().await,
        })
    }

    pub(crate) async fn own_host(&self) -> HostView {
        let incidents = self.known_incidents().await.unwrap_or_default();
        HostView {
            host: self.host.clone(),
            node: Some(self.key.node_id()),
            environment: self.config.node.environment.clone(),
            tags: self.tags().await,
            state: "alive".into(),
            last_round_at: self.memory.last_round_at(),
            incidents_open: Some(open(&incidents) as u64),
        }
    }

    pub(crate) async fn baselines(&self, query: BaselineQuery) -> Result<Vec<Reading>, Problem> {
        let all = hale_baseline::SeriesFilter::default();
        let views = self
            .slots
            .baseline
            .ask(ASK, |reply| {
                hale_baseline::actor::Message::Baselines(all, reply)
            })
            .await
            .ok_or_else(|| silent("baseline actor"))?;
        let mut readings: Vec<Reading> = views
            .iter()
            .filter(|v| query.wants(&v.series.to_string()))
            .filter_map(crate::views::reading_of)
            .collect();
        readings.sort_by(|a, b| a.series.cmp(&b.series));
        readings.truncate(query.limit);
        Ok(readings)
    }

    pub(crate) async fn series(&self, series: SeriesKey) -> Result<SeriesView, Problem> {
        let key = Box::new(series.clone());
        let detail = self
            .slots
            .baseline
            .ask(ASK, |reply| {
                hale_baseline::actor::Message::Detail(key, reply)
            })
            .await
            .ok_or_else(|| silent("baseline actor"))?;
        detail
            .and_then(|d| crate::views::series_of(self.host.clone(), &d))
            .ok_or_else(|| Problem::not_found("series", series, "hale metrics lists them"))
    }

    pub(crate) async fn exclude(&self, request: ExcludeRequest) -> Result<Excluded, Problem> {
        let (from, until) = (request.from, request.until);
        if from > now() || until > now().plus(Duration::from_secs(86_400)) {
            return Err(Problem::invalid(
                "a period begins now at the latest, and ends within a day",
                "exclude it when it begins; a longer one again each day",
            ));
        }
        let filter = hale_baseline::SeriesFilter {
            series: request.series,
            service: request.service,
        };
        let what = format!("{filter:?}");
        if request.forget {
            let forget = |reply| hale_baseline::actor::Message::Forget(filter.clone(), reply);
            let forgotten = self.slots.baseline.ask(ASK, forget).await;
            let series = forgotten.ok_or_else(|| silent("baseline actor"))?;
            tracing::info!(
                by = request.by,
                what,
                series,
                "what was learned is forgotten"
            );
        }
        let count = self
            .slots
            .baseline
            .ask(ASK, |reply| hale_baseline::actor::Message::Exclude {
                filter,
                from,
                until,
                reply: Some(reply),
            })
            .await
            .ok_or_else(|| silent("baseline actor"))?;
        tracing::info!(
            by = request.by, reason = request.reason, %from, %until, what, series = count,
            "a period is excluded from what is normal"
        );
        Ok(Excluded {
            series: count as u64,
        })
    }

    pub(crate) async fn incidents(
        &self,
        query: IncidentQuery,
    ) -> Result<Vec<IncidentRow>, Problem> {
        let mut rows = Vec::new();
        for incident in self.known_incidents().await? {
            let fits = match query.state {
                IncidentFilter::Open => incident.state == IncidentState::Open,
                IncidentFilter::Resolved => incident.state == IncidentState::Resolved,
                IncidentFilter::All => true,
            } && query
                .service
                .as_ref()
                .is_none_or(|s| incident.service.as_ref() == Some(s));
            if fits && rows.len() < query.limit {
                let decisions = self
                    .story(&incident.id)
                    .await
                    .map(|(_, d)| d)
                    .unwrap_or_default();
                rows.push(self.row(&incident, decisions.last()));
            }
        }
        Ok(rows)
    }

    pub(crate) async fn incident(
        &self,
        id: IncidentId,
        fresh: Consistency,
    ) -> Result<IncidentView, Problem> {
        let (incident, decisions) = self.story(&id).await?;
        let approval = self
            .ledger(fresh, |l| {
                l.approvals()
                    .filter(|a| a.incident == id)
                    .last()
                    .map(Into::into)
            })
            .await?;
        let execution = self
            .executions()
            .await?
            .into_iter()
            .find(|e| e.incident == id);
        let end = self.memory.end(&id);
        Ok(IncidentView {
            incident,
            decision: decisions.last().cloned(),
            execution,
            approval,
            outcome: end.as_ref().map(|e| e.outcome.clone()),
            entry: end.map(|e| e.entry),
        })
    }

    pub(crate) async fn why(&self, id: IncidentId) -> Result<Why, Problem> {
        let (incident, decisions) = self.story(&id).await?;
        let told = self.feed.after(0, usize::MAX);
        let story = told
            .iter()
            .filter(|h| h.incident.as_ref() == Some(&id))
            .map(|h| (**h).clone());
        let end: Option<End> = self.memory.end(&id);
        Ok(Why {
            incident: self.row(&incident, decisions.last()),
            decision: decisions.last().cloned(),
            story: story.collect(),
            outcome: end.as_ref().map(|e| e.outcome.clone()),
            entry: end.map(|e| e.entry),
        })
    }

    pub(crate) async fn answer(
        &self,
        id: ApprovalId,
        approve: bool,
        request: AnswerRequest,
    ) -> Result<Approval, Problem> {
        let unknown = || Problem::not_found("approval", &id, "hale approve lists those that wait");
        let found = self
            .ledger(Consistency::Linearizable, |l| l.approval(&id).cloned())
            .await?;
        let waiting = found.ok_or_else(unknown)?;
        let plan_digest = request.plan_digest.unwrap_or(waiting.plan_digest);
        let body = json!({
            "schema": "hale.approval-answer.v1",
            "approval": id,
            "incident_id": waiting.incident,
            "plan_digest": plan_digest,
            "approve": approve,
            "by": request.by,
            "reason": request.reason,
            "at": now(),
        });
        let entry = self.signed(EntryKind::Approval, &body)?;
        let command = Command::Answer {
            approval: id.clone(),
            plan_digest,
            approve,
            by: request.by,
            entry,
        };
        self.propose(command).await?;
        let found = self
            .ledger(Consistency::Linearizable, |l| l.approval(&id).cloned())
            .await?;
        found.ok_or_else(unknown)
    }

    pub(crate) fn playbook_row(
        &self,
        name: &PlaybookName,
        histories: &[(PlaybookName, History)],
    ) -> Option<PlaybookRow> {
        let known = self.library.get(name)?;
        let p = &known.playbook;
        let mut history = History::default();
        for (_, h) in histories.iter().filter(|(n, _)| n == name) {
            history = history.plus(*h);
        }
        let asked = levels::Asked {
            playbook: &p.name,
            service: None,
            history,
        };
        let (level, policy) = levels::of(&self.config, &self.library, &asked);
        Some(PlaybookRow {
            name: p.name.clone(),
            version: p.version.clone(),
            description: p.description.clone(),
            tags: p.tags.clone(),
            services: p.services.clone(),
            idempotent: p.idempotent,
            max_route: p.max_route,
            proof: known.proof().as_str().into(),
            level: level.as_str().into(),
            level_reason: policy.level,
            digest: p.digest,
            source: known.source.clone(),
            history,
        })
    }

    pub(crate) async fn histories(
        &self,
        fresh: Consistency,
    ) -> Result<Vec<(PlaybookName, History)>, Problem> {
        self.ledger(fresh, |l| {
            let all = l.histories();
            let is_ours = |p: &PlaybookName| !levels::is_of_another_text(l, &self.library, p);
            all.filter(|(p, ..)| is_ours(p))
                .map(|(p, _, h)| (p.clone(), h))
                .collect()
        })
        .await
    }

    pub(crate) async fn entries(&self, query: EntryQuery) -> Result<EntryPage, Problem> {
        if query.consistency == Consistency::Linearizable {
            self.consensus.read(|_| ()).await.map_err(Problem::from)?;
        }
        let total = match self.consensus.is_seated() || self.cluster.is_none() {
            true => self.chain.len(),
            false => self.consensus.read_stale(Ledger::tip).entries,
        };
        let limit = query.limit as u64;
        let filtered = query.kind.is_some() || query.incident.is_some();
        let from = query
            .from
            .unwrap_or_else(|| total.saturating_sub(if filtered { PAGE_SCAN } else { limit }));
        let mut page = EntryPage {
            entries: Vec::new(),
            next: None,
            total,
        };
        let end = if filtered {
            from.saturating_add(PAGE_SCAN)
        } else {
            from.saturating_add(limit)
        };
        let mut at = from;
        for entry in self.chain_entries(from..end.min(total)).await? {
            at = entry.index + 1;
            if fits(&entry, &query) {
                page.entries.push(entry);
            }
            if page.entries.len() as u64 >= limit && query.from.is_some() {
                break;
            }
        }
        // Without a start the newest are wanted.
        let surplus = page.entries.len().saturating_sub(query.limit);
        page.entries.drain(..surplus);
        page.next = (at < total).then_some(at);
        Ok(page)
    }

    pub(crate) async fn freeze(
        &self,
        frozen: bool,
        request: FreezeRequest,
    ) -> Result<FreezeState, Problem> {
        let body = json!({
            "schema": "hale.freeze.v1",
            "frozen": frozen,
            "by": request.by,
            "reason": request.reason,
            "at": now(),
        });
        let entry = self.signed(EntryKind::Freeze, &body)?;
        let FreezeRequest { by, reason } = request;
        self.propose(Command::Freeze {
            frozen,
            by,
            reason,
            entry,
        })
        .await?;
        let state = self
            .ledger(Consistency::Linearizable, Self::freeze_state)
            .await?;
        Ok(self.dated(state).await)
    }
}

/// When the latest freeze was written, looked for from the chain's end.
fn frozen_since(chain: &Segments) -> Option<Timestamp> {
    let mut end = chain.len();
    for _ in 0..FREEZE_PAGES {
        let from = end.saturating_sub(PAGE_SCAN);
        let freezes = chain
            .read(from..end)
            .flatten()
            .filter(|e| e.kind == EntryKind::Freeze);
        let bodies = freezes.filter_map(|e| serde_json::from_slice::<Value>(&e.body).ok());
        if let Some(latest) = bodies.filter(|b| b["frozen"] == json!(true)).last() {
            return latest["at"].as_str()?.parse().ok();
        }
        end = from;
    }
    None
}

fn open(incidents: &[Incident]) -> usize {
    incidents
        .iter()
        .filter(|i| i.state == IncidentState::Open)
        .count()
}

fn fits(entry: &Entry, query: &EntryQuery) -> bool {
    let of_incident = |id: &IncidentId| {
        let body: Value = serde_json::from_slice(&entry.body).unwrap_or_default();
        ["incident_id", "incident"]
            .iter()
            .any(|k| body[k].as_str() == Some(id.as_str()))
    };
    query.kind.is_none_or(|k| k == entry.kind) && query.incident.as_ref().is_none_or(of_incident)
}
