//! The oracle: reads an event log and says what did not hold. It shares no code with what it
//! judges.

use crate::event::{Happened, What};
use crate::histories;
use hale_model::ledger::Scope;
use hale_model::{Digest, ExecutionId, Fence};
use std::collections::{BTreeMap, BTreeSet};

/// Something that must always hold and did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two leases that exclude each other were live at once.
    #[error("at {at_ms} ms fence {later} was granted on a scope still held under fence {earlier}")]
    TwoLeases {
        /// When.
        at_ms: u64,
        /// The lease that was live.
        earlier: Fence,
        /// The lease granted beside it.
        later: Fence,
    },
    /// A fence did not rise.
    #[error("at {at_ms} ms fence {later} was granted after fence {earlier}")]
    FenceFell {
        /// When.
        at_ms: u64,
        /// The highest before.
        earlier: Fence,
        /// The one granted.
        later: Fence,
    },
    /// Something was changed without a live lease.
    #[error("at {at_ms} ms step `{step}` of {execution} ran without a live lease")]
    ActedWithoutLease {
        /// When.
        at_ms: u64,
        /// In which run.
        execution: ExecutionId,
        /// Which step.
        step: String,
    },
    /// A step that may not run again did.
    #[error("at {at_ms} ms step `{step}` of {execution} ran again and may not")]
    RanAgain {
        /// When.
        at_ms: u64,
        /// In which run.
        execution: ExecutionId,
        /// Which step.
        step: String,
    },
    /// A grant was closed twice, or was never granted.
    #[error("at {at_ms} ms fence {fence} was closed, and it was not open")]
    ClosedTwice {
        /// When.
        at_ms: u64,
        /// Which.
        fence: Fence,
    },
    /// A grant was open in the end.
    #[error("fence {fence} was never closed")]
    LeftOpen {
        /// Which.
        fence: Fence,
    },
    /// The chain has a gap, a fork or a wrong link.
    #[error("at {at_ms} ms entry {index} does not follow the entry before it")]
    ChainBroken {
        /// When.
        at_ms: u64,
        /// Which entry.
        index: u64,
    },
    /// What was acknowledged is not on the chain.
    #[error("entry {index} was acknowledged and is not on the chain")]
    AcknowledgedLost {
        /// Which entry.
        index: u64,
    },
    /// Two hosts' chains differ.
    #[error("at {at_ms} ms host {host} has another entry {index} than was written first")]
    ChainsDiffer {
        /// When.
        at_ms: u64,
        /// On which host.
        host: usize,
        /// Which entry.
        index: u64,
    },
    /// A host's chain lacks entries though everything had time to reach it.
    #[error("in the end host {host} has {entries} of the chain's {all} entries")]
    ChainShort {
        /// Which host.
        host: usize,
        /// How many it has.
        entries: u64,
        /// How many there are.
        all: u64,
    },
    /// Two hosts lead in one term.
    #[error("at {at_ms} ms host {host} leads in term {term}, which had a leader")]
    TwoLeaders {
        /// When.
        at_ms: u64,
        /// The later one.
        host: usize,
        /// In which term.
        term: u64,
    },
    /// A lease was renewed that had ended.
    #[error("at {at_ms} ms fence {fence} was renewed, and its lease had ended")]
    RenewedLate {
        /// When.
        at_ms: u64,
        /// Which.
        fence: Fence,
    },
    /// More runs were open at once than the budget allows.
    #[error("at {at_ms} ms fence {fence} was granted as number {open}, {at_most} are allowed")]
    BudgetExceeded {
        /// When.
        at_ms: u64,
        /// Which.
        fence: Fence,
        /// How many were open then.
        open: u32,
        /// How many may be.
        at_most: u32,
    },
    /// A run was granted its lease before one that asked earlier for the same scope.
    #[error("at {at_ms} ms fence {fence} overtook {overtaken}, which had asked before")]
    Overtook {
        /// When.
        at_ms: u64,
        /// Which.
        fence: Fence,
        /// Whom.
        overtaken: ExecutionId,
    },
    /// No order of what was asked leads to what was answered.
    #[error("at {at_ms} ms {what} fits no order of what happened to {history}")]
    NotLinearizable {
        /// When the first line came that fits nothing.
        at_ms: u64,
        /// What it was.
        what: String,
        /// Of which key or scope.
        history: String,
    },
    /// Whether there is such an order was not found out.
    #[error("of {history} it was not found out whether its {events} events fit any order")]
    Undecided {
        /// Of which key or scope.
        history: String,
        /// How many lines of the log tell of it.
        events: usize,
    },
    /// A lease was granted on what was being looked at, or a share of what is leased.
    #[error(
        "at {at_ms} ms fence {later} was granted beside fence {earlier}, one to look and one to act"
    )]
    ActedWhileLooking {
        /// When.
        at_ms: u64,
        /// What was there.
        earlier: Fence,
        /// What was granted beside it.
        later: Fence,
    },
    /// A share ended before its time, and nobody gave it back.
    #[error("at {at_ms} ms the share under fence {fence} ended after {after_ms} ms")]
    LookEndedEarly {
        /// When.
        at_ms: u64,
        /// Which.
        fence: Fence,
        /// How old it was.
        after_ms: u64,
    },
    /// A share never ended.
    #[error("the share under fence {fence} never ended")]
    LooksForever {
        /// Which.
        fence: Fence,
    },
    /// A frozen cluster started something.
    #[error("at {at_ms} ms fence {fence} was granted while the cluster was frozen")]
    StartedFrozen {
        /// When.
        at_ms: u64,
        /// Which.
        fence: Fence,
    },
}

