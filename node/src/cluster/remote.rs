//! A request that another node answers: the node of the host it is about, or one of the group that
//! holds the chain. It is forwarded once; whoever gets it answers by itself.

use super::Shared;
use hale_api::{Code, ErrorBody, ErrorView, Internal, Problem};
use hale_model::{NodeId, wire};
use hale_transport::{Lane, Stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::mpsc;

/// A stream that carries a request of the API.
pub(super) const API: u8 = 0x31;
const HEAD: u8 = 0x32;
const PIECE: u8 = 0x33;
const BROKEN: u8 = 0x34;
/// How long the other node may take to begin its answer, and between two pieces of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is taken whole.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Pieces that wait for a slow client.
const PIECES: usize = 16;

/// A request as it is forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query, as it stands in a request's line.
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

/// An answer as it comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET".into(),
            path: path.into(),
            body: Vec::new(),
        }
    }

    pub(crate) fn post(path: impl Into<String>, body: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(body).map_err(|e| Problem::internal(e.to_string()))?;
        Ok(Self {
            method: "POST".into(),
            path: path.into(),
            body,
        })
    }
}

impl Answered {
    /// The value in it, or the problem.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        if (200..300).contains(&self.status) {
            return serde_json::from_slice(&self.body).map_err(|e| {
                Problem::unavailable(
                    format!("what the other node answered is not understood: {e}"),
                    "hale members shows whether it runs another version",
                )
            });
        }
        Err(self.problem())
    }

    fn problem(&self) -> Problem {
        let code = Code::ALL
            .into_iter()
            .find(|c| c.status().as_u16() == self.status);
        match serde_json::from_slice::<ErrorBody>(&self.body) {
            Ok(body) => Problem::new(
                code.unwrap_or(Code::Internal),
                body.error.message,
                body.error.next,
            ),
            Err(_) => Problem::unavailable(
                format!("the other node answered {} without a word", self.status),
                "hale members",
            ),
        }
    }
}

fn unreachable(node: &NodeId, why: impl std::fmt::Display) -> Problem {
    Problem::unavailable(
        format!("node {} does not answer: {why}", node.short()),
        "hale members shows who is alive; ?consistency=stale asks nobody",
    )
}

impl Shared {
    async fn open_api(&self, node: NodeId, request: &Request) -> Result<Stream, Problem> {
        let peer = self
            .wires
            .find(node, "")
            .ok_or_else(|| unreachable(&node, "nobody knows where it is"))?;
        let opened = async {
            let link = self.wires.endpoint.link(peer, Lane::Bulk).await?;
            let mut stream = link.open().await?;
            let bytes = wire::encode(request)?;
            stream.send(API, &bytes).await?;
            stream.finish();
            Ok::<_, hale_transport::TransportError>(stream)
        };
        let opened = tokio::time::timeout(PATIENCE, opened).await;
        let opened = opened.map_err(|_| unreachable(&node, "no answer in time"))?;
        opened.map_err(|e| unreachable(&node, e))
    }

    /// Has a node answer, and takes the whole answer.
    pub(crate) async fn forward(
        &self,
        node: NodeId,
        request: &Request,
    ) -> Result<Answered, Problem> {
        let mut pieces = self.forward_streaming(node, request).await?;
        let status = pieces.status;
        let mut body = Vec::new();
        while let Some(piece) = pieces.body.recv().await {
            body.extend_from_slice(&piece?);
            if body.len() > MAX_ANSWER_BYTES {
                return Err(Problem::new(
                    Code::TooLarge,
                    format!("the answer is over the limit of {MAX_ANSWER_BYTES} bytes"),
                    "ask for less with limit=, or ask that node itself",
                ));
            }
        }
        Ok(Answered { status, body })
    }

    /// Has a node answer, piece by piece.
    pub(crate) async fn forward_streaming(
        &self,
        node: NodeId,
        request: &Request,
    ) -> Result<Pieces, Problem> {
        let mut stream = self.open_api(node, request).await?;
        let head = tokio::time::timeout(PATIENCE, stream.recv()).await;
        let head = head.map_err(|_| unreachable(&node, "no answer in time"))?;
        let head = head.map_err(|e| unreachable(&node, e))?;
        let status = head
            .filter(|f| f.kind() == HEAD)
            .and_then(|f| wire::decode::<u16>(f.payload()).ok())
            .ok_or_else(|| unreachable(&node, "it refused the question"))?;
        let (send, body) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            loop {
                let piece = match tokio::time::timeout(PATIENCE, stream.recv()).await {
                    Ok(Ok(None)) => return,
                    Ok(Ok(Some(frame))) if frame.kind() == PIECE => Ok(frame.payload().to_vec()),
                    Ok(Ok(Some(frame))) => {
                        let why = String::from_utf8_lossy(frame.payload()).into_owned();
                        Err(unreachable(&node, why))
                    }
                    Ok(Err(e)) => Err(unreachable(&node, e)),
                    Err(_) => Err(unreachable(&node, "its answer broke off")),
                };
                let is_last = piece.is_err();
                if send.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Pieces { status, body })
    }
}

