//! hale-chaos
