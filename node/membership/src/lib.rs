//! hale-membership
