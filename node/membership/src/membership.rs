//! The driver: one value that owns foca and its timers.

mod acquaint;
mod claims;
#[cfg(test)]
mod tests;

use crate::MembershipError;
use crate::codec::WireCodec;
use crate::identity::{Contact, Id};
use crate::profile::{Announcement, Profile, Profiles};
use crate::rng::SplitMix;
use crate::timers::{Alarm, Timers};
use crate::tuning::Tuning;
use foca::{AccumulatingRuntime, Foca, OwnedNotification};
use hale_model::{Keypair, NodeId, wire};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The largest packet, in bytes; with the transport's first byte it fits one QUIC datagram.
pub const MAX_PACKET_BYTES: usize = 1149;
/// How often seeds are asked while there is nobody else: the first pause, and the longest.
const SEED_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// So many wrong profiles in one exchange are taken for mistakes: of nodes that were removed a moment
/// ago, or not heard of yet.
const MAX_WRONG_PROFILES: u64 = 64;
/// About so many of all members look after one that is said to be down.
const LOOK_AFTER: usize = 8;
/// How often, and whom, a node greets whose rejoining nobody has answered.
const REJOIN: (Duration, usize) = (Duration::from_secs(1), 3);
/// The most seeds.
const MAX_SEEDS: usize = 64;

/// Whether a node may be spoken of: it is on the roster.
pub type Admit = Arc<dyn Fn(&NodeId) -> bool + Send + Sync>;

/// What a membership is given.
#[derive(Clone)]
pub struct Settings {
    /// The node's key: it signs the profile.
    pub key: Keypair,
    /// Where others reach this node.
    pub addr: SocketAddr,
    /// When this node was started, in milliseconds since the epoch: a later start wins over what
    /// is told of an earlier one. Others believe none that is beyond their [`latest_life`].
    pub started_ms: u64,
    /// For the choice of whom to probe.
    pub seed: u64,
    /// Whether a node may be spoken of.
    pub admit: Admit,
    /// How fast.
    pub tuning: Tuning,
}

/// What happens to a membership.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A packet came from a peer whose key the transport has proven.
    Packet {
        /// Whose.
        from: NodeId,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Joins through any of these; they are asked until one is known to be alive.
    Join(Vec<Contact>),
    /// What a peer knows ([`Membership::everything`]), after an [`Effect::Exchange`].
    Everything(Vec<u8>),
    /// This node's profile is now this.
    Profile(Profile),
    /// A node is off the roster: it is down, whatever it says.
    Evict(NodeId),
    /// This node leaves, and says so.
    Leave,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send a packet; it may get lost.
    Send {
        /// To whom.
        to: Contact,
        /// At most [`MAX_PACKET_BYTES`].
        bytes: Vec<u8>,
    },
    /// Exchange [`Membership::everything`] with a peer over a stream, both ways.
    Exchange {
        /// With whom.
        with: Contact,
    },
    /// A member is alive that was not, or has a new address or life.
    Up(Contact),
    /// A member is down.
    Down(Contact),
    /// The others thought that this node was down; it has a new incarnation.
    Rejoined {
        /// The incarnation.
        incarnation: u64,
    },
}

/// How a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It answers.
    Alive,
    /// It did not answer; it has time to.
    Suspect,
    /// It did not answer in time, or has left.
    Down,
}

/// A member as gossip sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who and where.
    pub contact: Contact,
    /// Which of its lives.
    pub incarnation: u64,
    /// How it is.
    pub state: State,
    /// What it says of itself, if that was heard yet.
    pub profile: Option<Profile>,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets taken in.
    pub packets_in: u64,
    /// Packets to send.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Packets refused: not from whom they say, not for us, malformed, too large.
    pub refused_packets: u64,
    /// Members left out of packets: on no roster, or too many.
    pub refused_members: u64,
    /// Identities of members, with address and life, that their nodes have not signed, or that
    /// begin beyond all clocks. What comes with one that is not signed is refused with it.
    pub refused_identities: u64,
    /// Profiles refused: a stranger's, or with a wrong signature.
    pub refused_profiles: u64,
    /// How often this node itself took a member that did not answer for a suspect.
    pub suspicions: u64,
}

