use super::*;
use crate::error::BaselineError;
use hale_model::SeriesKey;
use proptest::prelude::*;

const WEEK: Duration = Duration::from_secs(7 * 86_400);
const MONDAY: i64 = 1_769_990_400_000;

fn at(ms: i64) -> Moment {
    Moment::utc(Timestamp::from_millis(MONDAY + ms))
}

/// A series that is shown values at one interval.
struct Shown {
    baseline: Baseline,
    sample: Sample,
    step_ms: i64,
    now_ms: i64,
}

impl Shown {
    fn new(sample: Sample, step_ms: i64) -> Self {
        Self {
            baseline: Baseline::new(WEEK),
            sample,
            step_ms,
            now_ms: 0,
        }
    }

    fn show(&mut self, value: f64) -> Option<Measured> {
        self.now_ms += self.step_ms;
        self.sample.value = value;
        self.baseline.measure(&self.sample, at(self.now_ms))
    }

    fn sigma(&mut self, value: f64) -> f64 {
        self.show(value).map_or(f64::NAN, |m| m.sigma)
    }

    fn learn(&mut self, values: impl IntoIterator<Item = f64>) -> &mut Self {
        for v in values {
            let _ = self.show(v);
        }
        self
    }
}

fn series() -> SeriesKey {
    SeriesKey::new("group.metric")
}

fn share() -> Sample {
    Sample::gauge(series(), 0.0).up_to(1.0)
}

#[test]
fn a_series_takes_three_kilobytes_at_most() {
    let bytes = std::mem::size_of::<Baseline>();
    assert!(bytes <= 3072, "{bytes}");
}

#[test]
fn nothing_is_judged_before_five_samples() {
    let mut up = Shown::new(share(), 1000);
    up.learn([1.0; 4]);
    let m = up.show(0.0).unwrap();
    assert_eq!((m.sigma, m.phase), (0.0, Phase::Starting));
    assert!(m.baseline.spread > 0.0);
}

#[test]
fn five_seconds_of_normal_are_enough_to_see_a_failure() {
    for step_ms in [100, 1000] {
        let n = 5000 / step_ms as usize;
        let jitter = |i: usize| 0.05 + 0.01 * f64::from(u8::from(i.is_multiple_of(3)));

        let mut pool = Shown::new(share().harm(Harm::High), step_ms);
        pool.learn((0..n).map(jitter));
        assert!(pool.sigma(0.95) >= 5.0, "a pool at {step_ms} ms");

        let mut up = Shown::new(share().harm(Harm::Low), step_ms);
        up.learn((0..n).map(|_| 1.0));
        assert!(up.sigma(0.0) <= -5.0, "a health check at {step_ms} ms");

        let mut logs = Shown::new(Sample::gauge(series(), 0.0).harm(Harm::High), step_ms);
        logs.learn((0..n).map(|_| 0.0));
        assert!(logs.sigma(50e6) >= 5.0, "a directory at {step_ms} ms");
        assert!(logs.sigma(50e6) >= 5.0, "it stays so");
    }
}

#[test]
fn a_failure_stays_one_for_as_long_as_it_takes_to_heal_it() {
    let mut pool = Shown::new(share().harm(Harm::High), 1000);
    pool.learn([0.05; 8]);
    for second in 0..300 {
        assert!(pool.sigma(0.97) >= 5.0, "after {second} s");
    }
    assert!(pool.sigma(0.05).abs() < 1.0, "and healed is normal");
}

#[test]
fn a_pool_that_leaks_within_a_minute_is_seen() {
    for per_second in [0.02, 0.05, 0.1] {
        let mut pool = Shown::new(share().harm(Harm::High), 1000);
        pool.learn((0..10).map(|i| 0.04 + 0.01 * f64::from(i % 2)));
        let seen = (1..=60).map(|s| {
            let m = pool
                .show((0.05 + per_second * f64::from(s)).min(0.97))
                .unwrap();
            crate::detect::score(
                m.sigma,
                Harm::High,
                m.seconds_to_limit,
                m.baseline.age_seconds,
            )
        });
        assert!(seen.fold(0.0, f64::max) >= 5.0, "{per_second} a second");
    }
}

#[test]
fn a_value_that_never_moved_has_moved() {
    let mut workers = Shown::new(Sample::gauge(series(), 0.0), 30_000);
    workers.learn(std::iter::repeat_n(5.0, 10 * 2880));
    let m = workers.show(6.0).unwrap();
    assert!(m.sigma >= 3.0 && m.baseline.spread > 0.0, "{m:?}");
    assert_eq!((m.baseline.p50, m.baseline.p99), (5.0, 5.0));
}

