//! Scores on labelled series, as the Numenta Anomaly Benchmark defines them (Lavin and Ahmad,
//! "Evaluating Real-time Anomaly Detection Algorithms", arXiv 1510.03336, section III), and the
//! false alerts of normal weeks.

use hale_model::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

/// Points that fire within so many seconds are one alert.
const ONE_ALERT_S: i64 = 3600;
const WEEK_S: f64 = 7.0 * 86_400.0;
/// Weights of a window found, of a false point, and of a window missed: the standard profile.
const FOUND: f64 = 1.0;
const FALSE: f64 = 0.11;
const MISSED: f64 = 1.0;

/// A series that was scored, with the windows in which something was wrong.
#[derive(Debug)]
pub struct Labelled {
    times: Vec<i64>,
    scores: Vec<f64>,
    /// First and last row of each window.
    windows: Vec<(usize, usize)>,
    /// What fires here counts neither way.
    ignored: Vec<bool>,
    /// The first row that counts.
    first: usize,
}

/// What a threshold comes to.
#[derive(Debug, Clone, Copy)]
pub struct Nab {
    pub threshold: f64,
    pub score: f64,
}

/// How often is told what is not so, and how much is found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alerts {
    pub windows: usize,
    pub found: usize,
    pub false_alerts: usize,
    pub weeks: f64,
}

impl Alerts {
    pub fn false_per_week(&self) -> f64 {
        self.false_alerts as f64 / self.weeks.max(f64::MIN_POSITIVE)
    }

    pub fn recall(&self) -> f64 {
        self.found as f64 / self.windows.max(1) as f64
    }
}

fn seconds(text: &str) -> Result<i64, Box<dyn Error>> {
    let text = text.trim().replacen(' ', "T", 1);
    let time: Timestamp = text
        .parse()
        .or_else(|_| format!("{text}Z").parse())
        .map_err(|e| format!("{e}"))?;
    Ok(time.as_millis() / 1000)
}

fn spans(value: &Value) -> Result<Vec<(i64, i64)>, Box<dyn Error>> {
    let mut spans = vec![];
    for pair in value.as_array().into_iter().flatten() {
        let end = |i: usize| seconds(pair[i].as_str().unwrap_or_default());
        spans.push((end(0)?, end(1)?));
    }
    spans.sort_unstable();
    Ok(spans)
}

/// Reads scored series below `dir`, and their labels: for each a list of windows, or an object
/// `{windows, ignore, learn_until}`.
pub fn read(dir: &Path, labels: &Path) -> Result<Vec<(String, Labelled)>, Box<dyn Error>> {
    let labels: BTreeMap<String, Value> = serde_json::from_str(&fs::read_to_string(labels)?)?;
    let mut all = vec![];
    for (name, body) in labels {
        let text = fs::read_to_string(dir.join(&name))?;
        let (mut times, mut scores) = (vec![], vec![]);
        for line in text.lines().skip(1) {
            let mut fields = line.split(',');
            times.push(seconds(fields.next().unwrap_or_default())?);
            scores.push(fields.nth(1).unwrap_or_default().parse().unwrap_or(0.0));
        }
        let windows = spans(body.get("windows").unwrap_or(&body))?;
        let row = |t: i64| times.partition_point(|x| *x < t);
        let after = |t: i64| times.partition_point(|x| *x <= t);
        let rows = windows.iter().map(|(a, b)| (row(*a), after(*b)));
        let windows = rows
            .filter(|(a, b)| a < b)
            .map(|(a, b)| (a, b - 1))
            .collect();
        let mut ignored = vec![false; times.len()];
        for (a, b) in spans(body.get("ignore").unwrap_or(&Value::Null))? {
            ignored[row(a)..after(b)].fill(true);
        }
        let first = match body.get("learn_until").and_then(Value::as_str) {
            Some(until) => row(seconds(until)?),
            // The first 15 %, of at most 5,000 rows.
            None => (0.15 * times.len().min(5000) as f64).ceil() as usize,
        };
        let series = Labelled {
            times,
            scores,
            windows,
            ignored,
            first,
        };
        all.push((name, series));
    }
    Ok(all)
}

/// The value of a detection at a place relative to a window's end, in window lengths.
fn sigmoid(place: f64) -> f64 {
    if place > 3.0 {
        -1.0
    } else {
        2.0 / (1.0 + (5.0 * place).exp()) - 1.0
    }
}

impl Labelled {
    /// What a detection in this row is worth, and the window it is in.
    fn worth(&self, i: usize) -> (f64, Option<usize>) {
        let before = self.windows.partition_point(|(a, _)| *a <= i);
        let Some(w) = before.checked_sub(1) else {
            return (if self.ignored[i] { 0.0 } else { -1.0 }, None);
        };
        let (a, b) = self.windows[w];
        let length = (b - a + 1) as f64;
        if i <= b {
            (
                sigmoid(-((b - i + 1) as f64) / length) / sigmoid(-1.0),
                Some(w),
            )
        } else if self.ignored[i] {
            (0.0, None)
        } else {
            (sigmoid((i - b) as f64 / (length - 1.0).max(1.0)), None)
        }
    }

