//! The search over one library of playbooks: dense and lexical candidates, their features, a
//! conditional logit over them, a softmax over all, and a calibrated probability for the best.

use crate::catalogue::Entry;
use crate::coefficients::Coefficients;
use crate::embed::{Embedder, Embedding};
use crate::evidence::{self, Evidence};
use crate::features::{self, Asked, Features, Profile, Similar};
use crate::index::Index;
use crate::lexical::Lexical;
use crate::products::{self, Product};
use crate::query::Query;
use hale_model::Finding;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Up to so many entries all are scored; of more, the best of each search.
const SCORE_ALL_UP_TO: usize = 1024;
/// How many of the likeliest are looked at on the host, and how likely they must be for it.
const PROBED: usize = 16;
const PROBED_FROM: f64 = 0.0005;
/// Who takes the place of refuted ones must be likelier, for the decision waits once more.
const PROBED_LATER_FROM: f64 = 0.05;
/// How many candidates each search brings beyond that.
const SHORTLIST: usize = 64;

/// A library, indexed.
#[derive(Debug)]
pub struct Ranker {
    entries: Vec<Entry>,
    profiles: Vec<Profile>,
    sentences: Vec<Vec<Embedding>>,
    /// The products that there is a playbook for.
    products: BTreeSet<Product>,
    index: Index,
    lexical: Lexical,
}

/// A candidate with what speaks for it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its place among the entries.
    pub entry: usize,
    /// What the text says.
    pub features: Features,
    /// What the host's signals say.
    pub evidence: Evidence,
    /// What its probes found.
    pub findings: Vec<Finding>,
    /// Its share of the softmax over all candidates.
    pub probability: f64,
}

/// All candidates, the likeliest first, and how sure the first playbook is.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Playbooks, the likeliest first.
    pub playbooks: Vec<Candidate>,
    /// Entries that stand for a person, the likeliest first.
    pub persons: Vec<Candidate>,
    /// What the calibration sees, in the order of [`crate::coefficients::CALIBRATION`].
    pub signs: [f64; crate::coefficients::CALIBRATION.len()],
    /// Whether none of the other playbooks that probes have not refuted has a sentence that is nearer to
    /// the text.
    pub is_nearest_by_sentence: bool,
    /// Whether the first playbook is for another product than the incident's.
    pub is_other_product: bool,
    /// Words of harm that acting could make worse.
    pub danger: Option<&'static str>,
}

impl Ranker {
    /// Indexes entries; those that stand for a person are added. Some milliseconds for each text
    /// whose vector did not come with the program: run it beside, not on, an async thread.
    pub fn build(embedder: &Embedder, mut entries: Vec<Entry>) -> Self {
        entries.extend(crate::catalogue::persons());
        let lexical_texts: Vec<String> = entries.iter().map(Entry::lexical_text).collect();
        let lexical = Lexical::build(lexical_texts.iter().map(String::as_str));
        let profiles: Vec<_> = entries.iter().map(|e| Profile::of(e, &lexical)).collect();
        let products = profiles.iter().flat_map(|p| p.products().clone()).collect();
        let sentences = entries.iter().map(|e| {
            sentences(&e.description)
                .map(|s| embedder.embed(s))
                .collect()
        });
        let sentences = sentences.collect();
        let index = Index::build(
            entries
                .iter()
                .map(|e| embedder.embed(&e.description))
                .collect(),
        );
        Self {
            entries,
            profiles,
            sentences,
            products,
            index,
            lexical,
        }
    }

    /// The texts that are embedded for the library that comes with the program.
    ///
    /// # Errors
    /// What lint finds, if a playbook of it can't be read.
    pub fn shipped_texts() -> Result<Vec<String>, String> {
        let playbooks = hale_playbooks::load_all(hale_playbooks::library());
        let playbooks = playbooks.map_err(|found| format!("{found:?}"))?;
        let entries = playbooks.iter().map(Entry::from);
        let entries = entries.chain(crate::catalogue::persons());
        let texts = entries.flat_map(|e| {
            let of_it = sentences(&e.description).chain([e.description.as_str()]);
            of_it.map(str::to_owned).collect::<Vec<_>>()
        });
        Ok(texts.collect())
    }

