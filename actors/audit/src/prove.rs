//! One file that proves one incident: its entries, that they are in the chain, who signed them
//! and who let those sign. It needs neither the chain nor Hale's keeper to be checked.

use crate::checkpoint::Checkpoint;
use crate::enrolment;
use crate::error::AuditError;
use crate::export::EntryLine;
use crate::merkle::{self, MAX_PATH, Prover};
use crate::verify::{Trust, body_of};
use hale_model::chain::{Entry, signing_bytes};
use hale_model::ledger::EntryKind;
use hale_model::{Digest, IncidentId, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The format's name.
pub const FORMAT: &str = "hale.audit.proof";
/// Its version.
pub const VERSION: u32 = 1;
/// The most entries in one proof.
pub const MAX_ENTRIES: usize = 1000;

/// One incident, proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`].
    pub version: u32,
    /// The incident.
    pub incident_id: IncidentId,
    /// The tree that the entries are proven to be in.
    pub checkpoint: Checkpoint,
    /// The entries about it, and the enrolments of all who signed, by number.
    pub entries: Vec<Proven>,
}

/// An entry with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// The entry.
    pub entry: EntryLine,
    /// The hashes beside its way to the root (RFC 6962 section 2.1.1).
    pub inclusion: Vec<Digest>,
}

/// Proves an incident. `read` gives the chain's entries from the first to the checkpoint's last;
/// it is called twice.
///
/// # Errors
/// Those of reading; if nothing is about the incident, or too much; if the chain is not the
/// checkpoint's.
pub fn prove<I>(
    incident: &IncidentId,
    read: impl Fn() -> I,
    checkpoint: &Checkpoint,
) -> Result<Proof, AuditError>
where
    I: IntoIterator<Item = Result<Entry, AuditError>>,
{
    let wanted = find(incident, read(), checkpoint.signer)?;
    let size = checkpoint.size;
    let mut provers: Vec<_> = wanted
        .iter()
        .map(|i| {
            Prover::inclusion(*i, size).ok_or(AuditError::Moved {
                size,
                found: *i + 1,
            })
        })
        .collect::<Result<_, _>>()?;
    let (mut found, mut lines) = (0, vec![]);
    for entry in read() {
        let entry = entry?;
        let leaf = merkle::leaf(&entry.to_bytes());
        provers.iter_mut().for_each(|p| p.push(leaf));
        if wanted.contains(&entry.index) {
            lines.push(EntryLine::try_from(&entry)?);
        }
        found += 1;
    }
    let moved = || AuditError::Moved { size, found };
    if found != size || lines.len() != provers.len() {
        return Err(moved());
    }
    let entries = lines
        .into_iter()
        .zip(provers)
        .map(|(entry, p)| {
            Ok(Proven {
                entry,
                inclusion: p.finish().ok_or_else(moved)?,
            })
        })
        .collect::<Result<_, AuditError>>()?;
    let (format, checkpoint) = (FORMAT.into(), checkpoint.clone());
    Ok(Proof {
        format,
        version: VERSION,
        incident_id: incident.clone(),
        checkpoint,
        entries,
    })
}

/// The numbers of the entries that a proof of an incident needs.
fn find<I>(incident: &IncidentId, entries: I, also: NodeId) -> Result<BTreeSet<u64>, AuditError>
where
    I: IntoIterator<Item = Result<Entry, AuditError>>,
{
    let mut enrolled: BTreeMap<NodeId, (u64, NodeId)> = BTreeMap::new();
    let mut open: BTreeMap<u64, (u64, NodeId)> = BTreeMap::new();
    let (mut wanted, mut signers) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries {
        let entry = entry?;
        let (fence, place) = (entry.fence.0, (entry.index, entry.signer));
        let intent = match entry.kind {
            EntryKind::Enrolment => {
                if let Some(node) = enrolment::node_of(&entry.body) {
                    enrolled.entry(node).or_insert(place);
                }
                None
            }
            EntryKind::Intent => open.insert(fence, place),
            _ => open.remove(&fence),
        };
        // What closes a grant of the incident belongs to it, even where it does not say so.
        let closes = intent.is_some_and(|(index, _)| wanted.contains(&index));
        if closes || body_of(&entry.body).is_some_and(|b| b.is_about(incident)) {
            for (index, signer) in [Some(place), intent].into_iter().flatten() {
                wanted.insert(index);
                signers.insert(signer);
            }
        }
        if wanted.len() > MAX_ENTRIES {
            return Err(AuditError::ProofTooLarge {
                found: wanted.len(),
                limit: MAX_ENTRIES,
            });
        }
    }
    if wanted.is_empty() {
        return Err(AuditError::UnknownIncident(incident.to_string()));
    }
    signers.insert(also);
    // Who enrolled the signers, and who enrolled those, up to the first of all.
    while let Some(node) = signers.pop_first() {
        if let Some((index, by)) = enrolled.get(&node)
            && wanted.insert(*index)
        {
            signers.insert(*by);
        }
    }
    Ok(wanted)
}

