//! hale-consensus
