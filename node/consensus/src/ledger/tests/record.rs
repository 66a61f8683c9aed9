//! What is counted of playbooks.

use super::*;
use hale_model::ledger::MAX_EDITIONS;

fn name() -> PlaybookName {
    PlaybookName::new("restart").unwrap()
}

fn text(of: u8, text: u8) -> Command {
    Command::Editions {
        node: key(of).node_id(),
        editions: vec![(name(), plan(text))],
    }
}

fn seen(what: Sighting) -> Command {
    Command::Seen {
        node: key(0).node_id(),
        playbook: name(),
        service: None,
        what,
    }
}

/// A ledger that follows the newest rules.
fn told() -> Ledger {
    let mut ledger = founded();
    ledger.apply(8, Command::Rules { version: RULES });
    ledger
}

/// A ledger with a success of the playbook, an incident that went away and one for which it had been
/// right.
fn lived() -> Ledger {
    let mut ledger = told();
    let fence = granted(&mut ledger, 9, ask_for(0, 0, 1, None));
    done(&mut ledger, 10, close(fence, 0, "done"));
    done(&mut ledger, 11, seen(Sighting::WentAway));
    done(&mut ledger, 12, seen(Sighting::Agreed));
    ledger
}

#[test]
fn what_was_earned_is_of_one_text() {
    let mut ledger = lived();
    let before = History {
        succeeded: 1,
        went_away: 1,
        agreed: 1,
        ..History::default()
    };
    assert_eq!(ledger.history(&name(), None), before);
    done(&mut ledger, 13, text(0, 1));
    // The first text that is told of is the one that ran; so is the same again.
    assert_eq!(ledger.history(&name(), None), before);
    done(&mut ledger, 14, text(1, 1));
    assert_eq!(ledger.history(&name(), None), before);
    assert_eq!(ledger.histories().count(), 1);

    ledger.take_touched().unwrap();
    done(&mut ledger, 15, text(1, 2));
    assert_eq!(ledger.history(&name(), None), History::default());
    assert_eq!(ledger.edition(&name()), Some(plan(2)));
    assert_eq!(ledger.histories().count(), 0);
    let rows = ledger.take_touched().unwrap();
    let gone = rows.iter().filter(|(_, content)| content.is_none()).count();
    assert_eq!(gone, 2, "both rows of it are removed: {rows:?}");
}

#[test]
fn what_was_counted_is_read_back() {
    let mut ledger = lived();
    done(&mut ledger, 13, text(0, 1));
    let read = Ledger::decode(&ledger.encode().unwrap()).unwrap();
    assert_eq!(read.history(&name(), None), ledger.history(&name(), None));
    assert_eq!(read.edition(&name()), Some(plan(1)));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut ledger = told();
    let many = Command::Editions {
        node: key(0).node_id(),
        editions: vec![(name(), plan(1)); MAX_EDITIONS + 1],
    };
    assert!(matches!(
        refusal(&mut ledger, 9, many),
        Refusal::Full { .. }
    ));
    let twice = Command::Editions {
        node: key(0).node_id(),
        editions: vec![(name(), plan(1)), (name(), plan(2))],
    };
    assert!(matches!(
        refusal(&mut ledger, 10, twice),
        Refusal::BadEntry(_)
    ));
    let stranger = key(7).node_id();
    assert_eq!(
        refusal(&mut ledger, 11, text(7, 1)),
        Refusal::UnknownNode(stranger)
    );
    ledger.rules = RULES_WITH_EDITIONS - 1;
    assert!(matches!(
        refusal(&mut ledger, 12, seen(Sighting::Agreed)),
        Refusal::BadEntry(_)
    ));
}