struct Grant {
    scope: Scope,
    execution: ExecutionId,
    live: bool,
}

struct Share {
    scope: Scope,
    since_ms: u64,
    ttl_ms: u64,
    id: ExecutionId,
}

/// What did not hold, in the order it was found.
pub fn judge(log: &[Happened]) -> Vec<Violation> {
    let mut judge = Judge::default();
    for happened in log {
        judge.hear(happened);
    }
    judge.wrong.extend(histories::judge(log));
    judge.wrong
}

#[derive(Default)]
struct Judge {
    wrong: Vec<Violation>,
    open: BTreeMap<Fence, Grant>,
    shares: BTreeMap<Fence, Share>,
    given_back: BTreeSet<ExecutionId>,
    highest: Fence,
    chain: Vec<Digest>,
    /// Who leads, by term.
    terms: BTreeMap<u64, usize>,
    frozen: bool,
    ran: BTreeMap<(ExecutionId, String), u32>,
    at_most: Option<u32>,
    /// Who waits, by place, and on what.
    waits: BTreeMap<u64, (ExecutionId, Option<Scope>)>,
    /// Who left the line last, and its place.
    left: Option<(ExecutionId, u64)>,
}

impl Judge {
    fn hear(&mut self, happened: &Happened) {
        let at_ms = happened.at_ms;
        match &happened.what {
            What::Granted {
                fence,
                scope,
                execution,
                ..
            } => {
                self.granted(at_ms, *fence, scope, execution);
            }
            What::Renewed { fence } => {
                if !self.open.get(fence).is_some_and(|grant| grant.live) {
                    let fence = *fence;
                    self.wrong.push(Violation::RenewedLate { at_ms, fence });
                }
            }
            What::Copied { host, index, hash } => {
                if self.chain.get(*index as usize) != Some(hash) {
                    self.wrong.push(Violation::ChainsDiffer {
                        at_ms,
                        host: *host,
                        index: *index,
                    });
                }
            }
            What::Leads { host, term } => {
                if self.terms.insert(*term, *host).is_some() {
                    self.wrong.push(Violation::TwoLeaders {
                        at_ms,
                        host: *host,
                        term: *term,
                    });
                }
            }
            What::Ends { host, entries } => {
                let all = self.chain.len() as u64;
                if *entries != all {
                    self.wrong.push(Violation::ChainShort {
                        host: *host,
                        entries: *entries,
                        all,
                    });
                }
            }
            What::Expired { fence } => {
                if let Some(grant) = self.open.get_mut(fence) {
                    grant.live = false;
                }
            }
            What::Closed { fence, .. } => {
                if self.open.remove(fence).is_none() {
                    self.wrong.push(Violation::ClosedTwice {
                        at_ms,
                        fence: *fence,
                    });
                }
            }
            What::Looks {
                fence,
                scope,
                ttl_ms,
                id,
            } => {
                let share = Share {
                    scope: scope.clone(),
                    since_ms: at_ms,
                    ttl_ms: *ttl_ms,
                    id: id.clone(),
                };
                self.looks(at_ms, *fence, share);
            }
            What::GivesBack { id } => drop(self.given_back.insert(id.clone())),
            What::LookEnded { fence } => self.look_ended(at_ms, *fence),
            What::Appended {
                index,
                hash,
                previous,
            } => {
                let last = self.chain.last().copied().unwrap_or(Digest::ZERO);
                if *index != self.chain.len() as u64 || *previous != last {
                    self.wrong.push(Violation::ChainBroken {
                        at_ms,
                        index: *index,
                    });
                }
                self.chain.push(*hash);
            }
            What::Acknowledged { index, hash } => {
                if self.chain.get(*index as usize) != Some(hash) {
                    self.wrong
                        .push(Violation::AcknowledgedLost { index: *index });
                }
            }
            What::Acted {
                execution,
                step,
                idempotent,
                ..
            } => {
                self.acted(at_ms, execution, step, *idempotent);
            }
            What::Frozen { frozen } => self.frozen = *frozen,
            What::Budget { at_most } => self.at_most = Some(*at_most),
            What::Waits {
                execution,
                place,
                scope,
            } => {
                self.waits
                    .insert(*place, (execution.clone(), scope.clone()));
            }
            What::WaitEnded { execution } => {
                let place = self.waits.iter().find(|(_, (e, _))| e == execution);
                self.left = place.map(|(place, _)| (execution.clone(), *place));
                self.waits.retain(|_, (e, _)| e != execution);
            }
            // See `histories`.
            What::Asked { .. } | What::Answered { .. } | What::Unanswered { .. } => {}
            What::Fault { .. } => {}
            What::Quiet => {
                let left = self
                    .open
                    .keys()
                    .map(|fence| Violation::LeftOpen { fence: *fence });
                self.wrong.extend(left);
                let shares = self.shares.keys();
                let shares = shares.map(|fence| Violation::LooksForever { fence: *fence });
                self.wrong.extend(shares);
            }
        }
    }

