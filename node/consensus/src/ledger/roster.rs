//! Who belongs to the cluster, and records that need no lease.

use super::{Applied, Ledger, News, Recent, Row, check, limits};
use hale_model::ledger::{Answer, EntryKind, EntryRef, Refusal, Signed};
use hale_model::{Digest, ExecutionId, Fence, HostName, NodeId};

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
        check::bare(&entry, EntryKind::Enrolment)?;
        let mut out = Applied::done(Answer::Done { entry: None });
        if self.roster.get(&node) == Some(&host) {
            return Ok(out);
        }
        if let Some((other, _)) = self.roster.iter().find(|(n, h)| **h == host && **n != node) {
            let other = other.short();
            return Err(Refusal::BadEntry(format!(
                "host {host} is node {other} already"
            )));
        }
        if self.roster.len() >= limits::MAX_NODES && !self.is_enrolled(&node) {
            let what = "nodes on the roster".into();
            return Err(Refusal::Full {
                what,
                limit: limits::MAX_NODES as u64,
            });
        }
        self.roster.insert(node, host.clone());
        self.touched.insert(Row::Node(node));
        out.news.push(News::Enrolled { node, host });
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
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
                self.touched.insert(Row::Recent(oldest));
            }
        }
    }
}

pub(super) fn signature_of(entry: &Signed) -> Digest {
    Digest::of(entry.signature.as_bytes())
}
