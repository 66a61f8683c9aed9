//! What the demo showed, and whether all of it was as it should be.

use crate::demo::DemoError;
use crate::demo::fleet::Fleet;
use crate::demo::forming::seats;
use crate::demo::loss::Survival;
use crate::demo::world::World;
use hale_model::{Happening, Stage};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// How long the chains may take to be the same once nothing happens any more.
const SETTLE: Duration = Duration::from_secs(5);

/// How one fault went.
#[derive(Debug, Clone)]
pub(super) struct Healing {
    pub(super) fault: &'static str,
    pub(super) healed: bool,
    /// What was told of it, each with the seconds since it was broken.
    pub(super) story: Vec<(Happening, f64)>,
    /// What the demo itself saw from outside afterwards.
    pub(super) proof: String,
}

/// The chain as each node has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Chains {
    /// Copies of the chain: nodes without a seat ask those that have one.
    pub(super) copies: usize,
    /// Whether every node's verifies, and all are the same.
    pub(super) are_equal: bool,
}

impl Chains {
    /// Has every node verify its chain, until all are the same or for as long as that may take.
    pub(super) async fn compare(fleet: &Fleet) -> Result<Self, DemoError> {
        let (voters, stand_by) = seats(fleet.members.len());
        let began = Instant::now();
        loop {
            let mut found = Vec::new();
            for member in &fleet.members {
                let verified = member.asker.get_within("/v1/audit/verify", SETTLE).await?;
                let tip = (verified["entries"].clone(), verified["tip"].clone());
                found.push((verified["valid"].as_bool() == Some(true), tip));
            }
            let are_equal = found.iter().all(|f| f.0) && found.windows(2).all(|w| w[0] == w[1]);
            if are_equal || began.elapsed() > SETTLE {
                return Ok(Self {
                    copies: voters + stand_by,
                    are_equal,
                });
            }
        }
    }
}

/// All of it.
pub(super) struct Outcome {
    /// How long the cluster took; none if there is one node.
    formed: Option<Duration>,
    pub(super) healings: Vec<Healing>,
    pub(super) survival: Option<Survival>,
    pub(super) chain: Value,
    pub(super) chains: Chains,
}

impl Outcome {
    pub(super) fn new(formed: Option<Duration>) -> Self {
        Self {
            formed,
            healings: Vec::new(),
            survival: None,
            chain: Value::Null,
            chains: Chains::default(),
        }
    }

    /// Whether everything was healed, and the leader's loss survived if there had to be one.
    pub(super) fn is_good(&self, with_loss: bool) -> bool {
        let survived = self.survival.as_ref().map_or(!with_loss, Survival::is_good);
        let healed = !self.healings.is_empty() && self.healings.iter().all(|h| h.healed);
        let proven = self.chain["valid"].as_bool() == Some(true) && self.chains.are_equal;
        healed && survived && proven
    }

    /// As one object for programs.
    pub(super) fn summary(&self, world: &World, took: Duration, is_good: bool) -> Value {
        let faults: Vec<Value> = self.healings.iter().map(Healing::summary).collect();
        json!({
            "healed": is_good,
            "seconds": took.as_secs_f64(),
            "faults": faults,
            "chain": self.chain,
            "page": world.holder().asker.page(),
            "cluster": self.cluster(&world.fleet),
        })
    }

    fn cluster(&self, fleet: &Fleet) -> Value {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let survival = self.survival.as_ref();
        let members = fleet.members.iter().map(|m| {
            json!({
                "host": m.host,
                "page": m.asker.page(),
                "data_dir": m.data_dir,
                "resident_bytes": m.resident_bytes(),
            })
        });
        json!({
            "nodes": fleet.members.len(),
            "formed_ms": self.formed.map(ms),
            "killed": survival.map(|s| &s.killed),
            "new_leader": survival.and_then(|s| s.new_leader.as_ref()),
            "new_leader_ms": survival.and_then(|s| s.new_leader_after).map(ms),
            "record_kept": survival.map(|s| s.is_kept),
            "caught_up_ms": survival.and_then(|s| s.caught_up_after).map(ms),
            "chains_equal": self.chains.are_equal,
            "members": members.collect::<Vec<Value>>(),
        })
    }
}

impl Healing {
    fn summary(&self) -> Value {
        let at = |stage| {
            let found = self.story.iter().find(|(h, _)| h.stage == stage);
            found.map(|(_, seconds)| *seconds)
        };
        let story: Vec<&Happening> = self.story.iter().map(|(h, _)| h).collect();
        json!({
            "fault": self.fault,
            "healed": self.healed,
            "seconds_to_detect": at(Stage::Detected),
            "seconds_to_record": at(Stage::Recorded),
            "proof": self.proof,
            "story": story,
        })
    }
}
