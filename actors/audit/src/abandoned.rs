//! The record of a grant that its node can't close any more: what a lease alone tells of it.

use hale_model::ledger::{EntryKind, Lease, Signed};
use hale_model::{Keypair, Timestamp, canonical};
use serde_json::json;

/// The version of the body's shape.
pub const ABANDONED_SCHEMA: &str = "hale.abandoned.v1";

/// Signs the closing record of another node's grant.
pub fn sign(lease: &Lease, reason: &str, at: Timestamp, key: &Keypair) -> Signed {
    let body = json!({
        "schema": ABANDONED_SCHEMA,
        "execution": lease.execution,
        "fence": lease.fence,
        "node": lease.holder,
        "playbook": lease.playbook,
        "reason": reason,
        "at": at,
        "audit_metadata": { "fence": lease.fence },
    });
    // Texts and one number: nothing in it can fail to be written.
    let body = canonical::to_bytes(&body).unwrap_or_default();
    Signed::new(EntryKind::Record, body, key)
}