/// All that a node knows, for an exchange.
#[derive(Serialize, Deserialize)]
struct Everything {
    members: Vec<foca::Member<Id>>,
    profiles: Vec<Vec<u8>>,
}

type Runtime = AccumulatingRuntime<Id>;

/// Who is alive, as gossip sees it.
pub struct Membership {
    settings: Settings,
    foca: Foca<Id, WireCodec, SplitMix, Profiles>,
    runtime: Runtime,
    timers: Timers,
    rng: SplitMix,
    now: Duration,
    seeds: Vec<Contact>,
    seed_pause: Duration,
    /// When the seeds are asked next.
    seeds_at: Duration,
    /// When everything is exchanged next.
    exchange_at: Duration,
    profiles: Profiles,
    /// What this node says of itself.
    profile: Profile,
    /// Signed and waiting to be told.
    unsaid: Option<Vec<u8>>,
    /// When the profile may be told again.
    quiet_until: Duration,
    said: u64,
    /// The size that foca is tuned for.
    tuned_for: usize,
    has_left: bool,
    /// Whether anybody has been heard since this node last took up a new life.
    is_heard: bool,
    /// The others take this life of this node for down.
    is_disowned: bool,
    /// The latest life of this node that others have on record.
    on_record: u64,
    counts: Counts,
}

impl Membership {
    /// A node that knows nobody yet.
    ///
    /// # Errors
    /// If the profile is too large.
    pub fn new(settings: Settings, profile: &Profile) -> Result<Self, MembershipError> {
        let id = Id::sign(settings.addr, settings.started_ms, &settings.key);
        let mut rng = SplitMix::new(settings.seed);
        let profiles = Profiles::new(settings.admit.clone(), settings.tuning.max_members);
        let foca = Foca::with_custom_broadcast(
            id,
            settings.tuning.config(1),
            SplitMix::new(rng.next()),
            WireCodec,
            profiles.clone(),
        );
        let mut new = Self {
            foca,
            runtime: Runtime::new(),
            timers: Timers::default(),
            rng,
            now: Duration::ZERO,
            seeds: vec![],
            seed_pause: SEED_PAUSES.0,
            seeds_at: Duration::ZERO,
            exchange_at: settings.tuning.exchange_period,
            profiles,
            profile: profile.clone(),
            unsaid: None,
            quiet_until: Duration::ZERO,
            said: 0,
            tuned_for: 1,
            has_left: false,
            is_heard: false,
            is_disowned: false,
            on_record: 0,
            counts: Counts::default(),
            settings,
        };
        new.sign(profile)?;
        new.say_profile();
        new.timers
            .set(new.settings.tuning.exchange_period, Alarm::Exchange);
        Ok(new)
    }

    /// When [`Event::Tick`] is due, as the time that is handed to [`Membership::on`].
    pub fn next_deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Takes in what happened at `now`, the time since the node's start, and says what to do.
    pub fn on(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        self.now = self.now.max(now);
        self.profiles.believe_until(self.latest_life());
        let mut out = vec![];
        for alarm in self.timers.due(self.now) {
            self.ring(alarm, &mut out);
        }
        match event {
            Event::Tick => {}
            _ if self.has_left => {}
            Event::Packet { from, bytes } => self.packet(from, &bytes, &mut out),
            Event::Join(seeds) => self.join(seeds, &mut out),
            Event::Everything(bytes) => self.take_everything(&bytes, &mut out),
            Event::Profile(profile) => self.change_profile(&profile),
            Event::Evict(node) => self.evict(&node, &mut out),
            Event::Leave => self.leave(&mut out),
        }
        let is_behind = self.on_record > self.foca.identity().incarnation;
        if (self.is_disowned || is_behind) && !self.has_left {
            self.begin_life(&mut out);
        }
        out
    }

