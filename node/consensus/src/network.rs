//! Raft's words between nodes. The bytes travel by a [`PeerTransport`], which knows nothing of
//! Raft; here they are framed, bounded, and checked.

use crate::handover::STUCK;
use crate::store::locked;
use crate::store::syncs::Syncs;
use crate::types::{Group, LogId, Pack, Peer, Types};
use crate::voices::is_near;
use hale_model::NodeId;
use hale_model::ledger::Answer;
use hale_model::port::Later;
use hale_model::wire::{self, WireError};
use openraft::error::{
    Infallible, InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The largest frame of Raft's, either way.
pub const MAX_FRAME_BYTES: usize = wire::MAX_VALUE_BYTES;
/// A peer that can't be reached is asked again after this long. openraft's own 500 ms would be
/// longer than an election.
const BACKOFF: Duration = Duration::from_millis(50);
/// How long a peer waits to be told that the last entry is committed, for the next entry to tell.
const NEXT_ENTRY: Duration = Duration::from_millis(2);
/// For so long after an answer its peer need not be asked whether it follows still; well below
/// what a heartbeat's interval is.
const FRESH: Duration = Duration::from_millis(20);
/// What a transport may take longer than it was told to.
const GRACE: Duration = Duration::from_millis(20);
/// The first byte of a request between the ledgers of two nodes, as a frame's kind.
pub const REQUEST: u8 = 0x10;
const REPLY: u8 = 0x11;

/// Which connection a frame travels on: bulk never delays a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Heartbeats, votes, entries, forwarded commands.
    Urgent,
    /// Snapshots and stretches of the chain.
    Bulk,
}

/// How bytes reach the other nodes of the group. An implementation authenticates both ends.
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends one frame and waits for the one that answers it, at most `timeout`.
    fn ask(
        &self,
        to: Peer,
        lane: Lane,
        frame: Vec<u8>,
        timeout: Duration,
    ) -> Later<Result<Vec<u8>, TransportError>>;

    /// Who is alive, as gossip sees it; a hint. None where there is no gossip: the group's seats
    /// are not planned then.
    fn alive(&self) -> Option<Vec<Alive>> {
        None
    }
}

/// A node that gossip takes for alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Who, and where.
    pub peer: Peer,
    /// Its failure domain.
    pub zone: String,
    /// For how long.
    pub since: Duration,
    /// The version of its binary; empty where that is not known yet.
    pub release: String,
}

/// Why a peer gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// There is no way to it right now: nothing was sent.
    #[error("{peer} can't be reached: {why}")]
    Unreachable {
        /// Whom.
        peer: String,
        /// Why.
        why: String,
    },
    /// The way to it ended before an answer came: it may have been heard.
    #[error("{peer} gave no answer: {why}")]
    Lost {
        /// Who.
        peer: String,
        /// Why.
        why: String,
    },
    /// It took too long: it may have been heard.
    #[error("no answer in time")]
    TimedOut,
}

/// A transport without peers: the group of one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPeers;

