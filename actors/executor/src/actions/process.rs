//! `process`: counts, signals or renices processes. A process is held by its pidfd while it is
//! decided on, so that a pid used anew is never hit.

use super::{Tried, text};
use crate::run::ActionResult;
use hale_playbooks::Env;
use hale_playbooks::language::{ProcessMatch, ProcessOperation};
use regex::{Regex, RegexBuilder};
use rustix::process::{
    Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, setpriority_process,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The kernel's clock for processes: USER_HZ is 100 on every architecture Linux runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long CPU use is measured.
const MEASURE: Duration = Duration::from_secs(1);
/// How long a killed process has to be gone.
const AFTER_KILL: Duration = Duration::from_secs(2);
/// The most of a command line that is matched, in bytes.
const MAX_CMDLINE_BYTES: usize = 16 << 10;
/// The most pids that are told.
const MAX_TOLD: usize = 100;
const MAX_REGEX_BYTES: usize = 1 << 20;
/// The flag of a kernel thread in /proc/PID/stat (PF_KTHREAD).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// One process, as /proc shows it (proc(5)).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Process {
    pid: i32,
    parent: i32,
    name: String,
    state: char,
    flags: u64,
    cpu_ticks: u64,
    /// Since boot; with the pid it names one process for as long as the host is up.
    started_ticks: u64,
}

/// What to look for, with its texts rendered.
#[derive(Default)]
struct Wanted {
    name: Option<String>,
    pids: Vec<i32>,
    is_by_pid: bool,
    cmdline: Option<Regex>,
    state: Option<char>,
    min_cpu_percent: Option<f64>,
    min_age: Option<Duration>,
}

pub(super) async fn run(matching: &ProcessMatch, operation: &ProcessOperation, env: &Env) -> Tried {
    let wanted = Wanted::render(matching, env)?;
    let mut found = find(&wanted).await;
    if matching.parent {
        found = parents(&found);
    }
    let told: Vec<Value> = found.iter().take(MAX_TOLD).map(|p| json!(p.pid)).collect();
    let result = json!({"count": found.len(), "pids": told});
    if *operation == ProcessOperation::Count {
        return Ok(ActionResult::success(
            result,
            format!("{} processes match", found.len()),
        ));
    }
    if let Some(p) = found.iter().find(|p| p.is_untouchable()) {
        let message = format!("{} ({}) is never touched: be more specific", p.name, p.pid);
        return Ok(ActionResult::failed(result, message));
    }
    if found.len() > matching.limit as usize {
        let message = format!(
            "{} processes match, {} may be touched: nothing was done; narrow the match or raise its `limit`",
            found.len(),
            matching.limit
        );
        return Ok(ActionResult::failed(result, message));
    }
    match operation {
        ProcessOperation::Signal {
            signal,
            grace,
            kill_after,
        } => send(found, result, signal, *grace, *kill_after).await,
        ProcessOperation::Renice { nice } => Ok(renice(&found, result, *nice)),
        ProcessOperation::Count => Ok(ActionResult::success(result, "")),
    }
}

impl Wanted {
    fn render(matching: &ProcessMatch, env: &Env) -> Result<Self, String> {
        let mut wanted = Self {
            state: matching.state.as_ref().and_then(|s| s.chars().next()),
            min_cpu_percent: matching.min_cpu_percent,
            min_age: matching.min_age,
            ..Self::default()
        };
        if let Some(name) = &matching.name {
            // The kernel keeps 15 bytes of a name.
            wanted.name = Some(text(name, env)?.chars().take(15).collect());
        }
        if let Some(pid) = &matching.pid {
            let pid = text(pid, env)?;
            wanted.pids.push(
                pid.trim()
                    .parse()
                    .map_err(|_| format!("`{pid}` is not a pid"))?,
            );
            wanted.is_by_pid = true;
        }
        if let Some(file) = &matching.pid_file {
            let file = text(file, env)?;
            wanted.is_by_pid = true;
            match fs::read_to_string(&file) {
                Ok(content) => {
                    let first = content.lines().next().unwrap_or_default().trim();
                    let pid = first
                        .parse()
                        .map_err(|_| format!("{file} does not hold a pid"))?;
                    wanted.pids.push(pid);
                }
                // A service that does not run has no pid file: nothing matches.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(format!("{file} can't be read: {e}")),
            }
        }
        if let Some(pattern) = &matching.cmdline {
            let pattern = text(pattern, env)?;
            let regex = RegexBuilder::new(&pattern)
                .size_limit(MAX_REGEX_BYTES)
                .build();
            wanted.cmdline =
                Some(regex.map_err(|e| format!("`{pattern}` is no regular expression: {e}"))?);
        }
        if wanted.name.is_none()
            && !wanted.is_by_pid
            && wanted.cmdline.is_none()
            && wanted.state.is_none()
        {
            return Err("the match names no process: give name, pid_file, pid or cmdline".into());
        }
        Ok(wanted)
    }

