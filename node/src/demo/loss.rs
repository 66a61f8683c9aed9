//! The loss of the leader in the middle of a playbook: who leads is killed as a power cut would,
//! another is chosen, the playbook ends as if nothing had happened, and the killed node comes back.

use crate::demo::DemoError;
use crate::demo::ask::Asker;
use crate::demo::forming::listed;
use crate::demo::screen::{Look, Screen};
use crate::demo::world::World;
use hale_model::{Happening, Stage};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long the others may take to choose a leader.
const CHOOSE: Duration = Duration::from_secs(15);
/// How long a node that comes back may take until it has what the others have.
const CATCH_UP: Duration = Duration::from_secs(20);
/// How long a survivor may be unable to answer once another leads.
const SETTLE: Duration = Duration::from_secs(3);
/// Between two looks: the times that are told are as exact as this.
const LOOK: Duration = Duration::from_millis(10);

/// A leader that was killed, while the playbook goes on.
pub(super) struct Loss {
    victim: usize,
    watch: Option<JoinHandle<Option<Led>>>,
    led: Option<Led>,
}

/// Who leads since, and how long nobody did.
#[derive(Debug, Clone)]
pub(super) struct Led {
    host: String,
    after: Duration,
}

/// How a loss went.
#[derive(Debug, Clone)]
pub(super) struct Survival {
    pub(super) killed: String,
    pub(super) new_leader: Option<String>,
    pub(super) new_leader_after: Option<Duration>,
    pub(super) caught_up_after: Option<Duration>,
    /// Whether the others have the playbook's record, verified, under the fence of its lease.
    pub(super) is_kept: bool,
}

impl Survival {
    pub(super) fn is_good(&self) -> bool {
        self.is_kept && self.new_leader.is_some() && self.caught_up_after.is_some()
    }
}

async fn leader(of: &Asker) -> Result<Value, DemoError> {
    of.get("/v1/leader").await
}

fn leads_itself(view: &Value) -> bool {
    view["is_self"].as_bool() == Some(true)
}

/// The host that is healed must live, so another has to lead.
pub(super) async fn spare_the_holder(world: &World, screen: &mut Screen) -> Result<(), DemoError> {
    let holder = world.holder();
    if !leads_itself(&leader(&holder.asker).await?) {
        return Ok(());
    }
    let wanted = json!({"by": "hale demo"});
    let next = holder.asker.post("/v1/leader/transfer", &wanted).await?;
    let text = format!(
        "{} handed the lead to {}: it shall be another that is lost",
        holder.host,
        next["host"].as_str().unwrap_or("another"),
    );
    screen.note(&text);
    Ok(())
}

impl Loss {
    /// Kills who leads now, unless that is the host that is healed or nobody.
    pub(super) async fn strike(world: &mut World) -> Result<Option<Self>, DemoError> {
        let view = leader(&world.holder().asker).await?;
        let host = view["host"].as_str().unwrap_or_default();
        let victim = world.fleet.number_of(host);
        let Some(victim) = victim.filter(|v| *v != world.affected) else {
            return Ok(None);
        };
        world.fleet.kill(victim);
        let killed = Instant::now();
        let others = world.fleet.members.iter().enumerate();
        let others = others.filter(|(n, _)| *n != victim);
        let others = others.map(|(_, m)| (m.host.clone(), m.asker.clone()));
        Ok(Some(Self {
            victim,
            watch: Some(tokio::spawn(watch(others.collect(), killed))),
            led: None,
        }))
    }

    /// Who leads now, once that is known; it is told once.
    pub(super) async fn led(&mut self) -> Option<Led> {
        let Some(watch) = &mut self.watch else {
            return std::future::pending().await;
        };
        let led = watch.await.ok().flatten();
        self.watch = None;
        self.led.clone_from(&led);
        led
    }
}

