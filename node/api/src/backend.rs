//! What the node answers with. The API knows this trait and nothing of the actors behind it.

use crate::ask::{
    AnswerRequest, BaselineQuery, ByRequest, Consistency, CreateTokenRequest, EntryQuery,
    ExcludeRequest, FreezeRequest, IncidentQuery, MemberName, RemoveRequest, RunRequest,
    SetBudgetRequest, StatesRequest, TransferRequest,
};
use crate::events::Feed;
use crate::metrics::Family;
use crate::problem::Problem;
use crate::view::{
    BudgetView, EntryPage, Excluded, ExecutionView, FindingView, FreezeState, Gathered, HostView,
    IncidentRow, IncidentView, LeaderView, MemberView, NewToken, PlaybookRow, PlaybookView,
    Readiness, RunView, SeriesView, States, Status, TokenView, Verification, VotersView, WaitView,
    Why,
};
use hale_model::chain::Entry;
use hale_model::ledger::{Approval, Lease, SharedLease};
use hale_model::port::Later;
use hale_model::{ApprovalId, HostName, IncidentId, PlaybookName, Reading, SeriesKey};
use std::time::Duration;
use tokio::sync::mpsc;

/// An answer that comes later, or why there is none.
pub type Reply<T> = Later<Result<T, Problem>>;

/// A node, as its API sees it. Every call is under a time limit; a call whose time ran out is
/// dropped.
pub trait Backend: Send + Sync + 'static {
    /// Whether the node does its work, and if not, why.
    fn readiness(&self) -> Later<Readiness>;

    /// The node at a glance.
    fn status(&self, consistency: Consistency) -> Reply<Status>;

    /// The hosts this node knows.
    fn hosts(&self, consistency: Consistency) -> Reply<Vec<HostView>>;

    /// The latest snapshot of a host: `{host, environment, tags, metrics: {…}}`.
    fn telemetry(&self, host: HostName) -> Reply<serde_json::Value>;

    /// The latest readings of a host with the baselines they were held against, by series.
    fn baselines(&self, host: HostName, query: BaselineQuery) -> Reply<Vec<Reading>>;

    /// One series of a host: its last readings, what was anomalous, and why it is judged as it is.
    fn series(&self, host: HostName, series: SeriesKey) -> Reply<SeriesView>;

    /// What a host's baselines know of some series, as states for a host of the same role.
    fn states(&self, host: HostName, request: StatesRequest) -> Reply<States>;

    /// Excludes a period of a host from what is normal.
    fn exclude(&self, host: HostName, request: ExcludeRequest) -> Reply<Excluded>;

    /// Incidents, newest first.
    fn incidents(&self, query: IncidentQuery) -> Reply<Gathered<IncidentRow>>;

    /// One incident with all that belongs to it.
    fn incident(&self, id: IncidentId, consistency: Consistency) -> Reply<IncidentView>;

    /// Why an incident was treated as it was.
    fn why(&self, id: IncidentId, consistency: Consistency) -> Reply<Why>;

    /// The approvals that wait, oldest first.
    fn approvals(&self, consistency: Consistency) -> Reply<Vec<Approval>>;

    /// A human's answer to one of them. Returns the approval as it stands afterwards.
    fn answer(&self, id: ApprovalId, approve: bool, request: AnswerRequest) -> Reply<Approval>;

    /// The playbooks, by name.
    fn playbooks(&self, consistency: Consistency) -> Reply<Vec<PlaybookRow>>;

    /// One playbook with its text.
    fn playbook(&self, name: PlaybookName, consistency: Consistency) -> Reply<PlaybookView>;

    /// Starts a playbook by hand, or with `dry_run` only settles its plan.
    fn run(&self, name: PlaybookName, request: RunRequest) -> Reply<RunView>;

    /// What is wrong with a playbook's text; empty if nothing is.
    fn lint(&self, text: String) -> Reply<Vec<FindingView>>;

    /// The leases that are not closed, by fence.
    fn leases(&self, consistency: Consistency) -> Reply<Vec<Lease>>;

    /// The shared leases, by fence.
    fn looks(&self, consistency: Consistency) -> Reply<Vec<SharedLease>>;

    /// The runs that wait for a lease, in the order in which they will be served.
    fn waiting(&self, consistency: Consistency) -> Reply<Vec<WaitView>>;

    /// The executions that run now.
    fn executions(&self, consistency: Consistency) -> Reply<Gathered<ExecutionView>>;

    /// A page of the chain.
    fn entries(&self, query: EntryQuery) -> Reply<EntryPage>;

    /// One entry of the chain.
    fn entry(&self, index: u64, consistency: Consistency) -> Reply<Entry>;

    /// The whole chain as JSON lines, each with its newline; an error item breaks the export off,
    /// so that a client never takes a part for the whole.
    fn export(&self) -> Reply<mpsc::Receiver<Result<Vec<u8>, Problem>>>;

    /// Verifies the whole chain: links, signatures, root.
    fn verify(&self) -> Reply<Verification>;

    /// Whether execution is frozen.
    fn freeze_state(&self, consistency: Consistency) -> Reply<FreezeState>;

    /// Freezes or thaws. Returns the state afterwards.
    fn freeze(&self, frozen: bool, request: FreezeRequest) -> Reply<FreezeState>;

    /// All who are on the roster, removed ones too, by host.
    fn members(&self, consistency: Consistency) -> Reply<Vec<MemberView>>;

    /// Takes a member off the roster: it is shut out everywhere. Returns it as it is afterwards.
    fn remove_member(&self, member: MemberName, request: RemoveRequest) -> Reply<MemberView>;

    /// Takes this node out of the cluster. Returns it as it is afterwards.
    fn leave(&self, request: RemoveRequest) -> Reply<MemberView>;

    /// The Raft group as its leader knows it, or, where nobody leads, as this node knows it: it is
    /// looked at most when there is no leader.
    fn voters(&self) -> Reply<VotersView>;

    /// Who leads, as far as this node knows.
    fn leader(&self) -> Reply<LeaderView>;

    /// Hands the lead to another voter. Returns who leads afterwards.
    fn transfer_leadership(&self, request: TransferRequest) -> Reply<LeaderView>;

    /// The join tokens, by the time they expire.
    fn tokens(&self, consistency: Consistency) -> Reply<Vec<TokenView>>;

    /// Makes a join token.
    fn create_token(&self, request: CreateTokenRequest) -> Reply<NewToken>;

    /// Takes a join token back. Returns it as it was.
    fn revoke_token(&self, id: String, request: ByRequest) -> Reply<TokenView>;

    /// The budgets, by name.
    fn budgets(&self, consistency: Consistency) -> Reply<Vec<BudgetView>>;

    /// Sets a budget, in place of one of the same name. Returns it as it is afterwards.
    fn set_budget(&self, request: SetBudgetRequest) -> Reply<BudgetView>;

    /// Takes a budget away. Returns it as it was.
    fn remove_budget(&self, name: String, request: ByRequest) -> Reply<BudgetView>;

    /// The ledger's state and the chain as one file, piece by piece; an error item breaks it off.
    fn backup(&self) -> Reply<mpsc::Receiver<Result<Vec<u8>, Problem>>>;

    /// What happens, live.
    fn feed(&self) -> Feed;

    /// The node's metrics; the API adds its own.
    fn metrics(&self) -> Later<Vec<Family>>;

    /// How long ago this node last knew that its ledger's state was the group's.
    fn ledger_age(&self) -> Duration;
}
