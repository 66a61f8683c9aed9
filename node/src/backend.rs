//! What the API asks of this node: each call hands over to [`crate::answers`].

use crate::answers::{ASK, Inner, now, silent};
use crate::backup;
use crate::chain;
use crate::cluster::remote::Request;
use hale_api::{
    AnswerRequest, Backend, BaselineQuery, BudgetView, ByRequest, Code, Consistency,
    CreateTokenRequest, EntryPage, EntryQuery, ExcludeRequest, Excluded, ExecutionView, Feed,
    FindingView, FreezeRequest, FreezeState, Gathered, HostView, IncidentQuery, IncidentRow,
    IncidentView, LeaderView, MemberName, MemberView, NewToken, PlaybookRow, PlaybookView, Problem,
    Readiness, RemoveRequest, Reply, RunRequest, RunView, SetBudgetRequest, States, StatesRequest,
    Status, TokenView, TransferRequest, Verification, VotersView, WaitView, Why,
};
use hale_consensus::Ledger;
use hale_model::chain::Entry;
use hale_model::ledger::{Approval, ApprovalState, Lease, SharedLease};
use hale_model::port::Later;
use hale_model::{ApprovalId, HostName, IncidentId, PlaybookName, Reading, SeriesKey};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines of an export that wait for a slow client.
const EXPORT_QUEUE: usize = 64;
/// Pieces of a backup that wait for a slow client.
const BACKUP_QUEUE: usize = 4;

/// The node behind its API: for operators one that asks other nodes too, for other nodes one that
/// answers by itself.
pub(crate) struct NodeBackend {
    node: Arc<Inner>,
    may_ask_others: bool,
}

impl NodeBackend {
    /// What operators talk to.
    pub(crate) fn forwarding(node: &Arc<Inner>) -> Self {
        Self {
            node: Arc::clone(node),
            may_ask_others: true,
        }
    }

    /// What other nodes talk to: a question is forwarded once.
    pub(crate) fn local(node: &Arc<Inner>) -> Self {
        Self {
            node: Arc::clone(node),
            may_ask_others: false,
        }
    }
}

/// Each call takes its own share of the node and runs by itself.
fn later<T: Send + 'static, F>(inner: &Arc<Inner>, f: impl FnOnce(Arc<Inner>) -> F) -> Reply<T>
where
    F: Future<Output = Result<T, Problem>> + Send + 'static,
{
    Box::pin(f(Arc::clone(inner)))
}

impl Backend for NodeBackend {
    fn readiness(&self) -> Later<Readiness> {
        let readiness = self.node.readiness();
        Box::pin(async move { readiness })
    }

    fn status(&self, consistency: Consistency) -> Reply<Status> {
        later(&self.node, |n| async move { n.status(consistency).await })
    }

    fn hosts(&self, _consistency: Consistency) -> Reply<Vec<HostView>> {
        later(&self.node, |n| async move {
            let own = n.own_host().await;
            n.hosts_of_all(own).await
        })
    }

