//! What went wrong, told so that an operator knows what to type next.

use axum::http::StatusCode;
use hale_model::ledger::{LedgerError, Refusal};

/// The kinds of problems, each with one HTTP status and one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request can't be read: broken JSON, an unknown query parameter.
    BadRequest,
    /// No token, or not the right one.
    Unauthorized,
    /// There is no such thing.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The cluster's state forbids it: frozen, already answered, the plan changed.
    Refused,
    /// The body is over the limit.
    TooLarge,
    /// The body is of a type that is not understood.
    UnsupportedMediaType,
    /// The request names a host that this listener does not serve.
    Misdirected,
    /// The request can be read, but a field is unknown, missing or out of range.
    Invalid,
    /// Something inside failed.
    Internal,
    /// Too much at once, or not ready: the same request may work later.
    Unavailable,
    /// It took too long.
    TimedOut,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Refused,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Misdirected,
        Self::Invalid,
        Self::Internal,
        Self::Unavailable,
        Self::TimedOut,
    ];

    /// The word in `error.code`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Misdirected => "misdirected",
            Self::Invalid => "invalid",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Refused => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// Why a request was not done, and what to type next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// Of which kind.
    pub code: Code,
    /// What is wrong, in a sentence.
    pub message: String,
    /// The next command to type, or what to change.
    pub next: String,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(code: Code, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            next: next.into(),
        }
    }

    /// There is no `what` named `name`; `next` lists those that are there.
    pub fn not_found(what: &str, name: impl std::fmt::Display, next: impl Into<String>) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} {name}"), next)
    }

    /// The state of the cluster forbids it.
    pub fn refused(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Code::Refused, message, next)
    }

    /// A field is unknown, missing or out of range.
    pub fn invalid(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message, next)
    }

    /// The same request may work later.
    pub fn unavailable(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message, next)
    }

    /// Something inside failed; the message is shown, so it holds no secret.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(
            Code::Internal,
            message,
            "look at the node's log, then try again",
        )
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let (code, next) = match &refusal {
            Refusal::Held { .. } => (Code::Refused, "hale leases"),
            Refusal::Frozen { .. } => (Code::Refused, "hale thaw"),
            Refusal::UnknownApproval(_) => (Code::NotFound, "hale approve"),
            Refusal::NotWaiting { .. } | Refusal::PlanChanged { .. } => {
                (Code::Refused, "hale approve")
            }
            Refusal::StaleFence(_) | Refusal::AlreadyClosed(_) => (Code::Refused, "hale leases"),
            Refusal::BadSignature | Refusal::BadEntry(_) => (Code::Internal, "hale audit verify"),
            Refusal::Full { .. } => (Code::Unavailable, "try again in a minute; hale status"),
            Refusal::Queued { .. } | Refusal::LookedAt { .. } => (Code::Refused, "hale leases"),
            Refusal::BudgetSpent { .. } => (Code::Refused, "hale budget ls"),
            Refusal::UnknownBudget(_) => (Code::NotFound, "hale budget ls"),
            Refusal::UnknownToken(_) => (Code::NotFound, "hale token create"),
            Refusal::TokenUsedUp(_) | Refusal::TokenExpired(_) => {
                (Code::Refused, "hale token create")
            }
            Refusal::HostTaken { .. } | Refusal::LastNode | Refusal::UnknownNode(_) => {
                (Code::Refused, "hale members")
            }
            Refusal::NoMajority { .. } => (
                Code::Refused,
                "try again in some seconds, when another host has taken a seat: `hale leave` on the host \
                 itself waits for that; if voters are lost for good, `hale recover` on one that is left",
            ),
            Refusal::WasRemoved(_) => (
                Code::Refused,
                "wipe the data directory and join as a new node: hale join",
            ),
        };
        Self::new(code, message, next)
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        let next = match &error {
            LedgerError::NoLeader(_) => "hale voters shows who votes and who is silent",
            LedgerError::Storage(_) => "free space on the data directory's disk, then hale status",
            LedgerError::Stopping => "start the node again with hale node",
            LedgerError::Busy => "try again in a second",
        };
        Self::unavailable(error.to_string(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hale_model::Fence;

    #[test]
    fn without_a_leader_the_same_request_may_work_later_and_the_voters_tell_why() {
        let problem = Problem::from(LedgerError::NoLeader(5000));
        assert_eq!(problem.code, Code::Unavailable);
        assert_eq!(problem.code.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(problem.next.contains("hale voters"), "{}", problem.next);
    }

    #[test]
    fn a_refusal_keeps_its_words() {
        let node = hale_model::Keypair::from_seed(&[1; 32]).node_id();
        for refusal in [Refusal::UnknownNode(node), Refusal::StaleFence(Fence(3))] {
            let problem = Problem::from(refusal.clone());
            assert_eq!(problem.code, Code::Refused);
            assert_eq!(problem.message, refusal.to_string());
            assert!(!problem.next.is_empty());
        }
    }
}
