//! hale-telemetry
