//! How each fault is brought about, and how it ends.

use super::RealError;
use super::faults::{RealFault, Whom};
use super::hosts::Hosts;
use super::line::Quality;
use super::syscalls::Syncs;
use std::time::Duration;

/// A line between continents, on a bad day.
const BAD_LINE: Quality = Quality {
    delay: Duration::from_millis(40),
    jitter: Duration::from_millis(20),
    lost_per_mille: 100,
};
/// How late a sync is on a slow disk.
const LATE: Duration = Duration::from_millis(150);
/// Thousandths of a core.
const LITTLE_CPU: u64 = 50;
/// Bytes on top of what a host has.
const LITTLE_MEMORY: u64 = 4 << 20;
/// Between two hosts of a rolling restart everything has this long.
const BETWEEN: Duration = Duration::from_millis(500);

impl Hosts {
    /// Brings a fault about where `leader` leads, and says in words what was done; or why not.
    pub(super) async fn begin(
        &mut self,
        fault: &RealFault,
        leader: Option<usize>,
    ) -> Result<String, String> {
        let leads = || leader.ok_or_else(|| "nobody leads".to_owned());
        match fault {
            RealFault::Kill(whom) => {
                let (n, who) = self.find(*whom, leader)?;
                self.kill(n);
                Ok(format!("SIGKILL of {who}"))
            }
            RealFault::KillHolder => {
                let nobody = || "nobody holds a lease".to_owned();
                let holder = self.holder().await.ok_or_else(nobody)?;
                self.kill(holder);
                Ok(format!(
                    "SIGKILL of a lease's holder, {}",
                    self.name(holder)
                ))
            }
            RealFault::KillTwo(host) => {
                let (one, two) = (leads()?, self.other_than(*host, leader));
                self.kill(one);
                self.kill(two);
                let (one, two) = (self.name(one), self.name(two));
                Ok(format!("SIGKILL of the leader, {one}, and of {two}"))
            }
            RealFault::KillAll => {
                (0..self.all.len()).for_each(|host| self.kill(host));
                Ok("SIGKILL of all".to_owned())
            }
            RealFault::Stop(whom) => {
                let (n, who) = self.find(*whom, leader)?;
                self.all[n].stop();
                Ok(format!("SIGSTOP of {who}"))
            }
            RealFault::CutOff(whom) => {
                let (n, who) = self.find(*whom, leader)?;
                self.part(&[n], true)?;
                Ok(format!("{who} is cut off"))
            }
            RealFault::MuteLeader => {
                let (n, who) = self.find(Whom::Leader, leader)?;
                self.part(&[n], false)?;
                Ok(format!("nobody hears {who}"))
            }
            RealFault::Partition(host) => {
                let all = self.all.len();
                let inside: Vec<usize> = (0..all / 2).map(|n| (host + n) % all).collect();
                self.part(&inside, true)?;
                let names: Vec<&str> = inside.iter().map(|n| self.name(*n)).collect();
                Ok(format!(
                    "nothing gets between {} and the others",
                    names.join(", ")
                ))
            }
            RealFault::BadLine(whom) => {
                let (n, who) = self.find(*whom, leader)?;
                let network = self.network.as_mut().ok_or(NO_NETWORK)?;
                network.degrade(n, BAD_LINE)?;
                let Quality {
                    delay,
                    jitter,
                    lost_per_mille,
                } = BAD_LINE;
                let lost = lost_per_mille / 10;
                Ok(format!(
                    "a bad line to {who}: {delay:?} and up to {jitter:?} more each way, {lost} % lost"
                ))
            }
            RealFault::RollingRestart => {
                let newer = self.newer.take();
                for host in 0..self.all.len() {
                    if let Some(hale) = &newer {
                        self.all[host].hale.clone_from(hale);
                    }
                    self.restart(host).await;
                    tokio::time::sleep(BETWEEN).await;
                }
                let how = newer.map_or("a rolling restart", |_| "a rolling upgrade");
                Ok(how.to_owned())
            }
            RealFault::Replace(host) => {
                let host = *host;
                if let Some(gone) = self.lost
                    && !self.is_ready(gone).await
                {
                    // Two would be more than a group of this size is made to lose.
                    return Err(format!("{} is still not replaced", self.name(gone)));
                }
                self.lost = None;
                self.kill(host);
                self.all[host].lose_everything()?;
                let name = self.name(host).to_owned();
                let how = match self.replace(host).await {
                    Ok(()) => "was replaced by a new node",
                    Err(e) => {
                        self.lost = Some(host);
                        self.failed
                            .push(format!("{name} could not be replaced: {e}"));
                        "could not be replaced"
                    }
                };
                Ok(format!("{name} lost everything and {how}"))
            }
            _ => self.begin_on_host(fault, leader),
        }
    }

