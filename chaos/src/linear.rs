//! Whether a history could have come of one object that does one thing at a time: linearizability
//! (Herlihy, Wing, "Linearizability: a correctness condition for concurrent objects", TOPLAS 1990),
//! decided by the search of Wing and Gong with Lowe's memory, of the crate `todc-utils`. The objects
//! are here: a register, a lease, and a lease that is only watched.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::rc::Rc;
use todc_utils::{Action, History, Specification, WGLChecker};

/// What the search may try for one history, at first and, if that was not enough, once more. Histories
/// that are kept short take some hundreds; few in many thousands take millions.
const MAX_STEPS: [u64; 2] = [400_000, 20_000_000];

/// What an operation, with its answer, does to an object.
pub(crate) trait Object: Clone + Debug {
    /// What the object is between two operations; it begins as the default.
    type State: Clone + Debug + Default + Eq + Hash;

    /// The state afterwards, or nothing if that answer can't be given in this state.
    fn apply(&self, state: &Self::State) -> Option<Self::State>;

    /// Decides a history without a search, where the object allows it.
    fn decide(_history: &[Timed<Self>]) -> Option<bool> {
        None
    }
}

/// An operation, and between which places of the log it took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timed<O> {
    pub(crate) from: usize,
    /// [`NEVER`] if it may take effect at any later time. Such an operation must do no harm at the
    /// end, since that is where the search puts one that never did.
    pub(crate) until: usize,
    pub(crate) what: O,
}

/// The end of an operation that is not answered.
pub(crate) const NEVER: usize = usize::MAX;

/// What is known of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// One thing at a time leads to it.
    Linear,
    /// Nothing does.
    Impossible,
    /// The search was ended before it knew.
    Undecided,
}

/// Decides it.
pub(crate) fn check<O: Object>(history: &[Timed<O>]) -> Finding {
    let [soon, at_most] = MAX_STEPS;
    match check_within(history, soon) {
        Finding::Undecided => match O::decide(history) {
            Some(true) => Finding::Linear,
            Some(false) => Finding::Impossible,
            None => check_within(history, at_most),
        },
        decided => decided,
    }
}

fn check_within<O: Object>(history: &[Timed<O>], steps: u64) -> Finding {
    if history.is_empty() {
        return Finding::Linear;
    }
    let left = Rc::new(Cell::new(steps));
    let mut actions = vec![];
    for (client, timed) in history.iter().enumerate() {
        let step = || Step {
            what: timed.what.clone(),
            left: Rc::clone(&left),
        };
        // Each operation is its own client, so that who asked what makes no difference.
        actions.push((timed.from, false, client, Action::Call(step())));
        actions.push((timed.until, true, client, Action::Response(step())));
    }
    actions.sort_by_key(|(at, is_answer, client, _)| (*at, *is_answer, *client));
    let actions = actions.into_iter().map(|(_, _, client, a)| (client, a));
    let history = History::from_actions(actions.collect());
    match WGLChecker::<Bounded<O>>::is_linearizable(history) {
        true => Finding::Linear,
        false if left.get() == 0 => Finding::Undecided,
        false => Finding::Impossible,
    }
}

#[derive(Debug, Clone)]
struct Step<O> {
    what: O,
    left: Rc<Cell<u64>>,
}

/// An object that allows nothing more once the steps are used up: the search ends soon then.
struct Bounded<O>(PhantomData<O>);

impl<O: Object> Specification for Bounded<O> {
    type State = O::State;
    type Operation = Step<O>;

    fn init() -> O::State {
        O::State::default()
    }

    fn apply(step: &Step<O>, state: &O::State) -> (bool, O::State) {
        let left = step.left.get();
        step.left.set(left.saturating_sub(1));
        let next = (left > 0).then(|| step.what.apply(state)).flatten();
        (next.is_some(), next.unwrap_or_else(|| state.clone()))
    }
}

/// One key of the ledger; nothing is written there in the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    Write(u64),
    Read(Option<u64>),
}

impl Object for Register {
    type State = Option<u64>;

    fn apply(&self, state: &Option<u64>) -> Option<Option<u64>> {
        match self {
            Self::Write(value) => Some(Some(*value)),
            Self::Read(value) => (value == state).then_some(*state),
        }
    }
}

/// The leases on one scope, by their fences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lease {
    /// It is granted.
    Grant(u64),
    /// It is said to be live.
    Lives(u64),
    /// The ledger ends it; its grant stays open.
    Expire(u64),
    /// Its grant is closed.
    Close(u64),
}

