//! The one home of regex: secrets in log lines are masked before a line goes anywhere.

use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// What stands where a secret stood.
pub const MASK: &str = "***";

/// What a secret looks like, and what is left of it. `$1` is what tells that a secret follows.
/// Letters ignore case as ASCII only (`(?i-u:…)`), so that no Unicode tables are needed.
const PATTERNS: [(&str, &str); 7] = [
    // scheme://user:password@host
    (
        r"((?i-u:[a-z][a-z0-9+.-]*)://[^\s:/@]*:)[^\s@]+@",
        "${1}***@",
    ),
    // Authorization: Bearer …, Basic …
    (
        r"\b((?i-u:bearer|basic)\s+)[A-Za-z0-9+/_.=~-]{6,}",
        "${1}***",
    ),
    // password=…, "api_key": "…", token: …; a quoted value to its end, a bare one to a space
    (
        r#"((?i-u:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)["']?\s*[=:]\s*)("[^"]*"?|'[^']*'?|[^\s,;&"']+)"#,
        "${1}***",
    ),
    // CREATE ROLE x PASSWORD '…'
    (r"(\b(?i-u:password)\s+)'[^']*'?", "${1}'***'"),
    // JSON web tokens
    (
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?",
        "***",
    ),
    // AWS access keys
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", "***"),
    // GitHub, Slack and similar prefixed tokens
    (
        r"\b(?:gh[pousr]_|xox[abprs]-|sk-|glpat-)[A-Za-z0-9_-]{10,}",
        "***",
    ),
];

// A pattern that does not compile is left out rather than taking the node down; the test below
// says that each does.
static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    PATTERNS
        .iter()
        .filter_map(|(pattern, to)| Some((Regex::new(pattern).ok()?, *to)))
        .collect()
});

/// The text with every secret in it replaced by [`MASK`].
pub fn mask(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    for (pattern, to) in COMPILED.iter() {
        if pattern.is_match(&out) {
            out = Cow::Owned(pattern.replace_all(&out, *to).into_owned());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(COMPILED.len(), PATTERNS.len());
    }

    #[test]
    fn secrets_of_many_shapes_are_masked() {
        for (line, want) in [
            (
                "connect postgres://app:s3cr3t@db/x failed",
                "connect postgres://app:***@db/x failed",
            ),
            ("login password=hunter2 ok", "login password=*** ok"),
            (
                r#"{"api_key": "abc def", "n": 1}"#,
                r#"{"api_key": ***, "n": 1}"#,
            ),
            (
                "Authorization: Bearer abcdef123456",
                "Authorization: Bearer ***",
            ),
            (
                "statement: ALTER ROLE x PASSWORD 'top secret'",
                "statement: ALTER ROLE x PASSWORD '***'",
            ),
            ("key AKIAIOSFODNN7EXAMPLE used", "key *** used"),
            ("?token=abc&user=joe", "?token=***&user=joe"),
            (
                "password authentication failed for user \"joe\"",
                "password authentication failed for user \"joe\"",
            ),
        ] {
            assert_eq!(mask(line), want);
        }
    }

    proptest! {
        #[test]
        fn a_password_never_survives(
            user in "[a-z]{1,8}",
            secret in "[A-Za-z0-9!#$%^*_+-]{6,20}",
            before in "[ a-z]{0,20}",
        ) {
            let url = format!("{before} amqps://{user}:Q9{secret}@h:5671/v");
            let pair = format!("{before} db_password: Q9{secret} end");
            let needle = format!("Q9{secret}");
            prop_assert!(!mask(&url).contains(&needle));
            prop_assert!(!mask(&pair).contains(&needle));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = mask(&text);
        }
    }
}