impl Proof {
    /// The file: JSON in its one form.
    pub fn to_text(&self) -> String {
        // No maps and no floats: nothing in it can fail to be written.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a file, strictly.
    ///
    /// # Errors
    /// If it is not exactly what would be written for what it says.
    pub fn from_text(text: &[u8]) -> Result<Self, AuditError> {
        let proof: Self =
            serde_json::from_slice(text).map_err(|e| AuditError::BadProof(e.to_string()))?;
        let again = proof.to_text();
        if again.as_bytes() == text {
            return Ok(proof);
        }
        let at = again.bytes().zip(text).take_while(|(a, b)| a == *b).count();
        Err(AuditError::BadProof(format!(
            "byte {at} is not written in the one form it may have"
        )))
    }

    /// Checks all that the file claims, and gives the incident's entries.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(&self, trust: &Trust) -> Result<Vec<Entry>, AuditError> {
        let bad = |what: String| Err(AuditError::BadProof(what));
        if self.format != FORMAT || self.version != VERSION {
            return bad(format!(
                "it is {} {}, this binary knows {FORMAT} {VERSION}",
                self.format, self.version
            ));
        }
        if let Err(e) = self.checkpoint.verify() {
            return bad(format!("its checkpoint: {e}"));
        }
        let (mut roster, mut last, mut about) = (given(trust), None, vec![]);
        for proven in &self.entries {
            let entry = Entry::from(&proven.entry);
            if last.replace(entry.index).is_some_and(|l| l >= entry.index) {
                return bad(format!("entry {} is out of order", entry.index));
            }
            self.check(proven, &entry)?;
            let enrols = (entry.kind == EntryKind::Enrolment)
                .then(|| enrolment::node_of(&entry.body))
                .flatten();
            let founds =
                *trust == Trust::FirstEnrolment && entry.index == 0 && enrols == Some(entry.signer);
            if !founds && !roster.contains(&entry.signer) {
                return bad(format!(
                    "entry {} is signed by {}, whom nothing here enrols",
                    entry.index,
                    entry.signer.short()
                ));
            }
            roster.extend(enrols);
            if enrols.is_none() {
                about.push(entry);
            }
        }
        if !roster.contains(&self.checkpoint.signer) {
            return bad("its checkpoint is signed by a key that nothing here enrols".into());
        }
        if !about
            .iter()
            .any(|e| body_of(&e.body).is_some_and(|b| b.is_about(&self.incident_id)))
        {
            return bad(format!("no entry is about {}", self.incident_id));
        }
        Ok(about)
    }

    fn check(&self, proven: &Proven, entry: &Entry) -> Result<(), AuditError> {
        let bad = |what: &str| {
            Err(AuditError::BadProof(format!(
                "entry {}: {what}",
                entry.index
            )))
        };
        if entry.hash() != proven.entry.hash {
            return bad("its bytes do not have the hash it says");
        }
        if let Err(e) = entry
            .signer
            .verify(&signing_bytes(entry.kind, &entry.body), &entry.signature)
        {
            return bad(&e.to_string());
        }
        let (c, path) = (&self.checkpoint, &proven.inclusion);
        let leaf = merkle::leaf(&entry.to_bytes());
        if path.len() > MAX_PATH || !merkle::includes(leaf, entry.index, c.size, path, &c.root) {
            return bad("it is not in the tree of the checkpoint");
        }
        Ok(())
    }
}

fn given(trust: &Trust) -> BTreeSet<NodeId> {
    match trust {
        Trust::FirstEnrolment => BTreeSet::new(),
        Trust::Keys(keys) => keys.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abandoned;
    use crate::merkle::Frontier;
    use crate::tests_support::{at, chain, extend, intent, key, lease};

    fn proof(incident: &str) -> Result<Proof, AuditError> {
        let chain = chain(9);
        let mut frontier = Frontier::default();
        chain
            .iter()
            .for_each(|e| frontier.push(merkle::leaf(&e.to_bytes())));
        let tip = chain.last().unwrap().hash();
        let checkpoint = Checkpoint::sign(&frontier, tip, &key(1));
        let incident = IncidentId::new(incident).unwrap();
        prove(&incident, || chain.iter().cloned().map(Ok), &checkpoint)
    }

    #[test]
    fn a_proof_stands_alone_with_its_intent_and_the_enrolments_of_its_signers() {
        let text = proof("inc_3").unwrap().to_text();
        let read = Proof::from_text(text.as_bytes()).unwrap();
        let about = read.verify(&Trust::FirstEnrolment).unwrap();
        let kinds: Vec<_> = about.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [EntryKind::Intent, EntryKind::Record]);
        let indexes: Vec<_> = read.entries.iter().map(|p| p.entry.index).collect();
        assert_eq!(indexes, [0, 1, 8, 9]);
        assert!(read.verify(&Trust::Keys([key(1).node_id()].into())).is_ok());
        assert!(
            read.verify(&Trust::Keys([key(9).node_id()].into()))
                .is_err()
        );
    }

    #[test]
    fn what_closes_a_grant_is_in_the_proof_though_it_does_not_name_the_incident() {
        let mut chain = chain(0);
        extend(&mut chain, 20, intent(&key(2), "inc_3"));
        let closing = abandoned::sign(&lease(20, 2), "it was removed", at(1), &key(1));
        extend(&mut chain, 20, closing);
        let mut frontier = Frontier::default();
        chain
            .iter()
            .for_each(|e| frontier.push(merkle::leaf(&e.to_bytes())));
        let checkpoint = Checkpoint::sign(&frontier, chain[3].hash(), &key(1));
        let incident = IncidentId::new("inc_3").unwrap();
        let proof = prove(&incident, || chain.iter().cloned().map(Ok), &checkpoint).unwrap();
        assert_eq!(proof.verify(&Trust::FirstEnrolment).unwrap(), chain[2..]);
    }

    #[test]
    fn every_flipped_byte_of_a_proof_is_found() {
        let text = proof("inc_3").unwrap().to_text().into_bytes();
        for at in 0..text.len() {
            let mut forged = text.clone();
            forged[at] ^= 1;
            let holds = Proof::from_text(&forged).and_then(|p| p.verify(&Trust::FirstEnrolment));
            assert!(holds.is_err(), "byte {at}");
        }
    }

    #[test]
    fn an_incident_that_nobody_recorded_has_no_proof() {
        let error = proof("inc_99").unwrap_err();
        assert!(matches!(error, AuditError::UnknownIncident(_)), "{error}");
    }
}
