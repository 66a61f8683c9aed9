//! What hosts of one role know together, for a new one of them to begin with.

use super::{Baseline, Profile, input, pending, trend};
use std::time::Duration;

/// A sister that knows less than this has nothing to tell.
const LEAST_AGE_S: f64 = 86_400.0;
const LEAST_LEARNED: u64 = 500;
/// What was seen elsewhere counts as half of what was seen here.
const OF_THEIR_AGE: f64 = 0.5;

impl Baseline {
    /// Whether another host can begin from it.
    pub fn knows_enough(&self) -> bool {
        self.input.age_s() >= LEAST_AGE_S
            && self.values.learned >= LEAST_LEARNED
            && self.values.has_grid()
    }

    /// Merges what sisters know of the same series: the values of all, at each time of the week the
    /// widest range and the mean centre, and the wildest of their ordinary days. None if none of
    /// them knows enough, or if what they say does not go together.
    pub fn of_sisters(sisters: Vec<Self>, window: Duration, profile: Profile) -> Option<Self> {
        let mut sisters: Vec<Self> = sisters.into_iter().filter(Self::knows_enough).collect();
        // The oldest is where the others are added.
        sisters.sort_by(|a, b| b.input.age_s().total_cmp(&a.input.age_s()));
        let mut sisters = sisters.into_iter();
        let mut merged = sisters.next()?;
        let mut age_s = merged.input.age_s();
        for (before, sister) in (1u32..).zip(sisters) {
            age_s = age_s.min(sister.input.age_s());
            let scale = merged.values.scale;
            merged.values.absorb(&sister.values);
            merged.rescale(scale);
            let (own, theirs) = (merged.values.scale, sister.values.scale);
            merged.season.absorb(own, &sister.season, theirs, before);
            merged.surprise.absorb(own, &sister.surprise, theirs);
            merged.learning.absorb(&sister.learning);
        }
        merged.input = input::Input::inherited(OF_THEIR_AGE * age_s);
        merged.pending = pending::Pending::default();
        merged.trend = trend::Trend::default();
        merged.learning.begin_here();
        merged.surprise.begin_here();
        merged.set_window(window);
        merged.set_profile(profile);
        // A sister may tell anything.
        merged.is_sound().then_some(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Moment;
    use hale_model::{Sample, SeriesKey, Timestamp};

    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    const MONDAY: i64 = 1_769_990_400;

    fn sample(value: f64) -> Sample {
        Sample::percent(SeriesKey::new("system.cpu_percent"), value)
    }

    fn at(n: i64) -> Moment {
        Moment::utc(Timestamp::from_secs(MONDAY + n * 60))
    }

    /// A day between `low` and `low` + 20, with noise.
    fn value(n: i64, low: f64) -> f64 {
        let hour = (n * 60).rem_euclid(86_400) as f64 / 3600.0;
        let noise = (n.wrapping_mul(7919) % 101) as f64 / 50.0 - 1.0;
        low + 10.0 * (1.0 - (hour / 24.0 * std::f64::consts::TAU).cos()) + noise
    }

    fn watched(days: i64, low: f64) -> Baseline {
        let mut baseline = Baseline::new(WEEK);
        for n in 0..days * 1440 {
            baseline.measure(&sample(value(n, low)), at(n));
        }
        baseline
    }

    #[test]
    fn a_new_host_begins_with_what_its_sisters_know() {
        let sisters = vec![watched(10, 30.0), watched(8, 33.0)];
        let mut begun = Baseline::of_sisters(sisters, WEEK, Profile::Balanced).unwrap();
        assert!(Baseline::from_bytes(&begun.to_bytes().unwrap()).is_ok());
        let start = 10 * 1440;
        for n in start..start + 30 {
            let measured = begun.measure(&sample(value(n, 31.0)), at(n)).unwrap();
            assert!(measured.sigma.abs() < 3.0, "{measured:?}");
        }
        let high = begun.measure(&sample(75.0), at(start + 30)).unwrap();
        assert!(high.sigma > 5.0, "{high:?}");
        // The afternoon of the sisters is known before it has come.
        let noon = start + 720;
        let measured = begun.measure(&sample(value(noon, 31.0)), at(noon)).unwrap();
        assert!(
            measured.sigma.abs() < 3.0 && measured.low < 52.0,
            "{measured:?}"
        );
    }

    #[test]
    fn who_knows_little_tells_nothing() {
        let young = Baseline::of_sisters(vec![watched(0, 1.0)], WEEK, Profile::Balanced);
        assert!(young.is_none());
        assert!(Baseline::of_sisters(vec![], WEEK, Profile::Balanced).is_none());
    }

    #[test]
    fn sisters_of_other_sizes_are_merged_without_loss() {
        let merged = Baseline::of_sisters(
            vec![watched(3, 1.0), watched(3, 70.0)],
            WEEK,
            Profile::Balanced,
        )
        .unwrap();
        let q = &merged.values.quantiles;
        assert!(q.low < 5.0 && q.high > 80.0, "{q:?}");
    }
}
