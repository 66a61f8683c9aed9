//! What a node outside the Raft group knows of the ledger: a copy that follows a node of the group,
//! one long question after the other. It is as old as its last answer, and says so. It is kept on
//! disk, so that a node that starts anew knows whom to trust before it has reached anyone.
//!
//! State and commands are taken from nodes of the known group alone, by what those told last, or by
//! this node's own log. Another group is learnt from them, or as [`crate::hearsay`] has it.

#[cfg(test)]
mod tests;

use crate::hearsay::Hearsay;
use crate::ledger::{Ledger, News};
use crate::network::{AskError, Followed, Lane, Reply, Request};
use crate::recovery;
use crate::shell::Shell;
use crate::store::machine::{self, LiveLedger, Teller};
use crate::store::{StoreError, blocking, locked, write_file};
use crate::types::{Group, Peer};
use hale_model::{Digest, NodeId, wire};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long a node of the group waits for news before it answers that there are none.
const WAIT: Duration = Duration::from_secs(5);
/// How long an answer may take beyond that.
const PATIENCE: Duration = Duration::from_secs(2);
/// Who has not heard from a leader for so long is left for another.
const TOO_OLD: Duration = Duration::from_secs(3);
/// Where no node of the known group has told anything fresh for so long, or is alive, others are
/// asked who is in the group: so many, for so long.
const UNHEARD: Duration = Duration::from_secs(5);
const ASKED: usize = 8;
const INQUIRY: Duration = Duration::from_secs(1);
/// An operator is told of a group that is not believed at most this often.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Between two attempts, at least; the jitter is as long again. Each attempt in vain doubles it.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a node of the group looks whether it still is one.
const LOOK: Duration = Duration::from_millis(250);
/// The copy on disk is renewed at least so often while it changes.
const SAVE_EVERY: Duration = Duration::from_secs(60);

const MAGIC: [u8; 4] = *b"HMIR";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 4 + 1 + 32;

/// What a new member is given, and what is kept on disk: the ledger's state at a log index, and
/// who was in the group then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Up to which log index.
    pub applied: u64,
    /// The state, as [`Ledger::encode`] writes it.
    pub state: Vec<u8>,
    /// Who is in the group.
    pub group: Group,
}

impl Copy {
    /// The ledger in it.
    ///
    /// # Errors
    /// If the bytes are no state, damaged, or of a newer version.
    pub fn ledger(&self) -> Result<Ledger, crate::StateError> {
        Ledger::decode(&self.state)
    }

    /// Puts it into the directory of a node that has just joined.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, dir: &Path) -> Result<(), StoreError> {
        std::fs::create_dir_all(dir).map_err(StoreError::io(dir))?;
        let path = dir.join("copy");
        let bytes = self.to_bytes();
        let bytes = bytes.map_err(|e| StoreError::damaged(&path, e))?;
        write_file(&path, &bytes).map_err(StoreError::io(&path))
    }

    /// The file of it.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, wire::WireError> {
        let body = wire::encode(self)?;
        let sum = Digest::of(&body);
        Ok([&MAGIC[..], &[VERSION], sum.as_bytes(), &body].concat())
    }

    /// What is kept in the directory, if anything is.
    ///
    /// # Errors
    /// If it can't be read or is damaged.
    pub fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join("copy");
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io(&path)(e)),
        };
        Self::parse(&path, &bytes).map(Some)
    }

    /// What such a file holds.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = |what: &str| StoreError::damaged(path, what);
        let (head, body) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or_else(|| damaged("it is cut short"))?;
        if head[..4] != MAGIC {
            return Err(damaged("it is no copy of a ledger"));
        }
        if head[4] != VERSION {
            let found = format!("copy {}", head[4]);
            let path = path.to_owned();
            return Err(StoreError::Newer { path, found });
        }
        if Digest::of(body).as_bytes() != &head[5..] {
            return Err(damaged("it does not match its checksum"));
        }
        wire::decode(body).map_err(|e| StoreError::damaged(path, e))
    }
}

#[derive(Default)]
struct Known {
    group: Group,
    /// Who is in the group by this node's own log.
    own: Group,
    hearsay: Hearsay,
    /// When an operator was told of a group that is not believed.
    told_of: Option<Instant>,
    /// When the last answer came, and how old it was then.
    heard: Option<(Instant, Duration)>,
    source: Option<NodeId>,
    saved: Option<(Instant, u64)>,
    roster: usize,
    /// The ledger was recovered, and goes on in this term: what the copy holds may not be of it.
    begins_anew: Option<u64>,
}

