//! What can go wrong in this crate.

/// Why a baseline can't be configured or restored.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// A time zone that the host does not know.
    #[error(
        "baseline.timezone: `{name}` is no time zone; write a name like `Europe/Berlin`, `UTC` or \
         `system`, and see that the package tzdata is installed"
    )]
    Zone {
        /// As it was written.
        name: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A setting out of its range.
    #[error("baseline.{field}: {found} is out of range; write a value from {least} to {most}")]
    Range {
        /// Which setting.
        field: &'static str,
        /// What was written.
        found: u64,
        /// The least allowed.
        least: u64,
        /// The most allowed.
        most: u64,
    },
    /// An override that says nothing, or too much.
    #[error("baseline.overrides[{index}]: {why}")]
    Override {
        /// Which, from 0.
        index: usize,
        /// What is wrong, and what to write.
        why: String,
    },
    /// A state of a version that this binary does not know.
    #[error(
        "the state of this series has version {0}, this binary knows {known}; use the newer binary, \
         or let the series be learned anew",
        known = crate::engine::STATE_VERSION
    )]
    Version(u8),
    /// A state whose bytes can't be read.
    #[error("the state of this series can't be read; it will be learned anew")]
    Unreadable(#[source] hale_model::wire::WireError),
    /// A state that can be read and makes no sense.
    #[error("the state of this series is damaged: {0}; it will be learned anew")]
    Damaged(&'static str),
}
