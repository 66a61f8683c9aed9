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

/// Whether bytes are the canonical form of the JSON they hold.
///
/// # Errors
/// If they hold no JSON.
pub fn is_canonical(bytes: &[u8]) -> Result<bool, serde_json::Error> {
    if (Plain { bytes, at: 0 }).recognises() {
        return Ok(true);
    }
    let value: serde_json::Value = serde_json::from_slice(bytes)?;
    Ok(to_bytes(&value).is_ok_and(|again| again == bytes))
}

/// Deeper values are read the long way.
const MAX_PLAIN_DEPTH: usize = 32;

/// Recognises canonical JSON of the kind that records are mostly made of: keys in ASCII, texts
/// without escapes, whole numbers of at most 15 digits (RFC 8785 §3.2.2.3 writes them as they are).
/// Of anything else it says no, canonical or not.
struct Plain<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Plain<'a> {
    fn recognises(mut self) -> bool {
        std::str::from_utf8(self.bytes).is_ok()
            && self.value(0).is_some()
            && self.at == self.bytes.len()
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, text: &[u8]) -> Option<()> {
        let is_there = self.bytes.get(self.at..)?.starts_with(text);
        self.at += text.len();
        is_there.then_some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > MAX_PLAIN_DEPTH {
            return None;
        }
        match self.peek()? {
            b'{' => {
                let mut before: Option<&[u8]> = None;
                self.items(b'}', |json| {
                    let key = json.text()?;
                    // Of ASCII, the order of bytes is that of UTF-16 code units (§3.2.3).
                    if !key.is_ascii() || before.is_some_and(|before| before >= key) {
                        return None;
                    }
                    before = Some(key);
                    json.eat(b":")?;
                    json.value(depth + 1)
                })
            }
            b'[' => self.items(b']', |json| json.value(depth + 1)),
            b'"' => self.text().map(drop),
            b't' => self.eat(b"true"),
            b'f' => self.eat(b"false"),
            b'n' => self.eat(b"null"),
            _ => self.number(),
        }
    }

    fn items(&mut self, end: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        if self.peek()? == end {
            self.at += 1;
            return Some(());
        }
        loop {
            item(self)?;
            let next = self.peek()?;
            self.at += 1;
            match next {
                b',' => {}
                next if next == end => return Some(()),
                _ => return None,
            }
        }
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        self.eat(b"\"")?;
        let rest = self.bytes.get(self.at..)?;
        let len = rest
            .iter()
            .position(|b| *b < 0x20 || *b == b'"' || *b == b'\\')?;
        self.at += len;
        self.eat(b"\"")?;
        rest.get(..len)
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.peek() == Some(b'0') {
                return None;
            }
        }
        let rest = self.bytes.get(self.at..)?;
        let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let is_short = (1..=15).contains(&len) && (len == 1 || rest[0] != b'0');
        self.at += len;
        (is_short && !matches!(self.peek(), Some(b'.' | b'e' | b'E'))).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn the_long_way(bytes: &[u8]) -> bool {
        serde_json::from_slice::<serde_json::Value>(bytes)
            .is_ok_and(|value| to_bytes(&value).unwrap() == bytes)
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1000i64..1000).prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            "[a-z ]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::btree_map("[a-zA-Zé]{0,3}", inner, 0..5)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_plain_is_canonical(
            value in json(),
            spoilt in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            pretty: bool,
        ) {
            let mut bytes = to_bytes(&value).unwrap();
            if pretty {
                bytes = serde_json::to_vec_pretty(&value).unwrap();
            }
            if let Some((at, byte)) = spoilt && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let plain = Plain { bytes: &bytes, at: 0 }.recognises();
            prop_assert!(!plain || the_long_way(&bytes));
            prop_assert_eq!(is_canonical(&bytes).unwrap_or(false), the_long_way(&bytes));
        }

        #[test]
        fn text_of_json_signs_is_judged_as_the_long_way_does(text in r#"[{}\[\]",:a0-9.eE+\- tfn\\]{0,24}"#) {
            prop_assert_eq!(is_canonical(text.as_bytes()).unwrap_or(false), the_long_way(text.as_bytes()));
        }
    }

    #[test]
    fn records_are_plain() {
        for (text, plain) in [
            (r#"{"a":[1,-20,true,null],"b":{"c":"é"}}"#, true),
            ("[]", true),
            ("{}", true),
            (r#"{"b":1,"a":2}"#, false),
            (r#"{"a":1,"a":2}"#, false),
            (r#"{"a":01}"#, false),
            (r#"{"a":-0}"#, false),
            (r#"{"a":1.5}"#, false),
            (r#"{"a":1e3}"#, false),
            (r#"{"a": 1}"#, false),
            (r#"["a",]"#, false),
            (r#"{"é":1}"#, false),
            ("[1]]", false),
            ("12345678901234567", false),
            ("", false),
        ] {
            let bytes = text.as_bytes();
            assert_eq!(Plain { bytes, at: 0 }.recognises(), plain, "{text}");
        }
        let deep = "[".repeat(MAX_PLAIN_DEPTH + 2) + &"]".repeat(MAX_PLAIN_DEPTH + 2);
        assert!(is_canonical(deep.as_bytes()).unwrap());
    }

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