impl Known {
    /// The nodes whose word on the ledger counts.
    fn trusted(&self) -> impl Iterator<Item = &Peer> {
        let own_counts = self.own.term >= self.group.term || self.group.voters.is_empty();
        let own = self.own.members().filter(move |_| own_counts);
        self.group.members().chain(own)
    }

    fn trusts(&self, node: &NodeId) -> bool {
        self.trusted().any(|p| p.node == *node)
    }

    /// From now on this group is the known one.
    fn settle(&mut self, group: Group) {
        let is_known = !self.group.voters.is_empty();
        if is_known && recovery::is_between(self.group.term, group.term) {
            self.begins_anew = Some(group.term);
        }
        self.group = group;
    }
}

/// The copy. See the module.
pub(crate) struct Mirror {
    pub(crate) ledger: LiveLedger,
    known: Mutex<Known>,
    opened: Instant,
    dir: PathBuf,
}

impl Mirror {
    /// Opens what is kept in the directory.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let this = Self {
            ledger: LiveLedger::default(),
            known: Mutex::default(),
            opened: Instant::now(),
            dir: dir.to_owned(),
        };
        if let Some(copy) = Copy::read(dir)? {
            let damaged = |e: crate::StateError| StoreError::damaged(&dir.join("copy"), e);
            *this.ledger.write() = copy.ledger().map_err(damaged)?;
            this.ledger.set_applied(copy.applied);
            let mut known = locked(&this.known);
            known.saved = Some((Instant::now(), copy.applied));
            known.roster = this.ledger.read().roster().count();
            known.group = copy.group;
        }
        Ok(this)
    }

    /// Who is in the group, as it was told last.
    pub(crate) fn group(&self) -> Group {
        locked(&self.known).group.clone()
    }

    /// How old the copy is; nothing if nobody was reached since the start.
    pub(crate) fn age(&self) -> Option<Duration> {
        let heard = locked(&self.known).heard;
        heard.map(|(at, age)| at.elapsed() + age)
    }

    /// Whether a node of the group told it a moment ago, and heard its leader then.
    pub(crate) fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < WAIT + TOO_OLD)
    }

    /// The copy as bytes.
    pub(crate) fn copy(&self) -> Result<Copy, crate::StateError> {
        let ledger = self.ledger.read();
        Ok(Copy {
            applied: self.ledger.applied(),
            state: ledger.encode()?,
            group: self.group(),
        })
    }

    /// Goes on from the state of this node's own time in the group, where that is newer.
    fn catch_up_with(&self, own: &LiveLedger) {
        if own.applied() > self.ledger.applied() {
            let state = own.read().clone();
            let applied = own.applied();
            *self.ledger.write() = state;
            self.ledger.set_applied(applied);
        }
    }

    /// Takes in what a node of the group told of what came after a log index; says whether it was
    /// of use.
    fn take(
        &self,
        mut told: Followed,
        after: u64,
        from: NodeId,
        teller: &Teller,
    ) -> Result<bool, crate::StateError> {
        let (known, anew) = {
            let known = locked(&self.known);
            if !known.trusts(&from) {
                return Ok(false);
            }
            (known.group.term, known.begins_anew)
        };
        let term = told.group.term;
        // It goes on by itself with a ledger that the cluster has left behind.
        if recovery::is_between(term, known.max(anew.unwrap_or(0))) {
            return Ok(false);
        }
        if anew.is_some() || recovery::is_between(known, term) {
            if told.state.is_none() && after > 0 {
                locked(&self.known).begins_anew = Some(term);
                return Ok(false);
            }
            let (ledger, applied) = match told.state.take() {
                Some(state) => (Ledger::decode(&state)?, told.applied),
                None => (Ledger::default(), 0),
            };
            *self.ledger.write() = ledger;
            self.ledger.set_applied(applied);
            locked(&self.known).begins_anew = None;
            teller.replaced(applied);
        }
        if let Some(state) = told.state {
            if told.applied >= self.ledger.applied() {
                *self.ledger.write() = Ledger::decode(&state)?;
                self.ledger.set_applied(told.applied);
                teller.tell(told.applied, vec![News::Replaced]);
            }
        } else {
            for (index, pack) in told.packs {
                if index <= self.ledger.applied() {
                    continue;
                }
                let mut news = vec![];
                for command in pack.0 {
                    machine::known(&command)?;
                    news.append(&mut self.ledger.write().apply(index, command).news);
                }
                self.ledger.set_applied(index);
                teller.tell(index, news);
            }
            if told.applied > self.ledger.applied() {
                self.ledger.set_applied(told.applied);
            }
        }
        let mut known = locked(&self.known);
        if told.group.term >= known.group.term {
            known.group = told.group;
        }
        known.heard = Some((Instant::now(), Duration::from_millis(told.age_ms)));
        known.source = (told.age_ms <= TOO_OLD.as_millis() as u64).then_some(from);
        Ok(true)
    }

    /// After which log index news are wanted.
    fn wants_after(&self) -> u64 {
        match locked(&self.known).begins_anew {
            Some(_) => 0,
            None => self.ledger.applied(),
        }
    }

    /// Whom to follow: who answered last, then those of the known group that gossip takes for
    /// alive; and apart from them the others of the group.
    fn sources(&self, alive: &[Peer], me: &NodeId) -> (Vec<Peer>, Vec<Peer>) {
        let known = locked(&self.known);
        let mut all: Vec<Peer> = known.trusted().cloned().collect();
        let mut seen = std::collections::BTreeSet::from([*me]);
        all.retain(|p| seen.insert(p.node));
        shuffle(&mut all);
        all.sort_by_key(|p| known.source != Some(p.node));
        let is_near =
            |p: &Peer| known.source == Some(p.node) || alive.iter().any(|a| a.node == p.node);
        all.into_iter().partition(is_near)
    }

    /// For how long nobody of the known group has told anything fresh.
    fn silence(&self) -> Duration {
        self.age().unwrap_or_else(|| self.opened.elapsed())
    }

    /// Some of those that are alive and not of the known group.
    fn strangers(&self, alive: &[Peer], me: &NodeId) -> Vec<Peer> {
        let known = locked(&self.known);
        let is_strange = |p: &&Peer| p.node != *me && !known.trusts(&p.node);
        let mut out: Vec<Peer> = alive.iter().filter(is_strange).cloned().collect();
        shuffle(&mut out);
        out.truncate(ASKED);
        out
    }

    /// Stores the copy where it changed in what matters to a start, or some time has passed.
    pub(crate) fn save(&self, now: bool) {
        let (applied, roster) = {
            let ledger = self.ledger.read();
            (self.ledger.applied(), ledger.roster().count())
        };
        {
            let mut known = locked(&self.known);
            let due = match known.saved {
                None => true,
                Some((_, saved)) if saved == applied => false,
                Some((at, _)) => now || known.roster != roster || at.elapsed() >= SAVE_EVERY,
            };
            if !due || applied == 0 {
                return;
            }
            known.saved = Some((Instant::now(), applied));
            known.roster = roster;
        }
        let written = blocking(|| {
            let copy = self.copy().map_err(|e| e.to_string());
            copy.and_then(|c| c.write(&self.dir).map_err(|e| e.to_string()))
        });
        if let Err(error) = written {
            tracing::warn!(%error, "the copy of the ledger could not be stored");
            // It is tried again after as long as if it were stored.
            locked(&self.known).saved = Some((Instant::now(), 0));
        }
    }

    fn lost(&self, source: &NodeId) {
        let mut known = locked(&self.known);
        if known.source == Some(*source) {
            known.source = None;
        }
    }

    /// Who is in the group by somebody who is in it, or by this node's own log.
    fn learn(&self, group: Group) {
        let mut known = locked(&self.known);
        if group.term >= known.group.term && !group.voters.is_empty() {
            known.settle(group);
        }
    }

    /// Who is in the group by this node's own log, as far as that goes.
    fn note_own(&self, group: Group) {
        locked(&self.known).own = group;
    }

    /// The known group has told something fresh: what others say does not matter. Says how many
    /// told of a later group.
    fn hears_its_own(&self) -> u64 {
        let mut known = locked(&self.known);
        let group = known.group.clone();
        known.hearsay.forget(&group)
    }

    /// Takes the word of nodes that are not of the known group on who is in the group, and goes by
    /// it where it is to be believed. Says how many are not listened to.
    fn hear(&self, told: Vec<(NodeId, Group)>) -> u64 {
        let (mut known, now, mut refused) = (locked(&self.known), Instant::now(), 0);
        for (from, group) in told {
            refused += u64::from(!known.hearsay.hear(now, from, group));
        }
        let Some(group) = known.hearsay.agreed(now, &known.group) else {
            let is_due = known.told_of.is_none_or(|at| at.elapsed() > TELL_EVERY);
            if is_due && known.hearsay.is_doubtful(&known.group) {
                known.told_of = Some(now);
                tracing::warn!(
                    "no node of the ledger's group is reached, and one node alone tells of another \
                     group: it is not believed. If that is the cluster now, as after `hale \
                     restore`, stop this node, move its data directory away and type `hale join` \
                     with a new token"
                );
            }
            return refused;
        };
        tracing::warn!(
            term = group.term,
            voters = group.voters.len(),
            "no node of the ledger's group is reached; others agree on who is in it now"
        );
        known.hearsay = Hearsay::default();
        known.source = None;
        known.settle(group);
        refused
    }
}