    /// This node.
    pub fn contact(&self) -> Contact {
        self.foca.identity().contact
    }

    /// Everybody known, this node and those that are down too, by node.
    pub fn members(&self) -> Vec<Member> {
        let me = foca::Member::alive(*self.foca.identity());
        let mut all: Vec<_> = self
            .foca
            .iter_membership_state()
            // An earlier life of this node's, which others took for down, is nobody.
            .filter(|m| m.id().contact.node != me.id().contact.node)
            .chain([&me])
            .map(|m| Member {
                contact: m.id().contact,
                incarnation: m.id().incarnation,
                state: match m.state() {
                    foca::State::Alive => State::Alive,
                    foca::State::Suspect => State::Suspect,
                    foca::State::Down => State::Down,
                },
                profile: self.profiles.of(&m.id().contact.node),
            })
            .collect();
        all.sort_by_key(|m| m.contact);
        all
    }

    /// All that this node knows, to be given to a peer in an exchange.
    ///
    /// # Errors
    /// If it is too large to be encoded.
    pub fn everything(&self) -> Result<Vec<u8>, MembershipError> {
        let me = foca::Member::alive(*self.foca.identity());
        let members = self
            .foca
            .iter_membership_state()
            .chain([&me])
            .cloned()
            .collect();
        Ok(wire::encode(&Everything {
            members,
            profiles: self.profiles.all(),
        })?)
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        Counts {
            refused_profiles: self.profiles.refused(),
            ..self.counts
        }
    }

    fn ring(&mut self, alarm: Alarm, out: &mut Vec<Effect>) {
        match alarm {
            Alarm::Foca(timer) => self.drive(out, |f, r| f.handle_timer(timer, r)),
            _ if self.has_left => {}
            // Only the one that was set last: there is one chain of each.
            Alarm::Seeds if self.now >= self.seeds_at => self.ask_seeds(out),
            Alarm::Exchange if self.now >= self.exchange_at => self.exchange(out),
            Alarm::Greet(contact) => self.greet(contact, out),
            Alarm::Rejoin if !self.is_heard => self.rejoin(out),
            Alarm::Seeds | Alarm::Exchange | Alarm::Rejoin => {}
            Alarm::Profile => self.say_profile(),
        }
    }

    /// Lets foca do something, then takes over all that it wants done.
    fn drive(
        &mut self,
        out: &mut Vec<Effect>,
        act: impl FnOnce(
            &mut Foca<Id, WireCodec, SplitMix, Profiles>,
            &mut Runtime,
        ) -> Result<(), foca::Error>,
    ) {
        if let Err(error) = act(&mut self.foca, &mut self.runtime) {
            tracing::debug!(%error, "gossip: a packet or timer was not taken");
            self.counts.refused_packets += 1;
        }
        while let Some((to, data)) = self.runtime.to_send() {
            self.counts.packets_out += 1;
            self.counts.bytes_out += data.len() as u64;
            out.push(Effect::Send {
                to: to.contact,
                bytes: data.to_vec(),
            });
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            let suspects = matches!(timer, foca::Timer::ChangeSuspectToDown { .. });
            self.counts.suspicions += u64::from(suspects);
            self.timers.set(self.now + after, Alarm::Foca(timer));
        }
        while let Some(note) = self.runtime.to_notify() {
            self.notice(note, out);
        }
        self.retune();
    }

