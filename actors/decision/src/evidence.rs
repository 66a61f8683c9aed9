//! What the host itself says for a playbook: the series of its signature moved the right way, its
//! log lines appeared, the service is the one it is for, and what is short is taken by what it
//! cleans up. Text may be vague; these are observations.

use crate::catalogue::Entry;
use crate::products;
use crate::query::Query;
use crate::words;
use hale_model::{Finding, Severity};

/// Log-likelihood ratios: how many times likelier, as a power of e, an observation is when the
/// playbook fits than when it does not. Set by judgement, on the careful side (a matched log line
/// 12:1, a moved series 6:1, the service 3:1, a consumer 5:1), until enough verified outcomes are
/// there to fit them.
const LOG: f64 = 2.5;
const SERIES: f64 = 1.8;
const SERVICE: f64 = 1.1;
const CONSUMER: f64 = 1.6;
/// What a probe of the playbook says, found or not: one that all but settles it, and one that does
/// not. What is missing tells more than what is there, since acting on it may do harm.
const STRONG: (f64, f64) = (2.0, -4.0);
const WEAK: (f64, f64) = (0.7, -0.9);
/// All probes together say this much at most.
const PROBES: (f64, f64) = (4.0, -6.0);
/// However many fit, one that all but settles it against the playbook leaves no more than this.
const REFUTED: f64 = -4.0;
/// What can't run here is not chosen, whatever speaks for it.
const RULED_OUT: f64 = -50.0;
/// A further series or line of the same signature adds this share of the first.
const FURTHER: f64 = 0.4;

/// What speaks for one candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evidence {
    /// How many of its series moved the right way, warning or worse.
    pub series: u32,
    /// How many of its log expressions matched.
    pub logs: u32,
    /// The incident is about a service that it is for.
    pub service: bool,
    /// What is short is taken by what it speaks of.
    pub consumer: bool,
    /// How many of its probes found what it is for, and how many did not.
    pub found: u32,
    /// How many did not.
    pub missed: u32,
    /// What the probes say, as a log-likelihood ratio.
    pub probes: f64,
    /// Whether one that all but settles it speaks against it.
    pub is_refuted: bool,
}

impl Evidence {
    /// How many kinds of observation there are; they are told apart because two series of one
    /// service move together, while a series and a log line that agree do so for a reason.
    pub fn kinds(&self) -> u32 {
        let yes = |b: bool| u32::from(b);
        yes(self.series > 0)
            + yes(self.logs > 0)
            + yes(self.service)
            + yes(self.consumer)
            + yes(self.found > 0 && !self.is_refuted)
    }

    /// The sum of the log-likelihood ratios.
    pub fn score(&self) -> f64 {
        let several = |n: u32, weight: f64| match n {
            0 => 0.0,
            n => weight * (1.0 + FURTHER * f64::from(n.min(4) - 1)),
        };
        let one = |b: bool, weight: f64| if b { weight } else { 0.0 };
        several(self.logs, LOG)
            + several(self.series, SERIES)
            + one(self.service, SERVICE)
            + one(self.consumer, CONSUMER)
            + self.probes
    }

    /// Takes in what the probes found.
    pub fn diagnosed(&mut self, findings: &[Finding]) {
        (self.found, self.missed, self.probes, self.is_refuted) = (0, 0, 0.0, false);
        for finding in findings {
            let (fits, not) = if finding.is_strong { STRONG } else { WEAK };
            match finding.found {
                Some(true) => {
                    self.found += 1;
                    self.probes += fits;
                }
                Some(false) => {
                    self.missed += 1;
                    self.probes += not;
                    self.is_refuted |= finding.is_strong;
                }
                None => {}
            }
        }
        let most = if self.is_refuted { REFUTED } else { PROBES.0 };
        self.probes = self.probes.clamp(PROBES.1, most);
        if findings.iter().any(|f| f.rules_out) {
            self.probes = RULED_OUT;
        }
    }
}

/// The evidence for an entry. Only a real host's signals count; a bare text has none.
pub fn of(query: &Query, entry: &Entry) -> Evidence {
    if !query.is_live || entry.is_person {
        return Evidence::default();
    }
    let series = entry.series.iter().filter(|pattern| {
        query.moved.iter().any(|m| {
            m.severity >= Severity::Warning
                && glob_match::glob_match(&pattern.metric, &m.metric)
                && Entry::is_direction(pattern, m.direction)
        })
    });
    let lines = || query.logs.iter().chain(&query.consumers);
    let logs = entry
        .logs
        .iter()
        .filter(|regex| lines().any(|line| regex.is_match(line)));
    let (series, logs) = (count(series), count(logs));
    // A service's name or a consumer is no evidence alone: it only confirms what was observed.
    let is_observed = series + logs > 0;
    Evidence {
        series,
        logs,
        service: is_observed && is_for_service(query, entry),
        consumer: is_observed && is_about_consumer(query, entry),
        ..Evidence::default()
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// A playbook for any service fits every incident of a service, and none of the bare host.
fn is_for_service(query: &Query, entry: &Entry) -> bool {
    let Some(service) = query.service.as_deref().filter(|_| query.service_is_sure) else {
        return false;
    };
    let product = products::of_service(service);
    let is_it = |s: &String| {
        s.eq_ignore_ascii_case(service) || (product.is_some() && products::of_service(s) == product)
    };
    entry.services.is_empty() || entry.services.iter().any(is_it)
}

/// Words of consumers that name the measure, not the thing.
const MEASURES: &[&str] = &[
    "file",
    "under",
    "process",
    "proces",
    "cpu",
    "memory",
    "memori",
    "disk",
    "byt",
    "kb",
    "mb",
    "gb",
    "tb",
    "percent",
    "connection",
    "system",
    "use",
    "var",
    "lib",
    "tmp",
    "usr",
    "opt",
    "srv",
    "home",
    "data",
];

fn is_about_consumer(query: &Query, entry: &Entry) -> bool {
    if query.consumers.is_empty() {
        return false;
    }
    let of_entry = words::terms(&entry.lexical_text());
    let mut of_consumers = query.consumers.iter().flat_map(|c| words::terms(c));
    of_consumers.any(|term| !MEASURES.contains(&term.as_str()) && of_entry.contains(&term))
}
