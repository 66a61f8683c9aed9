//! How operators reach a node: HTTP routes, the bearer token, limits, live events, metrics, the
//! OpenAPI document and one page. It knows a [`Backend`] and nothing of the actors behind it.
//!
//! [`routes`] is the one table of what there is: the router, the check of query parameters and
//! the OpenAPI document are all made of it, so they can't tell different stories.

mod ask;
mod backend;
mod call;
mod events;
mod guard;
mod handlers;
mod internal;
mod meter;
pub mod metrics;
mod openapi;
mod page;
mod problem;
pub mod routes;
mod server;
mod stream;
mod view;

pub use ask::{
    AnswerRequest, BaselineQuery, ByRequest, Consistency, CreateTokenRequest, EntryQuery,
    ExcludeRequest, FreezeRequest, IncidentFilter, IncidentQuery, MAX_BUDGET, MAX_STATES,
    MAX_TOKEN_SECONDS, MAX_TOKEN_USES, MemberName, RemoveRequest, RunRequest, SetBudgetRequest,
    StatesRequest, TransferRequest,
};
pub use backend::{Backend, Reply};
pub use events::Feed;
pub use guard::Token;
pub use internal::{Internal, InternalAnswer, InternalStream, MAX_PIECE_BYTES};
pub use openapi::document as openapi_document;
pub use problem::{Code, Problem};
pub use server::{ApiConfig, Server, ServerError, bind};
pub use view::{
    ApprovalView, BudgetLimitView, BudgetView, ChainProblem, EntryPage, EntryView, EpisodeView,
    ErrorBody, ErrorView, Excluded, ExecutionView, ExplanationView, FindingView, FreezeState,
    Gathered, HostView, IncidentRow, IncidentView, LeaderView, LeaseView, LedgerStatus,
    MemberState, MemberView, NewToken, PlannedStep, PlaybookRow, PlaybookView, PointView,
    Readiness, RunView, Seat, SeriesView, SharedLeaseView, StateView, States, Status, TokenState,
    TokenView, Verification, VoterView, VotersView, WaitView, Why,
};
