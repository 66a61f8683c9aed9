//! What reads bytes from outside here, to be held against hostile ones: peers' frames, and all that
//! lies on the disk. Where a checksum guards it, the checksum is made to fit, so that what is behind
//! it is reached.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod disk;

use crate::ledger::Ledger;
use crate::mirror::Copy;
use crate::network::{self, Request};
use crate::store::snapshot;
use crate::types::{Group, LogId, Pack, Peer, SnapshotMeta, Vote};
use hale_hostile::Parser;
use hale_model::ledger::Command;
use hale_model::{Digest, NodeId, wire};
use openraft::raft::{AppendEntriesRequest, InstallSnapshotRequest, VoteRequest};
use openraft::{CommittedLeaderId, EntryPayload};
use std::path::Path;

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "raft_frame",
        seeds: frames,
        feed: frame,
    },
    Parser {
        name: "ledger_state",
        seeds: || vec![unhex(STATE)[STATE_HEADER..].to_vec()],
        feed: ledger_state,
    },
    Parser {
        name: "ledger_command",
        seeds: || {
            commands()
                .iter()
                .map(|c| wire::encode(c).unwrap())
                .collect()
        },
        feed: command,
    },
    Parser {
        name: "ledger_copy",
        seeds: copies,
        feed: copy,
    },
    Parser {
        name: "raft_snapshot",
        seeds: snapshots,
        feed: raft_snapshot,
    },
    disk::RAFT_LOG,
    disk::STATE_STORE,
];

const CLUSTER: u64 = 7;
/// The bytes before a state's rows.
const STATE_HEADER: usize = 4 + 1 + 32;
const COMMANDS: &str = include_str!("ledger/tests/golden/commands.hex");
const STATE: &str = include_str!("ledger/tests/golden/state.hex");

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes().chunks(2);
    let byte = |d: &[u8]| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn commands() -> Vec<Command> {
    let lines = COMMANDS.lines();
    lines.map(|l| wire::decode(&unhex(l)).unwrap()).collect()
}

fn peer() -> Peer {
    Peer {
        node: NodeId::from_bytes([3; 32]),
        addr: "10.0.0.3:7118".into(),
    }
}

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(2, 3), index)
}

fn entries() -> Vec<crate::types::LogEntry> {
    let packs = commands().chunks(3).map(<[_]>::to_vec).collect::<Vec<_>>();
    let payloads = packs.into_iter().map(|p| EntryPayload::Normal(Pack(p)));
    let payloads = [EntryPayload::Blank].into_iter().chain(payloads);
    let entry = |(payload, n)| crate::types::LogEntry {
        log_id: id(n),
        payload,
    };
    payloads.zip(1..).map(entry).collect()
}

fn meta() -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(id(16)),
        last_membership: openraft::StoredMembership::default(),
        snapshot_id: "2-3-16".into(),
    }
}

fn frames() -> Vec<Vec<u8>> {
    let requests = [
        Request::Append(AppendEntriesRequest {
            vote: Vote::new(2, 3),
            prev_log_id: Some(id(0)),
            entries: entries(),
            leader_commit: Some(id(1)),
        }),
        Request::Vote(VoteRequest::new(Vote::new(2, 3), Some(id(9)))),
        Request::Snapshot(InstallSnapshotRequest {
            vote: Vote::new(2, 3),
            meta: meta(),
            offset: 0,
            data: unhex(STATE),
            done: true,
        }),
        Request::Entries(0, 10),
        Request::Propose(Pack(commands())),
        Request::ReadIndex,
        Request::Follow {
            after: 300,
            wait_ms: 5,
        },
        Request::PreVote(Some(id(9))),
    ];
    let frame = |r: &Request| network::frame_request(CLUSTER, r).unwrap();
    requests.iter().map(frame).collect()
}

/// A question that is read is written as one that is read alike.
fn frame(bytes: &[u8]) {
    if let Ok(request) = network::parse_request(CLUSTER, bytes) {
        let again = network::frame_request(CLUSTER, &request).unwrap();
        let again = network::parse_request(CLUSTER, &again).unwrap();
        assert_eq!(format!("{request:?}"), format!("{again:?}"));
        if let Request::Propose(pack) = request {
            let _ = pack.sorted(&peer().node);
        }
    }
    let _ = network::parse_reply(CLUSTER, bytes);
}

