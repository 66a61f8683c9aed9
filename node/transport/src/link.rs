//! One connection to one peer.

use crate::config::{Lane, MAX_DATAGRAM_BYTES};
use crate::counters::{Counters, count};
use crate::error::TransportError;
use crate::pool::Pooled;
use crate::stream::Stream;
use hale_model::NodeId;
use quinn::{Connection, VarInt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Why a connection is closed, on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reason {
    Stopping = 0,
    NotOnRoster = 1,
    MakingRoom = 2,
}

/// A connection to one authenticated peer. Cloning shares it.
#[derive(Clone)]
pub struct Link {
    pub(crate) connection: Connection,
    /// In the order in which connections were put into the pool.
    pub(crate) number: usize,
    pub(crate) peer: NodeId,
    pub(crate) lane: Lane,
    pub(crate) cluster: u64,
    /// The largest frame taken from the peer.
    pub(crate) frame_limit: usize,
    /// The largest frame sent to it: what a stranger may say is less than what it is told.
    pub(crate) send_limit: usize,
    /// Room for a large frame that the peer sends: one at a time, from its header until it is
    /// answered.
    pub(crate) large: Arc<Semaphore>,
    pub(crate) counters: Arc<Counters>,
    /// How many streams are open on it.
    pub(crate) streams: Arc<AtomicUsize>,
}

impl Link {
    /// Who is at the other end: proven by the handshake.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// What it is for.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Where the other end is.
    pub fn remote_addr(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Opens a stream; the peer sees it with the first frame.
    ///
    /// # Errors
    /// If the connection ended.
    pub async fn open(&self) -> Result<Stream, TransportError> {
        let (send, recv) = self.connection.open_bi().await.map_err(lost)?;
        Ok(Stream::opened(self.clone(), send, recv))
    }

    /// Sends a small message that may get lost. `kind` is its first byte.
    ///
    /// # Errors
    /// If it is over [`MAX_DATAGRAM_BYTES`] or the connection ended.
    pub fn datagram(&self, kind: u8, payload: &[u8]) -> Result<(), TransportError> {
        let len = payload.len() + 1;
        if len > MAX_DATAGRAM_BYTES {
            count(&self.counters.datagrams_dropped);
            return Err(TransportError::DatagramTooLarge(len));
        }
        let bytes = [&[kind], payload].concat();
        match self.connection.send_datagram(bytes.into()) {
            Ok(()) => count(&self.counters.datagrams_out),
            Err(e) => {
                count(&self.counters.datagrams_dropped);
                return Err(TransportError::Lost(e.to_string()));
            }
        }
        Ok(())
    }

    /// Bytes that only the two ends of this connection know (RFC 5705): what a token's proof is
    /// bound to, so that it can't be replayed on another.
    ///
    /// # Errors
    /// If the connection has no keys to derive them from.
    pub fn export(&self, label: &[u8]) -> Result<[u8; 32], TransportError> {
        let mut out = [0; 32];
        self.connection
            .export_keying_material(&mut out, label, b"")
            .map_err(|_| TransportError::Lost("its keys can't be exported".into()))?;
        Ok(out)
    }

    /// How many UDP datagrams came over it.
    pub(crate) fn heard(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    /// Sends what the peer acknowledges, and gives what was heard before.
    pub(crate) fn probe(&self) -> u64 {
        let heard = self.heard();
        // It is the acknowledgement that counts: an empty datagram is nothing else to the peer.
        let _ = self.connection.send_datagram(Vec::new().into());
        heard
    }

    pub(crate) fn close(&self, reason: Reason) {
        let text: &[u8] = match reason {
            Reason::Stopping => b"stopping",
            Reason::NotOnRoster => b"not on the roster",
            Reason::MakingRoom => b"making room",
        };
        self.connection.close(VarInt::from_u32(reason as u32), text);
    }
}

impl Pooled for Link {
    fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    fn is_busy(&self) -> bool {
        self.streams.load(Ordering::Relaxed) > 0
    }
}

pub(crate) fn lost(e: impl std::error::Error) -> TransportError {
    let (mut told, mut cause) = (e.to_string(), e.source());
    while let Some(c) = cause {
        told = format!("{told}: {c}");
        cause = c.source();
    }
    TransportError::Lost(told)
}
