//! A host of the gallery: a container with systemd and a network of its own. It is gone when its
//! value is dropped.

use super::stop;
use hale_tests::{Guarded, Scratch};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long a host may take to boot, on a busy machine.
const BOOT: Duration = Duration::from_secs(60);
/// How long a control group may take until it is empty.
const EMPTY: Duration = Duration::from_secs(10);
const CGROUPS: &str = "/sys/fs/cgroup";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every host is made from.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The root file system below the throw-away layer.
    pub(crate) image: PathBuf,
    /// The program under test.
    pub(crate) hale: PathBuf,
    /// Playbooks that come before those in the program.
    pub(crate) library: Option<PathBuf>,
}

/// A running host.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
    leader: u32,
    // Ended before the directory goes.
    container: Guarded,
    scratch: Scratch,
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output and standard error.
    pub(crate) said: String,
}

impl Ended {
    pub(crate) fn success(&self) -> bool {
        self.code == Some(0)
    }
}

impl Host {
    /// Boots one with a disk of this size, and a directory as its `/case`.
    pub(crate) fn boot(parts: &Parts, case: &Path, disk: &str) -> Result<Self, String> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let n = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("hale-gallery-{}x{n}", std::process::id());
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("root")).map_err(|e| e.to_string())?;
        let console = fs::File::create(scratch.path("console")).map_err(|e| e.to_string())?;
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("gallery/boot");
        let mut command = Command::new(here);
        command
            .arg(&name)
            .arg(&parts.image)
            .arg(disk)
            .arg(scratch.path("root"))
            .arg(case)
            .arg(&parts.hale)
            .args(&parts.library)
            .stdout(console.try_clone().map_err(|e| e.to_string())?)
            .stderr(console);
        let container = Guarded::spawn(&mut command);
        let mut host = Self {
            name,
            leader: 0,
            container,
            scratch,
        };
        host.leader = host.wait_for_leader()?;
        host.wait_for_systemd()?;
        fs::create_dir(host.path("/gallery")).map_err(|e| format!("/gallery: {e}"))?;
        Ok(host)
    }

    fn wait_for_leader(&mut self) -> Result<u32, String> {
        let mut ended = None;
        let found = stop::wait_for("its systemd runs", BOOT, || {
            ended = self.container.ended();
            if ended.is_some() {
                return Some(None);
            }
            below(self.container.pid())
                .into_iter()
                .find(|p| is_systemd(*p))
                .map(Some)
        });
        match found {
            Ok(Some(leader)) => Ok(leader),
            Ok(None) => Err(format!("the container ended\n{}", self.console())),
            Err(why) => Err(format!("{why}\n{}", self.console())),
        }
    }

    fn wait_for_systemd(&self) -> Result<(), String> {
        let ask = ["systemctl", "is-system-running", "--wait"];
        stop::wait_for("it has booted", BOOT, || {
            let state = self.run(&ask, BOOT).ok()?;
            ["running", "degraded"]
                .contains(&state.said.trim())
                .then_some(())
        })
    }

    fn console(&self) -> String {
        self.scratch.read("console")
    }

    /// Where a path of the host is found from outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.leader))
    }

    /// The end of a file of the host.
    pub(crate) fn tail(&self, inside: &str, lines: usize) -> String {
        let text = fs::read(self.path(inside)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// How to get into it by hand.
    pub(crate) fn door(&self) -> String {
        format!("nsenter --target {} --all", self.leader)
    }

    /// From now on this thread, and what it starts, is in the host's network.
    pub(crate) fn join_network(&self) -> Result<(), String> {
        let path = format!("/proc/{}/ns/net", self.leader);
        let space = fs::File::open(&path).map_err(|e| format!("{path}: {e}"))?;
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(kind))
            .map_err(|e| format!("{path}: {e}"))
    }

    /// Runs one of the case's scripts. An error if it does not end by itself within `bound`.
    pub(crate) fn script(&self, name: &str, bound: Duration) -> Result<Ended, String> {
        self.run(&[&format!("/case/{name}")], bound)
    }

    /// Runs a program in the host.
    pub(crate) fn run(&self, argv: &[&str], bound: Duration) -> Result<Ended, String> {
        static RUN: AtomicUsize = AtomicUsize::new(0);
        let file = format!("said-{}", RUN.fetch_add(1, Ordering::Relaxed));
        // What it leaves running in the background may hold its output open: a file does not wait.
        let out = fs::File::create(self.scratch.path(&file)).map_err(|e| e.to_string())?;
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.leader.to_string(), "--all", "--wd"])
            .args(["timeout", "--kill-after=5", &bound.as_secs().to_string()])
            .args(argv)
            .env_clear()
            .envs([
                ("PATH", PATH),
                ("HOME", "/root"),
                ("LANG", "C.UTF-8"),
                ("NO_COLOR", "1"),
            ])
            .stdout(out.try_clone().map_err(|e| e.to_string())?)
            .stderr(out)
            .stdin(Stdio::null());
        let mut process = Guarded::spawn(&mut command);
        let what = format!("{} has ended", argv[0]);
        let ended = stop::wait_for(&what, bound + Duration::from_secs(10), || process.ended());
        let said = self.scratch.read(&file);
        fs::remove_file(self.scratch.path(&file)).ok();
        match ended {
            Ok(status) if status.code() == Some(124) => Err(format!(
                "{} took longer than {} s\n{said}",
                argv[0],
                bound.as_secs()
            )),
            Ok(status) => Ok(Ended {
                code: status.code(),
                said,
            }),
            Err(why) => Err(format!("{why}\n{said}")),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It takes its process namespace along.
        self.container.kill();
        let until = std::time::Instant::now() + EMPTY;
        while !remove_groups(&self.name) && std::time::Instant::now() < until {
            hale_tests::pause(Duration::from_millis(20));
        }
    }
}

/// A process's children, and theirs.
fn below(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let mut all = vec![];
    for child in children.split_whitespace().filter_map(|c| c.parse().ok()) {
        all.push(child);
        all.extend(below(child));
    }
    all
}

fn is_systemd(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "systemd")
}

/// Where hosts have their control groups: one directory in each hierarchy.
fn groups() -> Vec<PathBuf> {
    let below = fs::read_dir(CGROUPS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path());
    let trees = below.chain([PathBuf::from(CGROUPS)]);
    trees
        .map(|t| t.join("hale-gallery"))
        .filter(|g| g.is_dir())
        .collect()
}

/// Whether all control groups of a host are gone.
fn remove_groups(name: &str) -> bool {
    let mut all_gone = true;
    for group in groups() {
        remove_group(&group.join(name));
        all_gone &= !group.join(name).exists();
        // Gone with the last host.
        fs::remove_dir(&group).ok();
    }
    all_gone
}

fn remove_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_group(&entry.path());
        }
    }
    fs::remove_dir(group).ok();
}

/// Removes the control groups that a gallery left which was killed.
pub(crate) fn sweep() {
    for group in groups() {
        for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name
                .strip_prefix("hale-gallery-")
                .and_then(|n| n.split('x').next());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove_groups(&name);
            }
        }
    }
}