    fn fits(&self, p: &Process, uptime: f64) -> bool {
        self.name.as_ref().is_none_or(|n| *n == p.name)
            && (!self.is_by_pid
                || (!self.pids.is_empty() && self.pids.iter().all(|pid| *pid == p.pid)))
            && self.state.is_none_or(|s| s == p.state)
            && self
                .min_age
                .is_none_or(|age| p.age(uptime) >= age.as_secs_f64())
            && self
                .cmdline
                .as_ref()
                .is_none_or(|r| r.is_match(&cmdline(p.pid)))
    }
}

async fn find(wanted: &Wanted) -> Vec<Process> {
    let uptime = uptime();
    let found: Vec<Process> = all()
        .into_iter()
        .filter(|p| wanted.fits(p, uptime))
        .collect();
    let Some(min) = wanted.min_cpu_percent else {
        return found;
    };
    let begun = Instant::now();
    sleep(MEASURE).await;
    let seconds = begun.elapsed().as_secs_f64();
    let is_busy = |p: &Process| {
        let Some(later) = read(p.pid).filter(|l| l.started_ticks == p.started_ticks) else {
            return false;
        };
        let ticks = later.cpu_ticks.saturating_sub(p.cpu_ticks) as f64;
        ticks / TICKS_PER_SECOND / seconds * 100.0 >= min
    };
    found.into_iter().filter(is_busy).collect()
}

fn parents(of: &[Process]) -> Vec<Process> {
    let by_pid: BTreeMap<i32, Process> = of
        .iter()
        .filter_map(|p| read(p.parent))
        .map(|p| (p.pid, p))
        .collect();
    by_pid.into_values().collect()
}

async fn send(
    found: Vec<Process>,
    mut result: Value,
    signal: &str,
    grace: Duration,
    kill_after: bool,
) -> Tried {
    let number = by_name(signal)
        .ok_or_else(|| format!("`{signal}` is not a signal; write it like TERM or HUP"))?;
    let mut held: Vec<(Process, OwnedFd)> = vec![];
    for p in found {
        match hold(&p) {
            Ok(Some(fd)) => held.push((p, fd)),
            Ok(None) => {}
            Err(e) => return Err(format!("{} ({}) can't be held: {e}", p.name, p.pid)),
        }
    }
    for (p, fd) in &held {
        match pidfd_send_signal(fd, number) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => {
                let message = format!("{} ({}) can't be sent {signal}: {e}", p.name, p.pid);
                return Ok(ActionResult::failed(result, message));
            }
        }
    }
    let is_deadly = matches!(
        number,
        Signal::TERM | Signal::KILL | Signal::INT | Signal::QUIT | Signal::ABORT
    );
    let mut killed = 0;
    if is_deadly || kill_after {
        wait_for(&held, grace).await;
        for (_, fd) in held.iter().filter(|(p, _)| kill_after && is_alive(p)) {
            killed += usize::from(pidfd_send_signal(fd, Signal::KILL).is_ok());
        }
        if killed > 0 {
            wait_for(&held, AFTER_KILL).await;
        }
    }
    let left = held.iter().filter(|(p, _)| is_alive(p)).count();
    if let Value::Object(map) = &mut result {
        map.insert("signalled".into(), json!(held.len()));
        map.insert("killed".into(), json!(killed));
        map.insert("left".into(), json!(left));
    }
    if held.is_empty() {
        return Ok(ActionResult::success(
            result,
            "no process matches: there was nothing to do",
        ));
    }
    if is_deadly && left > 0 {
        let message = format!("{left} of {} processes did not end in time", held.len());
        return Ok(ActionResult::failed(result, message));
    }
    let message = format!(
        "{signal} was sent to {} processes, {killed} were killed",
        held.len()
    );
    Ok(ActionResult::success(result, message))
}

