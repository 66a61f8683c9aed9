//! What a peer may send in a session, judged frame by frame before any actor sees it.
//!
//! ractor_cluster believes a peer's name once the cookie fits, mirrors whatever actors and groups
//! it tells of, and queues without bounds. A member of the cluster that lies or floods must not
//! get another's session closed, nor make this node grow. So: the name is the one that the
//! transport has proven; a frame is one of those that a gateway sends, and no larger; calls come
//! no faster than their answers are taken; answers come only to questions.

use crate::config::Limits;
use crate::proto::{Field, field, only_field};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How much of a frame is looked at; all that is no question or answer has to fit.
pub(crate) const HEAD_BYTES: usize = 512;
/// What ractor_cluster adds to a question or an answer, at most.
const SLACK_BYTES: usize = 256;
/// Messages of a handshake: three from each end.
const AUTHS: u32 = 4;
/// Messages about actors and groups: a gateway tells of one actor in one group.
const STRUCTURES: u32 = 16;
const STRUCTURE_BYTES: usize = 160;
/// Pings come once a second at most, and so do the answers to our own.
const SIGNS_AT_ONCE: u64 = 32;
const SIGNS_PER_SECOND: u64 = 4;

/// What was asked and answered on a session, as the bytes that pass tell.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    calls_in: AtomicU64,
    replies_out: AtomicU64,
    /// Bytes of answers that were given and not written yet.
    waiting: AtomicU64,
    asked: AtomicU64,
    calls_out: AtomicU64,
    replies_in: AtomicU64,
}

impl Flow {
    /// Questions of the peer whose answers it has not taken yet.
    pub(crate) fn owed(&self) -> u64 {
        apart(&self.calls_in, &self.replies_out)
    }

