//! `hale demo`: real nodes on this machine form a cluster, one of them learns what is normal, three
//! real things break on it, and each stage of their healing is told live with its numbers. While
//! the last is healed the cluster's leader is killed. Nothing is left behind.

mod ask;
mod faults;
mod fleet;
mod forming;
mod loss;
mod outcome;
mod ports;
mod postgres;
mod screen;
pub(crate) mod service;
mod story;
mod world;

use faults::Fault;
use outcome::{Chains, Healing, Outcome};
use screen::Screen;
use std::process::ExitCode;
use tokio::signal::unix::SignalKind;
use tokio::time::Instant;
use world::World;

/// From so many nodes on one can be lost.
const CAN_LOSE_ONE: usize = 3;

/// What `hale demo` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct DemoOptions {
    /// Say what happened as one JSON object, and nothing else.
    pub(crate) json: bool,
    /// Keep the nodes running afterwards until Ctrl-C.
    pub(crate) keep: bool,
    /// How many nodes there are, at least one.
    pub(crate) nodes: usize,
    /// Only faults whose name or service holds one of these; all if empty.
    pub(crate) only: Vec<String>,
}

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A file, process or socket did not work.
    #[error("can't {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The node did not answer as it should.
    #[error("the demo's node did not answer {path}")]
    Node {
        /// What was asked.
        path: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// Something else.
    #[error("{0}")]
    Failed(String),
    /// The user has seen enough.
    #[error("interrupted; everything was cleaned up")]
    Interrupted,
}

/// Runs the demo. Success only if everything that was broken was healed, the loss of the leader was
/// survived, and the chain verifies and is the same on every node.
///
/// # Errors
/// If the demo's own parts could not be started.
pub(crate) async fn run(options: DemoOptions) -> Result<ExitCode, DemoError> {
    let began = Instant::now();
    if !faults::ALL.iter().any(|f| f.is_wanted(&options.only)) {
        let names: Vec<&str> = faults::ALL.iter().map(|f| f.service()).collect();
        return Err(DemoError::Failed(format!(
            "--only names no fault; there are {}",
            names.join(", ")
        )));
    }
    let mut screen = Screen::new(options.json);
    let nodes = options.nodes.max(1);
    screen.title(nodes);
    let work = async {
        let mut world = World::build(&mut screen, nodes).await?;
        let outcome = show(&mut world, &mut screen, began, options).await;
        if !matches!(outcome, Ok(ExitCode::SUCCESS)) {
            screen.note(&world.fleet.logs());
        }
        outcome
    };
    // Whatever ends it drops the world, and with it everything it started.
    tokio::select! {
        biased;
        // First, since the end of `--keep` is told by the same signal and is no interruption.
        outcome = work => outcome,
        () = told_to_end() => Err(DemoError::Interrupted),
    }
}

/// Ctrl-C, a supervisor that ends it, a terminal that is closed.
async fn told_to_end() {
    let heard = |kind| async move {
        match tokio::signal::unix::signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = heard(SignalKind::interrupt()) => {}
        () = heard(SignalKind::terminate()) => {}
        () = heard(SignalKind::hangup()) => {}
    }
}

async fn show(
    world: &mut World,
    screen: &mut Screen,
    began: Instant,
    options: DemoOptions,
) -> Result<ExitCode, DemoError> {
    let formed = forming::form(world, screen).await?;
    let mut events = world.holder().asker.follow().await?;
    let mut faults = Vec::new();
    for fault in faults::ALL
        .into_iter()
        .filter(|f| f.is_wanted(&options.only))
    {
        match fault.is_possible(world) {
            true => faults.push(fault),
            false => screen.skipped(
                fault.name(),
                "no PostgreSQL could be started on this machine",
            ),
        }
    }
    let mut outcome = Outcome::new(formed);
    let can_lose_one = world.fleet.members.len() >= CAN_LOSE_ONE;
    for (left, fault) in (0..faults.len()).rev().zip(faults) {
        let with_loss = can_lose_one && left == 0;
        heal(world, screen, &mut events, fault, with_loss, &mut outcome).await?;
    }
    outcome.chain = world.holder().asker.get("/v1/audit/verify").await?;
    outcome.chains = Chains::compare(&world.fleet).await?;
    screen.chain(&outcome.chain, &outcome.chains);
    let is_good = outcome.is_good(can_lose_one);
    let summary = outcome.summary(world, began.elapsed(), is_good);
    screen.summary(is_good, &summary, options.keep);
    if options.keep {
        screen.keep(&world.fleet);
        told_to_end().await;
    }
    Ok(match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Breaks one thing and tells how it is healed; with the loss of the leader, if that is wanted.
async fn heal(
    world: &mut World,
    screen: &mut Screen,
    events: &mut ask::Events,
    fault: Fault,
    with_loss: bool,
    outcome: &mut Outcome,
) -> Result<(), DemoError> {
    if with_loss {
        loss::spare_the_holder(world, screen).await?;
        screen.fault(
            &format!("{}, and the leader is lost", fault.name()),
            fault.story(),
        );
    } else {
        screen.fault(fault.name(), fault.story());
    }
    let broken = Instant::now();
    let began_at = crate::answers::now();
    fault.break_it(world).await?;
    let mut told = story::Telling {
        world,
        screen,
        events,
        service: fault.service(),
        broken,
        began_at,
        lose_leader_at: with_loss.then(|| fault.moment()),
    };
    let told = told.until_recorded().await?;
    let (fine, proof) = fault.look(world).await;
    let healed = fine && told.ended_well();
    screen.proof(healed, &proof);
    if let Some(loss) = told.loss {
        let survival = loss::come_back(world, loss, &told.story, screen, broken).await?;
        screen.survived(&survival);
        outcome.survival = Some(survival);
    }
    outcome.healings.push(Healing {
        fault: fault.name(),
        healed,
        story: told.story,
        proof,
    });
    Ok(())
}