/// A handle on exactly this process; none if it is gone, or its pid is another's by now.
fn hold(p: &Process) -> rustix::io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(p.pid) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // The handle can't come to mean another: what is read now is what is held.
        Ok(fd) => Ok(read(p.pid)
            .is_some_and(|n| n.started_ticks == p.started_ticks)
            .then_some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(e) => Err(e),
    }
}

async fn wait_for(held: &[(Process, OwnedFd)], time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until && held.iter().any(|(p, _)| is_alive(p)) {
        sleep(Duration::from_millis(20)).await;
    }
}

/// A zombie has ended, whether its parent cares or not.
fn is_alive(p: &Process) -> bool {
    read(p.pid).is_some_and(|n| n.started_ticks == p.started_ticks && !matches!(n.state, 'Z' | 'X'))
}

fn renice(found: &[Process], result: Value, nice: i32) -> ActionResult {
    let nice = nice.clamp(0, 19);
    for p in found {
        let Ok(Some(_held)) = hold(p) else { continue };
        if let Err(e) = setpriority_process(Pid::from_raw(p.pid), nice) {
            let message = format!("{} ({}) can't be set to nice {nice}: {e}", p.name, p.pid);
            return ActionResult::failed(result, message);
        }
    }
    ActionResult::success(
        result,
        format!("{} processes have nice {nice} now", found.len()),
    )
}

impl Process {
    /// The first process, the kernel's own, and this node.
    fn is_untouchable(&self) -> bool {
        self.pid <= 2 || self.flags & KERNEL_THREAD != 0 || self.pid == std::process::id() as i32
    }

    fn age(&self, uptime: f64) -> f64 {
        uptime - self.started_ticks as f64 / TICKS_PER_SECOND
    }
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec![];
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter_map(read)
        .collect()
}

fn read(pid: i32) -> Option<Process> {
    parse(
        pid,
        &String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?),
    )
}

/// /proc/PID/stat: the name stands in parentheses and may hold any of them itself.
pub(super) fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field n of proc(5) is at n - 3 after the name.
    let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    Some(Process {
        pid,
        name,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        flags: number(9)?,
        cpu_ticks: number(14)?.saturating_add(number(15)?),
        started_ticks: number(22)?,
    })
}

fn cmdline(pid: i32) -> String {
    let mut bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes.truncate(MAX_CMDLINE_BYTES);
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    text.trim_end().to_owned()
}

fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_ascii_whitespace()
        .next()
        .and_then(|s| s.parse().ok())
        .unwrap_or(0.0)
}

fn by_name(name: &str) -> Option<Signal> {
    Some(match name.strip_prefix("SIG").unwrap_or(name) {
        "TERM" => Signal::TERM,
        "KILL" => Signal::KILL,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "ABRT" => Signal::ABORT,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "CONT" => Signal::CONT,
        "STOP" => Signal::STOP,
        "CHLD" => Signal::CHILD,
        "WINCH" => Signal::WINCH,
        "ALRM" => Signal::ALARM,
        "PIPE" => Signal::PIPE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read_whole() {
        let stat = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 0 0 20 0 1 0 555 9 9";
        let p = parse(42, stat).unwrap();
        assert_eq!((p.name.as_str(), p.state, p.parent), ("a) b (c)", 'S', 7));
        assert_eq!(
            (p.cpu_ticks, p.started_ticks, p.flags),
            (30, 555, 4_194_560)
        );
        assert!(parse(1, "garbage").is_none() && parse(1, "1 (x) S").is_none());
    }

    #[test]
    fn the_first_process_the_kernel_and_this_node_are_never_touched() {
        assert!(read(1).is_some_and(|p| p.is_untouchable()));
        assert!(read(std::process::id() as i32).is_some_and(|p| p.is_untouchable()));
    }
}
