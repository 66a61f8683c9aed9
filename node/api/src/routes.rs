//! What a route is, and the router made of their table. The check of query parameters and the
//! OpenAPI document are made of the same table.

mod parts;
mod table;

pub use table::ROUTES;

use crate::call::{Api, Call, dispatch};
use crate::problem::{Code, Problem};
use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{DefaultBodyLimit, RawPathParams, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter};
use hale_model::port::Later;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads.
    Get,
    /// Does something.
    Post,
    /// Takes something back.
    Delete,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody who reaches the listener.
    Open,
    /// Who has the token.
    Token,
}

/// How long the handler may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// 30 s.
    Quick,
    /// 10 min: it reads the whole chain.
    Long,
    /// 30 s until the answer begins; then as long as the client stays.
    Stream,
}

/// What values a query parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Any text, up to 512 bytes.
    Text,
    /// A whole number.
    Integer {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`; the bare name says true.
    Flag,
}

/// A query parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What values it takes.
    pub kind: ValueKind,
    /// What it is for.
    pub about: &'static str,
}

/// What a request carries.
#[derive(Debug, Clone, Copy)]
pub struct BodySpec {
    /// Its media type.
    pub media: &'static str,
    /// Its schema's name.
    pub schema: &'static str,
}

/// What an answer carries.
#[derive(Debug, Clone, Copy)]
pub struct AnswerSpec {
    /// Its media type.
    pub media: &'static str,
    /// Its schema's name.
    pub schema: &'static str,
}

/// What answers a request.
pub(crate) type Handler = fn(Call) -> Later<Result<Response, Problem>>;

/// One method of one path.
pub struct Route {
    /// The method.
    pub verb: Verb,
    /// The path, with its parts in braces.
    pub path: &'static str,
    /// A name for programs.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Who may ask.
    pub access: Access,
    /// How long it may take.
    pub pace: Pace,
    /// The query parameters it knows; others are refused.
    pub query: &'static [Parameter],
    /// What it takes.
    pub body: Option<BodySpec>,
    /// What it answers.
    pub answer: AnswerSpec,
    pub(crate) handler: Handler,
}

impl Verb {
    /// As OpenAPI writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }

    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// The router made of the table.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let mut paths: BTreeMap<&'static str, MethodRouter<Arc<Api>>> = BTreeMap::new();
    for route in ROUTES {
        let handler =
            move |State(api): State<Arc<Api>>,
                  path: Result<RawPathParams, RawPathParamsRejection>,
                  request: Request| { dispatch(route, api, path, request) };
        let methods = paths.remove(route.path).unwrap_or_default();
        paths.insert(route.path, methods.on(route.verb.filter(), handler));
    }
    let mut router = Router::new();
    for (path, methods) in paths {
        router = router.route(path, methods);
    }
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(crate::call::MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(api.clone(), around))
        .with_state(api)
}

/// Around every request, known or not: the host it names, and headers that keep answers private.
async fn around(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let mut response = match api.door.check_host(request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

async fn unknown_path(State(api): State<Arc<Api>>, request: Request) -> Response {
    api.meter.count(
        "none",
        Code::NotFound.status().as_u16(),
        std::time::Duration::ZERO,
    );
    let path: String = request.uri().path().chars().take(80).collect();
    Problem::new(
        Code::NotFound,
        format!("there is nothing at {path}"),
        "GET /openapi.json lists every path; / is a page to look at",
    )
    .into_response()
}

async fn wrong_method(State(api): State<Arc<Api>>, request: Request) -> Response {
    api.meter.count(
        "none",
        Code::MethodNotAllowed.status().as_u16(),
        std::time::Duration::ZERO,
    );
    Problem::new(
        Code::MethodNotAllowed,
        format!("{} is not a method of this path", request.method()),
        "the Allow header names its methods; GET /openapi.json describes them",
    )
    .into_response()
}
