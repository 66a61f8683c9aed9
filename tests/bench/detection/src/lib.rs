//! Measures the baseline: see `benches/`.
