//! What can be chosen: playbooks as the search sees them, and the entries that stand for "hand it
//! to a person". Made from parsed playbooks, or from the lines of a catalogue file for a replay.

use hale_model::{Direction, PlaybookName, Route};
use hale_playbooks::{Playbook, SeriesPattern};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

/// The largest a playbook's log expression may become when compiled, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 18;

/// One thing that can be chosen.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The playbook's name; `escalate_…` for those that stand for a person.
    pub name: PlaybookName,
    /// Its semantic version.
    pub version: String,
    /// What trouble it is for and what it does.
    pub description: String,
    /// For the lexical search.
    pub tags: Vec<String>,
    /// The services it is for; empty means the host itself or any service.
    pub services: Vec<String>,
    /// Other products: found by it, but then it asks.
    pub aliases: Vec<String>,
    /// Words of trouble that look alike and must not be treated with it.
    pub not_when: Vec<String>,
    /// Series that move in an incident that it fits.
    pub series: Vec<SeriesPattern>,
    /// Log lines of an incident that it fits.
    pub logs: Vec<Regex>,
    /// Whether it may run again without harm.
    pub idempotent: bool,
    /// The most it may do unattended.
    pub max_route: Route,
    /// Whether the host can be asked whether it fits, and could run there at all.
    pub has_probes: bool,
    /// Whether it stands for "hand it to a person".
    pub is_person: bool,
}

/// A line of a catalogue file (the bench's format).
#[derive(Debug, Clone, Deserialize)]
pub struct CatalogueLine {
    /// The name.
    pub playbook: String,
    /// The services it is for.
    #[serde(default)]
    pub services: Vec<String>,
    /// Globs over metric names.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// What it is for and what it does.
    pub description: String,
}

impl From<&Playbook> for Entry {
    fn from(p: &Playbook) -> Self {
        let regex = |text: &String| {
            let built = RegexBuilder::new(text)
                .case_insensitive(true)
                .size_limit(MAX_REGEX_BYTES)
                .build();
            // Lint refuses such expressions; one that slips through only loses its evidence.
            built
                .inspect_err(|e| tracing::warn!(playbook = %p.name, "log expression left out: {e}"))
                .ok()
        };
        Self {
            name: p.name.clone(),
            version: p.version.clone(),
            description: p.description.clone(),
            tags: p.tags.clone(),
            services: p.services.clone(),
            aliases: p.aliases.clone(),
            not_when: p.not_when.clone(),
            series: p.signature.series.clone(),
            logs: p.signature.logs.iter().filter_map(regex).collect(),
            idempotent: p.idempotent,
            max_route: p.max_route,
            has_probes: true,
            is_person: false,
        }
    }
}

impl Entry {
    /// From a line of a catalogue file. `None` if its name is no playbook name.
    pub fn of_line(line: CatalogueLine) -> Option<Self> {
        let series = line.metrics.into_iter();
        let series = series.map(|metric| SeriesPattern {
            metric,
            direction: None,
        });
        Some(Self {
            series: series.collect(),
            services: line.services,
            ..Self::plain(PlaybookName::new(line.playbook).ok()?, line.description)
        })
    }

    fn plain(name: PlaybookName, description: String) -> Self {
        Self {
            name,
            version: "0.0.0".into(),
            description,
            tags: vec![],
            services: vec![],
            aliases: vec![],
            not_when: vec![],
            series: vec![],
            logs: vec![],
            idempotent: true,
            max_route: Route::Execute,
            has_probes: false,
            is_person: false,
        }
    }

    /// What the lexical search reads.
    pub fn lexical_text(&self) -> String {
        let mut text = format!(
            "{} {}",
            self.name.as_str().replace('_', " "),
            self.description
        );
        for part in self.tags.iter().chain(&self.services) {
            text.push(' ');
            text.push_str(part);
        }
        for series in &self.series {
            text.push(' ');
            text.push_str(&crate::words::humanise(&series.metric));
        }
        text
    }

    /// Whether a direction is the one that a pattern asks for.
    pub fn is_direction(pattern: &SeriesPattern, direction: Option<Direction>) -> bool {
        match (pattern.direction, direction) {
            (Some(wanted), Some(seen)) => wanted == seen,
            _ => true,
        }
    }
}

