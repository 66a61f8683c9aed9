//! How commands ask a node: where it is, the token, and what its answers mean.

use super::{CliError, Globals};
use hale_api::{ErrorBody, ErrorView, Status};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// How long a node may take to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take; a little more than the node's own limit.
const ANSWER: Duration = Duration::from_secs(35);

/// A node to ask.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// What a node leaves in its data directory.
#[derive(Debug, Deserialize)]
struct Announced {
    addr: String,
    token: String,
}

impl Client {
    /// The node that the command line, the environment or the data directory names, in this order.
    pub(crate) fn new(globals: &Globals) -> Result<Self, CliError> {
        let (addr, token) = match (&globals.addr, &globals.token) {
            (Some(addr), Some(token)) => (addr.clone(), token.clone()),
            (Some(addr), None) if !is_this_host(addr) => {
                let what = format!("{addr} is another host, and its token is not known here");
                return Err(CliError::Usage {
                    what,
                    next: "set HALE_TOKEN to its token".into(),
                });
            }
            (addr, token) => {
                let dir = globals
                    .data_dir
                    .clone()
                    .unwrap_or_else(crate::identity::default_data_dir);
                let known = announced(&dir)?;
                (
                    addr.clone().unwrap_or(known.addr),
                    token.clone().unwrap_or(known.token),
                )
            }
        };
        let base = base_url(&addr);
        let mut builder = reqwest::Client::builder();
        if base.starts_with("http://") {
            // Without TLS the system's certificates are neither needed nor asked for: a bare
            // container has none.
            builder = builder.tls_certs_only([]);
        }
        let http = builder
            // A proxy has no business between a host and its own node.
            .no_proxy()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| unreachable(&base, e))?;
        Ok(Self {
            http,
            base,
            token: token.trim().to_owned(),
        })
    }

    /// Reads.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.answer(path, self.request(Method::GET, path)).await
    }

    /// The host that is named, or the node's own.
    pub(super) async fn host(&self, named: Option<String>) -> Result<String, CliError> {
        match named {
            Some(host) => Ok(host),
            None => {
                let status: Status = self.get("/v1/status?consistency=stale").await?;
                Ok(status.host.to_string())
            }
        }
    }

    /// Reads what it finds in a list's field: `{"leases": […]}`.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        field: &str,
    ) -> Result<Vec<T>, CliError> {
        let mut body: Value = self.get(path).await?;
        let items = body.get_mut(field).map(Value::take).unwrap_or_default();
        serde_json::from_value(items).map_err(|e| not_understood(path, &e))
    }

    /// Does something.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.answer(path, self.request(method, path).json(body))
            .await
    }

    /// Follows a stream, piece by piece, for as long as it lasts.
    pub(super) async fn stream(&self, path: &str) -> Result<Stream, CliError> {
        let response = self.sent(self.request(Method::GET, path)).await?;
        Ok(Stream {
            response: accepted(response).await?,
            path: path.to_owned(),
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token)
    }

    async fn sent(&self, request: RequestBuilder) -> Result<Response, CliError> {
        request.send().await.map_err(|e| unreachable(&self.base, e))
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        path: &str,
        request: RequestBuilder,
    ) -> Result<T, CliError> {
        let response = accepted(self.sent(request.timeout(ANSWER)).await?).await?;
        let body = response
            .bytes()
            .await
            .map_err(|e| broken(path, e.without_url()))?;
        serde_json::from_slice(&body).map_err(|e| not_understood(path, &e))
    }
}

fn announced(dir: &Path) -> Result<Announced, CliError> {
    let path = dir.join("api.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(CliError::NoNode(dir.to_owned()));
        }
        Err(source) => {
            return Err(CliError::File {
                done: "read",
                path,
                source,
            });
        }
    };
    serde_json::from_slice(&text).map_err(|e| CliError::File {
        done: "read",
        path,
        source: io::Error::other(e),
    })
}

