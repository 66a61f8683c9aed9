//! The kernel's messages from /dev/kmsg: OOM kills, disk errors, hung tasks.

use super::{Found, blocking, event};
use crate::config::ServiceConfig;
use crate::severity::syslog_level;
use hale_model::{EventSource, Level, ServiceName, Timestamp};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The most records read in one round; the kernel keeps more than that only in a flood.
const MAX_RECORDS: usize = 1_000;
/// What is told whatever level the kernel gave it.
const GRAVE: [&str; 9] = [
    "Out of memory",
    "out of memory",
    "oom-kill",
    "I/O error",
    "EXT4-fs error",
    "Remounting filesystem read-only",
    "blocked for more than",
    "Link is Down",
    "soft lockup",
];

/// The kernel's log.
#[derive(Debug)]
pub struct Kernel {
    log: Arc<Mutex<Option<File>>>,
    services: Vec<ServiceConfig>,
}

impl Kernel {
    /// Listens from now on. A host (or container) where /dev/kmsg may not be read tells nothing.
    pub fn new(services: Vec<ServiceConfig>) -> Self {
        let log = open(Path::new("/dev/kmsg")).inspect_err(
            |e| tracing::info!(error = %e, "the kernel's messages can't be read here"),
        );
        Self {
            log: Arc::new(Mutex::new(log.ok())),
            services,
        }
    }

    /// What the kernel said since the last round.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        let lines = blocking(&self.log, |log| log.as_mut().map(drain).unwrap_or_default()).await;
        let mut found = Found::default();
        for (level, message) in lines.unwrap_or_default() {
            let service = victim(&message, &self.services);
            let mut told = event(at, EventSource::Kernel, service, level, &message, "kernel");
            match found
                .events
                .iter_mut()
                .find(|e| e.template == told.template && e.service == told.service)
            {
                Some(same) => same.count += 1,
                None => {
                    told.level = level;
                    found.events.push(told);
                }
            }
        }
        found
    }
}

fn open(path: &Path) -> io::Result<File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

/// One record a read; EPIPE says that some were overwritten before we came.
fn drain(log: &mut File) -> Vec<(Level, String)> {
    let mut out = Vec::new();
    let mut buffer = [0; 8_192];
    for _ in 0..MAX_RECORDS {
        match log.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => out.extend(record(&String::from_utf8_lossy(&buffer[..n]))),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => break,
        }
    }
    out
}

/// `priority,sequence,microseconds,flags;message`, if it is the kernel's own and grave.
pub(crate) fn record(text: &str) -> Option<(Level, String)> {
    let (head, message) = text.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    // The facility: 0 is the kernel, others are programs that write to /dev/kmsg.
    if priority >> 3 != 0 {
        return None;
    }
    let message = message.lines().next()?.trim();
    let grave = GRAVE.iter().any(|g| message.contains(g));
    let level = syslog_level(priority);
    let level = if grave {
        level.max(Level::Error)
    } else {
        level
    };
    (level >= Level::Error && !message.is_empty()).then(|| (level, message.to_owned()))
}

/// The service of a process that the OOM killer took: `Killed process 4711 (postgres)`.
pub(crate) fn victim<'a>(message: &str, services: &'a [ServiceConfig]) -> Option<&'a ServiceName> {
    let (_, rest) = message.split_once("Killed process ")?;
    let (_, rest) = rest.split_once('(')?;
    let (name, _) = rest.split_once(')')?;
    let of = services
        .iter()
        .find(|s| s.processes.iter().any(|p| p == name));
    of.map(|s| &s.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oom_kill_is_told_with_the_service_it_hit() {
        let text = "3,812,5140900,-;Out of memory: Killed process 4711 (postgres) total-vm:1kB\n SUBSYSTEM=x";
        let (level, message) = record(text).unwrap();
        assert_eq!(level, Level::Error);
        let services = [ServiceConfig {
            name: ServiceName::new("postgresql").unwrap(),
            processes: vec!["postgres".into()],
            unit: None,
        }];
        assert_eq!(victim(&message, &services), Some(&services[0].name));
    }

    #[test]
    fn what_is_not_grave_or_not_the_kernels_is_left_out() {
        assert_eq!(record("6,1,2,-;eth0: renamed"), None);
        assert_eq!(record("11,1,2,-;systemd[1]: failed"), None);
        assert_eq!(record("garbage"), None);
        assert!(record("6,1,2,-;eth0: NIC Link is Down").is_some());
    }

    #[tokio::test]
    async fn a_host_without_kernel_messages_tells_nothing() {
        let mut kernel = Kernel {
            log: Arc::new(Mutex::new(None)),
            services: Vec::new(),
        };
        assert!(kernel.read(Timestamp::from_secs(1)).await.events.is_empty());
    }
}
