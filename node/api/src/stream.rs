//! A response body fed line by line by a task: the chain's export, the live events.

use axum::body::Body;
use hyper::body::{Bytes, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// How many pieces wait for a slow client before its feeder waits too.
const QUEUE: usize = 16;
/// A client that takes nothing for this long is let go.
const STALLED: Duration = Duration::from_secs(60);

/// Where the feeder puts its pieces.
pub(crate) struct Pieces(mpsc::Sender<Result<Bytes, Broken>>);

/// The body ended before its end: the connection is closed without the last chunk, so a client
/// can't take a part for the whole.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the stream was broken off: {0}")]
pub(crate) struct Broken(pub(crate) String);

impl Pieces {
    /// Hands on one piece. `false` if the client is gone or takes nothing any more.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) -> bool {
        let sent = tokio::time::timeout(STALLED, self.0.send(Ok(piece.into())));
        matches!(sent.await, Ok(Ok(())))
    }

    /// Breaks the body off.
    pub(crate) async fn break_off(&self, why: String) {
        tokio::time::timeout(STALLED, self.0.send(Err(Broken(why))))
            .await
            .ok();
    }

    /// When the client is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

struct Lines(mpsc::Receiver<Result<Bytes, Broken>>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Broken;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0
            .poll_recv(cx)
            .map(|piece| piece.map(|p| p.map(Frame::data)))
    }
}

/// A body and where its pieces go.
pub(crate) fn channel() -> (Pieces, Body) {
    let (pieces, lines) = mpsc::channel(QUEUE);
    (Pieces(pieces), Body::new(Lines(lines)))
}
