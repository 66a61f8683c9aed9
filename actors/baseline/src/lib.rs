//! hale-baseline
