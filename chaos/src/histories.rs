//! What clients asked and were answered, key by key and scope by scope, put before the checker of
//! [`linear`](crate::linear): a history is linearizable if each object's is (Herlihy, Wing, 1990,
//! theorem 1).

use crate::event::{Happened, Operation, Outcome, What};
use crate::linear::{self, Finding, Lease, NEVER, Register, Timed, Watched};
use crate::oracle::Violation;
use hale_model::ledger::Scope;
use hale_model::{ExecutionId, Fence};
use std::collections::BTreeMap;
use std::fmt;

/// So many views of a lease are searched at once.
const WINDOW: usize = 100;

/// What has a history of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Key(String),
    Leases(Scope),
    Watched(Scope),
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key {key}"),
            Self::Leases(scope) => write!(f, "the leases on {scope}"),
            Self::Watched(scope) => write!(f, "what was seen of the leases on {scope}"),
        }
    }
}

/// One line of the log that says something of an object, and its place there.
type Heard<'a> = (usize, &'a Happened);

/// What did not hold of what was answered.
pub(crate) fn judge(log: &[Happened]) -> Vec<Violation> {
    let mut wrong = vec![];
    for (of, heard) in histories(log) {
        match decide(&of, &heard) {
            Finding::Linear => {}
            Finding::Impossible => wrong.push(first_impossible(&of, &heard)),
            Finding::Undecided => wrong.push(Violation::Undecided {
                history: of.to_string(),
                events: heard.len(),
            }),
        }
    }
    wrong
}

/// Each object's part of the log.
fn histories(log: &[Happened]) -> BTreeMap<Of, Vec<Heard<'_>>> {
    let mut all: BTreeMap<Of, Vec<Heard<'_>>> = BTreeMap::new();
    let mut asked: BTreeMap<u64, Of> = BTreeMap::new();
    let mut runs: BTreeMap<&ExecutionId, &Scope> = BTreeMap::new();
    let mut grants: BTreeMap<Fence, &Scope> = BTreeMap::new();
    for (place, happened) in log.iter().enumerate() {
        let of = match &happened.what {
            What::Asked { ask, operation, .. } => {
                let of = match operation {
                    Operation::Write { key, .. } | Operation::Read { key } => {
                        Some(Of::Key(key.clone()))
                    }
                    Operation::Acquire { scope, execution } => {
                        runs.insert(execution, scope);
                        Some(Of::Leases(scope.clone()))
                    }
                    Operation::Renew { execution, .. } | Operation::Close { execution, .. } => {
                        runs.get(execution).map(|s| Of::Leases((*s).clone()))
                    }
                    Operation::Watch { scope } => Some(Of::Watched(scope.clone())),
                };
                asked.extend(of.clone().map(|of| (*ask, of)));
                of
            }
            What::Answered { ask, .. } => asked.get(ask).cloned(),
            What::Granted { fence, scope, .. } => {
                grants.insert(*fence, scope);
                None
            }
            What::Expired { fence } => grants.get(fence).map(|s| Of::Leases((*s).clone())),
            _ => None,
        };
        if let Some(of) = of {
            all.entry(of).or_default().push((place, happened));
        }
    }
    all
}