    /// Those that are done to one host's disk, clock and caps.
    fn begin_on_host(
        &mut self,
        fault: &RealFault,
        leader: Option<usize>,
    ) -> Result<String, String> {
        let whom = match fault {
            RealFault::DiskFull(whom)
            | RealFault::DiskStuck(whom)
            | RealFault::DiskFails(whom)
            | RealFault::PowerLoss(whom)
            | RealFault::SlowSync(whom)
            | RealFault::FailingSync(whom)
            | RealFault::ClockJump(whom, _)
            | RealFault::LittleCpu(whom)
            | RealFault::LittleMemory(whom) => *whom,
            RealFault::DiskReadOnly(host) => Whom::Follower(*host),
            _ => return Err("no fault of one host".into()),
        };
        let (n, who) = self.find(whom, leader)?;
        let at = &mut self.all[n];
        match fault {
            RealFault::DiskFull(_) => {
                at.fill_disk()?;
                Ok(format!("the disk of {who} is full"))
            }
            RealFault::DiskStuck(_) => {
                at.freeze_disk()?;
                Ok(format!("the disk of {who} answers nothing"))
            }
            RealFault::DiskFails(_) => {
                at.fail_disk()?;
                Ok(format!("the disk of {who} fails every access"))
            }
            RealFault::PowerLoss(_) => {
                at.fail_disk()?;
                at.kill();
                Ok(format!("{who} loses power, and what was not synced"))
            }
            RealFault::DiskReadOnly(_) => {
                at.start_read_only()?;
                Ok(format!("{who} starts on a disk that can only be read"))
            }
            RealFault::SlowSync(_) => {
                at.inject(Syncs::Late(LATE))?;
                Ok(format!("every sync of {who} takes {LATE:?} longer"))
            }
            RealFault::FailingSync(_) => {
                at.inject(Syncs::Fail)?;
                Ok(format!("every sync of {who} fails"))
            }
            RealFault::ClockJump(_, seconds) => {
                let clock = at.clock.as_ref();
                clock
                    .ok_or("libfaketime is not installed (Debian: libfaketime)")?
                    .set(*seconds)?;
                Ok(format!("the clock of {who} jumps by {seconds:+} s"))
            }
            RealFault::LittleCpu(_) => {
                at.cap_cpu(LITTLE_CPU)?;
                Ok(format!("{who} gets {LITTLE_CPU} thousandths of a core"))
            }
            _ => {
                at.cap_memory(LITTLE_MEMORY)?;
                let mib = LITTLE_MEMORY >> 20;
                Ok(format!("{who} gets no more than {mib} MiB of memory more"))
            }
        }
    }

    /// Ends a fault: whatever it did to processes, disks, clocks and network is undone.
    pub(super) fn end(&mut self) -> Result<(), RealError> {
        if let Some(network) = &mut self.network {
            network.heal();
        }
        for host in &mut self.all {
            host.go_on();
            host.repair_disk()?;
        }
        for host in 0..self.all.len() {
            self.all[host].start()?;
        }
        Ok(())
    }

    fn name(&self, host: usize) -> &str {
        &self.all[host].name
    }

    /// Which host it is, and what it is called.
    fn find(&self, whom: Whom, leader: Option<usize>) -> Result<(usize, String), String> {
        match whom {
            Whom::Leader => {
                let n = leader.ok_or("nobody leads")?;
                Ok((n, format!("the leader, {}", self.name(n))))
            }
            Whom::Follower(host) => {
                let n = self.other_than(host, leader);
                Ok((n, format!("a follower, {}", self.name(n))))
            }
        }
    }

    fn other_than(&self, host: usize, not: Option<usize>) -> usize {
        let all = self.all.len();
        match not {
            Some(not) if not == host => (host + 1) % all,
            _ => host % all,
        }
    }

    fn part(&mut self, inside: &[usize], both_ways: bool) -> Result<(), String> {
        let all = self.all.len();
        let network = self.network.as_mut().ok_or(NO_NETWORK)?;
        network.part(inside, all, both_ways);
        Ok(())
    }
}

const NO_NETWORK: &str = "the hosts are on loopback";
