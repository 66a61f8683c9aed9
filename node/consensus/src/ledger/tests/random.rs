//! Any commands in any order: what must always hold.

use super::*;
use hale_audit::verify::{Trust, Verifier};
use hale_model::ledger::{BudgetLimit, WaitsFor};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Whoever may act: three members, and two that are not yet.
const NODES: u8 = 5;

/// A step of a random history; fences are picked among those granted so far.
#[derive(Debug, Clone)]
enum Step {
    Acquire {
        by: u8,
        on: u8,
        run: u8,
        approval: Option<u8>,
    },
    Renew {
        pick: usize,
        by: u8,
    },
    Expire {
        pick: usize,
        generation: u64,
    },
    Close {
        pick: usize,
        by: u8,
    },
    Report {
        pick: usize,
        by: u8,
    },
    Append {
        by: u8,
        what: u8,
    },
    Ask {
        n: u8,
        by: u8,
    },
    Answer {
        n: u8,
        approve: bool,
    },
    CloseApproval {
        n: u8,
    },
    Freeze(bool),
    CreateToken {
        n: u8,
        uses: u32,
    },
    EndToken {
        n: u8,
        revoke: bool,
    },
    Admit {
        n: u8,
        node: u8,
        by: u8,
    },
    Remove {
        node: u8,
        by: u8,
    },
    ExpireWait {
        run: u8,
        ago: u64,
    },
    SetBudget {
        n: u8,
        of: u8,
        limit: BudgetLimit,
    },
    DropBudget {
        n: u8,
    },
    Services {
        node: u8,
        services: u8,
    },
    Refill {
        n: u8,
        pick: usize,
    },
    Editions {
        node: u8,
        text: u8,
    },
    Seen {
        node: u8,
        of: u8,
    },
    Look {
        by: u8,
        on: u8,
        n: u8,
    },
    EndLook {
        pick: usize,
        by: u8,
        expires: bool,
    },
}

