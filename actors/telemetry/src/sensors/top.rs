//! Answers who takes the most of what is short, from what the sensors know and from a walk.

use super::walk::{Budget, walk};
use super::{Evidence, Holders, lock};
use crate::consumers::{self, ConsumersQuery, MAX_CONSUMERS};
use hale_model::{Consumer, ServiceName};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const BUDGET: Budget = Budget {
    entries: 200_000,
    time: Duration::from_secs(2),
};
/// Where things usually grow, looked at before the rest of a file system.
const USUAL: [&str; 9] = [
    "/var/log",
    "/tmp",
    "/var/tmp",
    "/var/lib/postgresql",
    "/var/lib/docker/containers",
    "/var/spool",
    "/var/cache",
    "/var/lib",
    "/home",
];

/// The largest consumers, largest first. An unknown resource has none.
pub async fn answer(evidence: Arc<Evidence>, query: ConsumersQuery) -> Vec<Consumer> {
    let limit = query.limit.min(MAX_CONSUMERS);
    let first = |all: &[Consumer]| all.iter().take(limit).cloned().collect();
    match query.resource.as_str() {
        "cpu" => first(&lock(&evidence.cpu)),
        "memory" => first(&lock(&evidence.memory)),
        "connections" => connections(&evidence, &query, limit),
        "disk" => {
            let roots = roots(&evidence, &query);
            let walked = tokio::task::spawn_blocking(move || walk(&roots, BUDGET)).await;
            walked.map_or_else(
                |_| Vec::new(),
                |w| consumers::of_directories(w.directories, limit),
            )
        }
        _ => Vec::new(),
    }
}

fn connections(evidence: &Evidence, query: &ConsumersQuery, limit: usize) -> Vec<Consumer> {
    let known = lock(&evidence.connections);
    let of = |service: Option<&ServiceName>| -> Vec<Consumer> {
        let is_asked = |h: &&Holders| service.is_none() || h.service.as_ref() == service;
        let servers = known.values().filter(is_asked);
        servers.flat_map(|h| h.consumers.clone()).collect()
    };
    let mut all = of(query.service.as_ref());
    if all.is_empty() {
        // The incident's service may be the client of the database.
        all = of(None);
    }
    all.sort_by(|a, b| b.amount.total_cmp(&a.amount));
    all.truncate(limit);
    all
}

/// Where to look: directories known to grow come first, in case the budget ends early.
fn roots(evidence: &Evidence, query: &ConsumersQuery) -> Vec<PathBuf> {
    let known = lock(&evidence.directories);
    let Some(within) = query.within.as_deref().map(Path::new) else {
        // Nothing said where: of the service's own directories, or else of all that are known.
        let own = known
            .iter()
            .filter(|(_, s)| query.service.is_some() && **s == query.service);
        let own: Vec<PathBuf> = own.map(|(path, _)| path.clone()).collect();
        return if own.is_empty() {
            known.keys().cloned().collect()
        } else {
            own
        };
    };
    let usual = USUAL.iter().map(PathBuf::from);
    let mut roots: Vec<PathBuf> = known.keys().cloned().chain(usual).collect();
    roots.retain(|path| path.starts_with(within) && same_file_system(path, within));
    roots.push(within.to_owned());
    roots
}

fn same_file_system(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |p: &Path| std::fs::symlink_metadata(p).map(|m| m.dev()).ok();
    device(a).is_some() && device(a) == device(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_runaway_log_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("scratch")).unwrap();
        std::fs::write(root.path().join("scratch/run.log"), vec![b'x'; 2 << 20]).unwrap();
        std::fs::write(root.path().join("other"), "x").unwrap();
        let query = ConsumersQuery {
            resource: "disk".into(),
            within: Some(root.path().to_string_lossy().into_owned()),
            service: None,
            limit: 3,
        };
        let top = answer(Arc::new(Evidence::default()), query).await;
        assert!(top[0].text.starts_with("run.log 2.1 MB under "), "{top:?}");
    }

    #[tokio::test]
    async fn connections_are_those_of_the_service_that_is_asked_for() {
        let evidence = Arc::new(Evidence::default());
        for (service, n) in [("orders", 5.0), ("users", 9.0)] {
            let holders = Holders {
                service: ServiceName::new(service).ok(),
                consumers: vec![consumers::of_connections("app", "idle", n)],
            };
            lock(&evidence.connections).insert(service.into(), holders);
        }
        let ask = |service: &str| ConsumersQuery {
            resource: "connections".into(),
            within: None,
            service: ServiceName::new(service).ok(),
            limit: 1,
        };
        assert_eq!(
            answer(Arc::clone(&evidence), ask("orders")).await[0].amount,
            5.0
        );
        assert_eq!(answer(evidence, ask("elsewhere")).await[0].amount, 9.0);
    }
}
