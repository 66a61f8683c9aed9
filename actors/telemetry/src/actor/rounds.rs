//! The rounds: at each interval all sensors are read at once, each on its own, and what came
//! back in time is handed on. A sensor that takes longer is told as soon as it is done, and is
//! not asked again before.

use super::Shared;
use crate::config::TelemetryConfig;
use crate::error::Error;
use crate::limits::{Drops, Gate};
use crate::sensors::{
    Found, Source, checks, directories, health, kernel, lock, logs, now, postgres, process, redis,
    statsd, units,
};
use crate::snapshot;
use hale_model::{Batch, Event, Sample, Timestamp};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};

/// However long the interval, logs, health checks and the kernel are looked at this often; what
/// they tell does not wait.
const QUICK: Duration = Duration::from_secs(5);
/// How long a round waits for its sensors, at most.
const PATIENCE: Duration = Duration::from_millis(750);
/// How long the next actor may take with a batch before the round gives it up.
const HAND_ON_PATIENCE: Duration = Duration::from_secs(60);
/// Rounds for which a silent sensor's last values stay in the snapshot.
const STALE_ROUNDS: u64 = 5;

/// All that goes the rounds.
pub(super) struct Rounds {
    shared: Arc<Shared>,
    hand_on: super::Port<Batch, ()>,
    interval: Duration,
    slots: Vec<Slot>,
    running: JoinSet<Found>,
    of_task: HashMap<Id, usize>,
    gate: Gate,
    round: u64,
    /// Jobs that have started since the last batch.
    jobs: BTreeSet<String>,
}

/// The most jobs of one batch.
const MAX_JOBS: usize = 64;

/// A sensor, and what it last told.
struct Slot {
    name: &'static str,
    quick: bool,
    source: Arc<Mutex<Source>>,
    busy: bool,
    told_in: u64,
    samples: Vec<Sample>,
    extra: Vec<(&'static str, Value)>,
}

/// What came back since the last batch.
#[derive(Default)]
struct Gathered {
    samples: Vec<Sample>,
    events: Vec<Event>,
    drops: Drops,
    slots: Vec<usize>,
}

impl Rounds {
    pub(super) async fn new(
        config: &TelemetryConfig,
        shared: Arc<Shared>,
        hand_on: super::Port<Batch, ()>,
        log_positions: Option<PathBuf>,
    ) -> Result<Self, Error> {
        let sources = sources(config, &shared, log_positions).await?;
        let slot = |source: Source| Slot {
            name: source.name(),
            quick: source.is_quick(),
            source: Arc::new(Mutex::new(source)),
            busy: false,
            told_in: 0,
            samples: Vec::new(),
            extra: Vec::new(),
        };
        Ok(Self {
            shared,
            hand_on,
            interval: config.interval.0,
            slots: sources.into_iter().map(slot).collect(),
            running: JoinSet::new(),
            of_task: HashMap::new(),
            gate: Gate::new(config.limits.series),
            round: 0,
            jobs: BTreeSet::new(),
        })
    }

