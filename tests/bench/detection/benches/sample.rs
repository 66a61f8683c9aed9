//! What a sample costs: one series whose state is in the cache, and ten thousand series one after
//! the other, as a node takes them in. Beside them a running mean and deviation (Welford,
//! Technometrics 1962), which is the least that anything called a baseline does.
//!
//!     cargo bench --manifest-path tests/bench/detection/Cargo.toml

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hale_baseline::{Baseline, Moment};
use hale_model::{Sample, SeriesKey, Timestamp};
use std::hint::black_box;
use std::time::Duration;

const WEEK: Duration = Duration::from_secs(7 * 86_400);
const START_MS: i64 = 1_769_990_400_000;

/// A day between 30 and 50 %, with noise that is always the same.
fn value(at_ms: i64, n: u64) -> f64 {
    let hour = (at_ms % 86_400_000) as f64 / 3.6e6;
    let noise = (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1u32 << 24) - 0.5;
    let day = 40.0 - 10.0 * (hour / 24.0 * std::f64::consts::TAU).cos();
    ((day + 4.0 * noise) * 100.0).round() / 100.0
}

struct Series {
    sample: Sample,
    baseline: Baseline,
    at_ms: i64,
    n: u64,
    step_ms: i64,
}

impl Series {
    /// One that has been watched for `days`, a sample each half minute, and is now sampled each
    /// `step_ms`.
    fn watched(days: i64, step_ms: i64) -> Self {
        let mut series = Self {
            sample: Sample::percent(SeriesKey::new("system.cpu_percent"), 0.0),
            baseline: Baseline::new(WEEK),
            at_ms: START_MS,
            n: 0,
            step_ms: 30_000,
        };
        for _ in 0..days * 2880 {
            series.next();
        }
        series.step_ms = step_ms;
        for _ in 0..10_000 {
            series.next();
        }
        series
    }

    fn next(&mut self) -> f64 {
        self.at_ms += self.step_ms;
        self.n += 1;
        self.sample.value = value(self.at_ms, self.n);
        let now = Moment::utc(Timestamp::from_millis(self.at_ms));
        self.baseline
            .measure(&self.sample, now)
            .map_or(0.0, |m| m.sigma)
    }
}

#[derive(Default)]
struct Welford {
    n: f64,
    mean: f64,
    squares: f64,
}

impl Welford {
    fn sigma(&mut self, x: f64) -> f64 {
        self.n += 1.0;
        let d = x - self.mean;
        self.mean += d / self.n;
        self.squares += d * (x - self.mean);
        d / (self.squares / self.n).sqrt().max(1e-9)
    }
}

fn bench(c: &mut Criterion) {
    println!("a series takes {} bytes", size_of::<Baseline>());
    let mut group = c.benchmark_group("sample");
    group.measurement_time(Duration::from_secs(3));
    group.warm_up_time(Duration::from_secs(1));
    // The making of a value is in all of them.
    let (mut at_ms, mut n, mut welford) = (START_MS, 0, Welford::default());
    group.bench_function("mean and deviation", |b| {
        b.iter(|| {
            at_ms += 1000;
            n += 1;
            black_box(welford.sigma(value(at_ms, n)))
        });
    });
    for (name, step_ms) in [("one series, 1 s", 1000), ("one series, 30 s", 30_000)] {
        let mut series = Series::watched(21, step_ms);
        group.bench_function(name, |b| b.iter(|| black_box(series.next())));
    }
    let one = Series::watched(21, 1000);
    let mut all: Vec<Series> = (0..10_000)
        .map(|_| Series {
            sample: one.sample.clone(),
            baseline: one.baseline.clone(),
            ..one
        })
        .collect();
    group.sample_size(20);
    group.bench_function("10,000 series, 1 s each", |b| {
        b.iter_batched(
            || (),
            |()| all.iter_mut().map(Series::next).sum::<f64>(),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
