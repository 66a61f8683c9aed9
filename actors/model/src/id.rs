//! Identifiers, each a type of its own, so that a host can't be passed for a service.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {why}")]
pub struct InvalidId {
    what: &'static str,
    text: String,
    why: &'static str,
}

/// The longest name accepted, in bytes. DNS names end at 253; systemd units at 255.
pub const MAX_NAME_BYTES: usize = 255;

fn check_name(what: &'static str, text: &str) -> Result<(), InvalidId> {
    let why = if text.is_empty() {
        "it is empty"
    } else if text.len() > MAX_NAME_BYTES {
        "it is longer than 255 bytes"
    } else if !text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.:@/".contains(c))
    {
        "only ASCII letters, digits and -_.:@/ are allowed"
    } else {
        return Ok(());
    };
    let text = text.chars().take(80).collect();
    Err(InvalidId { what, text, why })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// If it is empty, longer than [`MAX_NAME_BYTES`], or holds anything but ASCII
            /// letters, digits and `-_.:@/`.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                check_name($what, &text)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A machine's name, as its operators say it: `prod-db-01.internal`.
    HostName,
    "host name"
);
name!(
    /// What a host serves: `postgresql`, `nginx`, `checkout-api`.
    ServiceName,
    "service name"
);
name!(
    /// A playbook's name: `postgres_connection_pool_reset`.
    PlaybookName,
    "playbook name"
);
name!(
    /// An incident: `inc_20260212_112600_a8f3b2c1`.
    IncidentId,
    "incident id"
);
name!(
    /// One run of a playbook: `exe_20260212_112604_5b1e9d20`.
    ExecutionId,
    "execution id"
);
name!(
    /// One question put to a human: `apr_20260212_112604_77c0a1ee`.
    ApprovalId,
    "approval id"
);
name!(
    /// A join token: `tok_5b1e9d20f3`. It names the token and opens nothing.
    TokenId,
    "token id"
);

fn stamped(prefix: &str, at: Timestamp, entropy: u32) -> String {
    format!("{prefix}_{}_{entropy:08x}", at.compact())
}

impl IncidentId {
    /// The id of an incident that opened `at`; `entropy` tells apart those of one second.
    pub fn at(at: Timestamp, entropy: u32) -> Self {
        Self(stamped("inc", at, entropy))
    }
}

impl ExecutionId {
    /// The id of an execution that was planned `at`.
    pub fn at(at: Timestamp, entropy: u32) -> Self {
        Self(stamped("exe", at, entropy))
    }
}

impl ApprovalId {
    /// The id of an approval that was asked for `at`.
    pub fn at(at: Timestamp, entropy: u32) -> Self {
        Self(stamped("apr", at, entropy))
    }
}

impl TokenId {
    /// The id made of these random bytes, `tok_` and ten hexadecimal digits.
    pub fn of(entropy: [u8; 5]) -> Self {
        let digits: String = entropy.iter().map(|b| format!("{b:02x}")).collect();
        Self(format!("tok_{digits}"))
    }
}

/// The number a lease is known by: the Raft log index of its grant, or the next free number where
/// several grants share one log entry. It only ever rises, so a later holder always has the larger
/// fence.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_id_tells_when_it_opened() {
        let at: Timestamp = "2026-02-12T11:26:00Z".parse().unwrap();
        assert_eq!(
            IncidentId::at(at, 0xa8f3_b2c1).as_str(),
            "inc_20260212_112600_a8f3b2c1"
        );
    }

    #[test]
    fn names_with_spaces_or_shell_signs_are_refused() {
        for bad in ["", "a b", "a;rm", "$(x)", "ä", &"x".repeat(256)] {
            assert!(HostName::new(bad).is_err(), "{bad}");
        }
        assert!(ServiceName::new("getty@tty1.service").is_ok());
    }
}
