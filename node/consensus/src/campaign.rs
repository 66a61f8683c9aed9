//! When a node stands for election, as a pure machine: only after it has missed the leader for a
//! lease, and only if a majority says before the term rises that it misses the leader too (the
//! pre-vote of Ongaro's thesis, §9.6). So a node that was cut off disturbs nobody when it is back.
//!
//! It takes the place of openraft's own timer (`enable_elect(false)`). The lease is the one that
//! openraft's followers give their leader, `election_timeout_max`: sooner no vote is granted.

use hale_model::NodeId;
use std::collections::BTreeSet;
use std::time::Duration;

/// openraft refuses a vote up to and including the lease's last moment.
const PAST: Duration = Duration::from_millis(1);
/// A handover that did not succeed within this is given up.
const HANDOVER: Duration = Duration::from_secs(3);
/// A handover stands so often, then it is an election like any other: each try raises the term.
const HANDOVER_TRIES: u32 = 5;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// A leader that was heard is not contested for so long; openraft's `election_timeout_max`.
    pub lease: Duration,
    /// After the lease each node waits up to so much longer, so that not all stand at once.
    pub spread: Duration,
    /// A pre-vote may take so long.
    pub retry: Duration,
}

impl Default for Settings {
    /// For heartbeats every 60 ms: five may be missed.
    fn default() -> Self {
        Self {
            lease: Duration::from_millis(300),
            spread: Duration::from_millis(150),
            retry: Duration::from_millis(80),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A leader's append or heartbeat was answered, and its term is not old.
    HeardLeader,
    /// This node leads from now on.
    Leading,
    /// It does not lead any more.
    Following,
    /// A peer answered whether it would vote for this node.
    PreVoted {
        /// The round that was asked.
        round: u64,
        /// Who answers.
        from: NodeId,
        /// Whether it would: it misses the leader, and its log is not ahead of ours.
        granted: bool,
    },
    /// Who votes; of a joint group all of both halves.
    Group {
        /// Who votes.
        voters: BTreeSet<NodeId>,
        /// This node, whether it votes or not.
        me: NodeId,
    },
    /// The leader hands over to this node, and falls silent.
    TakeOver,
    /// Whether this node may stand: its disk takes writes, and it is not about to stop.
    Able(bool),
    /// An election that this node started ended without success.
    Lost,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask these whether they would vote for this node.
    AskPreVotes {
        /// To be named in the answer.
        round: u64,
        /// All other voters.
        of: Vec<NodeId>,
    },
    /// Stand: openraft's `trigger().elect()`.
    Elect,
}

#[derive(Debug)]
enum Phase {
    /// Another leads, or nobody: what comes next begins at `due`.
    Waiting {
        due: Duration,
    },
    /// The others were asked whether they miss the leader too.
    Asking {
        until: Duration,
        granted: BTreeSet<NodeId>,
    },
    /// Stands; if nothing comes of it, it begins again at `until`.
    Standing {
        until: Duration,
    },
    /// Was told to lead; stands at `due`.
    TakingOver {
        due: Duration,
        until: Duration,
        tries: u32,
    },
    Leading,
}

/// The machine. Times are since the process started; a leader is taken to have been heard then.
#[derive(Debug)]
pub struct Campaign {
    settings: Settings,
    rng: SplitMix,
    voters: BTreeSet<NodeId>,
    me: Option<NodeId>,
    able: bool,
    heard: Duration,
    round: u64,
    phase: Phase,
}

impl Campaign {
    /// Of a node that knows no group yet. `seed` differs between nodes and between starts.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let mut this = Self {
            settings,
            rng: SplitMix(seed),
            voters: BTreeSet::new(),
            me: None,
            able: true,
            heard: Duration::ZERO,
            round: 0,
            phase: Phase::Waiting {
                due: Duration::ZERO,
            },
        };
        this.await_leader();
        this
    }

    /// Takes in what happened, and does what is due by now.
    pub fn on(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        match event {
            Event::Tick => {}
            Event::HeardLeader => self.hear(now),
            Event::Leading => self.phase = Phase::Leading,
            Event::Following => self.follow(now),
            Event::PreVoted {
                round,
                from,
                granted,
            } => self.count(round, from, granted),
            Event::Group { voters, me } => self.regroup(now, voters, me),
            Event::TakeOver => self.take_over(now),
            Event::Able(able) => {
                let is_new = able && !self.able;
                self.able = able;
                if is_new {
                    self.pause(now);
                    self.if_alone_at_once(now);
                }
            }
            Event::Lost => {
                if matches!(self.phase, Phase::Standing { .. }) {
                    self.pause(now);
                }
            }
        }
        self.advance(now)
    }

    /// When a [`Event::Tick`] is due.
    pub fn next_due(&self) -> Option<Duration> {
        if !self.may_stand() {
            return None;
        }
        match &self.phase {
            Phase::Waiting { due } => Some(*due),
            Phase::Asking { until, .. } | Phase::Standing { until } => Some(*until),
            Phase::TakingOver { due, until, .. } => Some(*due.min(until)),
            Phase::Leading => None,
        }
    }