fn decide(of: &Of, heard: &[Heard<'_>]) -> Finding {
    match of {
        Of::Key(_) => linear::check(&register(heard)),
        Of::Leases(_) => linear::check(&leases(heard)),
        Of::Watched(_) => in_windows(watched(heard)),
    }
}

/// The first line that fits nothing: what goes before it is linearizable.
fn first_impossible(of: &Of, heard: &[Heard<'_>]) -> Violation {
    // A history is linearizable only if each beginning of it is.
    let is_possible = |lines: &usize| decide(of, &heard[..*lines]) != Finding::Impossible;
    let (mut good, mut bad) = (0, heard.len());
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        match is_possible(&middle) {
            true => good = middle,
            false => bad = middle,
        }
    }
    let at_ms = heard[bad - 1].1.at_ms;
    let what = match &heard[bad - 1].1.what {
        What::Answered { ask, outcome } => {
            let asked = heard.iter().find_map(|(_, h)| match &h.what {
                What::Asked {
                    ask: a, operation, ..
                } if a == ask => Some(operation),
                _ => None,
            });
            asked.map_or_else(
                || format!("{outcome:?}"),
                |asked| format!("{asked:?} was answered {outcome:?}, which"),
            )
        }
        other => format!("{other:?}"),
    };
    Violation::NotLinearizable {
        at_ms,
        history: of.to_string(),
        what,
    }
}

/// What was asked and how it was answered: the places of both, if there are both.
struct Exchange<'a> {
    from: usize,
    operation: &'a Operation,
    answer: Option<(usize, &'a Outcome)>,
}

fn exchanges<'a>(heard: &[Heard<'a>]) -> Vec<Exchange<'a>> {
    let mut all: Vec<Exchange<'a>> = vec![];
    let mut asked: BTreeMap<u64, usize> = BTreeMap::new();
    for (place, happened) in heard {
        match &happened.what {
            What::Asked { ask, operation, .. } => {
                asked.insert(*ask, all.len());
                all.push(Exchange {
                    from: *place,
                    operation,
                    answer: None,
                });
            }
            What::Answered { ask, outcome } => {
                let exchange = asked.get(ask).and_then(|n| all.get_mut(*n));
                if let Some(exchange) = exchange {
                    exchange.answer.get_or_insert((*place, outcome));
                }
            }
            _ => {}
        }
    }
    all
}

