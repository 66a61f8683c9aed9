//! Processes: how many in which state, and who uses the most CPU and memory.

use super::{Evidence, Found, blocking, lock};
use crate::config::ServiceConfig;
use crate::consumers;
use hale_model::{Harm, Sample, SeriesKey, ServiceName};
use procfs::process::Stat;
use procfs::{Current, FromRead, Meminfo};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How many of the largest are told.
const TOP: usize = 10;
/// Names with series of their own at a time. A name that was once among the largest keeps its
/// series for a while, so that its baseline has no gaps.
const MAX_NAMES: usize = 40;
const KEPT_ROUNDS: u64 = 240;
/// The most processes read in one round.
const MAX_PROCESSES: usize = 50_000;
/// The kernel's own threads (`PF_KTHREAD`) are counted, and never told by name.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// The host's processes.
#[derive(Debug)]
pub struct Processes {
    table: Arc<Mutex<Table>>,
    evidence: Arc<Evidence>,
}

#[derive(Debug)]
struct Table {
    ticks: HashMap<(i32, u64), u64>,
    read_at: Option<Instant>,
    names: BTreeMap<String, u64>,
    round: u64,
    services: Vec<ServiceConfig>,
    page_bytes: f64,
    ticks_per_second: f64,
    /// All CPUs together.
    cpu_percent_most: f64,
    /// All of the host's memory.
    memory_bytes_most: f64,
}

#[derive(Debug, Clone)]
struct Process {
    pid: i32,
    name: String,
    cpu_percent: f64,
    memory_bytes: f64,
}

#[derive(Default)]
struct Census {
    states: BTreeMap<&'static str, u64>,
    threads: f64,
    zombie_parents: BTreeMap<i32, u64>,
    /// How many live processes have each name.
    names: HashMap<String, u64>,
    processes: Vec<Process>,
}

impl Processes {
    /// Begins to watch; `services` says whose processes are whose.
    pub fn new(services: Vec<ServiceConfig>, evidence: Arc<Evidence>) -> Self {
        let mut table = Table {
            ticks: HashMap::new(),
            read_at: None,
            names: BTreeMap::new(),
            round: 0,
            services,
            page_bytes: procfs::page_size() as f64,
            ticks_per_second: procfs::ticks_per_second() as f64,
            cpu_percent_most: 100.0
                * std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64),
            memory_bytes_most: Meminfo::current().map_or(0.0, |m| m.mem_total as f64),
        };
        table.census();
        Self {
            table: Arc::new(Mutex::new(table)),
            evidence,
        }
    }

    /// Reads every process once.
    pub async fn read(&mut self) -> Found {
        let evidence = Arc::clone(&self.evidence);
        blocking(&self.table, move |t| t.read(&evidence))
            .await
            .unwrap_or_default()
    }
}

impl Table {
    fn read(&mut self, evidence: &Evidence) -> Found {
        self.round += 1;
        let census = self.census();
        let by_cpu = largest(&census.processes, |p| p.cpu_percent);
        let by_memory = largest(&census.processes, |p| p.memory_bytes);
        *lock(&evidence.cpu) = by_cpu
            .iter()
            .map(|p| consumers::of_cpu(&p.name, p.pid, p.cpu_percent))
            .collect();
        *lock(&evidence.memory) = by_memory
            .iter()
            .map(|p| consumers::of_memory(&p.name, p.pid, p.memory_bytes))
            .collect();
        let mut found = Found {
            extra: vec![
                ("process.top_cpu", top(&by_cpu)),
                ("process.top_memory", top(&by_memory)),
                (
                    "process.zombie_parents",
                    json!(
                        census
                            .zombie_parents
                            .iter()
                            .take(TOP)
                            .map(|(pid, n)| json!({"pid": pid, "zombies": n}))
                            .collect::<Vec<_>>()
                    ),
                ),
            ],
            ..Found::default()
        };
        self.remember(by_cpu.iter().chain(&by_memory).map(|p| p.name.as_str()));
        self.tell_names(&census, &mut found.samples);
        self.tell_services(&census, &mut found.samples);
        tell_counts(&census, &mut found.samples);
        found
    }

