//! Grants that no run closes. A question to the ledger can reach it late, or a second time, after
//! the run that asked has ended without a grant; what it is granted then would stay open, and its
//! scope would be kept from others until it expires. So the node listens for what it is granted and
//! closes what none of its runs will.

use hale_model::ExecutionId;
use hale_model::ledger::Lease;
use std::collections::{BTreeMap, VecDeque};

/// So many ended runs are remembered: the news of a grant can come after its run has closed it.
const MAX_ENDED: usize = 256;

/// What was heard of this node's grants.
#[derive(Debug, Default)]
pub struct Grants {
    /// Of runs that are under way.
    open: BTreeMap<ExecutionId, Lease>,
    /// Runs that have closed their grant.
    ended: VecDeque<ExecutionId>,
}

impl Grants {
    /// The ledger granted this node a lease. It is given back if no run will close it; `runs` says
    /// whether its run is under way.
    pub fn granted(&mut self, lease: Lease, runs: bool) -> Option<Lease> {
        if self.ended.contains(&lease.execution) {
            return None;
        }
        if runs {
            self.open.insert(lease.execution.clone(), lease);
            return None;
        }
        self.remember(lease.execution.clone());
        Some(lease)
    }

    /// A run ended, and has closed its grant or knew of none: gives the grant back that it did not
    /// know of.
    pub fn ended(&mut self, execution: &ExecutionId, has_closed: bool) -> Option<Lease> {
        let heard = self.open.remove(execution);
        if has_closed || heard.is_some() {
            self.remember(execution.clone());
        }
        heard.filter(|_| !has_closed)
    }

    /// All that was heard while it was not known yet which runs are under way.
    pub fn take(&mut self) -> Vec<Lease> {
        std::mem::take(&mut self.open).into_values().collect()
    }

    fn remember(&mut self, execution: ExecutionId) {
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(execution);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::ledger::Scope;
    use hale_model::{Digest, Fence, HostName, Keypair, PlaybookName, Timestamp};

    fn lease(n: u32) -> Lease {
        Lease {
            fence: Fence(n.into()),
            scope: Scope::Host(HostName::new("h").unwrap()),
            holder: Keypair::from_seed(&[1; 32]).node_id(),
            ttl_ms: 1000,
            generation: 0,
            execution: ExecutionId::at(Timestamp::from_secs(0), n),
            plan_digest: Digest::ZERO,
            playbook: PlaybookName::new("p").unwrap(),
            service: None,
            live: true,
        }
    }

    #[test]
    fn a_grant_whose_run_has_ended_is_given_back_once() {
        let mut grants = Grants::default();
        assert_eq!(grants.granted(lease(1), false), Some(lease(1)));
        assert_eq!(grants.granted(lease(1), false), None);
    }

    #[test]
    fn a_run_that_ends_without_the_grant_it_was_given_gives_it_back() {
        let mut grants = Grants::default();
        assert_eq!(grants.granted(lease(1), true), None);
        assert_eq!(grants.ended(&lease(1).execution, false), Some(lease(1)));
        assert_eq!(grants.ended(&lease(1).execution, false), None);
        assert_eq!(grants.granted(lease(1), false), None);
    }

    #[test]
    fn news_of_a_grant_that_its_run_has_closed_is_no_news() {
        let mut grants = Grants::default();
        grants.granted(lease(1), true);
        assert_eq!(grants.ended(&lease(1).execution, true), None);
        assert_eq!(grants.ended(&lease(2).execution, true), None);
        for n in [1, 2] {
            assert_eq!(grants.granted(lease(n), false), None);
        }
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut grants = Grants::default();
        for n in 0..1000 {
            grants.ended(&lease(n).execution, true);
        }
        assert_eq!(grants.ended.len(), MAX_ENDED);
    }
}
