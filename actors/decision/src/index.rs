//! Nearest neighbours among embeddings: the only home of instant-distance (HNSW). Few entries are
//! searched exactly, which is then both faster and right; the top of many is re-scored exactly.

use crate::embed::Embedding;
use instant_distance::{Builder, HnswMap, Point, Search};

/// From here on HNSW is used. `examples/crossover.rs`, in release on a busy two-core machine with
/// made-up clustered vectors, saw the two change places between 4,000 entries (0.75 ms exact,
/// 0.79 ms HNSW) and 8,000 (0.64 and 0.47 ms), with the same top five: a coarse figure.
pub const CROSSOVER: usize = 4096;
/// How many neighbours HNSW is asked for at least; the best of them are re-scored exactly.
const SHORTLIST: usize = 64;
/// The same index for the same entries, on every node.
const SEED: u64 = 0x48_41_4c_45;

#[derive(Debug, Clone)]
struct Vector(Embedding);

impl Point for Vector {
    fn distance(&self, other: &Self) -> f32 {
        1.0 - self.0.cosine(&other.0)
    }
}

/// An index over embeddings, built once: it changes by being built anew.
pub struct Index {
    entries: Vec<Embedding>,
    graph: Option<HnswMap<Vector, usize>>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.graph.is_some() {
            "hnsw"
        } else {
            "exact"
        };
        write!(f, "Index({} entries, {kind})", self.entries.len())
    }
}

impl Index {
    /// Indexes entries by their place in the list.
    pub fn build(entries: Vec<Embedding>) -> Self {
        Self::with_crossover(entries, CROSSOVER)
    }

    /// As [`Index::build`] with another crossover: for measuring it.
    pub fn with_crossover(entries: Vec<Embedding>, crossover: usize) -> Self {
        let graph = (entries.len() >= crossover.max(1)).then(|| {
            let points = entries.iter().cloned().map(Vector).collect();
            Builder::default()
                .seed(SEED)
                .ef_search(2 * SHORTLIST)
                .build(points, (0..entries.len()).collect())
        });
        Self { entries, graph }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The `k` nearest with their exact cosines, nearest first; equals in the order of the list.
    pub fn nearest(&self, query: &Embedding, k: usize) -> Vec<(usize, f32)> {
        let mut found: Vec<(usize, f32)> = match &self.graph {
            None => (0..self.entries.len())
                .map(|i| (i, self.cosine(query, i)))
                .collect(),
            Some(graph) => {
                let mut search = Search::default();
                let near = graph.search(&Vector(query.clone()), &mut search);
                let near = near.take(k.max(SHORTLIST)).map(|item| *item.value);
                near.map(|i| (i, self.cosine(query, i))).collect()
            }
        };
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(k);
        found
    }

    /// The exact cosine of one entry.
    pub fn cosine(&self, query: &Embedding, entry: usize) -> f32 {
        self.entries.get(entry).map_or(0.0, |e| e.cosine(query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors in clusters, as descriptions are, from a small generator with a seed.
    fn vectors(n: usize) -> Vec<Embedding> {
        let mut state = 7u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let centres: Vec<Vec<f32>> = (0..20).map(|_| (0..32).map(|_| next()).collect()).collect();
        (0..n)
            .map(|i| Embedding::new(centres[i % 20].iter().map(|c| c + 0.5 * next()).collect()))
            .collect()
    }

    #[test]
    fn the_graph_finds_what_the_exact_search_finds() {
        let entries = vectors(600);
        let (exact, graph) = (
            Index::with_crossover(entries.clone(), 601),
            Index::with_crossover(entries.clone(), 1),
        );
        let queries = entries.iter().step_by(13);
        let same = queries
            .clone()
            .filter(|q| exact.nearest(q, 5) == graph.nearest(q, 5))
            .count();
        assert!(same * 100 >= queries.count() * 95, "{same}");
    }

    #[test]
    fn the_nearest_comes_first_and_is_the_entry_itself() {
        let index = Index::build(vectors(50));
        let query = index.entries[17].clone();
        let found = index.nearest(&query, 3);
        assert_eq!((found.len(), found[0].0), (3, 17));
        assert!(found[0].1 >= found[1].1);
        assert!(Index::build(vec![]).nearest(&query, 3).is_empty());
    }
}
