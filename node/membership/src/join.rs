//! How a stranger becomes a member: a one-time token, and the proofs over one TLS connection that
//! both ends know it. Values and checks only; the bytes travel elsewhere.
//!
//! The ledger holds a token's verifier, the hash of its secret. Each end shows an HMAC under the
//! verifier of what it says and of the connection's exported keys (RFC 8446 section 7.5): a false
//! seed can't make one, and what an eavesdropper hears proves nothing on another connection.

use hale_model::{Digest, HostName, NodeId, wire};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// The label under which the connection's keys are exported for the proofs.
pub const EXPORT_LABEL: &[u8] = b"EXPORTER-hale-join-v1";
/// Clocks further apart than this are refused: records would tell wrong times.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);
/// The version of what is said here.
const VERSION: u16 = 1;
const SECRET_BYTES: usize = 32;

/// A token as it is handed to an operator: `ID.SECRET`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Which token; no secret.
    pub id: String,
    secret: [u8; SECRET_BYTES],
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a join token: it looks like tok_… with a dot and 64 hexadecimal digits; \
     `hale token create` on a member prints one"
)]
pub struct NotAToken;

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}.…)", self.id)
    }
}

impl JoinToken {
    /// A token of this id and secret, which must come from the system's randomness.
    pub fn new(id: impl Into<String>, secret: [u8; SECRET_BYTES]) -> Self {
        let id = id.into();
        Self { id, secret }
    }

    /// The text for the operator. It is shown once and kept nowhere.
    pub fn reveal(&self) -> String {
        let hex: String = self.secret.iter().map(|b| format!("{b:02x}")).collect();
        format!("{}.{hex}", self.id)
    }

    /// What the ledger keeps: enough to check a proof, not to show the token.
    pub fn verifier(&self) -> Digest {
        Digest::of_parts(&[b"hale-token-v1\0", &self.secret])
    }
}

impl FromStr for JoinToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (id, hex) = text.trim().split_once('.').ok_or(NotAToken)?;
        let known = id.strip_prefix("tok_").ok_or(NotAToken)?;
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if known.is_empty() || known.len() > 32 || !known.chars().all(is_plain) {
            return Err(NotAToken);
        }
        // A digest's text is 32 bytes of lower-case hexadecimal: the same strictness serves here.
        let secret: Digest = format!("sha256:{hex}").parse().map_err(|_| NotAToken)?;
        Ok(Self::new(id, *secret.as_bytes()))
    }
}

/// What a stranger says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    version: u16,
    /// By which token it wants in.
    pub token: String,
    /// Its host's name.
    pub host: HostName,
    /// The version of its binary.
    pub release: String,
    /// Its wall clock, in milliseconds since the epoch.
    pub clock_ms: i64,
}

/// What a member gives a stranger that it let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The cluster's number.
    pub cluster: u64,
    /// The member's wall clock, in milliseconds since the epoch.
    pub clock_ms: i64,
    /// From where the stranger was seen to come.
    pub seen_at: IpAddr,
    /// Where other members are.
    pub contacts: Vec<(NodeId, SocketAddr)>,
    /// The ledger's state, as the consensus reads it.
    pub copy: Vec<u8>,
}

/// Why a member lets a stranger not in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// What was said is of another version.
    #[error(
        "the member speaks version {theirs} of the joining protocol, this binary {ours}; use the same release"
    )]
    Version {
        /// The member's.
        theirs: u16,
        /// The stranger's.
        ours: u16,
    },
    /// There is no such token.
    #[error(
        "token {0} is not known there; `hale token ls` on a member lists them, `hale token create` makes one"
    )]
    UnknownToken(String),
    /// The secret is not the token's.
    #[error(
        "the secret is not that of token {0}; copy the whole text that `hale token create` printed"
    )]
    WrongSecret(String),
    /// It ran out or was revoked.
    #[error("token {0} has expired or was revoked; make a new one with `hale token create`")]
    Expired(String),
    /// It let in as many as it was made for.
    #[error("token {0} is used up; make a new one with `hale token create --uses N`")]
    UsedUp(String),
    /// The clocks are too far apart.
    #[error(
        "this host's clock is {seconds} s {direction} the member's; set it (chronyc makestep, timedatectl) and join again"
    )]
    Clock {
        /// By how much.
        seconds: u64,
        /// `ahead of` or `behind`.
        direction: String,
    },
    /// The ledger refused.
    #[error("{0}")]
    Refused(String),
    /// It can't be done now.
    #[error("the member can't let anyone in now: {0}; try again, or another seed")]
    Unavailable(String),
}