    fn step(&self) -> i64 {
        let mut steps: Vec<i64> = self.times.windows(2).map(|w| w[1] - w[0]).collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).copied().unwrap_or(1)
    }
}

/// The score at each threshold, the highest threshold first; normalised so that finding nothing is
/// 0 and finding all at once 100.
pub fn nab(all: &[(String, Labelled)]) -> Vec<Nab> {
    let scored_windows = |s: &Labelled| s.windows.iter().filter(|w| w.1 >= s.first).count();
    let windows: usize = all.iter().map(|(_, s)| s.windows.len()).sum();
    let nothing = -MISSED * all.iter().map(|(_, s)| scored_windows(s)).sum::<usize>() as f64;
    let mut points: Vec<(f64, usize, usize)> = vec![];
    for (k, (_, s)) in all.iter().enumerate() {
        points.extend((s.first..s.times.len()).map(|i| (s.scores[i], k, i)));
    }
    points.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut best: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    let (mut raw, mut table) = (nothing, vec![]);
    let told = |threshold: f64, raw: f64| Nab {
        threshold,
        score: 100.0 * (raw - nothing) / (FOUND * windows as f64 - nothing),
    };
    for (n, (score, k, i)) in points.iter().enumerate() {
        match all[*k].1.worth(*i) {
            (worth, None) => raw += FALSE * worth,
            (worth, Some(w)) => {
                let had = best.entry((*k, w)).or_insert(-MISSED);
                if FOUND * worth > *had {
                    raw += FOUND * worth - *had;
                    *had = FOUND * worth;
                }
            }
        }
        if points.get(n + 1).is_none_or(|next| next.0 != *score) {
            table.push(told(*score, raw));
        }
    }
    table
}

/// The best of them.
pub fn best(table: &[Nab]) -> Option<Nab> {
    table
        .iter()
        .copied()
        .max_by(|a, b| a.score.total_cmp(&b.score))
}

/// The one at a threshold.
pub fn at(table: &[Nab], threshold: f64) -> Option<Nab> {
    table
        .iter()
        .rev()
        .find(|n| n.threshold >= threshold)
        .copied()
}

/// Alerts at a threshold.
pub fn alerts(all: &[(String, Labelled)], threshold: f64) -> Alerts {
    let mut out = Alerts::default();
    for (_, s) in all {
        let step = s.step();
        let gap = ONE_ALERT_S.max(3 * step);
        let mut found = vec![false; s.windows.len()];
        let mut run: Option<(i64, bool, bool)> = None;
        let mut end = |run: Option<(i64, bool, bool)>| {
            out.false_alerts +=
                usize::from(run.is_some_and(|(_, real, ignored)| !real && !ignored));
        };
        for i in s.first..s.times.len() {
            let (_, window) = s.worth(i);
            if s.scores[i] < threshold {
                continue;
            }
            let (real, ignored) = (window.is_some(), window.is_none() && s.ignored[i]);
            run = match run {
                Some((last, r, g)) if s.times[i] - last <= gap => {
                    Some((s.times[i], r || real, g || ignored))
                }
                ended => {
                    end(ended);
                    Some((s.times[i], real, ignored))
                }
            };
            if let Some(w) = window {
                found[w] = true;
            }
        }
        end(run);
        out.windows += s.windows.iter().filter(|w| w.1 >= s.first).count();
        out.found += found.iter().filter(|f| **f).count();
        for i in s.first..s.times.len().saturating_sub(1) {
            if s.worth(i).1.is_none() && !s.ignored[i] {
                out.weeks += (s.times[i + 1] - s.times[i]).min(10 * step) as f64 / WEEK_S;
            }
        }
    }
    out
}

/// A host's series within so many seconds of each other are anomalous together.
const TOGETHER_S: i64 = 600;
/// A host is as anomalous as its second most anomalous series, or as this part of its most anomalous
/// one: what is critical alone counts as much as two that are a warning.
const ALONE: f64 = 3.0;

/// The hosts whose series these are, by their folder: when something was wrong with any of their
/// series something was wrong with them. A folder with one series, or with series of other times, is
/// no host.
pub fn hosts(all: &[(String, Labelled)]) -> Vec<(String, Labelled)> {
    let mut folders: BTreeMap<&str, Vec<&Labelled>> = BTreeMap::new();
    for (name, series) in all {
        if let Some((folder, _)) = name.rsplit_once('/') {
            folders.entry(folder).or_default().push(series);
        }
    }
    let is_host = |series: &[&Labelled]| {
        series.len() > 1 && series.iter().all(|s| s.times == series[0].times)
    };
    let hosts = folders.into_iter().filter(|(_, series)| is_host(series));
    hosts
        .map(|(folder, series)| (folder.to_owned(), host(&series)))
        .collect()
}

