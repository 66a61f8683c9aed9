//! Bytes that the first version wrote: to its log, its store and its snapshots. Every later one
//! reads them.

use super::*;
use hale_model::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

const COMMANDS: &str = include_str!("golden/commands.hex");
const ANSWERS: &str = include_str!("golden/answers.hex");
const ROWS: &str = include_str!("golden/rows.hex");
const STATE: &str = include_str!("golden/state.hex");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes().chunks(2);
    let byte = |d: &[u8]| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

/// One line a value: each is read as what it was, and would be written so again.
fn holds<T: Serialize + DeserializeOwned + PartialEq + Debug>(values: &[T], golden: &str) {
    let now: Vec<_> = values
        .iter()
        .map(|v| hex(&wire::encode(v).unwrap()))
        .collect();
    assert_eq!(now, golden.lines().collect::<Vec<_>>());
    for (value, line) in values.iter().zip(golden.lines()) {
        assert_eq!(&wire::decode::<T>(&unhex(line)).unwrap(), value);
    }
}

pub(super) fn commands() -> Vec<Command> {
    vec![
        enrol(1, 0),
        Command::Acquire(Acquire {
            service: Some(ServiceName::new("a").unwrap()),
            ..ask_for(0, 2, 1, Some(1))
        }),
        Command::Renew {
            fence: Fence(300),
            holder: key(0).node_id(),
            ttl_ms: 5_000,
        },
        Command::Expire {
            fence: Fence(300),
            generation: 2,
        },
        close(Fence(300), 0, "done"),
        Command::Append {
            entry: signed(EntryKind::Record, 0, "append"),
        },
        Command::AskApproval(question(1, 0)),
        answer(1, true),
        Command::CloseApproval {
            approval: approval_id(1),
            state: ApprovalState::Expired,
            entry: signed(EntryKind::Approval, 0, "expired"),
        },
        freeze(true),
    ]
}

fn answers() -> Vec<Answer> {
    let entry = EntryRef {
        index: 300,
        hash: plan(1),
        previous: plan(2),
    };
    let refused = |r| Answer::Refused(r);
    vec![
        Answer::Granted {
            fence: Fence(300),
            ttl_ms: 30_000,
        },
        Answer::Renewed { generation: 2 },
        Answer::Done { entry: Some(entry) },
        refused(Refusal::Held {
            scope: scope(2),
            fence: Fence(300),
            holder: key(0).node_id(),
            playbook: PlaybookName::new("restart").unwrap(),
        }),
        refused(Refusal::Frozen {
            by: "ada".into(),
            reason: "maintenance".into(),
        }),
        refused(Refusal::StaleFence(Fence(300))),
        refused(Refusal::AlreadyClosed(Fence(300))),
        refused(Refusal::UnknownNode(key(0).node_id())),
        refused(Refusal::BadSignature),
        refused(Refusal::BadEntry("x".into())),
        refused(Refusal::UnknownApproval(approval_id(1))),
        refused(Refusal::NotWaiting {
            id: approval_id(1),
            state: ApprovalState::Used,
        }),
        refused(Refusal::PlanChanged {
            approved: plan(1),
            asked: plan(2),
        }),
        refused(Refusal::Full {
            what: "approvals".into(),
            limit: 256,
        }),
    ]
}

fn rows() -> Vec<Row> {
    vec![
        Row::Head,
        Row::Node(key(0).node_id()),
        Row::Grant(Fence(300)),
        Row::Approval(approval_id(1)),
        Row::History(
            PlaybookName::new("restart").unwrap(),
            Some(ServiceName::new("a").unwrap()),
        ),
        Row::Recent(300),
    ]
}

/// A state with a row of each kind.
fn state() -> Ledger {
    let mut ledger = founded();
    let done = granted(&mut ledger, 10, ask_for(0, 0, 1, None));
    ledger.apply(11, close(done, 0, "done"));
    granted(&mut ledger, 12, ask_for(1, 4, 2, None));
    ledger.apply(13, Command::AskApproval(question(1, 0)));
    ledger.apply(14, Command::AskApproval(question(2, 1)));
    ledger.apply(15, answer(2, false));
    ledger.apply(16, freeze(true));
    ledger
}

#[test]
fn commands_answers_and_row_names_of_the_first_version_are_read_as_what_they_were() {
    holds(&commands(), COMMANDS);
    holds(&answers(), ANSWERS);
    holds(&rows(), ROWS);
}

#[test]
fn a_snapshot_of_the_first_version_is_read_and_written_alike() {
    let golden = unhex(STATE);
    assert_eq!(hex(&state().encode().unwrap()), STATE.trim());
    assert_eq!(Ledger::decode(&golden).unwrap().encode().unwrap(), golden);
}

/// What was added later has the next number: an older log, store or chain is read as what it was.
#[test]
fn what_was_added_later_stands_at_the_end() {
    let first = |bytes: Vec<u8>| bytes[0];
    let command = recovered(0, Cause::QuorumLost, &[1]);
    assert_eq!(first(wire::encode(&command).unwrap()), 21);
    assert_eq!(first(wire::encode(&Row::Restored).unwrap()), 13);
    assert_eq!(first(wire::encode(&EntryKind::Recovery).unwrap()), 8);
    assert_eq!(EntryKind::from_code(8), Some(EntryKind::Recovery));
}
