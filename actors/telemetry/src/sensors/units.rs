//! The units of systemd: those that failed, and whether the host's services run.

use super::{Found, event, program};
use crate::config::ServiceConfig;
use hale_model::{EventSource, Harm, Level, Sample, SeriesKey, ServiceName, Timestamp};
use std::path::Path;
use std::time::{Duration, Instant};

/// Where systemd runs, this is there (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// How often it is asked, whatever the interval: each question starts a program.
const LEAST_GAP: Duration = Duration::from_secs(1);
const MOST_GAP: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);
/// So many failed units are told one by one.
const MAX_FAILED: usize = 50;
const SHOWN: &str = "Id,ActiveState,Result,NRestarts,ExecMainStatus";

/// The units of this host.
#[derive(Debug)]
pub struct Units {
    services: Vec<ServiceConfig>,
    gap: Duration,
    due: Instant,
    is_silent: bool,
}

/// Whether this host is run by systemd.
pub fn is_booted() -> bool {
    Path::new(BOOTED).is_dir()
}

impl Units {
    /// Watches what failed, and the units of `services`.
    pub fn new(services: Vec<ServiceConfig>, interval: Duration) -> Self {
        Self {
            services,
            gap: interval.clamp(LEAST_GAP, MOST_GAP).mul_f64(0.9),
            due: Instant::now(),
            is_silent: false,
        }
    }

    /// Asks systemd, if it is time.
    pub async fn read(&mut self, at: Timestamp) -> Found {
        let now = Instant::now();
        if now < self.due {
            return Found::default();
        }
        self.due = now + self.gap;
        match self.ask().await {
            Ok((failed, shown)) => {
                self.is_silent = false;
                self.tell(at, &failed, &shown)
            }
            Err(why) => {
                if !std::mem::replace(&mut self.is_silent, true) {
                    tracing::warn!("systemd can't be asked: {why}");
                }
                let mut found = Found::default();
                found.drops.add("systemd_silent", 1);
                found
            }
        }
    }

    /// The names of the failed units, and what is known of these and the watched ones.
    async fn ask(&self) -> Result<(Vec<String>, Vec<Unit>), String> {
        let list = ["list-units", "--state=failed", "--plain", "--no-legend"];
        let failed = failed(&systemctl(&list).await?);
        let watched = self.services.iter().filter_map(|s| s.unit.clone());
        let all: Vec<String> = watched.chain(failed.iter().cloned()).collect();
        if all.is_empty() {
            return Ok((failed, vec![]));
        }
        let mut show = vec!["show", "-p", SHOWN, "--"];
        show.extend(all.iter().map(String::as_str));
        Ok((failed, units(&systemctl(&show).await?)))
    }

    fn service_of(&self, unit: &str) -> Option<&ServiceName> {
        let is_it = |s: &&ServiceConfig| s.unit.as_deref() == Some(unit);
        self.services.iter().find(is_it).map(|s| &s.name)
    }

    fn tell(&self, at: Timestamp, failed: &[String], shown: &[Unit]) -> Found {
        let count = Sample::gauge(SeriesKey::new("systemd.units_failed"), failed.len() as f64);
        let mut found = Found {
            samples: vec![count.harm(Harm::High)],
            ..Found::default()
        };
        for unit in shown {
            let own = unit.id.strip_suffix(".service").unwrap_or(&unit.id);
            let own = ServiceName::new(own).ok();
            let service = self.service_of(&unit.id);
            if let Some(service) = service {
                found.samples.extend(unit.samples(service));
            }
            let is_failed = failed.contains(&unit.id);
            if is_failed && !found.events.iter().any(|e| e.origin == unit.id) {
                let service = service.or(own.as_ref());
                let (source, level) = (EventSource::Unit, Level::Critical);
                let event = event(at, source, service, level, &unit.message(), &unit.id);
                found.events.push(event);
            }
        }
        found
    }
}

async fn systemctl(arguments: &[&str]) -> Result<String, String> {
    let mut argv = vec!["systemctl", "--no-pager", "--full"];
    argv.extend(arguments);
    let argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
    let said = program::run(&argv, TIMEOUT).await?;
    match said.exit {
        Some(0) => Ok(said.text),
        exit => Err(format!("systemctl ended with {exit:?}")),
    }
}

