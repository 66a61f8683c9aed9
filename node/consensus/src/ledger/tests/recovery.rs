//! The ledger goes on from one node's copy.

use super::*;
use hale_audit::verify::{Trust, Verifier};

fn append(by: u8, what: &str) -> Command {
    Command::Append {
        entry: signed(EntryKind::Record, by, what),
    }
}

fn restored(by: u8) -> Ledger {
    let mut ledger = founded();
    granted(&mut ledger, 10, ask_for(1, 0, 1, None));
    ledger.restored(key(by).node_id(), host(by)).unwrap()
}

#[test]
fn the_lost_are_off_the_roster_and_their_grants_wait_to_be_closed() {
    let mut ledger = founded();
    let fence = granted(&mut ledger, 10, ask_for(1, 0, 1, None));
    let command = recovered(0, Cause::QuorumLost, &[1, 2]);
    let applied = ledger.apply(20, command.clone());
    assert_eq!(applied.entries[0].kind, EntryKind::Recovery);
    let left: Vec<_> = ledger.roster().map(|(n, _)| *n).collect();
    assert_eq!(left, [key(0).node_id()]);
    assert!(ledger.was_removed(&key(1).node_id()));
    assert!(!ledger.lease(fence).unwrap().live);
    assert!(applied.news.iter().any(|n| matches!(n, News::Orphaned(_))));
    // Told again, it is written once.
    let again = ledger.apply(21, command);
    assert!(again.entries.is_empty());
    assert_eq!(again.answer, applied.answer);
    // Who was lost has no say, and its host may join as a new node.
    let back = ledger.apply(22, append(1, "back"));
    assert!(matches!(
        back.answer,
        Answer::Refused(Refusal::UnknownNode(_))
    ));
}

#[test]
fn only_the_node_that_a_restored_state_names_enrols_itself_and_once() {
    let mut ledger = restored(5);
    let all = [0, 1, 2];
    let stranger = ledger.apply(20, recovered(6, Cause::Restored, &all));
    assert!(matches!(
        stranger.answer,
        Answer::Refused(Refusal::UnknownNode(_))
    ));
    let applied = ledger.apply(20, recovered(5, Cause::Restored, &all));
    assert!(matches!(applied.answer, Answer::Done { entry: Some(_) }));
    let left: Vec<_> = ledger.roster().map(|(n, h)| (*n, h.clone())).collect();
    assert_eq!(left, [(key(5).node_id(), host(5))]);
    assert!(
        !ledger
            .rows()
            .unwrap()
            .iter()
            .any(|(r, _)| *r == Row::Restored)
    );
    // The mark is used up.
    let again = ledger.apply(21, recovered(6, Cause::Restored, &[5]));
    assert!(matches!(again.answer, Answer::Refused(_)));
}

#[test]
fn a_host_that_stays_is_not_taken_over() {
    let ledger = founded();
    let mut ledger = ledger.restored(key(5).node_id(), host(1)).unwrap();
    let refused = ledger.apply(20, recovered(5, Cause::Restored, &[0]));
    assert!(matches!(
        refused.answer,
        Answer::Refused(Refusal::HostTaken { .. })
    ));
}

#[test]
fn what_a_recovery_says_is_what_it_does() {
    let Command::Recovered { by, lost, .. } = recovered(0, Cause::QuorumLost, &[1]) else {
        unreachable!()
    };
    let other = |command| match command {
        Command::Recovered { entry, .. } => entry,
        _ => unreachable!(),
    };
    for (lost, entry) in [
        (vec![], other(recovered(0, Cause::QuorumLost, &[1]))),
        (lost.clone(), other(recovered(0, Cause::QuorumLost, &[2]))),
        (lost.clone(), other(recovered(1, Cause::QuorumLost, &[1]))),
        (lost.clone(), signed(EntryKind::Recovery, 0, "nothing")),
        (vec![by], other(recovered(0, Cause::QuorumLost, &[0]))),
    ] {
        let mut ledger = founded();
        let applied = ledger.apply(20, Command::Recovered { by, lost, entry });
        assert!(matches!(
            applied.answer,
            Answer::Refused(Refusal::BadEntry(_))
        ));
    }
}

#[test]
fn a_restored_state_is_kept_as_it_is_and_has_no_token_and_no_lease() {
    let ledger = restored(5);
    let bytes = ledger.encode().unwrap();
    assert_eq!(Ledger::decode(&bytes).unwrap().encode().unwrap(), bytes);
    assert!(ledger.tokens().all(|t| !t.live) && ledger.leases().all(|l| !l.live));
    let mut removed = founded();
    removed.apply(20, recovered(0, Cause::QuorumLost, &[1]));
    let back = removed.restored(key(1).node_id(), host(1));
    assert!(matches!(back, Err(Refusal::WasRemoved(_))));
}

#[test]
fn a_verifier_follows_the_roster_through_a_restore() {
    let mut ledger = Ledger::default();
    let mut v = Verifier::new(Trust::FirstEnrolment);
    let mut apply = |ledger: &mut Ledger, index, command| {
        let applied = ledger.apply(index, command);
        applied.entries.iter().for_each(|e| v.entry(e));
    };
    let vouched = |n: u8, by: u8| Command::Enrol {
        node: key(n).node_id(),
        host: host(n),
        entry: enrolment::sign(key(n).node_id(), &host(n), &key(by)),
    };
    apply(&mut ledger, 1, vouched(0, 0));
    apply(&mut ledger, 2, vouched(1, 0));
    let mut ledger = ledger.restored(key(5).node_id(), host(5)).unwrap();
    apply(&mut ledger, 3, recovered(5, Cause::Restored, &[0, 1]));
    apply(&mut ledger, 4, append(5, "it goes on"));
    let report = v.finish();
    assert!(report.is_sound(), "{:?}", report.faults);
    assert!(ledger.roster().map(|(n, _)| *n).eq(report.roster));
    assert_eq!(report.recoveries.len(), 1);
}
