//! hale-audit
