//! What must hold of a command before it changes anything.

use super::{Ledger, RULES_WITH_COFACTOR};
use hale_model::canonical;
use hale_model::ledger::{EntryKind, MAX_BODY_BYTES, Refusal, Signed};
use std::ops::RangeInclusive;

/// Whether a text is within its bound.
pub(super) fn text(what: &str, text: &str, limit: usize) -> Result<(), Refusal> {
    if text.len() <= limit {
        return Ok(());
    }
    Err(Refusal::BadEntry(format!(
        "{what} has {} bytes, {limit} are allowed",
        text.len()
    )))
}

/// Whether a time to live is within its bounds.
pub(super) fn ttl(ttl_ms: u64, range: &RangeInclusive<u64>) -> Result<(), Refusal> {
    if range.contains(&ttl_ms) {
        return Ok(());
    }
    let (from, to) = (range.start(), range.end());
    Err(Refusal::BadEntry(format!(
        "a ttl of {ttl_ms} ms is not between {from} and {to} ms"
    )))
}

/// Whether bytes are the canonical form of the JSON they hold (RFC 8785).
pub(super) fn canonical(what: &str, bytes: &[u8]) -> Result<(), Refusal> {
    match canonical::is_canonical(bytes) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::BadEntry(format!(
            "{what} is not canonical JSON (RFC 8785)"
        ))),
        Err(e) => Err(Refusal::BadEntry(format!("{what} is not JSON: {e}"))),
    }
}

impl Ledger {
    /// Whether an entry may go on the chain: its kind, size and form, a signer on the roster, and
    /// last, because it costs most, the signature.
    pub(super) fn check(&self, signed: &Signed, kind: EntryKind) -> Result<(), Refusal> {
        if !self.is_enrolled(&signed.signer) {
            return Err(Refusal::UnknownNode(signed.signer));
        }
        self.check_bare(signed, kind)
    }

    /// As [`Ledger::check`], whoever the signer is.
    pub(super) fn check_bare(&self, signed: &Signed, kind: EntryKind) -> Result<(), Refusal> {
        bare(signed, kind)?;
        let holds = if self.rules() < RULES_WITH_COFACTOR {
            signed.verify_strictly()
        } else {
            signed.verify()
        };
        holds.map_err(|_| Refusal::BadSignature)
    }
}

/// Without the signature.
fn bare(signed: &Signed, kind: EntryKind) -> Result<(), Refusal> {
    if signed.kind != kind {
        let (wanted, found) = (kind.as_str(), signed.kind.as_str());
        return Err(Refusal::BadEntry(format!(
            "its kind is {found}, {wanted} was expected"
        )));
    }
    if signed.body.len() > MAX_BODY_BYTES {
        let len = signed.body.len();
        return Err(Refusal::BadEntry(format!(
            "{len} bytes, {MAX_BODY_BYTES} are allowed"
        )));
    }
    canonical("its body", &signed.body)
}