/// A unit as `systemctl show` tells it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Unit {
    id: String,
    active: String,
    result: String,
    restarts: f64,
    status: String,
}

impl Unit {
    fn samples(&self, service: &ServiceName) -> Vec<Sample> {
        let series = |name: &str| SeriesKey::new(name).with("unit", self.id.as_str());
        let restarts = Sample::counter(series("systemd.unit_restarts"), self.restarts);
        let mut samples = vec![restarts.of(service)];
        // What was stopped in good order is no trouble, and what systemd is about to start again may
        // be none: neither is told as up or down.
        let up = match self.active.as_str() {
            "active" | "reloading" => 1.0,
            "failed" => 0.0,
            _ => return samples,
        };
        let up = Sample::gauge(series("systemd.unit_active"), up).up_to(1.0);
        samples.push(up.harm(Harm::Low).of(service));
        samples
    }

    fn message(&self) -> String {
        let status = match self.status.as_str() {
            "" | "0" => String::new(),
            status => format!(", exit status {status}"),
        };
        format!(
            "systemd unit {} failed: result {}{status}",
            self.id, self.result
        )
    }
}

/// The first words of a list of units.
fn failed(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|l| {
        let name = l.trim_start_matches(['●', '*', ' ']);
        name.split_whitespace().next()
    });
    names.take(MAX_FAILED).map(str::to_owned).collect()
}

/// Blocks of `Name=value` lines, parted by empty ones.
fn units(text: &str) -> Vec<Unit> {
    let mut all = vec![];
    for block in text.split("\n\n") {
        let mut unit = Unit::default();
        for (name, value) in block.lines().filter_map(|l| l.split_once('=')) {
            match name {
                "Id" => unit.id = value.to_owned(),
                "ActiveState" => unit.active = value.to_owned(),
                "Result" => unit.result = value.to_owned(),
                "ExecMainStatus" => unit.status = value.to_owned(),
                "NRestarts" => unit.restarts = value.parse().unwrap_or(0.0),
                _ => {}
            }
        }
        if !unit.id.is_empty() && !all.iter().any(|u: &Unit| u.id == unit.id) {
            all.push(unit);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOW: &str = "Id=shop.service\nActiveState=failed\nResult=exit-code\nNRestarts=5\nExecMainStatus=203\n\nId=db.service\nActiveState=inactive\nResult=success\nNRestarts=0\nExecMainStatus=0\n";

    fn watched() -> Units {
        let service = |name: &str, unit: &str| ServiceConfig {
            name: ServiceName::new(name).unwrap(),
            processes: vec![],
            unit: Some(unit.to_owned()),
        };
        let services = vec![
            service("store", "shop.service"),
            service("db", "db.service"),
        ];
        Units::new(services, Duration::from_secs(1))
    }

    #[test]
    fn a_failed_unit_is_told_as_its_service() {
        let at = Timestamp::from_secs(1);
        let listed = failed(
            "● shop.service loaded failed failed The shop\n  lone.service loaded failed failed x\n",
        );
        assert_eq!(listed, ["shop.service", "lone.service"]);
        let mut shown = units(SHOW);
        shown.push(Unit {
            id: "lone.service".into(),
            result: "signal".into(),
            ..Unit::default()
        });
        let found = watched().tell(at, &listed, &shown);
        let told: Vec<_> = found.events.iter().map(|e| e.message.as_str()).collect();
        let shop = "systemd unit shop.service failed: result exit-code, exit status 203";
        assert_eq!(
            told,
            [shop, "systemd unit lone.service failed: result signal"]
        );
        let of = |i: usize| found.events[i].service.as_ref().unwrap().to_string();
        assert_eq!((of(0), of(1)), ("store".to_owned(), "lone".to_owned()));
        let up = |s: &&Sample| s.series.metric == "systemd.unit_active";
        let up: Vec<_> = found.samples.iter().filter(up).map(|s| s.value).collect();
        assert_eq!(up, [0.0], "what was stopped on purpose is not down");
    }

    #[test]
    fn what_systemctl_says_may_be_anything() {
        assert_eq!(units(""), []);
        assert_eq!(units("Id=\n\n=\n\nNRestarts=x\n"), []);
        assert_eq!(failed("\n\n  \n"), Vec::<String>::new());
    }
}
