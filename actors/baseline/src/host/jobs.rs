//! Jobs that logs name: those that start at one time of the day are told beside what they move.

use crate::moment::{Moment, SLOT_S, SLOTS};
use hale_model::wire;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The most jobs that are remembered; the one that started longest ago gives way.
const MOST_JOBS: usize = 64;
/// So many starts of a job are remembered.
const STARTS: usize = 32;
/// Days that are looked back.
const DAYS: i64 = 7;
/// On so many of them a job has to have started about then.
const LEAST_DAYS: usize = 3;
/// What starts more often in a day belongs to no time of it.
const MOST_A_DAY: usize = 4;
/// How long after its start a job is told, in seconds.
const TOLD_FOR_S: i64 = 3600;

/// When one started: the local day, and the second of it.
type Start = (i64, i64);

/// The jobs of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Jobs {
    starts: BTreeMap<String, VecDeque<Start>>,
    /// Not saved yet.
    #[serde(skip)]
    changed: bool,
}

impl Jobs {
    /// These have started.
    pub(super) fn started<'a>(&mut self, names: impl Iterator<Item = &'a str>, now: Moment) {
        let at = (now.day(), now.second_of_day());
        for name in names {
            if !self.starts.contains_key(name) && self.starts.len() >= MOST_JOBS {
                let last = |starts: &VecDeque<Start>| starts.back().copied();
                let oldest = self.starts.iter().min_by_key(|(_, s)| last(s));
                if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                    self.starts.remove(&oldest);
                }
            }
            let starts = self.starts.entry(name.to_owned()).or_default();
            if starts.back() == Some(&at) {
                continue;
            }
            if starts.len() >= STARTS {
                starts.pop_front();
            }
            starts.push_back(at);
            self.changed = true;
        }
    }

    /// What is told of those that usually run now.
    pub(super) fn at(&self, now: Moment) -> Vec<String> {
        let all = self.starts.iter();
        all.filter_map(|(name, starts)| told(name, starts, now))
            .collect()
    }

    /// For the store, if anything changed since the last call.
    pub(super) fn unsaved(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        wire::encode(self).ok()
    }

    /// It could not be saved.
    pub(super) fn not_saved(&mut self) {
        self.changed = true;
    }

    /// What was saved; nothing if it can't be read.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let read: Self = wire::decode(bytes).ok()?;
        let fits =
            read.starts.len() <= MOST_JOBS && read.starts.values().all(|s| s.len() <= STARTS);
        fits.then_some(read)
    }
}

fn told(name: &str, starts: &VecDeque<Start>, now: Moment) -> Option<String> {
    let (today, second) = (now.day(), now.second_of_day());
    let lately = |start: &&Start| (1..=DAYS).contains(&(today - start.0));
    let mut days: BTreeMap<i64, usize> = BTreeMap::new();
    let mut about_now: BTreeMap<i64, i64> = BTreeMap::new();
    for (day, at) in starts.iter().filter(lately) {
        *days.entry(*day).or_default() += 1;
        // A job may start some minutes off; midnight lies between no two of them here.
        if (0..TOLD_FOR_S + SLOT_S).contains(&(second - at + SLOT_S)) {
            about_now.insert(*day, *at);
        }
    }
    let often = days.values().copied().max().unwrap_or_default();
    if about_now.len() < LEAST_DAYS || often > MOST_A_DAY {
        return None;
    }
    let mut times: Vec<i64> = about_now.values().copied().collect();
    times.sort_unstable();
    let usual = times[times.len() / 2];
    let today = starts
        .iter()
        .rev()
        .find(|(day, at)| *day == today && (0..=TOLD_FOR_S).contains(&(second - at)));
    let since = match today {
        Some((_, at)) => format!("it started {} min ago", (second - at) / 60),
        None => "today its log has not told of it yet".to_owned(),
    };
    Some(format!(
        "`{name}` starts at about {:02}:{:02}, on {} of the last {DAYS} days; {since}",
        usual / 3600,
        usual % 3600 / 60,
        about_now.len()
    ))
}