/// The highest fence there was, and the one that is live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Fences {
    highest: u64,
    live: Option<u64>,
}

impl Object for Lease {
    type State = Fences;

    fn apply(&self, state: &Fences) -> Option<Fences> {
        let Fences { highest, live } = *state;
        match *self {
            Self::Grant(fence) => (live.is_none() && fence > highest).then_some(Fences {
                highest: fence,
                live: Some(fence),
            }),
            Self::Lives(fence) => (live == Some(fence)).then_some(*state),
            Self::Expire(fence) => (live == Some(fence)).then_some(Fences {
                highest,
                live: None,
            }),
            Self::Close(fence) => (fence <= highest).then_some(Fences {
                highest,
                live: live.filter(|l| *l != fence),
            }),
        }
    }

    /// Fences rise, so the order of the grants is given, and with it that of all that speaks of each.
    /// Each operation is put as early as what goes before it allows: if that is too late for one of
    /// them, nothing is early enough.
    fn decide(history: &[Timed<Self>]) -> Option<bool> {
        let mut by_fence: BTreeMap<u64, Vec<&Timed<Self>>> = BTreeMap::new();
        for timed in history {
            by_fence.entry(timed.what.fence()).or_default().push(timed);
        }
        // From where on the scope is free; none while it is held.
        let mut free = Some(0);
        for of_fence in by_fence.values() {
            match free.and_then(|from| ends(of_fence, from)) {
                Some(end) => free = end,
                None => return Some(false),
            }
        }
        Some(true)
    }
}

impl Lease {
    fn fence(self) -> u64 {
        match self {
            Self::Grant(f) | Self::Lives(f) | Self::Expire(f) | Self::Close(f) => f,
        }
    }
}

/// When the lease of one fence ends if it begins at `free` or later, as early as can be; nothing if
/// what is told of it fits no order, and no end if it does not end.
fn ends(told: &[&Timed<Lease>], free: usize) -> Option<Option<usize>> {
    let all = |fits: fn(&Lease) -> bool| told.iter().filter(move |t| fits(&t.what));
    // The earliest place from `after` on, if there is one.
    let place = |t: &Timed<Lease>, after: usize| {
        let at = t.from.max(after);
        (at <= t.until).then_some(at)
    };
    let mut grants = all(|l| matches!(l, Lease::Grant(_)));
    let grant = place(grants.next()?, free)?;
    if grants.next().is_some() {
        return None;
    }
    let mut lived = grant;
    for lives in all(|l| matches!(l, Lease::Lives(_))) {
        lived = lived.max(place(lives, grant)?);
    }
    let mut expiries = all(|l| matches!(l, Lease::Expire(_)));
    let expired = match expiries.next() {
        Some(expire) => Some(place(expire, lived)?),
        None => None,
    };
    if expiries.next().is_some() {
        return None;
    }
    // A close before the expiry would have ended it.
    let mut closed = None;
    for close in all(|l| matches!(l, Lease::Close(_))) {
        let at = place(close, expired.unwrap_or(lived))?;
        closed = Some(closed.map_or(at, |c: usize| c.min(at)));
    }
    Some(expired.or(closed))
}

/// Which lease somebody saw live on one scope. When it was granted and when it ended is not known:
/// all that can be said is that fences rise, and that one that is gone does not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watched(pub(crate) Option<u64>);

/// The highest fence that was seen, and whether it is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct SeenFence {
    highest: u64,
    is_gone: bool,
}

impl Object for Watched {
    type State = SeenFence;

