//! Whom a signal is about: a service, or a resource of the host.

use crate::words;
use hale_model::{Event, EventSource, Incident, Reading, ServiceName};
use serde::{Deserialize, Serialize};

/// Whom an incident is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject {
    /// A service.
    Service(ServiceName),
    /// A resource of the host: `cpu`, `memory`, `disk /var`.
    Host(String),
}

/// Which words in a metric's name say which resource; the first that is found decides.
const RESOURCES: &[(&str, &[&str])] = &[
    ("memory", &["memory", "swap", "oom", "hugepages"]),
    ("io", &["io", "disk_read", "disk_write", "iowait", "await"]),
    ("disk", &["disk", "inodes", "filesystem", "mount"]),
    (
        "network",
        &["network", "interface", "tcp", "udp", "conntrack", "link"],
    ),
    ("cpu", &["cpu", "load", "context", "runnable"]),
    (
        "processes",
        &[
            "zombies",
            "count",
            "processes",
            "pids",
            "threads",
            "fds",
            "descriptors",
            "open",
        ],
    ),
];

/// What a service's own signals speak of when a host's resource is part of its trouble.
const TOLD_OF: &[(&str, &[&str])] = &[
    (
        "disk",
        &[
            "disk",
            "space",
            "wal",
            "archive",
            "archiver",
            "segment",
            "volume",
            "filesystem",
            "quota",
        ],
    ),
    ("memory", &["memory", "oom", "heap", "swap", "killed"]),
    ("io", &["io", "fsync", "checkpoint", "slow", "disk"]),
    (
        "network",
        &[
            "network",
            "unreachable",
            "reset",
            "packet",
            "retransmit",
            "interface",
        ],
    ),
    ("cpu", &["cpu", "load", "throttled"]),
    (
        "processes",
        &["zombie", "descriptor", "files", "pid", "fork", "thread"],
    ),
];

impl Subject {
    pub(super) fn of_series(reading: &Reading) -> Self {
        if let Some(service) = &reading.service {
            return Self::Service(service.clone());
        }
        let (group, name) = reading
            .series
            .metric
            .split_once('.')
            .unwrap_or(("", &reading.series.metric));
        let label = |name: &str| {
            reading
                .series
                .labels
                .get(name)
                .map(|l| format!(" {l}"))
                .unwrap_or_default()
        };
        let words = words::split(name);
        let is =
            |resource: &&(&str, &[&str])| words.iter().any(|w| resource.1.contains(&w.as_str()));
        let resource = match group {
            "system" | "process" => RESOURCES.iter().find(is).map(|r| r.0),
            _ => None,
        };
        Self::Host(match resource {
            Some("disk") => format!("disk{}", label("mount")),
            Some("network") => format!("network{}", label("interface")),
            Some(resource) => resource.to_owned(),
            None if group == "disk" => format!("disk{}", label("path")),
            // As its event is told: by the check's own name.
            None if group == "check" => label("check").trim_start().to_owned(),
            None if group == "health" => format!("health{}", label("check")),
            None => format!("{group} {name}"),
        })
    }

    pub(super) fn of_event(event: &Event) -> Self {
        if let Some(service) = &event.service {
            return Self::Service(service.clone());
        }
        let words = words::split(&event.template);
        let is =
            |resource: &&(&str, &[&str])| words.iter().any(|w| resource.1.contains(&w.as_str()));
        match event.source {
            EventSource::Kernel => {
                let resource = TOLD_OF.iter().find(is).map_or("kernel", |r| r.0);
                Self::Host(resource.to_owned())
            }
            // A unit or a check is told by its name, a log by its file.
            _ => Self::Host(event.origin.clone()),
        }
    }

    pub(super) fn is_service(&self) -> bool {
        matches!(self, Self::Service(_))
    }

    pub(super) fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Service(service) => Some(service),
            Self::Host(_) => None,
        }
    }

    /// Whether two are the same, or places of which one lies in the other: a directory and the file
    /// system that it fills.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        let place = |subject: &Self| match subject {
            Self::Host(resource) => resource
                .strip_prefix("disk /")
                .map(|p| format!("/{p}/").replace("//", "/")),
            Self::Service(_) => None,
        };
        self == other
            || place(self).zip(place(other)).is_some_and(|(a, b)| {
                a != "/" && b != "/" && (a.starts_with(&b) || b.starts_with(&a))
            })
    }

    /// As a text that tells it apart from every other.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Service(service) => format!("service {service}"),
            Self::Host(resource) => format!("host {resource}"),
        }
    }

    /// Whether a service's incident speaks of this resource of the host: a full disk belongs to a
    /// database whose WAL grows, a busy CPU does not.
    pub(super) fn is_told_of_in(&self, incident: &Incident) -> bool {
        let Self::Host(resource) = self else {
            return false;
        };
        let kind = resource.split(' ').next().unwrap_or_default();
        let Some((_, told)) = TOLD_OF.iter().find(|(name, _)| *name == kind) else {
            return false;
        };
        let metrics = incident
            .anomalies
            .iter()
            .filter(|a| a.reading.service.is_some());
        let metrics = metrics.flat_map(|a| words::split(&a.reading.series.metric));
        let lines = incident
            .events
            .iter()
            .flat_map(|e| words::split(&e.template));
        metrics
            .chain(lines)
            .any(|word| told.contains(&word.as_str()))
    }
}
