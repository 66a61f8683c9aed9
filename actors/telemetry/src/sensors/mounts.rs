//! Disk usage and inodes of each mounted file system. One that hangs (a dead NFS server, a
//! frozen disk) is left alone and never holds up the others.

use super::{Found, event};
use hale_model::{EventSource, Harm, Level, Sample, SeriesKey, Timestamp};
use procfs::FromRead;
use procfs::process::MountInfos;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a file system may take to answer. A healthy one takes microseconds.
const PATIENCE: Duration = Duration::from_millis(500);
/// The most file systems told of.
const MAX_MOUNTS: usize = 64;
/// File systems that hold no files of anybody, or that are full by nature.
const PSEUDO: [&str; 27] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rootfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "fuse.lxcfs",
    "fuse.gvfsd-fuse",
];

/// The host's file systems.
#[derive(Debug, Default)]
pub struct Mounts {
    asked: BTreeMap<String, JoinHandle<Option<Usage>>>,
    writable: BTreeSet<String>,
    stuck: BTreeSet<String>,
}

/// A file system's answer, in blocks and inodes.
#[derive(Debug)]
struct Usage {
    block_bytes: f64,
    used: u64,
    /// What anybody may still use, root's reserve left out.
    free: u64,
    inodes: u64,
    inodes_free: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    point: String,
    read_only: bool,
}

impl Mounts {
    /// Asks every file system how full it is, all at once.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        let mut found = Found::default();
        let mounts = tokio::task::spawn_blocking(list).await.unwrap_or_default();
        self.asked.retain(|_, asked| !asked.is_finished());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for mount in &mounts {
            self.tell_read_only(mount, at, &mut found);
            if !self.asked.contains_key(&mount.point) {
                let path = PathBuf::from(&mount.point);
                let ask = tokio::task::spawn_blocking(move || usage(&path));
                self.asked.insert(mount.point.clone(), ask);
            }
        }
        for mount in &mounts {
            if self.hidden(mount) {
                continue;
            }
            let Some(asked) = self.asked.get_mut(&mount.point) else {
                continue;
            };
            match tokio::time::timeout_at(deadline, asked).await {
                Ok(answer) => {
                    self.asked.remove(&mount.point);
                    self.stuck.remove(&mount.point);
                    if let Ok(Some(usage)) = answer {
                        found.samples.extend(samples(&mount.point, &usage));
                    }
                }
                // Its thread waits on; nobody asks again until it has come back.
                Err(_) => {
                    if self.stuck.insert(mount.point.clone()) {
                        let message = format!("the file system at {} does not answer", mount.point);
                        found.events.push(told(at, &message, &mount.point));
                    }
                }
            }
        }
        found
    }

    /// Read-only from the start: an image, which is as full as it is.
    fn hidden(&self, mount: &Mount) -> bool {
        mount.read_only && !self.writable.contains(&mount.point)
    }

    /// Tells of one that was writable and is no longer: the kernel does that after an I/O error.
    fn tell_read_only(&mut self, mount: &Mount, at: Timestamp, found: &mut Found) {
        if !mount.read_only {
            self.writable.insert(mount.point.clone());
        } else if self.writable.contains(&mount.point) {
            let message = format!("the file system at {} has become read-only", mount.point);
            found.events.push(told(at, &message, &mount.point));
        }
    }
}

fn told(at: Timestamp, message: &str, origin: &str) -> hale_model::Event {
    event(
        at,
        EventSource::Sensor,
        None,
        Level::Critical,
        message,
        origin,
    )
}

/// Each file system once, at the mount point that was mounted first.
fn list() -> Vec<Mount> {
    let Ok(MountInfos(infos)) = MountInfos::from_file("/proc/self/mountinfo") else {
        return Vec::new();
    };
    let mut devices = BTreeSet::new();
    let mut mounts = Vec::new();
    for info in infos {
        let point = info.mount_point.to_string_lossy().into_owned();
        // A container's root is an overlay; others are the inside of this host's containers.
        let inside = info.fs_type == "overlay" && point != "/";
        let kernels = point.starts_with("/sys/") || point.starts_with("/proc/");
        if PSEUDO.contains(&info.fs_type.as_str()) || inside || kernels {
            continue;
        }
        if devices.insert(info.majmin) && mounts.len() < MAX_MOUNTS {
            let read_only =
                info.mount_options.contains_key("ro") || info.super_options.contains_key("ro");
            mounts.push(Mount { point, read_only });
        }
    }
    mounts
}

fn usage(path: &Path) -> Option<Usage> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let block = if stat.f_frsize > 0 {
        stat.f_frsize
    } else {
        stat.f_bsize
    };
    Some(Usage {
        block_bytes: block as f64,
        used: stat.f_blocks.saturating_sub(stat.f_bfree),
        free: stat.f_bavail,
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
    })
}

/// Percent as `df` shows them: of what anybody may use.
fn samples(point: &str, usage: &Usage) -> Vec<Sample> {
    let series = |name: &str| SeriesKey::new(format!("system.{name}")).with("mount", point);
    let (used, free) = (usage.used as f64, usage.free as f64);
    let mut out = Vec::new();
    if used + free > 0.0 {
        let percent = 100.0 * used / (used + free);
        out.push(Sample::percent(series("disk_usage_percent"), percent));
        let free_bytes = Sample::gauge(series("disk_free_bytes"), free * usage.block_bytes);
        out.push(
            free_bytes
                .up_to((used + free) * usage.block_bytes)
                .harm(Harm::Low),
        );
    }
    if usage.inodes > 0 {
        let used = usage.inodes.saturating_sub(usage.inodes_free) as f64;
        let percent = 100.0 * used / usage.inodes as f64;
        out.push(Sample::percent(series("disk_inodes_percent"), percent));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn a_file_system_that_hangs_is_told_once_and_holds_up_nobody() {
        let mut mounts = Mounts::default();
        let root = list().into_iter().find(|m| m.point == "/").map(|m| m.point);
        let Some(root) = root else {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: no root file system to be seen here"
            );
            return;
        };
        // A question that never comes back stands in for a frozen disk.
        let hang = tokio::spawn(std::future::pending::<Option<Usage>>());
        mounts.asked.insert(root.clone(), hang);
        let first = mounts.read(Timestamp::from_secs(1)).await;
        assert!(
            first
                .events
                .iter()
                .any(|e| e.message.contains("does not answer"))
        );
        let second = mounts.read(Timestamp::from_secs(2)).await;
        assert!(second.events.is_empty());
        let told = |f: &Found| {
            f.samples
                .iter()
                .any(|s| s.series.labels.get("mount") == Some(&root))
        };
        assert!(!told(&first) && !told(&second));
        if let Some(asked) = mounts.asked.get(&root) {
            asked.abort();
        }
    }

    #[test]
    fn a_file_system_that_turns_read_only_is_told() {
        let mut mounts = Mounts::default();
        let mut found = Found::default();
        let mut mount = Mount {
            point: "/data".into(),
            read_only: false,
        };
        mounts.tell_read_only(&mount, Timestamp::from_secs(1), &mut found);
        assert!(found.events.is_empty());
        mount.read_only = true;
        mounts.tell_read_only(&mount, Timestamp::from_secs(2), &mut found);
        assert_eq!(
            found.events[0].message,
            "the file system at /data has become read-only"
        );
        assert!(!mounts.hidden(&mount));
    }
}
