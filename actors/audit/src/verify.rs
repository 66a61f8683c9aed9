//! Checks a chain without trusting whoever kept it: sans-IO, in memory that does not grow with
//! it. Feed it entries ([`Verifier`]) or an export's bytes ([`ExportVerifier`]).

mod export;
mod recovered;

pub use export::ExportVerifier;

use crate::checkpoint::Checkpoint;
use crate::enrolment;
use crate::merkle::{self, Frontier};
use crate::recovery::Cause;
use crate::removal;
use hale_model::chain::{Entry, signing_bytes};
use hale_model::ledger::EntryKind;
use hale_model::{Digest, HostName, IncidentId, NodeId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The most faults that are told one by one; the rest is counted.
pub const MAX_FAULTS: usize = 100;
/// The most open grants that are remembered. The ledger allows far fewer.
const MAX_OPEN: usize = 100_000;

/// Whose signatures are believed to begin with; each enrolment adds one, each removal takes one
/// away, and so does each recovery: see [`RecoveryNote`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The key that enrols itself in the first entry.
    FirstEnrolment,
    /// These keys, from somewhere the chain's keeper can't reach.
    Keys(BTreeSet<NodeId>),
}

/// Where something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Place {
    /// The line of the file, from 1; none if no file was read.
    pub line: Option<u64>,
    /// The byte of the file, from 0.
    pub offset: Option<u64>,
    /// The entry.
    pub entry: Option<u64>,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// Which of the checks found it.
    pub check: Check,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.place.line {
            write!(f, "line {line}, ")?;
        }
        if let Some(entry) = self.place.entry {
            write!(f, "entry {entry}, ")?;
        }
        if let Some(offset) = self.place.offset {
            write!(f, "byte {offset}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// The checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The file is what an export looks like, byte for byte.
    Form,
    /// Each entry carries the next number and the hash of the one before.
    Chain,
    /// Each signature is its signer's over the stored bytes.
    Signature,
    /// Each signer was enrolled before, and not removed since.
    Roster,
    /// Each grant is closed at most once, after it was opened.
    Grants,
    /// The checkpoint is signed and says what the entries are.
    Checkpoint,
}

/// A grant that no record closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenGrant {
    /// Its fence.
    pub fence: u64,
    /// The entry of its intent.
    pub entry: u64,
    /// Whose it is.
    pub node: NodeId,
    /// The incident, where the intent says it.
    pub incident: Option<String>,
}

/// A place where the ledger went on from one node's copy: no fault, but to be explained. What other
/// nodes had acknowledged and that copy lacked is not in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryNote {
    /// The entry that tells it.
    pub entry: u64,
    /// Whose copy.
    pub node: NodeId,
    /// Its host.
    pub host: HostName,
    /// Why.
    pub cause: Cause,
    /// How many keys it takes off the roster.
    pub lost: u64,
    /// Whether the key was enrolled before. If not, no member vouches for it: only whoever held the
    /// backup can say that it is theirs.
    pub vouched: bool,
    /// When, by its own clock.
    pub at: Timestamp,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many entries were read.
    pub entries: u64,
    /// How many of them by kind.
    pub kinds: BTreeMap<String, u64>,
    /// How many signatures hold.
    pub signatures: u64,
    /// The Merkle root of the entries as they were read.
    pub root: Digest,
    /// The last one's hash.
    pub tip: Digest,
    /// Who may sign.
    pub roster: BTreeSet<NodeId>,
    /// The checkpoint, where one was given.
    pub checkpoint: Option<Checkpoint>,
    /// Grants not closed yet: no fault, but to be explained.
    pub open_grants: Vec<OpenGrant>,
    /// Recoveries from a lost quorum or from a backup: no fault, but to be explained. The first
    /// [`MAX_FAULTS`]; `kinds` counts all.
    #[serde(default)]
    pub recoveries: Vec<RecoveryNote>,
    /// How many faults there are.
    pub fault_count: u64,
    /// The checks that found any.
    pub failed: BTreeSet<Check>,
    /// The first [`MAX_FAULTS`] of them.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Whether all that was checked holds.
    pub fn is_sound(&self) -> bool {
        self.fault_count == 0
    }

    /// Whether one of the checks found nothing.
    pub fn passes(&self, check: Check) -> bool {
        !self.failed.contains(&check)
    }
}

