//! The schedule of real faults, and how each is brought about.

use super::RealError;
use super::hosts::Hosts;
use crate::rng::Rng;
use serde::Serialize;
use std::time::Duration;

/// What goes wrong. Who leads or follows is seen when it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RealFault {
    /// The leader is killed with SIGKILL, and started again.
    KillLeader,
    /// Another is.
    KillFollower(usize),
    /// Whoever holds a lease is.
    KillHolder,
    /// Two at once, the leader among them.
    KillTwo(usize),
    /// The leader is stopped with SIGSTOP, and goes on.
    StopLeader,
    /// Another is.
    StopFollower(usize),
    /// Nothing gets to the leader or from it.
    CutOffLeader,
    /// What the leader says is not heard by the others; it hears them.
    MuteLeader,
    /// Nothing gets between the first hosts, counted from this one on, and the others.
    Partition(usize),
    /// All are killed at once, and started again.
    KillAll,
    /// One after the other is asked to end, and started again.
    RollingRestart,
}

impl RealFault {
    fn needs_leader(&self) -> bool {
        matches!(
            self,
            Self::KillLeader
                | Self::KillTwo(_)
                | Self::StopLeader
                | Self::CutOffLeader
                | Self::MuteLeader
        )
    }
}

/// A step of the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// How long after the last one.
    pub after: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: RealFault,
}

/// The schedule of a seed, without an end: the leader is killed in about four of ten steps.
pub fn plan(seed: u64, hosts: usize, pause: Duration) -> impl Iterator<Item = Step> {
    let mut rng = Rng::new(seed);
    std::iter::from_fn(move || {
        let host = rng.within(0, hosts as u64) as usize;
        let fault = match rng.within(0, 20) {
            0..=7 => RealFault::KillLeader,
            8..=9 => RealFault::KillFollower(host),
            10 => RealFault::KillHolder,
            11 => RealFault::KillTwo(host),
            12..=13 => RealFault::StopLeader,
            14 => RealFault::StopFollower(host),
            15 => RealFault::CutOffLeader,
            16 => RealFault::MuteLeader,
            17 => RealFault::Partition(host),
            18 => RealFault::KillAll,
            _ => RealFault::RollingRestart,
        };
        let pause = pause.as_millis() as u64;
        Some(Step {
            after: Duration::from_millis(rng.within(pause / 2, pause * 3 / 2 + 1)),
            lasts: Duration::from_millis(rng.within(500, 6_000)),
            fault,
        })
    })
}

impl Hosts {
    /// Brings a fault about where `leader` leads, and says in words what was done; nothing if there
    /// is nobody to do it to.
    pub(super) async fn begin(
        &mut self,
        fault: &RealFault,
        leader: Option<usize>,
    ) -> Option<String> {
        if fault.needs_leader() && leader.is_none() {
            return None;
        }
        let named = |hosts: &Self, n: Option<usize>| {
            n.map_or_else(|| "nobody".to_owned(), |n| hosts.all[n].name.clone())
        };
        Some(match fault {
            RealFault::KillLeader => {
                self.kill(leader);
                format!("SIGKILL of the leader, {}", named(self, leader))
            }
            RealFault::KillFollower(host) => {
                let other = self.other_than(*host, leader);
                self.kill(Some(other));
                format!("SIGKILL of a follower, {}", named(self, Some(other)))
            }
            RealFault::KillHolder => {
                let holder = Some(self.holder().await?);
                self.kill(holder);
                format!("SIGKILL of a lease's holder, {}", named(self, holder))
            }
            RealFault::KillTwo(host) => {
                let other = self.other_than(*host, leader);
                self.kill(leader);
                self.kill(Some(other));
                let (one, two) = (named(self, leader), named(self, Some(other)));
                format!("SIGKILL of the leader, {one}, and of {two}")
            }
            RealFault::StopLeader => {
                self.stop(leader);
                format!("SIGSTOP of the leader, {}", named(self, leader))
            }
            RealFault::StopFollower(host) => {
                let other = self.other_than(*host, leader);
                self.stop(Some(other));
                format!("SIGSTOP of a follower, {}", named(self, Some(other)))
            }
            RealFault::CutOffLeader | RealFault::MuteLeader | RealFault::Partition(_)
                if self.network.is_none() =>
            {
                return None;
            }
            RealFault::CutOffLeader => {
                let inside: Vec<usize> = leader.into_iter().collect();
                self.part(&inside, true);
                format!("the leader, {}, is cut off", named(self, leader))
            }
            RealFault::MuteLeader => {
                let inside: Vec<usize> = leader.into_iter().collect();
                self.part(&inside, false);
                format!("nobody hears the leader, {}", named(self, leader))
            }
            RealFault::Partition(host) => {
                let all = self.all.len();
                let inside: Vec<usize> = (0..all / 2).map(|n| (host + n) % all).collect();
                self.part(&inside, true);
                let names: Vec<String> = inside.iter().map(|n| named(self, Some(*n))).collect();
                format!("nothing gets between {} and the others", names.join(", "))
            }
            RealFault::KillAll => {
                for host in 0..self.all.len() {
                    self.kill(Some(host));
                }
                "SIGKILL of all".to_owned()
            }
            RealFault::RollingRestart => {
                for host in 0..self.all.len() {
                    self.restart(host).await;
                }
                "a rolling restart".to_owned()
            }
        })
    }

    /// Ends a fault: whatever it did to processes and network is undone.
    pub(super) fn end(&mut self) -> Result<(), RealError> {
        if let Some(network) = &mut self.network {
            network.heal();
        }
        for host in &mut self.all {
            host.go_on();
        }
        for host in 0..self.all.len() {
            self.all[host].start()?;
        }
        Ok(())
    }

    fn other_than(&self, host: usize, not: Option<usize>) -> usize {
        let all = self.all.len();
        match not {
            Some(not) if not == host => (host + 1) % all,
            _ => host % all,
        }
    }

    fn part(&mut self, inside: &[usize], both_ways: bool) {
        let all = self.all.len();
        if let Some(network) = &mut self.network {
            network.part(inside, all, both_ways);
        }
    }
}