/// Whether an address is on loopback: a node's token is for that node, and shown to no other.
fn is_this_host(addr: &str) -> bool {
    let url = reqwest::Url::parse(&base_url(addr)).ok();
    let host = url.as_ref().and_then(|u| u.host_str()).unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// `127.0.0.1:7117` and `http://127.0.0.1:7117/` name the same node.
fn base_url(addr: &str) -> String {
    let addr = addr.trim().trim_end_matches('/');
    if addr.contains("://") {
        addr.to_owned()
    } else {
        format!("http://{addr}")
    }
}

/// A part of a path, with everything encoded that could end it (RFC 3986 section 2.3).
pub(super) fn part(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

async fn accepted(response: Response) -> Result<Response, CliError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.bytes().await.unwrap_or_default();
    let error = match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => body.error,
        Err(_) => ErrorView {
            code: "unknown".into(),
            message: format!("something that is no node of Hale answered with {status}"),
            next: "check --addr".into(),
        },
    };
    // The node names the file; this command reads it, unless another token was given.
    let error = match status {
        StatusCode::UNAUTHORIZED => ErrorView {
            next: "leave out --token and HALE_TOKEN to use the one in the data directory, or give the right one".into(),
            ..error
        },
        _ => error,
    };
    Err(CliError::Said {
        status: status.as_u16(),
        error,
    })
}

/// Three layers of a client say that a request failed; only the last says why.
fn unreachable(addr: &str, error: reqwest::Error) -> CliError {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    CliError::Unreachable {
        addr: addr.to_owned(),
        source: io::Error::other(cause.to_string()),
    }
}

fn broken(path: &str, source: impl std::error::Error + Send + Sync + 'static) -> CliError {
    CliError::BrokenOff {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

fn not_understood(path: &str, error: &serde_json::Error) -> CliError {
    let what = format!("it is not what this version of hale expects: {error}");
    broken(path, io::Error::other(what))
}

/// An answer that comes piece by piece.
pub(super) struct Stream {
    response: Response,
    path: String,
}

impl Stream {
    /// The next piece; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, CliError> {
        let piece = self.response.chunk().await;
        let piece = piece.map_err(|e| broken(&self.path, e.without_url()))?;
        Ok(piece.map(|b| b.to_vec()))
    }
}

/// Lines out of pieces.
#[derive(Default)]
pub(super) struct Lines(Vec<u8>);

/// The longest line that is waited for.
const MAX_LINE: usize = 16 << 20;

impl Lines {
    /// The lines that a piece ends.
    pub(super) fn feed(&mut self, piece: &[u8]) -> Vec<Vec<u8>> {
        if self.0.len() + piece.len() > MAX_LINE {
            self.0.clear();
        }
        self.0.extend_from_slice(piece);
        let mut lines: Vec<Vec<u8>> = self.0.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        self.0 = lines.pop().unwrap_or_default();
        lines.retain(|l| !l.is_empty());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_path_can_not_leave_it() {
        assert_eq!(part("inc_1"), "inc_1");
        assert_eq!(part("../x?y#z"), "..%2Fx%3Fy%23z");
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut lines = Lines::default();
        assert!(lines.feed(b"{\"a\"").is_empty());
        assert_eq!(lines.feed(b":1}\n\n{"), [b"{\"a\":1}".to_vec()]);
        assert_eq!(lines.feed(b"}\n"), [b"{}".to_vec()]);
    }

    #[test]
    fn an_address_may_be_given_with_or_without_its_scheme() {
        assert_eq!(base_url("127.0.0.1:7117"), "http://127.0.0.1:7117");
        assert_eq!(base_url("https://node.example/"), "https://node.example");
    }

    #[test]
    fn a_token_is_not_shown_to_another_host() {
        for here in ["127.0.0.1:1", "http://localhost:2/", "[::1]:3", "127.9.9.9"] {
            assert!(is_this_host(here), "{here}");
        }
        for there in [
            "10.0.0.1:1",
            "localhost.example",
            "http://127.0.0.1@evil.example",
            "",
        ] {
            assert!(!is_this_host(there), "{there}");
        }
        let globals = Globals {
            addr: Some("node.example:1".into()),
            ..Globals::default()
        };
        assert!(matches!(Client::new(&globals), Err(CliError::Usage { .. })));
    }

    #[test]
    fn a_data_directory_without_a_node_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(announced(dir.path()), Err(CliError::NoNode(_))));
        std::fs::write(dir.path().join("api.json"), "{").unwrap();
        assert!(matches!(announced(dir.path()), Err(CliError::File { .. })));
        std::fs::write(
            dir.path().join("api.json"),
            r#"{"addr":"127.0.0.1:1","token":"t"}"#,
        )
        .unwrap();
        assert_eq!(announced(dir.path()).unwrap().addr, "127.0.0.1:1");
    }
}
