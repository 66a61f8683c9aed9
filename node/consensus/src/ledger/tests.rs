//! What must hold of the ledger, whatever it is told.

mod authority;
mod budgets;
mod golden;
mod looks;
mod queue;
mod random;
mod record;
mod recovery;
mod roster;

use super::*;
use hale_audit::recovery::{Cause, Recovery};
use hale_audit::{enrolment, removal};
use hale_model::ledger::{Acquire, ApprovalState, Disposition, History, Scope, Sighting};
use hale_model::{IncidentId, Keypair, OutcomeStatus, Timestamp, canonical};
use serde_json::json;

fn key(n: u8) -> Keypair {
    Keypair::from_seed(&[n + 1; 32])
}

fn signed(kind: EntryKind, by: u8, what: &str) -> Signed {
    Signed::new(
        kind,
        canonical::to_bytes(&json!({ "what": what })).unwrap(),
        &key(by),
    )
}

fn enrol(n: u8, by: u8) -> Command {
    let host = HostName::new(format!("host-{n}")).unwrap();
    let entry = signed(EntryKind::Enrolment, by, &format!("enrol {n}"));
    Command::Enrol {
        node: key(n).node_id(),
        host,
        entry,
    }
}

fn recovered(by: u8, cause: Cause, lost: &[u8]) -> Command {
    let lost: BTreeSet<_> = lost.iter().map(|n| key(*n).node_id()).collect();
    let told = Recovery {
        node: key(by).node_id(),
        host: HostName::new(format!("host-{by}")).unwrap(),
        cluster: format!("{:016x}", 7),
        cause,
        lost: lost.clone(),
        term: 1,
        index: 9,
        unconfirmed: 0,
        backup: None,
        at: Timestamp::from_millis(1_000),
    };
    Command::Recovered {
        by: key(by).node_id(),
        lost: lost.into_iter().collect(),
        entry: told.sign(&key(by)),
    }
}

fn scope(n: u8) -> Scope {
    let host = |h: u8| HostName::new(format!("host-{h}")).unwrap();
    match n % 6 {
        0 => Scope::Host(host(0)),
        1 => Scope::Host(host(1)),
        2 => Scope::Service(host(0), ServiceName::new("a").unwrap()),
        3 => Scope::Service(host(0), ServiceName::new("b").unwrap()),
        4 => Scope::Service(host(1), ServiceName::new("a").unwrap()),
        _ => Scope::Custom("deploys".into()),
    }
}

fn plan(n: u8) -> Digest {
    Digest::of(&[n])
}

fn ask_for(by: u8, on: u8, run: u8, approval: Option<u8>) -> Acquire {
    Acquire {
        scope: scope(on),
        holder: key(by).node_id(),
        ttl_ms: 30_000,
        execution: ExecutionId::new(format!("exe_{run}")).unwrap(),
        plan_digest: plan(approval.unwrap_or(run)),
        playbook: PlaybookName::new("restart").unwrap(),
        service: None,
        approval: approval.map(approval_id),
        entry: signed(EntryKind::Intent, by, &format!("intent {run}")),
    }
}

fn approval_id(n: u8) -> ApprovalId {
    ApprovalId::new(format!("apr_{n}")).unwrap()
}

fn question(n: u8, by: u8) -> Approval {
    Approval {
        id: approval_id(n),
        incident: IncidentId::new("inc_1").unwrap(),
        host: HostName::new("host-0").unwrap(),
        node: key(by).node_id(),
        playbook: PlaybookName::new("restart").unwrap(),
        version: "1.0.0".into(),
        plan_digest: plan(n),
        plan: b"{}".to_vec(),
        rationale: "it is not idempotent".into(),
        confidence_ppm: 800_000,
        ttl_ms: 60_000,
        asked_at_ms: 0,
        state: ApprovalState::Waiting,
        answered_by: None,
        entry: signed(EntryKind::Approval, by, &format!("ask {n}")),
    }
}

fn answer(n: u8, approve: bool) -> Command {
    Command::Answer {
        approval: approval_id(n),
        plan_digest: plan(n),
        approve,
        by: "ada".into(),
        entry: signed(EntryKind::Approval, 0, &format!("answer {n} {approve}")),
    }
}

fn close(fence: Fence, holder: u8, what: &str) -> Command {
    Command::Close {
        fence,
        holder: key(holder).node_id(),
        disposition: Disposition::Done,
        outcome: OutcomeStatus::Success,
        entry: signed(EntryKind::Record, holder, what),
    }
}

