//! A client that speaks raw HTTP to a real listener.

use crate::fake::Fake;
use hale_api::{ApiConfig, Token, bind};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

pub(crate) const TOKEN: &str = "a-token-of-the-test";

/// A node with its API on a real port.
pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) served: tokio::task::JoinHandle<()>,
}

pub(crate) async fn node() -> Node {
    let listen = "127.0.0.1:0".parse().unwrap();
    let token = Token::new(TOKEN, "/var/lib/hale/api.token");
    let server = bind(ApiConfig { listen, token }).await.unwrap();
    let (addr, (stop, stopping)) = (server.addr(), watch::channel(false));
    let fake = Arc::new(Fake::default());
    let served = tokio::spawn(server.serve(fake.clone(), stopping));
    Node {
        addr,
        fake,
        stop,
        served,
    }
}

/// An answer: status, head, body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Node {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends bytes as they are and reads until the node closes.
    pub(crate) async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        // A node that refuses early may close before it read all.
        stream.write_all(request).await.ok();
        let mut all = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut all));
        read.await.expect("the node answers and closes").ok();
        parse(&all)
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> Answer {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        if let Some(token) = token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        if !body.is_empty() {
            head += &format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            );
        }
        self.raw(format!("{head}\r\n{body}").as_bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Some(TOKEN), "").await
    }
    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, Some(TOKEN), body).await
    }
}

fn parse(all: &[u8]) -> Answer {
    let end = all
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap_or_else(|| {
            panic!("no head in {:?}", String::from_utf8_lossy(all));
        });
    let head = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
    let body = &all[end + 4..];
    let body = if head.contains("transfer-encoding: chunked") {
        dechunk(body)
    } else {
        body.to_vec()
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body }
}

/// RFC 9112 section 7.1; what was broken off lacks its last chunk, which `head` can't tell.
fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        let len =
            usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap().trim(), 16).unwrap();
        if len == 0 || rest.len() < at + 2 + len {
            break;
        }
        out.extend_from_slice(&rest[at + 2..at + 2 + len]);
        rest = rest.get(at + 4 + len..).unwrap_or_default();
    }
    out
}
