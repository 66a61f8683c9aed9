//! Why a value is as normal or as strange as it is said to be, in words and in figures.

use crate::engine::{Measured, Phase};
use hale_model::HostName;
use serde::{Deserialize, Serialize};

/// A surprise, and how many false alerts a series gives in a week if one is told from there on:
/// measured on 716 weeks of series in which nothing was wrong (Numenta Anomaly Benchmark 1.1 and
/// ASD), an alert being told once in twelve hours unless it doubles.
const FALSE_ALERTS: [(f64, f64); 7] = [
    (0.25, 1.46),
    (0.5, 0.56),
    (1.0, 0.22),
    (2.0, 0.066),
    (4.0, 0.020),
    (8.0, 0.0028),
    (16.0, 0.0014),
];

/// How many false alerts a series gives in a week if all that surprises at least so much is told:
/// between the points of the table straight on a logarithmic scale, and its ends beyond them.
pub fn false_alerts_per_week(surprise: f64) -> f64 {
    let surprise = surprise.max(0.0);
    let next = FALSE_ALERTS.iter().position(|(s, _)| surprise < *s);
    match next {
        Some(0) => FALSE_ALERTS[0].1,
        None => FALSE_ALERTS[FALSE_ALERTS.len() - 1].1,
        Some(i) => {
            let ((a, rate), (b, next)) = (FALSE_ALERTS[i - 1], FALSE_ALERTS[i]);
            let part = (surprise / a).ln() / (b / a).ln();
            rate * (next / rate).powf(part)
        }
    }
}

/// What is told of one reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// In sentences, the most telling first.
    pub why: Vec<String>,
    /// How surprising: 1 is a warning.
    pub surprise: f64,
    /// False alerts per series and week at this surprise.
    pub false_alerts_per_week: f64,
    /// Of 1, how new the value is.
    pub novelty: f64,
    /// How sudden.
    pub deviation: f64,
    /// How unlike this time of the day.
    pub time_of_day: f64,
    /// How much was known.
    pub phase: Phase,
    /// Seconds the series has been watched.
    pub age_seconds: u64,
    /// Samples learned.
    pub samples: u64,
}

impl Explanation {
    /// Says where the baseline began, if it began elsewhere.
    pub(crate) fn begun_from(&mut self, sisters: &[HostName]) {
        if !sisters.is_empty() {
            let names: Vec<&str> = sisters.iter().map(HostName::as_str).collect();
            self.why.push(format!(
                "its baseline began from what {} of the same role knew, for this host's first values \
                 were normal there",
                names.join(", ")
            ));
        }
    }

    /// Says which jobs usually run at this time.
    pub(crate) fn beside(&mut self, jobs: Vec<String>) {
        self.why.extend(jobs);
    }

    /// Of a reading.
    pub fn of(m: &Measured) -> Self {
        Self {
            why: why(m),
            surprise: m.surprise,
            false_alerts_per_week: false_alerts_per_week(m.surprise),
            novelty: m.views.novelty.into(),
            deviation: m.views.deviation.into(),
            time_of_day: m.views.time_of_day.into(),
            phase: m.phase,
            age_seconds: m.baseline.age_seconds,
            samples: m.baseline.samples,
        }
    }
}

/// A view counts as telling from here on.
const TELLING: f32 = 0.5;

fn why(m: &Measured) -> Vec<String> {
    let known = match m.phase {
        Phase::Starting => {
            return vec!["too few samples were learned to judge it yet".to_owned()];
        }
        Phase::Learning => "from what it has shown so far",
        Phase::Seasonal => "at this time of the week",
    };
    let side = if m.sigma < 0.0 { "below" } else { "above" };
    let mut why = vec![format!(
        "{} is {:.1}σ {side} the {} expected {known}, where {} to {} is normal",
        short(m.value),
        m.sigma.abs(),
        short(m.baseline.expected),
        short(m.low),
        short(m.high),
    )];
    let v = &m.views;
    let mut views = [
        (
            v.novelty,
            "no value near it was seen in the last weeks, or only in the last hours",
        ),
        (
            v.deviation,
            "it moved away from its level of the last samples further than on an ordinary day",
        ),
        (
            v.time_of_day,
            "this time of the day has not shown such a value in the last two weeks",
        ),
    ];
    views.sort_by(|a, b| b.0.total_cmp(&a.0));
    let telling = views.iter().filter(|(x, _)| *x >= TELLING);
    why.extend(telling.map(|(_, text)| (*text).to_owned()));
    if m.held_back {
        why.push("for now it is not learned as normal".to_owned());
    }
    if let Some(left) = m.seconds_to_limit {
        why.push(format!(
            "at {} per hour it reaches its limit in {}",
            short(m.trend_per_hour),
            time_left(left)
        ));
    }
    why
}

/// Four digits that matter.
fn short(x: f64) -> String {
    let size = x.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{x:.2e}");
    }
    let digits = (3 - size.max(1e-3).log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{x:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn time_left(seconds: f64) -> String {
    let minutes = seconds / 60.0;
    if minutes < 90.0 {
        format!("{minutes:.0} min")
    } else if minutes < 48.0 * 60.0 {
        format!("{:.1} h", minutes / 60.0)
    } else {
        format!("{:.0} days", minutes / 1440.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Baseline, Moment};
    use expect_test::expect;
    use hale_model::{Sample, SeriesKey, Timestamp};
    use std::time::Duration;

    #[test]
    fn the_rate_of_false_alerts_falls_with_the_surprise() {
        let rates: Vec<f64> = (0..400)
            .map(|i| false_alerts_per_week(f64::from(i) / 10.0))
            .collect();
        assert!(rates.windows(2).all(|w| w[1] <= w[0]));
        for (surprise, rate) in FALSE_ALERTS {
            assert!((false_alerts_per_week(surprise) - rate).abs() < 1e-12);
        }
        assert!(false_alerts_per_week(f64::INFINITY) > 0.0);
    }

    #[test]
    fn a_jump_is_explained() {
        let mut baseline = Baseline::new(Duration::from_secs(7 * 86_400));
        let mut measure = |n: i64, value: f64| {
            let at = Timestamp::from_secs(1_769_990_400 + n * 60);
            let sample = Sample::percent(SeriesKey::new("system.disk_usage_percent"), value);
            baseline.measure(&sample, Moment::utc(at))
        };
        let first = Explanation::of(&measure(0, 71.0).unwrap());
        expect!["too few samples were learned to judge it yet"].assert_eq(&first.why.join("\n"));
        for n in 1..20_000 {
            measure(n, 71.0 + (n * 7919 % 100) as f64 / 100.0);
        }
        let told = Explanation::of(&measure(20_000, 92.0).unwrap());
        expect![[r#"
            92 is 19.4σ above the 71.46 expected at this time of the week, where 71 to 71.99 is normal
            no value near it was seen in the last weeks, or only in the last hours
            it moved away from its level of the last samples further than on an ordinary day
            this time of the day has not shown such a value in the last two weeks
            for now it is not learned as normal"#]].assert_eq(&told.why.join("\n"));
        assert!(told.false_alerts_per_week < 0.01 && told.phase == Phase::Seasonal);
    }
}
