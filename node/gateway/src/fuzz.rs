//! What reads bytes from outside here, to be held against hostile ones: what a peer sends in a
//! session, before any actor sees it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::config::Limits;
use crate::gate::{Flow, Gate, HEAD_BYTES, max_frame_bytes, name_of};
use crate::halves::{Gated, Plug};
use crate::proto;
use hale_hostile::Parser;
use hale_model::NodeId;
use ractor_cluster::ClusterBidiStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// All of them.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "gateway_frame",
        seeds: frames,
        feed: frame,
    },
    Parser {
        name: "gateway_session",
        seeds: || {
            let sessions = frames().into_iter().map(|f| framed(&f));
            vec![sessions.flatten().collect()]
        },
        feed: session,
    },
];

fn peer() -> NodeId {
    NodeId::from_bytes([7; 32])
}

/// A length-delimited field.
fn wrap(number: u8, inner: &[u8]) -> Vec<u8> {
    let (low, high) = (inner.len() as u8 | 0x80, (inner.len() >> 7) as u8);
    [&[number << 3 | 2, low, high], inner].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u64).to_be_bytes()[..], message].concat()
}

fn frames() -> Vec<Vec<u8>> {
    let name = [wrap(1, name_of(&peer()).as_bytes()), vec![0x20, 5]].concat();
    let call = [vec![0x08, 3], wrap(2, &[0; 600])].concat();
    let reply = [vec![0x08, 3, 0x10, 9], wrap(3, &[0; 9])].concat();
    vec![
        wrap(1, &wrap(1, &name)),
        wrap(2, &wrap(2, &call)),
        wrap(2, &wrap(3, &reply)),
        wrap(3, &wrap(3, &[0x08, 1])),
    ]
}

fn frame(bytes: &[u8]) {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let (mut gate, flow) = (Gate::new(&peer(), &Limits::default()), Flow::default());
    for n in 0..3 {
        flow.ask();
        let _ = gate.judge(Duration::from_secs(n), bytes.len(), head, &flow);
        flow.written(bytes.len(), head);
    }
    let _ = (flow.owed(), flow.unsent(), flow.waiting());
    let mut rest = bytes;
    while proto::field(&mut rest).is_some() {}
}

/// What passes the gate is what came, as far as it passed.
fn session(bytes: &[u8]) {
    let limits = Limits::default();
    let gate = (Gate::new(&peer(), &limits), Arc::<Flow>::default());
    let plug = Arc::<Plug>::default();
    let ends = (std::io::Cursor::new(bytes.to_vec()), tokio::io::sink());
    let most = max_frame_bytes(&limits);
    let gated = Gated::new("1".to_owned(), ends, gate, most, plug, |_| {});
    let (mut read, _write) = Box::new(gated).split();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let mut passed = vec![];
    let _ = runtime.unwrap().block_on(read.read_to_end(&mut passed));
    assert!(bytes.starts_with(&passed));
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_hostile::hold;

    #[test]
    fn what_a_peer_sends_in_a_session_may_be_anything() {
        PARSERS.iter().for_each(hold);
    }
}