async fn watch(others: Vec<(String, Asker)>, killed: Instant) -> Option<Led> {
    while killed.elapsed() < CHOOSE {
        for (host, asker) in &others {
            let after = killed.elapsed();
            if leader(asker).await.is_ok_and(|view| leads_itself(&view)) {
                let host = host.clone();
                return Some(Led { host, after });
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

/// Tells that the leader was killed.
pub(super) fn tell_killed(world: &World, loss: &Loss, screen: &mut Screen, broken: Instant) {
    let text = format!(
        "{}, the leader: SIGKILL in the middle of the playbook, as a power cut would end it",
        world.fleet.members[loss.victim].host
    );
    screen.step(broken.elapsed(), "KILLED", Look::Bad, &text);
}

/// Tells who leads now.
pub(super) fn tell_led(led: Option<&Led>, screen: &mut Screen, broken: Instant) {
    match led {
        Some(Led { host, after }) => {
            let text = format!(
                "{host} is the leader now: those that are left chose it within {} ms of the kill",
                after.as_millis()
            );
            screen.step(broken.elapsed(), "leads", Look::Good, &text);
        }
        None => {
            let text = format!("nobody leads after {} s", CHOOSE.as_secs());
            screen.step(broken.elapsed(), "leads", Look::Bad, &text);
        }
    }
}

/// Looks whether the others have the record, and has the killed node come back.
pub(super) async fn come_back(
    world: &mut World,
    mut loss: Loss,
    story: &[(Happening, f64)],
    screen: &mut Screen,
    broken: Instant,
) -> Result<Survival, DemoError> {
    if loss.watch.is_some() {
        let led = loss.led().await;
        tell_led(led.as_ref(), screen, broken);
    }
    let kept = keepers(world, loss.victim, story).await;
    let others = world.fleet.hosts_but(loss.victim);
    let others = listed(&others);
    match &kept {
        Ok((index, fence)) => {
            let text = format!(
                "entry {index} is on {others}, verified, under fence {fence} as it was leased"
            );
            screen.step(broken.elapsed(), "kept", Look::Good, &text);
        }
        Err(why) => screen.step(broken.elapsed(), "kept", Look::Bad, why),
    }
    let host = world.fleet.members[loss.victim].host.clone();
    let text = format!("{host} is started again, with the command line that it always has");
    screen.step(broken.elapsed(), "returned", Look::Plain, &text);
    let started = Instant::now();
    world.fleet.start_again(loss.victim).await?;
    let caught_up = caught_up(world, loss.victim, started).await?;
    match caught_up {
        Some((entries, took)) => {
            let text = format!(
                "{host} has the same {entries} entries as the others, {:.1} s after its start",
                took.as_secs_f64()
            );
            screen.step(broken.elapsed(), "caught up", Look::Good, &text);
        }
        None => {
            let text = format!("{host} lacks entries after {} s", CATCH_UP.as_secs());
            screen.step(broken.elapsed(), "caught up", Look::Bad, &text);
        }
    }
    Ok(Survival {
        killed: host,
        new_leader: loss.led.as_ref().map(|l| l.host.clone()),
        new_leader_after: loss.led.as_ref().map(|l| l.after),
        caught_up_after: caught_up.map(|(_, took)| took),
        is_kept: kept.is_ok(),
    })
}

/// The playbook's record as every survivor has it: its entry and its fence, or what is wrong.
async fn keepers(
    world: &World,
    victim: usize,
    story: &[(Happening, f64)],
) -> Result<(u64, u64), String> {
    let last = |stage| story.iter().rev().find(|(h, _)| h.stage == stage);
    let number = |stage, name: &str| last(stage).and_then(|(h, _)| h.detail[name].as_u64());
    let fence = number(Stage::Leased, "fence").ok_or("the playbook held no lease")?;
    let index = number(Stage::Recorded, "index").ok_or("there is no record of the playbook")?;
    let hash = last(Stage::Recorded).map(|(h, _)| h.detail["hash"].clone());
    let survivors = world.fleet.members.iter().enumerate();
    for (_, member) in survivors.filter(|(n, _)| *n != victim) {
        let host = &member.host;
        let ask = |path: String| async move {
            let answer = member.asker.get_within(&path, SETTLE).await;
            answer.map_err(|e| format!("{host} does not tell: {e}"))
        };
        if ask("/v1/audit/verify".into()).await?["valid"].as_bool() != Some(true) {
            return Err(format!("the chain on {host} does not verify"));
        }
        let entry = ask(format!("/v1/audit/entries/{index}")).await?;
        if Some(&entry["hash"]) != hash.as_ref() {
            return Err(format!("entry {index} on {host} is another"));
        }
        if entry["fence"].as_u64() != Some(fence) {
            return Err(format!(
                "entry {index} on {host} is not under fence {fence}"
            ));
        }
    }
    Ok((index, fence))
}

/// Waits until a node that came back has what the one with the services has.
async fn caught_up(
    world: &World,
    victim: usize,
    started: Instant,
) -> Result<Option<(u64, Duration)>, DemoError> {
    while started.elapsed() < CATCH_UP {
        let (wanted, has) = (
            world.holder().tip().await?,
            world.fleet.members[victim].tip().await?,
        );
        if wanted == has {
            return Ok(Some((has.0, started.elapsed())));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}
