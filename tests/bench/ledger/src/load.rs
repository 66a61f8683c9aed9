//! Clients in a closed loop: each asks again when it was answered.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Asked before anything counts: connections are made, caches are warm.
const WARM_UP: Duration = Duration::from_millis(500);

/// Has `clients` write for so long, and prints one line of JSON.
pub async fn run<F>(
    clients: usize,
    time: Duration,
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
    took.sort();
    let at = |q: f64| took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1000.0;
    println!(
        r#"{{"writes_per_s":{:.0},"p50_ms":{:.3},"p99_ms":{:.3}}}"#,
        took.len() as f64 / counts_from.elapsed().as_secs_f64(),
        at(0.5),
        at(0.99),
    );
}