impl PeerTransport for NoPeers {
    fn ask(
        &self,
        to: Peer,
        _: Lane,
        _: Vec<u8>,
        _: Duration,
    ) -> Later<Result<Vec<u8>, TransportError>> {
        let why = "this node runs without a cluster transport".into();
        let error = TransportError::Unreachable {
            peer: to.node.short(),
            why,
        };
        Box::pin(async move { Err(error) })
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    Snapshot(InstallSnapshotRequest<Types>),
    /// A stretch of the chain, from the first number up to the second.
    Entries(u64, u64),
    /// Commands for the leader; not forwarded again.
    Propose(Pack),
    /// Up to where must be applied for a read to be linearizable?
    ReadIndex,
    /// What was applied after this index. Waits for news, at most so many milliseconds.
    Follow {
        after: u64,
        wait_ms: u32,
    },
    /// Who is in the group?
    Group,
    /// Would this node vote for one whose log ends here? Nothing changes by the answer.
    PreVote(Option<LogId>),
    /// The leader hands over: stand for election.
    TakeOver,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    Snapshot(Result<InstallSnapshotResponse<u64>, InstallSnapshotError>),
    Entries(Vec<Vec<u8>>),
    Proposed(Vec<Answer>),
    ReadIndex(Option<u64>),
    /// This node does not lead.
    NotLeader,
    /// It can't: its disk, its state.
    Unable(String),
    Followed(Box<Followed>),
    Group(Group),
    PreVoted(bool),
    /// It will.
    Taken,
}

/// What a node outside the group is told of the ledger.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Followed {
    /// The whole state, where the packs since are not kept any more.
    pub(crate) state: Option<Vec<u8>>,
    /// Up to which log index.
    pub(crate) applied: u64,
    /// What was applied since, in order.
    pub(crate) packs: Vec<(u64, Pack)>,
    /// Who is in the group.
    pub(crate) group: Group,
    /// How long ago the one who tells last heard from a leader.
    pub(crate) age_ms: u64,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the peer's bytes are not understood")]
    Wire(#[from] WireError),
    #[error("the peer answered something else than it was asked")]
    Unexpected,
    #[error("the peer can't: {0}")]
    Unable(String),
}

pub(crate) fn frame_request(cluster: u64, request: &Request) -> Result<Vec<u8>, WireError> {
    wire::frame(REQUEST, cluster, &wire::encode(request)?)
}

pub(crate) fn frame_reply(cluster: u64, reply: &Reply) -> Result<Vec<u8>, WireError> {
    wire::frame(REPLY, cluster, &wire::encode(reply)?)
}

pub(crate) fn parse_request(cluster: u64, frame: &[u8]) -> Result<Request, WireError> {
    parse(REQUEST, cluster, frame)
}

#[cfg(any(test, fuzzing))]
pub(crate) fn parse_reply(cluster: u64, frame: &[u8]) -> Result<Reply, WireError> {
    parse(REPLY, cluster, frame)
}

fn parse<T: serde::de::DeserializeOwned>(
    kind: u8,
    cluster: u64,
    frame: &[u8],
) -> Result<T, WireError> {
    let header = wire::frame_header(frame, cluster, MAX_FRAME_BYTES)?;
    let payload = &frame[wire::FRAME_HEADER_BYTES..];
    if header.kind != kind {
        return Err(WireError::NotAFrame);
    }
    if payload.len() != header.len {
        return Err(WireError::Short);
    }
    wire::decode(payload)
}

/// When each peer last acknowledged what this node replicated to it.
pub(crate) type Acks = Arc<Mutex<BTreeMap<NodeId, Instant>>>;

/// Asks peers, in one cluster's frames. Cloning shares the transport.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) cluster: u64,
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) acks: Acks,
}

impl Asker {
    pub(crate) async fn ask(
        &self,
        to: &Peer,
        lane: Lane,
        request: &Request,
        timeout: Duration,
    ) -> Result<Reply, AskError> {
        let frame = frame_request(self.cluster, request)?;
        let answer = self.transport.ask(to.clone(), lane, frame, timeout);
        // The transport keeps to the time too, and can tell more of why.
        let answer = tokio::time::timeout(timeout + GRACE, answer).await;
        let frame = answer.map_err(|_| TransportError::TimedOut)??;
        match parse(REPLY, self.cluster, &frame)? {
            Reply::Unable(why) => Err(AskError::Unable(why)),
            reply => Ok(reply),
        }
    }
}

/// The lines to the peers, as openraft has them made.
pub(crate) struct Lines {
    asker: Asker,
    syncs: Syncs,
}

impl Lines {
    /// `syncs` are those of this node's own log.
    pub(crate) fn new(asker: Asker, syncs: Syncs) -> Self {
        Self { asker, syncs }
    }
}

impl RaftNetworkFactory<Types> for Lines {
    type Network = Line;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Line {
        Line {
            asker: self.asker.clone(),
            syncs: self.syncs.clone(),
            target,
            peer: node.clone(),
            told: None,
        }
    }
}

/// The line to one peer.
pub(crate) struct Line {
    asker: Asker,
    syncs: Syncs,
    target: u64,
    peer: Peer,
    /// When the peer last took what this line sent, and what it was told is committed.
    told: Option<(Instant, Option<LogId>)>,
}

type RpcError<E = Infallible> = RPCError<u64, Peer, RaftError<u64, E>>;

