//! One request answered in-process: how a node answers what another member forwarded to it. The
//! same routes, limits and checks as at the listener; token and host were checked where the request
//! came in, and between members the connection itself says who asks.

use crate::backend::Backend;
use crate::call::{Api, MAX_BODY_BYTES};
use crate::guard::Door;
use crate::problem::{Code, Problem};
use crate::routes;
use crate::server::MAX_HEAD_BYTES;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::uri::PathAndQuery;
use axum::http::{Method, Request, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Body as _;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The largest piece of a streamed answer, in bytes: what a frame between members holds.
pub const MAX_PIECE_BYTES: usize = 64 << 10;
/// How many pieces wait for whoever takes them.
const QUEUE: usize = 16;

/// The API without a listener. Cloning shares it, its places for requests at once too; they are
/// not those of the listener, so members that forward to each other can't use up one another's.
#[derive(Clone)]
pub struct Internal(TowerToHyperService<Router>);

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body's media type.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer that comes in pieces: the HTTP status, the body's media type, and the body in pieces
/// of at most [`MAX_PIECE_BYTES`]. An error piece says that the body was broken off, and is the
/// last.
pub type InternalStream = (u16, String, mpsc::Receiver<Result<Vec<u8>, String>>);

impl std::fmt::Debug for Internal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Internal")
    }
}

impl Internal {
    /// Over a backend that answers by itself. Streams end when `stopping` turns true.
    pub fn new(backend: Arc<dyn Backend>, stopping: watch::Receiver<bool>) -> Self {
        let api = Arc::new(Api::new(backend, Door::Member, stopping));
        Self(TowerToHyperService::new(routes::router(api)))
    }

    /// Answers one request, `path_and_query` as it stands in a request's line. What goes wrong is
    /// an answer too, in the shape of every error; so is an answer of more than `limit_bytes`. One
    /// that follows events never ends: it is for [`Self::call_streaming`].
    pub async fn call(
        &self,
        method: &str,
        path_and_query: &str,
        body: Vec<u8>,
        limit_bytes: usize,
    ) -> InternalAnswer {
        let answer = self.answer(method, path_and_query, body).await;
        match whole(answer, limit_bytes).await {
            Ok(answer) => answer,
            // An error's text is a few hundred bytes: whatever the limit was, it is told.
            Err(problem) => whole(problem.into_response(), MAX_BODY_BYTES)
                .await
                .unwrap_or_else(|problem| InternalAnswer {
                    status: problem.code.status().as_u16(),
                    content_type: String::new(),
                    body: Vec::new(),
                }),
        }
    }

    /// Answers one request piece by piece, for bodies without a bound: the export, the backup, the
    /// live events. Dropping the receiver ends it.
    pub async fn call_streaming(
        &self,
        method: &str,
        path_and_query: &str,
        body: Vec<u8>,
    ) -> InternalStream {
        let answer = self.answer(method, path_and_query, body).await;
        let (status, content_type) = (answer.status().as_u16(), media_of(&answer));
        let (to, pieces) = mpsc::channel(QUEUE);
        tokio::spawn(hand_on(answer.into_body(), to));
        (status, content_type, pieces)
    }

    async fn answer(&self, method: &str, path_and_query: &str, body: Vec<u8>) -> Response {
        match request(method, path_and_query, body) {
            Ok(request) => match self.0.call(request).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            },
            Err(problem) => problem.into_response(),
        }
    }
}

fn request(method: &str, path_and_query: &str, body: Vec<u8>) -> Result<Request<Body>, Problem> {
    let bad = |what: &str| {
        let next = "GET /openapi.json lists every path and its methods";
        Problem::new(Code::BadRequest, what, next)
    };
    if path_and_query.len() > MAX_HEAD_BYTES || !path_and_query.starts_with('/') {
        return Err(bad("the path does not begin with / or is too long"));
    }
    let path = PathAndQuery::try_from(path_and_query)
        .map_err(|_| bad("the path holds what a path can't"))?;
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| bad("the method is not a word"))?;
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(path);
    Ok(request)
}

fn media_of(answer: &Response) -> String {
    let media = answer.headers().get(header::CONTENT_TYPE);
    let media = media.and_then(|v| v.to_str().ok());
    media.unwrap_or_default().to_owned()
}

async fn whole(answer: Response, limit_bytes: usize) -> Result<InternalAnswer, Problem> {
    let (status, content_type) = (answer.status().as_u16(), media_of(&answer));
    let mut body = answer.into_body();
    let mut all = Vec::new();
    while let Some(piece) = next(&mut body).await {
        let piece = piece.map_err(Problem::internal)?;
        if piece.len() > limit_bytes - all.len() {
            return Err(Problem::new(
                Code::TooLarge,
                format!("the answer is over the limit of {limit_bytes} bytes"),
                "ask for less with limit=, or ask the node itself",
            ));
        }
        all.extend_from_slice(&piece);
    }
    Ok(InternalAnswer {
        status,
        content_type,
        body: all,
    })
}

async fn hand_on(mut body: Body, to: mpsc::Sender<Result<Vec<u8>, String>>) {
    loop {
        let piece = tokio::select! {
            piece = next(&mut body) => piece,
            () = to.closed() => return,
        };
        match piece {
            Some(Ok(piece)) => {
                for part in piece.chunks(MAX_PIECE_BYTES) {
                    if to.send(Ok(part.to_vec())).await.is_err() {
                        return;
                    }
                }
            }
            Some(Err(why)) => {
                to.send(Err(why)).await.ok();
                return;
            }
            None => return,
        }
    }
}

/// The next bytes of a body; none at its end.
async fn next(body: &mut Body) -> Option<Result<Bytes, String>> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await? {
            Ok(frame) => match frame.into_data() {
                Ok(piece) => return Some(Ok(piece)),
                // Trailers say nothing here.
                Err(_) => continue,
            },
            Err(error) => return Some(Err(error.to_string())),
        }
    }
}