const _: () = assert!(SLOTS as i64 * SLOT_S == 86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BaselineConfig;
    use crate::host::HostBaselines;
    use hale_model::{Batch, Sample, SeriesKey, Timestamp};

    /// A moment of a day, with the local clock two hours ahead.
    fn at(day: i64, hour: i64, minute: i64) -> Moment {
        let s = (20_000 + day) * 86_400 + hour * 3600 + minute * 60;
        Moment {
            at: Timestamp::from_millis((s - 7200) * 1000),
            utc_offset_s: 7200,
        }
    }

    fn nightly(days: std::ops::Range<i64>) -> Jobs {
        let mut jobs = Jobs::default();
        for day in days {
            jobs.started(["backup"].into_iter(), at(day, 3, day % 3));
        }
        jobs
    }

    #[test]
    fn a_job_is_told_at_its_time_once_it_has_one() {
        assert!(nightly(0..2).at(at(2, 3, 20)).is_empty());
        let jobs = nightly(0..4);
        let told = jobs.at(at(4, 3, 20));
        assert!(
            told[0].contains("`backup` starts at about 03:0"),
            "{told:?}"
        );
        assert!(told[0].contains("on 4 of the last 7 days"), "{told:?}");
        assert!(told[0].contains("not told of it yet"), "{told:?}");
        assert!(jobs.at(at(4, 2, 30)).is_empty(), "before");
        assert!(jobs.at(at(4, 4, 30)).is_empty(), "long after");
        assert!(jobs.at(at(14, 3, 20)).is_empty(), "it is gone");
        let told = nightly(0..5).at(at(4, 3, 20));
        assert!(told[0].contains("it started 19 min ago"), "{told:?}");
    }

    #[test]
    fn what_starts_all_day_belongs_to_no_time() {
        let mut jobs = Jobs::default();
        for day in 0..3 {
            for hour in 0..8 {
                jobs.started(["poll"].into_iter(), at(day, hour, 0));
            }
        }
        assert!(jobs.at(at(3, 3, 1)).is_empty());
    }

    #[test]
    fn a_host_tells_its_jobs_beside_its_series_also_after_a_restart() {
        let key = SeriesKey::new("system.cpu_percent");
        let new = || {
            let config = BaselineConfig {
                timezone: "UTC".into(),
                ..BaselineConfig::default()
            };
            HostBaselines::new(config).unwrap()
        };
        let round = |host: &mut HostBaselines, s: i64, jobs: &[&str]| {
            host.observe(Batch {
                host: "db-1".parse().unwrap(),
                at: Timestamp::from_secs(1_769_990_400 + s),
                samples: vec![Sample::percent(key.clone(), 20.0)],
                events: vec![],
                snapshot: serde_json::json!({ "metrics": { "log": { "jobs_started": jobs } } }),
                dropped: 0,
            });
        };
        let mut host = new();
        for day in 0..4 {
            for quarter in 0..96 {
                let jobs: &[&str] = if quarter == 12 { &["backup"] } else { &[] };
                round(&mut host, day * 86_400 + quarter * 900, jobs);
            }
        }
        let rows = host.unsaved();
        let rows = rows
            .into_iter()
            .filter_map(|(k, v)| Some((k, v?)))
            .collect();
        let mut back = new();
        assert_eq!(back.restore(rows), 0);
        for n in 0..3 {
            round(&mut back, 4 * 86_400 + 11_400 + n * 60, &[]);
        }
        let why = back.detail(&key).unwrap().explanation.unwrap().why;
        assert!(
            why.iter()
                .any(|w| w.contains("`backup` starts at about 03:00")),
            "{why:?}"
        );
    }

    #[test]
    fn they_are_bounded_and_read_back() {
        let mut jobs = nightly(0..100);
        let names: Vec<String> = (0..200).map(|n| format!("job-{n}")).collect();
        jobs.started(names.iter().map(String::as_str), at(101, 1, 0));
        assert_eq!(jobs.starts.len(), MOST_JOBS);
        let bytes = jobs.unsaved().unwrap();
        assert!(jobs.unsaved().is_none());
        assert_eq!(Jobs::read(&bytes), Some(jobs));
        assert_eq!(Jobs::read(b"garbage"), None);
    }
}
