//! What the ledger keeps beside leases: join tokens, budgets, and who waits for a lease.

use super::Scope;
use crate::crypto::{Digest, NodeId};
use crate::id::{ExecutionId, ServiceName, TokenId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A join token as the ledger knows it. Its secret is nowhere but with whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// The hash of its secret.
    pub verifier: Digest,
    /// How many nodes may still join with it.
    pub uses_left: u32,
    /// How many could in all.
    pub uses: u32,
    /// For how long, in milliseconds, by the leader's clock.
    pub ttl_ms: u64,
    /// Who made it.
    pub by: String,
    /// When it ends by its maker's wall clock, in milliseconds since the epoch: shown, and checked
    /// outside the ledger.
    pub expires_at_ms: i64,
    /// Whether it may be used. False once expired or revoked; one that is used up stays live, so
    /// that a replay is told apart.
    pub live: bool,
}

/// A bound on how much is done at once or within an hour, over the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// What it is called.
    pub name: String,
    /// Which executions count: those for this service, or every one.
    pub service: Option<ServiceName>,
    /// How much.
    pub limit: BudgetLimit,
}

impl Budget {
    /// Whether an execution for this service counts.
    pub fn covers(&self, service: Option<&ServiceName>) -> bool {
        self.service.is_none() || self.service.as_ref() == service
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.limit {
            BudgetLimit::AtMost(n) => write!(f, "at most {n} at once")?,
            BudgetLimit::Percent(p) => write!(f, "at most {p} % of the hosts at once")?,
            BudgetLimit::PerHour(n) => write!(f, "at most {n} an hour")?,
        }
        match &self.service {
            Some(service) => write!(f, " of {service}"),
            None => Ok(()),
        }
    }
}

/// How much a budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetLimit {
    /// So many at once.
    AtMost(u32),
    /// This share of the hosts that run the service at once, in percent; at least one.
    Percent(u8),
    /// So many within an hour.
    PerHour(u32),
}

/// An execution that asked for a lease and waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its number in the line: whoever asked first has the smaller one.
    pub place: u64,
    /// Which execution.
    pub execution: ExecutionId,
    /// Whose.
    pub holder: NodeId,
    /// What it asks for.
    pub scope: Scope,
    /// For which service.
    pub service: Option<ServiceName>,
    /// The log index of its last question.
    pub generation: u64,
    /// What keeps it.
    pub waits_for: WaitsFor,
}

/// What an execution waits for, and so whom it goes before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Its scope.
    Scope,
    /// These budgets, by name.
    Budgets(Vec<String>),
}
