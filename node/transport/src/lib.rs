//! hale-transport
