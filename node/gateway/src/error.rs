//! Why a question has no answer.

use hale_model::NodeId;
use hale_transport::TransportError;
use std::time::Duration;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The gateway could not be started.
    #[error("the gateway could not be started: {0}")]
    Start(String),
    /// A second one in this process.
    #[error("a gateway runs in this process already; its actors would answer for one another")]
    Second,
    /// The question is over the limit.
    #[error("a question of {len} bytes is over the limit of {limit}; ask for less at once")]
    QuestionTooLarge {
        /// Its size.
        len: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The answer is over the limit.
    #[error("the answer of {} is over the limit of {limit} bytes; ask for less at once", .node.short())]
    AnswerTooLarge {
        /// Who was asked.
        node: NodeId,
        /// What is allowed.
        limit: usize,
    },
    /// A node asked itself.
    #[error("a node does not ask itself over the network")]
    Myself,
    /// No stream to the node came about.
    #[error("{} can't be reached", .node.short())]
    Unreachable {
        /// Who was asked.
        node: NodeId,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// The stream that was opened leads to another node.
    #[error("asked for {}, and the stream leads to {}", .wanted.short(), .got.short())]
    WrongPeer {
        /// Who was to be asked.
        wanted: NodeId,
        /// Who is there.
        got: NodeId,
    },
    /// Every session is in use.
    #[error("{limit} sessions are in use; try again in a moment")]
    Full {
        /// How many there may be.
        limit: usize,
    },
    /// The peer has too many questions at once.
    #[error("{} has too many questions at once; try again in a moment", .node.short())]
    Busy {
        /// Who was asked.
        node: NodeId,
    },
    /// The peer took the question, and found no answer within its own bound.
    #[error("{} took the question and found no answer in time; see its log", .node.short())]
    Unanswered {
        /// Who was asked.
        node: NodeId,
    },
    /// No answer came in time.
    #[error("no answer of {} within {within:?} ({attempts} sessions tried)", .node.short())]
    TimedOut {
        /// Who was asked.
        node: NodeId,
        /// How long it was waited.
        within: Duration,
        /// How many sessions were tried.
        attempts: u32,
    },
    /// The gateway has stopped.
    #[error("this node is stopping")]
    Stopped,
}
