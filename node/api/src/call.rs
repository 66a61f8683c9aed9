//! One request on its way through: admitted, limited, handed to its handler, answered.

use crate::ask::{Checked, Consistency};
use crate::backend::Backend;
use crate::guard::Door;
use crate::meter::Meter;
use crate::problem::{Code, Problem};
use crate::routes::{Access, Pace, Route, ValueKind};
use crate::view::{ErrorBody, ErrorView};
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, RawPathParamsRejection};
use axum::extract::{FromRequest, Query, RawPathParams, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// The largest body accepted.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;
/// Requests worked on at once; more are told to come again.
const MAX_IN_FLIGHT: usize = 64;
/// Clients that follow a stream at once.
const MAX_STREAMS: usize = 64;

/// What all requests share.
pub(crate) struct Api {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) meter: Meter,
    pub(crate) door: Door,
    in_flight: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    /// Turns true when the node stops: streams end.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Api {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        door: Door,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            backend,
            meter: Meter::default(),
            door,
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            stopping,
        }
    }
}

/// A request that was admitted.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) headers: HeaderMap,
    path: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
    body: Bytes,
}

/// Admits a request, runs its handler under the route's time limit, and answers.
pub(crate) async fn dispatch(
    route: &'static Route,
    api: Arc<Api>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let begun = Instant::now();
    let answered = answer(route, &api, path, request).await;
    let response = answered.unwrap_or_else(IntoResponse::into_response);
    api.meter
        .count(route.path, response.status().as_u16(), begun.elapsed());
    response
}

async fn answer(
    route: &'static Route,
    api: &Arc<Api>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Result<Response, Problem> {
    if route.access == Access::Token {
        api.door.check_token(request.headers())?;
    }
    let query = known_query(route, request.uri())?;
    // The open routes are not counted: a busy node is still a healthy one.
    let permit = match route.access {
        Access::Open => None,
        Access::Token => Some(api.in_flight.clone().try_acquire_owned().map_err(|_| {
            Problem::unavailable("too many requests at once", "try again in a second")
        })?),
    };
    let path = path.map_err(|_| {
        let next = "write it as UTF-8, percent-encoded";
        Problem::new(Code::BadRequest, "a part of the path is not UTF-8", next)
    })?;
    let path = path
        .iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let late = || {
        let limit = route.pace.limit().as_secs();
        Problem::new(
            Code::TimedOut,
            format!("no answer within {limit} s"),
            "hale status shows what the node is busy with; then try again",
        )
    };
    let headers = request.headers().clone();
    let begun = Instant::now();
    let body = tokio::time::timeout(route.pace.limit(), read_body(route, request));
    let body = body.await.map_err(|_| late())??;
    let call = Call {
        api: api.clone(),
        headers,
        path,
        query,
        body,
    };
    let left = route.pace.limit().saturating_sub(begun.elapsed());
    // On a task of its own: a handler that panics is an error of this request, and a client that
    // hangs up does not cut a write in two.
    let task = tokio::spawn(async move {
        let _permit = permit;
        tokio::time::timeout(left, (route.handler)(call)).await
    });
    match task.await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Err(late()),
        Err(_) => Err(Problem::internal("the request's handler failed")),
    }
}

async fn read_body(route: &'static Route, request: Request) -> Result<Bytes, Problem> {
    let Some(wanted) = &route.body else {
        return Ok(Bytes::new());
    };
    let media = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let media = media.map(|m| m.split(';').next().unwrap_or(m).trim().to_ascii_lowercase());
    if wanted.media == "application/json"
        && media.as_deref().is_some_and(|m| m != "application/json")
    {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            format!(
                "the body is `{}`, JSON is wanted",
                media.unwrap_or_default()
            ),
            "add the header content-type: application/json",
        ));
    }
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|n| n > MAX_BODY_BYTES as u64) {
        return Err(too_large());
    }
    Bytes::from_request(request, &())
        .await
        .map_err(|rejection: BytesRejection| {
            if rejection.status().as_u16() == Code::TooLarge.status().as_u16() {
                too_large()
            } else {
                Problem::new(
                    Code::BadRequest,
                    "the body could not be read to its end",
                    "send it again",
                )
            }
        })
}

fn too_large() -> Problem {
    Problem::new(
        Code::TooLarge,
        format!("the body is over the limit of {MAX_BODY_BYTES} bytes"),
        "send less; a playbook can be checked on disk with hale playbook lint FILE",
    )
}

