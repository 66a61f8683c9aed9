//! Clients in a closed loop: each asks again when it was answered.

use std::fmt::Write as _;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Asked before anything counts: connections are made, caches are warm.
const WARM_UP: Duration = Duration::from_millis(500);

/// Has `clients` write for so long. The file that is then there says how long that was, and how
/// long each write took, in microseconds.
pub async fn run<F>(
    clients: usize,
    time: Duration,
    file: &Path,
    write: impl Fn(usize, u64) -> F + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let write = Arc::new(write);
    let counts_from = Instant::now() + WARM_UP;
    let ends = counts_from + time;
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let write = Arc::clone(&write);
            tokio::spawn(async move {
                let (mut took, mut n) = (vec![], 0);
                loop {
                    let asked = Instant::now();
                    if asked >= ends {
                        return took;
                    }
                    write(client, n).await;
                    n += 1;
                    if asked >= counts_from {
                        took.push(asked.elapsed());
                    }
                }
            })
        })
        .collect();
    let mut took = vec![];
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    let mut text = format!("{}\n", counts_from.elapsed().as_micros());
    for took in took {
        writeln!(text, "{}", took.as_micros()).unwrap();
    }
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file).unwrap();
}

/// What such files say together, as one line of JSON.
pub fn summary(files: &[&str]) {
    let (mut rate, mut took) = (0.0, vec![]);
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let mut numbers = text.lines().map(|line| line.parse::<u64>().unwrap());
        let measured = numbers.next().unwrap();
        let before = took.len();
        took.extend(numbers);
        rate += (took.len() - before) as f64 / (measured as f64 / 1e6);
    }
    took.sort_unstable();
    let at = |q: f64| took[((took.len() - 1) as f64 * q) as usize] as f64 / 1000.0;
    println!(
        r#"{{"writes_per_s":{rate:.0},"p50_ms":{:.3},"p99_ms":{:.3}}}"#,
        at(0.5),
        at(0.99),
    );
}
