//! What the API asks of this node: each call hands over to [`crate::answers`].

use crate::answers::{ASK, Inner, alone, silent};
use crate::chain;
use hale_api::{
    AnswerRequest, Backend, BaselineQuery, BudgetView, ByRequest, Consistency, CreateTokenRequest,
    EntryPage, EntryQuery, ExecutionView, Feed, FindingView, FreezeRequest, FreezeState, HostView,
    IncidentQuery, IncidentRow, IncidentView, LeaderView, MemberName, MemberView, NewToken,
    PlaybookRow, PlaybookView, Problem, Readiness, RemoveRequest, Reply, RunRequest, RunView,
    SetBudgetRequest, Status, TokenView, TransferRequest, Verification, VotersView, WaitView, Why,
};
use hale_consensus::Ledger;
use hale_model::chain::Entry;
use hale_model::ledger::{Approval, ApprovalState, Lease};
use hale_model::port::Later;
use hale_model::{ApprovalId, HostName, IncidentId, PlaybookName, Reading};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Lines of an export that wait for a slow client.
const EXPORT_QUEUE: usize = 64;

/// The node behind its API.
pub(crate) struct NodeBackend(pub(crate) Arc<Inner>);

/// Each call takes its own share of the node and runs by itself.
fn later<T: Send + 'static, F>(inner: &Arc<Inner>, f: impl FnOnce(Arc<Inner>) -> F) -> Reply<T>
where
    F: Future<Output = Result<T, Problem>> + Send + 'static,
{
    Box::pin(f(Arc::clone(inner)))
}

impl Backend for NodeBackend {
    fn readiness(&self) -> Later<Readiness> {
        let readiness = self.0.readiness();
        Box::pin(async move { readiness })
    }

    fn status(&self, consistency: Consistency) -> Reply<Status> {
        later(&self.0, |n| async move { n.status(consistency).await })
    }

    fn hosts(&self, _consistency: Consistency) -> Reply<Vec<HostView>> {
        later(&self.0, |n| async move { n.hosts().await })
    }

    fn telemetry(&self, host: HostName) -> Reply<Value> {
        later(&self.0, |n| async move {
            n.only_this_host(&host)?;
            let snapshot = n
                .slots
                .telemetry
                .ask(ASK, hale_telemetry::Message::Snapshot)
                .await;
            snapshot.ok_or_else(|| silent("telemetry actor"))
        })
    }

    fn baselines(&self, host: HostName, query: BaselineQuery) -> Reply<Vec<Reading>> {
        later(&self.0, |n| async move {
            n.only_this_host(&host)?;
            n.baselines(query).await
        })
    }

    fn incidents(&self, query: IncidentQuery) -> Reply<Vec<IncidentRow>> {
        later(&self.0, |n| async move { n.incidents(query).await })
    }

    fn incident(&self, id: IncidentId, consistency: Consistency) -> Reply<IncidentView> {
        later(
            &self.0,
            |n| async move { n.incident(id, consistency).await },
        )
    }

    fn why(&self, id: IncidentId, _consistency: Consistency) -> Reply<Why> {
        later(&self.0, |n| async move { n.why(id).await })
    }