    fn census(&mut self) -> Census {
        let mut census = Census::default();
        let now = Instant::now();
        let elapsed = self
            .read_at
            .replace(now)
            .map_or(Duration::ZERO, |then| now - then);
        let before = std::mem::take(&mut self.ticks);
        let pids = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        for pid in pids.take(MAX_PROCESSES) {
            // It may have ended since the directory was read.
            let Ok(stat) = Stat::from_file(format!("/proc/{pid}/stat")) else {
                continue;
            };
            *census.states.entry(state(stat.state)).or_default() += 1;
            census.threads += stat.num_threads.max(0) as f64;
            if stat.state == 'Z' {
                *census.zombie_parents.entry(stat.ppid).or_default() += 1;
                continue;
            }
            if stat.flags & KERNEL_THREAD != 0 {
                continue;
            }
            *census.names.entry(stat.comm.clone()).or_default() += 1;
            let ticks = stat.utime + stat.stime;
            let key = (pid, stat.starttime);
            self.ticks.insert(key, ticks);
            // A process first seen has used all of its time since the last round, or it is the
            // first round and nothing is known.
            let then =
                before
                    .get(&key)
                    .copied()
                    .unwrap_or(if before.is_empty() { ticks } else { 0 });
            let seconds = ticks.saturating_sub(then) as f64 / self.ticks_per_second;
            census.processes.push(Process {
                pid,
                name: stat.comm,
                cpu_percent: if elapsed.is_zero() {
                    0.0
                } else {
                    100.0 * seconds / elapsed.as_secs_f64()
                },
                memory_bytes: stat.rss as f64 * self.page_bytes,
            });
        }
        census
    }

    fn remember<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let oldest = self.round.saturating_sub(KEPT_ROUNDS);
        self.names.retain(|_, seen| *seen >= oldest);
        for name in names {
            if let Some(seen) = self.names.get_mut(name) {
                *seen = self.round;
            } else if self.names.len() < MAX_NAMES {
                self.names.insert(name.to_owned(), self.round);
            }
        }
    }

    /// All processes of a name together; a name whose processes are gone is told as zero.
    fn tell_names(&self, census: &Census, out: &mut Vec<Sample>) {
        let mut sums: BTreeMap<&str, (f64, f64)> = self
            .names
            .keys()
            .map(|n| (n.as_str(), (0.0, 0.0)))
            .collect();
        for p in &census.processes {
            if let Some((cpu, memory)) = sums.get_mut(p.name.as_str()) {
                *cpu += p.cpu_percent;
                *memory += p.memory_bytes;
            }
        }
        for (name, (cpu, memory)) in sums {
            // What there is to take is the range: a process that wakes up is not a runaway.
            for (metric, value, most) in [
                ("process.cpu_percent", cpu, self.cpu_percent_most),
                ("process.memory_bytes", memory, self.memory_bytes_most),
            ] {
                let series = SeriesKey::new(metric).with("name", name);
                let sample = Sample::gauge(series, value).up_to(most.max(value));
                out.push(owned(sample.harm(Harm::High), self.service_of(name)));
            }
        }
    }

    fn tell_services(&self, census: &Census, out: &mut Vec<Sample>) {
        for service in self.services.iter().filter(|s| !s.processes.is_empty()) {
            let n: u64 = service
                .processes
                .iter()
                .filter_map(|p| census.names.get(p))
                .sum();
            let series = SeriesKey::new("process.instances").with("service", service.name.as_str());
            out.push(Sample::gauge(series, n as f64).of(&service.name));
        }
    }

    fn service_of(&self, process: &str) -> Option<&ServiceName> {
        let owns = |s: &&ServiceConfig| s.processes.iter().any(|p| p == process);
        self.services.iter().find(owns).map(|s| &s.name)
    }
}

fn owned(sample: Sample, service: Option<&ServiceName>) -> Sample {
    match service {
        Some(service) => sample.of(service),
        None => sample,
    }
}