fn host(series: &[&Labelled]) -> Labelled {
    let mut times: Vec<i64> = series
        .iter()
        .flat_map(|s| s.times.iter().copied())
        .collect();
    times.sort_unstable();
    times.dedup();
    let mut wrong = vec![false; times.len()];
    let mut most = vec![(0.0, 0.0); times.len()];
    for s in series {
        let mut recent: Vec<(i64, f64)> = vec![];
        let mut row = 0;
        for (i, t) in times.iter().enumerate() {
            while row < s.times.len() && s.times[row] <= *t {
                let is_wrong =
                    s.ignored[row] || s.windows.iter().any(|(a, b)| (*a..=*b).contains(&row));
                wrong[i] |= is_wrong && s.times[row] == *t;
                // Of the scores from 0 to 1 the surprise that they were made of.
                let score = s.scores[row].clamp(0.0, 1.0 - 1e-9);
                recent.push((s.times[row], score / (1.0 - score)));
                row += 1;
            }
            recent.retain(|(at, _)| t - at <= TOGETHER_S);
            let highest = recent.iter().map(|(_, x)| *x).fold(0.0, f64::max);
            let (first, second) = most[i];
            most[i] = if highest > first {
                (highest, first)
            } else {
                (first, highest.max(second))
            };
        }
    }
    let surprise = most
        .iter()
        .map(|(first, second): &(f64, f64)| second.max(first / ALONE));
    let mut windows: Vec<(usize, usize)> = vec![];
    for (i, _) in wrong.iter().enumerate().filter(|(_, w)| **w) {
        match windows.last_mut() {
            Some((_, last)) if *last + 1 == i => *last = i,
            _ => windows.push((i, i)),
        }
    }
    let first = series.iter().filter_map(|s| s.times.get(s.first)).max();
    Labelled {
        scores: surprise.map(|s| s / (s + 1.0)).collect(),
        windows,
        ignored: vec![false; times.len()],
        first: first.map_or(0, |t| times.partition_point(|x| x < t)),
        times,
    }
}

/// What is told at the lowest threshold with at most so many false alerts a week.
pub fn within(all: &[(String, Labelled)], per_week: f64) -> Option<(f64, Alerts)> {
    let scores = all
        .iter()
        .flat_map(|(_, s)| s.scores[s.first..].iter().copied());
    let mut thresholds: Vec<f64> = scores.filter(|s| *s > 0.0).collect();
    thresholds.sort_by(f64::total_cmp);
    thresholds.dedup();
    let mut found = None;
    let (mut low, mut high) = (0, thresholds.len());
    while low < high {
        let middle = (low + high) / 2;
        let told = alerts(all, thresholds[middle]);
        if told.false_per_week() <= per_week {
            (found, high) = (Some((thresholds[middle], told)), middle);
        } else {
            low = middle + 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_two_of_its_series_say_or_one_says_loudly() {
        let of = |rows: &[(usize, f64)]| {
            let mut scores = vec![0.0; 20];
            rows.iter().for_each(|(i, s)| scores[*i] = *s);
            let windows = vec![];
            let (times, ignored) = ((0..20).map(|i| i * 300).collect(), vec![false; 20]);
            Labelled {
                times,
                scores,
                windows,
                ignored,
                first: 0,
            }
        };
        let all = [
            ("a/one".to_owned(), of(&[(4, 0.5), (12, 0.75)])),
            ("a/two".to_owned(), of(&[(5, 0.5)])),
            ("b/alone".to_owned(), of(&[])),
        ];
        let hosts = hosts(&all);
        assert_eq!(hosts.len(), 1);
        let told: Vec<usize> = (0..20).filter(|i| hosts[0].1.scores[*i] >= 0.499).collect();
        assert_eq!(told, [5, 6, 12, 13, 14]);
    }

    fn series(fires: &[usize]) -> Vec<(String, Labelled)> {
        let mut scores = vec![0.0; 100];
        fires.iter().for_each(|i| scores[*i] = 0.9);
        let labelled = Labelled {
            times: (0..100).map(|i| i * 7200).collect(),
            scores,
            windows: vec![(50, 59)],
            ignored: vec![false; 100],
            first: 15,
        };
        vec![("one".into(), labelled)]
    }

    #[test]
    fn nothing_is_zero_at_once_is_a_hundred_and_false_points_cost() {
        let score = |fires: &[usize]| at(&nab(&series(fires)), 0.5).map(|n| n.score);
        assert_eq!(score(&[]), None);
        assert!((score(&[50]).unwrap() - 100.0).abs() < 1e-9);
        assert!(score(&[59]).unwrap() < score(&[55]).unwrap());
        assert!((score(&[50, 20]).unwrap() - (100.0 - 100.0 * 0.11 / 2.0)).abs() < 1e-9);
        assert!(
            (score(&[50, 5]).unwrap() - 100.0).abs() < 1e-9,
            "while it learns"
        );
    }

    #[test]
    fn points_close_together_are_one_alert() {
        let told = alerts(&series(&[20, 21, 22, 40, 55]), 0.5);
        assert_eq!((told.false_alerts, told.found, told.windows), (2, 1, 1));
    }
}
