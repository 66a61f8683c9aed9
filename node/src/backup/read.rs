//! A backup is read and checked: every byte, every link and signature, and that the state is what
//! the chain leads to.

use super::{
    BackupError, END, END_BYTES, ENTRY, HEADER, Header, MAGIC, MAX_PAYLOAD, MAX_STATE, STATE,
    VERSION, signed_bytes,
};
use hale_audit::verify::{Report, Trust, Verifier};
use hale_consensus::{Copy, Ledger};
use hale_model::chain::Entry;
use hale_model::{Digest, Hasher, NodeId, Signature};
use std::collections::BTreeSet;
use std::io::Read;

/// What is in a backup that holds.
#[derive(Debug)]
pub(crate) struct Backup {
    pub(crate) header: Header,
    pub(crate) copy: Copy,
    pub(crate) ledger: Ledger,
    pub(crate) report: Report,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

impl Backup {
    /// The cluster's number.
    pub(crate) fn cluster(&self) -> Result<u64, BackupError> {
        u64::from_str_radix(&self.header.cluster, 16).map_err(|e| BackupError::Damaged {
            at: 0,
            what: format!("its cluster is no number: {e}"),
        })
    }
}

/// Reads a backup to its end and hands on each entry. What was handed on counts only once this
/// returns: the signature stands at the end.
///
/// # Errors
/// The first thing that does not hold, or what `take` says.
pub(crate) fn read(
    input: impl Read,
    mut take: impl FnMut(Entry) -> std::io::Result<()>,
) -> Result<Backup, BackupError> {
    let mut source = Source {
        input,
        hasher: Hasher::default(),
        at: 0,
    };
    let header = source.head()?;
    let mut state = vec![];
    let mut verifier = Verifier::new(Trust::FirstEnrolment);
    loop {
        let (at, before) = (source.at, source.hasher.clone());
        let damaged = |what: &str| BackupError::Damaged {
            at,
            what: what.into(),
        };
        let (kind, payload) = source.frame()?;
        match kind {
            STATE if verifier.entries() == 0 => {
                state.extend_from_slice(&payload);
                if state.len() as u64 > header.state_bytes.min(MAX_STATE) {
                    return Err(damaged("the state is longer than it should be"));
                }
            }
            ENTRY if verifier.entries() < header.entries => {
                let entry = Entry::from_bytes(&payload).map_err(|e| damaged(&e.to_string()))?;
                verifier.entry(&entry);
                if verifier.faults() > 0 {
                    break;
                }
                take(entry).map_err(BackupError::Write)?;
            }
            END if payload.len() == END_BYTES => {
                let digest = before.finish();
                ended(&header, &digest, &payload)?;
                source.is_over()?;
                return whole(header, state, verifier.finish(), digest, source.at);
            }
            _ => return Err(damaged("a part stands where it does not belong")),
        }
    }
    let report = verifier.finish();
    Err(BackupError::Chain(first_fault(&report)))
}

fn first_fault(report: &Report) -> String {
    let fault = report.faults.first();
    fault.map(ToString::to_string).unwrap_or_default()
}

fn ended(header: &Header, digest: &Digest, end: &[u8]) -> Result<(), BackupError> {
    let (said, signature) = end.split_at(32);
    if said != digest.as_bytes() {
        return Err(BackupError::Digest);
    }
    let signature = <[u8; 64]>::try_from(signature).map_err(|_| BackupError::Signature)?;
    let signature = Signature::from_bytes(signature);
    let holds = header.node.verify(&signed_bytes(digest), &signature);
    holds.map_err(|_| BackupError::Signature)
}

fn whole(
    header: Header,
    state: Vec<u8>,
    report: Report,
    digest: Digest,
    bytes: u64,
) -> Result<Backup, BackupError> {
    let differs = |what: &str| Err(BackupError::Mismatch(what.into()));
    if !report.is_sound() {
        return Err(BackupError::Chain(first_fault(&report)));
    }
    if state.len() as u64 != header.state_bytes {
        return differs("it is not as long as the header says");
    }
    if (report.entries, report.tip) != (header.entries, header.tip) {
        return differs("the chain does not end where the header says");
    }
    let ledger = Ledger::decode(&state).map_err(BackupError::State)?;
    let tip = ledger.tip();
    if (report.entries, report.tip) != (tip.entries, tip.hash) {
        return differs("the chain does not end where the state says");
    }
    let roster: BTreeSet<NodeId> = ledger.roster().map(|(n, _)| *n).collect();
    if roster != report.roster {
        return differs("other nodes are on its roster");
    }
    if !roster.contains(&header.node) {
        return Err(BackupError::Signature);
    }
    let copy = Copy {
        applied: header.applied,
        state,
        group: header.group.clone(),
    };
    Ok(Backup {
        header,
        copy,
        ledger,
        report,
        digest,
        bytes,
    })
}

struct Source<R> {
    input: R,
    hasher: Hasher,
    at: u64,
}

impl<R: Read> Source<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        let read = self.input.read_exact(bytes);
        read.map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => BackupError::CutShort(self.at),
            _ => BackupError::Io(e),
        })?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn head(&mut self) -> Result<Header, BackupError> {
        let mut magic = [0; MAGIC.len()];
        match self.fill(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Ok(()) | Err(BackupError::CutShort(_)) => return Err(BackupError::NotABackup),
            Err(e) => return Err(e),
        }
        let mut version = [0];
        self.fill(&mut version)?;
        if version[0] != VERSION {
            return Err(BackupError::Newer(version[0]));
        }
        let at = self.at;
        let damaged = |what: String| BackupError::Damaged { at, what };
        let (kind, payload) = self.frame()?;
        if kind != HEADER {
            return Err(damaged("it does not begin with a header".into()));
        }
        serde_json::from_slice(&payload).map_err(|e| damaged(format!("its header: {e}")))
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>), BackupError> {
        let at = self.at;
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let [kind, len @ ..] = head;
        let len = u32::from_be_bytes(len) as usize;
        if len > MAX_PAYLOAD {
            let what = format!("a part of {len} bytes");
            return Err(BackupError::Damaged { at, what });
        }
        let mut payload = vec![0; len];
        self.fill(&mut payload)?;
        Ok((kind, payload))
    }

    fn is_over(&mut self) -> Result<(), BackupError> {
        let at = self.at;
        match self.fill(&mut [0]) {
            Err(BackupError::CutShort(_)) => Ok(()),
            Ok(()) => Err(BackupError::Damaged {
                at,
                what: "there is more after its end".into(),
            }),
            Err(e) => Err(e),
        }
    }
}
