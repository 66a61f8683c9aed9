//! What the demo asks of a node, as any other client does.

use crate::demo::DemoError;
use hale_model::Happening;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client of one node.
#[derive(Clone)]
pub(super) struct Asker {
    http: reqwest::Client,
    root: String,
    token: String,
}

/// A client without a node.
///
/// # Errors
/// If there can be none.
pub(super) fn client() -> Result<reqwest::Client, DemoError> {
    let client = reqwest::Client::builder()
        .no_proxy()
        // Plain HTTP on loopback needs no certificate authorities, which a bare machine lacks.
        .tls_certs_only([]);
    client.build().map_err(failed("(client)"))
}

fn failed(path: &str) -> impl Fn(reqwest::Error) -> DemoError + '_ {
    move |source| DemoError::Node {
        path: path.to_owned(),
        source,
    }
}

impl Asker {
    pub(super) fn new(http: reqwest::Client, addr: SocketAddr) -> Self {
        Self {
            http,
            root: format!("http://{addr}"),
            token: String::new(),
        }
    }

    /// The token that the node made for itself.
    pub(super) fn know(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    /// Where it answers.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The page to look at, with the token in its fragment: a browser does not send it on.
    pub(super) fn page(&self) -> String {
        format!("{}/#token={}", self.root, self.token)
    }

    pub(super) async fn is_ready(&self) -> bool {
        let asked = self.http.get(format!("{}/readyz", self.root));
        let ready = asked.timeout(PATIENCE).send().await;
        ready.is_ok_and(|r| r.status().is_success())
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, DemoError> {
        let request = self.http.get(format!("{}{path}", self.root));
        self.answer(path, request).await
    }

    /// The same, again and again for a while: around a change of the leader a node may be unable.
    pub(super) async fn get_within(&self, path: &str, bound: Duration) -> Result<Value, DemoError> {
        let began = tokio::time::Instant::now();
        loop {
            match self.get(path).await {
                Err(_) if began.elapsed() < bound => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                answered => return answered,
            }
        }
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, DemoError> {
        let request = self.http.post(format!("{}{path}", self.root)).json(body);
        self.answer(path, request).await
    }

    async fn answer(
        &self,
        path: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<Value, DemoError> {
        let request = request.bearer_auth(&self.token).timeout(PATIENCE);
        let response = request.send().await.and_then(|r| r.error_for_status());
        let response = response.map_err(failed(path))?;
        response.json().await.map_err(failed(path))
    }

    /// One of its metrics, if it has a single value.
    pub(super) async fn metric(&self, name: &str) -> Result<Option<f64>, DemoError> {
        let path = "/metrics";
        let request = self.http.get(format!("{}{path}", self.root));
        let request = request.bearer_auth(&self.token).timeout(PATIENCE);
        let response = request.send().await.and_then(|r| r.error_for_status());
        let text = response.map_err(failed(path))?.text().await;
        let text = text.map_err(failed(path))?;
        let values = text.lines().filter_map(|l| l.split_once(' '));
        let found = values.into_iter().find(|(n, _)| *n == name);
        Ok(found.and_then(|(_, value)| value.parse().ok()))
    }

    /// Follows what happens there.
    pub(super) async fn follow(&self) -> Result<Events, DemoError> {
        let path = "/v1/events?follow=true";
        let request = self.http.get(format!("{}{path}", self.root));
        let response = request.bearer_auth(&self.token).send().await;
        let response = response.and_then(|r| r.error_for_status());
        Ok(Events {
            response: response.map_err(failed(path))?,
            buffer: Vec::new(),
        })
    }
}

/// A node's event stream.
pub(super) struct Events {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Events {
    /// The next happening. Nothing is lost if it is given up.
    pub(super) async fn next(&mut self) -> Result<Happening, DemoError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Ok(happening) = serde_json::from_slice(&line) {
                    return Ok(happening);
                }
                continue;
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(failed("/v1/events"))? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Err(DemoError::Failed("the node ended its event stream".into())),
            }
        }
    }
}
