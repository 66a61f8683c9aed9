//! The operator's own checks: programs that speak as monitoring plugins do.

use super::{Found, event, program};
use crate::config::CheckConfig;
use crate::plugin::{self, State};
use hale_model::{EventSource, Harm, Level, Sample, SeriesKey, Timestamp};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// All checks of the host.
#[derive(Debug)]
pub struct Checks(Vec<Check>);

#[derive(Debug)]
struct Check {
    config: CheckConfig,
    due: Instant,
    /// Said once, until it can find out again.
    is_unknown: bool,
}

impl Checks {
    /// The configured checks.
    pub fn new(configs: &[CheckConfig]) -> Self {
        let check = |config: &CheckConfig| Check {
            config: config.clone(),
            due: Instant::now(),
            is_unknown: false,
        };
        Self(configs.iter().map(check).collect())
    }

    /// Runs those that are due, all at once.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        let mut running = JoinSet::new();
        let now = Instant::now();
        for (i, check) in self.0.iter_mut().enumerate() {
            if now < check.due {
                continue;
            }
            // A little early rather than a round late.
            check.due = now + check.config.interval.0.mul_f64(0.9);
            let (argv, timeout) = (check.config.argv.clone(), check.config.timeout.0);
            running.spawn(async move {
                let began = Instant::now();
                (i, program::run(&argv, timeout).await, began.elapsed())
            });
        }
        let mut found = Found::default();
        while let Some(done) = running.join_next().await {
            if let Ok((i, said, took)) = done
                && let Some(check) = self.0.get_mut(i)
            {
                check.tell(at, said, took, &mut found);
            }
        }
        found.samples.sort_by(|a, b| a.series.cmp(&b.series));
        found
    }
}

impl Check {
    fn tell(
        &mut self,
        at: Timestamp,
        said: Result<program::Said, String>,
        took: Duration,
        found: &mut Found,
    ) {
        let (state, line, values) = match said {
            Ok(said) => {
                let (line, values) = plugin::parse(&said.text);
                (State::of(said.exit), line, values)
            }
            Err(why) => (State::Unknown, why, vec![]),
        };
        let name = self.config.name.as_str();
        let series = |metric: &str| SeriesKey::new(metric).with("check", name);
        let of = |sample: Sample| match &self.config.service {
            Some(service) => sample.of(service),
            None => sample,
        };
        let took = Sample::gauge(series("check.seconds"), took.as_secs_f64());
        found.samples.push(of(took.harm(Harm::High)));
        for v in values {
            let sample = Sample {
                kind: v.kind,
                bounds: v.bounds,
                ..Sample::gauge(series("check.value").with("label", v.label), v.value)
            };
            found.samples.push(of(sample.harm(v.harm)));
        }
        let (number, level) = match state {
            State::Fine => (0.0, None),
            State::Warning => (1.0, Some(Level::Warning)),
            State::Critical => (2.0, Some(Level::Critical)),
            State::Unknown => {
                if !std::mem::replace(&mut self.is_unknown, true) {
                    tracing::warn!(check = name, "the check could not find out: {line}");
                }
                found.drops.add("check_unknown", 1);
                return;
            }
        };
        self.is_unknown = false;
        let state = Sample::gauge(series("check.state"), number).up_to(2.0);
        found.samples.push(of(state.harm(Harm::High)));
        if let Some(level) = level {
            let line = if line.is_empty() {
                "it says nothing"
            } else {
                &line
            };
            let message = format!("check {name} fails: {line}");
            let service = self.config.service.as_ref();
            let event = event(at, EventSource::Health, service, level, &message, name);
            found.events.push(event);
        }
    }
}
