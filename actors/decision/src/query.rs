//! An incident as the search sees it: the text that is embedded, and beside it, never in it, the
//! exact signals.

use crate::products::{self, Product};
use hale_model::{Direction, Severity};
use std::collections::BTreeSet;

/// A series that moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Moved {
    /// Its metric's path.
    pub metric: String,
    /// Which way, where that is known.
    pub direction: Option<Direction>,
    /// How grave.
    pub severity: Severity,
}

/// What is asked of the search.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// The alert's words, metric names as words, log lines: this is embedded.
    pub text: String,
    /// The service it is about, or that the host is tagged with.
    pub service: Option<String>,
    /// Whether the service is a fact (the incident is about it), not a tag of the host.
    pub service_is_sure: bool,
    /// The series that moved.
    pub moved: Vec<Moved>,
    /// Log templates and messages.
    pub logs: Vec<String>,
    /// What takes the most of what is short, for people: `WAL files 8.3 GB under pg_wal`.
    pub consumers: Vec<String>,
    /// Whether signals of a real host stand behind it: then evidence is demanded.
    pub is_live: bool,
}

impl Query {
    /// The products that its text and its metrics name.
    pub fn products(&self) -> BTreeSet<Product> {
        let mut found = products::named_in(&self.text);
        for moved in &self.moved {
            found.extend(products::named_in(&moved.metric));
        }
        found
    }

    /// Whether all that moved fell, on metrics of which less is harmless.
    pub fn is_harmless_fall(&self) -> bool {
        let mut directed = self
            .moved
            .iter()
            .filter(|m| m.direction.is_some())
            .peekable();
        directed.peek().is_some()
            && directed.all(|m| m.direction == Some(Direction::Below) && !hurts_when_low(&m.metric))
    }
}

/// Words in the names of metrics of which too little is trouble.
const HURTS_WHEN_LOW: &[&str] = &[
    "up",
    "avail",
    "available",
    "free",
    "hit",
    "hits",
    "ratio",
    "health",
    "healthy",
    "ready",
    "leader",
    "quorum",
    "replicas",
    "members",
    "expiration",
    "expiry",
    "expires",
    "remaining",
    "success",
    "successful",
    "state",
    "status",
    "running",
    "alive",
    "connected",
    "nodes",
    "brokers",
    "sync",
    "synced",
    "active",
    "capacity",
    "left",
    "not",
    "timestamp",
    "throughput",
    "seen",
    "primary",
    "master",
    "slaves",
    "workers",
    "charge",
    "carrier",
    "entropy",
    "idle",
];

fn hurts_when_low(metric: &str) -> bool {
    crate::words::split(metric)
        .iter()
        .any(|w| HURTS_WHEN_LOW.contains(&w.as_str()))
}
