//! A recovery in the chain: who may sign from here on, and what an auditor is told of it.

use super::{Check, MAX_FAULTS, Place, RecoveryNote, Verifier};
use crate::recovery::{Cause, Recovery};
use hale_model::chain::Entry;

impl Verifier {
    /// The signature was checked. A member's own word counts as every other; a key that nobody
    /// enrolled is believed where the chain was restored from a backup, unless the auditor said
    /// which keys to believe, and is told of.
    pub(super) fn recovered(&mut self, entry: &Entry, place: Place) {
        let Some(told) = Recovery::of(&entry.body).filter(|r| r.node == entry.signer) else {
            let what = "it tells of a recovery by another key than its own".into();
            return self.fault(place, Check::Roster, what);
        };
        let vouched = self.roster.contains(&entry.signer);
        let restores = told.cause == Cause::Restored
            && self.founding
            && self.report.entries > 0
            && !self.removed.contains(&entry.signer);
        if !vouched && !restores {
            let what = format!("it is signed by {}", self.stranger(&entry.signer));
            return self.fault(place, Check::Roster, what);
        }
        for gone in told.lost.iter().filter(|n| **n != entry.signer) {
            if self.roster.remove(gone) {
                self.removed.insert(*gone);
            }
        }
        self.roster.insert(entry.signer);
        if self.report.recoveries.len() < MAX_FAULTS {
            self.report.recoveries.push(RecoveryNote {
                entry: entry.index,
                node: entry.signer,
                host: told.host,
                cause: told.cause,
                lost: told.lost.len() as u64,
                vouched,
                at: told.at,
            });
        }
    }
}
