//! What reads bytes from outside here, to be held against hostile ones: a database's rows, /proc,
//! what programs print, the journal.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use crate::actions::fuzz as actions;
use crate::journal::{self, JournalRecord, Phase, Recovery};
use crate::tests::samples;
use hale_hostile::Parser;
use hale_model::execution::Mode;
use hale_model::ledger::Scope;
use hale_model::{Digest, ExecutionId, Fence, Plan, PlaybookName, Timestamp};

/// All of them.
pub const PARSERS: &[Parser] = &[
    actions::SQL_VALUE,
    actions::PRINTED,
    Parser {
        name: "journal",
        seeds: journals,
        feed: recover,
    },
];

fn started(index: usize) -> JournalRecord {
    JournalRecord::Started {
        phase: Phase::Steps,
        index,
        attempt: 1,
        at: Timestamp::from_secs(1_770_000_000),
        fence: Fence(7),
        why: String::new(),
        ended: vec![],
    }
}

fn intent() -> JournalRecord {
    let incident = samples::incident();
    let plan = Plan {
        execution: ExecutionId::at(samples::OPENED, 1),
        incident: incident.id.clone(),
        host: incident.host.clone(),
        service: incident.service.clone(),
        scope: Scope::Host(incident.host.clone()),
        playbook: PlaybookName::new("restart").unwrap(),
        version: "1.0.0".into(),
        playbook_digest: Digest::of(b"playbook"),
        params: [("seconds".to_owned(), serde_json::json!(3600))].into(),
        idempotent: true,
    };
    JournalRecord::Intent(Box::new(journal::Intent {
        plan,
        incident,
        decision: None,
        mode: Mode::Autonomous,
        approval: None,
        started_at: samples::OPENED,
    }))
}

/// Lines of a key, a tab and a value.
fn journals() -> Vec<Vec<u8>> {
    let line = |seq: u64, record: &JournalRecord| {
        let value = serde_json::to_string(record).unwrap();
        format!("exe_1/{seq:08}\t{value}\n")
    };
    let intent = line(0, &intent());
    vec![
        line(1, &started(0)).into_bytes(),
        [intent, line(1, &started(0)), line(2, &started(1))]
            .concat()
            .into_bytes(),
    ]
}

fn recover(bytes: &[u8]) {
    let rows: Vec<(String, Vec<u8>)> = bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let tab = line.iter().position(|b| *b == b'\t')?;
            let key = String::from_utf8(line[..tab].to_vec()).ok()?;
            Some((key, line[tab + 1..].to_vec()))
        })
        .collect();
    let found = journal::read(&rows);
    for records in found.runs.values() {
        if let Recovery::TakeUp(progressed) = journal::recover(records) {
            let _ = (progressed.ran(), progressed.touched(None));
            let at = Timestamp::from_secs(1_770_000_100);
            let _ = journal::abandoned(*progressed, None, at, "it is a test");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_hostile::hold;

    #[test]
    fn a_databases_value_may_be_anything() {
        hold(&PARSERS[0]);
    }

    #[test]
    fn what_a_program_prints_may_be_anything() {
        hold(&PARSERS[1]);
    }

    #[test]
    fn a_journal_may_hold_anything() {
        hold(&PARSERS[2]);
    }

    #[test]
    fn a_record_of_the_last_number_there_is_has_a_next_one() {
        let Recovery::TakeUp(progressed) = journal::recover(&[(u64::MAX, intent())]) else {
            panic!("the run is not taken up");
        };
        assert_eq!(progressed.next_seq, u64::MAX);
    }
}