impl Hello {
    /// What a stranger says.
    pub fn new(token: &JoinToken, host: HostName, release: &str, clock_ms: i64) -> Self {
        Self {
            version: VERSION,
            token: token.id.clone(),
            host,
            release: release.to_owned(),
            clock_ms,
        }
    }

    /// What a member checks before it looks at the token.
    ///
    /// # Errors
    /// If the version is another, or the clocks are too far apart.
    pub fn check(&self, clock_ms: i64) -> Result<(), Rejection> {
        if self.version != VERSION {
            let (theirs, ours) = (VERSION, self.version);
            return Err(Rejection::Version { theirs, ours });
        }
        check_clocks(self.clock_ms, clock_ms)
    }
}

/// Whether two clocks are close enough; told from the side of the first.
///
/// # Errors
/// If they are more than [`MAX_CLOCK_SKEW`] apart.
pub fn check_clocks(own_ms: i64, theirs_ms: i64) -> Result<(), Rejection> {
    let apart = own_ms.abs_diff(theirs_ms);
    if u128::from(apart) <= MAX_CLOCK_SKEW.as_millis() {
        return Ok(());
    }
    let direction = if own_ms > theirs_ms {
        "ahead of"
    } else {
        "behind"
    };
    Err(Rejection::Clock {
        seconds: apart / 1000,
        direction: direction.into(),
    })
}

/// Which end shows a proof: one can't be shown back as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who wants in.
    Stranger,
    /// Who lets in.
    Member,
}

/// The proof that an end knows the token, over what it says and the connection it says it on.
pub fn proof(verifier: &Digest, end: End, exported: &[u8; 32], said: &[u8]) -> Digest {
    let label: &[u8] = match end {
        End::Stranger => b"hale-join-stranger-v1\0",
        End::Member => b"hale-join-member-v1\0",
    };
    Digest::keyed(verifier.as_bytes(), &[label, exported, said])
}

/// What is said with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// The encoded [`Hello`] or [`Welcome`].
    pub said: Vec<u8>,
    proof: Digest,
}

impl Proven {
    /// Encodes and proves.
    ///
    /// # Errors
    /// If it is too large to be encoded.
    pub fn new<T: Serialize>(
        what: &T,
        verifier: &Digest,
        end: End,
        exported: &[u8; 32],
    ) -> Result<Self, wire::WireError> {
        let said = wire::encode(what)?;
        let proof = proof(verifier, end, exported, &said);
        Ok(Self { said, proof })
    }

    /// Whether the other end knows the token.
    pub fn holds(&self, verifier: &Digest, end: End, exported: &[u8; 32]) -> bool {
        proof(verifier, end, exported, &self.said).same_as(&self.proof)
    }
}

/// What a member answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Come in: a [`Welcome`].
    Welcome(Proven),
    /// Stay out.
    Rejected(Rejection),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::new("tok_abc123", [7; 32])
    }

    #[test]
    fn a_token_is_read_as_it_was_shown_and_nothing_else_is() {
        let text = token().reveal();
        assert_eq!(text.parse::<JoinToken>().unwrap(), token());
        assert_eq!(format!("{:?}", token()), "JoinToken(tok_abc123.…)");
        let short = &text[..text.len() - 1];
        for bad in [
            "",
            "tok_abc123",
            short,
            "abc.00",
            &text.to_uppercase(),
            "tok_.00",
        ] {
            assert!(bad.parse::<JoinToken>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proof_holds_for_its_token_its_end_its_connection_and_its_words_alone() {
        let (v, x) = (token().verifier(), [1; 32]);
        let hello = Hello::new(&token(), HostName::new("a").unwrap(), "1", 0);
        let said = Proven::new(&hello, &v, End::Stranger, &x).unwrap();
        assert!(said.holds(&v, End::Stranger, &x));
        assert!(!said.holds(&v, End::Member, &x));
        assert!(!said.holds(&v, End::Stranger, &[2; 32]));
        let other = JoinToken::new("tok_abc123", [8; 32]).verifier();
        assert!(!said.holds(&other, End::Stranger, &x));
        let mut changed = said.clone();
        changed.said[3] ^= 1;
        assert!(!changed.holds(&v, End::Stranger, &x));
    }

    #[test]
    fn clocks_far_apart_are_told_which_way() {
        assert!(check_clocks(0, 60_000).is_ok());
        let ahead = check_clocks(3_600_000, 0).unwrap_err().to_string();
        assert!(ahead.contains("3600 s ahead of"), "{ahead}");
        let behind = check_clocks(0, 61_000).unwrap_err().to_string();
        assert!(behind.contains("61 s behind"), "{behind}");
    }
}
