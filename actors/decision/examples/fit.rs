//! Fits the coefficients on labelled incidents and measures them by cross-validation.
//!
//! `cargo run -p hale-decision --example fit -- INCIDENTS.jsonl CATALOGUE.jsonl OUT.json CROSS.jsonl`
//! writes `model/coefficients.json` to OUT and what ten-fold cross-validation decided about every
//! incident (by coefficients that never saw it) to CROSS, for a scoring program.

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use hale_decision::coefficients::{CALIBRATION, Coefficients, CoefficientsFile, Reliability};
use hale_decision::features::{Features, NAMES};
use hale_decision::rank::Ranking;
use hale_decision::replay::{self, IncidentLine, Replay};
use std::error::Error;

/// Which way each feature may count: what speaks for a candidate can't be turned against it by the
/// accidents of a few hundred examples. In the order of the names; 0 is free.
const SIGNS: [i8; NAMES.len()] = [1, 1, 1, 1, 1, -1, 1, -1, 0, 1, -1, -1, -1, 0];
const CALIBRATION_SIGNS: [i8; CALIBRATION.len() + 1] = [1, 1, 1, 1, 1, -1, -1, -1, 0];

const FOLDS: usize = 10;
/// Ridge penalties, chosen by cross-validation on a coarse grid.
const RIDGE_LOGIT: f64 = 0.02;
const RIDGE_PLATT: f64 = 0.5;

#[derive(serde::Deserialize)]
struct Label {
    accept: Vec<String>,
    route: String,
}

struct Example {
    incident: IncidentLine,
    label: Label,
    /// Features of every candidate, by entry.
    candidates: Vec<Features>,
    /// Whether choosing the entry is right; for what belongs to a person, every person is.
    right: Vec<bool>,
    fold: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, incidents, catalogue, out, cross] = args.as_slice() else {
        return Err("usage: fit INCIDENTS.jsonl CATALOGUE.jsonl OUT.json CROSS.jsonl".into());
    };
    let text = std::fs::read_to_string(incidents)?;
    let replay = Replay::new(replay::catalogue(&std::fs::read_to_string(catalogue)?)?)?;
    let examples = examples(&replay, &text)?;
    let mut lines = String::new();
    let (mut confidences, mut weights_of_all) = (vec![], [0.0; NAMES.len()]);
    // Calibration is fitted on rankings by weights that did not see the incident.
    let crossed: Vec<Ranking> = (0..FOLDS)
        .flat_map(|fold| {
            let weights = fit_logit(examples.iter().filter(|e| e.fold != fold));
            let c = Coefficients::new(String::new(), weights, 0.0, [0.0; CALIBRATION.len()]);
            let held = examples
                .iter()
                .enumerate()
                .filter(move |(_, e)| e.fold == fold);
            held.map(|(i, e)| (i, replay.rank(&e.incident, &c)))
                .collect::<Vec<_>>()
        })
        .collect::<std::collections::BTreeMap<_, _>>()
        .into_values()
        .collect();
    let points: Vec<([f64; CALIBRATION.len()], bool)> = crossed
        .iter()
        .zip(&examples)
        .map(|(r, e)| (r.signs, is_right(&replay, e, r)))
        .collect();
    for (i, (example, ranking)) in examples.iter().zip(&crossed).enumerate() {
        let seen = points
            .iter()
            .enumerate()
            .filter(|(j, _)| examples[*j].fold != example.fold);
        let (intercept, slopes) = fit_platt(seen.map(|(_, p)| p));
        let c = Coefficients::new(String::new(), [0.0; NAMES.len()], intercept, slopes);
        let line = replay.answer(&example.incident, ranking, &c);
        confidences.push((line.ranked.first().map_or(0.0, |r| r.1), points[i].1));
        lines += &(serde_json::to_string(&line)? + "\n");
    }
    std::fs::write(cross, lines)?;
    weights_of_all.copy_from_slice(&fit_logit(examples.iter()));
    let (intercept, slopes) = fit_platt(points.iter());
    let named = |names: &[&str], values: &[f64]| -> Vec<(String, f64)> {
        names
            .iter()
            .map(|n| (*n).to_owned())
            .zip(values.iter().map(|v| (v * 1e4).round() / 1e4))
            .collect()
    };
    let mut calibration = named(&CALIBRATION, &slopes);
    calibration.extend(named(&["intercept"], &[intercept]));
    let file = CoefficientsFile {
        version: "1".into(),
        weights: named(&NAMES, &weights_of_all).into_iter().collect(),
        calibration: calibration.into_iter().collect(),
        reliability: reliability(&confidences),
    };
    std::fs::write(out, serde_json::to_string_pretty(&file)? + "\n")?;
    println!("{}", serde_json::to_string_pretty(&file)?);
    Ok(())
}

fn examples(replay: &Replay, text: &str) -> Result<Vec<Example>, Box<dyn Error>> {
    let blank = Coefficients::new(
        String::new(),
        [0.0; NAMES.len()],
        0.0,
        [0.0; CALIBRATION.len()],
    );
    let labels = text.lines().map(serde_json::from_str::<Label>);
    let incidents = replay::incidents(text)?;
    let mut out = vec![];
    for (i, (incident, label)) in incidents.into_iter().zip(labels).enumerate() {
        let label = label?;
        let ranking = replay.rank(&incident, &blank);
        let mut candidates = vec![[0.0; NAMES.len()]; replay.entries().len()];
        for c in ranking.playbooks.iter().chain(&ranking.persons) {
            candidates[c.entry] = c.features;
        }
        let right = replay.entries().iter().map(|e| {
            if label.route == "human" {
                e.is_person
            } else {
                label.accept.iter().any(|a| a == e.name.as_str())
            }
        });
        out.push(Example {
            incident,
            right: right.collect(),
            candidates,
            label,
            fold: i % FOLDS,
        });
    }
    Ok(out)
}

