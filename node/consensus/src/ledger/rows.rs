//! The ledger's state as rows of bytes: what a store keeps of it, one row a thing, and what a
//! snapshot is made of, all rows in order with a version and a checksum.

use super::record::{Outcomes, Sightings};
use super::{Asked, Head, Ledger, Made, RULES, Recent};
use hale_model::ledger::{Budget, Lease, SharedLease, Waiting};
use hale_model::planted::{self, Mistake};
use hale_model::{
    ApprovalId, Digest, Fence, HostName, NodeId, PlaybookName, ServiceName, TokenId, wire,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The name of one row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Row {
    /// The chain's tip, the last fence, the freeze.
    Head,
    /// A node on the roster.
    Node(NodeId),
    /// An open grant.
    Grant(Fence),
    /// An approval.
    Approval(ApprovalId),
    /// The outcomes of a playbook on a service.
    History(PlaybookName, Option<ServiceName>),
    /// A record written not long ago, by its entry's number.
    Recent(u64),
    /// A join token.
    Token(TokenId),
    /// A node that was taken off the roster.
    Removed(NodeId),
    /// An execution that waits, by its place.
    Wait(u64),
    /// A budget, by its name.
    Budget(String),
    /// A grant's mark on an hourly budget.
    Mark(String, Fence),
    /// What a node runs.
    Services(NodeId),
    /// The rules in force.
    Rules,
    /// Who restored the state from a backup.
    Restored,
    /// What was seen of a playbook on a service where it did not run.
    Sightings(PlaybookName, Option<ServiceName>),
    /// The text that a playbook has.
    Edition(PlaybookName),
    /// A shared lease.
    Look(Fence),
}

/// Why bytes are not a ledger's state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// They are none, or cut short.
    #[error("these bytes are not a ledger's state")]
    NotAState,
    /// Another version wrote them.
    #[error(
        "the ledger's state has version {0}, this binary knows {VERSION}; use the newer binary"
    )]
    Version(u8),
    /// It follows rules that this binary does not know.
    #[error("the ledger follows rules {0}, this binary knows {RULES}; use the newer binary")]
    Rules(u32),
    /// They changed since they were written.
    #[error("the ledger's state does not match its checksum")]
    Checksum,
    /// A row can't be read.
    #[error("a row of the ledger's state can't be read")]
    Row(#[source] wire::WireError),
    /// The state can't be written.
    #[error("a row of the ledger's state can't be written")]
    Encode(#[source] wire::WireError),
}

/// A row and what it holds now; nothing if it is gone.
pub type Change = (Row, Option<Vec<u8>>);

/// The version of the rows and of the snapshot around them.
const VERSION: u8 = 1;
const MAGIC: [u8; 4] = *b"HLED";
const HEADER_BYTES: usize = 4 + 1 + 32;

/// A row's bytes tell what it is, so that a store needs no schema.
#[derive(Serialize, Deserialize)]
enum Content {
    Head(Head),
    Node(NodeId, HostName),
    Grant(Lease),
    Approval(Asked),
    History(PlaybookName, Option<ServiceName>, Outcomes),
    Recent(Recent),
    Token(Made),
    Removed(NodeId, u64),
    Wait(Waiting),
    Budget(Budget),
    Mark(String, Fence),
    Services(NodeId, Vec<ServiceName>),
    Rules(u32),
    Restored(NodeId, HostName),
    Sightings(PlaybookName, Option<ServiceName>, Sightings),
    Edition(PlaybookName, Digest),
    Look(SharedLease),
}

impl Ledger {
    /// What changed since the last call: each row that is to be stored (`Some`) or removed.
    ///
    /// # Errors
    /// If a row is over the limit of one value; nothing is forgotten then.
    pub fn take_touched(&mut self) -> Result<Vec<Change>, StateError> {
        let rows: Result<Vec<_>, _> = self
            .touched
            .iter()
            .map(|row| Ok((row.clone(), self.content(row)?)))
            .collect();
        let rows = rows?;
        self.touched.clear();
        self.stored = self.head.entries;
        Ok(rows)
    }

    /// All rows, in order.
    ///
    /// # Errors
    /// If a row is over the limit of one value.
    pub fn rows(&self) -> Result<Vec<(Row, Vec<u8>)>, StateError> {
        let mut names = vec![Row::Head];
        names.extend(self.roster.keys().map(|n| Row::Node(*n)));
        let grants = self.grants.values();
        let grants = grants.filter(|l| l.live || !planted::is(Mistake::PartialSnapshot));
        names.extend(grants.map(|l| Row::Grant(l.fence)));
        names.extend(self.approvals.keys().map(|a| Row::Approval(a.clone())));
        names.extend(
            self.outcomes
                .keys()
                .map(|(p, s)| Row::History(p.clone(), s.clone())),
        );
        names.extend(self.recent.keys().map(|n| Row::Recent(*n)));
        names.extend(self.tokens.keys().map(|t| Row::Token(t.clone())));
        names.extend(self.removed.keys().map(|n| Row::Removed(*n)));
        names.extend(self.waiting.keys().map(|p| Row::Wait(*p)));
        names.extend(self.budgets.keys().map(|b| Row::Budget(b.clone())));
        names.extend(self.marks().map(|(b, f)| Row::Mark(b.to_owned(), f)));
        names.extend(self.services.keys().map(|n| Row::Services(*n)));
        names.push(Row::Rules);
        names.push(Row::Restored);
        names.extend(
            self.sightings
                .keys()
                .map(|(p, s)| Row::Sightings(p.clone(), s.clone())),
        );
        names.extend(self.editions.keys().map(|p| Row::Edition(p.clone())));
        names.extend(self.looks.keys().map(|f| Row::Look(*f)));
        let with_content = |row: Row| {
            let content = self.content(&row);
            content
                .map(|bytes| bytes.map(|bytes| (row, bytes)))
                .transpose()
        };
        names.into_iter().filter_map(with_content).collect()
    }

    fn content(&self, row: &Row) -> Result<Option<Vec<u8>>, StateError> {
        let content = match row {
            Row::Head => Some(Content::Head(self.head.clone())),
            Row::Node(n) => self.roster.get(n).map(|h| Content::Node(*n, h.clone())),
            Row::Grant(f) => self.grants.get(f).cloned().map(Content::Grant),
            Row::Approval(a) => self.approvals.get(a).cloned().map(Content::Approval),
            Row::History(p, s) => {
                let outcomes = self.outcomes.get(&(p.clone(), s.clone()));
                outcomes.map(|o| Content::History(p.clone(), s.clone(), *o))
            }
            Row::Recent(n) => self.recent.get(n).cloned().map(Content::Recent),
            Row::Token(t) => self.tokens.get(t).cloned().map(Content::Token),
            Row::Removed(n) => self.removed.get(n).map(|at| Content::Removed(*n, *at)),
            Row::Wait(p) => self.waiting.get(p).cloned().map(Content::Wait),
            Row::Budget(b) => self.budgets.get(b).cloned().map(Content::Budget),
            Row::Mark(b, f) => {
                let is_marked = self.marks.get(b).is_some_and(|fences| fences.contains(f));
                is_marked.then(|| Content::Mark(b.clone(), *f))
            }
            Row::Services(n) => {
                let services = self.services.get(n);
                services.map(|s| Content::Services(*n, s.clone()))
            }
            // A ledger that was never told any has no such row, as before there were rules.
            Row::Rules => (self.rules > 0).then_some(Content::Rules(self.rules)),
            Row::Restored => {
                let restored = self.restored.clone();
                restored.map(|(node, host)| Content::Restored(node, host))
            }
            Row::Sightings(p, s) => {
                let seen = self.sightings.get(&(p.clone(), s.clone()));
                seen.map(|seen| Content::Sightings(p.clone(), s.clone(), *seen))
            }
            Row::Edition(p) => {
                let digest = self.editions.get(p);
                digest.map(|d| Content::Edition(p.clone(), *d))
            }
            Row::Look(f) => self.looks.get(f).cloned().map(Content::Look),
        };
        content
            .map(|c| wire::encode(&c).map_err(StateError::Encode))
            .transpose()
    }

    /// The ledger that these rows are of, in any order.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn from_rows<B: AsRef<[u8]>>(
        rows: impl IntoIterator<Item = B>,
    ) -> Result<Self, StateError> {
        let mut ledger = Self::default();
        for bytes in rows {
            match wire::decode(bytes.as_ref()).map_err(StateError::Row)? {
                Content::Head(head) => ledger.head = head,
                Content::Node(node, host) => {
                    ledger.roster.insert(node, host);
                }
                Content::Grant(lease) => {
                    ledger.grants.insert(lease.fence, lease);
                }
                Content::Approval(asked) => {
                    ledger.approvals.insert(asked.approval.id.clone(), asked);
                }
                Content::History(playbook, service, outcomes) => {
                    ledger.outcomes.insert((playbook, service), outcomes);
                }
                Content::Recent(recent) => {
                    ledger.written.insert(recent.signature, recent.entry.index);
                    ledger.recent.insert(recent.entry.index, recent);
                }
                Content::Token(made) => {
                    ledger.tokens.insert(made.token.id.clone(), made);
                }
                Content::Removed(node, at) => {
                    ledger.removed.insert(node, at);
                }
                Content::Wait(waiting) => {
                    let (place, execution) = (waiting.place, waiting.execution.clone());
                    ledger.places.insert(execution, place);
                    ledger.waiting.insert(place, waiting);
                }
                Content::Budget(budget) => {
                    ledger.budgets.insert(budget.name.clone(), budget);
                }
                Content::Mark(budget, fence) => {
                    ledger.marks.entry(budget).or_default().insert(fence);
                }
                Content::Services(node, services) => {
                    ledger.services.insert(node, services);
                }
                Content::Rules(version) if version > RULES => {
                    return Err(StateError::Rules(version));
                }
                Content::Rules(version) => ledger.rules = version,
                Content::Restored(node, host) => ledger.restored = Some((node, host)),
                Content::Sightings(playbook, service, seen) => {
                    ledger.sightings.insert((playbook, service), seen);
                }
                Content::Edition(playbook, digest) => {
                    ledger.editions.insert(playbook, digest);
                }
                Content::Look(share) => {
                    ledger.looks.insert(share.fence, share);
                }
            }
        }
        ledger.stored = ledger.head.entries;
        Ok(ledger)
    }

    /// The whole state: `"HLED" version(1) sha256(32) { len(4) row }*`, equal for equal ledgers.
    /// The chain's entries are not in it.
    ///
    /// # Errors
    /// If a row is over the limit of one value.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        let mut rows = vec![];
        for (_, row) in self.rows()? {
            rows.extend_from_slice(&(row.len() as u32).to_be_bytes());
            rows.extend_from_slice(&row);
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + rows.len());
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        out.extend_from_slice(Digest::of(&rows).as_bytes());
        out.extend_from_slice(&rows);
        Ok(out)
    }

    /// Reads what [`Ledger::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are no state, of another version, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let (head, mut rows) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or(StateError::NotAState)?;
        if head[..4] != MAGIC {
            return Err(StateError::NotAState);
        }
        if head[4] != VERSION {
            return Err(StateError::Version(head[4]));
        }
        if Digest::of(rows).as_bytes() != &head[5..] {
            return Err(StateError::Checksum);
        }
        let mut found = vec![];
        while !rows.is_empty() {
            let (len, rest) = rows.split_first_chunk::<4>().ok_or(StateError::NotAState)?;
            let len = u32::from_be_bytes(*len) as usize;
            let (row, rest) = rest.split_at_checked(len).ok_or(StateError::NotAState)?;
            found.push(row);
            rows = rest;
        }
        Self::from_rows(found)
    }

    /// Everything is to be stored anew, as after a snapshot was installed.
    ///
    /// # Errors
    /// If a row is over the limit of one value.
    pub fn take_all(&mut self) -> Result<Vec<(Row, Vec<u8>)>, StateError> {
        self.touched = BTreeSet::new();
        self.stored = self.head.entries;
        self.rows()
    }
}
