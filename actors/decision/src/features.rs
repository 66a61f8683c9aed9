//! What speaks for and against one candidate, each as a number between 0 and 1 with a name that
//! `why` shows.

use crate::catalogue::Entry;
use crate::lexical::Lexical;
use crate::products::{self, Product};
use crate::query::Query;
use crate::words;
use std::collections::BTreeSet;

/// The names of the features, in the order in which the coefficients stand.
pub const NAMES: [&str; 14] = [
    "dense",
    "dense_sentence",
    "lexical",
    "name",
    "service",
    "service_other",
    "product",
    "product_conflict",
    "product_generic",
    "metric",
    "metric_other",
    "not_when",
    "direction_conflict",
    "person",
];

/// Where a feature stands among [`NAMES`].
///
/// # Panics
/// If there is none of that name.
pub fn place(name: &str) -> usize {
    let found = NAMES.iter().position(|n| *n == name);
    found.unwrap_or_else(|| unreachable!("no feature is called {name}"))
}

/// One number for each of [`NAMES`].
pub type Features = [f64; NAMES.len()];

/// What a candidate brings to every question: worked out once, when the index is built.
#[derive(Debug, Clone)]
pub struct Profile {
    products: BTreeSet<Product>,
    aliases: BTreeSet<Product>,
    services: Vec<String>,
    name_terms: Vec<(String, f64)>,
    not_when: Vec<Vec<String>>,
}

impl Profile {
    /// The products it is for.
    pub fn products(&self) -> &BTreeSet<Product> {
        &self.products
    }

    /// Of an entry, with the rarity of its name's words among all entries.
    pub fn of(entry: &Entry, lexical: &Lexical) -> Self {
        let of = |names: &[String]| {
            names
                .iter()
                .filter_map(|n| products::of_service(n))
                .collect()
        };
        let name_terms = words::terms(&entry.name.as_str().replace("escalate_", ""));
        Self {
            products: of(&entry.services),
            aliases: of(&entry.aliases),
            services: entry.services.iter().map(|s| s.to_lowercase()).collect(),
            name_terms: name_terms
                .into_iter()
                .map(|t| (lexical.rarity(&t), t))
                .map(|(r, t)| (t, r))
                .collect(),
            not_when: entry
                .not_when
                .iter()
                .map(|w| words::terms(w))
                .filter(|w| !w.is_empty())
                .collect(),
        }
    }
}

/// What of the question is the same for all candidates: worked out once a question.
#[derive(Debug)]
pub struct Asked<'a> {
    query: &'a Query,
    products: BTreeSet<Product>,
    service: Option<Product>,
    service_is_generic: bool,
    terms: BTreeSet<String>,
}

impl<'a> Asked<'a> {
    /// Of a query.
    pub fn of(query: &'a Query) -> Self {
        let mut terms: BTreeSet<String> = words::terms(&query.text).into_iter().collect();
        query
            .moved
            .iter()
            .for_each(|m| terms.extend(words::terms(&m.metric)));
        let service = query.service.as_deref();
        Self {
            query,
            products: query.products(),
            service: service.and_then(products::of_service),
            service_is_generic: service.is_none_or(products::is_generic),
            terms,
        }
    }
}

/// How similar text and entry are, found by the two searches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Similar {
    /// Cosine with the whole description.
    pub dense: f64,
    /// The best cosine with one of its sentences.
    pub sentence: f64,
    /// BM25 over the best of all entries.
    pub lexical: f64,
}

