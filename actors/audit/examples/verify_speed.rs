//! How fast a chain of 100,000 entries is written, exported and verified here:
//! `cargo run --release -p hale-audit --example verify_speed`.
#![allow(clippy::unwrap_used, reason = "an example ends where it fails")]

use hale_audit::archive::{Options, Segments};
use hale_audit::checkpoint::Checkpoint;
use hale_audit::verify::{ExportVerifier, Trust};
use hale_audit::{enrolment, export};
use hale_model::chain::Entry;
use hale_model::ledger::{EntryKind, Signed};
use hale_model::{Digest, Fence, HostName, Keypair};
use std::io::Write;
use std::time::Instant;

const ENTRIES: u64 = 100_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let key = Keypair::from_seed(&[7; 32]);
    let mut out = std::io::stdout();
    let mut tell = |what: &str, since: Instant| {
        let s = since.elapsed().as_secs_f64();
        writeln!(
            out,
            "{what:<9} {s:6.2} s {:9.0} entries/s",
            ENTRIES as f64 / s
        )
    };

    let since = Instant::now();
    let founding = enrolment::sign(key.node_id(), &HostName::new("db-1")?, &key);
    let mut entries = vec![Entry::after(0, Digest::ZERO, Fence(0), founding)];
    let body = format!(
        r#"{{"audit_metadata":{{}},"text":"{}"}}"#,
        "x".repeat(2_000)
    );
    let mut tip = entries[0].hash();
    for index in 1..ENTRIES {
        let signed = Signed::new(EntryKind::Record, body.clone().into_bytes(), &key);
        let entry = Entry::after(index, tip, Fence(0), signed);
        tip = entry.hash();
        entries.push(entry);
    }
    tell("sign", since)?;

    let since = Instant::now();
    let chain = Segments::open(dir.path(), Options::default())?;
    for some in entries.chunks(64) {
        chain.append(some)?;
        chain.sync()?;
    }
    tell("write", since)?;

    drop(chain);
    let since = Instant::now();
    let chain = Segments::open(dir.path(), Options::default())?;
    tell("open", since)?;

    let since = Instant::now();
    let (frontier, tip) = chain.state();
    let checkpoint = Checkpoint::sign(&frontier, tip, &key);
    let mut file = vec![];
    for line in export::lines(chain.read(0..u64::MAX), &checkpoint) {
        file.extend_from_slice(line?.as_bytes());
    }
    tell("export", since)?;

    let since = Instant::now();
    let mut verifier = ExportVerifier::new(Trust::FirstEnrolment);
    for piece in file.chunks(1 << 20) {
        verifier.feed(piece);
    }
    let report = verifier.finish();
    tell("verify", since)?;
    if !report.is_sound() {
        return Err(report.faults[0].to_string().into());
    }
    Ok(())
}
