//! From how many entries on HNSW is quicker than looking at all: prints both for growing
//! libraries. `cargo run --release -p hale-decision --example crossover`.

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use hale_decision::embed::{DIMENSIONS, Embedding};
use hale_decision::index::Index;
use std::time::Instant;

/// Vectors in clusters, as descriptions are, from a small generator with a seed.
fn vectors(n: usize) -> Vec<Embedding> {
    let mut state = 7u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let mut vector = || (0..DIMENSIONS).map(|_| next()).collect::<Vec<f32>>();
    let centres: Vec<_> = (0..100).map(|_| vector()).collect();
    let near = |i: usize, noise: Vec<f32>| {
        let mixed = centres[i % 100].iter().zip(noise);
        Embedding::new(mixed.map(|(c, n)| c + 0.8 * n).collect())
    };
    (0..n).map(|i| near(i, vector())).collect()
}

fn main() {
    println!("entries   exact µs   hnsw µs   same top 5   build s");
    for n in [250, 1000, 4000, 8000, 16000] {
        let entries = vectors(n + 100);
        let (entries, queries) = entries.split_at(n);
        let exact = Index::with_crossover(entries.to_vec(), usize::MAX);
        let start = Instant::now();
        let graph = Index::with_crossover(entries.to_vec(), 1);
        let built = start.elapsed().as_secs_f64();
        let time = |index: &Index| {
            let start = Instant::now();
            let found: Vec<_> = queries.iter().map(|q| index.nearest(q, 5)).collect();
            (
                start.elapsed().as_secs_f64() * 1e6 / queries.len() as f64,
                found,
            )
        };
        let ((exact_us, all), (hnsw_us, near)) = (time(&exact), time(&graph));
        let same = all.iter().zip(&near).filter(|(a, b)| a == b).count();
        println!("{n:>7} {exact_us:>10.0} {hnsw_us:>9.0} {same:>11} % {built:>9.1}");
    }
}
