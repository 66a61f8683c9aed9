//! Samples → readings → anomalies: what is normal for each series of a host, and what is not.
//!
//! [`engine::Baseline`] learns one series, [`detect::judge`] decides whether a reading matters,
//! [`host::HostBaselines`] holds all series of a host, and [`actor`] runs it. All but `actor` is
//! pure: time comes in as a [`Moment`].

pub mod actor;
pub mod config;
pub mod detect;
pub mod engine;
pub mod error;
pub mod explain;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod history;
pub mod host;
pub mod moment;
pub mod replay;

pub use config::{BaselineConfig, Override, Sensitivity};
pub use detect::{AlertState, judge};
pub use engine::{Baseline, Measured, Phase, Profile, Views, as_sigma};
pub use error::BaselineError;
pub use explain::{Explanation, false_alerts_per_week};
pub use history::{Episode, Point};
pub use host::{HostBaselines, SeriesDetail, SeriesFilter, SeriesView};
pub use moment::{LocalTime, Moment};
