//! A stream's two halves as ractor_cluster gets them: what comes in passes the gate, what goes out
//! is counted, and both end at once when the plug is pulled.

use crate::gate::{Flow, Gate, HEAD_BYTES, Refusal};
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A frame's length comes before it.
const LEN_BYTES: usize = 8;

/// Ends a session from outside: its reader then reads the end, and its writer fails, even one that
/// waits for a peer that takes nothing. ractor_cluster takes its actors down from there.
#[derive(Default)]
pub(crate) struct Plug {
    is_out: AtomicBool,
    wakers: Mutex<[Option<Waker>; 2]>,
}

impl Plug {
    pub(crate) fn pull(&self) {
        self.is_out.store(true, Ordering::SeqCst);
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers
            .iter_mut()
            .filter_map(Option::take)
            .for_each(Waker::wake);
    }

    /// Whether it is out; if not, the task is woken when it is pulled.
    fn poll(&self, half: usize, cx: &Context<'_>) -> bool {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = wakers.get_mut(half) {
            *slot = Some(cx.waker().clone());
        }
        self.is_out.load(Ordering::SeqCst)
    }
}

/// A stream with its gate.
pub(crate) struct Gated<R, W> {
    label: String,
    reader: Reader<R>,
    writer: Writer<W>,
}

impl<R, W> Gated<R, W> {
    /// `label` tells the session apart in ractor_cluster's events. `on_end` is called once: with
    /// what the peer was refused for, if it was.
    pub(crate) fn new(
        label: String,
        (read, write): (R, W),
        (gate, flow): (Gate, Arc<Flow>),
        max_frame: usize,
        plug: Arc<Plug>,
        on_end: impl FnOnce(Option<Refusal>) + Send + 'static,
    ) -> Self {
        let reader = Reader {
            inner: read,
            gate,
            flow: flow.clone(),
            plug: plug.clone(),
            since: Instant::now(),
            max_frame,
            head: Vec::with_capacity(LEN_BYTES + HEAD_BYTES),
            given: 0,
            through: 0,
            refusal: None,
            on_end: Some(Box::new(on_end)),
        };
        let writer = Writer {
            inner: write,
            flow,
            plug,
            head: Vec::with_capacity(LEN_BYTES + HEAD_BYTES),
            left: 0,
        };
        Self {
            label,
            reader,
            writer,
        }
    }
}

impl<R, W> ClusterBidiStream for Gated<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        (Box::new(self.reader), Box::new(self.writer))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

type OnEnd = Box<dyn FnOnce(Option<Refusal>) + Send>;

struct Reader<R> {
    inner: R,
    gate: Gate,
    flow: Arc<Flow>,
    plug: Arc<Plug>,
    since: Instant,
    max_frame: usize,
    /// The length and the head of the frame that comes.
    head: Vec<u8>,
    /// How much of a judged head was given on.
    given: usize,
    /// How much of the frame follows its head.
    through: usize,
    refusal: Option<Refusal>,
    on_end: Option<OnEnd>,
}

impl<R> Reader<R> {
    /// How long the frame is, once that is known.
    fn len(&self) -> Option<u64> {
        self.head
            .first_chunk::<LEN_BYTES>()
            .map(|len| u64::from_be_bytes(*len))
    }

    /// How much of the head is still to come; none means that it can be judged.
    fn missing(&self) -> Result<usize, Refusal> {
        let Some(len) = self.len() else {
            return Ok(LEN_BYTES - self.head.len());
        };
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= self.max_frame)
            .ok_or(Refusal::Frame("too large"))?;
        Ok(LEN_BYTES + len.min(HEAD_BYTES) - self.head.len())
    }

    fn judge(&mut self) -> Result<(), Refusal> {
        let len = self.len().unwrap_or_default() as usize;
        let head = &self.head[LEN_BYTES..];
        self.through = len - head.len();
        self.gate.judge(self.since.elapsed(), len, head, &self.flow)
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads until a head is whole and passed; `false` at the end of the stream.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let missing = match self.missing() {
                Ok(missing) => missing,
                Err(why) => return Poll::Ready(Ok(self.refuse(why))),
            };
            if missing == 0 {
                return Poll::Ready(Ok(match self.judge() {
                    Ok(()) => true,
                    Err(why) => self.refuse(why),
                }));
            }
            let mut room = [0; HEAD_BYTES];
            let mut part = ReadBuf::new(&mut room[..missing.min(HEAD_BYTES)]);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
            if part.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.head.extend_from_slice(part.filled());
        }
    }

    fn refuse(&mut self, why: Refusal) -> bool {
        self.refusal = Some(why);
        self.plug.pull();
        false
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Reader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.plug.poll(0, cx) || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // A judged head goes first, then the rest of its frame; then the next head is read.
        if this.given == 0 && this.through == 0 && !ready!(this.poll_head(cx))? {
            return Poll::Ready(Ok(()));
        }
        if this.given < this.head.len() {
            let n = buf.remaining().min(this.head.len() - this.given);
            buf.put_slice(&this.head[this.given..this.given + n]);
            this.given += n;
        } else {
            let n = buf.remaining().min(this.through);
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(n));
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut part))?;
            let n = part.filled().len();
            buf.advance(n);
            this.through -= n;
        }
        if this.given == this.head.len() && this.through == 0 {
            this.head.clear();
            this.given = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<R> Drop for Reader<R> {
    fn drop(&mut self) {
        self.plug.pull();
        if let Some(on_end) = self.on_end.take() {
            on_end(self.refusal);
        }
    }
}

struct Writer<W> {
    inner: W,
    flow: Arc<Flow>,
    plug: Arc<Plug>,
    /// The length and the head of the frame that is being written.
    head: Vec<u8>,
    left: usize,
}

impl<W> Writer<W> {
    fn wrote(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let missing = LEN_BYTES.saturating_sub(self.head.len());
            let (n, keep) = if missing > 0 {
                (missing.min(bytes.len()), missing)
            } else {
                let keep = LEN_BYTES + HEAD_BYTES - self.head.len();
                (self.left.min(bytes.len()), keep)
            };
            let (now, rest) = bytes.split_at(n);
            self.head.extend_from_slice(&now[..n.min(keep)]);
            bytes = rest;
            if missing == 0 {
                self.left -= n;
            } else if n == missing {
                self.left = self.len();
            }
            if self.head.len() >= LEN_BYTES && self.left == 0 {
                self.flow.written(self.len(), &self.head[LEN_BYTES..]);
                self.head.clear();
            }
        }
    }

    fn len(&self) -> usize {
        let len = self.head.first_chunk::<LEN_BYTES>();
        len.map_or(0, |len| u64::from_be_bytes(*len) as usize)
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Writer<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.plug.poll(1, cx) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        this.wrote(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "halves_tests.rs"]
mod tests;
