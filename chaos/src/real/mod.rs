//! Real faults: `hale` processes on hosts of their own, clients that write and contend for leases,
//! faults by a seeded schedule, and in the end the chain and what was seen on the way are put before
//! the same oracle that judges the simulation.
//!
//! Every host is a network namespace where root can make some, else a port on loopback, and the
//! report says which. The schedule is the seed's; when a step of it happens on the wall clock is not.

mod caps;
mod clock;
mod disk;
mod faults;
mod host;
mod hosts;
mod inject;
mod line;
mod network;
mod playbooks;
mod report;
mod scenario;
mod syscalls;
mod tool;
mod verdict;
mod workload;

pub use faults::{RealFault, Step, Whom};
pub use report::{Report, markdown, timeline};
pub use scenario::{Scenario, plan};

use crate::event::Happened;
use hosts::Hosts;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use workload::Workload;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The schedule's seed.
    pub seed: u64,
    /// How many hosts.
    pub hosts: usize,
    /// Which faults.
    pub scenario: Scenario,
    /// For how long faults come.
    pub time: Duration,
    /// Between the end of one fault and the next, on average.
    pub pause: Duration,
    /// The `hale` to run.
    pub hale: PathBuf,
    /// What the hosts begin with instead, until the first rolling restart.
    pub from: Option<PathBuf>,
    /// Where everything is kept; removed in the end unless something did not hold.
    pub dir: PathBuf,
    /// Only on loopback, also where namespaces can be made.
    pub loopback: bool,
}

/// Why it could not be done. What did not hold is no error: the report tells it.
#[derive(Debug, thiserror::Error)]
pub enum RealError {
    /// A file or a process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A host did not get ready, or the cluster did not form.
    #[error("{0}")]
    NotReady(String),
}

impl RealError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Does it, and says what came of it, with the log that the oracle judged. `tell` hears of each
/// step.
///
/// # Errors
/// If the cluster can't be made.
pub async fn run(
    plan: &Plan,
    mut tell: impl FnMut(&str),
) -> Result<(Report, Vec<Happened>), RealError> {
    let mut hosts = Hosts::make(plan, &mut tell).await?;
    let began = Instant::now();
    tell("clients begin to write and to contend for leases");
    let workload = Workload::start(&hosts);
    let (mut done, mut left_out) = (vec![], vec![]);
    for step in scenario::plan(plan.seed, plan.hosts, plan.pause, plan.scenario) {
        if began.elapsed() >= plan.time {
            break;
        }
        tokio::time::sleep(step.after).await;
        let leader = hosts.leader().await;
        let from_ms = began.elapsed().as_millis() as u64;
        let told = match hosts.begin(&step.fault, leader).await {
            Ok(told) => told,
            Err(why) => {
                let at = from_ms as f64 / 1000.0;
                tell(&format!("{at:>6.1} s  left out, {why}: {:?}", step.fault));
                left_out.push((step.fault, why));
                hosts.end()?;
                continue;
            }
        };
        let was_led = leader.is_some();
        tell(&format!("{:>6.1} s  {told}", from_ms as f64 / 1000.0));
        tokio::time::sleep(step.lasts).await;
        hosts.end()?;
        let until_ms = began.elapsed().as_millis() as u64;
        done.push(report::Done {
            from_ms,
            until_ms,
            fault: step.fault,
            was_led,
            told,
        });
    }
    tell("the faults are over: everything has time to end");
    hosts.all_up().await?;
    let seen = workload.end().await;
    let mut verdict = verdict::of(&hosts, &seen, began).await?;
    verdict.wrong.append(&mut hosts.failed);
    let log = std::mem::take(&mut verdict.log);
    let report = report::of(
        plan,
        &hosts,
        (&done, left_out),
        seen,
        verdict,
        began.elapsed(),
    );
    hosts.take_down(report.wrong.is_empty());
    Ok((report, log))
}
