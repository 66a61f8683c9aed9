//! Where log lines go: standard error, as text on a terminal and as JSON where that is asked for.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// One readable line each.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// Starts logging at `level` (`HALE_LOG` overrides it, in `tracing`'s filter syntax). A second
/// call changes nothing.
pub(crate) fn start(level: &str, format: LogFormat) {
    // openraft tells of every vote and lost message, which are normal, and its failures are told
    // by the ledger; ractor_cluster warns of every session
    // that ends, and they all do.
    let filter = EnvFilter::try_from_env("HALE_LOG").unwrap_or_else(|_| {
        EnvFilter::new(format!(
            "{level},openraft=off,sled=warn,raft_log=warn,ractor=warn,ractor_cluster=error"
        ))
    });
    let out = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let started = match format {
        LogFormat::Text => out.try_init(),
        LogFormat::Json => out.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