fn register(heard: &[Heard<'_>]) -> Vec<Timed<Register>> {
    let mut all = vec![];
    for Exchange {
        from,
        operation,
        answer,
    } in exchanges(heard)
    {
        let (until, what) = match (operation, answer) {
            (Operation::Write { value, .. }, Some((until, Outcome::Written))) => {
                (until, Register::Write(*value))
            }
            (Operation::Write { value, .. }, _) => (NEVER, Register::Write(*value)),
            (_, Some((until, Outcome::Value(value)))) => (until, Register::Read(*value)),
            // A read without an answer says nothing.
            _ => continue,
        };
        all.push(Timed { from, until, what });
    }
    close_open_writes(&mut all);
    all
}

/// A write without an answer that nobody read is as one that never took effect; one that somebody
/// read took effect before that reader had its answer. So the search meets none that stays open.
fn close_open_writes(all: &mut Vec<Timed<Register>>) {
    let mut read: BTreeMap<u64, usize> = BTreeMap::new();
    let mut writes: BTreeMap<u64, usize> = BTreeMap::new();
    for timed in &*all {
        match timed.what {
            Register::Read(Some(value)) => {
                let first = read.entry(value).or_insert(NEVER);
                *first = timed.until.min(*first);
            }
            Register::Read(None) => {}
            Register::Write(value) => *writes.entry(value).or_default() += 1,
        }
    }
    all.retain_mut(|timed| match (timed.what, timed.until) {
        (Register::Write(value), NEVER) => {
            let first = read.get(&value);
            // Only if it is known whose value that was.
            if writes.get(&value) == Some(&1) {
                timed.until = first.map_or(NEVER, |first| timed.from.max(*first));
            }
            first.is_some()
        }
        _ => true,
    });
}

/// A run asks for its lease again and again, and has one grant: that took effect between the first
/// time it asked and the first sign of it. So it is with closing.
fn leases(heard: &[Heard<'_>]) -> Vec<Timed<Lease>> {
    let mut first_asked: BTreeMap<&ExecutionId, usize> = BTreeMap::new();
    // By fence: from when on it was asked for, and the first sign.
    let mut grants: BTreeMap<Fence, (usize, usize)> = BTreeMap::new();
    let mut closes: BTreeMap<Fence, (usize, usize)> = BTreeMap::new();
    let mut lives: Vec<Timed<Fence>> = vec![];
    let exchanges = exchanges(heard);
    for Exchange {
        from, operation, ..
    } in &exchanges
    {
        if let Operation::Acquire { execution, .. } = operation {
            first_asked.entry(execution).or_insert(*from);
        }
    }
    let mut sign = |execution: &ExecutionId, fence: Fence, at: usize| {
        if let Some(from) = first_asked.get(execution) {
            let grant = grants.entry(fence).or_insert((*from, at));
            grant.1 = grant.1.min(at);
        }
    };
    for Exchange {
        from,
        operation,
        answer,
    } in exchanges
    {
        let mut seen = |what: Fence, until: usize| lives.push(Timed { from, until, what });
        match (operation, answer) {
            (Operation::Acquire { execution, .. }, Some((at, Outcome::Granted(fence)))) => {
                sign(execution, *fence, at);
                seen(*fence, at);
            }
            (Operation::Acquire { .. }, Some((at, Outcome::Held(fence)))) => seen(*fence, at),
            (Operation::Renew { execution, fence }, answer) => {
                sign(execution, *fence, from);
                if let Some((at, Outcome::Renewed)) = answer {
                    seen(*fence, at);
                }
            }
            (Operation::Close { execution, fence }, answer) => {
                sign(execution, *fence, from);
                let close = closes.entry(*fence).or_insert((from, NEVER));
                if let Some((at, Outcome::Closed)) = answer {
                    close.1 = close.1.min(at);
                }
            }
            _ => {}
        }
    }
    let mut all: Vec<Timed<Lease>> = vec![];
    let mut add = |(from, until): (usize, usize), what| all.push(Timed { from, until, what });
    for (fence, span) in &grants {
        add(*span, Lease::Grant(fence.0));
    }
    for (fence, span) in closes {
        add(span, Lease::Close(fence.0));
    }
    // Of a grant that nobody speaks for it is not known when it was.
    lives.retain(|seen| grants.contains_key(&seen.what));
    for Timed { from, until, what } in lives {
        add((from, until), Lease::Lives(what.0));
    }
    for (place, happened) in heard {
        if let What::Expired { fence } = &happened.what
            && grants.contains_key(fence)
        {
            add((*place, *place), Lease::Expire(fence.0));
        }
    }
    all
}

fn watched(heard: &[Heard<'_>]) -> Vec<Timed<Watched>> {
    let all = exchanges(heard).into_iter().filter_map(|e| match e.answer {
        Some((until, Outcome::Live(fence))) => Some(Timed {
            from: e.from,
            until,
            what: Watched(fence.map(|f| f.0)),
        }),
        _ => None,
    });
    all.collect()
}

/// Views change nothing, so some of them may be left out: each part is searched together with what
/// had been seen before it of the highest fence, and of there being none.
fn in_windows(mut views: Vec<Timed<Watched>>) -> Finding {
    views.sort_by_key(|v| v.from);
    let mut found = Finding::Linear;
    let mut rest = &views[..];
    let mut before: Vec<Timed<Watched>> = vec![];
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.len().min(WINDOW));
        rest = after;
        let mut window = before.clone();
        window.extend_from_slice(part);
        match linear::check(&window) {
            Finding::Linear => {}
            Finding::Impossible => return Finding::Impossible,
            Finding::Undecided => found = Finding::Undecided,
        }
        let highest = window.iter().filter(|v| v.what.0.is_some());
        let highest = highest.max_by_key(|v| (v.what.0, std::cmp::Reverse(v.until)));
        let none = window.iter().filter(|v| v.what.0.is_none());
        let none = none.max_by_key(|v| v.from);
        before = highest.into_iter().chain(none).cloned().collect();
    }
    found
}

#[cfg(test)]
mod tests;