fn freeze(frozen: bool) -> Command {
    let entry = signed(EntryKind::Freeze, 0, if frozen { "freeze" } else { "thaw" });
    Command::Freeze {
        frozen,
        by: "ada".into(),
        reason: "maintenance".into(),
        entry,
    }
}

/// Three nodes on the roster.
fn founded() -> Ledger {
    let mut ledger = Ledger::default();
    for n in 0..3 {
        let applied = ledger.apply(u64::from(n) + 1, enrol(n, 0));
        assert!(
            matches!(applied.answer, Answer::Done { entry: Some(_) }),
            "{applied:?}"
        );
    }
    ledger
}

/// The same by entries that an auditor reads, with the rules that this binary knows.
fn cluster() -> Ledger {
    cluster_and_chain().0
}

/// The entries that [`cluster`] begins with.
fn founding() -> Vec<Entry> {
    cluster_and_chain().1
}

fn cluster_and_chain() -> (Ledger, Vec<Entry>) {
    let (mut ledger, mut chain) = (Ledger::default(), vec![]);
    ledger.apply(1, Command::Rules { version: RULES });
    for n in 0..3 {
        let (node, host) = (key(n).node_id(), host(n));
        let entry = enrolment::sign(node, &host, &key(0));
        let command = Command::Enrol { node, host, entry };
        chain.extend(done(&mut ledger, u64::from(n) + 2, command).entries);
    }
    (ledger, chain)
}

fn host(n: u8) -> HostName {
    HostName::new(format!("host-{n}")).unwrap()
}

fn remove(n: u8, by: u8) -> Command {
    let (node, at) = (key(n).node_id(), Timestamp::from_millis(0));
    Command::Remove {
        node,
        by: "ada".into(),
        reason: "retired".into(),
        entry: removal::sign(node, &host(n), "ada", "retired", at, &key(by)),
    }
}

fn done(ledger: &mut Ledger, index: u64, command: Command) -> Applied {
    let applied = ledger.apply(index, command);
    assert!(
        matches!(applied.answer, Answer::Done { .. }),
        "{:?}",
        applied.answer
    );
    applied
}

fn granted(ledger: &mut Ledger, index: u64, ask: Acquire) -> Fence {
    match ledger.apply(index, Command::Acquire(ask)).answer {
        Answer::Granted { fence, .. } => fence,
        other => panic!("not granted: {other:?}"),
    }
}

