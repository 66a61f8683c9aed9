//! Every actor of the node has one supervisor: an actor that fails is started anew, slower each
//! time it fails again, and everybody who asks it finds the new one in its slot.

use hale_model::port::Later;
use ractor::{
    Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// An actor that ran this long is trusted again.
const TRUSTED_AFTER: Duration = Duration::from_secs(60);

/// Where the actor that takes `M` is found, whichever run of it is alive.
pub(crate) struct Slot<M>(Arc<watch::Sender<Option<ActorRef<M>>>>);

impl<M> Clone for Slot<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: ractor::Message> Slot<M> {
    pub(crate) fn empty() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(crate) fn fill(&self, actor: ActorRef<M>) {
        self.0.send_replace(Some(actor));
    }

    fn actor(&self) -> Option<ActorRef<M>> {
        self.0.borrow().clone()
    }

    /// Asks and waits; nothing if the actor fails, or if it takes longer. While the node starts,
    /// the actor may be the next that is started: it is waited for, since "nobody there yet" must
    /// not be taken for an answer.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        within: Duration,
        question: impl FnOnce(RpcReplyPort<T>) -> M,
    ) -> Option<T> {
        let mut slot = self.0.subscribe();
        let began = Instant::now();
        let filled = tokio::time::timeout(within, slot.wait_for(Option::is_some)).await;
        let actor = filled.ok()?.ok()?.clone()?;
        let left = within.saturating_sub(began.elapsed());
        match actor.call(question, Some(left)).await {
            Ok(ractor::rpc::CallResult::Success(answer)) => Some(answer),
            _ => None,
        }
    }

    /// Tells, without waiting. Only for what is rare: mailboxes are not to be flooded.
    pub(crate) fn tell(&self, message: M) {
        if let Some(actor) = self.actor()
            && actor.cast(message).is_err()
        {
            tracing::debug!("an actor was told something while it was down");
        }
    }

    /// Ends it, and waits until it has.
    pub(crate) async fn stop(&self, within: Duration) {
        if let Some(actor) = self.actor()
            && actor
                .stop_and_wait(Some("the node stops".into()), Some(within))
                .await
                .is_err()
        {
            tracing::warn!("an actor did not stop in time");
        }
    }
}

/// Starts one run of an actor under a supervisor.
type Start = Box<dyn Fn(ActorCell) -> Later<Result<ActorCell, SpawnErr>> + Send + Sync>;

/// An actor to be kept running.
pub(crate) struct Child {
    name: &'static str,
    start: Start,
}

impl Child {
    /// `arguments` are made anew for each run; its ref goes into `slot`.
    pub(crate) fn new<A, F>(
        name: &'static str,
        slot: &Slot<A::Msg>,
        actor: F,
        arguments: impl Fn() -> A::Arguments + Send + Sync + 'static,
    ) -> Self
    where
        A: Actor,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let slot = slot.clone();
        let start = move |supervisor: ActorCell| {
            let (slot, actor, arguments) = (slot.clone(), actor(), arguments());
            let later: Later<Result<ActorCell, SpawnErr>> = Box::pin(async move {
                let (actor, _) = A::spawn_linked(None, actor, arguments, supervisor).await?;
                let cell = actor.get_cell();
                slot.fill(actor);
                Ok(cell)
            });
            later
        };
        Self {
            name,
            start: Box::new(start),
        }
    }
}

/// Keeps its children running.
pub(crate) struct Supervisor;

/// From the supervisor to itself: a child's next run is due.
pub(crate) struct Due(usize);

impl ractor::Message for Due {}

pub(crate) struct State {
    children: Vec<Child>,
    running: HashMap<ractor::ActorId, usize>,
    failures: Vec<(u32, Instant)>,
}

impl Actor for Supervisor {
    type Msg = Due;
    type State = State;
    type Arguments = Vec<Child>;

    async fn pre_start(
        &self,
        myself: ActorRef<Due>,
        children: Vec<Child>,
    ) -> Result<State, ActorProcessingErr> {
        let failures = vec![(0, Instant::now()); children.len()];
        let mut state = State {
            children,
            running: HashMap::new(),
            failures,
        };
        // The first start of each must succeed: what fails here is a mistake of the operator's.
        for n in 0..state.children.len() {
            let child = &state.children[n];
            let cell = (child.start)(myself.get_cell())
                .await
                .map_err(|e| match e {
                    SpawnErr::StartupFailed(e) => e,
                    e => e.into(),
                })?;
            state.running.insert(cell.get_id(), n);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Due>,
        Due(n): Due,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let child = &state.children[n];
        match (child.start)(myself.get_cell()).await {
            Ok(cell) => {
                tracing::info!(actor = child.name, "started again");
                state.running.insert(cell.get_id(), n);
                state.failures[n].1 = Instant::now();
            }
            Err(e) => {
                tracing::error!(actor = child.name, "does not start: {e}");
                state.again(&myself, n);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Due>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(cell, error) = event
            && let Some(n) = state.running.remove(&cell.get_id())
        {
            tracing::error!(actor = state.children[n].name, "failed: {error}");
            state.again(&myself, n);
        }
        Ok(())
    }
}

impl State {
    fn again(&mut self, myself: &ActorRef<Due>, n: usize) {
        let (failures, since) = &mut self.failures[n];
        if since.elapsed() > TRUSTED_AFTER {
            *failures = 0;
        }
        let delay = FIRST_DELAY
            .saturating_mul(1 << (*failures).min(8))
            .min(LONGEST_DELAY);
        *failures += 1;
        drop(myself.send_after(delay, move || Due(n)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fragile;

    enum Say {
        Break,
        Runs(RpcReplyPort<u32>),
    }

    impl ractor::Message for Say {}

    impl Actor for Fragile {
        type Msg = Say;
        type State = u32;
        type Arguments = u32;

        async fn pre_start(&self, _: ActorRef<Say>, run: u32) -> Result<u32, ActorProcessingErr> {
            Ok(run)
        }

        async fn handle(
            &self,
            _: ActorRef<Say>,
            say: Say,
            run: &mut u32,
        ) -> Result<(), ActorProcessingErr> {
            match say {
                Say::Break => panic!("as planned"),
                Say::Runs(reply) => reply.send(*run).map_err(Into::into),
            }
        }
    }

    #[tokio::test]
    async fn who_asks_before_the_actor_is_started_waits_for_it() {
        let slot = Slot::empty();
        let second = Duration::from_secs(1);
        let early = slot.clone();
        let asked = tokio::spawn(async move { early.ask(second, Say::Runs).await });
        tokio::task::yield_now().await;
        let (actor, _) = Fragile::spawn(None, Fragile, 7).await.unwrap();
        slot.fill(actor.clone());
        assert_eq!(asked.await.unwrap(), Some(7));
        actor.stop(None);
        let nobody = Slot::<Say>::empty();
        assert_eq!(nobody.ask(Duration::from_millis(10), Say::Runs).await, None);
    }

    #[tokio::test]
    async fn an_actor_that_panics_is_started_anew_and_found_in_its_slot() {
        let slot = Slot::empty();
        let runs = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = Arc::clone(&runs);
        let child = Child::new(
            "fragile",
            &slot,
            || Fragile,
            move || count.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
        );
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, vec![child])
            .await
            .unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(slot.ask(second, Say::Runs).await, Some(0));
        slot.tell(Say::Break);
        for _ in 0..100 {
            if slot.ask(second, Say::Runs).await == Some(1) {
                supervisor.stop(None);
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it was not started again");
    }
}
