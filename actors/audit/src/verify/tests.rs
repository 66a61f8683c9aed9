use super::*;
use crate::recovery::{Cause, Recovery};
use crate::tests_support::{at, chain, extend, intent, key, lease, record};
use crate::{abandoned, export};
use hale_model::ledger::Signed;
use proptest::prelude::*;

fn checkpoint(chain: &[Entry], signer: u8) -> Checkpoint {
    let mut frontier = Frontier::default();
    chain
        .iter()
        .for_each(|e| frontier.push(merkle::leaf(&e.to_bytes())));
    Checkpoint::sign(
        &frontier,
        chain.last().map_or(Digest::ZERO, Entry::hash),
        &key(signer),
    )
}

fn exported(chain: &[Entry]) -> Vec<u8> {
    let lines = export::lines(chain.iter().cloned().map(Ok), &checkpoint(chain, 1));
    lines.collect::<Result<String, _>>().unwrap().into_bytes()
}

fn verify(file: &[u8]) -> Report {
    let mut v = ExportVerifier::new(Trust::FirstEnrolment);
    v.feed(file);
    v.finish()
}

fn verify_entries(chain: &[Entry]) -> Report {
    let mut v = Verifier::new(Trust::FirstEnrolment);
    chain.iter().for_each(|e| v.entry(e));
    v.finish()
}

#[test]
fn a_sound_export_passes_every_check() {
    let chain = chain(5);
    let report = verify(&exported(&chain));
    assert_eq!(report.faults, []);
    assert_eq!((report.entries, report.signatures), (12, 12));
    assert_eq!(report.kinds["record"], 5);
    assert_eq!(report.roster, [key(1).node_id(), key(2).node_id()].into());
    assert_eq!(report.checkpoint.map(|c| c.root), Some(report.root));
    assert_eq!(report.open_grants, []);
}

#[test]
fn every_flipped_byte_of_an_export_is_found_and_located() {
    let file = exported(&chain(1));
    let (mut line, mut start) = (1, 0);
    for at in 0..file.len() {
        for flip in [0x01, 0x80] {
            let mut forged = file.clone();
            forged[at] ^= flip;
            let report = verify(&forged);
            let Some(fault) = report.faults.first() else {
                panic!("byte {at} flipped by {flip:#x} was not found");
            };
            let (told, offset) = (fault.place.line.unwrap(), fault.place.offset.unwrap());
            assert!(
                told == line && offset >= start,
                "byte {at} of line {line}: {fault}"
            );
        }
        if file[at] == b'\n' {
            (line, start) = (line + 1, at as u64 + 1);
        }
    }
}

#[test]
fn every_cut_of_an_export_is_found() {
    let file = exported(&chain(1));
    for len in 0..file.len() {
        assert!(!verify(&file[..len]).is_sound(), "cut to {len} bytes");
    }
}

#[test]
fn a_tail_cut_with_its_checkpoint_kept_is_found() {
    let whole = chain(4);
    let c = checkpoint(&whole, 1);
    let mut v = Verifier::new(Trust::FirstEnrolment);
    whole[..8].iter().for_each(|e| v.entry(e));
    v.checkpoint(&c);
    let report = v.finish();
    assert!(!report.passes(Check::Checkpoint) && report.passes(Check::Chain));
    assert!(
        report.faults[0]
            .what
            .contains("over 10 entries, 8 are there"),
        "{:?}",
        report.faults
    );
}

#[test]
fn history_rewritten_with_a_stolen_order_is_found_at_its_place() {
    let mut c = chain(4);
    c.swap(5, 6);
    let report = verify_entries(&c);
    assert_eq!(report.faults[0].place.entry, Some(6));
    assert!(!report.passes(Check::Chain));
}

#[test]
fn a_signer_whom_nobody_enrolled_is_found() {
    let mut c = chain(1);
    extend(&mut c, 50, intent(&key(9), "inc_x"));
    let report = verify_entries(&c);
    assert!(!report.passes(Check::Roster));
    assert!(report.passes(Check::Signature));
}

fn removal(of: u8, by: u8) -> Signed {
    let host = hale_model::HostName::new("db").unwrap();
    removal::sign(key(of).node_id(), &host, "ada", "retired", at(0), &key(by))
}

#[test]
fn a_removed_node_may_not_sign_any_more() {
    let mut c = chain(2);
    extend(&mut c, 20, intent(&key(2), "inc_open"));
    extend(&mut c, 0, removal(2, 1));
    let report = verify_entries(&c);
    assert!(report.is_sound(), "{:?}", report.faults);
    assert_eq!(report.roster, [key(1).node_id()].into());
    let mut forged = c.clone();
    extend(&mut forged, 20, record(&key(2), "inc_open", 20));
    let report = verify_entries(&forged);
    assert_eq!(report.failed, [Check::Roster].into());
    assert!(report.faults[0].what.contains("was removed before"));
    // Another member may close what it left open.
    extend(
        &mut c,
        20,
        abandoned::sign(&lease(20, 2), "it was removed", at(1), &key(1)),
    );
    let report = verify_entries(&c);
    assert!(report.is_sound() && report.open_grants.is_empty());
    let mut v = Verifier::new(Trust::FirstEnrolment);
    c.iter().for_each(|e| v.entry(e));
    v.checkpoint(&checkpoint(&c, 2));
    assert!(!v.finish().passes(Check::Roster));
}

#[test]
fn a_removal_of_nobody_is_a_fault() {
    for forged in [
        removal(9, 1),
        Signed::new(EntryKind::Removal, b"{}".to_vec(), &key(1)),
    ] {
        let mut c = chain(0);
        extend(&mut c, 0, forged);
        assert_eq!(verify_entries(&c).failed, [Check::Roster].into());
    }
}

