//! What this node answers its peers: Raft's requests, stretches of the chain, forwarded commands.

use crate::ledger::Ledger;
use crate::network::{self, AskError, Lane, Reply, Request};
use crate::proposer::write_here;
use crate::shell::{Running, Shell};
use crate::store::locked;
use crate::telling::MAX_ENTRIES;
use crate::types::{Pack, Peer, SnapshotMeta, Types, Vote};
use crate::voices;
use hale_model::NodeId;
use hale_model::chain::Entry;
use hale_model::ledger::LedgerError;
use openraft::SnapshotSegmentId;
use openraft::error::{InstallSnapshotError, SnapshotMismatch};
use openraft::raft::{AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse};
use openraft::storage::Snapshot;
use std::io::Cursor;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The largest snapshot taken from a peer, in bytes.
const MAX_SNAPSHOT_BYTES: usize = 64 << 20;
const ENTRIES_TIMEOUT: Duration = Duration::from_secs(10);

/// A snapshot on its way in.
#[derive(Default)]
pub(crate) struct Inbound(Mutex<Option<(String, Vec<u8>)>>);

impl Shell {
    /// Answers a frame from an authenticated peer. Whatever the bytes are, there is an answer.
    pub(crate) async fn serve(&self, from: NodeId, frame: &[u8]) -> Vec<u8> {
        let cluster = self.config.cluster;
        let reply = match network::parse_request(cluster, frame) {
            Ok(request) => self.reply(from, request).await,
            Err(e) => Reply::Unable(e.to_string()),
        };
        network::frame_reply(cluster, &reply).unwrap_or_default()
    }