    fn notice(&mut self, note: OwnedNotification<Id>, out: &mut Vec<Effect>) {
        match note {
            OwnedNotification::MemberUp(id) => out.push(Effect::Up(id.contact)),
            OwnedNotification::MemberDown(id) => {
                out.push(Effect::Down(id.contact));
                // It may have been slandered, and two that take each other for down do not talk:
                // one that lives answers this, and is told what is said of it.
                if self.rng.below(self.foca.num_members() + 1) < LOOK_AFTER {
                    self.timers.set(self.now, Alarm::Greet(id.contact));
                }
            }
            OwnedNotification::Rename(before, after) if before.contact != after.contact => {
                out.push(Effect::Up(after.contact));
            }
            // The first peer: what it knows is asked for at once. SWIM alone tells a newcomer
            // only of what fits some packets.
            OwnedNotification::Active => {
                self.is_heard = true;
                self.exchange(out);
            }
            OwnedNotification::Defunct => self.is_disowned = true,
            OwnedNotification::Idle => {
                self.seeds_at = self.now + SEED_PAUSES.0;
                self.timers.set(self.seeds_at, Alarm::Seeds);
            }
            _ => {}
        }
    }

    /// Suspicion and dissemination follow the cluster's size.
    fn retune(&mut self) {
        let size = self.foca.num_members() + 1;
        if size != self.tuned_for {
            self.tuned_for = size;
            // It fails only if probe periods change, and they do not.
            let _ = self.foca.set_config(self.settings.tuning.config(size));
        }
    }

    fn packet(&mut self, from: NodeId, bytes: &[u8], out: &mut Vec<Effect>) {
        self.counts.packets_in += 1;
        match self.honest(from, bytes) {
            Some(bytes) => self.drive(out, |f, r| f.handle_data(&bytes, r)),
            None => self.counts.refused_packets += 1,
        }
    }

    fn join(&mut self, mut seeds: Vec<Contact>, out: &mut Vec<Effect>) {
        let me = self.contact().node;
        seeds.retain(|s| s.node != me);
        seeds.truncate(MAX_SEEDS);
        self.seeds = seeds;
        self.seed_pause = SEED_PAUSES.0;
        self.ask_seeds(out);
    }

    /// Asks all seeds, and again later, as long as nobody is known.
    fn ask_seeds(&mut self, out: &mut Vec<Effect>) {
        if self.seeds.is_empty() || self.foca.num_members() > 0 {
            self.seed_pause = SEED_PAUSES.0;
            return;
        }
        for contact in self.seeds.clone() {
            self.greet(contact, out);
        }
        self.seeds_at = self.now + self.spread(self.seed_pause);
        self.timers.set(self.seeds_at, Alarm::Seeds);
        self.seed_pause = (self.seed_pause * 2).min(SEED_PAUSES.1);
    }

    /// Says hello; which life the other lives is not known, and any takes it.
    fn greet(&mut self, contact: Contact, out: &mut Vec<Effect>) {
        let to = Id::unknown_life(contact);
        self.drive(out, |f, r| f.announce(to, r));
    }

    fn rejoin(&mut self, out: &mut Vec<Effect>) {
        let known = self.foca.iter_membership_state();
        let mut known: Vec<_> = known.map(|m| m.id().contact).collect();
        for _ in 0..REJOIN.1.min(known.len()) {
            let contact = known.swap_remove(self.rng.below(known.len()));
            self.greet(contact, out);
        }
        self.timers.set(self.now + REJOIN.0, Alarm::Rejoin);
    }

    fn exchange(&mut self, out: &mut Vec<Effect>) {
        let alive: Vec<_> = self.foca.iter_members().map(|m| m.id().contact).collect();
        if let Some(with) = alive.get(self.rng.below(alive.len())) {
            out.push(Effect::Exchange { with: *with });
        }
        self.forget_profiles();
        self.exchange_at = self.now + self.spread(self.settings.tuning.exchange_period);
        self.timers.set(self.exchange_at, Alarm::Exchange);
    }

    /// Between three and five quarters of it, so that nodes do not act in step.
    fn spread(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(0.75 + self.rng.below(1000) as f64 / 2000.0)
    }

    fn forget_profiles(&self) {
        let me = self.contact().node;
        let known: std::collections::BTreeSet<_> = self
            .foca
            .iter_membership_state()
            .map(|m| m.id().contact.node)
            .collect();
        self.profiles
            .retain(|node| *node == me || known.contains(node));
    }