/// Follows the group for as long as this node is not of it.
pub(crate) async fn run(shell: Arc<Shell>) {
    let mut pause = PAUSE;
    while !shell.is_stopping() {
        if shell.is_seated() || !shell.is_founded() {
            keep_in_touch(&shell).await;
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let told = round(&shell).await;
        shell.mirror.save(false);
        if told {
            pause = PAUSE;
        } else {
            tokio::time::sleep(pause + pause.mul_f64(crate::clock::jitter())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    shell.mirror.save(true);
}

/// Follows whoever of the known group answers; says whether one told something fresh.
async fn round(shell: &Shell) -> bool {
    shell.mirror.catch_up_with(&shell.ledger);
    if let Ok(running) = shell.running() {
        shell.mirror.note_own(running.group());
    }
    let alive = shell.asker.transport.alive().unwrap_or_default();
    let alive: Vec<Peer> = alive.into_iter().map(|a| a.peer).collect();
    let (near, far) = shell.mirror.sources(&alive, &shell.me.node);
    if follow_any(shell, &near).await {
        return true;
    }
    if near.is_empty() || shell.mirror.silence() >= UNHEARD {
        inquire(shell, &alive).await;
    }
    follow_any(shell, &far).await
}

async fn follow_any(shell: &Shell, sources: &[Peer]) -> bool {
    for source in sources {
        if shell.is_seated() || shell.is_stopping() {
            break;
        }
        match follow(shell, source).await {
            Ok(true) => {
                let refused = shell.mirror.hears_its_own();
                shell.counters.refused.fetch_add(refused, Ordering::Relaxed);
                return true;
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(from = %source.node.short(), %error, "not followed");
                shell.mirror.lost(&source.node);
            }
        }
    }
    false
}

/// Asks some that are not of the known group who is in the group.
async fn inquire(shell: &Shell, alive: &[Peer]) {
    let mut asked = JoinSet::new();
    for peer in shell.mirror.strangers(alive, &shell.me.node) {
        let asker = shell.asker.clone();
        asked.spawn(async move {
            let answer = asker.ask(&peer, Lane::Urgent, &Request::Group, INQUIRY);
            match answer.await {
                Ok(Reply::Group(group)) => Some((peer.node, group)),
                _ => None,
            }
        });
    }
    let told = asked.join_all().await.into_iter().flatten().collect();
    let refused = shell.mirror.hear(told);
    shell.counters.refused.fetch_add(refused, Ordering::Relaxed);
}

/// What a node of the group does while its own log is what counts: it remembers who is in the group,
/// for the time when it is not, and asks the others where somebody speaks for the group whom it does
/// not know.
async fn keep_in_touch(shell: &Shell) {
    let Ok(running) = shell.running() else {
        return;
    };
    let own = running.group();
    let is_led = shell.standing.silence() < shell.config.timeouts.election_max;
    if is_led || own.leader == Some(shell.me.node) {
        shell.mirror.learn(own.clone());
    }
    if !shell.standing.doubted.swap(false, Ordering::Relaxed) || is_led {
        return;
    }
    let others = own.members().filter(|p| p.node != shell.me.node);
    for member in others {
        let patience = shell.config.timeouts.election_max;
        let asked = shell
            .asker
            .ask(member, Lane::Urgent, &Request::Group, patience);
        if let Ok(Reply::Group(group)) = asked.await {
            shell.mirror.learn(group);
        }
    }
}

/// One question. Says whether the answer was fresh; a node that only knows who is in the group
/// says that.
async fn follow(shell: &Shell, source: &Peer) -> Result<bool, AskError> {
    let after = shell.mirror.wants_after();
    let wait_ms = WAIT.as_millis() as u32;
    let request = Request::Follow { after, wait_ms };
    let asked = shell
        .asker
        .ask(source, Lane::Urgent, &request, WAIT + PATIENCE)
        .await?;
    match asked {
        Reply::Followed(told) => {
            let fresh = told.age_ms <= TOO_OLD.as_millis() as u64;
            let taken = shell.mirror.take(*told, after, source.node, &shell.teller);
            taken
                .map(|of_use| fresh && of_use)
                .map_err(|e| AskError::Unable(e.to_string()))
        }
        Reply::Group(group) => {
            shell.mirror.learn(group);
            Ok(false)
        }
        _ => Err(AskError::Unexpected),
    }
}

fn shuffle(peers: &mut [Peer]) {
    for i in (1..peers.len()).rev() {
        let j = (crate::clock::jitter() * (i + 1) as f64) as usize;
        peers.swap(i, j.min(i));
    }
}