    /// What to answer another node's pre-vote, if its log is not behind this one's: whether this
    /// node leads or heard a leader within the lease.
    pub fn would_grant(&self, now: Duration) -> bool {
        !matches!(self.phase, Phase::Leading) && now > self.heard + self.settings.lease
    }

    fn may_stand(&self) -> bool {
        self.able && self.me.is_some_and(|me| self.voters.contains(&me))
    }

    fn is_alone(&self) -> bool {
        self.me.is_some_and(|me| self.voters.iter().eq([&me]))
    }

    fn hear(&mut self, now: Duration) {
        self.heard = now;
        match &mut self.phase {
            // The old leader may be heard once more; the lease begins anew.
            Phase::TakingOver { due, .. } => *due = now + self.settings.lease + PAST,
            Phase::Leading => {}
            _ => self.await_leader(),
        }
    }

    /// A leader's own lease ends no sooner than those that it was given.
    fn follow(&mut self, now: Duration) {
        if matches!(self.phase, Phase::Leading) {
            self.heard = now;
            self.await_leader();
        }
    }

    fn count(&mut self, round: u64, from: NodeId, yes: bool) {
        let is_asked = round == self.round && self.voters.contains(&from) && Some(from) != self.me;
        if let Phase::Asking { granted, .. } = &mut self.phase
            && is_asked
            && yes
        {
            granted.insert(from);
        }
    }

    fn regroup(&mut self, now: Duration, voters: BTreeSet<NodeId>, me: NodeId) {
        if self.voters == voters && self.me == Some(me) {
            return;
        }
        if let Phase::Asking { granted, .. } = &mut self.phase {
            granted.retain(|from| voters.contains(from));
        }
        self.voters = voters;
        self.me = Some(me);
        self.if_alone_at_once(now);
    }

    /// Nobody else can lead a group of one: there is nothing to wait for.
    fn if_alone_at_once(&mut self, now: Duration) {
        if self.is_alone()
            && let Phase::Waiting { due } = &mut self.phase
        {
            *due = now;
        }
    }

    fn take_over(&mut self, now: Duration) {
        if matches!(self.phase, Phase::Leading) || !self.may_stand() {
            return;
        }
        self.phase = Phase::TakingOver {
            due: now.max(self.heard + self.settings.lease + PAST),
            until: now + HANDOVER,
            tries: HANDOVER_TRIES,
        };
    }

    /// A lease and some from when the leader was last heard.
    fn await_leader(&mut self) {
        let due = self.heard + self.settings.lease + PAST + self.random(self.settings.spread);
        self.phase = Phase::Waiting { due };
    }

    /// Some time from now, but not before the lease has run out.
    fn pause(&mut self, now: Duration) {
        if !matches!(self.phase, Phase::Leading) {
            let earliest = self.heard + self.settings.lease + PAST;
            let due = earliest.max(now) + self.random(self.settings.spread);
            self.phase = Phase::Waiting { due };
        }
    }

    fn advance(&mut self, now: Duration) -> Vec<Effect> {
        if !self.may_stand() {
            return vec![];
        }
        if let Phase::Asking { until, granted } = &self.phase {
            // Itself is one of the majority.
            if granted.len() + 1 > self.voters.len() / 2 {
                return self.stand(now);
            }
            if *until <= now {
                // Shorter than the spread: the others have their own timers running.
                let due = now + self.random(self.settings.retry / 2);
                self.phase = Phase::Waiting { due };
            }
        }
        match self.phase {
            Phase::Waiting { due } if due <= now => self.begin(now),
            Phase::Standing { until } if until <= now => self.begin(now),
            Phase::TakingOver { due, until, tries } => self.press(now, due, until, tries),
            _ => vec![],
        }
    }

    fn begin(&mut self, now: Duration) -> Vec<Effect> {
        if self.is_alone() {
            return self.stand(now);
        }
        self.round += 1;
        self.phase = Phase::Asking {
            until: now + self.settings.retry.max(PAST),
            granted: BTreeSet::new(),
        };
        let others = self.voters.iter().copied().filter(|v| Some(*v) != self.me);
        vec![Effect::AskPreVotes {
            round: self.round,
            of: others.collect(),
        }]
    }

    fn stand(&mut self, now: Duration) -> Vec<Effect> {
        let until = now + self.settings.lease + PAST + self.random(self.settings.spread);
        self.phase = Phase::Standing { until };
        vec![Effect::Elect]
    }

    /// Stands without being asked for its reasons, a few times in a row: the others may have heard
    /// the old leader a little later than this node.
    fn press(&mut self, now: Duration, due: Duration, until: Duration, tries: u32) -> Vec<Effect> {
        if until <= now {
            self.pause(now);
            return vec![];
        }
        if now < due {
            return vec![];
        }
        if tries <= 1 {
            return self.stand(now);
        }
        self.phase = Phase::TakingOver {
            due: now + (self.settings.spread / 4).max(PAST),
            until,
            tries: tries - 1,
        };
        vec![Effect::Elect]
    }

    fn random(&mut self, below: Duration) -> Duration {
        let range = below.as_micros() as u64;
        let micros = self.rng.next().checked_rem(range).unwrap_or(0);
        Duration::from_micros(micros)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): spreads the timers; nothing secret hangs on it.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

#[cfg(test)]
mod tests;