fn is_right(replay: &Replay, example: &Example, ranking: &Ranking) -> bool {
    let first = ranking
        .playbooks
        .first()
        .map(|c| replay.entries()[c.entry].name.as_str());
    example.label.route == "auto"
        && first.is_some_and(|f| example.label.accept.iter().any(|a| a == f))
}

/// The weights that make the right entries likeliest: gradient descent on the conditional
/// log-likelihood with a ridge (McFadden 1974).
fn fit_logit<'a>(examples: impl Iterator<Item = &'a Example>) -> Features {
    let examples: Vec<&Example> = examples.collect();
    let n = examples.len() as f64;
    descend(SIGNS, |w: &Features| {
        let mut gradient = [0.0; NAMES.len()];
        for e in &examples {
            let scores: Vec<f64> = e
                .candidates
                .iter()
                .map(|f| f.iter().zip(w).map(|(f, w)| f * w).sum())
                .collect();
            let top = scores.iter().copied().fold(f64::MIN, f64::max);
            let exps: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
            let all: f64 = exps.iter().sum();
            let right: f64 = exps
                .iter()
                .zip(&e.right)
                .filter(|(_, r)| **r)
                .map(|(x, _)| x)
                .sum();
            for ((f, x), r) in e.candidates.iter().zip(&exps).zip(&e.right) {
                let pull = x / all - if *r { x / right.max(1e-300) } else { 0.0 };
                gradient
                    .iter_mut()
                    .zip(f)
                    .for_each(|(g, f)| *g += pull * f / n);
            }
        }
        gradient
            .iter_mut()
            .zip(w)
            .for_each(|(g, w)| *g += RIDGE_LOGIT * w / 10.0);
        gradient
    })
}

/// Logistic regression of being right on the signs, with Platt's softened targets and a ridge.
fn fit_platt<'a>(
    points: impl Iterator<Item = &'a ([f64; CALIBRATION.len()], bool)>,
) -> (f64, [f64; CALIBRATION.len()]) {
    let points: Vec<_> = points.collect();
    let n = points.len() as f64;
    let right = points.iter().filter(|p| p.1).count() as f64;
    let (yes, no) = ((right + 1.0) / (right + 2.0), 1.0 / (n - right + 2.0));
    let fitted = descend(CALIBRATION_SIGNS, |w: &[f64; CALIBRATION.len() + 1]| {
        let mut gradient = [0.0; CALIBRATION.len() + 1];
        for (signs, is_right) in &points {
            let x = || signs.iter().copied().chain([1.0]);
            let z: f64 = x().zip(w).map(|(x, w)| x * w).sum();
            let error = 1.0 / (1.0 + (-z).exp()) - if *is_right { yes } else { no };
            gradient
                .iter_mut()
                .zip(x())
                .for_each(|(g, x)| *g += error * x / n);
        }
        let slopes = gradient.iter_mut().zip(w).take(CALIBRATION.len());
        slopes.for_each(|(g, w)| *g += RIDGE_PLATT * w / n);
        gradient
    });
    let mut slopes = [0.0; CALIBRATION.len()];
    slopes.copy_from_slice(&fitted[..CALIBRATION.len()]);
    (fitted[CALIBRATION.len()], slopes)
}

/// Adam (Kingma and Ba 2015): the problems are small and convex enough.
fn descend<const N: usize>(signs: [i8; N], gradient: impl Fn(&[f64; N]) -> [f64; N]) -> [f64; N] {
    let (mut w, mut m, mut v) = ([0.0; N], [0.0; N], [0.0; N]);
    for step in 1..=1500 {
        let g = gradient(&w);
        let rate = 0.1 / (1.0 + f64::from(step) / 300.0);
        for i in 0..N {
            m[i] = 0.9 * m[i] + 0.1 * g[i];
            v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
            let (m, v) = (
                m[i] / (1.0 - 0.9f64.powi(step)),
                v[i] / (1.0 - 0.999f64.powi(step)),
            );
            w[i] -= rate * m / (v.sqrt() + 1e-9);
            w[i] = match signs[i] {
                1 => w[i].max(0.0),
                -1 => w[i].min(0.0),
                _ => w[i],
            };
        }
    }
    w
}

fn reliability(points: &[(f64, bool)]) -> Vec<Reliability> {
    let bands = [0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.01];
    let mut table = vec![];
    for band in bands.windows(2) {
        let of: Vec<_> = points
            .iter()
            .filter(|p| p.0 >= band[0] && p.0 < band[1])
            .collect();
        let n = of.len().max(1) as f64;
        let round = |x: f64| (x * 1e3).round() / 1e3;
        table.push(Reliability {
            from: band[0],
            confidence: round(of.iter().map(|p| p.0).sum::<f64>() / n),
            right: round(of.iter().filter(|p| p.1).count() as f64 / n),
            count: of.len() as u32,
        });
    }
    table
}