#[test]
fn a_lasting_shift_becomes_normal_after_hours_and_a_full_disk_does_not() {
    let jitter = |i: i64| (i % 7) as f64 * 0.1;
    let mut cpu = Shown::new(Sample::percent(series(), 0.0), 30_000);
    cpu.learn((0..2880 * 8).map(|i| 30.0 + jitter(i)));
    assert!(cpu.sigma(55.0) > 5.0);
    cpu.learn((0..120).map(|i| 55.0 + jitter(i)));
    assert!(cpu.sigma(55.0) > 5.0, "an hour is not enough");
    cpu.learn((0..480).map(|i| 55.0 + jitter(i)));
    assert!(cpu.sigma(55.0) < 2.0, "five hours are");

    let mut disk = Shown::new(Sample::percent(series(), 0.0), 30_000);
    disk.learn((0..2880 * 8).map(|i| 30.0 + jitter(i)));
    disk.learn((0..2880).map(|_| 100.0));
    assert!(disk.sigma(100.0) > 5.0);
}

#[test]
fn an_outage_is_not_learned_and_what_recurs_is() {
    let day = |bad: bool| {
        (0..2880).map(move |i| {
            if bad && (960..1020).contains(&i) {
                80.0
            } else {
                20.0 + f64::from(i % 5)
            }
        })
    };
    let mut once = Shown::new(Sample::gauge(series(), 0.0), 30_000);
    for d in 0..9 {
        once.learn(day(d == 7));
    }
    once.learn(day(false).take(970));
    assert!(
        once.sigma(80.0) > 5.0,
        "the day before yesterday it was an outage"
    );

    let mut nightly = Shown::new(Sample::gauge(series(), 0.0), 30_000);
    for _ in 0..9 {
        nightly.learn(day(true));
    }
    nightly.learn(day(true).take(970));
    assert!(nightly.sigma(80.0) <= 2.0, "every day it is a job");
    nightly.learn(day(true).skip(970).take(700));
    assert!(nightly.sigma(80.0) > 5.0, "but not at this hour");
}

#[test]
fn an_excluded_period_is_judged_and_not_learned() {
    let mut m = Shown::new(Sample::gauge(series(), 0.0), 1000);
    m.learn((0..60).map(|i| 10.0 + f64::from(i % 3)));
    let now = at(m.now_ms).at;
    m.baseline.exclude(now, now.plus(Duration::from_secs(30)));
    let learned = m.show(11.0).unwrap().baseline.samples;
    let during: Vec<Measured> = (0..20).filter_map(|_| m.show(11.0)).collect();
    assert!(
        during
            .iter()
            .all(|m| m.held_back && m.baseline.samples == learned)
    );
    m.learn([11.0; 60]);
    assert!(
        m.show(11.0).unwrap().baseline.samples > learned,
        "afterwards it learns again"
    );
}

#[test]
fn restarts_gaps_and_clocks_are_no_anomalies() {
    let mut requests = Shown::new(Sample::counter(series(), 0.0), 30_000);
    let mut count = 0.0;
    for i in 0..2880 * 6 {
        count = if i % 4000 == 3999 {
            0.0
        } else {
            count + 300.0 + f64::from(i % 11)
        };
        match i {
            9000 => requests.now_ms += 27 * 3_600_000,
            12_000 => requests.now_ms -= 3 * 3_600_000,
            _ => {}
        }
        let sigma = requests.show(count).map_or(0.0, |m| m.sigma);
        assert!(sigma.abs() < 3.0, "{sigma} at {i}");
    }
    assert!(
        requests.sigma(count + 300.0 * 8.0) > 5.0,
        "eight times the rate is"
    );
}

#[test]
fn a_state_of_another_version_or_damaged_is_refused() {
    let bytes = Baseline::new(WEEK).to_bytes().unwrap();
    let mut newer = bytes.clone();
    newer[0] = 9;
    assert!(matches!(
        Baseline::from_bytes(&newer),
        Err(BaselineError::Version(9))
    ));
    assert!(matches!(
        Baseline::from_bytes(&[]),
        Err(BaselineError::Damaged(_))
    ));
    assert!(Baseline::from_bytes(&bytes[..bytes.len() - 3]).is_err());
    let mut b = Baseline::new(WEEK);
    b.half_life_s = f64::NAN;
    assert!(matches!(
        Baseline::from_bytes(&b.to_bytes().unwrap()),
        Err(BaselineError::Damaged(_))
    ));
}

/// Any value a sensor may come up with.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -1e3..1e3f64,
        2 => Just(0.0),
        1 => any::<f64>(),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1e30), Just(1e30), Just(5e-324)],
    ]
}

fn sample() -> impl Strategy<Value = Sample> {
    let harm = prop_oneof![
        Just(Harm::High),
        Just(Harm::Low),
        Just(Harm::Both),
        Just(Harm::Neither)
    ];
    let bounds = prop_oneof![
        Just(None),
        (any::<f64>(), any::<f64>()).prop_map(|(min, max)| Some(Bounds { min, max })),
        Just(Some(Bounds {
            min: 0.0,
            max: 100.0
        })),
    ];
    (any::<bool>(), harm, bounds).prop_map(|(counter, harm, bounds)| {
        let kind = if counter {
            SeriesKind::Counter
        } else {
            SeriesKind::Gauge
        };
        Sample {
            kind,
            bounds,
            ..Sample::gauge(series(), 0.0).harm(harm)
        }
    })
}

