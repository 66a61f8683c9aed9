//! The fitted numbers: weights of the conditional logit and the calibration, made by
//! `examples/fit.rs` and committed with their version and their reliability table.

use crate::features::{self, Features};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What the calibration sees of a ranking.
pub const CALIBRATION: [&str; 8] = [
    "log_odds",
    "margin_playbook",
    "margin_person",
    "similarity",
    "agreement",
    "harmless_fall",
    "other_product",
    "danger",
];

/// What is taken off the log-odds of a match that is rather sure: nothing below odds of e, all of it
/// at odds from e² to e^2.7 (probabilities from 0.88 to 0.94), nothing any more from e⁴ on.
/// Cross-validation shows Platt's curve too bold there, and that is where a wrong playbook would run
/// unattended.
const CAUTION: f64 = 0.3;

/// One line of the reliability table: of the decisions in a band of confidence, how many were right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// The band's lower end.
    pub from: f64,
    /// The mean confidence in it.
    pub confidence: f64,
    /// The share that was right.
    pub right: f64,
    /// How many there were.
    pub count: u32,
}

/// The file's shape: by name, so that a file of another version is noticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoefficientsFile {
    /// Which fit this is.
    pub version: String,
    /// Of the conditional logit, by the feature's name.
    pub weights: BTreeMap<String, f64>,
    /// Of the calibration: `intercept`, and by the sign's name.
    pub calibration: BTreeMap<String, f64>,
    /// Measured by cross-validation.
    pub reliability: Vec<Reliability>,
}

/// The fitted numbers in the order of the features.
#[derive(Debug, Clone, PartialEq)]
pub struct Coefficients {
    /// Which fit this is.
    pub version: String,
    weights: Features,
    intercept: f64,
    slopes: [f64; CALIBRATION.len()],
    /// Measured by cross-validation.
    pub reliability: Vec<Reliability>,
}

impl Coefficients {
    /// Those in this binary.
    pub fn embedded() -> &'static Self {
        static FITTED: OnceLock<Coefficients> = OnceLock::new();
        FITTED.get_or_init(|| {
            let text = include_str!("../model/coefficients.json");
            serde_json::from_str(text).map_or_else(
                |_| Self::careful(),
                |file: CoefficientsFile| Self::from(&file),
            )
        })
    }

    /// From weights in the order of [`features::NAMES`] and a calibration in that of
    /// [`CALIBRATION`].
    pub fn new(
        version: String,
        weights: Features,
        intercept: f64,
        slopes: [f64; CALIBRATION.len()],
    ) -> Self {
        Self {
            version,
            weights,
            intercept,
            slopes,
            reliability: vec![],
        }
    }

    /// Sure of nothing: everything goes to a person. In place of a file that can't be read.
    fn careful() -> Self {
        Self::new(
            "none".into(),
            [0.0; features::NAMES.len()],
            -10.0,
            [0.0; CALIBRATION.len()],
        )
    }

    /// The conditional logit's score.
    pub fn score(&self, features: &Features) -> f64 {
        self.weights.iter().zip(features).map(|(w, f)| w * f).sum()
    }

    /// The probability that the first playbook of a ranking is the right one (Platt, "Probabilistic
    /// Outputs for Support Vector Machines", 1999, over several signs instead of one score).
    pub fn calibrate(&self, signs: &[f64; CALIBRATION.len()]) -> f64 {
        let z: f64 = self.slopes.iter().zip(signs).map(|(w, s)| w * s).sum();
        let z = z + self.intercept;
        let doubt = (z - 1.0).clamp(0.0, 1.0) - ((z - 2.7) / 1.3).clamp(0.0, 1.0);
        let z = z - CAUTION * doubt;
        1.0 / (1.0 + (-z).exp())
    }
}

impl From<&CoefficientsFile> for Coefficients {
    fn from(file: &CoefficientsFile) -> Self {
        let weight = |name: &str| file.weights.get(name).copied().unwrap_or(0.0);
        let slope = |name: &str| file.calibration.get(name).copied().unwrap_or(0.0);
        Self {
            version: file.version.clone(),
            weights: features::NAMES.map(weight),
            intercept: file.calibration.get("intercept").copied().unwrap_or(-10.0),
            slopes: CALIBRATION.map(slope),
            reliability: file.reliability.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caution_lowers_what_is_rather_sure_and_turns_no_order_around() {
        let mut slopes = [0.0; CALIBRATION.len()];
        slopes[0] = 1.0;
        let plain = Coefficients::new(String::new(), [0.0; features::NAMES.len()], 0.0, slopes);
        let told = |z: f64| {
            let mut signs = [0.0; CALIBRATION.len()];
            signs[0] = z;
            plain.calibrate(&signs)
        };
        let fitted = |z: f64| 1.0 / (1.0 + (-z).exp());
        for (a, b) in (-60..80).map(|n| (f64::from(n) / 10.0, f64::from(n + 1) / 10.0)) {
            assert!(told(a) < told(b), "{a}");
            assert!(told(a) <= fitted(a), "{a}");
        }
        assert_eq!((told(0.5), told(4.5)), (fitted(0.5), fitted(4.5)));
        assert!(told(2.2) < 0.90 && fitted(2.2) > 0.90);
    }

    #[test]
    fn the_committed_coefficients_know_every_feature() {
        let text = include_str!("../model/coefficients.json");
        let file: CoefficientsFile = serde_json::from_str(text).unwrap();
        assert!(
            features::NAMES
                .iter()
                .all(|n| file.weights.contains_key(*n))
        );
        assert!(
            CALIBRATION
                .iter()
                .all(|n| file.calibration.contains_key(*n))
        );
        assert_eq!(Coefficients::embedded().version, file.version);
    }

    #[test]
    fn the_reliability_table_holds_where_playbooks_run_unattended() {
        let table = &Coefficients::embedded().reliability;
        let unattended = table.iter().filter(|r| r.from >= 0.9);
        let (right, all) = unattended.fold((0.0, 0.0), |(right, all), r| {
            (
                right + r.right * f64::from(r.count),
                all + f64::from(r.count),
            )
        });
        assert!(all >= 100.0 && right / all >= 0.98, "{right} of {all}");
    }

    #[test]
    fn coefficients_that_cannot_be_read_are_sure_of_nothing() {
        assert!(Coefficients::careful().calibrate(&[6.0; CALIBRATION.len()]) < 0.01);
    }
}
