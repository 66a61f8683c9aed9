//! hale-executor
