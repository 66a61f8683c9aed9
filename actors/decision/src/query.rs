//! An incident as the search sees it: the text that is embedded, and beside it, never in it, the
//! exact signals.

use crate::products::{self, Product};
use crate::words;
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

    /// The first words that tell of harm which acting could make worse, if there are any.
    pub fn danger(&self) -> Option<&'static str> {
        let mut terms = words::split(&self.text);
        for line in &self.logs {
            terms.extend(words::split(line));
        }
        let has = |phrase: &&&str| {
            let phrase: Vec<&str> = phrase.split(' ').collect();
            terms
                .windows(phrase.len())
                .any(|w| w.iter().zip(&phrase).all(|(w, p)| w.starts_with(p)))
        };
        DANGERS.iter().find(has).copied()
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

/// Beginnings of words, one after the other, that tell of lost or damaged data, of an attacker, of a
/// person's intent, or of no trouble at all: whatever fits as well, a human is asked first.
const DANGERS: &[&str] = &[
    "data loss",
    "data lost",
    "lost data",
    "permanent",
    "unrecoverable",
    "irrecoverable",
    "lost quorum",
    "quorum lost",
    "quorum loss",
    "no quorum",
    "missing block",
    "incomplete",
    "inconsisten",
    "corrupt",
    "checksum",
    "split brain",
    "too many leader",
    "multiple leader",
    "multiple primar",
    "two primar",
    "force recover",
    "forced recover",
    "revoked",
    "compromis",
    "intrusion",
    "malware",
    "trojan",
    "rootkit",
    "ransom",
    "brute force",
    "unauthori",
    "tamper",
    "vulnerab",
    "exploit",
    "under utili",
    "underutili",
    "overprovision",
    "cost saving",
    "by design",
    "on purpose",
    "intentional",
    "maintenance",
    "unschedulable",
    "cordon",
    "deprecat",
    "out of date",
    "outdated",
    "license",
    "licence",
    "quota",
    "removed from",
    "decommission",
    "machine check",
    "hardware error",
    "always firing",
    "drop table",
    "truncate table",
];

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
    words::split(metric)
        .iter()
        .any(|w| HURTS_WHEN_LOW.contains(&w.as_str()))
}