    /// The entries, in the order the candidates refer to.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The text that is searched with: where it names a product for which there is no playbook, and
    /// there are some for the one whose language it speaks, it names that. It is known as another
    /// product's trouble all the same, and a human is asked.
    pub fn reading<'q>(&self, query: &'q Query) -> Cow<'q, str> {
        let known_as = |product: Product| {
            let kin = product.kin().filter(|kin| self.products.contains(kin))?;
            (!self.products.contains(&product)).then_some(kin.name())
        };
        products::renamed(&query.text, known_as)
    }

    /// Scores the candidates for a query. `embedding` is that of [`Ranker::reading`].
    pub fn rank(&self, query: &Query, embedding: &Embedding, c: &Coefficients) -> Ranking {
        let asked = Asked::of(query);
        let candidates = self.candidates(&asked, query, embedding);
        self.weigh(query, &asked, candidates, c)
    }

    /// The candidates whose probes are worth running, the likeliest first; those that were `asked`
    /// before have answered.
    pub fn to_probe(&self, ranking: &Ranking, asked: &BTreeSet<usize>) -> Vec<usize> {
        let from = if asked.is_empty() {
            PROBED_FROM
        } else {
            PROBED_LATER_FROM
        };
        let likely = ranking.playbooks.iter().take(PROBED);
        let likely = likely.filter(|k| k.probability >= from);
        let probed = likely.filter(|k| self.entries[k.entry].has_probes);
        let probed = probed.map(|k| k.entry);
        probed.filter(|entry| !asked.contains(entry)).collect()
    }

    /// The same candidates after their probes have found what they found, by entry.
    pub fn diagnosed(
        &self,
        query: &Query,
        ranking: Ranking,
        mut findings: BTreeMap<usize, Vec<Finding>>,
        c: &Coefficients,
    ) -> Ranking {
        let mut candidates = ranking.playbooks;
        for candidate in &mut candidates {
            if let Some(found) = findings.remove(&candidate.entry) {
                candidate.evidence.diagnosed(&found);
                candidate.findings = found;
            }
        }
        candidates.extend(ranking.persons);
        self.weigh(query, &Asked::of(query), candidates, c)
    }

    fn weigh(
        &self,
        query: &Query,
        asked: &Asked<'_>,
        mut candidates: Vec<Candidate>,
        c: &Coefficients,
    ) -> Ranking {
        let scores: Vec<f64> = candidates
            .iter()
            .map(|k| c.score(&k.features) + k.evidence.score())
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
        for (candidate, score) in candidates.iter_mut().zip(scores) {
            candidate.probability = (score - top).exp() / sum;
        }
        candidates.sort_by(|a, b| {
            b.probability
                .total_cmp(&a.probability)
                .then(a.entry.cmp(&b.entry))
        });
        let (persons, playbooks): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|k| self.entries[k.entry].is_person);
        let is_other_product = playbooks
            .first()
            .is_some_and(|k| features::is_for_another_product(asked, &self.profiles[k.entry]));
        // Of one that speaks another's language it is known what is doubtful: a human is asked.
        let is_kin = playbooks
            .first()
            .is_some_and(|k| features::is_for_kin(asked, &self.profiles[k.entry]));
        let is_foreign = is_other_product && !is_kin;
        let signs = signs(query, &playbooks, &persons, is_foreign);
        Ranking {
            is_nearest_by_sentence: leads(&playbooks, "dense_sentence", |k| !k.evidence.is_refuted),
            playbooks,
            persons,
            signs,
            is_other_product,
            danger: query.danger(),
        }
    }

    fn candidates(
        &self,
        asked: &Asked<'_>,
        query: &Query,
        embedding: &Embedding,
    ) -> Vec<Candidate> {
        let lexical = self.lexical.scores(&self.reading(query));
        let best = lexical.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let chosen = self.shortlist(embedding, &lexical);
        let candidate = |i: usize| {
            let sentence = self.sentences[i].iter().map(|s| s.cosine(embedding));
            let similar = Similar {
                dense: f64::from(self.index.cosine(embedding, i)),
                sentence: f64::from(sentence.fold(-1.0, f32::max)),
                lexical: lexical[i] / best,
            };
            Candidate {
                entry: i,
                features: features::of(asked, &self.entries[i], &self.profiles[i], similar),
                evidence: evidence::of(query, &self.entries[i]),
                findings: vec![],
                probability: 0.0,
            }
        };
        chosen.into_iter().map(candidate).collect()
    }

    fn shortlist(&self, embedding: &Embedding, lexical: &[f64]) -> Vec<usize> {
        if self.entries.len() <= SCORE_ALL_UP_TO {
            return (0..self.entries.len()).collect();
        }
        let mut by_words: Vec<usize> = (0..lexical.len()).collect();
        by_words.sort_by(|a, b| lexical[*b].total_cmp(&lexical[*a]));
        let dense = self
            .index
            .nearest(embedding, SHORTLIST)
            .into_iter()
            .map(|(i, _)| i);
        let persons = (0..self.entries.len()).filter(|i| self.entries[*i].is_person);
        let mut chosen: Vec<usize> = dense
            .chain(by_words.into_iter().take(SHORTLIST))
            .chain(persons)
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }
}

/// The sentences of a description that are long enough to mean something.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split(['.', ';', ':'])
        .map(str::trim)
        .filter(|s| s.len() >= 24)
        .take(6)
}

/// Whether none of those that count has more of a feature than the first.
fn leads(playbooks: &[Candidate], name: &str, counts: impl Fn(&Candidate) -> bool) -> bool {
    let of = |k: &Candidate| k.features[features::place(name)];
    let mut others = playbooks.iter().skip(1).filter(|k| counts(k));
    playbooks
        .first()
        .is_some_and(|first| others.all(|k| of(k) <= of(first)))
}

/// What tells, of a whole ranking, how far its first can be trusted.
fn signs(
    query: &Query,
    playbooks: &[Candidate],
    persons: &[Candidate],
    is_foreign: bool,
) -> [f64; crate::coefficients::CALIBRATION.len()] {
    let Some(first) = playbooks.first() else {
        return Default::default();
    };
    let clamp = |p: f64| p.clamp(1e-6, 1.0 - 1e-6);
    let p = clamp(first.probability);
    let second = clamp(playbooks.get(1).map_or(0.0, |c| c.probability));
    let person = clamp(persons.iter().map(|c| c.probability).sum());
    let agree = ["dense", "dense_sentence", "lexical"];
    let agree = agree.iter().filter(|name| leads(playbooks, name, |_| true));
    let yes = |b: bool| f64::from(u8::from(b));
    [
        (p / (1.0 - p)).ln(),
        (p / second).ln().min(6.0),
        (p / person).ln().clamp(-6.0, 6.0),
        first.features[features::place("dense")]
            .max(first.features[features::place("dense_sentence")]),
        agree.count() as f64,
        yes(query.is_harmless_fall()),
        yes(is_foreign),
        yes(query.danger().is_some()),
    ]
}
