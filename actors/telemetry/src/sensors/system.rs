//! The one home of procfs, with `process.rs` and `mounts.rs`: CPU, memory, load, pressure, disk
//! I/O, network and file descriptors from /proc.

use super::mounts::Mounts;
use super::{Found, blocking};
use crate::rates::Rates;
use hale_model::{Harm, Sample, SeriesKey, Timestamp};
use procfs::{
    CpuPressure, CpuTime, Current, CurrentSI, IoPressure, KernelStats, LoadAverage, Meminfo,
    MemoryPressure, PressureRecord,
};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// /proc/diskstats counts sectors of 512 bytes, whatever the disk's own are.
const SECTOR_BYTES: f64 = 512.0;
/// The most disks and the most interfaces that are told of, each.
const MAX_DEVICES: usize = 64;

/// The host's own figures.
#[derive(Debug)]
pub struct System {
    figures: Arc<Mutex<Figures>>,
    mounts: Mounts,
}

#[derive(Debug)]
struct Figures {
    cpu: Option<CpuTime>,
    rates: Rates,
    began: Instant,
}

impl System {
    /// Begins to watch: reads once, so that the first round already knows differences.
    pub fn new() -> Self {
        let mut figures = Figures {
            cpu: None,
            rates: Rates::default(),
            began: Instant::now(),
        };
        figures.read();
        Self {
            figures: Arc::new(Mutex::new(figures)),
            mounts: Mounts::default(),
        }
    }

    /// Reads /proc and the file systems.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        let mut found = self.mounts.read(at).await;
        let samples = blocking(&self.figures, Figures::read).await;
        found.samples.extend(samples.unwrap_or_default());
        found
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

impl Figures {
    fn read(&mut self) -> Vec<Sample> {
        let mut out = Vec::with_capacity(64);
        let now = self.began.elapsed();
        self.rates.next_round();
        self.cpu(&mut out);
        memory(&mut out);
        load(&mut out);
        pressure(&mut out);
        descriptors(&mut out);
        self.disks(now, &mut out);
        self.network(now, &mut out);
        out
    }

    /// Shares of the time since the last read, by mode. `user` holds guests' time already.
    fn cpu(&mut self, out: &mut Vec<Sample>) {
        let Ok(stats) = KernelStats::current() else {
            return;
        };
        out.push(gauge(
            "processes_running",
            f64::from(stats.procs_running.unwrap_or(0)),
        ));
        out.push(
            gauge(
                "processes_blocked",
                f64::from(stats.procs_blocked.unwrap_or(0)),
            )
            .harm(Harm::High),
        );
        let Some(before) = self.cpu.replace(stats.total.clone()) else {
            return;
        };
        let modes = |t: &CpuTime| {
            [
                ("user", t.user),
                ("nice", t.nice),
                ("system", t.system),
                ("iowait", t.iowait.unwrap_or(0)),
                ("irq", t.irq.unwrap_or(0)),
                ("softirq", t.softirq.unwrap_or(0)),
                ("steal", t.steal.unwrap_or(0)),
                ("idle", t.idle),
            ]
        };
        // iowait may fall by the kernel's own account; a fall is no time at all.
        let spent: Vec<(&str, u64)> = modes(&stats.total)
            .into_iter()
            .zip(modes(&before))
            .map(|((mode, now), (_, then))| (mode, now.saturating_sub(then)))
            .collect();
        let total: u64 = spent.iter().map(|(_, t)| t).sum();
        if total == 0 {
            return;
        }
        let share = |ticks: u64| 100.0 * ticks as f64 / total as f64;
        let resting = |mode: &str| mode == "idle" || mode == "iowait";
        let busy: u64 = spent
            .iter()
            .filter(|(m, _)| !resting(m))
            .map(|(_, t)| t)
            .sum();
        out.push(percent("cpu_percent", share(busy)));
        for (mode, ticks) in spent.into_iter().filter(|(m, _)| *m != "idle") {
            let series = SeriesKey::new("system.cpu_mode_percent").with("mode", mode);
            // Work of any kind is judged as `cpu_percent`; what is taken or waited for is trouble.
            let harm = match mode {
                "iowait" | "steal" => Harm::High,
                _ => Harm::Neither,
            };
            out.push(Sample::percent(series, share(ticks)).harm(harm));
        }
    }

    fn disks(&mut self, now: Duration, out: &mut Vec<Sample>) {
        let Ok(disks) = procfs::diskstats() else {
            return;
        };
        let whole = disks.iter().filter(|d| is_disk(&d.name)).take(MAX_DEVICES);
        for disk in whole {
            let mut rate = |what: &str, total: f64| {
                self.rates
                    .per_second(&format!("{}/{what}", disk.name), total, now)
            };
            let read = rate("read", disk.sectors_read as f64 * SECTOR_BYTES);
            let written = rate("write", disk.sectors_written as f64 * SECTOR_BYTES);
            let operations = rate("ops", (disk.reads + disk.writes) as f64);
            let waited = rate("wait", (disk.time_reading + disk.time_writing) as f64);
            // Milliseconds with I/O in flight, per second.
            let busy = rate("busy", disk.time_in_progress as f64);
            let series = |name: &str| {
                SeriesKey::new(format!("system.{name}")).with("device", disk.name.as_str())
            };
            for (name, value) in [
                ("disk_read_bytes_per_second", read),
                ("disk_write_bytes_per_second", written),
                ("disk_operations_per_second", operations),
            ] {
                // Throughput is work, not trouble: it is told with trouble, and makes none alone.
                out.extend(value.map(|v| Sample::gauge(series(name), v).harm(Harm::Neither)));
            }
            out.extend(
                busy.map(|ms| Sample::percent(series("disk_busy_percent"), (ms / 10.0).min(100.0))),
            );
            if let (Some(ms), Some(operations)) = (waited, operations) {
                let each = if operations > 0.0 {
                    ms / operations / 1000.0
                } else {
                    0.0
                };
                out.push(Sample::gauge(series("disk_await_seconds"), each).harm(Harm::High));
            }
        }
    }