/// Checks entries one after the other, from the first on.
#[derive(Debug)]
pub struct Verifier {
    founding: bool,
    roster: BTreeSet<NodeId>,
    /// Who was taken off it.
    removed: BTreeSet<NodeId>,
    frontier: Frontier,
    tip: Digest,
    last_fence: u64,
    open: BTreeMap<u64, OpenGrant>,
    report: Report,
}

impl Verifier {
    /// With nothing read yet.
    pub fn new(trust: Trust) -> Self {
        let (founding, roster) = match trust {
            Trust::FirstEnrolment => (true, BTreeSet::new()),
            Trust::Keys(keys) => (false, keys),
        };
        let report = Report {
            entries: 0,
            kinds: BTreeMap::new(),
            signatures: 0,
            root: Digest::ZERO,
            tip: Digest::ZERO,
            roster: BTreeSet::new(),
            checkpoint: None,
            open_grants: vec![],
            recoveries: vec![],
            fault_count: 0,
            failed: BTreeSet::new(),
            faults: vec![],
        };
        Self {
            founding,
            roster,
            removed: BTreeSet::new(),
            frontier: Frontier::default(),
            tip: Digest::ZERO,
            last_fence: 0,
            open: BTreeMap::new(),
            report,
        }
    }

    /// How many entries were read.
    pub fn entries(&self) -> u64 {
        self.report.entries
    }

    /// How many faults were found.
    pub fn faults(&self) -> u64 {
        self.report.fault_count
    }

