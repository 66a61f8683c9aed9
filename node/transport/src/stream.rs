//! Frames on a stream, bounded: one is refused before it is read if it is not ours to read.
//! After its first frames a stream may also become plain bytes ([`Stream::into_halves`]).

use crate::config::Lane;
use crate::counters::{Counters, count};
use crate::error::TransportError;
use crate::halves::{ReadHalf, WriteHalf};
use crate::link::{Link, lost};
use hale_model::NodeId;
use hale_model::wire::{self, FRAME_HEADER_BYTES, WireError};
use quinn::{ReadExactError, RecvStream, SendStream, VarInt};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::OwnedSemaphorePermit;

/// How much of a frame is made room for before it has come.
const FIRST_ROOM: usize = 32 << 10;
/// Once so much of a frame has come, there is room for all of it.
const LARGE: usize = 512 << 10;
/// Why a stream is given up, on the wire.
const REFUSED: VarInt = VarInt::from_u32(1);

/// Makes room for what has come: twice as much as before, and once that much has come that copies
/// would count, for all of the frame. Its pages are taken only as they are filled.
fn grow(bytes: &mut Vec<u8>, more: usize, whole: usize) {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let room = match needed > LARGE {
            true => whole,
            false => needed.max(2 * bytes.capacity()).min(whole),
        };
        bytes.reserve_exact(room.saturating_sub(bytes.len()));
    }
}

/// A frame as it came: its header was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Vec<u8>,
    kind: u8,
}

impl Frame {
    /// What the payload is.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[FRAME_HEADER_BYTES..]
    }

    /// The whole frame, with its header.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A link that a stream is open on: it counts as busy until this is dropped.
pub(crate) struct Busy(Link);

impl Busy {
    fn new(link: Link) -> Self {
        link.streams.fetch_add(1, Ordering::Relaxed);
        Self(link)
    }
}

impl Deref for Busy {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Frames in both directions, to one peer.
pub struct Stream {
    link: Busy,
    send: SendStream,
    recv: RecvStream,
    /// Whether the peer opened it, and so decides how many there are.
    is_accepted: bool,
    /// Held while what came last is large: until it is answered, or the next frame is read.
    room: Option<OwnedSemaphorePermit>,
}

impl Stream {
    /// One that this end opened.
    pub(crate) fn opened(link: Link, send: SendStream, recv: RecvStream) -> Self {
        Self {
            link: Busy::new(link),
            send,
            recv,
            is_accepted: false,
            room: None,
        }
    }

    /// One that the peer opened.
    pub(crate) fn accepted(link: Link, send: SendStream, recv: RecvStream) -> Self {
        Self {
            is_accepted: true,
            ..Self::opened(link, send, recv)
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.link.peer
    }

    /// On which lane it came.
    pub fn lane(&self) -> Lane {
        self.link.lane
    }

    /// Its number: the same at both ends, and never another stream's on this connection.
    pub fn id(&self) -> u64 {
        self.send.id().into()
    }

    /// The connection it is on.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Sends a payload as a frame.
    ///
    /// # Errors
    /// If it is over the limit or the connection ended.
    pub async fn send(&mut self, kind: u8, payload: &[u8]) -> Result<(), TransportError> {
        self.send_frame(&wire::frame(kind, self.link.cluster, payload)?)
            .await
    }

    /// Sends a frame that was made before.
    ///
    /// # Errors
    /// If it is not one of this cluster within the limit, or the connection ended.
    pub async fn send_frame(&mut self, frame: &[u8]) -> Result<(), TransportError> {
        let header = wire::frame_header(frame, self.link.cluster, self.link.send_limit)?;
        if frame.len() != FRAME_HEADER_BYTES + header.len {
            return Err(WireError::Short.into());
        }
        self.send.write_all(frame).await.map_err(lost)?;
        count(&self.link.counters.frames_out);
        Ok(())
    }

    /// Says that no more frames come from this end.
    pub fn finish(&mut self) {
        // It fails only if it was finished or reset before.
        let _ = self.send.finish();
    }

    /// The next frame; none if the peer has said its last.
    ///
    /// # Errors
    /// If what comes is not a frame of this cluster and version within the limit: it is counted
    /// and the stream given up. If the connection ended.
    pub async fn recv(&mut self) -> Result<Option<Frame>, TransportError> {
        let mut head = [0; FRAME_HEADER_BYTES];
        match self.recv.read_exact(&mut head).await {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
            Err(ReadExactError::FinishedEarly(_)) => return Err(self.refuse(WireError::Short)),
            Err(ReadExactError::ReadError(e)) => return Err(lost(e)),
        }
        let header = match wire::frame_header(&head, self.link.cluster, self.link.frame_limit) {
            Ok(header) => header,
            Err(e) => return Err(self.refuse(e)),
        };
        self.room = None;
        if self.is_accepted && header.len > FIRST_ROOM {
            // Else a peer could have all its streams hold a frame that never ends. What this node
            // asks for itself needs no such room: it knows how much that is.
            self.room = self.link.large.clone().acquire_owned().await.ok();
        }
        let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + header.len.min(FIRST_ROOM));
        bytes.extend_from_slice(&head);
        let whole = FRAME_HEADER_BYTES + header.len;
        while bytes.len() < whole {
            match self
                .recv
                .read_chunk(whole - bytes.len(), true)
                .await
                .map_err(lost)?
            {
                Some(chunk) => {
                    grow(&mut bytes, chunk.bytes.len(), whole);
                    bytes.extend_from_slice(&chunk.bytes);
                }
                None => return Err(self.refuse(WireError::Short)),
            }
        }
        count(&self.link.counters.frames_in);
        Ok(Some(Frame {
            bytes,
            kind: header.kind,
        }))
    }

    /// Gives up frames: from here on the stream is plain bytes, without limits of ours. The
    /// connection counts as busy until both halves are dropped.
    pub fn into_halves(self) -> (ReadHalf, WriteHalf) {
        let link = Arc::new(self.link);
        (
            ReadHalf::new(self.recv, link.clone()),
            WriteHalf::new(self.send, link),
        )
    }

    fn refuse(&mut self, why: WireError) -> TransportError {
        let counters: &Counters = &self.link.counters;
        count(match why {
            WireError::ForeignCluster(_) => &counters.frames_foreign,
            WireError::Version(_) => &counters.frames_version,
            WireError::TooLarge { .. } => &counters.frames_oversized,
            _ => &counters.frames_malformed,
        });
        // Both fail only if the stream has ended anyway.
        let _ = self.recv.stop(REFUSED);
        let _ = self.send.reset(REFUSED);
        why.into()
    }
}
