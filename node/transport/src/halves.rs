//! A stream as plain bytes, for what brings frames of its own.

use crate::stream::Busy;
use quinn::{RecvStream, SendStream};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the peer sends. Dropping it tells the peer to send no more.
pub struct ReadHalf {
    recv: RecvStream,
    _link: Arc<Busy>,
}

impl ReadHalf {
    pub(crate) fn new(recv: RecvStream, link: Arc<Busy>) -> Self {
        Self { recv, _link: link }
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buf)
    }
}

/// What we send. Dropping it says that no more comes.
pub struct WriteHalf {
    send: SendStream,
    _link: Arc<Busy>,
}

impl WriteHalf {
    pub(crate) fn new(send: SendStream, link: Arc<Busy>) -> Self {
        Self { send, _link: link }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}
