//! Why a command could not be done, its exit code, and what to type next.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a client command could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Nobody has said where a node is.
    #[error("no node has run in {0}")]
    NoNode(PathBuf),
    /// Nobody answers there.
    #[error("no node answers at {addr}")]
    Unreachable {
        /// Where.
        addr: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer broke off.
    #[error("the node's answer to {path} broke off")]
    BrokenOff {
        /// What was asked.
        path: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The node said no.
    #[error("{}", .error.message)]
    Said {
        /// The HTTP status.
        status: u16,
        /// What it said.
        error: hale_api::ErrorView,
    },
    /// The command line makes no sense.
    #[error("{what}")]
    Usage {
        /// Why.
        what: String,
        /// What to type instead.
        next: String,
    },
    /// A file.
    #[error("{path} can't be {done}")]
    File {
        /// `read`, `written`.
        done: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is done on files, without a node.
    #[error(transparent)]
    Offline(Offline),
    /// Whoever read the output has seen enough.
    #[error("the output was closed")]
    Closed,
}

/// What can't be done on files: the error as it is, and what to type next.
#[derive(Debug)]
pub(crate) struct Offline {
    error: Box<dyn Error + Send + Sync>,
    next: String,
}

impl fmt::Display for Offline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Offline {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl CliError {
    pub(super) fn offline(error: impl Error + Send + Sync + 'static, next: &str) -> Self {
        Self::Offline(Offline {
            error: Box::new(error),
            next: next.to_owned(),
        })
    }

    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::File { .. } | Self::Offline(_) => 1,
            Self::Usage { .. } => 2,
            Self::NoNode(_) | Self::Unreachable { .. } | Self::BrokenOff { .. } => 3,
            // What is not there, or fails inside, is wrong; all else was refused.
            Self::Said {
                status: 404 | 500..,
                ..
            } => 1,
            Self::Said { .. } => 4,
        }
    }

    /// What to type next.
    pub(super) fn next(&self) -> String {
        match self {
            Self::NoNode(_) => "start one with `hale node`, or say where one is with --addr and --token, or --data-dir".into(),
            Self::Unreachable { .. } => "start one with `hale node`, or say where one is with --addr".into(),
            Self::BrokenOff { .. } => "try again; `hale status` tells how the node is".into(),
            Self::Said { error, .. } => error.next.clone(),
            Self::Usage { next, .. } | Self::Offline(Offline { next, .. }) => next.clone(),
            Self::File { .. } => "give another path, or look at its owner and the disk".into(),
            Self::Closed => String::new(),
        }
    }
}
