//! The gateway: asks, takes over streams, and keeps sessions bounded.

use crate::ask::{Ask, Status, encode, read_answer};
use crate::config::{Counters, Counts, Limits, count};
use crate::desk::{Answerer, Desk};
use crate::error::GatewayError;
use crate::events::{Events, GROUP, SCOPE};
use crate::gate::{Gate, Refusal, max_frame_bytes, name_of};
use crate::halves::Gated;
use crate::listener;
use crate::sessions::{Peer, Session, Stale, State, Table};
use hale_model::{Digest, NodeId};
use hale_transport::{Stream, TransportError};
use ractor::{Actor, ActorRef, pg};
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{NodeServer, NodeServerMessage};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The kind of the first frame on a stream that is for [`Gateway::accept`]. Its payload is empty.
pub const FRAME_KIND: u8 = b'?';

/// Pauses between attempts within one question.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long actors may take to stop.
const STOPPING: Duration = Duration::from_secs(2);

/// Process groups and the registry of actors are global to a process.
static RUNS: AtomicBool = AtomicBool::new(false);

/// Live questions to other nodes. Cloning shares it; [`Gateway::stop`] ends it.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
    desk: ActorRef<Ask>,
    sweeper: AbortHandle,
}

pub(crate) struct Inner {
    me: NodeId,
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) answer: Answerer,
    /// Room for questions of peers.
    pub(crate) answering: Arc<Semaphore>,
    /// Room for our own.
    asking: Semaphore,
    server: ActorRef<NodeServerMessage>,
    table: Mutex<Table>,
    stopped: AtomicBool,
}

impl Gateway {
    /// Starts it, within a tokio runtime. One process has one gateway at a time. `cookie` follows
    /// from the cluster's id, so it is a second factor only: the first is the transport's.
    ///
    /// # Errors
    /// If one runs already, or its actors can't be started.
    pub async fn start(
        me: NodeId,
        cookie: [u8; 32],
        answer: Answerer,
        limits: Limits,
    ) -> Result<Self, GatewayError> {
        if RUNS.swap(true, Ordering::SeqCst) {
            return Err(GatewayError::Second);
        }
        let started = Self::start_actors(me, cookie, answer, limits).await;
        if started.is_err() {
            RUNS.store(false, Ordering::SeqCst);
        }
        started
    }

