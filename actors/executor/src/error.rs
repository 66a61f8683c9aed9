//! What can go wrong before anything is run. What goes wrong in a run is told in its report.

use hale_model::PlaybookName;
use hale_model::canonical::NotCanonical;

/// Why something can't be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such playbook.
    #[error("there is no playbook `{0}`; `hale playbook ls` lists those there are")]
    UnknownPlaybook(PlaybookName),
    /// There is no such incident, or it is over.
    #[error("there is no open incident `{0}`; `hale incidents` lists those there are")]
    UnknownIncident(String),
    /// A parameter can't be settled.
    #[error(
        "`{playbook}` can't be planned: {why}; give the value with `--param NAME=VALUE`, or see \
         `hale playbook show {playbook}`"
    )]
    Parameters {
        /// Of which playbook.
        playbook: PlaybookName,
        /// Why.
        why: String,
    },
    /// A value has no canonical form.
    #[error("the plan of `{playbook}` can't be signed")]
    NotCanonical {
        /// Of which playbook.
        playbook: PlaybookName,
        /// Why.
        #[source]
        source: NotCanonical,
    },
    /// A plan that is too large to be shown to a human or put on the chain.
    #[error(
        "the plan of `{playbook}` has {bytes} bytes, {limit} are allowed; shorten its parameters"
    )]
    TooLarge {
        /// Of which playbook.
        playbook: PlaybookName,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Enough waits already.
    #[error("{0} runs wait already; `hale leases` shows what is running")]
    Busy(usize),
    /// This incident is being worked on.
    #[error("`{0}` is being worked on already; `hale leases` shows what is running")]
    Underway(String),
}
