//! The ledger: the replicated state machine. A command and its log index go in; an answer, the
//! entries it puts on the chain, and what changed come out. No clock, no float, no hash map, no
//! I/O: the same commands give the same bytes on every node.

mod approvals;
mod authority;
mod budgets;
mod check;
mod grants;
pub mod limits;
mod looks;
mod news;
mod queue;
mod record;
mod recovery;
mod roster;
mod rows;
#[cfg(test)]
mod tests;
mod tokens;

pub use authority::may_forward;
pub use news::{Applied, News};
use record::{Outcomes, Place, Sightings};
pub use rows::{Change, Row, StateError};

use hale_model::chain::Entry;
use hale_model::ledger::{
    Answer, Approval, Budget, Command, EntryKind, EntryRef, Lease, Refusal, SharedLease, Signed,
    Token, Waiting,
};
use hale_model::{
    ApprovalId, Digest, ExecutionId, Fence, HostName, NodeId, PlaybookName, ServiceName, TokenId,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Why and by whom execution is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// The end of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// How many entries there are: the number the next one gets.
    pub entries: u64,
    /// The hash of the last one; [`Digest::ZERO`] if there is none.
    pub hash: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    entries: u64,
    tip: Digest,
    last_fence: Fence,
    frozen: Option<Freeze>,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            entries: 0,
            tip: Digest::ZERO,
            last_fence: Fence(0),
            frozen: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    approval: Approval,
    /// The log index of its last change, by which ended ones are forgotten.
    since: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    token: Token,
    /// The log index at which it was made, by which ended ones are forgotten.
    since: u64,
}

/// A record that was written, to recognise its repetition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Recent {
    /// Over its signature: one signed body is one record.
    signature: Digest,
    entry: EntryRef,
    /// The grant it closed, and for which run.
    closed: Option<(Fence, ExecutionId)>,
}

/// The rules that this binary follows when told to. The first are those of a ledger that was
/// never told any.
pub const RULES: u32 = RULES_WITH_LOOKS;
const FIRST_RULES: u32 = 1;
/// From these on an execution whose scope is held waits in line.
const RULES_WITH_QUEUE: u32 = 2;
/// From these on a signature is checked with the cofactor, so that many can be checked at once.
const RULES_WITH_COFACTOR: u32 = 3;
/// From these on the ledger knows which text a playbook has, and what was seen of those that did not
/// run.
pub const RULES_WITH_EDITIONS: u32 = 4;
/// From these on there are shared leases.
pub const RULES_WITH_LOOKS: u32 = 5;

/// From which rules on a command means something: an older binary can't read a later one's.
pub fn rules_for(command: &Command) -> u32 {
    match command {
        Command::Editions { .. } | Command::Seen { .. } => RULES_WITH_EDITIONS,
        Command::Look(_) | Command::EndLook { .. } | Command::ExpireLook { .. } => RULES_WITH_LOOKS,
        _ => FIRST_RULES,
    }
}

/// What is said to a command whose rules are not in force yet.
pub(crate) fn too_early() -> Refusal {
    Refusal::BadEntry("not all nodes run a release that knows of this yet".into())
}

/// The state. See the module.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    head: Head,
    roster: BTreeMap<NodeId, HostName>,
    grants: BTreeMap<Fence, Lease>,
    approvals: BTreeMap<ApprovalId, Asked>,
    outcomes: BTreeMap<Place, Outcomes>,
    sightings: BTreeMap<Place, Sightings>,
    editions: BTreeMap<PlaybookName, Digest>,
    looks: BTreeMap<Fence, SharedLease>,
    /// By the entry's number.
    recent: BTreeMap<u64, Recent>,
    tokens: BTreeMap<TokenId, Made>,
    /// Who was taken off the roster, and at which log index.
    removed: BTreeMap<NodeId, u64>,
    /// By place.
    waiting: BTreeMap<u64, Waiting>,
    budgets: BTreeMap<String, Budget>,
    /// By the budget's name: the grants that left a mark on it.
    marks: BTreeMap<String, BTreeSet<Fence>>,
    services: BTreeMap<NodeId, Vec<ServiceName>>,
    /// Zero until the ledger is told any.
    rules: u32,
    /// Who restored this state from a backup, on which host, until its entry says so.
    restored: Option<(NodeId, HostName)>,
    /// Where in `waiting` an execution is; made of it, no part of the state.
    places: BTreeMap<ExecutionId, u64>,
    /// Where in `recent` a record with this signature is; made of it, no part of the state.
    written: BTreeMap<Digest, u64>,
    /// What changed since it was last stored; no part of the state.
    touched: BTreeSet<Row>,
    /// How long the chain was when it was last stored; no part of the state.
    stored: u64,
}

