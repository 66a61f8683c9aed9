//! What an auditor asks of this node's chain.

use hale_api::{ChainProblem, Verification};
use hale_audit::archive::Segments;
use hale_audit::checkpoint::Checkpoint;
use hale_audit::verify::{Trust, Verifier};
use hale_audit::{AuditError, export};
use hale_model::Keypair;

/// Verifies every link, signature and grant of the chain as it is now.
///
/// # Errors
/// If it can't be read.
pub(crate) fn verify(chain: &Segments) -> Result<Verification, AuditError> {
    let (frontier, tip) = chain.state();
    let mut verifier = Verifier::new(Trust::FirstEnrolment);
    let mut unreadable = None;
    for entry in chain.read(0..frontier.size()) {
        match entry {
            Ok(entry) => verifier.entry(&entry),
            Err(e) => {
                unreadable = Some(e);
                break;
            }
        }
    }
    let report = verifier.finish();
    let mut problems: Vec<ChainProblem> = report
        .faults
        .iter()
        .map(|f| ChainProblem {
            index: f.place.entry,
            what: f.what.clone(),
        })
        .collect();
    if let Some(e) = unreadable {
        problems.push(ChainProblem {
            index: Some(report.entries),
            what: e.to_string(),
        });
    } else if report.root != frontier.root() || report.tip != tip {
        let what = "the entries do not give the root that was kept beside them".into();
        problems.push(ChainProblem { index: None, what });
    }
    let broken = report
        .faults
        .iter()
        .filter(|f| f.check == hale_audit::verify::Check::Chain)
        .count();
    Ok(Verification {
        valid: problems.is_empty() && report.fault_count == 0,
        entries: report.entries,
        chain: report.entries.saturating_sub(broken as u64),
        signatures: report.signatures,
        tip: report.tip,
        root: report.root,
        problems,
    })
}

/// The chain as export lines, up to the checkpoint taken now.
pub(crate) fn export_lines(
    chain: &Segments,
    key: &Keypair,
) -> impl Iterator<Item = Result<String, AuditError>> + use<> {
    let (frontier, tip) = chain.state();
    let checkpoint = Checkpoint::sign(&frontier, tip, key);
    export::lines(chain.read(0..frontier.size()), &checkpoint)
}