fn limit() -> impl Strategy<Value = BudgetLimit> {
    prop_oneof![
        (0u32..3).prop_map(BudgetLimit::AtMost),
        (1u8..=100).prop_map(BudgetLimit::Percent),
        (1u32..4).prop_map(BudgetLimit::PerHour),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let by = 0u8..NODES;
    let pick = 0usize..8;
    let leases = prop_oneof![
        10 => (by.clone(), 0u8..6, 0u8..12, proptest::option::weighted(0.1, 0u8..3))
            .prop_map(|(by, on, run, approval)| Step::Acquire { by: by % 3, on, run, approval }),
        1 => (pick.clone(), by.clone()).prop_map(|(pick, by)| Step::Renew { pick, by }),
        2 => (pick.clone(), 0u64..2).prop_map(|(pick, generation)| Step::Expire { pick, generation }),
        4 => (pick.clone(), by.clone()).prop_map(|(pick, by)| Step::Close { pick, by }),
        1 => (pick.clone(), by.clone()).prop_map(|(pick, by)| Step::Report { pick, by }),
        1 => (by.clone(), 0u8..4).prop_map(|(by, what)| Step::Append { by, what }),
        1 => (0u8..12, 0u64..4).prop_map(|(run, ago)| Step::ExpireWait { run, ago }),
        3 => (by.clone(), 0u8..6, 0u8..8).prop_map(|(by, on, n)| Step::Look { by, on, n }),
        3 => (pick.clone(), by.clone(), any::<bool>())
            .prop_map(|(pick, by, expires)| Step::EndLook { pick, by, expires }),
    ];
    let humans = prop_oneof![
        1 => (0u8..3, by.clone()).prop_map(|(n, by)| Step::Ask { n, by }),
        2 => (0u8..3, any::<bool>()).prop_map(|(n, approve)| Step::Answer { n, approve }),
        1 => (0u8..3).prop_map(|n| Step::CloseApproval { n }),
        1 => prop_oneof![1 => Just(true), 4 => Just(false)].prop_map(Step::Freeze),
    ];
    let policy = prop_oneof![
        1 => (0u8..3, 1u32..3).prop_map(|(n, uses)| Step::CreateToken { n, uses }),
        1 => (0u8..3, any::<bool>()).prop_map(|(n, revoke)| Step::EndToken { n, revoke }),
        2 => (0u8..3, by.clone(), 0u8..2).prop_map(|(n, node, by)| Step::Admit { n, node, by }),
        1 => (by.clone(), by.clone()).prop_map(|(node, by)| Step::Remove { node, by }),
        3 => (0u8..4, 0u8..3, limit()).prop_map(|(n, of, limit)| Step::SetBudget { n, of, limit }),
        1 => (0u8..4).prop_map(|n| Step::DropBudget { n }),
        2 => (by.clone(), 0u8..4).prop_map(|(node, services)| Step::Services { node, services }),
        1 => (by.clone(), 0u8..2).prop_map(|(node, text)| Step::Editions { node, text }),
        2 => (by, 0u8..3).prop_map(|(node, of)| Step::Seen { node, of }),
        2 => (0u8..4, pick).prop_map(|(n, pick)| Step::Refill { n, pick }),
    ];
    prop_oneof![6 => leases, 1 => humans, 3 => policy]
}

fn service(n: u8) -> Option<ServiceName> {
    ["a", "b"]
        .get(usize::from(n))
        .map(|s| ServiceName::new(*s).unwrap())
}

fn token_id(n: u8) -> TokenId {
    TokenId::of([n; 5])
}

fn command(step: &Step, index: u64, fences: &[Fence], ledger: &Ledger) -> Command {
    let fence = |pick: usize| {
        let known = fences.len().saturating_sub(1);
        fences
            .get(known.saturating_sub(pick))
            .copied()
            .unwrap_or(Fence(999))
    };
    let holder = |pick: usize, otherwise: u8| {
        let lease = ledger.lease(fence(pick));
        lease.map_or(key(otherwise).node_id(), |l| l.holder)
    };
    let by = || "ada".to_owned();
    match *step {
        Step::Acquire {
            by,
            on,
            run,
            approval,
        } => Command::Acquire(Acquire {
            service: service(run % 3),
            ..ask_for(by, on, run, approval)
        }),
        Step::Renew { pick, by } => Command::Renew {
            fence: fence(pick),
            holder: key(by).node_id(),
            ttl_ms: 5_000,
        },
        Step::Expire { pick, generation } => Command::Expire {
            fence: fence(pick),
            generation,
        },
        Step::Close { pick, by } => close(fence(pick), by, &format!("close {}", fence(pick))),
        Step::Report { pick, by } => Command::Close {
            fence: fence(pick),
            holder: holder(pick, by),
            disposition: Disposition::Abandoned,
            outcome: OutcomeStatus::Abandoned,
            entry: signed(EntryKind::Record, by, &format!("report {}", fence(pick))),
        },
        Step::Append { by, what } => Command::Append {
            entry: signed(EntryKind::Record, by, &format!("append {what}")),
        },
        Step::Ask { n, by } => Command::AskApproval(question(n, by)),
        Step::Answer { n, approve } => answer(n, approve),
        Step::CloseApproval { n } => Command::CloseApproval {
            approval: approval_id(n),
            state: ApprovalState::Superseded,
            entry: signed(EntryKind::Approval, 0, "superseded"),
        },
        Step::Freeze(frozen) => freeze(frozen),
        Step::CreateToken { n, uses } => Command::CreateToken {
            id: token_id(n),
            verifier: plan(n),
            uses,
            ttl_ms: 60_000,
            by: by(),
            expires_at_ms: 0,
            entry: signed(EntryKind::Token, 0, &format!("token {n}")),
        },
        Step::EndToken { n, revoke: true } => Command::RevokeToken {
            id: token_id(n),
            by: by(),
            entry: signed(EntryKind::Token, 1, &format!("revoke {n}")),
        },
        Step::EndToken { n, revoke: false } => Command::ExpireToken { id: token_id(n) },
        Step::Admit { n, node, by } => Command::Admit {
            token: token_id(n),
            node: key(node).node_id(),
            host: host(node),
            entry: enrolment::sign(key(node).node_id(), &host(node), &key(by)),
        },
        Step::Remove { node, by } => remove(node, by),
        Step::ExpireWait { run, ago } => Command::ExpireWait {
            execution: ExecutionId::new(format!("exe_{run}")).unwrap(),
            generation: index.saturating_sub(ago),
        },
        Step::SetBudget { n, of, limit } => Command::SetBudget {
            budget: Budget {
                name: format!("budget {n}"),
                service: service(of),
                limit,
            },
            by: by(),
            entry: signed(EntryKind::Budget, 0, &format!("set {n}")),
        },
        Step::DropBudget { n } => Command::DropBudget {
            name: format!("budget {n}"),
            by: by(),
            entry: signed(EntryKind::Budget, 0, &format!("drop {n}")),
        },
        Step::Services { node, services } => Command::Services {
            node: key(node).node_id(),
            services: (0..2)
                .filter(|n| services & (1 << n) != 0)
                .filter_map(service)
                .collect(),
        },
        Step::Refill { n, pick } => Command::Refill {
            budget: format!("budget {n}"),
            fence: fence(pick),
        },
        Step::Editions { node, text } => Command::Editions {
            node: key(node).node_id(),
            editions: vec![(PlaybookName::new("restart").unwrap(), plan(text))],
        },
        Step::Seen { node, of } => Command::Seen {
            node: key(node).node_id(),
            playbook: PlaybookName::new("restart").unwrap(),
            service: service(of),
            what: [Sighting::WentAway, Sighting::Agreed, Sighting::Disagreed][usize::from(of)],
        },
        Step::Look { by, on, n } => Command::Look(looks::at(by, on, n)),
        Step::EndLook { pick, by, expires } => {
            let share = ledger.looks().nth(pick);
            let fence = share.map_or(Fence(999), |l| l.fence);
            if expires {
                Command::ExpireLook { fence }
            } else {
                let held = share.map(|l| (l.look.node, l.look.id.clone()));
                let (node, id) =
                    held.unwrap_or_else(|| (key(by).node_id(), looks::at(by, 0, 0).id));
                Command::EndLook { node, id }
            }
        }
    }
}

/// What an observer counts from the commands and the news alone.
#[derive(Default)]
struct Seen {
    fences: Vec<Fence>,
    open: BTreeMap<Fence, Lease>,
    closed: BTreeSet<Fence>,
    removed: BTreeSet<NodeId>,
    /// Leases that were live when their node was removed.
    orphans: BTreeSet<Fence>,
    runs: BTreeMap<NodeId, Vec<ServiceName>>,
    hourly: BTreeSet<(String, Fence)>,
    fences_of_looks: Vec<Fence>,
}

impl Seen {
    /// Before a grant: whether the budget has room for one more.
    fn has_room(&self, budget: &Budget, before: &Ledger) -> bool {
        let running = || {
            let counted = self.open.values();
            counted
                .filter(|l| budget.covers(l.service.as_ref()))
                .count()
        };
        match budget.limit {
            BudgetLimit::AtMost(n) => running() < n as usize,
            BudgetLimit::Percent(p) => {
                let hosts = match &budget.service {
                    None => before.roster().count(),
                    Some(s) => self.runs.values().filter(|runs| runs.contains(s)).count(),
                };
                running() < (hosts * usize::from(p) / 100).max(1)
            }
            BudgetLimit::PerHour(n) => {
                let marks = self.hourly.iter().filter(|(b, _)| *b == budget.name);
                marks.count() < n as usize
            }
        }
    }

    fn granted(&mut self, lease: &Lease, before: &Ledger) {
        assert!(self.fences.last() < Some(&lease.fence), "fences rise");
        assert!(
            self.fences_of_looks.last() < Some(&lease.fence),
            "fences rise"
        );
        assert!(before.frozen().is_none(), "a frozen cluster starts nothing");
        assert!(!self.removed.contains(&lease.holder));
        for share in before.looks() {
            let looked_at = &share.look.scope;
            assert!(
                !looked_at.conflicts(&lease.scope),
                "{looked_at} is looked at"
            );
        }
        let needs = before
            .budgets()
            .filter(|b| b.covers(lease.service.as_ref()));
        let needs: Vec<_> = needs.collect();
        for budget in &needs {
            assert!(self.has_room(budget, before), "{budget} is exceeded");
        }
        let earlier = before.waiting();
        for w in earlier.take_while(|w| w.execution != lease.execution) {
            let goes_before = match &w.waits_for {
                WaitsFor::Scope => w.scope.conflicts(&lease.scope),
                WaitsFor::Budgets(names) => needs.iter().any(|b| names.contains(&b.name)),
            };
            assert!(!goes_before, "{} goes before {}", w.execution, lease.scope);
        }
        for budget in needs {
            if matches!(budget.limit, BudgetLimit::PerHour(_)) {
                self.hourly.insert((budget.name.clone(), lease.fence));
            }
        }
        self.fences.push(lease.fence);
        self.open.insert(lease.fence, lease.clone());
    }

    fn saw(&mut self, command: &Command, applied: &Applied, before: &Ledger) {
        for entry in &applied.entries {
            assert!(!self.removed.contains(&entry.signer), "a removed node acts");
        }
        for news in &applied.news {
            match news {
                News::Granted(lease) => self.granted(lease, before),
                News::Looks(share) => {
                    assert!(self.fences.last() < Some(&share.fence), "fences rise");
                    self.fences_of_looks.push(share.fence);
                }
                News::Closed { lease, .. } => {
                    assert!(self.open.remove(&lease.fence).is_some());
                    assert!(self.closed.insert(lease.fence), "closed once");
                }
                News::Enrolled { node, .. } => assert!(!self.removed.contains(node)),
                News::Removed { node, .. } => {
                    assert!(self.removed.insert(*node), "removed once");
                    // What it held at that moment it may still act under, not knowing better.
                    let held = before.leases().filter(|l| l.holder == *node && l.live);
                    self.orphans.extend(held.map(|l| l.fence));
                    self.runs.remove(node);
                }
                _ => {}
            }
        }
        if !matches!(applied.answer, Answer::Done { .. }) {
            return;
        }
        match command {
            Command::Services { node, services } => {
                self.runs.insert(*node, services.clone());
            }
            Command::Refill { budget, fence } => {
                self.hourly.remove(&(budget.clone(), *fence));
            }
            Command::DropBudget { name, .. } => self.hourly.retain(|(b, _)| b != name),
            Command::SetBudget { budget, .. }
                if !matches!(budget.limit, BudgetLimit::PerHour(_)) =>
            {
                self.hourly.retain(|(b, _)| *b != budget.name);
            }
            _ => {}
        }
    }

    fn holds(&self, ledger: &Ledger) {
        let excluding = |l: &&Lease| l.live || self.orphans.contains(&l.fence);
        let live: Vec<_> = ledger.leases().filter(excluding).collect();
        for (i, a) in live.iter().enumerate() {
            for b in &live[i + 1..] {
                assert!(!a.scope.conflicts(&b.scope), "{} and {}", a.scope, b.scope);
            }
        }
        for fence in &self.fences {
            let open = ledger.lease(*fence).is_some();
            assert!(open != self.closed.contains(fence), "open or closed");
        }
        for share in ledger.looks() {
            let looked_at = &share.look.scope;
            assert!(
                live.iter().all(|l| !l.scope.conflicts(looked_at)),
                "{looked_at}"
            );
            assert!(ledger.is_enrolled(&share.look.node));
        }
        let mut waiting = BTreeSet::new();
        for w in ledger.waiting() {
            assert!(waiting.insert(&w.execution), "one place each");
            assert!(ledger.is_enrolled(&w.holder));
            assert!(ledger.leases().all(|l| l.execution != w.execution));
        }
        assert!(waiting.len() <= limits::MAX_WAITING);
        for token in ledger.tokens() {
            assert!(token.uses_left <= token.uses);
        }
        assert!(ledger.roster().next().is_some(), "somebody is left");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn the_invariants_hold_for_any_commands(
        steps in proptest::collection::vec((step(), 0u64..2), 1..80),
    ) {
        let (mut ledger, mut twin) = (cluster(), cluster());
        // A store that only ever takes what changed.
        let mut stored: BTreeMap<Row, Vec<u8>> = ledger.take_all().unwrap().into_iter().collect();
        let (mut index, mut tip) = (10, ledger.tip());
        let (mut seen, mut chain) = (Seen::default(), vec![]);
        for (step, forward) in &steps {
            index += forward;
            let command = command(step, index, &seen.fences, &ledger);
            let before = ledger.clone();
            let applied = ledger.apply(index, command.clone());
            prop_assert_eq!(&applied, &twin.apply(index, command.clone()), "the same on every node");
            for entry in &applied.entries {
                prop_assert_eq!(entry.follows(tip.entries, tip.hash), Ok(()));
                tip = Tip { entries: tip.entries + 1, hash: entry.hash() };
                chain.push(entry.clone());
            }
            prop_assert_eq!(tip, ledger.tip());
            seen.saw(&command, &applied, &before);
            seen.holds(&ledger);
            for (row, content) in ledger.take_touched().unwrap() {
                match content {
                    Some(bytes) => drop(stored.insert(row, bytes)),
                    None => drop(stored.remove(&row)),
                }
            }
        }
        let bytes = ledger.encode().unwrap();
        prop_assert_eq!(&bytes, &twin.encode().unwrap());
        prop_assert_eq!(&bytes, &Ledger::decode(&bytes).unwrap().encode().unwrap());
        let kept = Ledger::from_rows(stored.values()).unwrap();
        prop_assert_eq!(&bytes, &kept.encode().unwrap(), "what changed is all that changed");
        prop_assert_eq!(&kept.places, &ledger.places);
        let mut auditor = Verifier::new(Trust::FirstEnrolment);
        founding().iter().chain(&chain).for_each(|e| auditor.entry(e));
        let report = auditor.finish();
        prop_assert_eq!(report.faults, [], "an auditor finds the same");
        prop_assert_eq!(report.roster, ledger.roster().map(|(n, _)| *n).collect());
    }
}