/// Rows under a checksum that fits: a state that is read is one that can be gone on from.
fn ledger_state(rows: &[u8]) {
    let mut bytes = unhex(STATE)[..STATE_HEADER].to_vec();
    bytes[5..].copy_from_slice(Digest::of(rows).as_bytes());
    bytes.extend_from_slice(rows);
    let Ok(mut ledger) = Ledger::decode(&bytes) else {
        return;
    };
    let written = ledger.encode().unwrap();
    assert_eq!(Ledger::decode(&written).unwrap().encode().unwrap(), written);
    for (command, index) in commands().into_iter().zip(1_000..) {
        ledger.apply(index, command);
    }
    let _ = (ledger.tip(), ledger.leases().count(), ledger.encode());
}

/// What a peer proposes, or the log holds, is applied to a ledger that knows some of it.
fn command(bytes: &[u8]) {
    let Ok(command) = wire::decode::<Command>(bytes) else {
        return;
    };
    let mut ledger = Ledger::decode(&unhex(STATE)).unwrap();
    ledger.apply(1_000, command.clone());
    ledger.apply(1_001, command);
    let written = ledger.encode().unwrap();
    assert_eq!(Ledger::decode(&written).unwrap().encode().unwrap(), written);
}

fn copies() -> Vec<Vec<u8>> {
    let copy = Copy {
        applied: 16,
        state: unhex(STATE),
        group: Group {
            term: 2,
            leader: Some(peer().node),
            voters: vec![peer()],
            learners: vec![],
        },
    };
    vec![wire::encode(&copy).unwrap()]
}

fn copy(body: &[u8]) {
    let sum = Digest::of(body);
    let bytes = [&b"HMIR\x01"[..], sum.as_bytes(), body].concat();
    for bytes in [&bytes[..], body] {
        if let Ok(copy) = Copy::parse(Path::new("copy"), bytes) {
            let _ = copy.ledger();
            let again = Copy::parse(Path::new("copy"), &copy.to_bytes().unwrap());
            assert_eq!(again.unwrap(), copy);
        }
    }
}

fn snapshots() -> Vec<Vec<u8>> {
    let whole = snapshot::bytes(&meta(), &unhex(STATE)).unwrap();
    vec![whole[snapshot::HEADER_BYTES..].to_vec()]
}

fn raft_snapshot(rest: &[u8]) {
    let sum = Digest::of(rest);
    let bytes = [&b"HSNP\x01"[..], sum.as_bytes(), rest].concat();
    for bytes in [&bytes[..], rest] {
        if let Ok((meta, state)) = snapshot::parse(Path::new("snapshot"), bytes) {
            let again = snapshot::bytes(&meta, &state).unwrap();
            let again = snapshot::parse(Path::new("snapshot"), &again).unwrap();
            assert_eq!(again, (meta, state));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_hostile::{hold, hold_for};

    fn named(name: &str) -> &'static Parser {
        PARSERS.iter().find(|p| p.name == name).unwrap()
    }

    #[test]
    fn a_peers_frame_may_be_anything() {
        hold(named("raft_frame"));
    }

    #[test]
    fn a_state_may_be_anything_and_one_that_is_read_can_be_gone_on_from() {
        hold(named("ledger_state"));
    }

    #[test]
    fn a_command_may_say_anything() {
        hold(named("ledger_command"));
    }

    #[test]
    fn a_copy_of_the_ledger_may_be_anything() {
        hold(named("ledger_copy"));
    }

    #[test]
    fn a_snapshot_may_be_anything() {
        hold(named("raft_snapshot"));
    }

    #[test]
    fn a_log_on_the_disk_may_be_spoilt_anywhere() {
        hold_for(named("raft_log"), 48);
    }

    #[test]
    fn a_state_on_the_disk_may_be_spoilt_anywhere() {
        hold_for(named("state_store"), 24);
    }
}