fn tell_counts(census: &Census, out: &mut Vec<Sample>) {
    let count = |state: &str| census.states.get(state).copied().unwrap_or(0) as f64;
    for state in ["running", "sleeping", "disk_sleep", "stopped", "zombie"] {
        let series = SeriesKey::new("process.count").with("state", state);
        // How many there are is told with trouble; those that hang are trouble. Zombies have a
        // series of their own.
        let harm = if state == "disk_sleep" {
            Harm::High
        } else {
            Harm::Neither
        };
        out.push(Sample::gauge(series, count(state)).harm(harm));
    }
    let total: u64 = census.states.values().sum();
    for (name, value) in [
        ("process.total", total as f64),
        ("process.threads", census.threads),
    ] {
        out.push(Sample::gauge(SeriesKey::new(name), value).harm(Harm::Neither));
    }
    out.push(Sample::gauge(SeriesKey::new("process.zombies"), count("zombie")).harm(Harm::High));
}

/// proc(5): the idle threads of the kernel (`I`) sleep, traced ones are stopped.
fn state(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'D' => "disk_sleep",
        'T' | 't' => "stopped",
        'Z' | 'X' | 'x' => "zombie",
        _ => "sleeping",
    }
}

fn largest(all: &[Process], by: impl Fn(&Process) -> f64) -> Vec<Process> {
    let mut sorted: Vec<&Process> = all.iter().collect();
    sorted.sort_by(|a, b| by(b).total_cmp(&by(a)).then(a.pid.cmp(&b.pid)));
    sorted.into_iter().take(TOP).cloned().collect()
}

fn top(processes: &[Process]) -> Value {
    let row = |p: &Process| {
        json!({
            "pid": p.pid,
            "name": p.name,
            "cpu_percent": crate::snapshot::number(p.cpu_percent),
            "memory_bytes": crate::snapshot::number(p.memory_bytes),
        })
    };
    processes.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(found: &Found, series: &str) -> Option<f64> {
        found
            .samples
            .iter()
            .find(|s| s.series.to_string() == series)
            .map(|s| s.value)
    }

    #[tokio::test]
    async fn a_busy_process_and_a_zombie_are_found() {
        let evidence = Arc::new(Evidence::default());
        let mut busy = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let services = vec![ServiceConfig {
            name: ServiceName::new("shells").unwrap(),
            processes: vec!["sh".into()],
            unit: None,
        }];
        let mut processes = Processes::new(services, Arc::clone(&evidence));
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let found = processes.read().await;
            let zombies = value(&found, "process.zombies").unwrap_or(0.0);
            let cpu = value(&found, "process.cpu_percent{name=\"sh\"}").unwrap_or(0.0);
            let ours = std::process::id() as i32;
            if zombies >= 1.0 && cpu > 5.0 {
                assert!(value(&found, "process.instances{service=\"shells\"}") >= Some(1.0));
                let parents = found
                    .extra
                    .iter()
                    .find(|(p, _)| *p == "process.zombie_parents");
                assert!(parents.unwrap().1.to_string().contains(&ours.to_string()));
                assert!(
                    lock(&evidence.cpu)
                        .iter()
                        .any(|c| c.text.starts_with("sh (pid "))
                );
                break;
            }
            assert!(Instant::now() < deadline, "zombies {zombies}, cpu {cpu}");
        }
        busy.kill().unwrap();
        busy.wait().unwrap();
        ended.wait().unwrap();
    }

    #[test]
    fn names_that_come_and_go_stay_within_their_limit() {
        let evidence = Arc::new(Evidence::default());
        let processes = Processes::new(Vec::new(), evidence);
        let mut table = lock(&processes.table);
        for round in 0..2_000u64 {
            table.round = round;
            let name = format!("job-{round}");
            table.remember([name.as_str(), "steady"].into_iter());
            assert!(table.names.len() <= MAX_NAMES);
            assert!(table.names.contains_key("steady"));
        }
    }
}
