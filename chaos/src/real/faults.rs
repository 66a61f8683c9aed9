//! The kinds of real faults.

use serde::Serialize;
use std::time::Duration;

/// To whom a fault is done. Who leads is seen when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// Whoever leads.
    Leader,
    /// Another: this host, or the next one if it leads.
    Follower(usize),
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RealFault {
    /// SIGKILL, and started again.
    Kill(Whom),
    /// SIGKILL of whoever holds a lease.
    KillHolder,
    /// SIGKILL of two at once, the leader and another.
    KillTwo(usize),
    /// SIGKILL of all at once.
    KillAll,
    /// SIGSTOP, and goes on.
    Stop(Whom),
    /// Nothing gets to it or from it.
    CutOff(Whom),
    /// What the leader says is not heard by the others; it hears them.
    MuteLeader,
    /// Nothing gets between the first hosts, counted from this one on, and the others.
    Partition(usize),
    /// What it sends and receives comes late, at odds, and in part not at all.
    BadLine(Whom),
    /// Its disk has no room.
    DiskFull(Whom),
    /// Its disk answers nothing until the fault is over.
    DiskStuck(Whom),
    /// Its disk fails every access until it is mounted anew.
    DiskFails(Whom),
    /// It starts on a disk that can only be read.
    DiskReadOnly(usize),
    /// The machine loses power: what was not synced is gone.
    PowerLoss(Whom),
    /// Every sync takes long.
    SlowSync(Whom),
    /// Every sync fails.
    FailingSync(Whom),
    /// Its wall clock is wrong by so many seconds, until the fault is over.
    ClockJump(Whom, i64),
    /// It gets a twentieth of a core.
    LittleCpu(Whom),
    /// It gets hardly more memory than it has.
    LittleMemory(Whom),
    /// One after the other is asked to end, and started again; with the newer binary if the hosts
    /// began with an older one.
    RollingRestart,
    /// It dies and loses everything; the operator removes it and a new node takes its place.
    Replace(usize),
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

impl RealFault {
    /// Whether it kills whoever leads.
    pub fn kills_leader(&self) -> bool {
        matches!(
            self,
            Self::Kill(Whom::Leader)
                | Self::KillTwo(_)
                | Self::KillAll
                | Self::PowerLoss(Whom::Leader)
        )
    }
}
