//! The network of the simulated world: packets are late, lost, doubled, overtaken, or kept from
//! one host to another.

use super::group::Slot;
use super::{Due, World};
use hale_model::ledger::{Answer, Command};

/// A packet takes up to this long.
const MAX_DELAY_MS: u64 = 400;
/// How many of a thousand come twice.
const DOUBLED: u64 = 20;

/// What hosts say to each other.
#[derive(Debug, Clone)]
pub(super) enum Message {
    /// A leader's log, from a place on.
    Append {
        term: u64,
        /// How much is before, and the term of the last of it.
        before: (usize, u64),
        slots: Vec<Slot>,
        commit: usize,
    },
    /// How far a follower's disk has the leader's log; or that it does not fit there.
    Appended { term: u64, fits: bool, len: usize },
    /// The whole state, for a follower that is far behind.
    Install {
        term: u64,
        log: Vec<Slot>,
        state: Vec<u8>,
        chain: Vec<hale_model::Digest>,
    },
    /// A command for the leader.
    Propose { ask: u64, command: Box<Command> },
    /// Up to where must be applied for this to be read?
    ReadIndex { ask: u64 },
    /// Does its leader still lead, in this term?
    Confirm { term: u64, round: u64 },
    /// It does, as far as this one knows.
    Confirmed { term: u64, round: u64 },
    /// Up to here.
    ReadAt { ask: u64, place: usize },
    /// What it led to; nothing if the one who was asked does not lead.
    Answered { ask: u64, answer: Option<Answer> },
}

impl Message {
    /// That a command comes twice stands for an asker that repeats it after no answer: of those that
    /// are not repeated each comes once, over a stream.
    fn may_be_doubled(&self) -> bool {
        match self {
            Self::Propose { command, .. } => command.may_be_repeated(),
            _ => true,
        }
    }
}

impl World {
    pub(super) fn gets_through(&self, from: usize, to: usize) -> bool {
        from == to || !self.cuts.contains(&(from, to))
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
        if from == to {
            self.after(0, Due::Message { from, to, message });
            return;
        }
        if !self.gets_through(from, to) || self.rng.chance(self.loss) {
            return;
        }
        if message.may_be_doubled() && self.rng.chance(DOUBLED) {
            let ms = self.rng.within(1, MAX_DELAY_MS);
            let message = message.clone();
            self.after(ms, Due::Message { from, to, message });
        }
        // Most are quick; a few are late and overtaken.
        let slow = self.rng.chance(200);
        let ms = self.rng.within(1, if slow { MAX_DELAY_MS } else { 20 });
        self.after(ms, Due::Message { from, to, message });
    }

    pub(super) fn receive(&mut self, from: usize, to: usize, message: Message) {
        if !self.hosts[to].up || !self.gets_through(from, to) {
            return;
        }
        match message {
            Message::Append {
                term,
                before,
                slots,
                commit,
            } => self.append(from, to, term, before, slots, commit),
            Message::Appended { term, fits, len } => self.appended(from, to, term, fits, len),
            Message::Install {
                term,
                log,
                state,
                chain,
            } => self.install(from, to, term, log, &state, chain),
            Message::Propose { ask, command } => self.propose(from, to, ask, *command),
            Message::ReadIndex { ask } => self.read_index(from, to, ask),
            Message::Confirm { term, round } => self.confirm(from, to, term, round),
            Message::Confirmed { term, round } => self.confirmed(from, to, term, round),
            Message::ReadAt { ask, place } => self.read_at(to, ask, place),
            Message::Answered { ask, answer } => self.answered(to, ask, answer),
        }
    }
}