/// The features of one candidate.
pub fn of(asked: &Asked<'_>, entry: &Entry, profile: &Profile, similar: Similar) -> Features {
    let yes = |b: bool| f64::from(u8::from(b));
    let shares = |a: &BTreeSet<Product>, b: &BTreeSet<Product>| a.intersection(b).next().is_some();
    let named = shares(&asked.products, &profile.products);
    let is_kin =
        !named && (is_for_kin(asked, profile) || shares(&asked.products, &profile.aliases));
    let any_named = !asked.products.is_empty();
    let is_for_product = !profile.products.is_empty();
    let service = asked
        .query
        .service
        .as_deref()
        .unwrap_or_default()
        .to_lowercase();
    let same_service = profile.services.contains(&service)
        || asked.service.is_some_and(|s| profile.products.contains(&s));
    let other_service = is_for_product && !same_service && !asked.service_is_generic;
    let (metric, metric_other) = metric_match(asked.query, entry);
    // A product that speaks another's language has metrics of its own names.
    let metric_other = if is_kin { 0.0 } else { metric_other };
    [
        similar.dense,
        similar.sentence,
        similar.lexical,
        name_overlap(asked, profile),
        yes(same_service),
        yes(other_service && !named),
        if is_kin { 0.5 } else { yes(named) },
        yes(is_for_product && any_named && !named && !is_kin),
        yes(!entry.is_person && !is_for_product && any_named),
        metric,
        metric_other,
        yes(hits_not_when(asked, profile)),
        yes(is_against_direction(asked.query, entry)),
        yes(entry.is_person),
    ]
}

/// Whether the candidate is for the product whose language the incident's speaks: for that itself,
/// not for a program beside it (its pooler, its backups), which the other may not have.
pub fn is_for_kin(asked: &Asked<'_>, profile: &Profile) -> bool {
    let named = asked.products.iter().chain(&asked.service);
    let mut kin = named.filter_map(|p| p.kin());
    let itself =
        |p: Product| profile.services.is_empty() || profile.services.iter().any(|s| s == p.name());
    kin.any(|p| profile.products.contains(&p) && itself(p))
}

/// Whether the candidate is for another product than the one the incident names or is about: then
/// it may be right as a pattern, and must not run unattended.
pub fn is_for_another_product(asked: &Asked<'_>, profile: &Profile) -> bool {
    let asked_for = if asked.products.is_empty() {
        asked.service.into_iter().collect()
    } else {
        asked.products.clone()
    };
    let is_alias = asked_for
        .iter()
        .any(|p| profile.aliases.contains(p) && !profile.products.contains(p));
    let is_named = asked_for.iter().any(|p| profile.products.contains(p));
    // On a real host a product that nothing speaks of is not there.
    let is_absent = asked.query.is_live && asked_for.is_empty() && !profile.products.is_empty();
    is_alias || is_absent || (!asked_for.is_empty() && !profile.products.is_empty() && !is_named)
}

/// The rarity-weighted share of the name's words that the question holds.
fn name_overlap(asked: &Asked<'_>, profile: &Profile) -> f64 {
    let all: f64 = profile.name_terms.iter().map(|(_, r)| r).sum();
    let hit = profile
        .name_terms
        .iter()
        .filter(|(t, _)| asked.terms.contains(t));
    hit.map(|(_, r)| r).sum::<f64>() / all.max(1e-9)
}

/// How specifically one of the entry's globs matches a metric that moved, and whether it has globs
/// and none does.
fn metric_match(query: &Query, entry: &Entry) -> (f64, f64) {
    if query.moved.is_empty() || entry.series.is_empty() {
        return (0.0, 0.0);
    }
    let matches = query.moved.iter().flat_map(|m| {
        let metric = m.metric.to_lowercase();
        entry.series.iter().filter_map(move |pattern| {
            let glob = pattern.metric.to_lowercase();
            // What the glob spells out, as a share of the metric: `pg_*` says less than `pg_locks*`.
            let literal = glob.chars().filter(|c| *c != '*').count() as f64;
            glob_match::glob_match(&glob, &metric)
                .then(|| (0.5 + 0.5 * literal / metric.len().max(1) as f64).min(1.0))
        })
    });
    let best = matches.fold(0.0, f64::max);
    (best, f64::from(u8::from(best == 0.0)))
}

fn hits_not_when(asked: &Asked<'_>, profile: &Profile) -> bool {
    profile
        .not_when
        .iter()
        .any(|words| words.iter().all(|w| asked.terms.contains(w)))
}

/// Whether every series it knows moved the other way.
fn is_against_direction(query: &Query, entry: &Entry) -> bool {
    let known = query.moved.iter().flat_map(|m| {
        entry
            .series
            .iter()
            .filter(|p| glob_match::glob_match(&p.metric, &m.metric))
            .map(move |p| (p, m))
    });
    let mut known = known.peekable();
    known.peek().is_some() && known.all(|(p, m)| !Entry::is_direction(p, m.direction))
}