impl Shared {
    /// A live question to a host's own node.
    pub(crate) async fn live(
        &self,
        node: NodeId,
        request: &Request,
        within: Duration,
    ) -> Result<Answered, Problem> {
        let gateway = self
            .gateway
            .get()
            .ok_or_else(|| unreachable(&node, "this node is still starting"))?;
        // A question may be put twice; what changes something is put once, over a stream.
        if request.method != "GET" {
            let asked = tokio::time::timeout(PATIENCE, self.forward(node, request)).await;
            return asked.unwrap_or_else(|_| Err(unreachable(&node, "no answer in time")));
        }
        let bytes = wire::encode(request).map_err(|e| Problem::internal(e.to_string()))?;
        let open = || async {
            let peer = self.wires.find(node, "").ok_or_else(|| {
                hale_transport::TransportError::Lost("nobody knows where it is".into())
            })?;
            self.wires
                .endpoint
                .link(peer, Lane::Main)
                .await?
                .open()
                .await
        };
        let answer = gateway.ask(node, open, bytes, within).await;
        let answer = answer.map_err(|e| unreachable(&node, e))?;
        wire::decode(&answer).map_err(|e| unreachable(&node, e))
    }
}

/// An answer that comes in pieces.
pub(crate) struct Pieces {
    pub(crate) status: u16,
    pub(crate) body: mpsc::Receiver<Result<Vec<u8>, Problem>>,
}

/// What a member may have this node do for a user of another's. All else a user asks of the node
/// itself, or the ledger decides, which knows who signed it: a member that lies must not have others
/// sign for it, or leave.
fn may_ask(request: &Request) -> bool {
    let path = request.path.split('?').next().unwrap_or_default();
    let is_run = || {
        let name = path.strip_prefix("/v1/playbooks/")?.strip_suffix("/run")?;
        (!name.contains('/')).then_some(())
    };
    // What is normal on a host: a sister asks, or an operator keeps a bad period out.
    let is_of_baselines = || {
        let (host, what) = path.strip_prefix("/v1/hosts/")?.split_once("/baselines/")?;
        let is_known = matches!(what, "states" | "exclude");
        (is_known && !host.is_empty() && !host.contains('/')).then_some(())
    };
    match request.method.as_str() {
        "GET" => true,
        "POST" => {
            path == "/v1/leader/transfer" || is_run().is_some() || is_of_baselines().is_some()
        }
        _ => false,
    }
}

fn not_for_members() -> Answered {
    let problem = Problem::refused(
        "a node does this for its own users only",
        "ask the node itself",
    );
    let body = ErrorBody {
        error: ErrorView {
            code: problem.code.as_str().into(),
            message: problem.message,
            next: problem.next,
        },
    };
    Answered {
        status: problem.code.status().as_u16(),
        body: serde_json::to_vec(&body).unwrap_or_default(),
    }
}

/// Answers a request that a member forwarded.
pub(super) async fn serve(shared: &Shared, internal: &Internal, mut stream: Stream, asked: &[u8]) {
    let Ok(request) = wire::decode::<Request>(asked) else {
        return shared.counters.unknown_stream();
    };
    if !may_ask(&request) {
        shared.counters.unknown_stream();
        let answered = not_for_members();
        if let Ok(head) = wire::encode(&answered.status)
            && stream.send(HEAD, &head).await.is_ok()
            && stream.send(PIECE, &answered.body).await.is_ok()
        {
            stream.finish();
        }
        return;
    }
    let answer = internal.call_streaming(&request.method, &request.path, request.body);
    let (status, _, mut pieces) = answer.await;
    let Ok(head) = wire::encode(&status) else {
        return;
    };
    if stream.send(HEAD, &head).await.is_err() {
        return;
    }
    while let Some(piece) = pieces.recv().await {
        let sent = match piece {
            Ok(piece) => stream.send(PIECE, &piece).await,
            Err(why) => stream.send(BROKEN, why.as_bytes()).await,
        };
        if sent.is_err() {
            return;
        }
    }
    stream.finish();
}

/// Answers a live question that came by an actor's call.
pub(super) async fn answer(internal: &Internal, asked: &[u8]) -> Vec<u8> {
    let answered = match wire::decode::<Request>(asked) {
        Ok(r) if !may_ask(&r) => not_for_members(),
        Ok(r) => {
            let answer = internal
                .call(&r.method, &r.path, r.body, MAX_ANSWER_BYTES - 1024)
                .await;
            Answered {
                status: answer.status,
                body: answer.body,
            }
        }
        Err(_) => Answered {
            status: 400,
            body: Vec::new(),
        },
    };
    wire::encode(&answered).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_others_answer_questions_and_do_what_is_forwarded() {
        let may = |method: &str, path: &str| {
            may_ask(&Request {
                method: method.into(),
                path: path.into(),
                body: vec![],
            })
        };
        assert!(may("GET", "/v1/status") && may("GET", "/v1/hosts/a/telemetry?x=1"));
        assert!(may("POST", "/v1/leader/transfer") && may("POST", "/v1/playbooks/x/run"));
        assert!(may("POST", "/v1/hosts/a/baselines/states"));
        assert!(may("POST", "/v1/hosts/a/baselines/exclude"));
        for (method, path) in [
            ("POST", "/v1/leave"),
            ("POST", "/v1/tokens"),
            ("POST", "/v1/freeze"),
            ("DELETE", "/v1/freeze"),
            ("POST", "/v1/approvals/x/approve"),
            ("POST", "/v1/members/x/remove"),
            ("POST", "/v1/playbooks/x/../y/run"),
            ("POST", "/v1/hosts/a/b/baselines/states"),
            ("POST", "/v1/hosts//baselines/states"),
            ("POST", "/v1/hosts/a/baselines/x"),
            ("get", "/v1/status"),
            ("", ""),
        ] {
            assert!(!may(method, path), "{method} {path}");
        }
    }
}