fn known_query(route: &Route, uri: &Uri) -> Result<BTreeMap<String, String>, Problem> {
    let known = || {
        let names: Vec<_> = route.query.iter().map(|p| p.name).collect();
        match names.is_empty() {
            true => "this path takes no query parameters".to_owned(),
            false => format!("known here: {}", names.join(", ")),
        }
    };
    let bad = |message| Problem::new(Code::BadRequest, message, known());
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| bad("the query is not name=value&…".into()))?;
    let mut query = BTreeMap::new();
    for (name, value) in pairs {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
        let Some(parameter) = route.query.iter().find(|p| p.name == name) else {
            return Err(bad(format!("unknown query parameter `{shown}`")));
        };
        if let Some(wanted) = parameter.kind.unlike(&value) {
            return Err(bad(format!("`{shown}` has to be {wanted}")));
        }
        if query.insert(name, value).is_some() {
            return Err(bad(format!("`{shown}` is given twice")));
        }
    }
    Ok(query)
}

impl ValueKind {
    /// What a value should have been, if it is not.
    fn unlike(self, value: &str) -> Option<String> {
        match self {
            Self::Text if value.len() > 512 || value.chars().any(char::is_control) => {
                Some("a text of at most 512 bytes".into())
            }
            Self::Integer { min, max } => match value.parse::<u64>() {
                Ok(n) if (min..=max).contains(&n) => None,
                _ if max == u64::MAX => Some(format!("a whole number from {min}")),
                _ => Some(format!("a whole number from {min} to {max}")),
            },
            Self::OneOf(words) if !words.contains(&value) => Some(words.join(" or ")),
            // `?follow` alone says yes.
            Self::Flag if !["", "true", "false", "1", "0"].contains(&value) => {
                Some("true or false".into())
            }
            _ => None,
        }
    }
}

impl Call {
    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.api.backend
    }

    /// A part of the path, as the noun it names.
    pub(crate) fn part<T: FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<T, Problem> {
        let text = self.path.get(name).map_or("", String::as_str);
        text.parse().map_err(|e: T::Err| {
            Problem::new(
                Code::BadRequest,
                e.to_string(),
                format!("correct {{{name}}} in the path"),
            )
        })
    }

    /// A query parameter as it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A query parameter as the noun it names.
    pub(crate) fn noun<T: FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Problem> {
        let parsed = self.text(name).map(str::parse).transpose();
        parsed.map_err(|e: T::Err| {
            Problem::new(Code::BadRequest, e.to_string(), format!("correct `{name}`"))
        })
    }

    /// A number, checked against the route's table before.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), Some("" | "true" | "1"))
    }

    pub(crate) fn consistency(&self) -> Consistency {
        match self.text("consistency") {
            Some("stale") => Consistency::Stale,
            _ => Consistency::Linearizable,
        }
    }

    /// The body as it was sent.
    pub(crate) fn body_text(&self) -> Result<String, Problem> {
        String::from_utf8(self.body.to_vec()).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            Problem::new(
                Code::BadRequest,
                format!("the body is not UTF-8: byte {at} is the first that is not"),
                "send it as UTF-8",
            )
        })
    }

    /// The body as JSON: broken JSON is a 400, a field that is unknown, missing or wrong a 422.
    pub(crate) fn body<T: DeserializeOwned + Checked>(&self) -> Result<T, Problem> {
        let value: T = serde_json::from_slice(&self.body).map_err(|e| {
            let code = match e.classify() {
                serde_json::error::Category::Data => Code::Invalid,
                _ => Code::BadRequest,
            };
            let next = "GET /openapi.json shows the body's shape";
            Problem::new(code, format!("the body can't be read: {e}"), next)
        })?;
        value.check()?;
        Ok(value)
    }

    /// Answers with JSON; a stale answer says how old it is.
    pub(crate) fn json<T: Serialize>(&self, value: &T) -> Result<Response, Problem> {
        let mut response = axum::Json(value).into_response();
        if self.consistency() == Consistency::Stale {
            let age = millis(self.backend().ledger_age());
            let headers = response.headers_mut();
            headers.insert(
                HeaderName::from_static("hale-consistency"),
                HeaderValue::from_static("stale"),
            );
            headers.insert(
                HeaderName::from_static("hale-age-ms"),
                HeaderValue::from(age),
            );
        }
        Ok(response)
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: ErrorView {
                code: self.code.as_str().into(),
                message: self.message,
                next: self.next,
            },
        };
        let mut response = (self.code.status(), axum::Json(body)).into_response();
        let headers = response.headers_mut();
        match self.code {
            Code::Unauthorized => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"hale\""),
                );
            }
            Code::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl Pace {
    /// How long a handler may take until its answer begins.
    pub(crate) const fn limit(self) -> Duration {
        match self {
            Self::Quick | Self::Stream => Duration::from_secs(30),
            Self::Long => Duration::from_secs(600),
        }
    }
}
