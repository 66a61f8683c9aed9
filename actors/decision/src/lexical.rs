//! BM25 over the words of playbooks: finds the exact terms that vectors blur (Robertson and
//! Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009).

use crate::words;
use std::collections::HashMap;

/// How soon a repeated word counts no more.
const K1: f64 = 1.2;
/// How much a long text is held against it.
const B: f64 = 0.75;

/// An inverted index over short texts.
#[derive(Debug, Default)]
pub struct Lexical {
    /// Term to (text, how often, normalised by its length).
    postings: HashMap<String, Vec<(usize, f64)>>,
    texts: usize,
}

impl Lexical {
    /// Indexes texts by their place in the list.
    pub fn build<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let texts: Vec<Vec<String>> = texts.into_iter().map(words::terms).collect();
        let total: usize = texts.iter().map(Vec::len).sum();
        let mean = (total as f64 / texts.len().max(1) as f64).max(1.0);
        let mut lexical = Self {
            postings: HashMap::new(),
            texts: texts.len(),
        };
        for (i, terms) in texts.iter().enumerate() {
            let mut counts: HashMap<&str, f64> = HashMap::new();
            terms
                .iter()
                .for_each(|t| *counts.entry(t).or_default() += 1.0);
            let length = 1.0 - B + B * terms.len() as f64 / mean;
            for (term, count) in counts {
                let weight = count * (K1 + 1.0) / (count + K1 * length);
                lexical
                    .postings
                    .entry(term.to_owned())
                    .or_default()
                    .push((i, weight));
            }
        }
        lexical
    }

    /// The score of every text for a query; 0 where no word is shared. A word counts once.
    pub fn scores(&self, query: &str) -> Vec<f64> {
        let mut scores = vec![0.0; self.texts];
        let mut terms = words::terms(query);
        terms.sort();
        terms.dedup();
        for (term, postings) in terms
            .iter()
            .filter_map(|t| Some((t, self.postings.get(t)?)))
        {
            let rarity = self.rarity(term);
            postings
                .iter()
                .for_each(|(i, weight)| scores[*i] += rarity * weight);
        }
        scores
    }

    /// How rare a (stemmed) term is among the texts: its inverse document frequency, never negative.
    pub fn rarity(&self, term: &str) -> f64 {
        let n = self.postings.get(term).map_or(0, Vec::len) as f64;
        (1.0 + (self.texts as f64 - n + 0.5) / (n + 0.5)).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rare_word_that_is_shared_wins() {
        let lexical = Lexical::build([
            "the disk is full of logs",
            "the pool is full",
            "full full full",
        ]);
        let scores = lexical.scores("logs fill the disk full");
        assert!(scores[0] > scores[1] && scores[0] > scores[2]);
        assert_eq!(Lexical::build([]).scores("x"), Vec::<f64>::new());
    }

    proptest! {
        #[test]
        fn scores_are_finite_and_never_negative(texts in proptest::collection::vec(".{0,40}", 0..6), query in ".{0,60}") {
            let lexical = Lexical::build(texts.iter().map(String::as_str));
            let scores = lexical.scores(&query);
            prop_assert_eq!(scores.len(), texts.len());
            prop_assert!(scores.iter().all(|s| s.is_finite() && *s >= 0.0));
        }
    }
}
