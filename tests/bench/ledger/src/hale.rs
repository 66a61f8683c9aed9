//! Nodes of the ledger as the product builds them: the log, the chain and the state on disk, one
//! QUIC port each. Who writes is a node, as in the product: it signs, and forwards to the leader.

use crate::{load, seconds};
use hale_audit::archive::Options;
use hale_consensus::{Config, Consensus, Lane, Peer, PeerTransport, SegmentChain, TransportError};
use hale_model::ledger::{Answer, Command, EntryKind, Signed};
use hale_model::port::Later;
use hale_model::{HostName, Keypair, NodeId, canonical};
use hale_transport::{Endpoint, Limits, Stream, Trust};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

const GROUP: u8 = 3;
const CLUSTER: u64 = 7;
const BODY_BYTES: usize = 256;

fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n + 1; 32])
}

fn addr(n: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port + u16::from(n)).into()
}

fn host(n: u8) -> HostName {
    HostName::new(format!("host-{n}")).unwrap()
}

fn peer(n: u8, port: u16) -> Peer {
    Peer {
        node: key(n).node_id(),
        addr: addr(n, port).to_string(),
    }
}

/// The product's way between nodes, without gossip: everybody is where it was said.
struct Wires(Endpoint);

impl PeerTransport for Wires {
    fn ask(
        &self,
        to: Peer,
        lane: Lane,
        frame: Vec<u8>,
        timeout: Duration,
    ) -> Later<Result<Vec<u8>, TransportError>> {
        let endpoint = self.0.clone();
        Box::pin(async move {
            let unreachable = |why: String| TransportError::Unreachable {
                peer: to.node.short(),
                why,
            };
            let addr = to.addr.parse().map_err(|_| unreachable(to.addr.clone()))?;
            let peer = hale_transport::Peer {
                node: to.node,
                addr,
            };
            let lane = match lane {
                Lane::Urgent => hale_transport::Lane::Main,
                Lane::Bulk => hale_transport::Lane::Bulk,
            };
            let asked = endpoint.ask(peer, lane, &frame, timeout).await;
            asked.map_err(|e| match e {
                hale_transport::TransportError::TimedOut(_) => TransportError::TimedOut,
                e => TransportError::Lost {
                    peer: to.node.short(),
                    why: e.to_string(),
                },
            })
        })
    }
}

async fn start(n: u8, port: u16, dir: &Path, net: &Handle) -> Arc<Consensus> {
    let on_net = net.enter();
    let roster: Vec<NodeId> = (0..GROUP).map(|n| key(n).node_id()).collect();
    let (endpoint, mut arrivals) = Endpoint::bind(hale_transport::Config {
        key: key(n),
        cluster: CLUSTER,
        bind: addr(n, port),
        trust: Trust {
            roster: Arc::new(move |node| roster.contains(node)),
            joins: Arc::new(|| false),
        },
        limits: Limits::default(),
    })
    .unwrap();
    drop(on_net);
    let chain = SegmentChain::open(&dir.join("chain"), Options::default()).unwrap();
    let mut config = Config::new(dir.join("ledger"), key(n), CLUSTER, host(n));
    config.addr = addr(n, port).to_string();
    config.threads = Some(net.clone());
    let node = Consensus::start(config, Arc::new(chain), Arc::new(Wires(endpoint)))
        .await
        .unwrap();
    let node = Arc::new(node);
    let serving = Arc::clone(&node);
    net.spawn(async move {
        while let Some(stream) = arrivals.streams.recv().await {
            tokio::spawn(serve(Arc::clone(&serving), stream));
        }
    });
    net.spawn(async move { while arrivals.datagrams.recv().await.is_some() {} });
    node
}

async fn serve(node: Arc<Consensus>, mut stream: Stream) {
    let Ok(Some(frame)) = stream.recv().await else {
        return;
    };
    let reply = node.serve(stream.peer(), &frame.into_bytes()).await;
    if stream.send_frame(&reply).await.is_ok() {
        stream.finish();
    }
}

fn signed(kind: EntryKind, by: &Keypair, body: &serde_json::Value) -> Signed {
    Signed::new(kind, canonical::to_bytes(body).unwrap(), by)
}

/// Runs a node, which does what its input says until it is killed. The first one founds the
/// cluster and gives the others their seats, then says so.
pub async fn node(n: u8, port: u16, dir: &Path, net: &Handle) {
    let node = start(n, port, &dir.join(n.to_string()), net).await;
    if n == 0 {
        form(&node, port).await;
        println!("formed");
    }
    let (say, mut said) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            say.blocking_send(line.unwrap()).unwrap();
        }
    });
    while let Some(line) = said.recv().await {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["leads"] => println!("leads: {}", node.metrics().leads),
            ["load", clients, time, file] => {
                let (clients, time) = (clients.parse().unwrap(), seconds(time));
                load(&node, n, clients, time, Path::new(file)).await;
            }
            _ => panic!("not understood: {line}"),
        }
    }
}

async fn form(node: &Consensus, port: u16) {
    node.found().await.unwrap();
    for n in 1..GROUP {
        let enrol = Command::Enrol {
            node: key(n).node_id(),
            host: host(n),
            entry: signed(
                EntryKind::Enrolment,
                &key(0),
                &serde_json::json!({ "enrol": n }),
            ),
        };
        assert_done(&node.propose(enrol).await.unwrap());
        node.add_learner(peer(n, port)).await.unwrap();
    }
    let voters: Vec<_> = (0..GROUP).map(|n| key(n).node_id()).collect();
    node.set_voters(&voters).await.unwrap();
}

fn assert_done(answer: &Answer) {
    assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
}

/// Writes signed records through node `n`.
async fn load(node: &Arc<Consensus>, n: u8, clients: usize, time: Duration, file: &Path) {
    let run = file.file_name().unwrap().to_string_lossy().into_owned();
    let (node, by) = (Arc::clone(node), Arc::new(key(n)));
    load::run(clients, time, file, move |client, number| {
        let (node, by) = (Arc::clone(&node), Arc::clone(&by));
        let what = format!("{run}/{client}/{number:010}");
        async move {
            let entry = record(&by, &what);
            assert_done(&node.propose(Command::Append { entry }).await.unwrap());
        }
    })
    .await;
}

/// A record with a body of [`BODY_BYTES`].
fn record(by: &Keypair, what: &str) -> Signed {
    let frame = r#"{"what":""}"#.len();
    let text = format!("{what:x<width$}", width = BODY_BYTES - frame);
    let entry = signed(EntryKind::Record, by, &serde_json::json!({ "what": text }));
    assert_eq!(entry.body.len(), BODY_BYTES);
    entry
}