    async fn start_actors(
        me: NodeId,
        cookie: [u8; 32],
        answer: Answerer,
        limits: Limits,
    ) -> Result<Self, GatewayError> {
        let failed = |e: &dyn std::fmt::Display| GatewayError::Start(e.to_string());
        let cookie = cookie.iter().map(|b| format!("{b:02x}")).collect();
        // ractor_cluster takes a node for itself if host and port are its own: the port is one of
        // loopback, so the host has to tell nodes apart.
        let (name, host) = name_of(&me)
            .split_once('@')
            .map(|(name, host)| (name.to_owned(), host.to_owned()))
            .ok_or_else(|| failed(&"the node has no name"))?;
        let server = NodeServer::new(
            0,
            cookie,
            name,
            host,
            Some(listener::shut()?),
            Some(NodeConnectionMode::Isolated),
        )
        .with_listen_addr(listener::ADDR)
        .with_max_inbound_frame_size(max_frame_bytes(&limits) as u64);
        let (server, _) = Actor::spawn(None, server, ())
            .await
            .map_err(|e| failed(&e))?;
        let inner = Arc::new(Inner {
            me,
            limits,
            counters: Counters::default(),
            answer,
            answering: Arc::new(Semaphore::new(limits.in_all)),
            asking: Semaphore::new(limits.in_all),
            server: server.clone(),
            table: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let desk = Actor::spawn(None, Desk, Arc::downgrade(&inner)).await;
        let (desk, _) = desk.map_err(|e| {
            server.stop(None);
            failed(&e)
        })?;
        pg::join_scoped(SCOPE.to_owned(), GROUP.to_owned(), vec![desk.get_cell()]);
        let subscribe = NodeServerMessage::SubscribeToEvents {
            id: GROUP.to_owned(),
            subscription: Box::new(Events(Arc::downgrade(&inner))),
        };
        server.send_message(subscribe).map_err(|e| failed(&e))?;
        let sweeper = tokio::spawn(sweep(Arc::downgrade(&inner), limits)).abort_handle();
        Ok(Self {
            inner,
            desk,
            sweeper,
        })
    }

    /// Takes over a stream that a peer opened for questions: its first frame was a [`FRAME_KIND`].
    pub fn accept(&self, stream: Stream) {
        let (inner, peer) = (&self.inner, stream.peer());
        // A peer that opens anew has lost its old session, or is about to lose it to this one.
        let old = inner.table().ready(&peer);
        old.iter().for_each(|s| inner.end(s));
        match inner.begin(stream, true) {
            Ok(_) => count(&inner.counters.accepted),
            Err(e) => tracing::debug!(peer = %peer.short(), error = %e, "a session was refused"),
        }
    }

    /// Asks a node. `open` is called to open a stream when there is no session with it, and again
    /// if a session breaks before the answer is here: the question is then put once more.
    ///
    /// # Errors
    /// If the question is too large, the node can't be reached, has no answer, or gives none
    /// within `timeout`.
    pub async fn ask<O, F>(
        &self,
        to: NodeId,
        open: O,
        bytes: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, GatewayError>
    where
        O: Fn() -> F,
        F: Future<Output = Result<Stream, TransportError>>,
    {
        let answer = self.inner.ask(to, open, bytes, timeout).await;
        count(match answer {
            Ok(_) => &self.inner.counters.answers_got,
            Err(_) => &self.inner.counters.asks_failed,
        });
        answer
    }

    /// Ends all sessions with a node: it is down, or off the roster.
    pub fn forget(&self, node: &NodeId) {
        let all = self.inner.table().all();
        let of_node = all.iter().filter(|s| s.peer == *node);
        of_node.for_each(|s| self.inner.end(s));
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> usize {
        self.inner.table().len()
    }

    /// What was asked, and what was refused.
    pub fn counts(&self) -> Counts {
        self.inner.counters.counts()
    }

    /// Ends all sessions and stops all actors; waits for them, a few seconds at most.
    pub async fn stop(&self) {
        if self.inner.stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        self.sweeper.abort();
        let all = self.inner.table().all();
        all.iter().for_each(|s| self.inner.end(s));
        // The listener is a child of the server, and outlives it by a moment.
        let children = self.inner.server.get_children();
        // What takes longer than this is killed with its runtime.
        drop(self.inner.server.stop_and_wait(None, Some(STOPPING)).await);
        for child in children {
            drop(child.wait(Some(STOPPING)).await);
        }
        drop(self.desk.stop_and_wait(None, Some(STOPPING)).await);
        RUNS.store(false, Ordering::SeqCst);
    }
}

/// How one attempt to ask went.
enum Outcome {
    Answer(Status, Vec<u8>),
    /// The session ended before the answer came.
    Ended,
    Late,
}

impl Inner {
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a session, now.
    pub(crate) fn end(&self, session: &Session) {
        session.plug.pull();
        self.ended(session.serial, None);
        session.state.send_replace(State::Ended);
    }

    /// A session has ended by itself, or its peer was refused.
    pub(crate) fn ended(&self, serial: u64, refusal: Option<Refusal>) {
        let removed = self.table().remove(serial);
        if let Some(session) = &removed {
            session.plug.pull();
            session.state.send_replace(State::Ended);
            count(&self.counters.ended);
        }
        if let Some(why) = refusal {
            count(match why {
                Refusal::WrongName => &self.counters.wrong_names,
                Refusal::Frame(_) => &self.counters.refused_frames,
            });
            let peer = removed.map(|s| s.peer.short());
            tracing::warn!(peer, ?why, "a peer's session was ended");
        }
    }

    /// Makes a session of a stream.
    fn begin(
        self: &Arc<Self>,
        stream: Stream,
        is_server: bool,
    ) -> Result<Arc<Session>, GatewayError> {
        let peer = stream.peer();
        let lost = |source| GatewayError::Unreachable { node: peer, source };
        // Only the two ends of the connection can know it, and no two streams have the same.
        let secret = stream.link().export(b"hale gateway").map_err(lost)?;
        let id = stream.id().to_be_bytes();
        let ticket = Digest::of_parts(&[b"hale-gateway-v1\0", &secret, &id]);
        if self.stopped.load(Ordering::SeqCst) {
            return Err(GatewayError::Stopped);
        }
        let (limit, room) = (self.limits.sessions, self.limits.per_peer);
        let made = self.table().insert(peer, ticket, (limit, room));
        let (session, evicted) = made.map_err(|_| {
            count(&self.counters.refused_full);
            GatewayError::Full { limit }
        })?;
        if let Some(old) = evicted {
            old.plug.pull();
            old.state.send_replace(State::Ended);
            count(&self.counters.evicted);
            count(&self.counters.ended);
        }
        let (weak, serial) = (Arc::downgrade(self), session.serial);
        let on_end = move |refusal| {
            if let Some(inner) = weak.upgrade() {
                inner.ended(serial, refusal);
            }
        };
        let gated = Gated::new(
            serial.to_string(),
            stream.into_halves(),
            (Gate::new(&peer, &self.limits), session.flow.clone()),
            max_frame_bytes(&self.limits),
            session.plug.clone(),
            on_end,
        );
        let opened = NodeServerMessage::ConnectionOpenedExternal {
            stream: Box::new(gated),
            is_server,
        };
        // If the server is gone, the stream is dropped with the message, and the session ends.
        self.server
            .send_message(opened)
            .map_err(|_| GatewayError::Stopped)?;
        Ok(session)
    }

    async fn ask<O, F>(
        self: &Arc<Self>,
        to: NodeId,
        open: O,
        bytes: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, GatewayError>
    where
        O: Fn() -> F,
        F: Future<Output = Result<Stream, TransportError>>,
    {
        let (len, limit) = (bytes.len(), self.limits.question_bytes);
        if len > limit {
            return Err(GatewayError::QuestionTooLarge { len, limit });
        }
        if to == self.me {
            return Err(GatewayError::Myself);
        }
        let (deadline, mut attempts, mut pause) = (Instant::now() + within, 0, FIRST_PAUSE);
        let late = |attempts| GatewayError::TimedOut {
            node: to,
            within,
            attempts,
        };
        let peer = self.table().peer(to, self.limits.per_peer);
        let room = async { (peer.room.acquire().await, self.asking.acquire().await) };
        let Ok(_room) = timeout_at(deadline, room).await else {
            return Err(late(attempts));
        };
        loop {
            if self.stopped.load(Ordering::SeqCst) {
                return Err(GatewayError::Stopped);
            }
            attempts += 1;
            let session = timeout_at(deadline, self.session(to, &peer, &open)).await;
            let outcome = match session {
                Ok(session) => match session? {
                    Some(session) => self.call(&session, &bytes, deadline).await,
                    None => Outcome::Ended,
                },
                Err(_) => Outcome::Late,
            };
            match outcome {
                Outcome::Answer(Status::Answered, bytes) => return Ok(bytes),
                Outcome::Answer(Status::Busy, _) => return Err(GatewayError::Busy { node: to }),
                Outcome::Answer(Status::TooLarge, _) => {
                    let limit = self.limits.answer_bytes;
                    return Err(GatewayError::AnswerTooLarge { node: to, limit });
                }
                Outcome::Answer(Status::Unanswered, _) => {
                    return Err(GatewayError::Unanswered { node: to });
                }
                Outcome::Late => return Err(late(attempts)),
                Outcome::Ended | Outcome::Answer(Status::Stranger, _) => {}
            }
            sleep_until((Instant::now() + pause).min(deadline)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A session that can be asked; none if the one that was opened ended.
    async fn session<O, F>(
        self: &Arc<Self>,
        to: NodeId,
        peer: &Peer,
        open: &O,
    ) -> Result<Option<Arc<Session>>, GatewayError>
    where
        O: Fn() -> F,
        F: Future<Output = Result<Stream, TransportError>>,
    {
        if let Some(session) = self.table().ready(&to) {
            return Ok(Some(session));
        }
        let _turn = peer.turn.lock().await;
        let (ready, opening) = {
            let table = self.table();
            (table.ready(&to), table.opening(&to))
        };
        if ready.is_some() {
            return Ok(ready);
        }
        let session = match opening {
            Some(session) => session,
            None => match self.open(to, open).await? {
                Some(session) => session,
                None => return Ok(None),
            },
        };
        let mut state = session.state.subscribe();
        let settled = state.wait_for(|s| !matches!(s, State::Opening));
        let is_settled = tokio::time::timeout(self.limits.opening, settled)
            .await
            .is_ok();
        if !is_settled {
            self.end(&session);
        }
        Ok(session.ready().is_some().then_some(session))
    }

    /// Opens a session; none if that is worth another attempt.
    async fn open<O, F>(
        self: &Arc<Self>,
        to: NodeId,
        open: &O,
    ) -> Result<Option<Arc<Session>>, GatewayError>
    where
        O: Fn() -> F,
        F: Future<Output = Result<Stream, TransportError>>,
    {
        let mut stream = match open().await {
            Ok(stream) => stream,
            Err(TransportError::Pausing { left, .. }) => {
                tokio::time::sleep(left).await;
                return Ok(None);
            }
            // The connection is one that was open before, and has just turned out to be gone.
            Err(TransportError::Lost(_)) => return Ok(None),
            Err(source) => return Err(GatewayError::Unreachable { node: to, source }),
        };
        let got = stream.peer();
        if got != to {
            return Err(GatewayError::WrongPeer { wanted: to, got });
        }
        if stream.send(FRAME_KIND, &[]).await.is_err() {
            return Ok(None);
        }
        let session = self.begin(stream, false)?;
        count(&self.counters.opened);
        Ok(Some(session))
    }

    async fn call(&self, session: &Session, bytes: &[u8], deadline: Instant) -> Outcome {
        let Some(actor) = session.ready() else {
            return Outcome::Ended;
        };
        let _waiting = session.wait();
        let left = deadline.saturating_duration_since(Instant::now());
        let (reply, answer) = ractor::concurrency::oneshot();
        // The reply port has no timeout of its own: with one, ractor_cluster would drop answers
        // that come too late, and what is owed could not be counted.
        let ask = Ask {
            bytes: encode(&session.ticket, left, bytes),
            reply: reply.into(),
        };
        session.flow.ask();
        if actor.send_message(ask).is_err() {
            return Outcome::Ended;
        }
        let mut state = session.state.subscribe();
        tokio::select! {
            // An answer that is here counts, even if the session has ended since.
            biased;
            answer = answer => match answer {
                Ok(bytes) => {
                    let (status, bytes) = read_answer(bytes);
                    Outcome::Answer(status, bytes)
                }
                Err(_) => Outcome::Ended,
            },
            _ = state.wait_for(|s| matches!(s, State::Ended)) => Outcome::Ended,
            () = sleep_until(deadline) => Outcome::Late,
        }
    }
}

/// Ends sessions that are of no use any more.
async fn sweep(inner: Weak<Inner>, limits: Limits) {
    let every = (limits.idle.min(limits.opening) / 4)
        .clamp(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let unsent = 2 * limits.per_peer as u64;
        let stale = {
            let mut table = inner.table();
            table.sweep_peers();
            table.stale(limits.idle, limits.opening, unsent)
        };
        for (session, why) in stale {
            if why == Stale::Idle {
                count(&inner.counters.idle);
            }
            inner.end(&session);
        }
    }
}