    fn network(&mut self, now: Duration, out: &mut Vec<Sample>) {
        let Ok(interfaces) = procfs::net::dev_status() else {
            return;
        };
        let mut all: Vec<_> = interfaces
            .into_values()
            .filter(|i| i.name != "lo")
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        for i in all.into_iter().take(MAX_DEVICES) {
            let series = |name: &str| {
                SeriesKey::new(format!("system.network_{name}")).with("interface", i.name.as_str())
            };
            for (name, total) in [
                ("receive_bytes", i.recv_bytes),
                ("send_bytes", i.sent_bytes),
            ] {
                let rate = self
                    .rates
                    .per_second(&format!("{}/{name}", i.name), total as f64, now);
                let series = series(&format!("{name}_per_second"));
                out.extend(rate.map(|r| Sample::gauge(series, r).harm(Harm::Neither)));
            }
            for (name, total) in [
                ("receive_errors", i.recv_errs),
                ("send_errors", i.sent_errs),
                ("receive_drops", i.recv_drop),
                ("send_drops", i.sent_drop),
            ] {
                out.push(Sample::counter(series(name), total as f64));
            }
        }
    }
}

fn series(name: &str) -> SeriesKey {
    SeriesKey::new(format!("system.{name}"))
}

fn gauge(name: &str, value: f64) -> Sample {
    Sample::gauge(series(name), value)
}

fn percent(name: &str, value: f64) -> Sample {
    Sample::percent(series(name), value)
}

/// Used is what is not available: what the kernel could give without swapping counts as free.
fn memory(out: &mut Vec<Sample>) {
    let Ok(m) = Meminfo::current() else { return };
    let total = m.mem_total as f64;
    let available = m.mem_available.unwrap_or(m.mem_free + m.buffers + m.cached) as f64;
    if total > 0.0 {
        out.push(percent(
            "memory_percent",
            100.0 * (total - available) / total,
        ));
        out.push(
            gauge("memory_available_bytes", available)
                .up_to(total)
                .harm(Harm::Low),
        );
        out.push(gauge("memory_total_bytes", total).harm(Harm::Neither));
    }
    let swap = m.swap_total as f64;
    let used = m.swap_total.saturating_sub(m.swap_free) as f64;
    out.push(percent(
        "swap_percent",
        if swap > 0.0 { 100.0 * used / swap } else { 0.0 },
    ));
}

fn load(out: &mut Vec<Sample>) {
    let Ok(l) = LoadAverage::current() else {
        return;
    };
    for (name, value) in [("1m", l.one), ("5m", l.five), ("15m", l.fifteen)] {
        out.push(gauge(&format!("load_average_{name}"), f64::from(value)).harm(Harm::High));
    }
}

/// Pressure stall information: the share of time in which some or all tasks waited. Kernels
/// without it tell nothing.
fn pressure(out: &mut Vec<Sample>) {
    let mut push = |name: &str, record: PressureRecord| {
        out.push(percent(
            &format!("psi_{name}_avg10"),
            f64::from(record.avg10),
        ));
    };
    if let Ok(cpu) = CpuPressure::current() {
        push("cpu_some", cpu.some);
    }
    if let Ok(memory) = MemoryPressure::current() {
        push("memory_some", memory.some);
        push("memory_full", memory.full);
    }
    if let Ok(io) = IoPressure::current() {
        push("io_some", io.some);
        push("io_full", io.full);
    }
}

fn descriptors(out: &mut Vec<Sample>) {
    let Ok(files) = procfs::sys::fs::file_nr() else {
        return;
    };
    let (used, max) = (files.allocated as f64, files.max as f64);
    out.push(
        gauge("file_descriptors_used", used)
            .up_to(max)
            .harm(Harm::High),
    );
    out.push(gauge("file_descriptors_max", max).harm(Harm::Neither));
    if max > 0.0 {
        out.push(percent("file_descriptors_percent", 100.0 * used / max));
    }
}

/// Whole disks only: their partitions' figures are in theirs. Loop and RAM disks are files and
/// memory that are counted elsewhere.
fn is_disk(name: &str) -> bool {
    !name.starts_with("loop")
        && !name.starts_with("ram")
        && std::path::Path::new("/sys/block").join(name).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_host_tells_of_itself() {
        let mut system = System::new();
        // Some CPU time must pass between two reads; ticks are 10 ms.
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        let found = system.read(Timestamp::from_secs(1)).await;
        let value = |name: &str| {
            found
                .samples
                .iter()
                .find(|s| s.series.metric == name)
                .map(|s| s.value)
        };
        for name in [
            "system.cpu_percent",
            "system.memory_percent",
            "system.swap_percent",
            "system.load_average_1m",
            "system.disk_usage_percent",
            "system.disk_inodes_percent",
            "system.file_descriptors_used",
        ] {
            let v = value(name).unwrap_or(f64::NAN);
            assert!(v >= 0.0, "{name}: {v}");
        }
        assert!(value("system.cpu_percent").unwrap() <= 100.0);
        let modes: f64 = found
            .samples
            .iter()
            .filter(|s| s.series.metric == "system.cpu_mode_percent")
            .map(|s| s.value)
            .sum();
        assert!(modes <= 100.001, "{modes}");
    }
}