    /// Questions of ours that are not written yet.
    pub(crate) fn unsent(&self) -> u64 {
        apart(&self.asked, &self.calls_out)
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A question of ours goes out.
    pub(crate) fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer of so many bytes goes out.
    pub(crate) fn give(&self, bytes: usize) {
        self.waiting.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// An answer was written. Answers to questions without a ticket were never given.
    fn took(&self, bytes: u64) {
        let less = |waiting: u64| Some(waiting.saturating_sub(bytes));
        // It never fails: there always is a next value.
        let _ = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// A frame was written: its length and its head.
    pub(crate) fn written(&self, len: usize, head: &[u8]) {
        let node = only_field(len, head).filter(|(kind, ..)| *kind == 2);
        match node.and_then(|(_, len, head)| only_field(len, head)) {
            Some((2, ..)) => {
                self.calls_out.fetch_add(1, Ordering::Relaxed);
            }
            Some((3, _, mut reply)) => {
                self.replies_out.fetch_add(1, Ordering::Relaxed);
                while let Some((number, value)) = field(&mut reply) {
                    if let (3, Field::Bytes(len, _)) = (number, value) {
                        self.took(len as u64);
                    }
                }
            }
            _ => {}
        }
    }
}

fn apart(more: &AtomicU64, less: &AtomicU64) -> u64 {
    let less = less.load(Ordering::Relaxed);
    more.load(Ordering::Relaxed).saturating_sub(less)
}

/// Why a session is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The peer names itself another than it has proven to be.
    WrongName,
    /// It sends what it may not, or more than it may.
    Frame(&'static str),
}

/// Judges the frames of one session.
pub(crate) struct Gate {
    /// The only name that the peer may have.
    name: String,
    call_bytes: usize,
    reply_bytes: usize,
    owed: u64,
    auths: u32,
    structures: u32,
    signs: u64,
}

/// The name of a node among actors: one that follows from what the transport proves.
pub(crate) fn name_of(node: &hale_model::NodeId) -> String {
    format!("hale@{node}")
}

/// The largest frame that may come at all.
pub(crate) fn max_frame_bytes(limits: &Limits) -> usize {
    let question = limits.question_bytes + crate::ask::HEAD_BYTES;
    question.max(limits.answer_bytes + 1) + 2 * SLACK_BYTES
}

impl Gate {
    pub(crate) fn new(peer: &hale_model::NodeId, limits: &Limits) -> Self {
        Self {
            name: name_of(peer),
            call_bytes: limits.question_bytes + crate::ask::HEAD_BYTES + SLACK_BYTES,
            reply_bytes: limits.answer_bytes + 1 + SLACK_BYTES,
            // A peer within its limits may ask the next question before we have counted that an
            // answer was written, and does so when a question has timed out there.
            owed: 4 * limits.per_peer as u64,
            auths: 0,
            structures: 0,
            signs: 0,
        }
    }

    /// Judges a frame of `len` bytes by its first [`HEAD_BYTES`], or all if it is shorter, so
    /// long after the session began.
    pub(crate) fn judge(
        &mut self,
        age: Duration,
        len: usize,
        head: &[u8],
        flow: &Flow,
    ) -> Result<(), Refusal> {
        match only_field(len, head) {
            Some((1, len, head)) => self.auth(len, head),
            Some((2, len, head)) => self.node(len, head, flow),
            Some((3, len, head)) => self.control(age, len, head),
            _ => Err(Refusal::Frame("not a frame")),
        }
    }

    fn auth(&mut self, len: usize, head: &[u8]) -> Result<(), Refusal> {
        self.auths += 1;
        if head.len() < len || self.auths > AUTHS {
            return Err(Refusal::Frame("too much of a handshake"));
        }
        match only_field(len, head) {
            // The name of who dials, the challenge of who is dialed: both start with the name.
            Some((1 | 4, _, message)) => self.named(message),
            Some((2 | 3 | 5 | 6, ..)) => Ok(()),
            _ => Err(Refusal::Frame("not a handshake")),
        }
    }

    fn named(&self, mut message: &[u8]) -> Result<(), Refusal> {
        let mut is_named = false;
        while !message.is_empty() {
            match field(&mut message) {
                Some((1, Field::Bytes(_, name))) if name == self.name.as_bytes() => is_named = true,
                Some((1, _)) => return Err(Refusal::WrongName),
                Some(_) => {}
                None => return Err(Refusal::Frame("not a handshake")),
            }
        }
        is_named.then_some(()).ok_or(Refusal::WrongName)
    }

    fn node(&self, len: usize, head: &[u8], flow: &Flow) -> Result<(), Refusal> {
        match only_field(len, head) {
            Some((2, len, _)) if len <= self.call_bytes => {
                flow.calls_in.fetch_add(1, Ordering::Relaxed);
                let is_flood = flow.owed() > self.owed;
                (!is_flood)
                    .then_some(())
                    .ok_or(Refusal::Frame("more questions than it takes answers"))
            }
            Some((3, len, _)) if len <= self.reply_bytes => {
                let answers = 1 + flow.replies_in.fetch_add(1, Ordering::Relaxed);
                (answers <= flow.asked.load(Ordering::Relaxed))
                    .then_some(())
                    .ok_or(Refusal::Frame("an answer to no question"))
            }
            Some((2 | 3, ..)) => Err(Refusal::Frame("too large")),
            _ => Err(Refusal::Frame("neither question nor answer")),
        }
    }

    fn control(&mut self, age: Duration, len: usize, head: &[u8]) -> Result<(), Refusal> {
        match only_field(len, head) {
            // Actors and groups that come and go, and that all were told of.
            Some((1 | 2 | 5 | 6 | 9, ..)) => {
                self.structures += 1;
                (self.structures <= STRUCTURES && len <= STRUCTURE_BYTES)
                    .then_some(())
                    .ok_or(Refusal::Frame("too many actors"))
            }
            // Signs of life.
            Some((3 | 4, ..)) => {
                self.signs += 1;
                let may = SIGNS_AT_ONCE + age.as_secs() * SIGNS_PER_SECOND;
                (self.signs <= may && len <= STRUCTURE_BYTES)
                    .then_some(())
                    .ok_or(Refusal::Frame("too many signs of life"))
            }
            // Other sessions are nobody's business.
            _ => Err(Refusal::Frame("not for a gateway")),
        }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
