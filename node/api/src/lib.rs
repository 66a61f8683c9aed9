//! hale-api
