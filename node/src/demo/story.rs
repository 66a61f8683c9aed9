//! One fault's story: what the node tells of it, from its event stream, until its record is on the
//! chain; and the leader's end in the middle of it.

use crate::demo::DemoError;
use crate::demo::ask::Events;
use crate::demo::loss::{self, Loss};
use crate::demo::screen::Screen;
use crate::demo::world::World;
use hale_model::{Happening, IncidentId, Stage, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// How long one fault may take from breaking to its record.
const HEAL: Duration = Duration::from_secs(25);
/// How much longer, if nobody leads for a while.
const LEADERLESS: Duration = Duration::from_secs(10);

/// Whose story is told, and how.
pub(super) struct Telling<'a> {
    pub(super) world: &'a mut World,
    pub(super) screen: &'a mut Screen,
    pub(super) events: &'a mut Events,
    /// Whose incident it is.
    pub(super) service: &'static str,
    /// When it was broken.
    pub(super) broken: Instant,
    /// The same, as the node's clock says.
    pub(super) began_at: Timestamp,
    /// As soon as this is told the leader is killed.
    pub(super) lose_leader_at: Option<Stage>,
}

/// What was told.
pub(super) struct Told {
    /// Each with the seconds since it was broken.
    pub(super) story: Vec<(Happening, f64)>,
    /// The leader that was killed.
    pub(super) loss: Option<Loss>,
}

impl Told {
    /// Whether the playbook ended, and well.
    pub(super) fn ended_well(&self) -> bool {
        self.story.iter().any(|(h, _)| {
            h.stage == Stage::Recorded && h.detail["status"].as_str() == Some("success")
        })
    }
}

impl Telling<'_> {
    /// Tells until the record is on the chain, or for as long as it may take.
    pub(super) async fn until_recorded(&mut self) -> Result<Told, DemoError> {
        let mut deadline = self.broken + HEAL;
        // What is told of an incident that was open before is not this fault's story.
        let mut ours: Vec<IncidentId> = Vec::new();
        let mut told = Told {
            story: Vec::new(),
            loss: None,
        };
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout_at(deadline, self.events.next()) => next,
                led = next_leader(&mut told.loss) => {
                    loss::tell_led(led.as_ref(), self.screen, self.broken);
                    continue;
                }
            };
            let Ok(next) = next else {
                self.screen.note("nothing more happened in time");
                return Ok(told);
            };
            let happening = next?;
            if !self.belongs(&happening, &mut ours) {
                continue;
            }
            let stage = happening.stage;
            let seconds = self.broken.elapsed().as_secs_f64();
            self.screen.happening(&happening, seconds);
            told.story.push((happening, seconds));
            if stage == Stage::Recorded {
                return Ok(told);
            }
            if self.lose_leader_at == Some(stage) {
                self.lose_leader_at = None;
                deadline += LEADERLESS;
                told.loss = Loss::strike(self.world).await?;
                match &told.loss {
                    Some(loss) => loss::tell_killed(self.world, loss, self.screen, self.broken),
                    None => self.screen.note("nobody else leads now, so none is killed"),
                }
            }
        }
    }

    fn belongs(&self, happening: &Happening, ours: &mut Vec<IncidentId>) -> bool {
        let service = happening.service.as_ref().map(|s| s.as_str());
        if service != Some(self.service) {
            return false;
        }
        match &happening.incident {
            Some(id) if happening.stage == Stage::Detected && happening.at >= self.began_at => {
                ours.push(id.clone());
                true
            }
            Some(id) => ours.contains(id),
            None => false,
        }
    }
}

async fn next_leader(loss: &mut Option<Loss>) -> Option<loss::Led> {
    match loss {
        Some(loss) => loss.led().await,
        None => std::future::pending().await,
    }
}