#[test]
fn a_node_may_remove_itself() {
    let mut c = chain(0);
    extend(&mut c, 0, removal(2, 2));
    assert!(verify_entries(&c).is_sound());
}

#[test]
fn given_keys_replace_the_trust_in_the_first_enrolment() {
    let c = chain(1);
    let verify_with = |k: u8| {
        let mut v = Verifier::new(Trust::Keys([key(k).node_id()].into()));
        c.iter().for_each(|e| v.entry(e));
        v.finish()
    };
    assert!(verify_with(1).is_sound());
    assert!(!verify_with(9).passes(Check::Roster));
}

#[test]
fn a_checkpoint_of_a_stranger_is_found() {
    let c = chain(1);
    let mut v = Verifier::new(Trust::FirstEnrolment);
    c.iter().for_each(|e| v.entry(e));
    v.checkpoint(&checkpoint(&c, 9));
    assert!(!v.finish().passes(Check::Roster));
}

#[test]
fn an_open_grant_is_listed_and_a_second_close_is_a_fault() {
    let mut c = chain(1);
    extend(&mut c, 20, intent(&key(1), "inc_open"));
    let report = verify_entries(&c);
    assert!(report.is_sound());
    assert_eq!(report.open_grants[0].incident.as_deref(), Some("inc_open"));
    extend(&mut c, 10, record(&key(1), "inc_0", 10));
    let report = verify_entries(&c);
    assert!(
        report.faults[0].what.contains("closes grant 10"),
        "{:?}",
        report.faults
    );
}

#[test]
fn a_fence_that_falls_and_a_record_under_anothers_fence_are_faults() {
    let mut c = chain(2);
    extend(&mut c, 11, intent(&key(1), "inc_again"));
    assert!(!verify_entries(&c).passes(Check::Grants));
    let mut c = chain(0);
    extend(&mut c, 30, intent(&key(1), "inc_a"));
    extend(&mut c, 30, record(&key(1), "inc_a", 31));
    assert!(verify_entries(&c).faults[0].what.contains("says 31"));
}

#[test]
fn a_line_without_end_is_refused_without_being_kept() {
    let mut v = ExportVerifier::new(Trust::FirstEnrolment);
    v.feed(export::header_line().as_bytes());
    for _ in 0..20 {
        v.feed(&[b'x'; 1 << 20]);
        assert!(v.partial.len() <= export::MAX_LINE_BYTES);
    }
    v.feed(b"\n");
    let report = v.finish();
    assert_eq!(report.faults[0].place.line, Some(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn pieces_of_any_size_give_the_same_report(cuts in proptest::collection::vec(1usize..900, 1..40)) {
        let file = exported(&chain(2));
        let mut v = ExportVerifier::new(Trust::FirstEnrolment);
        let mut rest = &file[..];
        for n in cuts {
            let (now, later) = rest.split_at(n.min(rest.len()));
            v.feed(now);
            rest = later;
        }
        v.feed(rest);
        prop_assert_eq!(v.finish(), verify(&file));
    }

    #[test]
    fn no_bytes_make_the_verifier_panic_or_pass(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(!verify(&bytes).is_sound());
    }
}

fn recovery(by: u8, cause: Cause, lost: &[u8]) -> Signed {
    Recovery {
        node: key(by).node_id(),
        host: hale_model::HostName::new("db").unwrap(),
        cluster: format!("{:016x}", 7),
        cause,
        lost: lost.iter().map(|n| key(*n).node_id()).collect(),
        term: 1,
        index: 9,
        unconfirmed: 0,
        backup: None,
        at: at(1),
    }
    .sign(&key(by))
}

#[test]
fn a_recovery_by_a_member_is_told_and_takes_the_lost_off_the_roster() {
    let mut c = chain(2);
    extend(&mut c, 0, recovery(1, Cause::QuorumLost, &[2]));
    let report = verify_entries(&c);
    assert!(report.is_sound(), "{:?}", report.faults);
    assert_eq!(report.roster, [key(1).node_id()].into());
    let note = &report.recoveries[0];
    assert!(note.vouched && note.entry == c.len() as u64 - 1 && note.lost == 1);
    extend(&mut c, 50, intent(&key(2), "inc_x"));
    assert_eq!(verify_entries(&c).failed, [Check::Roster].into());
}

#[test]
fn a_restore_by_a_key_that_nobody_enrolled_is_told_as_such() {
    let mut c = chain(2);
    extend(&mut c, 0, recovery(9, Cause::Restored, &[1, 2]));
    extend(&mut c, 50, intent(&key(9), "inc_x"));
    let report = verify_entries(&c);
    assert!(report.is_sound(), "{:?}", report.faults);
    assert!(!report.recoveries[0].vouched);
    // Who says which keys to believe is not told of one more.
    let mut v = Verifier::new(Trust::Keys([key(1).node_id()].into()));
    c.iter().for_each(|e| v.entry(e));
    assert!(!v.finish().passes(Check::Roster));
    // A stranger recovers no quorum, a removed node restores nothing, nobody speaks for another.
    for forged in [
        recovery(9, Cause::QuorumLost, &[1]),
        Signed::new(EntryKind::Recovery, b"{}".to_vec(), &key(1)),
        Signed::new(
            EntryKind::Recovery,
            recovery(2, Cause::QuorumLost, &[1]).body,
            &key(1),
        ),
    ] {
        let mut c = chain(1);
        extend(&mut c, 0, forged);
        assert_eq!(verify_entries(&c).failed, [Check::Roster].into());
    }
    let mut c = chain(1);
    extend(&mut c, 0, removal(2, 1));
    extend(&mut c, 0, recovery(2, Cause::Restored, &[1]));
    assert_eq!(verify_entries(&c).failed, [Check::Roster].into());
}
