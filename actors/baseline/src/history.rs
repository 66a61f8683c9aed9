//! The last readings of each series, kept to be looked at.

use crate::engine::Measured;
use hale_model::{Severity, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The most points that a host keeps of all its series together: 32 bytes each.
pub const MOST_POINTS: usize = 250_000;

/// One reading as it was then.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// The value judged: for a counter its rate per second.
    pub value: f64,
    /// What was expected.
    pub expected: f32,
    /// The least that was normal.
    pub low: f32,
    /// The most that was normal.
    pub high: f32,
    /// How many spreads from what was expected.
    pub sigma: f32,
}

impl From<&Measured> for Point {
    fn from(m: &Measured) -> Self {
        Self {
            at: m.at,
            value: m.value,
            expected: m.baseline.expected as f32,
            low: m.low as f32,
            high: m.high as f32,
            sigma: m.sigma as f32,
        }
    }
}

/// A time in which a series was anomalous.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Since when.
    pub from: Timestamp,
    /// Until when; none while it goes on.
    pub until: Option<Timestamp>,
    /// The gravest it was.
    pub severity: Severity,
}

/// How many episodes are kept of a series.
const EPISODES: usize = 8;

/// What is kept of one series.
#[derive(Debug, Default)]
pub(crate) struct History {
    points: VecDeque<Point>,
    episodes: VecDeque<Episode>,
}

impl History {
    pub(crate) fn push(&mut self, point: Point, most: usize) {
        while self.points.len() >= most.max(1) {
            self.points.pop_front();
        }
        if most > 0 {
            self.points.push_back(point);
        }
    }

    /// Notes whether the series is anomalous now.
    pub(crate) fn note(&mut self, at: Timestamp, active: Option<(Severity, Timestamp)>) {
        let open = self.episodes.back_mut().filter(|e| e.until.is_none());
        match (open, active) {
            (Some(open), Some((severity, _))) => open.severity = open.severity.max(severity),
            (Some(open), None) => open.until = Some(at),
            (None, Some((severity, since))) => {
                if self.episodes.len() >= EPISODES {
                    self.episodes.pop_front();
                }
                self.episodes.push_back(Episode {
                    from: since,
                    until: None,
                    severity,
                });
            }
            (None, None) => {}
        }
    }

    pub(crate) fn points(&self) -> impl Iterator<Item = &Point> {
        self.points.iter()
    }

    pub(crate) fn episodes(&self) -> impl Iterator<Item = &Episode> {
        self.episodes.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_secs(s)
    }

    #[test]
    fn the_newest_points_are_kept() {
        let mut history = History::default();
        for s in 0..10 {
            let point = Point {
                at: at(s),
                value: 0.0,
                expected: 0.0,
                low: 0.0,
                high: 0.0,
                sigma: 0.0,
            };
            history.push(point, if s < 5 { 4 } else { 2 });
        }
        assert_eq!(
            history.points().map(|p| p.at).collect::<Vec<_>>(),
            [at(8), at(9)]
        );
    }

    #[test]
    fn an_episode_is_as_grave_as_it_became() {
        let mut history = History::default();
        for (s, active) in [
            (1, None),
            (2, Some(Severity::Warning)),
            (3, Some(Severity::Critical)),
            (4, Some(Severity::Warning)),
            (5, None),
            (6, None),
        ] {
            history.note(at(s), active.map(|severity| (severity, at(2))));
        }
        let told: Vec<_> = history.episodes().copied().collect();
        assert_eq!(
            told,
            [Episode {
                from: at(2),
                until: Some(at(5)),
                severity: Severity::Critical
            }]
        );
    }
}