    fn telemetry(&self, host: HostName) -> Reply<Value> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            if let Some(node) = n.node_of(&host)? {
                n.may_ask(may_ask, &host)?;
                let path = format!("/v1/hosts/{host}/telemetry");
                return n.live(node, Request::get(path)).await;
            }
            let snapshot = n
                .slots
                .telemetry
                .ask(ASK, hale_telemetry::Message::Snapshot)
                .await;
            snapshot.ok_or_else(|| silent("telemetry actor"))
        })
    }

    fn baselines(&self, host: HostName, query: BaselineQuery) -> Reply<Vec<Reading>> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            if let Some(node) = n.node_of(&host)? {
                n.may_ask(may_ask, &host)?;
                return n.remote_baselines(node, &host, &query).await;
            }
            n.baselines(query).await
        })
    }

    fn series(&self, host: HostName, series: SeriesKey) -> Reply<hale_api::SeriesView> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            if let Some(node) = n.node_of(&host)? {
                n.may_ask(may_ask, &host)?;
                let series = crate::elsewhere::quoted(&series.to_string());
                let path = format!("/v1/hosts/{host}/series/{series}");
                return n.live(node, Request::get(path)).await;
            }
            n.series(series).await
        })
    }

    fn states(&self, host: HostName, request: StatesRequest) -> Reply<States> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            if let Some(node) = n.node_of(&host)? {
                n.may_ask(may_ask, &host)?;
                let path = format!("/v1/hosts/{host}/baselines/states");
                return n.live(node, Request::post(path, &request)?).await;
            }
            crate::sisters::states(&n, request).await
        })
    }

    fn exclude(&self, host: HostName, request: ExcludeRequest) -> Reply<Excluded> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            if let Some(node) = n.node_of(&host)? {
                n.may_ask(may_ask, &host)?;
                let path = format!("/v1/hosts/{host}/baselines/exclude");
                return n.live(node, Request::post(path, &request)?).await;
            }
            n.exclude(request).await
        })
    }

    fn incidents(&self, query: IncidentQuery) -> Reply<Gathered<IncidentRow>> {
        let asks = self.may_ask_others && query.consistency == Consistency::Linearizable;
        later(&self.node, move |n| async move {
            match asks {
                true => n.all_incidents(query).await,
                false => Ok(n.incidents(query).await?.into()),
            }
        })
    }

    fn incident(&self, id: IncidentId, consistency: Consistency) -> Reply<IncidentView> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            let path = format!("/v1/incidents/{id}");
            match n.incident(id, consistency).await {
                Err(e) if e.code == Code::NotFound && may_ask => {
                    n.whoever_knows(Request::get(path), e).await
                }
                answer => answer,
            }
        })
    }

    fn why(&self, id: IncidentId, _consistency: Consistency) -> Reply<Why> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            let path = format!("/v1/incidents/{id}/why");
            match n.why(id).await {
                Err(e) if e.code == Code::NotFound && may_ask => {
                    n.whoever_knows(Request::get(path), e).await
                }
                answer => answer,
            }
        })
    }

    fn approvals(&self, consistency: Consistency) -> Reply<Vec<Approval>> {
        later(&self.node, |n| async move {
            let waiting = |l: &Ledger| {
                l.approvals()
                    .filter(|a| a.state == ApprovalState::Waiting)
                    .cloned()
                    .collect()
            };
            n.ledger(consistency, waiting).await
        })
    }

    fn answer(&self, id: ApprovalId, approve: bool, request: AnswerRequest) -> Reply<Approval> {
        later(&self.node, |n| async move {
            n.answer(id, approve, request).await
        })
    }

    fn playbooks(&self, consistency: Consistency) -> Reply<Vec<PlaybookRow>> {
        later(&self.node, |n| async move {
            let histories = n.histories(consistency).await?;
            Ok(n.library
                .names()
                .iter()
                .filter_map(|name| n.playbook_row(name, &histories))
                .collect())
        })
    }

    fn playbook(&self, name: PlaybookName, consistency: Consistency) -> Reply<PlaybookView> {
        later(&self.node, |n| async move {
            let unknown = || Problem::not_found("playbook", &name, "hale playbook ls");
            let histories = n.histories(consistency).await?;
            let row = n.playbook_row(&name, &histories).ok_or_else(unknown)?;
            let known = n.library.get(&name).ok_or_else(unknown)?;
            let definition = serde_json::to_value(&known.playbook).unwrap_or_default();
            Ok(PlaybookView {
                row,
                definition,
                text: known.text.clone(),
            })
        })
    }

    fn run(&self, name: PlaybookName, request: RunRequest) -> Reply<RunView> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            if let Some(host) = &request.host
                && let Some(node) = n.node_of(host)?
            {
                n.may_ask(may_ask, host)?;
                let path = format!("/v1/playbooks/{name}/run");
                return n.live(node, Request::post(path, &request)?).await;
            }
            crate::manual::run(&n, name, request).await
        })
    }

    fn lint(&self, text: String) -> Reply<Vec<FindingView>> {
        later(&self.node, |_| async move {
            Ok(crate::library::lint("playbook.yaml", &text))
        })
    }

    fn leases(&self, consistency: Consistency) -> Reply<Vec<Lease>> {
        later(&self.node, |n| async move {
            n.ledger(consistency, |l| l.leases().cloned().collect())
                .await
        })
    }

    fn looks(&self, consistency: Consistency) -> Reply<Vec<SharedLease>> {
        later(&self.node, |n| async move {
            n.ledger(consistency, |l| l.looks().cloned().collect())
                .await
        })
    }

    fn waiting(&self, consistency: Consistency) -> Reply<Vec<WaitView>> {
        later(&self.node, |n| async move { n.waiting(consistency).await })
    }

    fn executions(&self, consistency: Consistency) -> Reply<Gathered<ExecutionView>> {
        let asks = self.may_ask_others && consistency == Consistency::Linearizable;
        later(&self.node, move |n| async move {
            match asks {
                true => n.all_executions().await,
                false => Ok(n.executions().await?.into()),
            }
        })
    }

    fn entries(&self, query: EntryQuery) -> Reply<EntryPage> {
        later(&self.node, |n| async move { n.entries(query).await })
    }

    fn entry(&self, index: u64, consistency: Consistency) -> Reply<Entry> {
        later(&self.node, move |n| async move {
            if consistency == Consistency::Linearizable {
                n.consensus.read(|_| ()).await.map_err(Problem::from)?;
            }
            let range = index..index.saturating_add(1);
            let found = n.chain_entries(range).await?.into_iter().next();
            found.ok_or_else(|| {
                Problem::not_found("entry", index, "hale audit tail shows the latest")
            })
        })
    }

    fn export(&self) -> Reply<mpsc::Receiver<Result<Vec<u8>, Problem>>> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            if !n.consensus.is_seated() && may_ask {
                return n.group_streams(Request::get("/v1/audit/export")).await;
            }
            let segments = n.segments()?;
            let (send, receive) = mpsc::channel(EXPORT_QUEUE);
            tokio::task::spawn_blocking(move || {
                for line in chain::export_lines(&segments, &n.key) {
                    let broken = line.is_err();
                    let line = line.map(String::into_bytes).map_err(|e| {
                        Problem::new(hale_api::Code::Internal, e.to_string(), "hale audit verify")
                    });
                    // A client that has gone ends the export.
                    if send.blocking_send(line).is_err() || broken {
                        return;
                    }
                }
            });
            Ok(receive)
        })
    }

    fn verify(&self) -> Reply<Verification> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            if !n.consensus.is_seated() && may_ask {
                return n.group_answers(Request::get("/v1/audit/verify")).await;
            }
            n.consensus.read(|_| ()).await.map_err(Problem::from)?;
            let segments = n.segments()?;
            let verified = tokio::task::spawn_blocking(move || chain::verify(&segments)).await;
            match verified {
                Ok(Ok(report)) => Ok(report),
                Ok(Err(e)) => Err(Problem::new(
                    hale_api::Code::Internal,
                    e.to_string(),
                    "restore the chain from a backup",
                )),
                Err(_) => Err(silent("verifier")),
            }
        })
    }

    fn freeze_state(&self, consistency: Consistency) -> Reply<FreezeState> {
        later(&self.node, |n| async move {
            let state = n.ledger(consistency, Inner::freeze_state).await?;
            Ok(n.dated(state).await)
        })
    }

    fn freeze(&self, frozen: bool, request: FreezeRequest) -> Reply<FreezeState> {
        later(
            &self.node,
            |n| async move { n.freeze(frozen, request).await },
        )
    }

    fn members(&self, consistency: Consistency) -> Reply<Vec<MemberView>> {
        later(&self.node, |n| async move { n.members(consistency).await })
    }

    fn remove_member(&self, member: MemberName, request: RemoveRequest) -> Reply<MemberView> {
        later(
            &self.node,
            |n| async move { n.remove(member, request).await },
        )
    }

    fn leave(&self, request: RemoveRequest) -> Reply<MemberView> {
        later(&self.node, |n| async move { n.leave(request).await })
    }

    fn voters(&self) -> Reply<VotersView> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            let own = n.voters();
            // How far each voter is only the leader knows.
            let leader = own.leader.filter(|l| *l != n.key.node_id() && may_ask);
            if let (Some(leader), Some(cluster)) = (leader, &n.cluster) {
                let request = Request::get("/v1/voters");
                let asked = cluster.forward(leader, &request);
                if let Ok(Ok(answered)) = tokio::time::timeout(ASK, asked).await
                    && let Ok(told) = answered.read()
                {
                    return Ok(told);
                }
            }
            Ok(own)
        })
    }

    fn leader(&self) -> Reply<LeaderView> {
        later(&self.node, |n| async move { Ok(n.leader()) })
    }

    fn transfer_leadership(&self, request: TransferRequest) -> Reply<LeaderView> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            n.transfer(request, may_ask).await
        })
    }

    fn tokens(&self, consistency: Consistency) -> Reply<Vec<TokenView>> {
        later(&self.node, |n| async move { n.tokens(consistency).await })
    }

    fn create_token(&self, request: CreateTokenRequest) -> Reply<NewToken> {
        later(&self.node, |n| async move { n.create_token(request).await })
    }

    fn revoke_token(&self, id: String, request: ByRequest) -> Reply<TokenView> {
        later(
            &self.node,
            |n| async move { n.revoke_token(id, request).await },
        )
    }

    fn budgets(&self, consistency: Consistency) -> Reply<Vec<BudgetView>> {
        later(&self.node, |n| async move { n.budgets(consistency).await })
    }

    fn set_budget(&self, request: SetBudgetRequest) -> Reply<BudgetView> {
        later(&self.node, |n| async move { n.set_budget(request).await })
    }

    fn remove_budget(&self, name: String, request: ByRequest) -> Reply<BudgetView> {
        later(&self.node, |n| async move {
            n.remove_budget(name, request).await
        })
    }

    fn backup(&self) -> Reply<mpsc::Receiver<Result<Vec<u8>, Problem>>> {
        let may_ask = self.may_ask_others;
        later(&self.node, move |n| async move {
            if !n.consensus.is_seated() && may_ask {
                return n.group_streams(Request::get("/v1/backup")).await;
            }
            let copy = n.consensus.copy().await.map_err(Problem::from)?;
            let segments = n.segments()?;
            let (send, receive) = mpsc::channel(BACKUP_QUEUE);
            tokio::task::spawn_blocking(move || {
                let told = |e: backup::WriteError| {
                    Problem::unavailable(
                        e.to_string(),
                        "try again; hale audit verify checks the chain",
                    )
                };
                // A client that has gone ends the backup.
                let take = |piece| send.blocking_send(Ok(piece)).is_ok();
                let maker = (&n.key, &n.host);
                let written = backup::write(&copy, &segments, n.number, maker, now(), take);
                if let Err(e) = written {
                    let _ = send.blocking_send(Err(told(e)));
                }
            });
            Ok(receive)
        })
    }

    fn feed(&self) -> Feed {
        self.node.feed.clone()
    }

    fn metrics(&self) -> Later<Vec<hale_api::metrics::Family>> {
        let inner = Arc::clone(&self.node);
        Box::pin(async move { crate::node_metrics::families(&inner).await })
    }

    fn ledger_age(&self) -> Duration {
        self.node
            .consensus
            .age()
            .unwrap_or(Duration::from_secs(3600))
    }
}
