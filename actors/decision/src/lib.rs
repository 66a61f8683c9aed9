//! hale-decision