impl Line {
    async fn ask<E: std::error::Error>(
        &self,
        lane: Lane,
        request: Request,
        option: &RPCOption,
    ) -> Result<Reply, RpcError<E>> {
        let asked = self
            .asker
            .ask(&self.peer, lane, &request, option.hard_ttl())
            .await;
        asked.map_err(|e| match e {
            // A late answer may still come in time the next time: at once.
            AskError::Transport(TransportError::TimedOut) => {
                RPCError::Network(NetworkError::new(&e))
            }
            e => RPCError::Unreachable(Unreachable::new(&e)),
        })
    }
}

impl Line {
    /// Whether these are no news but how far is committed, and the next entry is there to bring
    /// them along. Of a leader that is written to without a pause every other message would only
    /// tell that the last entry is committed, and the next entry would wait for its answer.
    ///
    /// A peer that is not asked is taken to follow still. That was true a moment ago on this very
    /// line, and what openraft makes of the answer it knew: that the log matches up to where it
    /// matched. A read's confirmation comes on a line of its own, and is always sent.
    async fn comes_with_the_next(&self, rpc: &AppendEntriesRequest<Types>) -> bool {
        let Some((at, told)) = self.told else {
            return false;
        };
        let may_wait = rpc.entries.is_empty() && rpc.leader_commit > told && at.elapsed() < FRESH;
        let matched = rpc.prev_log_id.map_or(0, |id| id.index);
        may_wait && self.syncs.written_beyond(matched, NEXT_ENTRY).await
    }

    /// Waits until this node's own disk has all up to here.
    async fn on_disk(&self, up_to: Option<LogId>) -> Result<(), RpcError> {
        let Some(id) = up_to else {
            return Ok(());
        };
        let reached = self.syncs.reached(id.index).await;
        reached.map_err(|e| RPCError::Unreachable(Unreachable::new(&e)))
    }
}

fn unexpected<E: std::error::Error>() -> RpcError<E> {
    RPCError::Unreachable(Unreachable::new(&AskError::Unexpected))
}

impl RaftNetwork<Types> for Line {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        if self.comes_with_the_next(&rpc).await {
            return Ok(AppendEntriesResponse::Success);
        }
        let (term, commit) = (rpc.vote.leader_id.term, rpc.leader_commit);
        let last = rpc.entries.last().map(|e| e.log_id).or(rpc.prev_log_id);
        // Who is led by a node that can't write shall elect another.
        if !rpc.entries.is_empty() && self.syncs.oldest().is_some_and(|owed| owed > STUCK) {
            let stuck = io::Error::from(io::ErrorKind::TimedOut);
            return Err(RPCError::Unreachable(Unreachable::new(&stuck)));
        }
        // Nobody is told that more is committed than this node's own disk has.
        self.on_disk(rpc.leader_commit).await?;
        let reply = match self
            .ask(Lane::Urgent, Request::Append(rpc), &option)
            .await?
        {
            Reply::Append(AppendEntriesResponse::HigherVote(vote)) if !is_near(term, &vote) => {
                return Err(unexpected());
            }
            Reply::Append(reply) => {
                locked(&self.asker.acks).insert(self.peer.node, Instant::now());
                reply
            }
            _ => return Err(unexpected()),
        };
        // openraft counts this node's own copy from the moment it is written; with the peer's it
        // may make a quorum.
        self.on_disk(last).await?;
        if matches!(reply, AppendEntriesResponse::Success) {
            self.told = Some((Instant::now(), commit));
        }
        Ok(reply)
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RpcError<InstallSnapshotError>> {
        let term = rpc.vote.leader_id.term;
        match self
            .ask(Lane::Bulk, Request::Snapshot(rpc), &option)
            .await?
        {
            Reply::Snapshot(Ok(reply)) if is_near(term, &reply.vote) => Ok(reply),
            Reply::Snapshot(Err(e)) => {
                let error = RaftError::APIError(e);
                Err(RPCError::RemoteError(RemoteError::new(self.target, error)))
            }
            _ => Err(unexpected()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RpcError> {
        let term = rpc.vote.leader_id.term;
        match self.ask(Lane::Urgent, Request::Vote(rpc), &option).await? {
            Reply::Vote(reply) if is_near(term, &reply.vote) => Ok(reply),
            _ => Err(unexpected()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}
