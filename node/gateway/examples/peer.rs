//! One node of a test: an endpoint on loopback with a gateway, told what to do on standard input,
//! a line for a line. Process groups and the registry of actors are global to a process, so
//! several nodes are several processes.
//!
//! `peer SEED ROSTER [ADDR] [CLAIM]`: seeds are numbers, the roster's are joined by commas; CLAIM
//! is the seed of the node that it says it is.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a part of a test: what fails, fails the test that reads its output"
)]

use hale_gateway::{FRAME_KIND, Gateway, GatewayError, Limits, Question};
use hale_model::port::port;
use hale_model::{Keypair, NodeId};
use hale_transport::{Arrivals, Config, Endpoint, Lane, Peer, Trust};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;

const CLUSTER: u64 = 0xfeed;

fn key(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

fn node(seed: &str) -> NodeId {
    key(seed.parse().unwrap()).node_id()
}

/// Answers with what was asked, or does what it says.
async fn answer(question: Question) -> Vec<u8> {
    let text = String::from_utf8_lossy(&question.bytes).into_owned();
    match text.split_once(' ') {
        Some(("big", n)) => vec![b'y'; n.parse().unwrap()],
        Some(("sleep", ms)) => {
            tokio::time::sleep(Duration::from_millis(ms.parse().unwrap())).await;
            b"slept".to_vec()
        }
        _ if text == "never" => std::future::pending().await,
        _ if text == "break" => panic!("as asked"),
        _ => format!("{} heard {text}", question.from.short()).into_bytes(),
    }
}

#[derive(Clone)]
struct Asker {
    gateway: Gateway,
    endpoint: Endpoint,
}

impl Asker {
    async fn ask(
        &self,
        node: NodeId,
        addr: SocketAddr,
        bytes: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, GatewayError> {
        let open = || async {
            let link = self.endpoint.link(Peer { node, addr }, Lane::Main).await?;
            link.open().await
        };
        self.gateway.ask(node, open, bytes, timeout).await
    }

    /// Asks `n` times, `width` at once, and says how long it took.
    async fn many(&self, node: NodeId, addr: SocketAddr, n: usize, width: usize) -> String {
        let (left, answered) = (Arc::new(AtomicUsize::new(n)), AtomicUsize::new(0));
        let answered = Arc::new(answered);
        let start = Instant::now();
        let mut tasks = vec![];
        for _ in 0..width {
            let (asker, left, answered) = (self.clone(), left.clone(), answered.clone());
            tasks.push(tokio::spawn(async move {
                let take = |n: usize| n.checked_sub(1);
                while left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                    .is_ok()
                {
                    let timeout = Duration::from_secs(20);
                    match asker.ask(node, addr, b"hi".to_vec(), timeout).await {
                        Ok(_) => drop(answered.fetch_add(1, Ordering::SeqCst)),
                        Err(e) => eprintln!("{}", told(&e)),
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let answered = answered.load(Ordering::SeqCst);
        format!("ok {answered} {}", start.elapsed().as_micros())
    }
}

fn told(error: &dyn Error) -> String {
    let cause = error.source().map(|e| format!(": {}", told(e)));
    format!("{error}{}", cause.unwrap_or_default())
}

fn told_of(result: Result<Vec<u8>, GatewayError>) -> String {
    match result {
        Ok(bytes) => {
            let start = &bytes[..bytes.len().min(60)];
            format!("ok {} {}", bytes.len(), String::from_utf8_lossy(start))
        }
        Err(e) => format!("err {}", told(&e)),
    }
}

fn hand_on(mut arrivals: Arrivals, gateway: Gateway) {
    tokio::spawn(async move {
        while let Some(mut stream) = arrivals.streams.recv().await {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                if let Ok(Some(frame)) = stream.recv().await
                    && frame.kind() == FRAME_KIND
                {
                    gateway.accept(stream);
                }
            });
        }
    });
}

async fn obey(asker: &Asker, line: &str) -> String {
    let words: Vec<&str> = line.splitn(5, ' ').collect();
    match words[..] {
        ["ask", seed, addr, ms, text] => {
            let (addr, ms) = (addr.parse().unwrap(), ms.parse().unwrap());
            let timeout = Duration::from_millis(ms);
            let asked = asker.ask(node(seed), addr, text.as_bytes().to_vec(), timeout);
            told_of(asked.await)
        }
        ["long", seed, addr, bytes] => {
            let bytes = vec![b' '; bytes.parse().unwrap()];
            let timeout = Duration::from_secs(10);
            let asked = asker.ask(node(seed), addr.parse().unwrap(), bytes, timeout);
            told_of(asked.await)
        }
        ["many", seed, addr, n, width] => {
            let (n, width) = (n.parse().unwrap(), width.parse().unwrap());
            let addr = addr.parse().unwrap();
            asker.many(node(seed), addr, n, width).await
        }
        ["forget", seed] => {
            asker.gateway.forget(&node(seed));
            "ok".to_owned()
        }
        ["sessions"] => format!("ok {}", asker.gateway.sessions()),
        ["counts"] => format!("ok {:?}", asker.gateway.counts()),
        ["stop"] => {
            asker.gateway.stop().await;
            format!("ok {}", asker.gateway.sessions())
        }
        _ => format!("err what is {line:?}?"),
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let own = key(args[0].parse().unwrap());
    let roster: Vec<NodeId> = args[1].split(',').map(node).collect();
    let bind = args.get(2).map_or("127.0.0.1:0", String::as_str);
    let me = args.get(3).map_or(own.node_id(), |seed| node(seed));
    let config = Config {
        key: own,
        cluster: CLUSTER,
        bind: bind.parse().unwrap(),
        trust: Trust {
            roster: Arc::new(move |id| roster.contains(id)),
            joins: Arc::new(|| false),
        },
        limits: hale_transport::Limits::default(),
    };
    let (endpoint, arrivals) = Endpoint::bind(config).unwrap();
    let limits = Limits {
        answering: Duration::from_secs(2),
        idle: Duration::from_secs(3),
        ..Limits::default()
    };
    let gateway = Gateway::start(me, [7; 32], port(answer), limits)
        .await
        .unwrap();
    hand_on(arrivals, gateway.clone());
    println!("{}", endpoint.local_addr().unwrap());
    let asker = Asker { gateway, endpoint };
    let line = || std::io::stdin().lines().next();
    while let Ok(Some(Ok(line))) = spawn_blocking(line).await {
        println!("{}", obey(&asker, &line).await);
    }
    asker.gateway.stop().await;
    asker.endpoint.close().await;
}