    fn apply(&self, state: &SeenFence) -> Option<SeenFence> {
        let highest = state.highest;
        match self.0 {
            None => Some(SeenFence {
                highest,
                is_gone: true,
            }),
            Some(fence) if fence > highest => Some(SeenFence {
                highest: fence,
                is_gone: false,
            }),
            Some(fence) => (fence == highest && !state.is_gone).then_some(*state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<O>(from: usize, until: usize, what: O) -> Timed<O> {
        Timed { from, until, what }
    }

    /// Every order of a few operations, tried one by one.
    fn by_hand(history: &[Timed<Register>], state: Option<u64>) -> bool {
        history.is_empty()
            || (0..history.len()).any(|n| {
                let mut rest = history.to_vec();
                let first = rest.remove(n);
                let is_first = rest.iter().all(|other| other.until > first.from);
                let next = first.what.apply(&state);
                is_first && next.is_some_and(|next| by_hand(&rest, next))
            })
    }

    #[test]
    fn the_search_says_what_every_order_tried_by_hand_says() {
        let mut rng = crate::rng::Rng::new(1);
        let mut found = [0, 0];
        for round in 0..3_000 {
            let ops = rng.within(1, 7) as usize;
            let mut places: Vec<usize> = (0..2 * ops).collect();
            for n in (1..places.len()).rev() {
                places.swap(n, rng.within(0, n as u64 + 1) as usize);
            }
            let history: Vec<_> = (0..ops)
                .map(|n| {
                    let (a, b) = (places[2 * n], places[2 * n + 1]);
                    let value = rng.within(0, 3);
                    let what = match rng.chance(500) {
                        true => Register::Write(value),
                        false => Register::Read(Some(value).filter(|v| *v > 0)),
                    };
                    let until = if rng.chance(100) { NEVER } else { a.max(b) };
                    at(a.min(b), until, what)
                })
                .collect();
            let linear = by_hand(&history, None);
            found[usize::from(linear)] += 1;
            let said = check(&history) == Finding::Linear;
            assert_eq!(said, linear, "round {round}: {history:?}");
        }
        assert!(found.iter().all(|n| *n > 300), "{found:?}");
    }

    #[test]
    fn what_is_said_of_leases_without_a_search_is_what_the_search_says() {
        let mut rng = crate::rng::Rng::new(2);
        let mut found = [0, 0];
        for round in 0..20_000 {
            // A history as it happens, told with less and more certainty of when, and sometimes of
            // something that did not happen.
            let (mut history, mut now, mut fence) = (vec![], 0, 0);
            for _ in 0..rng.within(1, 5) {
                fence += rng.within(1, 3);
                let mut ops = vec![Lease::Grant(fence)];
                ops.extend((0..rng.within(0, 3)).map(|_| Lease::Lives(fence)));
                if rng.chance(500) {
                    ops.push(Lease::Expire(fence));
                }
                if rng.chance(700) {
                    ops.push(Lease::Close(fence));
                }
                for op in ops {
                    now += 10;
                    let from = now - rng.within(0, 40).min(now as u64) as usize;
                    let until = match op {
                        Lease::Close(_) if rng.chance(100) => NEVER,
                        _ => now + rng.within(0, 40) as usize,
                    };
                    history.push(at(from, until, op));
                }
            }
            if rng.chance(400) {
                let n = rng.within(0, history.len() as u64) as usize;
                let shift = rng.within(20, 60) as usize;
                history[n].from += shift;
                history[n].until = history[n].until.saturating_add(shift);
            }
            let said = Lease::decide(&history).unwrap();
            found[usize::from(said)] += 1;
            match check_within(&history, 2_000_000) {
                Finding::Undecided => {}
                by_search => {
                    let linear = by_search == Finding::Linear;
                    assert_eq!(said, linear, "round {round}: {history:#?}");
                }
            }
        }
        assert!(found.iter().all(|n| *n > 2_000), "{found:?}");
    }

    #[test]
    fn a_search_that_is_ended_early_says_that_it_does_not_know() {
        let mut history: Vec<_> = (0..14).map(|n| at(n, 100, Register::Write(1))).collect();
        history.push(at(101, 102, Register::Read(Some(2))));
        assert_eq!(check_within(&history, 1_000), Finding::Undecided);
        history.pop();
        assert_eq!(check_within(&history, 1_000), Finding::Linear);
        assert_eq!(check_within::<Register>(&[], 0), Finding::Linear);
    }

    #[test]
    fn a_lease_is_granted_when_it_is_free_and_its_fence_rises() {
        use Lease::{Close, Expire, Grant, Lives};
        let one_after_the_other = |ops: &[Lease]| {
            let history = ops.iter().enumerate().map(|(n, op)| at(n, n, *op));
            check(&history.collect::<Vec<_>>())
        };
        for good in [
            &[Grant(3), Lives(3), Close(3), Grant(5), Lives(5)][..],
            &[Grant(3), Expire(3), Grant(5), Close(3), Lives(5), Close(5)],
        ] {
            assert_eq!(one_after_the_other(good), Finding::Linear, "{good:?}");
        }
        for bad in [
            &[Grant(3), Grant(5)][..],
            &[Grant(5), Close(5), Grant(3)],
            &[Grant(3), Close(3), Lives(3)],
            &[Grant(3), Expire(3), Lives(3)],
            &[Close(3)],
            &[Grant(3), Close(3), Expire(3)],
        ] {
            assert_eq!(one_after_the_other(bad), Finding::Impossible, "{bad:?}");
        }
    }
}