    /// Goes the rounds for ever.
    pub(super) async fn run(mut self) -> Infallible {
        // The first round comes soon: an operator who starts a node wants to see it.
        let first = Instant::now() + self.interval.min(Duration::from_millis(500));
        let mut ticks = interval_at(first, self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut quick = interval_at(first + QUICK, QUICK);
        quick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut due = first;
        loop {
            tokio::select! {
                tick = ticks.tick() => {
                    let behind = tick.saturating_duration_since(due).as_nanos();
                    let missed = behind / self.interval.as_nanos().max(1);
                    lock(&self.shared.stats).skipped_rounds += u64::try_from(missed).unwrap_or(0);
                    due = tick + self.interval;
                    self.go(false).await;
                }
                _ = quick.tick(), if self.interval > QUICK => self.go(true).await,
                Some(done) = self.running.join_next_with_id(), if !self.running.is_empty() => {
                    let mut late = Gathered::default();
                    self.gather(done, &mut late);
                    self.ship(late, now()).await;
                }
            }
        }
    }

    /// One round. A quick one reads only what tells of events, and says nothing if there are none.
    async fn go(&mut self, quick: bool) {
        let at = now();
        if !quick {
            self.round += 1;
            self.gate.next_round();
            lock(&self.shared.stats).rounds += 1;
        }
        let mut awaited = self.start(quick, at);
        let mut gathered = Gathered::default();
        let deadline = Instant::now() + PATIENCE.min(self.interval / 2);
        while !awaited.is_empty() {
            match timeout_at(deadline, self.running.join_next_with_id()).await {
                Ok(Some(done)) => {
                    if let Some(i) = self.gather(done, &mut gathered) {
                        awaited.remove(&i);
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
        let is_quick = |i: &usize| self.slots.get(*i).is_some_and(|s| s.quick);
        if quick && gathered.events.is_empty() && gathered.slots.iter().all(is_quick) {
            lock(&self.shared.stats).drops.merge(&gathered.drops);
        } else {
            self.ship(gathered, at).await;
        }
    }

    /// Starts the sensors that are due and not still at it; which.
    fn start(&mut self, quick: bool, at: Timestamp) -> BTreeSet<usize> {
        let mut started = BTreeSet::new();
        for (i, slot) in self.slots.iter_mut().enumerate() {
            if quick && !slot.quick {
                continue;
            }
            if slot.busy {
                *lock(&self.shared.stats)
                    .busy_sensors
                    .entry(slot.name)
                    .or_default() += 1;
                continue;
            }
            slot.busy = true;
            started.insert(i);
            let source = Arc::clone(&slot.source);
            let task = self
                .running
                .spawn(async move { source.lock().await.read(at).await });
            self.of_task.insert(task.id(), i);
        }
        started
    }

    /// Takes in what a sensor found; which it was.
    fn gather(
        &mut self,
        done: Result<(Id, Found), tokio::task::JoinError>,
        into: &mut Gathered,
    ) -> Option<usize> {
        let (id, found) = match done {
            Ok((id, found)) => (id, Some(found)),
            Err(e) => {
                tracing::error!(error = %e, "a sensor failed; it is tried again in the next round");
                (e.id(), None)
            }
        };
        let i = self.of_task.remove(&id)?;
        let slot = self.slots.get_mut(i)?;
        slot.busy = false;
        if let Some(found) = found {
            into.drops.merge(&found.drops);
            // Told with the next batch, and once: a quick round that ships nothing loses none.
            self.jobs.extend(found.jobs);
            while self.jobs.len() > MAX_JOBS {
                self.jobs.pop_last();
            }
            let samples = self.gate.admit(found.samples, &mut into.drops);
            slot.told_in = self.round;
            slot.extra = found.extra;
            slot.samples.clone_from(&samples);
            into.samples.extend(samples);
            into.events.extend(found.events);
            into.slots.push(i);
        }
        Some(i)
    }

    async fn ship(&mut self, gathered: Gathered, at: Timestamp) {
        let Gathered {
            samples,
            events,
            drops,
            slots,
        } = gathered;
        let jobs = std::mem::take(&mut self.jobs);
        let snapshot = self.snapshot(&jobs);
        lock(&self.shared.snapshot).clone_from(&snapshot);
        let dropped = {
            let mut stats = lock(&self.shared.stats);
            stats.drops.merge(&drops);
            stats.series = self.gate.len() as u64;
            stats.drops.total()
        };
        let host = self.shared.host.clone();
        let batch = Batch {
            host,
            at,
            samples,
            events,
            snapshot,
            dropped,
        };
        if timeout(HAND_ON_PATIENCE, (self.hand_on)(batch))
            .await
            .is_err()
        {
            tracing::error!(
                "nobody took a batch of telemetry within {} s; it is lost",
                HAND_ON_PATIENCE.as_secs()
            );
            lock(&self.shared.stats).drops.add("batch_not_taken", 1);
            return;
        }
        lock(&self.shared.stats).batches += 1;
        for i in slots {
            if let Some(slot) = self.slots.get(i)
                && slot.name == "logs"
                && !slot.busy
            {
                slot.source.lock().await.commit().await;
            }
        }
    }

    /// The host from what each sensor last told.
    fn snapshot(&self, jobs: &BTreeSet<String>) -> Value {
        let fresh = |s: &&Slot| self.round.saturating_sub(s.told_in) <= STALE_ROUNDS;
        let samples = self.slots.iter().filter(fresh).flat_map(|s| &s.samples);
        let extra = self.slots.iter().filter(fresh).flat_map(|s| &s.extra);
        let extra = extra.map(|(path, value)| (*path, value.clone()));
        let jobs = (!jobs.is_empty()).then(|| (snapshot::JOBS, serde_json::json!(jobs)));
        let extra = extra.chain(jobs);
        let tags = lock(&self.shared.tags).clone();
        snapshot::build(
            &self.shared.host,
            &self.shared.environment,
            &tags,
            samples,
            extra,
        )
    }
}

async fn sources(
    config: &TelemetryConfig,
    shared: &Shared,
    log_positions: Option<PathBuf>,
) -> Result<Vec<Source>, Error> {
    let evidence = || Arc::clone(&shared.evidence);
    {
        let mut known = lock(&shared.evidence.directories);
        known.extend(
            config
                .directories
                .iter()
                .map(|d| (d.path.clone(), d.service.clone())),
        );
    }
    let mut all = vec![
        Source::System(Box::default()),
        Source::Process(process::Processes::new(config.services.clone(), evidence())),
    ];
    for server in &config.postgres {
        all.push(Source::Postgres(Box::new(postgres::Postgres::new(
            server.clone(),
            evidence(),
        ))));
    }
    for server in &config.redis {
        all.push(Source::Redis(redis::Redis::new(server.clone())));
    }
    if let Some(address) = config.statsd {
        let mut statsd = statsd::Statsd::new(address, config.limits.statsd_series);
        // At once, so that what is sent in the first interval is not lost. A taken address is
        // told in each round, and is no reason to keep the node from starting.
        if let Err(e) = statsd.listen().await {
            tracing::warn!(error = %e, "StatsD does not listen yet");
        }
        all.push(Source::Statsd(statsd));
    }
    if !config.logs.is_empty() {
        let (configs, limits) = (config.logs.clone(), config.limits.clone());
        all.push(Source::Logs(logs::Logs::new(
            configs,
            limits,
            log_positions,
        )));
    }
    if !config.health.is_empty() {
        all.push(Source::Health(health::Health::new(&config.health)?));
    }
    if !config.checks.is_empty() {
        all.push(Source::Checks(checks::Checks::new(&config.checks)));
    }
    if config.systemd.unwrap_or_else(units::is_booted) {
        let services = config.services.clone();
        all.push(Source::Units(units::Units::new(
            services,
            config.interval.0,
        )));
    }
    if config.kernel {
        all.push(Source::Kernel(kernel::Kernel::new(config.services.clone())));
    }
    if !config.directories.is_empty() {
        all.push(Source::Directories(directories::Directories::new(
            &config.directories,
        )));
    }
    Ok(all)
}
