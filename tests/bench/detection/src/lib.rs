//! Measures what the baseline tells and what it costs.

pub mod labelled;
pub mod stories;