    fn approvals(&self, consistency: Consistency) -> Reply<Vec<Approval>> {
        later(&self.0, |n| async move {
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
        later(
            &self.0,
            |n| async move { n.answer(id, approve, request).await },
        )
    }

    fn playbooks(&self, consistency: Consistency) -> Reply<Vec<PlaybookRow>> {
        later(&self.0, |n| async move {
            let histories = n.histories(consistency).await?;
            Ok(n.library
                .names()
                .iter()
                .filter_map(|name| n.playbook_row(name, &histories))
                .collect())
        })
    }

    fn playbook(&self, name: PlaybookName, consistency: Consistency) -> Reply<PlaybookView> {
        later(&self.0, |n| async move {
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
        later(&self.0, |n| async move {
            if let Some(host) = &request.host {
                n.only_this_host(host)?;
            }
            crate::manual::run(&n, name, request).await
        })
    }

    fn lint(&self, text: String) -> Reply<Vec<FindingView>> {
        later(&self.0, |_| async move {
            Ok(crate::library::lint("playbook.yaml", &text))
        })
    }

    fn leases(&self, consistency: Consistency) -> Reply<Vec<Lease>> {
        later(&self.0, |n| async move {
            n.ledger(consistency, |l| l.leases().cloned().collect())
                .await
        })
    }

    fn waiting(&self, _consistency: Consistency) -> Reply<Vec<WaitView>> {
        // Who finds a scope held is refused: nobody stands in line.
        later(&self.0, |_| async { Ok(Vec::new()) })
    }

    fn executions(&self) -> Reply<Vec<ExecutionView>> {
        later(&self.0, |n| async move { n.executions().await })
    }

    fn entries(&self, query: EntryQuery) -> Reply<EntryPage> {
        later(&self.0, |n| async move { n.entries(query).await })
    }

    fn entry(&self, index: u64, consistency: Consistency) -> Reply<Entry> {
        later(&self.0, |n| async move {
            if consistency == Consistency::Linearizable {
                n.consensus.read(|_| ()).await.map_err(Problem::from)?;
            }
            match n.segments()?.read(index..index.saturating_add(1)).next() {
                Some(Ok(entry)) => Ok(entry),
                Some(Err(e)) => Err(Problem::new(
                    hale_api::Code::Internal,
                    e.to_string(),
                    "hale audit verify",
                )),
                None => Err(Problem::not_found(
                    "entry",
                    index,
                    "hale audit tail shows the latest",
                )),
            }
        })
    }

    fn export(&self) -> Reply<mpsc::Receiver<Result<Vec<u8>, Problem>>> {
        later(&self.0, |n| async move {
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
        later(&self.0, |n| async move {
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
        later(&self.0, |n| async move {
            let state = n.ledger(consistency, Inner::freeze_state).await?;
            Ok(n.dated(state).await)
        })
    }

    fn freeze(&self, frozen: bool, request: FreezeRequest) -> Reply<FreezeState> {
        later(&self.0, |n| async move { n.freeze(frozen, request).await })
    }

    fn members(&self, consistency: Consistency) -> Reply<Vec<MemberView>> {
        later(&self.0, |n| async move { n.members(consistency).await })
    }

    fn remove_member(&self, _: MemberName, _: RemoveRequest) -> Reply<MemberView> {
        later(&self.0, |_| async { Err(alone()) })
    }

    fn leave(&self, _: RemoveRequest) -> Reply<MemberView> {
        later(&self.0, |_| async { Err(alone()) })
    }

    fn voters(&self) -> Reply<VotersView> {
        later(&self.0, |n| async move { Ok(n.voters()) })
    }

    fn leader(&self) -> Reply<LeaderView> {
        later(&self.0, |n| async move { Ok(n.leader()) })
    }

    fn transfer_leadership(&self, _: TransferRequest) -> Reply<LeaderView> {
        later(&self.0, |_| async { Err(alone()) })
    }

    fn tokens(&self, _: Consistency) -> Reply<Vec<TokenView>> {
        later(&self.0, |_| async { Err(alone()) })
    }

    fn create_token(&self, _: CreateTokenRequest) -> Reply<NewToken> {
        later(&self.0, |_| async { Err(alone()) })
    }

    fn revoke_token(&self, _: String, _: ByRequest) -> Reply<TokenView> {
        later(&self.0, |_| async { Err(alone()) })
    }

    fn budgets(&self, _: Consistency) -> Reply<Vec<BudgetView>> {
        later(&self.0, |_| async { Err(alone()) })
    }

    fn set_budget(&self, _: SetBudgetRequest) -> Reply<BudgetView> {
        later(&self.0, |_| async { Err(alone()) })
    }

    fn remove_budget(&self, _: String, _: ByRequest) -> Reply<BudgetView> {
        later(&self.0, |_| async { Err(alone()) })
    }

    fn backup(&self) -> Reply<mpsc::Receiver<Result<Vec<u8>, Problem>>> {
        later(&self.0, |_| async { Err(alone()) })
    }

    fn feed(&self) -> Feed {
        self.0.feed.clone()
    }

    fn metrics(&self) -> Later<Vec<hale_api::metrics::Family>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { crate::node_metrics::families(&inner).await })
    }

    fn ledger_age(&self) -> Duration {
        self.0.consensus.confirmed_ago().unwrap_or(Duration::ZERO)
    }
}