    fn take_everything(&mut self, bytes: &[u8], out: &mut Vec<Effect>) {
        let Ok(theirs) = wire::decode::<Everything>(bytes) else {
            self.counts.refused_packets += 1;
            return;
        };
        let most = self.settings.tuning.max_members;
        self.counts.refused_members += theirs.members.len().saturating_sub(most) as u64;
        let Some(news) = self.vouched(theirs.members.into_iter().take(most)) else {
            tracing::debug!("gossip: an exchange with a forged identity is not looked at");
            self.counts.refused_packets += 1;
            return;
        };
        // Others know it already, or exchange it themselves.
        self.drive(out, |f, r| f.apply_many(news.into_iter(), false, r));
        let refused = self.profiles.refused();
        for profile in theirs.profiles.iter().take(most) {
            self.profiles.take(profile);
            // Whoever gives so many that are wrong is not worth the checking of the rest.
            if self.profiles.refused() - refused > MAX_WRONG_PROFILES {
                tracing::debug!("gossip: the rest of an exchange is not looked at");
                break;
            }
        }
    }

    fn sign(&mut self, profile: &Profile) -> Result<(), MembershipError> {
        let number = (self.foca.identity().incarnation, self.said + 1);
        let bytes = Announcement::sign(profile, number, &self.settings.key)?;
        self.said += 1;
        self.profile = profile.clone();
        self.unsaid = Some(bytes);
        Ok(())
    }

    fn change_profile(&mut self, profile: &Profile) {
        if self.profile == *profile {
            return;
        }
        self.renew_profile(profile);
    }

    fn renew_profile(&mut self, profile: &Profile) {
        let is_waiting = self.unsaid.is_some();
        match self.sign(profile) {
            Err(error) => tracing::warn!(%error, "gossip goes on with the profile of before"),
            Ok(()) if self.now >= self.quiet_until => self.say_profile(),
            Ok(()) if !is_waiting => self.timers.set(self.quiet_until, Alarm::Profile),
            Ok(()) => {}
        }
    }

    fn say_profile(&mut self) {
        if let Some(bytes) = self.unsaid.take() {
            self.quiet_until = self.now + self.settings.tuning.profile_period;
            if let Err(error) = self.foca.add_broadcast(&bytes) {
                tracing::warn!(%error, "gossip does not take this node's profile");
            }
        }
    }

    /// Lives on where this life is taken for down, or is one that others take for past.
    fn begin_life(&mut self, out: &mut Vec<Effect>) {
        self.is_disowned = false;
        let before = self.foca.identity().incarnation;
        let incarnation = before.max(self.on_record).saturating_add(1);
        let id = Id::sign(self.settings.addr, incarnation, &self.settings.key);
        // Nobody speaks to it, if all take the new life for down too before they have heard of it.
        self.is_heard = false;
        self.timers.set(self.now + REJOIN.0, Alarm::Rejoin);
        self.drive(out, |f, r| {
            f.change_identity(id, &mut *r)?;
            // By this it goes on with those that it knows to be alive.
            f.apply_many(std::iter::empty(), false, r)
        });
        out.push(Effect::Rejoined { incarnation });
        if self.on_record > before {
            // So are the numbers of its profiles.
            let profile = self.profile.clone();
            self.renew_profile(&profile);
        }
    }

    fn evict(&mut self, node: &NodeId, out: &mut Vec<Effect>) {
        let gone = self
            .foca
            .iter_membership_state()
            .find(|m| m.id().contact.node == *node);
        if let Some(gone) = gone.cloned() {
            let down = foca::Member::new(*gone.id(), gone.incarnation(), foca::State::Down);
            self.drive(out, |f, r| f.apply_many([down].into_iter(), true, r));
        }
        self.profiles.retain(|n| n != node);
    }

    fn leave(&mut self, out: &mut Vec<Effect>) {
        self.has_left = true;
        self.drive(out, |f, r| f.leave_cluster(r));
    }
}
