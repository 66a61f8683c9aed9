//! How long the parts of a decision take on this machine. Run it alone on a quiet machine:
//! `cargo run -p hale-decision --example latency [--release]`.

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use hale_decision::embed::Embedder;
use std::time::Instant;

fn median_us(rounds: usize, mut f: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

fn main() {
    let embedder = Embedder::embedded().expect("the model in the binary is readable");
    for words in [4, 12, 30, 60, 100] {
        let text = "connection pool exhausted ".repeat(words / 3 + 1);
        let tokens = embedder.tokens(&text).len();
        let us = median_us(60, || {
            std::hint::black_box(embedder.embed(&text));
        });
        println!("embed {tokens:>4} tokens: {:.2} ms", us / 1000.0);
    }
}
