//! The one page, and the policy under which a browser shows it.

use hale_model::Digest;

/// The page: no asset from anywhere else.
pub(crate) const HTML: &str = include_str!("page.html");

/// The Content-Security-Policy: only the page's own script and style, by their hashes, and only
/// requests to this node. A title that a log line smuggled in can't run.
pub(crate) fn policy() -> String {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash_of("script"),
        hash_of("style")
    )
}

fn hash_of(element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let inner = HTML
        .split_once(open.as_str())
        .and_then(|(_, rest)| rest.split_once(close.as_str()))
        .map_or("", |(inner, _)| inner);
    format!("sha256-{}", base64(Digest::of(inner.as_bytes()).as_bytes()))
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let sign = ALPHABET[(n >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { sign.into() } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_rfc_4648s() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn the_page_asks_nobody_else() {
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!HTML.contains(outside), "{outside}");
        }
        // One script and one style: the policy names the hash of each.
        assert_eq!(HTML.matches("<script").count(), 1);
        assert_eq!(HTML.matches("<style").count(), 1);
        // No style attributes and no handlers in the markup: the policy would refuse them.
        assert!(
            !HTML.contains("style=") && !HTML.contains("onclick=") && !HTML.contains("innerHTML")
        );
    }
}