impl Ledger {
    /// Applies the command at this log index. Several commands may share an index; the index never
    /// falls.
    pub fn apply(&mut self, index: u64, command: Command) -> Applied {
        let outcome = match command {
            Command::Enrol { node, host, entry } => self.enrol(node, host, entry),
            Command::Acquire(ask) => self.acquire(index, ask),
            Command::Renew {
                fence,
                holder,
                ttl_ms,
            } => self.renew(fence, holder, ttl_ms),
            Command::Expire { fence, generation } => self.expire(fence, generation),
            Command::Close {
                fence,
                holder,
                disposition,
                outcome,
                entry,
            } => self.close(fence, holder, disposition, outcome, entry),
            Command::Append { entry } => self.append_record(entry),
            Command::AskApproval(ask) => self.ask(index, ask),
            Command::Answer {
                approval,
                plan_digest,
                approve,
                by,
                entry,
            } => self.answer(index, &approval, plan_digest, approve, by, entry),
            Command::CloseApproval {
                approval,
                state,
                entry,
            } => self.close_approval(index, &approval, state, entry),
            Command::Freeze {
                frozen,
                by,
                reason,
                entry,
            } => self.freeze(frozen, Freeze { by, reason }, entry),
            Command::CreateToken {
                id,
                verifier,
                uses,
                ttl_ms,
                by,
                expires_at_ms,
                entry,
            } => {
                let token = Token {
                    id,
                    verifier,
                    uses_left: uses,
                    uses,
                    ttl_ms,
                    by,
                    expires_at_ms,
                    live: true,
                };
                self.create_token(index, token, entry)
            }
            Command::RevokeToken { id, by, entry } => self.revoke_token(&id, &by, entry),
            Command::ExpireToken { id } => self.expire_token(&id),
            Command::Admit {
                token,
                node,
                host,
                entry,
            } => self.admit(&token, node, host, entry),
            Command::Remove {
                node,
                by,
                reason,
                entry,
            } => self.remove(index, node, &by, &reason, entry),
            Command::ExpireWait {
                execution,
                generation,
            } => self.expire_wait(&execution, generation),
            Command::SetBudget { budget, by, entry } => self.set_budget(budget, &by, entry),
            Command::DropBudget { name, by, entry } => self.drop_budget(name, &by, entry),
            Command::Services { node, services } => self.tell_services(node, services),
            Command::Refill { budget, fence } => self.refill(&budget, fence),
            Command::Rules { version } => Ok(self.follow(version)),
            Command::Recovered { by, lost, entry } => self.recovered(index, by, &lost, entry),
            Command::Editions { node, editions } => self.tell_editions(node, editions),
            Command::Seen {
                node,
                playbook,
                service,
                what,
            } => self.see(node, (playbook, service), what),
            Command::Look(look) => self.look(index, look),
            Command::EndLook { node, id } => self.end_look(&node, &id),
            Command::ExpireLook { fence } => self.expire_look(fence),
        };
        outcome.unwrap_or_else(|refusal| Applied::done(Answer::Refused(refusal)))
    }

    /// Grants that are not closed, by fence; those that expired are not `live`.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.grants.values()
    }

    /// The grant under this fence, if it is open.
    pub fn lease(&self, fence: Fence) -> Option<&Lease> {
        self.grants.get(&fence)
    }

    /// Approvals: all that wait or were given, and the last [`limits::MAX_ENDED_APPROVALS`] that
    /// ended (those without their plan). Their entries' bodies are on the chain, not here.
    pub fn approvals(&self) -> impl Iterator<Item = &Approval> {
        self.approvals.values().map(|a| &a.approval)
    }

    /// One approval.
    pub fn approval(&self, id: &ApprovalId) -> Option<&Approval> {
        self.approvals.get(id).map(|a| &a.approval)
    }

    /// Who belongs to the cluster, and on which host.
    pub fn roster(&self) -> impl Iterator<Item = (&NodeId, &HostName)> {
        self.roster.iter()
    }

    /// Whether a node belongs to the cluster.
    pub fn is_enrolled(&self, node: &NodeId) -> bool {
        self.roster.contains_key(node)
    }

    /// Who stopped execution and why; none if it is allowed.
    pub fn frozen(&self) -> Option<&Freeze> {
        self.head.frozen.as_ref()
    }

    /// The end of the chain.
    pub fn tip(&self) -> Tip {
        Tip {
            entries: self.head.entries,
            hash: self.head.tip,
        }
    }

    /// The rules in force; see [`Command::Rules`].
    pub fn rules(&self) -> u32 {
        self.rules.max(FIRST_RULES)
    }

    fn follow(&mut self, version: u32) -> Applied {
        let mut out = Applied::nothing();
        if version > self.rules() {
            self.rules = version;
            self.touched.insert(Row::Rules);
            out.news.push(News::Rules(version));
        }
        out
    }

    /// Puts a checked entry on the chain.
    fn write(&mut self, fence: Fence, signed: Signed, out: &mut Applied) -> EntryRef {
        let (kind, signer) = (signed.kind, signed.signer);
        let entry = Entry::after(self.head.entries, self.head.tip, fence, signed);
        let place = EntryRef::from(&entry);
        self.head.entries += 1;
        self.head.tip = place.hash;
        self.touched.insert(Row::Head);
        out.entries.push(entry);
        out.news.push(News::Appended {
            entry: place.clone(),
            kind,
            signer,
        });
        place
    }

    fn freeze(&mut self, frozen: bool, by: Freeze, entry: Signed) -> Result<Applied, Refusal> {
        check::text("the name", &by.by, limits::MAX_BY_BYTES)?;
        check::text("the reason", &by.reason, limits::MAX_TEXT_BYTES)?;
        self.check(&entry, EntryKind::Freeze)?;
        let wanted = frozen.then(|| by.clone());
        let mut out = Applied::done(Answer::Done { entry: None });
        if self.head.frozen == wanted {
            return Ok(out);
        }
        self.head.frozen = wanted;
        out.news.push(News::Frozen {
            frozen,
            by: by.by,
            reason: by.reason,
        });
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }
}
