//! Who may come in: the bearer token, and which names a loopback listener answers to.

use crate::problem::{Code, Problem};
use axum::http::{HeaderMap, Uri, header};
use hale_model::Digest;
use std::net::IpAddr;

/// Where a request comes in, and what it has to show there.
pub(crate) enum Door {
    /// From a listener.
    Listener {
        /// What opens it.
        token: Token,
        /// Whether the listener is on loopback, and answers to loopback's names alone.
        only_loopback_names: bool,
    },
    /// From another member, which has asked for both already.
    Member,
}

impl Door {
    pub(crate) fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match self {
            Self::Listener { token, .. } => token.check(headers),
            Self::Member => Ok(()),
        }
    }

    pub(crate) fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        match self {
            Self::Listener {
                only_loopback_names: true,
                ..
            } => check_host(headers, uri),
            Self::Listener { .. } | Self::Member => Ok(()),
        }
    }
}

/// The token that opens the API. It holds only the SHA-256 of it.
#[derive(Clone)]
pub struct Token {
    digest: Digest,
    /// Where an operator finds it.
    found_in: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token(found in {})", self.found_in)
    }
}

impl Token {
    /// A token, and the file that holds it and nothing else: a 401 names it.
    pub fn new(token: &str, found_in: impl Into<String>) -> Self {
        Self {
            digest: Digest::of(token.as_bytes()),
            found_in: found_in.into(),
        }
    }

    /// Whether a request carries it as `Authorization: Bearer …`.
    ///
    /// # Errors
    /// If it carries none or another.
    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let refused = |what: &str| {
            let file = &self.found_in;
            Err(Problem::new(
                Code::Unauthorized,
                format!("{what}; the token is in {file}, readable by the node's user"),
                format!(
                    "use the hale command on this host, or \
                     curl -H \"Authorization: Bearer $(cat {file})\" …"
                ),
            ))
        };
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return refused("this needs a bearer token");
        };
        // RFC 9110 section 11.1: the scheme's name is case-insensitive.
        let given = value
            .to_str()
            .ok()
            .and_then(|v| v.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match given {
            None => refused("the Authorization header is not `Bearer TOKEN`"),
            Some((_, token)) if self.is(token.trim()) => Ok(()),
            Some(_) => refused("this is not the token of this node"),
        }
    }

    /// Compares digests, each byte whatever the others are: the time tells nothing of the token.
    fn is(&self, given: &str) -> bool {
        let given = Digest::of(given.as_bytes());
        let pairs = self.digest.as_bytes().iter().zip(given.as_bytes());
        pairs.fold(0, |unlike, (a, b)| unlike | (a ^ b)) == 0
    }
}

/// Refuses requests to a loopback listener that name another host: a page in a browser on this
/// machine can make a name of its own resolve to 127.0.0.1 (DNS rebinding).
fn check_host(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let named = uri
        .authority()
        .map(|a| a.as_str().to_owned())
        .or_else(|| headers.get(header::HOST)?.to_str().ok().map(str::to_owned));
    if named.as_deref().is_some_and(is_loopback_name) {
        return Ok(());
    }
    let named = named.unwrap_or_default();
    let named: String = named.chars().filter(|c| !c.is_control()).take(80).collect();
    Err(Problem::new(
        Code::Misdirected,
        format!("this node listens on loopback and does not answer to `{named}`"),
        "ask for http://localhost or http://127.0.0.1, or set `listen` in the configuration to an \
         address that others may reach",
    ))
}

fn is_loopback_name(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_answered_to() {
        for good in [
            "localhost",
            "LOCALHOST:7700",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]:7700",
            "[::1]",
        ] {
            assert!(is_loopback_name(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "127.0.0.1.evil.example:80",
            "10.0.0.1",
            "localhost.evil:1",
            "[::2]",
        ] {
            assert!(!is_loopback_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_token_is_taken_with_any_case_of_bearer_and_nothing_else() {
        let token = Token::new("s3cret", "/var/lib/hale/api.token");
        let with = |v: &str| {
            let mut h = HeaderMap::new();
            h.insert(header::AUTHORIZATION, v.parse().unwrap());
            token.check(&h)
        };
        assert!(with("Bearer s3cret").is_ok());
        assert!(with("bearer  s3cret ").is_ok());
        for bad in [
            "Bearer s3cre",
            "Bearer s3crets",
            "Basic s3cret",
            "s3cret",
            "Bearer",
        ] {
            let problem = with(bad).unwrap_err();
            assert_eq!(problem.code, Code::Unauthorized);
            assert!(problem.message.contains("/var/lib/hale/api.token"));
        }
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}
