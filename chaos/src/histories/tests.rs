//! Planted logs: what fits an order, and what fits none.

use super::*;
use crate::oracle;

struct Log(Vec<Happened>);

impl Log {
    fn tell(&mut self, what: What) {
        let at_ms = self.0.len() as u64;
        self.0.push(Happened { at_ms, what });
    }

    fn ask(&mut self, ask: u64, operation: Operation) {
        let host = 0;
        self.tell(What::Asked {
            ask,
            host,
            operation,
        });
    }

    fn answer(&mut self, ask: u64, outcome: Outcome) {
        self.tell(What::Answered { ask, outcome });
    }

    /// Asked and answered before anything else happens.
    fn does(&mut self, operation: Operation, outcome: Outcome) {
        let ask = 1_000 + self.0.len() as u64;
        self.ask(ask, operation);
        self.answer(ask, outcome);
    }
}

fn wrong(plant: impl FnOnce(&mut Log)) -> Vec<String> {
    let mut log = Log(vec![]);
    plant(&mut log);
    let wrong = oracle::judge(&log.0);
    wrong.iter().map(ToString::to_string).collect()
}

fn holds(plant: impl FnOnce(&mut Log)) {
    assert_eq!(wrong(plant), Vec::<String>::new());
}

fn breaks(word: &str, plant: impl FnOnce(&mut Log)) {
    let wrong = wrong(plant);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].contains(word), "{}", wrong[0]);
}

fn write(value: u64) -> Operation {
    let key = "k".to_owned();
    Operation::Write { key, value }
}

fn read() -> Operation {
    let key = "k".to_owned();
    Operation::Read { key }
}

fn value(value: u64) -> Outcome {
    Outcome::Value(Some(value))
}

fn scope() -> Scope {
    Scope::Custom("s".into())
}

fn run(n: u32) -> ExecutionId {
    ExecutionId::at(hale_model::Timestamp::from_secs(0), n)
}

fn acquire(n: u32) -> Operation {
    let (scope, execution) = (scope(), run(n));
    Operation::Acquire { scope, execution }
}

fn renew(n: u32, fence: u64) -> Operation {
    let (execution, fence) = (run(n), Fence(fence));
    Operation::Renew { execution, fence }
}

fn close(n: u32, fence: u64) -> Operation {
    let (execution, fence) = (run(n), Fence(fence));
    Operation::Close { execution, fence }
}

fn granted(fence: u64) -> Outcome {
    Outcome::Granted(Fence(fence))
}

fn watch(log: &mut Log, live: Option<u64>) {
    let watch = Operation::Watch { scope: scope() };
    log.does(watch, Outcome::Live(live.map(Fence)));
}

#[test]
fn what_is_read_was_written_last_or_at_the_same_time() {
    holds(|log| {
        log.does(read(), Outcome::Value(None));
        log.does(write(1), Outcome::Written);
        log.ask(1, write(2));
        log.does(read(), value(1));
        log.does(read(), value(2));
        log.answer(1, Outcome::Written);
        log.does(read(), value(2));
    });
}

#[test]
fn a_stale_read_is_found() {
    breaks("answered Value(Some(1))", |log| {
        log.does(write(1), Outcome::Written);
        log.does(write(2), Outcome::Written);
        log.does(read(), value(1));
        log.does(read(), value(2));
    });
    breaks("answered Value(None)", |log| {
        log.does(write(1), Outcome::Written);
        log.does(read(), Outcome::Value(None));
    });
    // Back in time, though the write is not even answered.
    breaks("answered Value(Some(1))", |log| {
        log.does(write(1), Outcome::Written);
        log.ask(1, write(2));
        log.does(read(), value(2));
        log.does(read(), value(1));
    });
}

#[test]
fn a_lost_write_is_found() {
    breaks("answered Value(Some(1))", |log| {
        log.does(write(1), Outcome::Written);
        log.ask(1, write(2));
        log.ask(2, write(3));
        log.answer(1, Outcome::Written);
        log.answer(2, Outcome::Written);
        log.does(read(), value(1));
    });
}

#[test]
fn a_write_that_takes_effect_twice_is_found() {
    breaks("answered Value(Some(1))", |log| {
        log.ask(1, write(1));
        log.does(read(), value(1));
        log.does(write(2), Outcome::Written);
        log.answer(1, Outcome::Written);
        log.does(read(), value(1));
    });
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    breaks("answered Value(Some(7))", |log| {
        log.does(write(1), Outcome::Written);
        log.does(read(), value(7));
    });
    // Nor may it be read before it is written.
    breaks("answered Value(Some(7))", |log| {
        log.does(read(), value(7));
        log.does(write(7), Outcome::Written);
    });
    breaks("answered Value(Some(7))", |log| {
        log.does(read(), value(7));
        log.ask(1, write(7));
    });
}

