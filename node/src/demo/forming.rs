//! How the demo's nodes become a cluster, while the one with the services learns what is normal.

use crate::demo::DemoError;
use crate::demo::fleet::Fleet;
use crate::demo::screen::{Look, Screen};
use crate::demo::world::World;
use std::time::Duration;
use tokio::time::Instant;

/// How long the node with the services watches before anything is broken.
const LEARN: Duration = Duration::from_secs(10);
/// How long the cluster may take to be complete.
const FORM: Duration = Duration::from_secs(40);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Who may decide in a cluster of so many: an odd number, so that a majority is never in doubt; and
/// how many stand by to replace one of them.
pub(super) fn seats(nodes: usize) -> (usize, usize) {
    let voters = match nodes {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    };
    (voters, nodes.saturating_sub(voters).min(2))
}

/// How many decide and how many stand by now, as the first host knows it.
async fn seated(fleet: &Fleet) -> Result<(usize, usize), DemoError> {
    let view = fleet.members[0].asker.get("/v1/voters").await?;
    let seats = view["voters"].as_array().map(Vec::as_slice);
    let seats = seats.unwrap_or_default().iter();
    let count = |wanted: &[&str]| {
        let with = |v: &&serde_json::Value| v["seat"].as_str().is_some_and(|s| wanted.contains(&s));
        seats.clone().filter(with).count()
    };
    Ok((count(&["leader", "voter"]), count(&["learner"])))
}

/// Starts the nodes and waits until they are a cluster, and until the one with the services knows
/// what is normal. Returns how long the cluster took.
pub(super) async fn form(
    world: &mut World,
    screen: &mut Screen,
) -> Result<Option<Duration>, DemoError> {
    let nodes = world.fleet.members.len();
    if nodes == 1 {
        let began = Instant::now();
        world.fleet.found().await?;
        let root = world.holder().asker.root();
        screen.note(&format!("started a node, answering at {root}"));
        screen.note("it is alone, so there is no other to go on if it is lost: it is not killed");
        learn(world, screen, began).await?;
        return Ok(None);
    }
    let story = format!(
        "each runs a node of its own, a real process; the services are on {}",
        world.holder().host
    );
    screen.act("● forming:", &format!("a cluster of {nodes} hosts"), &story);
    let began = Instant::now();
    world.fleet.found().await?;
    let text = format!("{} begins it: `hale init`", world.fleet.members[0].host);
    screen.step(began.elapsed(), "founded", Look::Plain, &text);
    world.fleet.join().await?;
    let text = format!(
        "{}: `{}`",
        listed(&world.fleet.hosts_but(0)),
        world.fleet.join_line(),
    );
    screen.step(began.elapsed(), "joined", Look::Plain, &text);
    learn(world, screen, began).await.map(Some)
}

/// Waits until both is done; the cluster is told as soon as it is complete.
async fn learn(world: &World, screen: &mut Screen, began: Instant) -> Result<Duration, DemoError> {
    let learning = Instant::now();
    let nodes = world.fleet.members.len();
    let mut formed = None;
    let mut knows_playbooks = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = seated(&world.fleet).await?;
        if formed.is_none() && now == seats(nodes) {
            formed = Some(began.elapsed());
            if nodes > 1 {
                let text = complete(nodes, &leader(world).await?);
                screen.step(began.elapsed(), "complete", Look::Good, &text);
            }
        }
        if !knows_playbooks {
            let indexed = world
                .holder()
                .asker
                .metric("hale_playbooks_indexed")
                .await?;
            knows_playbooks = indexed.is_some_and(|n| n > 0.0);
        }
        let past = learning.elapsed();
        match formed {
            Some(formed) if past >= LEARN && (knows_playbooks || past >= FORM) => {
                let host = &world.holder().host;
                let seconds = past.as_secs();
                screen.note(&format!(
                    "learned what is normal on {host} for {seconds} seconds"
                ));
                return Ok(formed);
            }
            None if past >= FORM => {
                return Err(DemoError::Failed(format!(
                    "the cluster was not complete after {} s: {} hosts have a vote, {} stand by",
                    FORM.as_secs(),
                    now.0,
                    now.1,
                )));
            }
            _ => {}
        }
        let path = "/v1/status?consistency=stale";
        let status = world.holder().asker.get(path).await?;
        screen.learning(&status, past, LEARN);
    }
}

async fn leader(world: &World) -> Result<String, DemoError> {
    let leader = world.holder().asker.get("/v1/leader").await?;
    Ok(leader["host"].as_str().unwrap_or("nobody").to_owned())
}

/// What a complete cluster is, for whoever has never seen one.
fn complete(nodes: usize, leader: &str) -> String {
    let (voters, stand_by) = seats(nodes);
    let others = match (stand_by, nodes - voters - stand_by) {
        (0, _) => String::new(),
        (1, _) => ", one stands by".into(),
        (n, 0) => format!(", {n} stand by"),
        (n, more) => format!(", {n} stand by, {more} more ask them"),
    };
    let whole = match voters {
        1 => {
            return format!(
                "{leader} decides alone, the other has a copy and stands by\n\
             from 3 hosts on any one can be lost; of two none can, so none is killed"
            );
        }
        _ if others.is_empty() => format!("all {nodes} hosts have a vote"),
        _ => format!("{voters} of {nodes} hosts have a vote{others}"),
    };
    let spare = if voters == 3 { "one" } else { "two" };
    format!(
        "{whole}: any {spare} of them can be lost, and the others go on\n\
         {leader} is the leader for now: it puts in order what a majority agrees to"
    )
}

/// Names in a sentence.
pub(super) fn listed(names: &[&str]) -> String {
    match names {
        [] => "nobody".into(),
        [one] => (*one).into(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
