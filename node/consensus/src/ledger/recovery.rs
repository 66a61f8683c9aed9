//! The ledger goes on from one node's copy, after its quorum or all of its nodes were lost.

use super::{Applied, Ledger, News, Row, limits};
use hale_audit::recovery::Recovery;
use hale_model::ledger::{Answer, EntryKind, Refusal, Signed};
use hale_model::{Fence, HostName, NodeId};

impl Ledger {
    /// Who else had a log of its own is off the roster: its log may hold what this one lacks. The
    /// node that a restored state names is enrolled by its own word, once.
    pub(super) fn recovered(
        &mut self,
        index: u64,
        by: NodeId,
        lost: &[NodeId],
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        let restored = self.restored.clone().filter(|(node, _)| *node == by);
        if !self.is_enrolled(&by) && restored.is_none() {
            return Err(Refusal::UnknownNode(by));
        }
        if lost.len() > limits::MAX_NODES {
            return Err(Refusal::Full {
                what: "nodes in a recovery".into(),
                limit: limits::MAX_NODES as u64,
            });
        }
        self.check_bare(&entry, EntryKind::Recovery)?;
        tells(&entry, by, lost)?;
        if let Some(place) = self.written_before(&entry) {
            return Ok(Applied::done(Answer::Done { entry: Some(place) }));
        }
        if let Some((_, host)) = &restored {
            let mut stay = self.roster.iter().filter(|(n, _)| **n != by);
            if let Some((node, _)) = stay.find(|(n, h)| *h == host && !lost.contains(n)) {
                let (host, node) = (host.clone(), *node);
                return Err(Refusal::HostTaken { host, node });
            }
        }
        let mut out = Applied::nothing();
        for node in lost {
            if let Some(host) = self.roster.get(node).cloned() {
                self.take_off(index, *node, host, &mut out);
            }
        }
        if let Some((_, host)) = restored {
            self.restored = None;
            self.touched.insert(Row::Restored);
            if !self.is_enrolled(&by) {
                self.roster.insert(by, host.clone());
                self.touched.insert(Row::Node(by));
                out.news.push(News::Enrolled { node: by, host });
            }
        }
        let signature = super::roster::signature_of(&entry);
        let place = self.write(Fence(0), entry, &mut out);
        self.remember(signature, place.clone(), None);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    /// The state of a backup, for a node that goes on from it: nobody joins with a token made
    /// before, no lease is held, nobody looks
    /// and nobody waits.
    pub(crate) fn restored(mut self, by: NodeId, host: HostName) -> Result<Self, Refusal> {
        if self.was_removed(&by) {
            return Err(Refusal::WasRemoved(by));
        }
        self.tokens.values_mut().for_each(|t| t.token.live = false);
        self.grants.values_mut().for_each(|l| l.live = false);
        self.waiting.clear();
        self.places.clear();
        self.looks.clear();
        self.restored = Some((by, host));
        Ok(self)
    }
}

/// The chain must say what the ledger does: an auditor learns the roster from the bodies.
fn tells(entry: &Signed, by: NodeId, lost: &[NodeId]) -> Result<(), Refusal> {
    let bad = |what: &str| Err(Refusal::BadEntry(what.into()));
    let Some(told) = Recovery::of(&entry.body) else {
        return bad("its body tells of no recovery");
    };
    if told.node != by || entry.signer != by {
        return bad("a recovery is told by the node whose copy it is, and by no other");
    }
    if lost.contains(&by) || !told.lost.iter().eq(lost) {
        return bad("its body does not name the nodes that are lost, in order and without its own");
    }
    Ok(())
}
