//! `hale demo`: a real node on this machine learns what is normal, three real things break, and
//! each stage of their healing is told live with its numbers. Nothing is left behind.

mod faults;
mod postgres;
mod screen;
pub(crate) mod service;
mod world;

use hale_model::{Happening, IncidentId, Stage, Timestamp};
use screen::Screen;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::SignalKind;
use tokio::time::Instant;
use world::World;

/// How long the node watches before anything is broken.
const LEARN: Duration = Duration::from_secs(10);
/// How long one fault may take from breaking to its record.
const HEAL_AT_MOST: Duration = Duration::from_secs(14);

/// What `hale demo` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct DemoOptions {
    /// Say what happened as one JSON object, and nothing else.
    pub(crate) json: bool,
    /// Keep the node running afterwards until Ctrl-C.
    pub(crate) keep: bool,
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

/// How one fault went.
#[derive(Debug, Clone)]
struct Healing {
    fault: &'static str,
    healed: bool,
    story: Vec<Happening>,
    seconds_to_detect: Option<f64>,
    seconds_to_record: Option<f64>,
    /// What the demo itself saw from outside afterwards.
    proof: String,
}

/// Runs the demo. Success only if everything that was broken was healed and the chain verifies.
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
    screen.title();
    let work = async {
        let mut world = World::build(&mut screen).await?;
        let outcome = heal_everything(&mut world, &mut screen, began, options).await;
        if outcome.is_err() {
            screen.note(&world.node_log());
        }
        outcome
    };
    // Whatever ends it drops the world, and with it everything it started.
    tokio::select! {
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

async fn heal_everything(
    world: &mut World,
    screen: &mut Screen,
    began: Instant,
    options: DemoOptions,
) -> Result<ExitCode, DemoError> {
    let mut events = world.follow().await?;
    learn(world, screen).await?;
    let mut healings = Vec::new();
    for fault in faults::ALL
        .into_iter()
        .filter(|f| f.is_wanted(&options.only))
    {
        if !fault.is_possible(world) {
            screen.skipped(
                fault.name(),
                "no PostgreSQL could be started on this machine",
            );
            continue;
        }
        screen.fault(fault.name(), fault.story());
        let broken = Instant::now();
        let began_at = crate::answers::now();
        fault.break_it(world).await?;
        let story = tell(&mut events, fault.service(), screen, broken, began_at).await?;
        let ended_well = story.iter().any(|(h, _)| {
            h.stage == Stage::Recorded && h.detail["status"].as_str() == Some("success")
        });
        let (fine, proof) = fault.look(world).await;
        let at = |stage| {
            story
                .iter()
                .find(|(h, _)| h.stage == stage)
                .map(|(_, s)| *s)
        };
        screen.proof(fine && ended_well, &proof);
        healings.push(Healing {
            fault: fault.name(),
            healed: fine && ended_well,
            seconds_to_detect: at(Stage::Detected),
            seconds_to_record: at(Stage::Recorded),
            story: story.into_iter().map(|(h, _)| h).collect(),
            proof,
        });
    }
    let chain = world.get("/v1/audit/verify").await?;
    let valid = chain["valid"].as_bool() == Some(true);
    let healed = valid && !healings.is_empty() && healings.iter().all(|h| h.healed);
    screen.chain(&chain);
    screen.summary(
        healed,
        &summary(world, &healings, &chain, began, healed),
        options.keep,
    );
    if options.keep {
        screen.keep(&world.page());
        told_to_end().await;
    }
    Ok(if healed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn learn(world: &World, screen: &mut Screen) -> Result<(), DemoError> {
    let until = Instant::now() + LEARN;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let status = world.get("/v1/status").await?;
        let left = until.saturating_duration_since(Instant::now());
        screen.learning(&status, LEARN.saturating_sub(left), LEARN);
    }
    screen.learned();
    Ok(())
}

/// Tells what happens to the incident of one service until its record is on the chain.
async fn tell(
    events: &mut world::Events,
    service: &str,
    screen: &mut Screen,
    broken: Instant,
    began_at: Timestamp,
) -> Result<Vec<(Happening, f64)>, DemoError> {
    let deadline = broken + HEAL_AT_MOST;
    // What is told of an incident that was open before is not this fault's story.
    let mut ours: Vec<IncidentId> = Vec::new();
    let mut story = Vec::new();
    let mut recorded = false;
    while !recorded {
        let Ok(next) = tokio::time::timeout_at(deadline, events.next()).await else {
            screen.note("nothing more happened in time");
            break;
        };
        let happening = next?;
        if happening
            .service
            .as_ref()
            .is_none_or(|s| s.as_str() != service)
        {
            continue;
        }
        match &happening.incident {
            Some(id) if happening.stage == Stage::Detected && happening.at >= began_at => {
                ours.push(id.clone());
            }
            Some(id) if ours.contains(id) => {}
            _ => continue,
        }
        let seconds = broken.elapsed().as_secs_f64();
        screen.happening(&happening, seconds);
        recorded = happening.stage == Stage::Recorded;
        story.push((happening, seconds));
    }
    Ok(story)
}

fn summary(
    world: &World,
    healings: &[Healing],
    chain: &Value,
    began: Instant,
    healed: bool,
) -> Value {
    let faults: Vec<Value> = healings
        .iter()
        .map(|h| {
            json!({
                "fault": h.fault,
                "healed": h.healed,
                "seconds_to_detect": h.seconds_to_detect,
                "seconds_to_record": h.seconds_to_record,
                "proof": h.proof,
                "story": h.story,
            })
        })
        .collect();
    json!({
        "healed": healed,
        "seconds": began.elapsed().as_secs_f64(),
        "faults": faults,
        "chain": chain,
        "page": world.page(),
    })
}
