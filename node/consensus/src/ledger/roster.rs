//! Who belongs to the cluster, and records that need no lease.

use super::{Applied, Ledger, News, Recent, Row, check, limits};
use hale_audit::{enrolment, removal};
use hale_model::ledger::{Answer, EntryKind, EntryRef, Refusal, Signed};
use hale_model::{Digest, ExecutionId, Fence, HostName, NodeId, TokenId};

impl Ledger {
    /// The first node vouches for itself; each later one is vouched for by a member.
    pub(super) fn enrol(
        &mut self,
        node: NodeId,
        host: HostName,
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        let founds = self.roster.is_empty() && entry.signer == node;
        if !founds && !self.is_enrolled(&entry.signer) {
            return Err(Refusal::UnknownNode(entry.signer));
        }
        self.check_bare(&entry, EntryKind::Enrolment)?;
        if self.roster.get(&node) == Some(&host) {
            return Ok(Applied::nothing());
        }
        self.check_newcomer(&node, &host).map_err(|e| match e {
            Refusal::HostTaken { host, node } => {
                let other = node.short();
                Refusal::BadEntry(format!("host {host} is node {other} already"))
            }
            other => other,
        })?;
        Ok(self.put_on_roster(node, host, entry))
    }

    /// A member vouches for a node that showed a token. Admitting it again spends nothing.
    pub(super) fn admit(
        &mut self,
        token: &TokenId,
        node: NodeId,
        host: HostName,
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        self.check(&entry, EntryKind::Enrolment)?;
        names(node, enrolment::node_of(&entry.body))?;
        if self.roster.get(&node) == Some(&host) {
            return Ok(Applied::nothing());
        }
        self.check_token(token)?;
        self.check_newcomer(&node, &host)?;
        let mut out = self.put_on_roster(node, host, entry);
        self.spend_token(token, &mut out);
        Ok(out)
    }

    fn check_newcomer(&self, node: &NodeId, host: &HostName) -> Result<(), Refusal> {
        if self.was_removed(node) {
            return Err(Refusal::WasRemoved(*node));
        }
        if let Some((other, _)) = self.roster.iter().find(|(n, h)| *h == host && *n != node) {
            let (host, node) = (host.clone(), *other);
            return Err(Refusal::HostTaken { host, node });
        }
        if self.roster.len() >= limits::MAX_NODES && !self.is_enrolled(node) {
            return Err(Refusal::Full {
                what: "nodes on the roster".into(),
                limit: limits::MAX_NODES as u64,
            });
        }
        Ok(())
    }

    fn put_on_roster(&mut self, node: NodeId, host: HostName, entry: Signed) -> Applied {
        let mut out = Applied::nothing();
        self.roster.insert(node, host.clone());
        self.touched.insert(Row::Node(node));
        out.news.push(News::Enrolled { node, host });
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        out
    }

    /// Whether a node was taken off the roster, as far back as that is remembered.
    pub fn was_removed(&self, node: &NodeId) -> bool {
        self.removed.contains_key(node)
    }

    /// Nothing that the node says counts from here on; what it left open ends or waits to be
    /// closed by another.
    pub(super) fn remove(
        &mut self,
        index: u64,
        node: NodeId,
        by: &str,
        reason: &str,
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        check::text("the name", by, limits::MAX_BY_BYTES)?;
        check::text("the reason", reason, limits::MAX_TEXT_BYTES)?;
        // Also for the node itself, which is no member any more when it asks again.
        if self.was_removed(&node) && !self.is_enrolled(&node) {
            return Ok(Applied::nothing());
        }
        self.check(&entry, EntryKind::Removal)?;
        names(node, removal::node_of(&entry.body))?;
        let Some(host) = self.roster.get(&node).cloned() else {
            return Err(Refusal::UnknownNode(node));
        };
        if self.roster.len() == 1 {
            return Err(Refusal::LastNode);
        }
        let mut out = Applied::nothing();
        self.take_off(index, node, host, &mut out);
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    pub(super) fn take_off(&mut self, index: u64, node: NodeId, host: HostName, out: &mut Applied) {
        self.roster.remove(&node);
        self.touched.insert(Row::Node(node));
        if self.services.remove(&node).is_some() {
            self.touched.insert(Row::Services(node));
        }
        self.remember_removed(index, node);
        out.news.push(News::Removed { node, host });
        self.orphan_grants_of(&node, out);
        self.end_waits_of(&node, out);
        self.end_looks_of(&node, out);
        self.end_approvals_of(index, &node, out);
    }

    fn remember_removed(&mut self, index: u64, node: NodeId) {
        self.removed.insert(node, index);
        self.touched.insert(Row::Removed(node));
        while self.removed.len() > limits::MAX_REMOVED {
            let oldest = self.removed.iter().min_by_key(|(n, at)| (**at, **n));
            let Some(oldest) = oldest.map(|(n, _)| *n) else {
                return;
            };
            self.removed.remove(&oldest);
            self.touched.insert(Row::Removed(oldest));
        }
    }

    pub(super) fn append_record(&mut self, entry: Signed) -> Result<Applied, Refusal> {
        self.check(&entry, EntryKind::Record)?;
        if let Some(place) = self.written_before(&entry) {
            return Ok(Applied::done(Answer::Done { entry: Some(place) }));
        }
        let mut out = Applied::done(Answer::Done { entry: None });
        let signature = signature_of(&entry);
        let place = self.write(Fence(0), entry, &mut out);
        self.remember(signature, place.clone(), None);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    /// Where this very record stands, if it was written not long ago: whoever got no answer asks
    /// again, and must not be written twice.
    pub(super) fn written_before(&self, entry: &Signed) -> Option<EntryRef> {
        let number = self.written.get(&signature_of(entry))?;
        self.recent.get(number).map(|r| r.entry.clone())
    }

    pub(super) fn remember(
        &mut self,
        signature: Digest,
        entry: EntryRef,
        closed: Option<(Fence, ExecutionId)>,
    ) {
        let number = entry.index;
        self.written.insert(signature, number);
        self.recent.insert(
            number,
            Recent {
                signature,
                entry,
                closed,
            },
        );
        self.touched.insert(Row::Recent(number));
        while self.recent.len() > limits::MAX_RECENT {
            if let Some((oldest, gone)) = self.recent.pop_first() {
                self.written.remove(&gone.signature);
                // What came and went between two checkpoints was never stored.
                if oldest < self.stored {
                    self.touched.insert(Row::Recent(oldest));
                } else {
                    self.touched.remove(&Row::Recent(oldest));
                }
            }
        }
    }
}

/// The chain must say what the ledger does: an auditor learns the roster from the bodies.
fn names(node: NodeId, named: Option<NodeId>) -> Result<(), Refusal> {
    if named == Some(node) {
        return Ok(());
    }
    let node = node.short();
    Err(Refusal::BadEntry(format!(
        "its body does not name node {node}"
    )))
}

pub(super) fn signature_of(entry: &Signed) -> Digest {
    Digest::of(entry.signature.as_bytes())
}
