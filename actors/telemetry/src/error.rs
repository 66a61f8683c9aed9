//! What can be wrong, each with what to do about it.

use std::path::PathBuf;

/// Why telemetry can't start or go on as it was told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration that makes no sense.
    #[error("telemetry.{field}: {problem}; write {instead}")]
    Config {
        /// The field, as it is reached from `telemetry`: `postgres[0].url`.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to write instead.
        instead: String,
    },
    /// The host's own name is no valid host name.
    #[error("this machine's name can't be used; set telemetry.host in the configuration")]
    Host(#[source] hale_model::id::InvalidId),
    /// The positions in the followed logs can't be read or written.
    #[error("the log positions in {path} can't be kept; check its directory and its free space")]
    Positions {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A socket that can't be bound.
    #[error("StatsD can't listen on {address}; set telemetry.statsd to a free address")]
    Bind {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn config(
        field: impl Into<String>,
        problem: impl Into<String>,
        instead: impl Into<String>,
    ) -> Self {
        Self::Config {
            field: field.into(),
            problem: problem.into(),
            instead: instead.into(),
        }
    }
}
