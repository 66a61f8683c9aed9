//! Log lines of one interval fold into events: one for each template of each file, with a count.

use crate::jobs;
use crate::limits::Drops;
use crate::mask::mask;
use crate::severity;
use crate::template::{self, Book};
use hale_model::{Event, EventSource, Harm, Level, Sample, SeriesKey, ServiceName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The longest message an event carries, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024;
/// The most jobs of a round.
const MAX_JOBS: usize = 32;

/// Whose lines they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file, as it is configured or found.
    pub path: String,
    /// The service that writes it.
    pub service: Option<ServiceName>,
    /// Lines below this level are counted and not told.
    pub min_level: Level,
}

#[derive(Debug, Default, Clone)]
struct Counts {
    lines: u64,
    warnings: u64,
    errors: u64,
    service: Option<ServiceName>,
    round: u64,
}

/// Folds lines, and counts them for each file since the node started.
#[derive(Debug)]
pub struct Folder {
    book: Book,
    pending: BTreeMap<(String, String), Event>,
    counts: BTreeMap<String, Counts>,
    jobs: BTreeSet<String>,
    max_events: usize,
    round: u64,
    drops: Drops,
}

impl Folder {
    /// Rounds for which a file that says nothing keeps its counts.
    const KEPT_ROUNDS: u64 = 2_000;

    /// Folds into at most `templates` templates and `max_events` events a round.
    pub fn new(templates: usize, max_events: usize) -> Self {
        Self {
            book: Book::new(templates),
            pending: BTreeMap::new(),
            counts: BTreeMap::new(),
            jobs: BTreeSet::new(),
            max_events,
            round: 0,
            drops: Drops::default(),
        }
    }

    /// Says that a file is followed, so that its counts begin at zero and not at its first line.
    pub fn follow(&mut self, origin: &Origin) {
        let counts = self.counts.entry(origin.path.clone()).or_default();
        counts.service.clone_from(&origin.service);
        counts.round = self.round;
    }

    /// Takes one line.
    pub fn take(&mut self, origin: &Origin, line: &str, at: Timestamp) {
        let parsed = severity::parse(line);
        self.follow(origin);
        if let Some(counts) = self.counts.get_mut(&origin.path) {
            counts.lines += 1;
            match parsed.level {
                Level::Warning => counts.warnings += 1,
                Level::Error | Level::Critical => counts.errors += 1,
                Level::Debug | Level::Info => {}
            }
        }
        if let Some(job) = jobs::started(line, &parsed.message)
            && self.jobs.len() < MAX_JOBS
        {
            // Masked whole: half a secret is not recognised as one.
            let mut name = mask(job).into_owned();
            template::truncate(&mut name, jobs::MAX_NAME_BYTES);
            self.jobs.insert(name);
        }
        if parsed.continues || parsed.level < origin.min_level {
            return;
        }
        let masked = mask(&parsed.message);
        let template = self.book.name(&masked);
        if template == template::OVERFLOW {
            self.drops.add("templates", 1);
        }
        let key = (origin.path.clone(), template);
        if let Some(event) = self.pending.get_mut(&key) {
            event.count += 1;
            event.at = at;
            event.level = event.level.max(parsed.level);
            return;
        }
        if self.pending.len() >= self.max_events {
            self.drops.add("events", 1);
            return;
        }
        let mut message = masked.into_owned();
        template::truncate(&mut message, MAX_MESSAGE_BYTES);
        let event = Event {
            at,
            source: EventSource::Log,
            service: origin.service.clone(),
            level: parsed.level,
            template: key.1.clone(),
            message,
            count: 1,
            origin: key.0.clone(),
        };
        self.pending.insert(key, event);
    }