/// Classes of trouble that no playbook should touch: each competes with the playbooks, so that
/// what belongs to a person is recognised instead of being forced onto the nearest playbook.
const PERSONS: &[(&str, &str)] = &[
    (
        "escalate_security_incident",
        "A security incident: malware, a trojan or rootkit was found, files of the system were changed, an attack, threat or intrusion is detected, secrets leaked. A person of the security team has to investigate; nothing is to be restarted or deleted.",
    ),
    (
        "escalate_authentication_failures",
        "Logins or authentications fail: wrong password, access denied, permission denied, expired or revoked credentials, failed login attempts of a user or realm. A person has to check accounts and credentials.",
    ),
    (
        "escalate_data_loss",
        "Data is lost, missing or corrupt: blocks without replica, data parts that exist nowhere, checksum or integrity failures, quorum of storage lost. A person has to decide how to recover data; every automatic action may make it worse.",
    ),
    (
        "escalate_application_defect",
        "The application itself or its data are at fault: a failed constraint, duplicate key, parse or mapping error, null pointer, wrong result, a request that is invalid. A developer has to correct the code or the data.",
    ),
    (
        "escalate_user_report",
        "A user or customer reports wrong content, a wrong price, currency, text or a missing feature. A person has to look into it.",
    ),
    (
        "escalate_business_metric",
        "A business metric such as orders, payments, sign-ups or revenue changed although no infrastructure metric is abnormal and no errors are logged; or a payment partner or third party rejected something. A person has to understand why.",
    ),
    (
        "escalate_version_or_configuration_change",
        "Different versions of a program are running at the same time, plugins or software are outdated, updates are available, the configuration was changed or differs. A person has to plan the upgrade or confirm the change.",
    ),
    (
        "escalate_underutilised",
        "A resource is underutilised or idle: too little CPU, memory, requests or traffic for its size, replicas constantly at the minimum, potential cost saving. A person may reduce capacity; nothing is broken.",
    ),
    (
        "escalate_quota_or_licence",
        "A quota, licence, address range or account limit of a tenant, subnet or cloud provider is nearly used up or expired. A person has to order more.",
    ),
    (
        "escalate_power_or_facility",
        "Power failed: a UPS runs on battery, its battery is low or must be replaced, input voltage, a power supply, a fan or the data centre's cooling failed. A person on site has to act.",
    ),
    (
        "escalate_hardware_fault",
        "Hardware is faulty: machine check exception, memory error reported by EDAC or ECC, kernel panic, PCI or CPU error. A technician has to replace the part.",
    ),
    (
        "escalate_network_device",
        "A switch, router, firewall or other network device is down or unreachable. A network engineer has to look at it.",
    ),
    (
        "escalate_role_change",
        "A role changed: a failover happened, there is no leader or more than one, a member was removed from the replica set, the primary moved. A person has to verify whether it was expected.",
    ),
    (
        "escalate_tuning",
        "A configuration or query could be tuned for speed: low cache hit rate, too many checkpoints, shared buffers too small, missing index, many context switches, unusual rate of operations. A person has to plan the tuning; it is no emergency.",
    ),
    (
        "escalate_scheduling_intent",
        "Something was put aside on purpose: a node is cordoned or marked unschedulable, a job is suspended, a pod runs where it should not, maintenance mode. A person has to confirm what was intended.",
    ),
    (
        "escalate_client_errors",
        "Clients send bad requests: many 4xx responses, not found, too many requests, unusual traffic. A person has to find out who calls and why.",
    ),
    (
        "escalate_no_traffic",
        "Nothing arrives any more: no messages, no logins, no requests or transactions for some time, consumption is unusually low. A person has to find out whether the source or a dependency is silent.",
    ),
    (
        "escalate_audit_failure",
        "Audit records cannot be written or evidence may be incomplete. A person responsible for compliance has to look at once.",
    ),
    (
        "escalate_watchdog",
        "A test alert or watchdog that is always firing to show that alerting works, or information that needs no action.",
    ),
];

/// The entries that stand for a person.
pub fn persons() -> Vec<Entry> {
    let named = PERSONS
        .iter()
        .filter_map(|(name, d)| Some((PlaybookName::new(*name).ok()?, d)));
    named
        .map(|(name, d)| Entry {
            is_person: true,
            max_route: Route::Escalate,
            ..Entry::plain(name, (*d).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_never_a_playbook() {
        let persons = persons();
        assert_eq!(persons.len(), PERSONS.len());
        assert!(
            persons
                .iter()
                .all(|e| e.is_person && e.name.as_str().starts_with("escalate_"))
        );
    }

    #[test]
    fn a_line_with_an_impossible_name_is_no_entry() {
        let line = |name: &str| CatalogueLine {
            playbook: name.into(),
            services: vec![],
            metrics: vec!["pg_*".into()],
            description: "d".into(),
        };
        assert!(Entry::of_line(line("a b")).is_none());
        assert_eq!(Entry::of_line(line("ok")).unwrap().series.len(), 1);
    }
}
