//! Who takes the most of what is short: the question, and how an answer is told.

use hale_model::{Consumer, SeriesKey, ServiceName};

/// The most consumers one answer holds.
pub const MAX_CONSUMERS: usize = 20;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumersQuery {
    /// Of what: `disk`, `memory`, `cpu`, `connections`.
    pub resource: String,
    /// A mount or directory to look in, for `disk`.
    pub within: Option<String>,
    /// The service it is about, for `connections`.
    pub service: Option<ServiceName>,
    /// How many, at most [`MAX_CONSUMERS`].
    pub limit: usize,
}

impl ConsumersQuery {
    /// The question that a series in trouble raises; `None` where no consumer can be named.
    pub fn for_series(series: &SeriesKey, service: Option<&ServiceName>) -> Option<Self> {
        let metric = series.metric.as_str();
        let label = |name: &str| series.labels.get(name).cloned();
        let (resource, within) = if metric.starts_with("system.disk_usage")
            || metric.starts_with("system.disk_free")
            || metric.starts_with("system.disk_inodes")
        {
            ("disk", label("mount"))
        } else if metric.starts_with("disk.directory") {
            ("disk", label("path"))
        } else if metric.starts_with("database.wal") || metric.starts_with("database.archiver") {
            ("disk", None)
        } else if metric.starts_with("database.connections") {
            ("connections", None)
        } else if [
            "system.memory",
            "system.swap",
            "system.psi_memory",
            "process.memory",
        ]
        .iter()
        .any(|p| metric.starts_with(p))
        {
            ("memory", None)
        } else if ["system.cpu", "system.load", "system.psi_cpu", "process.cpu"]
            .iter()
            .any(|p| metric.starts_with(p))
        {
            ("cpu", None)
        } else {
            return None;
        };
        Some(Self {
            resource: resource.to_owned(),
            within,
            service: service.cloned(),
            limit: 5,
        })
    }
}

/// Bytes for people: `8.3 GB`, in powers of ten, as disks are sold and as `df -H` shows them.
pub fn human_bytes(bytes: f64) -> String {
    let mut value = bytes;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" || value >= 100.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// What one directory holds by itself, without the directories in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its path.
    pub path: String,
    /// Bytes its files take on the disk.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// Its largest file's name, and its bytes.
    pub largest: Option<(String, u64)>,
}

/// A directory as a consumer: `WAL files 8.3 GB under pg_wal`, `app.log 3.2 GB under /var/tmp/x`.
pub fn of_directory(directory: &Directory) -> Consumer {
    let name = directory
        .path
        .rsplit('/')
        .find(|p| !p.is_empty())
        .unwrap_or("/");
    let size = human_bytes(directory.bytes as f64);
    let text = match (&directory.largest, name) {
        (_, "pg_wal" | "pg_xlog") => format!("WAL files {size} under {name}"),
        (Some((file, bytes)), _) if *bytes * 2 > directory.bytes => {
            let size = human_bytes(*bytes as f64);
            format!("{file} {size} under {}", directory.path)
        }
        (Some((file, _)), _) if is_log(file) => {
            format!("log files {size} under {}", directory.path)
        }
        _ => format!("{} files {size} under {}", directory.files, directory.path),
    };
    Consumer {
        resource: "disk".to_owned(),
        name: directory.path.clone(),
        amount: directory.bytes as f64,
        unit: "bytes".to_owned(),
        text,
    }
}

/// The largest first, at most `limit`.
pub fn of_directories(mut all: Vec<Directory>, limit: usize) -> Vec<Consumer> {
    all.retain(|d| d.bytes > 0);
    all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    all.truncate(limit.min(MAX_CONSUMERS));
    all.iter().map(of_directory).collect()
}

/// A process as a consumer of memory.
pub fn of_memory(name: &str, pid: i32, bytes: f64) -> Consumer {
    Consumer {
        resource: "memory".to_owned(),
        name: format!("{name}[{pid}]"),
        amount: bytes,
        unit: "bytes".to_owned(),
        text: format!("{name} (pid {pid}) holds {}", human_bytes(bytes)),
    }
}

/// A process as a consumer of CPU, in percent of one core.
pub fn of_cpu(name: &str, pid: i32, percent: f64) -> Consumer {
    Consumer {
        resource: "cpu".to_owned(),
        name: format!("{name}[{pid}]"),
        amount: percent,
        unit: "percent".to_owned(),
        text: format!("{name} (pid {pid}) uses {percent:.0} % of a core"),
    }
}

/// The connections of one application in one state.
pub fn of_connections(application: &str, state: &str, count: f64) -> Consumer {
    let name = if application.is_empty() {
        "(unnamed)"
    } else {
        application
    };
    let state = if state.is_empty() { "unknown" } else { state };
    Consumer {
        resource: "connections".to_owned(),
        name: name.to_owned(),
        amount: count,
        unit: "connections".to_owned(),
        text: format!("{name} holds {count} connections that are {state}"),
    }
}

fn is_log(file: &str) -> bool {
    file.ends_with(".log") || file.contains(".log.") || file.ends_with(".gz")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(path: &str, bytes: u64, largest: (&str, u64)) -> Directory {
        Directory {
            path: path.to_owned(),
            bytes,
            files: 9,
            largest: Some((largest.0.to_owned(), largest.1)),
        }
    }

    #[test]
    fn consumers_are_told_as_people_would() {
        for (d, text) in [
            (
                directory(
                    "/var/lib/postgresql/15/main/pg_wal",
                    8_300_000_000,
                    ("0001", 16 << 20),
                ),
                "WAL files 8.3 GB under pg_wal",
            ),
            (
                directory("/var/tmp/x", 3_300_000_000, ("app.log", 3_200_000_000)),
                "app.log 3.2 GB under /var/tmp/x",
            ),
            (
                directory("/var/log", 900_000, ("syslog.1.gz", 100_000)),
                "log files 900 kB under /var/log",
            ),
            (
                directory("/srv", 999, ("a", 10)),
                "9 files 999 B under /srv",
            ),
        ] {
            assert_eq!(of_directory(&d).text, text);
        }
    }

    #[test]
    fn a_series_in_trouble_raises_the_question_that_fits() {
        let q = |s: &str| {
            let q = ConsumersQuery::for_series(&SeriesKey::parse(s)?, None)?;
            Some((q.resource, q.within))
        };
        let some = |r: &str, w: Option<&str>| Some((r.to_owned(), w.map(str::to_owned)));
        assert_eq!(
            q("system.disk_usage_percent{mount=\"/var\"}"),
            some("disk", Some("/var"))
        );
        assert_eq!(
            q("disk.directory_bytes{path=\"/tmp/x\"}"),
            some("disk", Some("/tmp/x"))
        );
        assert_eq!(
            q("database.connections_utilization"),
            some("connections", None)
        );
        assert_eq!(q("system.memory_percent"), some("memory", None));
        assert_eq!(q("system.load_average_1m"), some("cpu", None));
        assert_eq!(q("custom.x"), None);
    }
}
