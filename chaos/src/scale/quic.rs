//! What the port costs: a handshake, a question with its answer, a datagram, over QUIC on loopback
//! with the product's own endpoints.

use super::{ScaleError, cpu};
use hale_model::{Keypair, wire};
use hale_transport::{Arrivals, Config, Endpoint, Lane, Limits, Peer, TransportError, Trust};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const CLUSTER: u64 = 7;
/// So many of each are measured.
const DIALS: usize = 64;
const QUESTIONS: usize = 4_000;
const DATAGRAMS: usize = 4_000;
/// About what a few commands have.
const FRAME_BYTES: usize = 2_048;
const PACKET_BYTES: usize = 300;
const PATIENCE: Duration = Duration::from_secs(10);

/// The CPU time of one end, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Quic {
    /// A handshake, with the verification of the other's key.
    pub handshake_us: f64,
    /// A question of some bytes, and its answer.
    pub question_us: f64,
    /// A gossip packet sent, or taken.
    pub datagram_us: f64,
    /// The most connections that a node keeps.
    pub max_connections: usize,
}

fn endpoint(n: u8) -> Result<(Endpoint, Arrivals), TransportError> {
    let trust = Trust {
        roster: Arc::new(|_| true),
        joins: Arc::new(|| false),
    };
    Endpoint::bind(Config {
        key: Keypair::from_seed(&[n; 32]),
        cluster: CLUSTER,
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        trust,
        limits: Limits::default(),
    })
}

/// Measures them.
///
/// # Errors
/// If the system gives no port or threads, or an endpoint does not answer.
pub fn measure() -> Result<Quic, ScaleError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(all())?)
}

async fn all() -> Result<Quic, TransportError> {
    let (server, mut arrivals) = endpoint(1)?;
    let peer = Peer {
        node: server.node(),
        addr: server.local_addr()?,
    };
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(mut stream) = arrivals.streams.recv() => drop(tokio::spawn(async move {
                    while let Ok(Some(frame)) = stream.recv().await {
                        let _ = stream.send(frame.kind(), frame.payload()).await;
                    }
                    stream.finish();
                })),
                Some(_) = arrivals.datagrams.recv() => {}
                else => return,
            }
        }
    });
    let mut clients = vec![];
    for n in 0..DIALS {
        clients.push(endpoint(2 + n as u8)?);
    }
    // Both ends are in this process: each did half of it.
    let each = |began: Duration, count: usize| {
        let took = cpu::of_this_process().saturating_sub(began);
        took.as_secs_f64() * 1e6 / 2.0 / count as f64
    };
    let began = cpu::of_this_process();
    for (client, _) in &clients {
        client.link(peer, Lane::Main).await?;
    }
    let handshake_us = each(began, clients.len());
    let frame = wire::frame(1, CLUSTER, &[7; FRAME_BYTES]);
    let frame = frame.map_err(|e| TransportError::Lost(e.to_string()))?;
    let began = cpu::of_this_process();
    for n in 0..QUESTIONS {
        let (client, _) = &clients[n % clients.len()];
        client.ask(peer, Lane::Main, &frame, PATIENCE).await?;
    }
    let question_us = each(began, QUESTIONS);
    let began = cpu::of_this_process();
    for n in 0..DATAGRAMS {
        let (client, _) = &clients[n % clients.len()];
        client.datagram(peer, 1, &[7; PACKET_BYTES]).await?;
        // Lets the other end, on the same thread, take it.
        tokio::task::yield_now().await;
    }
    let datagram_us = each(began, DATAGRAMS);
    for (client, _) in &clients {
        client.close().await;
    }
    server.close().await;
    Ok(Quic {
        handshake_us,
        question_us,
        datagram_us,
        max_connections: Limits::default().connections,
    })
}