fn refusal(ledger: &mut Ledger, index: u64, command: Command) -> Refusal {
    let before = ledger.encode().unwrap();
    let applied = ledger.apply(index, command);
    assert!(applied.entries.is_empty() && applied.news.is_empty());
    assert_eq!(
        ledger.encode().unwrap(),
        before,
        "a refusal changes nothing"
    );
    match applied.answer {
        Answer::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn the_intent_is_on_the_chain_with_the_grant_under_its_fence() {
    let mut ledger = founded();
    let applied = ledger.apply(17, Command::Acquire(ask_for(0, 0, 1, None)));
    assert_eq!(
        applied.answer,
        Answer::Granted {
            fence: Fence(17),
            ttl_ms: 30_000
        }
    );
    let [entry] = &applied.entries[..] else {
        panic!()
    };
    assert_eq!(
        (entry.kind, entry.fence, entry.index),
        (EntryKind::Intent, Fence(17), 3)
    );
}

#[test]
fn grants_that_share_a_log_entry_have_fences_of_their_own() {
    let mut ledger = founded();
    assert_eq!(granted(&mut ledger, 9, ask_for(0, 0, 1, None)), Fence(9));
    assert_eq!(granted(&mut ledger, 9, ask_for(1, 1, 2, None)), Fence(10));
    assert_eq!(granted(&mut ledger, 10, ask_for(2, 5, 3, None)), Fence(11));
}

#[test]
fn asking_twice_for_one_run_gives_the_one_grant() {
    let mut ledger = founded();
    let fence = granted(&mut ledger, 9, ask_for(0, 0, 1, None));
    let again = ledger.apply(10, Command::Acquire(ask_for(0, 0, 1, None)));
    assert_eq!(
        again.answer,
        Answer::Granted {
            fence,
            ttl_ms: 30_000
        }
    );
    assert!(again.entries.is_empty(), "the intent is not written twice");
    let other_plan = Acquire {
        plan_digest: plan(9),
        ..ask_for(0, 0, 1, None)
    };
    let refused = refusal(&mut ledger, 11, Command::Acquire(other_plan));
    assert!(matches!(refused, Refusal::PlanChanged { .. }));
}

#[test]
fn a_host_excludes_its_services_until_its_lease_runs_out() {
    let mut ledger = founded();
    let fence = granted(&mut ledger, 9, ask_for(0, 0, 1, None));
    let service = Command::Acquire(ask_for(1, 2, 2, None));
    assert!(matches!(
        refusal(&mut ledger, 10, service.clone()),
        Refusal::Held { .. }
    ));
    let renew = Command::Renew {
        fence,
        holder: key(0).node_id(),
        ttl_ms: 5_000,
    };
    assert_eq!(
        ledger.apply(11, renew.clone()).answer,
        Answer::Renewed { generation: 1 }
    );
    let stale = Command::Expire {
        fence,
        generation: 0,
    };
    assert_eq!(refusal(&mut ledger, 12, stale), Refusal::StaleFence(fence));
    ledger.apply(
        13,
        Command::Expire {
            fence,
            generation: 1,
        },
    );
    assert!(matches!(
        ledger.apply(14, service).answer,
        Answer::Granted { .. }
    ));
    assert_eq!(refusal(&mut ledger, 15, renew), Refusal::StaleFence(fence));
    // Its grant still waits to be closed, by its holder.
    let applied = ledger.apply(16, close(fence, 0, "late"));
    assert!(matches!(applied.answer, Answer::Done { entry: Some(_) }));
}

#[test]
fn a_grant_is_closed_once_and_the_same_close_again_is_answered_alike() {
    let mut ledger = founded();
    let fence = granted(&mut ledger, 9, ask_for(0, 0, 1, None));
    assert_eq!(
        refusal(&mut ledger, 10, close(fence, 1, "not mine")),
        Refusal::StaleFence(fence)
    );
    let first = ledger.apply(11, close(fence, 0, "done"));
    let again = ledger.apply(12, close(fence, 0, "done"));
    assert_eq!(first.answer, again.answer);
    assert!(again.entries.is_empty());
    let other = close(fence, 0, "otherwise");
    assert_eq!(
        refusal(&mut ledger, 13, other),
        Refusal::AlreadyClosed(fence)
    );
    let rerun = Command::Acquire(ask_for(0, 0, 1, None));
    assert_eq!(
        refusal(&mut ledger, 14, rerun),
        Refusal::AlreadyClosed(fence)
    );
    let history = ledger.history(&PlaybookName::new("restart").unwrap(), None);
    assert_eq!(
        history,
        History {
            succeeded: 1,
            ..History::default()
        }
    );
}

#[test]
fn only_an_expired_grant_is_reported_abandoned_by_another() {
    let mut ledger = founded();
    let fence = granted(&mut ledger, 9, ask_for(0, 0, 1, None));
    let report = Command::Close {
        fence,
        holder: key(0).node_id(),
        disposition: Disposition::Abandoned,
        outcome: OutcomeStatus::Abandoned,
        entry: signed(EntryKind::Record, 2, "it never came back"),
    };
    assert_eq!(
        refusal(&mut ledger, 10, report.clone()),
        Refusal::BadSignature
    );
    ledger.apply(
        11,
        Command::Expire {
            fence,
            generation: 0,
        },
    );
    assert!(matches!(
        ledger.apply(12, report).answer,
        Answer::Done { entry: Some(_) }
    ));
    assert_eq!(ledger.leases().count(), 0);
}

#[test]
fn an_approval_is_given_for_one_plan_and_used_once() {
    let mut ledger = founded();
    ledger.apply(5, Command::AskApproval(question(1, 0)));
    let run = |n| Command::Acquire(ask_for(0, 0, n, Some(1)));
    let state = ApprovalState::Waiting;
    assert_eq!(
        refusal(&mut ledger, 6, run(1)),
        Refusal::NotWaiting {
            id: approval_id(1),
            state
        }
    );
    let wrong = Command::Answer {
        approval: approval_id(1),
        plan_digest: plan(2),
        approve: true,
        by: "ada".into(),
        entry: signed(EntryKind::Approval, 0, "x"),
    };
    assert!(matches!(
        refusal(&mut ledger, 7, wrong),
        Refusal::PlanChanged { .. }
    ));
    ledger.apply(8, answer(1, true));
    let changed = Acquire {
        plan_digest: plan(3),
        ..ask_for(0, 0, 1, Some(1))
    };
    let refused = refusal(&mut ledger, 9, Command::Acquire(changed));
    assert!(matches!(refused, Refusal::PlanChanged { .. }));
    assert!(matches!(
        ledger.apply(10, run(1)).answer,
        Answer::Granted { .. }
    ));
    assert_eq!(
        ledger.approval(&approval_id(1)).unwrap().state,
        ApprovalState::Used
    );
    let state = ApprovalState::Used;
    assert_eq!(
        refusal(&mut ledger, 11, run(2)),
        Refusal::NotWaiting {
            id: approval_id(1),
            state
        }
    );
}

#[test]
fn an_approval_that_ran_out_can_not_be_answered() {
    let mut ledger = founded();
    ledger.apply(5, Command::AskApproval(question(1, 0)));
    let expired = Command::CloseApproval {
        approval: approval_id(1),
        state: ApprovalState::Expired,
        entry: signed(EntryKind::Approval, 2, "expired"),
    };
    assert_eq!(ledger.apply(6, expired).entries.len(), 1);
    let state = ApprovalState::Expired;
    let refused = refusal(&mut ledger, 7, answer(1, true));
    assert_eq!(
        refused,
        Refusal::NotWaiting {
            id: approval_id(1),
            state
        }
    );
}

#[test]
fn a_frozen_cluster_starts_nothing_and_finishes_what_runs() {
    let mut ledger = founded();
    let fence = granted(&mut ledger, 5, ask_for(0, 0, 1, None));
    ledger.apply(6, freeze(true));
    let ask = Command::Acquire(ask_for(1, 1, 2, None));
    assert!(matches!(
        refusal(&mut ledger, 7, ask.clone()),
        Refusal::Frozen { .. }
    ));
    assert!(matches!(
        ledger.apply(8, close(fence, 0, "x")).answer,
        Answer::Done { .. }
    ));
    ledger.apply(9, freeze(false));
    assert!(matches!(
        ledger.apply(10, ask).answer,
        Answer::Granted { .. }
    ));
}

#[test]
fn entries_that_do_not_hold_are_refused() {
    let mut ledger = founded();
    let append = |entry| Command::Append { entry };
    let stranger = signed(EntryKind::Record, 9, "x");
    assert_eq!(
        refusal(&mut ledger, 5, append(stranger.clone())),
        Refusal::UnknownNode(stranger.signer)
    );
    let good = signed(EntryKind::Record, 0, "x");
    let forged = Signed {
        signer: key(1).node_id(),
        ..good.clone()
    };
    assert_eq!(
        refusal(&mut ledger, 5, append(forged)),
        Refusal::BadSignature
    );
    let kind = signed(EntryKind::Intent, 0, "x");
    let loose = Signed::new(EntryKind::Record, b"{\"b\": 1}".to_vec(), &key(0));
    let twice = Signed::new(EntryKind::Record, b"{\"a\":1,\"a\":1}".to_vec(), &key(0));
    let none = Signed::new(EntryKind::Record, b"no json".to_vec(), &key(0));
    let large = Signed::new(EntryKind::Record, vec![b' '; (1 << 20) + 1], &key(0));
    for entry in [kind, loose, twice, none, large] {
        assert!(matches!(
            refusal(&mut ledger, 5, append(entry)),
            Refusal::BadEntry(_)
        ));
    }
    assert!(matches!(
        ledger.apply(5, append(good)).answer,
        Answer::Done { .. }
    ));
}

#[test]
fn a_node_that_never_closes_does_not_starve_the_others() {
    let mut ledger = founded();
    for n in 0..=limits::MAX_OPEN_GRANTS_PER_NODE {
        let ask = Acquire {
            scope: Scope::Custom(format!("scope {n}")),
            execution: ExecutionId::new(format!("exe_{n}")).unwrap(),
            ..ask_for(0, 0, 1, None)
        };
        let applied = ledger.apply(10 + n as u64, Command::Acquire(ask));
        let fits = n < limits::MAX_OPEN_GRANTS_PER_NODE;
        assert_eq!(
            matches!(applied.answer, Answer::Granted { .. }),
            fits,
            "{n}"
        );
    }
    granted(&mut ledger, 500, ask_for(1, 1, 200, None));
}

#[test]
fn damaged_state_is_refused() {
    let bytes = founded().encode().unwrap();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(Ledger::decode(&bad).is_err(), "byte {at}");
    }
    assert!(Ledger::decode(&bytes[..bytes.len() - 1]).is_err());
}