    fn rises(&mut self, at_ms: u64, fence: Fence) {
        if fence <= self.highest {
            self.wrong.push(Violation::FenceFell {
                at_ms,
                earlier: self.highest,
                later: fence,
            });
        }
        self.highest = self.highest.max(fence);
    }

    fn looks(&mut self, at_ms: u64, fence: Fence, share: Share) {
        self.rises(at_ms, fence);
        let mut acting = self.open.iter();
        let acts = |g: &Grant| g.live && g.scope.conflicts(&share.scope);
        if let Some((earlier, _)) = acting.find(|(_, g)| acts(g)) {
            self.wrong.push(Violation::ActedWhileLooking {
                at_ms,
                earlier: *earlier,
                later: fence,
            });
        }
        self.shares.insert(fence, share);
    }

    fn look_ended(&mut self, at_ms: u64, fence: Fence) {
        let Some(share) = self.shares.remove(&fence) else {
            return;
        };
        let after_ms = at_ms.saturating_sub(share.since_ms);
        if !self.given_back.contains(&share.id) && after_ms < share.ttl_ms {
            self.wrong.push(Violation::LookEndedEarly {
                at_ms,
                fence,
                after_ms,
            });
        }
    }

    fn granted(&mut self, at_ms: u64, fence: Fence, scope: &Scope, execution: &ExecutionId) {
        self.rises(at_ms, fence);
        let mut shares = self.shares.iter();
        if let Some((earlier, _)) = shares.find(|(_, s)| s.scope.conflicts(scope)) {
            self.wrong.push(Violation::ActedWhileLooking {
                at_ms,
                earlier: *earlier,
                later: fence,
            });
        }
        if self.frozen {
            self.wrong.push(Violation::StartedFrozen { at_ms, fence });
        }
        let held = self
            .open
            .iter()
            .find(|(_, g)| g.live && g.scope.conflicts(scope));
        if let Some((earlier, _)) = held {
            self.wrong.push(Violation::TwoLeases {
                at_ms,
                earlier: *earlier,
                later: fence,
            });
        }
        // Whoever is granted has just left its place; whoever never waited has none.
        let left = self.left.take().filter(|(e, _)| e == execution);
        let place = left.map_or(u64::MAX, |(_, place)| place);
        let goes_before = |on: &Option<Scope>| on.as_ref().is_none_or(|s| s.conflicts(scope));
        let mut earlier = self.waits.range(..place);
        if let Some((_, (overtaken, _))) = earlier.find(|(_, (_, on))| goes_before(on)) {
            self.wrong.push(Violation::Overtook {
                at_ms,
                fence,
                overtaken: overtaken.clone(),
            });
        }
        if let Some(at_most) = self.at_most {
            let open = self.open.len() as u32 + 1;
            if open > at_most {
                self.wrong.push(Violation::BudgetExceeded {
                    at_ms,
                    fence,
                    open,
                    at_most,
                });
            }
        }
        let grant = Grant {
            scope: scope.clone(),
            execution: execution.clone(),
            live: true,
        };
        self.open.insert(fence, grant);
    }

    fn acted(&mut self, at_ms: u64, execution: &ExecutionId, step: &str, idempotent: bool) {
        let leased = self
            .open
            .values()
            .any(|g| g.live && g.execution == *execution);
        if !leased {
            self.wrong.push(Violation::ActedWithoutLease {
                at_ms,
                execution: execution.clone(),
                step: step.to_owned(),
            });
        }
        let times = self
            .ran
            .entry((execution.clone(), step.to_owned()))
            .or_default();
        *times += 1;
        if *times > 1 && !idempotent {
            self.wrong.push(Violation::RanAgain {
                at_ms,
                execution: execution.clone(),
                step: step.to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