    /// Checks the next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let place = Place {
            entry: Some(entry.index),
            ..Place::default()
        };
        self.entry_at(entry, place);
    }

    pub(crate) fn entry_at(&mut self, entry: &Entry, place: Place) {
        let bytes = entry.to_bytes();
        self.check_link(entry, place);
        self.check_signature(entry, place);
        self.check_grant(entry, place);
        self.tip = Digest::of(&bytes);
        self.frontier.push(merkle::leaf(&bytes));
        self.report.entries += 1;
        *self
            .report
            .kinds
            .entry(entry.kind.as_str().to_owned())
            .or_default() += 1;
    }

    fn check_link(&mut self, entry: &Entry, place: Place) {
        let expected = self.report.entries;
        if entry.index != expected {
            let what = format!(
                "entry {expected} was expected, number {} is there",
                entry.index
            );
            self.fault(place, Check::Chain, what);
        }
        if entry.previous != self.tip {
            let what = format!(
                "it points at {}, the entry before it is {}",
                entry.previous, self.tip
            );
            self.fault(place, Check::Chain, what);
        }
    }

    fn check_signature(&mut self, entry: &Entry, place: Place) {
        let signed = signing_bytes(entry.kind, &entry.body);
        let enrols = (entry.kind == EntryKind::Enrolment).then(|| enrolment::node_of(&entry.body));
        match entry.signer.verify(&signed, &entry.signature) {
            Ok(()) => self.report.signatures += 1,
            Err(e) => return self.fault(place, Check::Signature, e.to_string()),
        }
        if entry.kind == EntryKind::Recovery {
            return self.recovered(entry, place);
        }
        let founds =
            self.founding && self.report.entries == 0 && enrols == Some(Some(entry.signer));
        if !founds && !self.roster.contains(&entry.signer) {
            let what = format!("it is signed by {}", self.stranger(&entry.signer));
            return self.fault(place, Check::Roster, what);
        }
        if entry.kind == EntryKind::Removal {
            return self.remove(entry, place);
        }
        match enrols {
            Some(Some(node)) => {
                self.roster.insert(node);
                self.removed.remove(&node);
            }
            Some(None) => self.fault(
                place,
                Check::Roster,
                "it enrols nobody: its body names no key".into(),
            ),
            None => {}
        }
    }

    /// Who may not sign here, and why.
    fn stranger(&self, signer: &NodeId) -> String {
        let why = if self.removed.contains(signer) {
            "who was removed before"
        } else {
            "whom no earlier entry enrols"
        };
        format!("{}, {why}", signer.short())
    }

    fn remove(&mut self, entry: &Entry, place: Place) {
        match removal::node_of(&entry.body) {
            Some(node) if self.roster.remove(&node) => {
                self.removed.insert(node);
            }
            Some(node) => {
                let what = format!("it removes {}, who is not on the roster", node.short());
                self.fault(place, Check::Roster, what);
            }
            None => {
                let what = "it removes nobody: its body names no key".into();
                self.fault(place, Check::Roster, what);
            }
        }
    }

    fn check_grant(&mut self, entry: &Entry, place: Place) {
        let fence = entry.fence.0;
        match entry.kind {
            EntryKind::Intent => self.open_grant(entry, place),
            EntryKind::Record if fence != 0 => {
                if self.open.remove(&fence).is_none() {
                    let what = format!(
                        "it closes grant {fence}, which is not open: closed before, or never granted"
                    );
                    self.fault(place, Check::Grants, what);
                }
                let said = body_of(&entry.body)
                    .and_then(|b| b.audit_metadata)
                    .and_then(|m| m.fence);
                if said.is_some_and(|s| s != fence) {
                    let what = format!(
                        "it stands under fence {fence} and says {}",
                        said.unwrap_or(0)
                    );
                    self.fault(place, Check::Grants, what);
                }
            }
            _ => {}
        }
    }

    fn open_grant(&mut self, entry: &Entry, place: Place) {
        let fence = entry.fence.0;
        if fence <= self.last_fence {
            let what = format!(
                "fence {fence} was granted after {}: fences only rise",
                self.last_fence
            );
            return self.fault(place, Check::Grants, what);
        }
        self.last_fence = fence;
        if self.open.len() >= MAX_OPEN {
            return self.fault(
                place,
                Check::Grants,
                format!("more than {MAX_OPEN} grants are open"),
            );
        }
        let incident = body_of(&entry.body).and_then(|b| b.incident_id.or(b.incident));
        let grant = OpenGrant {
            fence,
            entry: entry.index,
            node: entry.signer,
            incident,
        };
        self.open.insert(fence, grant);
    }

    /// Holds what was read against a checkpoint: one of the same size, or this tells by how much
    /// one of them is cut.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.checkpoint_at(checkpoint, Place::default());
    }

    pub(crate) fn checkpoint_at(&mut self, c: &Checkpoint, place: Place) {
        if let Err(e) = c.verify() {
            self.fault(place, Check::Checkpoint, format!("the checkpoint: {e}"));
        }
        if !self.roster.contains(&c.signer) {
            let what = format!("the checkpoint is signed by {}", self.stranger(&c.signer));
            self.fault(place, Check::Roster, what);
        }
        let read = self.report.entries;
        if c.size != read {
            let what = format!(
                "the checkpoint is over {} entries, {read} are there",
                c.size
            );
            self.fault(place, Check::Checkpoint, what);
        } else if c.root != self.frontier.root() || c.tip != self.tip {
            let what = "the checkpoint is over other entries than these".to_owned();
            self.fault(place, Check::Checkpoint, what);
        }
        self.report.checkpoint = Some(c.clone());
    }

    /// What was found.
    pub fn finish(mut self) -> Report {
        self.report.root = self.frontier.root();
        self.report.tip = self.tip;
        self.report.roster = self.roster;
        self.report.open_grants = self.open.into_values().collect();
        self.report
    }

    pub(crate) fn fault(&mut self, place: Place, check: Check, what: String) {
        self.report.fault_count += 1;
        self.report.failed.insert(check);
        if self.report.faults.len() < MAX_FAULTS {
            self.report.faults.push(Fault { place, check, what });
        }
    }
}

/// What of a body says where it belongs.
#[derive(Deserialize)]
pub(crate) struct Belongs {
    pub(crate) incident_id: Option<String>,
    pub(crate) incident: Option<String>,
    audit_metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    fence: Option<u64>,
}

pub(crate) fn body_of(body: &[u8]) -> Option<Belongs> {
    serde_json::from_slice(body).ok()
}

impl Belongs {
    pub(crate) fn is_about(&self, incident: &IncidentId) -> bool {
        [&self.incident_id, &self.incident]
            .into_iter()
            .flatten()
            .any(|i| i == incident.as_str())
    }
}

#[cfg(test)]
#[path = "verify/tests.rs"]
mod tests;
