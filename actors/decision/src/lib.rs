//! Anomalies and events become incidents, incidents become decisions.

pub mod embed;