#[test]
fn an_unanswered_write_may_take_effect_late_or_never() {
    holds(|log| {
        log.ask(1, write(1));
        log.tell(What::Unanswered { ask: 1 });
        log.ask(2, write(2));
        log.tell(What::Unanswered { ask: 2 });
        log.ask(4, write(4));
        log.answer(4, Outcome::Other);
        log.does(write(3), Outcome::Written);
        log.does(read(), value(3));
        log.does(read(), value(1));
        log.does(read(), value(4));
    });
}

#[test]
fn keys_do_not_mix() {
    holds(|log| {
        log.does(write(1), Outcome::Written);
        let key = "other".to_owned();
        log.does(Operation::Read { key }, Outcome::Value(None));
    });
}

#[test]
fn one_lease_after_the_other_holds() {
    holds(|log| {
        log.does(acquire(1), granted(3));
        log.does(acquire(2), Outcome::Held(Fence(3)));
        log.does(renew(1, 3), Outcome::Renewed);
        // Asked for again, and closed twice with one answer.
        log.does(acquire(1), granted(3));
        log.ask(1, close(1, 3));
        log.does(acquire(2), granted(5));
        log.does(close(1, 3), Outcome::Closed);
        log.does(close(2, 5), Outcome::Closed);
    });
}

#[test]
fn two_leases_at_a_time_are_found_by_what_their_holders_were_told() {
    breaks("answered Granted", |log| {
        log.does(acquire(1), granted(3));
        log.does(acquire(2), granted(5));
    });
    // The first one goes on after the second was granted.
    breaks("answered Renewed", |log| {
        log.does(acquire(1), granted(3));
        log.ask(1, close(1, 3));
        log.does(acquire(2), granted(5));
        log.does(renew(1, 3), Outcome::Renewed);
    });
    breaks("answered Granted", |log| {
        log.does(acquire(1), granted(3));
        log.does(close(1, 3), Outcome::Closed);
        log.does(acquire(1), granted(3));
    });
}

#[test]
fn a_fence_that_falls_is_found_by_what_holders_were_told() {
    breaks("answered Granted(Fence(4))", |log| {
        log.does(acquire(1), granted(5));
        log.does(close(1, 5), Outcome::Closed);
        log.does(acquire(2), granted(4));
    });
}

#[test]
fn a_grant_whose_answer_was_lost_is_known_by_its_close() {
    let before = |log: &mut Log| {
        log.ask(1, acquire(1));
        log.does(acquire(2), Outcome::Held(Fence(3)));
        log.ask(2, close(1, 3));
    };
    holds(|log| {
        before(log);
        log.answer(2, Outcome::Closed);
        log.does(acquire(2), granted(5));
    });
    breaks("answered Held(Fence(3))", |log| {
        before(log);
        log.answer(2, Outcome::Closed);
        log.does(acquire(2), Outcome::Held(Fence(3)));
    });
}

#[test]
fn a_lease_that_ran_out_is_free_from_then_on_and_not_before() {
    let grant = |log: &mut Log| {
        let (scope, execution) = (scope(), run(1));
        log.ask(1, acquire(1));
        log.tell(What::Granted {
            fence: Fence(3),
            scope,
            host: 0,
            execution,
        });
        log.answer(1, granted(3));
    };
    let expired = What::Expired { fence: Fence(3) };
    holds(|log| {
        grant(log);
        log.tell(expired.clone());
        log.does(acquire(2), granted(5));
        log.does(close(1, 3), Outcome::Closed);
    });
    breaks("answered Granted(Fence(5))", |log| {
        grant(log);
        log.does(acquire(2), granted(5));
        log.tell(expired.clone());
    });
    breaks("answered Held(Fence(3))", |log| {
        grant(log);
        log.tell(expired.clone());
        log.does(acquire(2), Outcome::Held(Fence(3)));
    });
}

#[test]
fn a_lease_that_is_seen_again_after_it_was_gone_is_found_however_long_that_is() {
    for between in [0, 1, WINDOW - 2, WINDOW, 3 * WINDOW + 1] {
        let see = |log: &mut Log, again: u64| {
            watch(log, Some(3));
            (0..between).for_each(|_| watch(log, Some(3)));
            watch(log, None);
            (0..between).for_each(|_| watch(log, None));
            watch(log, Some(again));
        };
        holds(|log| see(log, 4));
        breaks("answered Live(Some(Fence(3)))", |log| see(log, 3));
        breaks("answered Live(Some(Fence(2)))", |log| see(log, 2));
    }
}

#[test]
fn what_is_seen_at_the_same_time_may_be_seen_in_any_order() {
    holds(|log| {
        log.ask(1, Operation::Watch { scope: scope() });
        watch(log, Some(3));
        watch(log, None);
        watch(log, Some(5));
        log.answer(1, Outcome::Live(Some(Fence(3))));
    });
}