fn assert_finite(m: &Measured) {
    let b = &m.baseline;
    for x in [
        m.value,
        m.sigma,
        m.low,
        m.high,
        m.tail_probability,
        m.trend_per_hour,
        b.mean,
        b.stddev,
        b.p50,
        b.p95,
        b.p99,
        b.expected,
        b.spread,
        m.seconds_to_limit.unwrap_or(0.0),
    ] {
        assert!(x.is_finite(), "{m:?}");
    }
    assert!(
        b.spread > 0.0 && (0.0..=1.0).contains(&m.tail_probability),
        "{m:?}"
    );
    assert!(b.p50 <= b.p95 && b.p95 <= b.p99 && m.low <= m.high, "{m:?}");
    assert!(m.seconds_to_limit.is_none_or(|s| s >= 0.0));
}

#[test]
fn what_is_just_as_expected_is_no_spread_away_however_surprising() {
    let mut measured = Shown::new(Sample::gauge(series(), 0.0), 1000)
        .learn([1.0; 10])
        .show(1.0)
        .unwrap();
    assert_eq!(measured.value, measured.baseline.expected);
    let views = Views {
        novelty: 1e6,
        ..Views::default()
    };
    measured.add(views, Profile::Balanced);
    assert_eq!(measured.sigma, 0.0);
    measured.baseline.expected = 0.0;
    measured.value = f64::from_bits(1);
    measured.add(views, Profile::Balanced);
    assert_eq!(measured.sigma, 0.0, "too close for any spread");
    measured.value = 1e-300;
    measured.add(views, Profile::Balanced);
    assert!(measured.sigma > 3.0 && measured.baseline.spread > 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_input_gives_finite_readings_and_a_spread(
        mut sample in sample(),
        steps in proptest::collection::vec((value(), prop_oneof![
            6 => 1i64..120_000, 1 => -1_000_000i64..1_000_000_000, 1 => any::<i64>(),
        ]), 1..300),
    ) {
        let mut baseline = Baseline::new(WEEK);
        let mut now = MONDAY;
        for (value, step) in steps {
            now = now.saturating_add(step);
            sample.value = value;
            if let Some(m) = baseline.measure(&sample, Moment::utc(Timestamp::from_millis(now))) {
                assert_finite(&m);
                let told = m.baseline.expected + m.sigma * m.baseline.spread;
                let scale = m.value.abs().max(m.baseline.expected.abs()).max(1e-9);
                let cut = m.sigma == 0.0 || m.sigma.abs() >= MOST_SIGMA;
                prop_assert!(cut || (told - m.value).abs() <= 1e-6 * scale, "{m:?}");
            }
        }
        let restored = Baseline::from_bytes(&baseline.to_bytes().unwrap());
        prop_assert!(restored.is_ok(), "{restored:?}");
    }

    #[test]
    fn a_restored_baseline_goes_on_as_if_nothing_had_happened(
        before in proptest::collection::vec(-50.0..50.0f64, 1..400),
        after in proptest::collection::vec(-500.0..500.0f64, 1..100),
        step_ms in 100i64..400_000,
    ) {
        let mut shown = Shown::new(Sample::gauge(series(), 0.0), step_ms);
        shown.learn(before);
        let bytes = shown.baseline.to_bytes().unwrap();
        let restored = Baseline::from_bytes(&bytes).unwrap();
        let (sample, now_ms) = (shown.sample.clone(), shown.now_ms);
        let mut again = Shown { baseline: restored, sample, step_ms, now_ms };
        for x in after {
            prop_assert_eq!(shown.show(x), again.show(x));
        }
        prop_assert_eq!(shown.baseline.to_bytes().unwrap(), again.baseline.to_bytes().unwrap());
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..4000),
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..20),
    ) {
        if let Some(version) = bytes.first_mut() {
            *version = STATE_VERSION;
        }
        let _ = Baseline::from_bytes(&bytes);
        let mut shown = Shown::new(Sample::gauge(series(), 0.0), 1000);
        let mut bytes = shown.learn((0..200).map(f64::from)).baseline.to_bytes().unwrap();
        for (i, to) in flips {
            let i = i % bytes.len();
            bytes[i] = to;
        }
        if let Ok(mut baseline) = Baseline::from_bytes(&bytes) {
            for i in 0..50 {
                shown.sample.value = f64::from(i);
                let _ = baseline.measure(&shown.sample, at(300_000 + i64::from(i) * 60_000));
            }
        }
    }
}