    async fn reply(&self, from: NodeId, request: Request) -> Reply {
        let running = match self.running() {
            Ok(running) => running,
            Err(e) => return Reply::Unable(e.to_string()),
        };
        if let Err(why) = self.may_say(&running, &from, &request) {
            let node = from.short();
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%node, why, "what a peer says is refused");
            return Reply::Unable(format!("refused: node {node} {why}"));
        }
        let unable = |e: &dyn std::error::Error| Reply::Unable(e.to_string());
        match request {
            Request::Append(rpc) => match running.raft.append_entries(rpc).await {
                Ok(reply) => {
                    if !matches!(reply, AppendEntriesResponse::HigherVote(_)) {
                        self.standing.heard_leader();
                    }
                    Reply::Append(reply)
                }
                Err(e) => unable(&e),
            },
            Request::Vote(rpc) => running
                .raft
                .vote(rpc)
                .await
                .map_or_else(|e| unable(&e), Reply::Vote),
            Request::Snapshot(rpc) => self.take_snapshot(&running, rpc).await,
            Request::Entries(first, end) => self.tell_entries(from, first, end).await,
            Request::Propose(pack) => self.take_proposal(&running, from, pack).await,
            Request::ReadIndex => match running.raft.get_read_log_id().await {
                Ok((read, _)) => Reply::ReadIndex(read.map(|id| id.index)),
                Err(_) => Reply::NotLeader,
            },
            Request::Follow { after, wait_ms } => self.tell_news(from, after, wait_ms).await,
            Request::Group => Reply::Group(self.group()),
            Request::PreVote(last) => Reply::PreVoted(self.would_vote(&running, last)),
            Request::TakeOver if !self.is_able() => {
                Reply::Unable("this node can't lead now".into())
            }
            Request::TakeOver => {
                self.standing.take_over.send_modify(|n| *n += 1);
                Reply::Taken
            }
        }
    }

    /// What only a leader or a candidate says must come from one who may be one, in its own name.
    fn may_say(
        &self,
        running: &Running,
        from: &NodeId,
        request: &Request,
    ) -> Result<(), &'static str> {
        if let Some(vote) = vote_of(request) {
            if vote.leader_id.node_id != from.raft_id() {
                return Err("speaks for another node");
            }
            if !voices::is_near(running.term(), &vote) {
                return Err("claims a term that no election reaches");
            }
        }
        if let Request::Append(rpc) = request
            && !voices::is_in_order(rpc)
        {
            return Err("sends entries out of order");
        }
        let leads = vote_of(request).is_some() || matches!(request, Request::TakeOver);
        if leads && !self.may_lead(running, from) {
            return Err("is no voter as far as is known here");
        }
        Ok(())
    }

    /// Writes what a peer forwards, as far as it may say so: in its own name, and not what only the
    /// leader's clock decides.
    async fn take_proposal(&self, running: &Running, from: NodeId, pack: Pack) -> Reply {
        if self.standing.yields.load(Ordering::Relaxed) {
            return Reply::NotLeader;
        }
        if let Err(e) = self.has_room() {
            return Reply::Unable(e.to_string());
        }
        let (allowed, refused) = pack.sorted(&from);
        if refused.is_empty() {
            return write_here(self, &running.raft, allowed).await;
        }
        let name = from.short();
        let count = refused.len() as u64;
        self.counters.refused.fetch_add(count, Ordering::Relaxed);
        tracing::warn!(
            node = name,
            count,
            "a peer forwards what it may not say: refused"
        );
        let written = match allowed.0.is_empty() {
            true => Reply::Proposed(vec![]),
            false => write_here(self, &running.raft, allowed).await,
        };
        match written {
            Reply::Proposed(answers) => Reply::Proposed(Pack::joined(answers, &refused)),
            other => other,
        }
    }

    /// Collects a snapshot's pieces; with the last one the missing stretch of the chain is fetched
    /// from the sender, and only then the snapshot is installed.
    async fn take_snapshot(&self, running: &Running, rpc: InstallSnapshotRequest<Types>) -> Reply {
        let whole = match self.inbound.piece(&rpc) {
            Ok(None) => return Reply::Snapshot(Ok(InstallSnapshotResponse { vote: rpc.vote })),
            Ok(Some(whole)) => whole,
            Err(e) => return Reply::Snapshot(Err(e)),
        };
        if let Err(e) = self
            .fetch_chain(running, &rpc.meta, &rpc.vote, &whole)
            .await
        {
            return Reply::Unable(e);
        }
        let snapshot = Snapshot {
            meta: rpc.meta,
            snapshot: Box::new(Cursor::new(whole)),
        };
        match running.raft.install_full_snapshot(rpc.vote, snapshot).await {
            Ok(reply) => Reply::Snapshot(Ok(reply.into())),
            Err(e) => Reply::Unable(e.to_string()),
        }
    }

    async fn fetch_chain(
        &self,
        running: &Running,
        meta: &SnapshotMeta,
        vote: &Vote,
        state: &[u8],
    ) -> Result<(), String> {
        let tip = Ledger::decode(state).map_err(|e| e.to_string())?.tip();
        let sender = meta
            .last_membership
            .membership()
            .get_node(&vote.leader_id.node_id);
        while self.chain.len() < tip.entries {
            let sender = sender.ok_or("the snapshot's sender is not in its group")?;
            let from = self.chain.len();
            let entries = self.ask_entries(sender, from, tip.entries).await;
            let entries = entries.map_err(|e| e.to_string())?;
            if entries.is_empty() {
                return Err(format!("the sender has no entry {from} of the chain"));
            }
            running
                .machine
                .fill_chain(&entries)
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    async fn ask_entries(&self, of: &Peer, from: u64, to: u64) -> Result<Vec<Entry>, AskError> {
        let request = Request::Entries(from, to.min(from + MAX_ENTRIES));
        let reply = self
            .asker
            .ask(of, Lane::Bulk, &request, ENTRIES_TIMEOUT)
            .await?;
        let Reply::Entries(entries) = reply else {
            return Err(AskError::Unexpected);
        };
        let parsed: Result<Vec<_>, _> = entries.iter().map(|e| Entry::from_bytes(e)).collect();
        parsed.map_err(|_| AskError::Unexpected)
    }

    /// A stretch of the chain from whoever of the group answers first.
    pub(crate) async fn fetch_entries(&self, range: Range<u64>) -> Result<Vec<Entry>, LedgerError> {
        let group = self.group();
        let mut out: Vec<Entry> = vec![];
        let mut why = "no node of the group is known".to_owned();
        for member in group.members().filter(|p| p.node != self.me.node) {
            loop {
                let from = range.start + out.len() as u64;
                if from >= range.end {
                    return Ok(out);
                }
                match self.ask_entries(member, from, range.end).await {
                    Ok(entries) if entries.is_empty() => return Ok(out),
                    Ok(entries) => out.extend(entries),
                    Err(e) => {
                        why = e.to_string();
                        break;
                    }
                }
            }
        }
        Err(LedgerError::Storage(why))
    }
}

impl Inbound {
    /// The whole snapshot, once its last piece is there.
    fn piece(
        &self,
        rpc: &InstallSnapshotRequest<Types>,
    ) -> Result<Option<Vec<u8>>, InstallSnapshotError> {
        let mut inbound = locked(&self.0);
        if rpc.offset == 0 {
            *inbound = Some((rpc.meta.snapshot_id.clone(), vec![]));
        }
        let id = &rpc.meta.snapshot_id;
        let fits = |(known, data): &&mut (String, Vec<u8>)| {
            known == id
                && data.len() as u64 == rpc.offset
                && data.len() + rpc.data.len() <= MAX_SNAPSHOT_BYTES
        };
        let Some((_, data)) = inbound.as_mut().filter(fits) else {
            let segment = |offset| SnapshotSegmentId {
                id: id.clone(),
                offset,
            };
            let (expect, got) = (segment(0), segment(rpc.offset));
            return Err(SnapshotMismatch { expect, got }.into());
        };
        data.extend_from_slice(&rpc.data);
        Ok(if rpc.done {
            inbound.take().map(|(_, data)| data)
        } else {
            None
        })
    }
}

/// In whose name a request speaks.
fn vote_of(request: &Request) -> Option<Vote> {
    match request {
        Request::Append(rpc) => Some(rpc.vote),
        Request::Vote(rpc) => Some(rpc.vote),
        Request::Snapshot(rpc) => Some(rpc.vote),
        Request::Entries(..)
        | Request::Propose(_)
        | Request::ReadIndex
        | Request::Follow { .. }
        | Request::Group
        | Request::PreVote(_)
        | Request::TakeOver => None,
    }
}