    /// The jobs that have started since the last call, as far as lines told of them.
    pub fn take_jobs(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.jobs)
    }

    /// Ends a round: the events, gravest first, the counts as samples, and what was dropped.
    pub fn flush(&mut self) -> (Vec<Sample>, Vec<Event>, Drops) {
        let mut events: Vec<Event> = std::mem::take(&mut self.pending).into_values().collect();
        events.sort_by(|a, b| b.level.cmp(&a.level).then(b.count.cmp(&a.count)));
        self.round += 1;
        self.book.next_round();
        let oldest = self.round.saturating_sub(Self::KEPT_ROUNDS);
        self.counts.retain(|_, c| c.round >= oldest);
        let samples = self.counts.iter().flat_map(samples_of).collect();
        (samples, events, std::mem::take(&mut self.drops))
    }
}

fn samples_of((path, counts): (&String, &Counts)) -> [Sample; 3] {
    [
        ("log.lines", counts.lines, Harm::Both),
        ("log.warnings", counts.warnings, Harm::High),
        ("log.errors", counts.errors, Harm::High),
    ]
    .map(|(name, count, harm)| {
        let series = SeriesKey::new(name).with("path", path.as_str());
        let sample = Sample::counter(series, count as f64).harm(harm);
        match &counts.service {
            Some(service) => sample.of(service),
            None => sample,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            path: "/var/log/pg.log".into(),
            service: ServiceName::new("postgresql").ok(),
            min_level: Level::Warning,
        }
    }

    #[test]
    fn a_job_is_told_masked_and_cut() {
        let mut folder = Folder::new(10, 10);
        let line = format!(
            "Feb 12 03:00:01 db-1 CRON[1]: (root) CMD (pg_dump {} postgres://backup:s3cret@db/shop)",
            "x".repeat(40)
        );
        folder.take(&origin(), &line, Timestamp::from_secs(0));
        let told = folder.take_jobs();
        let name = told.first().unwrap();
        assert!(name.starts_with("pg_dump") && name.len() <= jobs::MAX_NAME_BYTES);
        assert!(!name.contains("s3c"), "{name}");
        assert!(folder.take_jobs().is_empty());
    }

    #[test]
    fn lines_of_one_template_become_one_event_with_their_count() {
        let mut folder = Folder::new(100, 100);
        let at = Timestamp::from_secs(1);
        for pid in 0..50 {
            folder.take(
                &origin(),
                &format!("2026-02-12 11:26:00 UTC [{pid}] FATAL:  role \"u{pid}\" pwd=x{pid} has {pid} connections"),
                at,
            );
            folder.take(
                &origin(),
                "2026-02-12 11:26:00 UTC [1] LOG:  connection received",
                at,
            );
        }
        let (samples, events, drops) = folder.flush();
        assert_eq!(events.len(), 1);
        let event = &events[0];
        assert_eq!((event.count, event.level), (50, Level::Critical));
        assert_eq!(event.template, "role \"<*>\" pwd=*** has <*> connections");
        assert_eq!(event.message, "role \"u0\" pwd=*** has 0 connections");
        assert_eq!(drops.total(), 0);
        let values: Vec<(String, f64)> = samples
            .iter()
            .map(|s| (s.series.metric.clone(), s.value))
            .collect();
        assert_eq!(
            values,
            [
                ("log.lines".to_owned(), 100.0),
                ("log.warnings".to_owned(), 0.0),
                ("log.errors".to_owned(), 50.0)
            ]
        );
        assert!(folder.flush().1.is_empty());
    }

    #[test]
    fn a_flood_of_kinds_is_bounded_and_counted() {
        let mut folder = Folder::new(5, 3);
        for i in 0..100u32 {
            let word: String = format!("{i:03}")
                .bytes()
                .map(|b| char::from(b + 49))
                .collect();
            folder.take(
                &origin(),
                &format!("ERROR: it {word} broke"),
                Timestamp::from_secs(1),
            );
        }
        let (_, events, drops) = folder.flush();
        assert_eq!(events.len(), 3);
        assert_eq!(drops.by_reason().get("events"), Some(&97));
        assert_eq!(drops.by_reason().get("templates"), Some(&95));
    }
}
